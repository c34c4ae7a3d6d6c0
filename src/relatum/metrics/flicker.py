"""Flicker apart from motion: what a pixel does against its own neighbors in time, read along the flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, ShapeError
from ..core.registry import metric
from ..video.flow import backward_of, dis_flows
from .base import MeanMetric, Samples
from .follow import BLURRED_NOISE, LUMA, Follower, blur, fastest_motion, grain, spectrum, twin_floor, typical_motion

__all__ = ["Flicker", "FlickerReading", "flow_pair", "motion_flicker"]

LEAST = 0.30  # coverage below which F says nothing
STILL = 1e-4  # squared levels: changes along the flow below 0.01 level are none
CHUNK = 16  # frames at a time


@dataclass(frozen=True)
class FlickerReading:
    """What `motion_flicker` finds. Levels are 8-bit gray levels (0 to 255).

    unsteadiness: the headline, √(s (F/contrast)² + (1 - s) r), s (`followed`) the consistent share of the pixels that stay in view.
    A pixel that cannot be followed counts as one unrelated to its neighbors, whose F is the contrast, as far as it behaves like
    one: r = -2ρ (0 to 1) of its steps as they stand, 1 where it comes and goes, 0 where something else appears and stays.
    f: F = √(2/3 E[(I_t - (A + B)/2)²]) over pixels, frames and the channels R, G, B; A and B are the neighbors in time, warped to
    t. f_luma: the same of Rec. 601 luma Y. f_chroma: of (R - Y, G - Y, B - Y). f_blurred: F of the pre-blurred frames alone, which
    fine grain hardly reaches. rho: correlation of I_t - A and B - I_t (pre-blurred): -1 alternating, -1/2 noise, > 0 smooth.
    motion: median |flow| in pixels a frame; mere grain is at rest. fastest: mean |flow| of the fastest 5 % of the pixels, which
    sees a small object move before a still ground. coverage: share of all pixels that forward and backward flow agree on; f is NaN
    below 0.30, with the note why. contrast: standard deviation over space of each channel, mean over channels (of variances) and
    frames. relative: f / contrast (a contrast below one level counts as one). floor: F of the motion-only twin, in which every
    neighbor of frame t is frame t itself, moved along the flow; what it shows is error of flow and resampling.
    excess: √max(0, f² - floor²). frames: F of each frame alone; NaN for the first and the last, and where fewer than 0.30 of its
    pixels are consistent. top_quarter, centroid: of the power spectrum along trajectories (detrended, Hann), where asked for: the
    share of the power at the highest quarter of frequencies, and the mean frequency in cycles a frame (at most 1/2).
    """

    unsteadiness: float
    f: float
    f_luma: float
    f_chroma: float
    f_blurred: float
    rho: float
    motion: float
    fastest: float
    coverage: float
    followed: float
    contrast: float
    relative: float
    floor: float
    excess: float
    frames: tuple[float, ...]
    top_quarter: float
    centroid: float
    flow: str
    note: str


def motion_flicker(
    video: Tensor | np.ndarray,
    flow: Tensor | np.ndarray | None = None,
    backward: Tensor | np.ndarray | None = None,
    *,
    along: bool = False,
    twin: bool = True,
) -> FlickerReading:
    """How much a video flickers, motion apart.

    video: (t c h w) in [-1, 1], gray or RGB, three frames or more. flow: its true motion (t-1 2 h w) in pixels from each frame to
    the next, x then y; None estimates it (OpenCV's DIS). backward: from each next frame back to it; None inverts `flow`. along:
    gives the spectrum along trajectories too. twin: whether the motion-only twin is made, which takes half of the time; without it
    floor and excess are NaN.
    White noise of σ levels, spatially and temporally white, reads σ however fast it is carried along; the whole picture alternating
    by ±a reads 1.633 a; a fade or steady motion reads 0.

    >>> import torch
    >>> frames = torch.tensor([127.0, 129.0, 127.0, 129.0]).reshape(4, 1, 1, 1).expand(4, 1, 64, 64) / 127.5 - 1
    >>> reading = motion_flicker(frames)
    >>> round(reading.f, 3), round(reading.rho, 3)
    (1.633, -1.0)
    """
    frames = _checked(video)
    forward, back = flow_pair(frames, flow, backward)
    levels = (frames + 1) * 127.5
    low = blur(levels)
    plain = torch.zeros(low[:, 0].shape, dtype=torch.bool) if flow is not None else grain(levels, low)
    sums = Follower()
    for start in range(0, len(levels) - 2, CHUNK):
        piece = slice(start, start + CHUNK + 2)
        pairs = slice(start, start + CHUNK + 1)
        sums.add(levels[piece], low[piece], forward[pairs], back[pairs], plain[piece])
    floor = twin_floor(low, forward, back, torch.cat(sums.moved), flow is not None) if twin else math.nan
    power = spectrum(low, forward, back) if along else (math.nan, math.nan)
    motion = typical_motion(forward, back, plain), fastest_motion(forward, back, plain)
    return _reading(sums, levels, motion, floor, power, "dis" if flow is None else "true")


def flow_pair(
    frames: Float[Tensor, "t c h w"], flow: Tensor | np.ndarray | None = None, backward: Tensor | np.ndarray | None = None
) -> tuple[Float[Tensor, "steps 2 h w"], Float[Tensor, "steps 2 h w"]]:
    """Forward and backward flow: as given, inverted, or estimated."""
    if flow is None:
        if backward is not None:
            raise DataError("backward flow was given without the forward flow; give both, or neither")
        return dis_flows(frames)
    given = [
        torch.as_tensor(np.array(f) if isinstance(f, np.ndarray) else f).detach().float().cpu()
        for f in (flow, backward)
        if f is not None
    ]
    expected = (len(frames) - 1, 2, *frames.shape[-2:])
    for name, found in zip(("flow", "backward flow"), given, strict=False):
        if tuple(found.shape) != expected:
            raise ShapeError(f"{name} has shape {tuple(found.shape)}, expected {expected}: from each frame to the next, x then y")
        if not bool(found.isfinite().all()):
            raise DataError(f"{name} holds NaN or infinity")
    return given[0], given[1] if len(given) == 2 else backward_of(given[0])


def _checked(video: Tensor | np.ndarray) -> Tensor:
    frames = torch.from_numpy(np.array(video)) if isinstance(video, np.ndarray) else video
    if frames.ndim != 4 or frames.shape[1] not in (1, 3) or frames.shape[0] < 3:
        raise ShapeError(f"expected one video (frames >= 3, channels 1 or 3, height, width), found {tuple(frames.shape)}")
    if not frames.is_floating_point():
        raise DataError(f"expected pixels in [-1, 1], found {frames.dtype}; 8-bit pixels are x / 127.5 - 1")
    frames = frames.detach().float().cpu()
    if not bool(frames.isfinite().all()):
        raise DataError("the video holds NaN or infinity")
    if frames.abs().max() > 1.5:
        raise DataError(f"expected pixels in [-1, 1], found up to {frames.abs().max().item():g}; 8-bit pixels are x / 127.5 - 1")
    return frames


def _squared(full: Tensor, blurred: Tensor, count: Tensor, power: Tensor, weights: Tensor) -> float:
    """F² of the channel combinations `weights` (k c), mean over them, from moments summed over frames.

    Reading between pixels takes variance from fine grain and none from what the pre-blur leaves. So the pre-blurred part is taken
    as it is, and the rest is scaled by what that reading must have cost white noise: exact for both.
    """
    if count < 1:
        return math.nan
    total, low = (torch.einsum("kc,cd,kd->k", weights, m, weights).mean() / count for m in (full, blurred))
    kept = 1 + power / count / 4 - 1.5 * BLURRED_NOISE
    gain = 1.5 * (1 - BLURRED_NOISE) / kept
    return float(2 / 3 * (low + gain * (total - low).clamp_min(0)))


def _reading(
    sums: Follower, levels: Tensor, motion: tuple[float, float], floor: float, power: tuple[float, float], kind: str
) -> FlickerReading:
    full, blurred, counts = torch.cat(sums.full), torch.cat(sums.blurred), torch.cat(sums.counts)
    used, good, seen, pixels, kept = counts.sum(0)
    each = torch.eye(levels.shape[1], dtype=torch.float64)
    luma = LUMA[None].double() if len(each) == 3 else each
    views = {"f": each, "f_luma": luma, "f_chroma": each - luma}
    squares = {name: _squared(full.sum(0), blurred.sum(0), used, kept, view) for name, view in views.items()}
    squares["f_blurred"] = _squared(blurred.sum(0), blurred.sum(0), used, kept, each)
    contrast = levels.double().flatten(2).var(2, correction=0).mean(1).sqrt().mean().item()
    scale = max(contrast, 1.0)
    rho, lost = (_correlation(torch.cat(steps).sum(0), count) for steps, count in ((sums.steps, used), (sums.lost, seen - good)))
    coverage, followed = float(good / pixels), float(good / seen) if seen else 0.0
    usable = coverage >= LEAST
    values = {name: math.sqrt(value) if usable else math.nan for name, value in squares.items()}
    replaced = 0.0 if math.isnan(lost) else min(1.0, max(0.0, -2 * lost))
    steady = followed * squares["f"] / scale**2 if used else 0.0
    per_frame = [
        math.sqrt(_squared(m, b, n[0], n[4], each)) if n[1] >= LEAST * n[3] and n[0] else math.nan
        for m, b, n in zip(full, blurred, counts, strict=True)
    ]
    return FlickerReading(
        unsteadiness=math.sqrt(steady + (1 - followed) * replaced),
        **values,
        rho=rho,
        motion=motion[0],
        fastest=motion[1],
        coverage=coverage,
        followed=followed,
        contrast=contrast,
        relative=values["f"] / scale,
        floor=floor if usable else math.nan,
        excess=math.sqrt(max(0.0, squares["f"] - floor**2)) if usable and not math.isnan(floor) else math.nan,
        frames=(math.nan, *per_frame, math.nan),
        top_quarter=power[0],
        centroid=power[1],
        flow=kind,
        note=_note(coverage, math.isnan(rho)),
    )


def _correlation(sums: Tensor, count: Tensor) -> float:
    """Of two steps, about zero; NaN where they are none."""
    product, first, second = sums.tolist()
    energy = math.sqrt(first * second)
    return product / energy if count and energy > STILL * float(count) else math.nan


def _note(coverage: float, still: bool) -> str:
    notes = []
    if coverage < LEAST:
        notes.append(f"forward and backward flow agree on {coverage:.0%} of the pixels, F needs {LEAST:.0%}")
    if still:
        notes.append("nothing changes along the flow, so rho is undefined")
    return "; ".join(notes)


@metric("flicker")
@dataclass
class Flicker(MeanMetric):
    """Unsteadiness of the generated video (see `FlickerReading`), with its parts beside it; F of every frame as the series "f".

    flow: "dis" estimates the motion; "true" takes the target's, for generated videos that are meant to move as the target does.
    """

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    least_frames: ClassVar[int] = 3
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {
        "f": "lower", "f_luma": "lower", "f_chroma": "lower", "relative": "lower", "excess": "lower", "rho": "higher",
        "coverage": "higher",
    }  # fmt: skip

    flow: Literal["dis", "true"] = "dis"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"videos:generated"} | ({"flows:target"} if self.flow == "true" else set()))

    @property
    def continues(self) -> bool:
        """Only what begins where the target does can be meant to move as it does."""
        return self.flow == "true"

    def update(self, samples: Samples) -> None:
        readings = []
        for index, video in enumerate(samples.videos["generated"]):
            true: Any = samples.flows["target"][index].movedim(1, 0) if self.flow == "true" else None
            readings.append(motion_flicker(video.movedim(1, 0), true))
        self.keep(samples.ids, torch.tensor([r.unsteadiness for r in readings]))
        for name in (*self.also_better, "f_blurred", "floor", "motion", "fastest", "contrast", "followed"):
            self.keep(samples.ids, torch.tensor([getattr(r, name) for r in readings]), also=name)
        self.keep_series(samples.ids, "f", torch.tensor([r.frames for r in readings]))
