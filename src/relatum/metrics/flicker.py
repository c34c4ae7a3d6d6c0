"""Flicker apart from motion: what a pixel does against its own neighbors in time, read along the flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..core.errors import DataError, ShapeError
from ..core.registry import metric
from ..video.flow import backward_of, consistent, dis_flow, dis_flows, spline_power, warp
from .base import MeanMetric, Samples

__all__ = ["Flicker", "FlickerReading", "flow_pair", "motion_flicker"]

BLUR = 1.0  # pixels, of the pre-blur
LEAST = 0.30  # coverage below which F says nothing
STILL = 1e-4  # squared levels: changes along the flow below 0.01 level are none
MARGIN = 2  # pixels at the border that are not measured
CHUNK = 16  # frames at a time
TWINS = 8  # frames whose motion-only twins are measured, evenly spaced
LUMA = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)  # Rec. 601


@dataclass(frozen=True)
class FlickerReading:
    """What `motion_flicker` finds. Levels are 8-bit grey levels (0 to 255).

    unsteadiness: the headline, √(s (F/contrast)² + 1 - s), s the consistent share of the pixels that stay in view: flicker as a
    share of the picture's contrast, where a pixel that cannot be followed counts as one unrelated to its neighbors (F = contrast).
    f: F = √(2/3 E[(I_t - (A + B)/2)²]) over pixels, frames and the channels R, G, B; A and B are the neighbors in time, warped to
    t. f_luma: the same of Rec. 601 luma Y. f_chroma: of (R - Y, G - Y, B - Y). f_blurred: F of the pre-blurred frames alone, which
    fine grain hardly reaches. rho: correlation of I_t - A and B - I_t (pre-blurred): -1 alternating, -1/2 noise, > 0 smooth.
    motion: median |flow| in pixels a frame. coverage: share of all pixels that forward and backward flow agree on; f is NaN below
    0.30, with the note why. contrast: standard deviation over space of the frames (pre-blurred), mean over frames. relative:
    f / contrast (a contrast below one level counts as one). floor: F of the motion-only twin, in which every neighbor of frame t is
    frame t itself, moved along the flow; what it shows is error of flow and resampling. excess: √max(0, f² - floor²).
    frames: F of each frame alone; NaN for the first and the last, and where fewer than 0.30 of its pixels are consistent.
    top_quarter, centroid: of the power spectrum along trajectories (detrended, Hann), where asked for: the share of the power at
    the highest quarter of frequencies, and the mean frequency in cycles a frame (at most 1/2).
    """

    unsteadiness: float
    f: float
    f_luma: float
    f_chroma: float
    f_blurred: float
    rho: float
    motion: float
    coverage: float
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
    video: Float[Tensor, "t c h w"] | np.ndarray,
    flow: Float[Tensor, "t-1 2 h w"] | np.ndarray | None = None,
    backward: Float[Tensor, "t-1 2 h w"] | np.ndarray | None = None,
    *,
    spectrum: bool = False,
) -> FlickerReading:
    """How much a video flickers, motion apart.

    video: (t c h w) in [-1, 1], grey or RGB, three frames or more. flow: its true motion in pixels from each frame to the next, x
    then y; None estimates it (OpenCV's DIS). backward: from each next frame back to it; None inverts `flow`.
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
    sums = _Sums()
    for start in range(0, len(levels) - 2, CHUNK):
        piece = slice(start, start + CHUNK + 2)
        pairs = slice(start, start + CHUNK + 1)
        sums.add(levels[piece], low[piece], forward[pairs], back[pairs])
    floor = _twin_floor(low, forward, back, sums.masks, flow is not None)
    power = _spectrum(low, forward, back) if spectrum else (math.nan, math.nan)
    return _reading(sums, low, forward, floor, power, "dis" if flow is None else "true")


def flow_pair(
    frames: Float[Tensor, "t c h w"],
    flow: Float[Tensor, "t-1 2 h w"] | np.ndarray | None = None,
    backward: Float[Tensor, "t-1 2 h w"] | np.ndarray | None = None,
) -> tuple[Float[Tensor, "t-1 2 h w"], Float[Tensor, "t-1 2 h w"]]:
    """Forward and backward flow: as given, inverted, or estimated."""
    if flow is None:
        if backward is not None:
            raise DataError("backward flow was given without the forward flow; give both, or neither")
        return dis_flows(frames)
    given = [torch.as_tensor(f).detach().float().cpu() for f in (flow, backward) if f is not None]
    expected = (len(frames) - 1, 2, *frames.shape[-2:])
    for name, found in zip(("flow", "backward flow"), given, strict=False):
        if tuple(found.shape) != expected:
            raise ShapeError(f"{name} has shape {tuple(found.shape)}, expected {expected}: from each frame to the next, x then y")
        if not bool(found.isfinite().all()):
            raise DataError(f"{name} holds NaN or infinity")
    return given[0], given[1] if len(given) == 2 else backward_of(given[0])


def _checked(video: Tensor | np.ndarray) -> Tensor:
    frames = torch.as_tensor(video)
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


class _Sums:
    """Sums over consistent pixels, frame by frame: second moments over channels of the residuals, full and pre-blurred."""

    def __init__(self) -> None:
        self.full: list[Tensor] = []  # each (t c c)
        self.blurred: list[Tensor] = []
        self.counts: list[Tensor] = []  # (t 8): pixels used, consistent, in view, all; then sums for the noise gain and for rho
        self.masks: list[Tensor] = []

    def add(self, levels: Tensor, low: Tensor, forward: Tensor, back: Tensor) -> None:
        """frames t .. t + n + 1 and the n + 1 flows between them, for the n frames within."""
        both = torch.cat([levels, low], 1)
        to_last, to_next = back[:-1], forward[1:]
        last, following = warp(both[:-2], to_last), warp(both[2:], to_next)
        (good_a, seen_a), (good_b, seen_b) = consistent(to_last, forward[:-1]), consistent(to_next, back[1:])
        good, c = good_a & good_b, levels.shape[1]
        mask = good & _clear(to_last) & _clear(to_next)
        rest = (both[1:-1] - (last + following) / 2) * mask[:, None]
        first, second = ((low[1:-1] - last[:, c:]) * mask[:, None]), ((following[:, c:] - low[1:-1]) * mask[:, None])
        self.full.append(_moments(rest[:, :c]))
        self.blurred.append(_moments(rest[:, c:]))
        kept = (spline_power(to_last) + spline_power(to_next)) * mask
        products = [(x * y).sum(1) for x, y in ((first, second), (first, first), (second, second))]
        columns = (mask, good, seen_a & seen_b, torch.ones_like(mask), kept, *products)
        self.counts.append(torch.stack([column.flatten(1).double().sum(1) for column in columns], 1))
        self.masks.append(mask)

    def tables(self) -> tuple[Tensor, Tensor, Tensor]:
        return torch.cat(self.full), torch.cat(self.blurred), torch.cat(self.counts)


def blur(levels: Tensor) -> Tensor:
    """Gaussian of 1 pixel, each channel by itself, continued by reflection."""
    low = levels.numpy()
    for axis in (2, 3):
        low = gaussian_filter1d(low, BLUR, axis, mode="mirror", truncate=4.0)
    return torch.from_numpy(low)


BLURRED_NOISE = float(
    (gaussian_filter1d(np.eye(1, 17, 8)[0], BLUR, truncate=4.0) ** 2).sum() ** 2
)  # share of white noise's variance that the pre-blur leaves: 0.0796


def _clear(flow: Tensor) -> Tensor:
    """Where pixel and goal lie so far inside that the pre-blur took nothing from beyond the border; all, in very small frames."""
    h, w = flow.shape[-2:]
    if min(h, w) <= 8 * MARGIN:
        return torch.ones(len(flow), h, w, dtype=torch.bool)
    x, y = torch.arange(w), torch.arange(h)[:, None]
    inner = (x >= MARGIN) & (x < w - MARGIN) & (y >= MARGIN) & (y < h - MARGIN)
    to_x, to_y = x + flow[:, 0], y + flow[:, 1]
    return inner & (to_x >= MARGIN) & (to_x <= w - 1 - MARGIN) & (to_y >= MARGIN) & (to_y <= h - 1 - MARGIN)


def _moments(rest: Tensor) -> Tensor:
    """(t c c) sums over pixels of products of channels."""
    flat = rest.flatten(2).double()
    return flat @ flat.mT


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
    sums: _Sums, blurred_frames: Tensor, forward: Tensor, floor: float, power: tuple[float, float], kind: str
) -> FlickerReading:
    full, blurred, counts = sums.tables()
    used, good, seen, pixels, kept, product, left, right = counts.sum(0)
    c = blurred_frames.shape[1]
    each = torch.eye(c, dtype=torch.float64)
    luma = LUMA[None] if c == 3 else each
    views = {"f": each, "f_luma": luma, "f_chroma": each - luma if c == 3 else torch.zeros(1, 1, dtype=torch.float64)}
    squares = {name: _squared(full.sum(0), blurred.sum(0), used, kept, view) for name, view in views.items()}
    low = _squared(blurred.sum(0), blurred.sum(0), used, kept, each)
    contrast = blurred_frames.double().flatten(2).var(2, correction=0).mean(1).sqrt().mean().item()
    coverage, steady = float(good / pixels), float(good / seen) if seen else 0.0
    share = squares["f"] / max(contrast, 1.0) ** 2 if used else 0.0
    usable = coverage >= LEAST
    values = {name: math.sqrt(value) if usable else math.nan for name, value in squares.items()}
    energy = float((left * right).sqrt())
    still = energy < STILL * max(float(used), 1.0)
    per_frame = [
        math.sqrt(_squared(m, b, k[0], k[4], each)) if k[1] >= LEAST * k[3] else math.nan
        for m, b, k in zip(full, blurred, counts, strict=True)
    ]
    return FlickerReading(
        unsteadiness=math.sqrt(steady * share + 1 - steady),
        **values,
        f_blurred=math.sqrt(low) if usable else math.nan,
        rho=math.nan if still else float(product) / energy,
        motion=forward.square().sum(1).sqrt().median().item(),
        coverage=coverage,
        contrast=contrast,
        relative=values["f"] / max(contrast, 1.0),
        floor=floor if usable else math.nan,
        excess=math.sqrt(max(0.0, squares["f"] - floor**2)) if usable else math.nan,
        frames=(math.nan, *per_frame, math.nan),
        top_quarter=power[0],
        centroid=power[1],
        flow=kind,
        note=_note(coverage, still),
    )


