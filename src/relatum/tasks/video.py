"""Text to video: noise a clip's latents as a whole, tell the network the caption (AnimateDiff, Guo et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.draws import Draws
from ..core.errors import RecipeError
from ..core.outcome import Ask
from ..core.path import expand
from ..core.registry import task
from ..core.shapes import Stacked, VideoLatents
from ..models.codec import Codec
from ..models.denoiser import Conditioning
from .base import Batch, Episode, Needs
from .image import drop_text, posterior_sample

__all__ = ["Video"]


@task("video")
@dataclass(frozen=True)
class Video:
    """The clips "target" (b c t h w) with the captions "target", dropped with probability `conditioning_dropout_prob`.

    levels: "shared", one noise level a clip; "per_frame", one of its own for each frame (Chen et al. 2024, Diffusion Forcing).
    given: "none", text to video; "first", image to video: the first frame's latents (unscaled mode, as InstructPix2Pix has it)
    stand beside every noisy frame, 2c input channels; they are dropped in the same draws as in `Edit`.
    Views: "matched" and "null" (no text). Anchor: "target".
    """

    conditioning_dropout_prob: float = 0.1
    levels: Literal["shared", "per_frame"] = "shared"
    given: Literal["none", "first"] = "none"
    features = 0
    views = ("matched", "null")
    makes = "clips"

    def __post_init__(self) -> None:
        most = 1 if self.given == "none" else 1 / 3
        if not 0 <= self.conditioning_dropout_prob <= most:
            raise RecipeError(f"task: conditioning_dropout_prob is {self.conditioning_dropout_prob}, expected 0 to {most:.3g}")

    @property
    def needs(self) -> Needs:
        return Needs(texts=("target",), clips=("target",))

    @property
    def images(self) -> int:
        return int(self.given == "first")

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode:
        assert batch.null is not None
        c = self.conditioning_dropout_prob
        target = posterior_sample(batch.moments["target"], codec, draws, "target")
        p = draws.uniform("dropout").to(target.device)
        image, untold = None, p < c
        if self.given == "first":
            image, untold = self.beside(batch.moments["target"].mean), p < 2 * c
            image = image * expand(1 - ((p >= c) & (p < 3 * c)).float(), image)
        tokens = batch.tokens["target"]
        views = {
            "matched": Conditioning(drop_text(tokens, batch.null, untold.float()), image),
            "null": Conditioning(batch.null.expand_as(tokens), image),
        }
        frames = target.shape[2] if self.levels == "per_frame" else 0
        return Episode(target, {"target": target}, views, batch.groups, joined=batch.joined.get("target"), frames=frames)

    def beside(self, mean: VideoLatents) -> Stacked:
        """What stands beside the noisy frames: the first frame's mode at every time, (b c t h w)."""
        return mean[:, :, :1].expand_as(mean)
