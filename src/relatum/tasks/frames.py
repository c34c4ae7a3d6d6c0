"""Image to video, one frame at a time: the last k frames and the caption in, the next frame out.

InstructPix2Pix's recipe on pairs of frames, as the source has it; noise on what is given after cascaded diffusion (Ho et al.
2022), a level of its own for each frame after Diffusion Forcing (Chen et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.draws import Draws
from ..core.errors import RecipeError
from ..core.outcome import Ask
from ..core.path import expand
from ..core.registry import task
from ..core.shapes import PerSample, Stacked, Told
from ..models.codec import Codec
from ..models.denoiser import Conditioning
from .base import Batch, Episode, Needs
from .image import drop_text, posterior_sample

__all__ = ["OWN", "Frames", "Given", "Levels", "past_names"]

Given = Float[Tensor, "b k c h w"]  # scaled latents of the frames that are continued, the newest first
Levels = Float[Tensor, "b k"]  # how noisy each of them is

OWN = "own source"  # in a batch: the newest given frame as the network itself made it
WAVES = 8  # pairs of sine and cosine that tell the network a number
QUIETEST, LOUDEST = -6.0, 0.0  # of ln sigma, as it is told
LONGEST = 8.0  # seconds, as they are told


def past_names(count: int) -> tuple[str, ...]:
    """The images of a row that `count` given frames are, the newest first: source, past.2, past.3, ..."""
    return ("source", *(f"past.{i}" for i in range(2, count + 1)))


@task("frames")
@dataclass(frozen=True)
class Frames:
    """The `past` newest frames are concatenated to the noisy target (unscaled modes, newest first): c + c * past input channels.

    time_offset: the network is told the seconds from source to target. noise: what is added to the given frames, and told:
    "log_normal" one sigma a sample, exp(N(noise_mean, noise_std)), added in scaled latents (Blattmann et al. 2023, Stable Video
    Diffusion); "per_frame" a level u of its own for each frame, uniform on [0, noise_most], that frame being
    cos(pi u / 2) x + sin(pi u / 2) eps. hard_keys: other frames of the same video count as negatives of in-batch objectives;
    without, they are nobody's. own_frames: probability that the newest given frame is the network's own prediction from the frames
    before it, in `own_steps` steps; it takes the step function relatum.engine.own_frames:own_frames_step and one older frame.
    Dropout of text and of the given frames (all together) as in `Edit`. Anchors: every image of the row by name, scaled; the real
    ones, also where own frames are given.
    """

    past: int = 1
    time_offset: bool = False
    noise: Literal["none", "log_normal", "per_frame"] = "none"
    noise_mean: float = -3.0
    noise_std: float = 0.5
    noise_most: float = 0.5
    hard_keys: bool = False
    own_frames: float = 0.0
    own_steps: int = 4
    conditioning_dropout_prob: float = 0.05
    views = ("matched", "null")
    makes = "rollouts"

    def __post_init__(self) -> None:
        if not 1 <= self.past <= 16:
            raise RecipeError(f"task: past is {self.past}, expected 1 to 16 frames")
        if not 0 <= self.conditioning_dropout_prob <= 1 / 3:
            raise RecipeError(f"task: conditioning_dropout_prob is {self.conditioning_dropout_prob}, expected 0 to 1/3")
        for name, most in (("own_frames", 1.0), ("noise_most", 1.0), ("noise_std", math.inf)):
            if not 0 <= getattr(self, name) <= most:
                raise RecipeError(f"task: {name} is {getattr(self, name)}, expected 0 to {most:g}")
        if not QUIETEST <= self.noise_mean <= LOUDEST:
            raise RecipeError(f"task: noise_mean is {self.noise_mean} (of ln sigma), expected {QUIETEST:g} to {LOUDEST:g}")
        if self.own_steps < 1:
            raise RecipeError(f"task: own_steps is {self.own_steps}, expected 1 or more")

    @property
    def names(self) -> tuple[str, ...]:
        """The images that are given to the network, the newest first."""
        return past_names(self.past)

    @property
    def needs(self) -> Needs:
        read = past_names(self.past + (self.own_frames > 0))
        numbers = ("offset", *(("spacing",) if self.own_frames else ())) if self.time_offset else ()
        return Needs(images=(*read, "target"), texts=("instruction",), numbers=numbers)

    @property
    def images(self) -> int:
        return self.past

    @property
    def features(self) -> int:
        levels = {"none": 0, "log_normal": 1, "per_frame": self.past}[self.noise]
        return 2 * WAVES * (levels + self.time_offset)

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode:
        assert batch.null is not None
        c = self.conditioning_dropout_prob
        target = posterior_sample(batch.moments["target"], codec, draws, "target")
        anchors = {name: codec.latents(batch.moments[name], None) for name in self.names}
        newest = codec.latents(batch.moments[OWN], None) if OWN in batch.moments else anchors["source"]
        given = torch.stack([newest, *(anchors[name] for name in self.names[1:])], 1)
        levels = self.training_levels(draws).to(given.device)
        eps = draws.normal("given", given.shape[1:]).to(given.device)
        image, told = self.given(given, codec, levels, eps, batch.numbers.get("offset"))
        p = draws.uniform("dropout").to(target.device)
        image = image * expand(1 - ((p >= c) & (p < 3 * c)).float(), image)
        tokens = batch.tokens["instruction"]
        matched = drop_text(tokens, batch.null, (p < 2 * c).float())
        views = {
            "matched": Conditioning(matched, image, told),
            "null": Conditioning(batch.null.expand_as(tokens), image, told),
        }
        ids = batch.ids if self.hard_keys else batch.groups
        return Episode(target, {**anchors, "target": target}, views, ids, batch.masks)

    def given(
        self, given: Given, codec: Codec, levels: Levels, eps: Given, offset: PerSample | None
    ) -> tuple[Stacked, Told | None]:
        """What the network is given of these frames at these noise levels: (b past*c h w), and what it is told, (b features)."""
        noisy = self._noised(given, levels, eps)
        image = codec.unscaled(noisy).flatten(1, 2)
        told = [] if self.noise == "none" else [waves(self._told(levels[:, i])) for i in range(self._levels_told)]
        if self.time_offset:
            if offset is None:
                raise RecipeError("task: time_offset is set, but the rows tell no offset")
            told.append(waves((offset.float() / LONGEST).clamp(0, 1)))
        return image, torch.cat(told, 1) if told else None

    def training_levels(self, draws: Draws) -> Levels:
        """(b past) levels of one batch; what a level is, `noise` decides."""
        b = len(draws)
        if self.noise == "log_normal":
            sigma = torch.exp(self.noise_mean + self.noise_std * draws.normal("given level", (1,)))
            return sigma.expand(b, self.past)
        if self.noise == "per_frame":
            uniform = torch.stack([draws.uniform(f"given level {i}") for i in range(self.past)], 1)
            return self.noise_most * uniform
        return torch.zeros(b, self.past)

    def sampling_levels(self, level: float | None, count: int) -> Levels:
        """(count past) levels at inference. None: the median level of training with "log_normal", else no noise.

        RecipeError for a level outside what such a network was told.
        """
        usual = {"log_normal": math.exp(self.noise_mean), "per_frame": 0.0, "none": 0.0}[self.noise]
        most = {"log_normal": math.exp(LOUDEST), "per_frame": self.noise_most, "none": math.inf}[self.noise]
        found = usual if level is None else level
        if not 0 <= found <= most:
            raise RecipeError(f"rollout: given_noise is {found}, expected 0 to {most:g} for a model of noise {self.noise!r}")
        return torch.full((count, self.past), found)

    @property
    def _levels_told(self) -> int:
        return self.past if self.noise == "per_frame" else 1

    def _noised(self, given: Given, levels: Levels, eps: Given) -> Given:
        at = levels[..., None, None, None]
        if self.noise == "per_frame":
            return torch.cos(at * math.pi / 2) * given + torch.sin(at * math.pi / 2) * eps
        return given + at * eps

    def _told(self, level: PerSample) -> PerSample:
        """A level on [0, 1]."""
        if self.noise == "per_frame":
            return level
        logs = level.clamp_min(math.exp(QUIETEST)).log()
        return ((logs - QUIETEST) / (LOUDEST - QUIETEST)).clamp(0, 1)


def waves(value: PerSample) -> Float[Tensor, "b f"]:
    """A number in [0, 1] as 2 * WAVES features: sines and cosines of 1/4 to 32 turns, an octave apart."""
    turns = 2.0 ** torch.arange(-2, WAVES - 2, device=value.device)
    angles = 2 * math.pi * value[:, None] * turns
    return torch.cat([angles.sin(), angles.cos()], 1)
