"""Instructed editing (InstructPix2Pix, Brooks et al. 2023): source picture and instruction in, edited picture out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.draws import Draws
from ..core.errors import RecipeError
from ..core.outcome import Ask
from ..core.path import expand
from ..core.registry import task
from ..models.codec import Codec
from ..models.denoiser import Conditioning
from .base import Batch, Episode, Needs
from .image import drop_text, posterior_sample

__all__ = ["Edit"]


@task("edit")
@dataclass(frozen=True)
class Edit:
    """The source's unscaled latent mode is concatenated to the noisy target. Anchors: "source" and "target", both scaled.

    One uniform draw p a sample decides all dropout, as in the stock script, with c = `conditioning_dropout_prob`: the text is
    dropped for p < 2c, the image for c <= p < 3c, so each alone and both together with probability c.
    Views: "matched" and "null" (no text, same image).
    """

    conditioning_dropout_prob: float = 0.05
    needs = Needs(images=("source", "target"), texts=("instruction",), optional_masks=("changed",))
    images = 1
    features = 0
    views = ("matched", "null")
    makes = "pictures"

    def __post_init__(self) -> None:
        if not 0 <= self.conditioning_dropout_prob <= 1 / 3:
            raise RecipeError(f"task: conditioning_dropout_prob is {self.conditioning_dropout_prob}, expected 0 to 1/3")

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode:
        assert batch.null is not None
        c = self.conditioning_dropout_prob
        target = posterior_sample(batch.moments["target"], codec, draws, "target")
        p = draws.uniform("dropout").to(target.device)
        image = codec.source(batch.moments["source"])
        image = image * expand(1 - ((p >= c) & (p < 3 * c)).float(), image)
        tokens = batch.tokens["instruction"]
        null = batch.null.expand_as(tokens)
        matched = drop_text(tokens, batch.null, (p < 2 * c).float())
        views = {"matched": Conditioning(matched, image), "null": Conditioning(null, image)}
        anchors = {"source": codec.latents(batch.moments["source"], None), "target": target}
        return Episode(target, anchors, views, batch.groups, batch.masks)