def _note(coverage: float, still: bool) -> str:
    notes = []
    if coverage < LEAST:
        notes.append(f"forward and backward flow agree on {coverage:.0%} of the pixels, F needs {LEAST:.0%}")
    if still:
        notes.append("nothing changes along the flow, so rho is undefined")
    return "; ".join(notes)


def _twin_floor(blurred: Tensor, forward: Tensor, back: Tensor, masks: list[Tensor], known: bool) -> float:
    """F of the motion-only twins: frame t between itself moved to t - 1 and to t + 1 along the flow, pre-blurred.

    The flow of the twin is estimated anew, as the video's was, unless the true one is known. The mask is the video's.
    """
    mask = torch.cat(masks)
    middles = np.unique(np.linspace(1, len(blurred) - 2, min(TWINS, len(blurred) - 2)).round().astype(int))
    here = torch.from_numpy(middles)
    low = blurred[here]
    last, following = warp(low, forward[here - 1]), warp(low, back[here])  # frame t's pixels, where t - 1 and t + 1 had them
    if not known:
        sides = [torch.stack([dis_flow(*pair) for pair in zip(_unit(low), _unit(s), strict=True)]) for s in (last, following)]
        to_last, to_next = sides
    else:
        to_last, to_next = back[here - 1], forward[here]
    rest = low - (warp(last, to_last) + warp(following, to_next)) / 2
    good = mask[here - 1][:, None].expand_as(rest)
    return math.sqrt(2 / 3 * rest[good].double().square().mean().item()) if bool(good.any()) else math.nan


