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
    """Views: "matched" (the caption, dropped with probability `conditioning_dropout_prob`) and "null". Anchor: "target"."""

    conditioning_dropout_prob: float = 0.1
    needs = Needs(images=("target",), texts=("target",))
    images = 0
    features = 0
    makes = "pictures"

    def __post_init__(self) -> None:
        if not 0 <= self.conditioning_dropout_prob <= 1:
            raise RecipeError(f"task: conditioning_dropout_prob is {self.conditioning_dropout_prob}, expected 0 to 1")

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode:
        assert batch.null is not None
        target = posterior_sample(batch.moments["target"], codec, draws, "target")
        dropped = (draws.uniform("dropout") < self.conditioning_dropout_prob).float().to(target.device)
        tokens = batch.tokens["target"]
        null = batch.null.expand_as(tokens)
        views = {"matched": Conditioning(drop_text(tokens, batch.null, dropped)), "null": Conditioning(null)}
        return Episode(target, {"target": target}, views, batch.groups, batch.masks)
