"""[model] sections that start from nothing: how the bundled base was made, and how to make another."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ...core.errors import RecipeError
from ...core.path import DiscretePath
from ...core.prediction import Parametrization
from ...core.registry import family
from ...data.toy.grammar import ground_words
from ...data.toy.scene import COLORS, SHAPES, grounds_of
from ...pretrained.loading import quiet
from ...pretrained.tinyconv import TinyConv
from ..codec import Codec
from ..folder import PipelineFolder
from ..schedulers import training_scheduler
from ..text import TextEncoder
from ..trainable import Trainable, Trained, make_trainable
from .autoencoder import AutoencoderSize, build_autoencoder
from .clip import ClipSize, build_clip
from .stable_diffusion import StableDiffusion
from .tokenizer import build_tokenizer
from .unet import UNetSize, build_schedule, build_unet

__all__ = ["NewAutoencoder", "NewClip", "NewStableDiffusion", "NewTinyConv", "common_words"]


def common_words() -> list[str]:
    """Words that users' instructions hold and the toy world's do not: the tokenizer learns them too."""
    return (Path(__file__).parents[2] / "base" / "words.txt").read_text(encoding="utf-8").splitlines()


@family("new_autoencoder")
@dataclass(frozen=True)
class NewAutoencoder:
    """size: of the network. The rest are the weights of the loss; see `relatum.engine.pretrain.AutoencoderParts`."""

    size: AutoencoderSize = field(default_factory=AutoencoderSize)
    mse: float = 1.0
    l1: float = 0.5
    edge: float = 0.5
    kl: float = 2e-6
    variety: float = 0.25

    def build(self) -> Any:
        """diffusers' AutoencoderKL, weights from torch's global generator."""
        return build_autoencoder(self.size)


@family("new_clip")
@dataclass(frozen=True)
class NewClip:
    """size: of the towers. vocabulary: most tokens of the tokenizer; length: of a tokenized text.

    columns, words, spoken: see `relatum.engine.pretrain.ClipParts`.
    """

    size: ClipSize = field(default_factory=ClipSize)
    vocabulary: int = 1280
    length: int = 32
    columns: tuple[str, ...] = ("target",)
    words: float = 0.0
    spoken: tuple[str, ...] = ()

    def build(self, texts: Iterable[str]) -> tuple[Any, Any]:
        """(transformers' CLIPModel, CLIPTokenizer); the words of `texts` come first in the vocabulary, then the common ones."""
        tokenizer = build_tokenizer([texts, common_words()], self.vocabulary, self.length)
        return build_clip(self.size, tokenizer), tokenizer


@family("new_tinyconv")
@dataclass(frozen=True)
class NewTinyConv:
    """The convolutional network of the toy world's metrics. width: channels of its first layer; features: numbers an image."""

    width: int = 32
    features: int = 64

    def build(self) -> tuple[TinyConv, dict[str, list[str]]]:
        """(network, the phrases that each of its heads tells): shapes, shapes with their colors, grounds."""
        grounds = [ground_words(ground) for ground in grounds_of("both")]
        pairs = [f"{color} {shape}" for shape in SHAPES for color in COLORS]
        phrases = {"shapes": list(SHAPES), "pairs": pairs, "ground": grounds}
        heads = {head: len(told) for head, told in phrases.items()}
        return TinyConv(heads, self.width, self.features), phrases


@family("new_stable_diffusion")
@dataclass(frozen=True)
class NewStableDiffusion:
    """A text-to-image model with a fresh UNet. autoencoder, clip: folders in diffusers' and transformers' formats.

    The text encoder is the CLIP's text tower with the tokenizer beside it.
    """

    autoencoder: str
    clip: str
    size: UNetSize = field(default_factory=UNetSize)
    prediction_type: Literal["epsilon", "v_prediction"] = "v_prediction"

    def open(self, images: int, features: int, seed: int) -> tuple[StableDiffusion, Trained]:
        """The model and its trainable part: the whole UNet, weights from torch's global generator."""
        from diffusers import AutoencoderKL
        from transformers import CLIPTextModel, CLIPTokenizer

        if images or features:
            raise RecipeError(
                "model: new_stable_diffusion makes a text-to-image model; for another task open the trained one, which widens it"
            )
        with quiet():
            vae: Any = AutoencoderKL.from_pretrained(self.autoencoder, torch_dtype=torch.float32)
            encoder: Any = CLIPTextModel.from_pretrained(self.clip, dtype=torch.float32)
            tokenizer = CLIPTokenizer.from_pretrained(self.clip)
        unet, scheduler = build_unet(self.size), build_schedule(self.prediction_type)
        training = training_scheduler(scheduler.config, {})
        model = StableDiffusion(
            unet,
            Codec(vae),
            TextEncoder(tokenizer, encoder),
            scheduler,
            Parametrization.of_scheduler(self.prediction_type),
            DiscretePath.from_scheduler(training),
            0,
            PipelineFolder(Path(self.autoencoder), {}),
        )
        return model, make_trainable(unet, Trainable(), seed=seed)