def _unit(levels: Tensor) -> Tensor:
    return levels / 127.5 - 1


def _spectrum(low: Tensor, forward: Tensor, back: Tensor) -> tuple[float, float]:
    """Top-quarter share and mean frequency of the power along trajectories from frame 0 that are consistent throughout."""
    h, w = low.shape[-2:]
    place, alive = torch.zeros(1, 2, h, w), torch.ones(h, w, dtype=torch.bool)
    series = [low[0]]
    for t in range(len(forward)):
        good = consistent(forward[t][None], back[t][None])[0].float()[:, None]
        alive &= warp(good, place, 1)[0, 0] > 0.99
        place = place + warp(forward[t][None], place, 1)
        series.append(warp(low[t + 1][None], place)[0])
    values = torch.stack(series)[:, :, alive].flatten(1).double()
    if values.shape[1] == 0:
        return math.nan, math.nan
    time = torch.arange(len(values), dtype=torch.float64)[:, None] - (len(values) - 1) / 2
    values = values - values.mean(0) - time * (time * values).sum(0) / time.square().sum()
    window = torch.hann_window(len(values) + 2, periodic=False, dtype=torch.float64)[1:-1, None]
    power = torch.fft.rfft(values * window, dim=0).abs().square().mean(1)
    frequencies = torch.fft.rfftfreq(len(values), dtype=torch.float64)
    if power.sum() <= 1e-12:
        return math.nan, math.nan
    share = power / power.sum()
    return float(share[frequencies >= 0.375].sum()), float((share * frequencies).sum())


@metric("flicker")
@dataclass
class Flicker(MeanMetric):
    """Unsteadiness of the generated video (see `FlickerReading`), with its parts beside it; F of every frame as the series "f".

    flow: "dis" estimates the motion; "true" takes the target's, for generated videos that are meant to move as the target does.
    """

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {
        "f": "lower", "f_luma": "lower", "f_chroma": "lower", "relative": "lower", "excess": "lower", "rho": "higher",
        "coverage": "higher",
    }  # fmt: skip

    flow: Literal["dis", "true"] = "dis"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"videos:generated"} | ({"flows:target"} if self.flow == "true" else set()))

    def update(self, samples: Samples) -> None:
        readings = []
        for index, video in enumerate(samples.videos["generated"]):
            true: Any = samples.flows["target"][index].movedim(1, 0) if self.flow == "true" else None
            readings.append(motion_flicker(video.movedim(1, 0), true))
        self.keep(samples.ids, torch.tensor([r.unsteadiness for r in readings]))
        for name in (*self.also_better, "f_blurred", "floor", "motion", "contrast"):
            self.keep(samples.ids, torch.tensor([getattr(r, name) for r in readings]), also=name)
        self.keep_series(samples.ids, "f", torch.tensor([r.frames for r in readings]))
