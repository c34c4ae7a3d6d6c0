"""A picture becomes a clip: noise the clip's latents, show the network its first frame (Blattmann et al. 2023, image to video)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from ..core.draws import Draws
from ..core.errors import DataError, RecipeError
from ..core.outcome import Ask
from ..core.path import expand
from ..core.registry import task
from ..core.shapes import Joined, Latents, PerSample, VideoLatents
from ..models.codec import Codec
from ..models.denoiser import Conditioning
from .base import Batch, Episode, Needs
from .image import posterior_sample

__all__ = ["MOST_MOTION", "Animation", "motion_bucket"]

MOST_MOTION = 255.0


@task("animation")
@dataclass(frozen=True)
class Animation:
    """The clips "target" (b c t h w), made of their first frame: its embedding by the model's image tower as the only token, and
    its latents (mode, unscaled) beside every noisy frame. No text. One noise level a clip.

    The first frame is noised by s = exp(N(noise_mean, noise_std)), which the network is told. augmentation: "pixels", before it is
    encoded, as in sampling and in the stock pipeline: one frame a clip goes through the encoder in each step, 3 % of a tiny step.
    "latents": the cached latents get noise of s times `spread` (1.8 for the bundled autoencoder), and nothing is encoded; that
    noise is white and as strong everywhere, which an encoder's answer to noisy pixels is not. "none": no noise, told 0.
    The network is also told frames a second less one, from the row's fact "spacing" (seconds), and a motion bucket: "measured", see
    `motion_bucket`, or `motion_bucket_id` for all, as fine-tuning of published weights does, whose scale is not known.
    `conditioning_dropout_prob`: the embedding is zeroed for a share of twice that, the latents too, both for once that; what is
    told stays. Views: "matched" and "null" (both zero). Anchor: "target".
    """

    conditioning_dropout_prob: float = 0.1
    augmentation: Literal["pixels", "latents", "none"] = "pixels"
    noise_mean: float = -3.0
    noise_std: float = 0.5
    spread: float = 1.0
    motion: Literal["measured", "given"] = "measured"
    motion_bucket_id: float = 127.0
    images = 1
    features = 3
    views = ("matched", "null")
    makes = "clips"

    def __post_init__(self) -> None:
        if not 0 <= self.conditioning_dropout_prob <= 1 / 3:
            raise RecipeError(f"task: conditioning_dropout_prob is {self.conditioning_dropout_prob}, expected 0 to 0.333")
        if not -20 <= self.noise_mean <= 5 or not 0 <= self.noise_std <= 5:
            raise RecipeError(
                f"task: noise_mean {self.noise_mean} and noise_std {self.noise_std}: of the logarithm of the noise on pixels in "
                "[-1, 1], expected -20 to 5 and 0 to 5"
            )
        if not 0 <= self.motion_bucket_id <= MOST_MOTION:
            raise RecipeError(f"task: motion_bucket_id is {self.motion_bucket_id}, expected 0 to {MOST_MOTION:g}")
        if not 0 <= self.spread <= 1e3:
            raise RecipeError(f"task: spread is {self.spread}, expected 0 to 1000, noise on unscaled latents a noise on pixels")

    @property
    def needs(self) -> Needs:
        return Needs(clips=("target",), looks=("target",), numbers=("spacing",))

    @property
    def usual_noise(self) -> float:
        """The noise on the first frame that is seen most, for sampling: the median."""
        return 0.0 if self.augmentation == "none" else math.exp(self.noise_mean)

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode:
        target = posterior_sample(batch.moments["target"], codec, draws, "target")
        first, strength = self.beside(batch, codec, draws)
        p, c = draws.uniform("dropout").to(target.device), self.conditioning_dropout_prob
        look, joined = batch.looks["target"], batch.joined["target"]
        image = first[:, :, None].expand_as(target) * expand(1 - ((p >= c) & (p < 3 * c)).float(), target)
        told = torch.stack([*self.pace(batch, codec), strength], 1)
        views = {
            "matched": Conditioning(look * expand((p >= 2 * c).float(), look), image, told),
            "null": Conditioning(torch.zeros_like(look), torch.zeros_like(image), told),
        }
        return Episode(target, {"target": target}, views, batch.groups, joined=joined)

    def beside(self, batch: Batch, codec: Codec, draws: Draws) -> tuple[Latents, PerSample]:
        """(b c h w) unscaled latents of the first frame with its noise, and (b,) the noise's strength."""
        mean = batch.moments["target"].mean[:, :, 0]
        if self.augmentation == "none":
            return mean, mean.new_zeros(len(mean))
        strength = (self.noise_mean + self.noise_std * draws.normal("augmentation strength", ())).exp().to(mean.device)
        start = batch.pixels["target"] if self.augmentation == "pixels" else mean
        noise = draws.normal("augmentation", start.shape[1:]).to(mean.device) * expand(strength, start)
        return (codec.encode(start + noise).mean if self.augmentation == "pixels" else start + self.spread * noise), strength

    def pace(self, batch: Batch, codec: Codec) -> tuple[PerSample, PerSample]:
        """(b,) frames a second less one and (b,) motion buckets, as the network is told."""
        spacing = batch.numbers["spacing"]
        for i in (spacing <= 0).nonzero()[:1, 0].tolist():
            raise DataError(f"{batch.where[i]}: spacing is {spacing[i]:g}, expected seconds above 0 from a frame to the next")
        rate = 1 / spacing - 1
        if self.motion == "given":
            return rate, torch.full_like(rate, self.motion_bucket_id)
        return rate, motion_bucket(codec.latents(batch.moments["target"], None), batch.joined["target"])


def motion_bucket(latents: VideoLatents, joined: Joined) -> PerSample:
    """0 (a still clip) to 255 (neighboring frames as unlike as unrelated ones): 255 times the root mean square difference between
    neighboring frames, as a share of that of two frames of unit variance, sqrt(2). Frames that do not belong together are left out.

    >>> motion_bucket(torch.tensor([0.0, 0.6, 0.6]).reshape(1, 1, 3, 1, 1), torch.tensor([[True, True]]))
    tensor([76.5000])
    """
    square = latents.float().diff(dim=2).square().mean((1, 3, 4))
    mean = (square * joined).sum(1) / joined.sum(1).clamp_min(1)
    return MOST_MOTION * (mean / 2).sqrt().clamp_max(1)
