"""Text to image: noise the picture's latents, tell the network the caption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..core.draws import Draws
from ..core.errors import RecipeError
from ..core.outcome import Ask
from ..core.path import expand
from ..core.registry import task
from ..core.shapes import Latents, NullTokens, PerSample, Tokens
from ..models.codec import Codec, Moments
from ..models.denoiser import Conditioning
from .base import Batch, Episode, Needs

__all__ = ["Image", "drop_text", "posterior_sample"]


def posterior_sample(moments: Moments, codec: Codec, draws: Draws, name: str) -> Latents:
    """A fresh sample of the autoencoder's posterior, scaled: its noise is addressed, so the cached moments lose nothing."""
    noise = draws.normal(f"posterior {name}", moments.mean.shape[1:]).to(moments.mean.device)
    return codec.latents(moments, noise)


def drop_text(tokens: Tokens, null: NullTokens, dropped: PerSample) -> Tokens:
    """The empty prompt's states where `dropped` is 1."""
    return torch.where(expand(dropped, tokens).bool(), null.expand_as(tokens), tokens)


@task("image")
@dataclass(frozen=True)
class Image:
    """Views: "matched" (the caption, dropped with probability `conditioning_dropout_prob`) and "null". Anchor: "target".

    negatives: how many wrong captions a row has, texts "negative.1", ...; views "negative", "negative.2", ... Of the view
    "negative" a share `negative_image` looks at the wrong picture (image "negative") under the right caption instead, and a share
    `negative_random` has another row's caption (text "random"). Where the caption is dropped there is no negative.
    """

    conditioning_dropout_prob: float = 0.1
    negatives: int = 0
    negative_image: float = 0.0
    negative_random: float = 0.0
    images = 0
    features = 0
    makes = "pictures"

    def __post_init__(self) -> None:
        for name in ("conditioning_dropout_prob", "negative_image", "negative_random"):
            if not 0 <= getattr(self, name) <= 1:
                raise RecipeError(f"task: {name} is {getattr(self, name)}, expected 0 to 1")
        if self.negative_image + self.negative_random > 1:
            raise RecipeError("task: negative_image and negative_random are shares of the negatives; together they exceed 1")
        if self.negatives < 0 or (self.negative_image + self.negative_random > 0 and not self.negatives):
            raise RecipeError(f"task: negatives is {self.negatives}, expected 1 or more, the captions that are wrong")

    @property
    def needs(self) -> Needs:
        words = [f"negative.{i + 1}" for i in range(self.negatives)] + ["random"] * (self.negative_random > 0)
        return Needs(images=("target", *(["negative"] * (self.negative_image > 0))), texts=("target", *words))

    @property
    def views(self) -> tuple[str, ...]:
        return "matched", "null", *(_view(i) for i in range(self.negatives))

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode:
        assert batch.null is not None
        target = posterior_sample(batch.moments["target"], codec, draws, "target")
        dropped = (draws.uniform("dropout") < self.conditioning_dropout_prob).float().to(target.device)
        tokens = batch.tokens["target"]
        wrong = [batch.tokens[f"negative.{i + 1}"] for i in range(self.negatives)]
        targets: dict[str, Latents] = {}
        if self.negatives:
            kind = draws.uniform("negative").to(target.device)
            picture, other = kind < self.negative_image, kind >= 1 - self.negative_random
            if self.negative_random:
                wrong[0] = torch.where(expand(other, tokens), batch.tokens["random"], wrong[0])
            if self.negative_image:
                wrong[0] = torch.where(expand(picture, tokens), tokens, wrong[0])
                false = posterior_sample(batch.moments["negative"], codec, draws, "target")
                targets["negative"] = torch.where(expand(picture, target), false, target)
        views = {
            "matched": Conditioning(drop_text(tokens, batch.null, dropped)),
            "null": Conditioning(batch.null.expand_as(tokens)),
        }
        views |= {_view(i): Conditioning(words) for i, words in enumerate(wrong)}
        kept = {_view(i): dropped == 0 for i in range(self.negatives)}
        return Episode(target, {"target": target}, views, batch.groups, batch.masks, targets, kept)


def _view(index: int) -> str:
    return "negative" if index == 0 else f"negative.{index + 1}"
