"""Other people's measures of videos, each by its own formula and with its limits, and the plain amount of motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, RecipeError, ShapeError
from ..core.registry import metric
from ..core.shapes import PerSample, Videos
from ..video.flow import consistent, dis_flows, motion_edge, warp
from .base import MeanMetric, Samples
from .flicker import flow_pair
from .follow import blur, fastest_motion, grain, typical_motion

__all__ = [
    "Motion",
    "PixelSpectrum",
    "VbDynamic",
    "VbFlicker",
    "VbSmooth",
    "VbSubject",
    "WarpError",
    "dynamic_degree",
    "motion_of",
    "motions_of",
    "motion_smoothness",
    "pixel_spectrum",
    "subject_consistency",
    "temporal_flickering",
    "warp_error",
]

Frames = Float[Tensor, "t c h w"]


def pixel_spectrum(video: Frames, above: float = 0.25) -> float:
    """Share of the temporal power at `above` cycles a frame and faster; every pixel and channel by itself, its mean removed.

    Anything that moves past a pixel makes it change: motion raises this share as flicker does. NaN where nothing changes.
    """
    frames = _at_least(video, 2)
    power = torch.fft.rfft(frames - frames.mean(0), dim=0).abs().square().flatten(1).sum(1)
    share = torch.fft.rfftfreq(len(frames)) >= above
    return (power[share].sum() / power.sum()).item() if power.sum() > 1e-9 else math.nan


def temporal_flickering(video: Frames) -> float:
    """VBench's "temporal flickering": (255 - mean |I_t+1 - I_t|) / 255 on 8-bit frames; 1 is still.

    Motion lowers it as flicker does: VBench applies it to videos of still scenes only. A fade of 2 levels a frame and an
    alternation between two levels 2 apart get the same score.
    """
    levels = _levels(_at_least(video, 2))
    return 1 - levels.diff(dim=0).abs().mean().item() / 255


def motion_smoothness(video: Frames) -> float:
    """VBench's "motion smoothness" with another interpolation: (255 - mean |I_t - Î_t|) / 255 over the odd frames, 8-bit.

    VBench takes Î_t from the network AMT-S; here it is the mean of both even neighbors, each moved half way along their optical
    flow (DIS). Numbers of the two are not comparable.
    """
    levels = _levels(_at_least(video, 3))
    even, odd = levels[::2], levels[1::2][: (len(levels) - 1) // 2]
    forward, backward = dis_flows(even / 127.5 - 1)
    middle = (warp(even[:-1], backward / 2) + warp(even[1:], forward / 2)) / 2
    return 1 - (middle.round().clamp(0, 255) - odd).abs().mean().item() / 255


def dynamic_degree(video: Frames, fps: float = 8.0) -> tuple[bool, float]:
    """VBench's "dynamic degree" with another flow: whether the video moves, and the mean over frame pairs of motion over threshold.

    Motion of a pair is the mean of the fastest 5 % of |flow|; the threshold is 6 px for a short side of 256 at 8 frames/s. It moves
    where round(T / 4) pairs of T frames exceed it. Faster videos are thinned to about 8 frames/s; of slower ones the threshold
    grows. VBench estimates the flow with RAFT, here it is DIS.
    """
    frames = _at_least(video, 2)[:: max(1, round(fps / 8))]
    if len(frames) < 2:
        raise ShapeError(f"{len(video)} frames at {fps:g} frames/s leave one at 8 frames/s; motion needs two")
    speed = dis_flows(frames)[0].square().sum(1).sqrt().flatten(1)
    fastest = speed.topk(max(1, int(speed.shape[1] * 0.05)), dim=1).values.mean(1)
    threshold = max(1.0, 8 / fps) * 6 * min(frames.shape[-2:]) / 256
    return int((fastest > threshold).sum()) >= round(len(frames) / 4), (fastest / threshold).mean().item()


def subject_consistency(features: Float[Tensor, "t d"]) -> float:
    """VBench's "subject consistency": over frames, the mean of the cosines to the first and to the last frame, both at least 0.

    The last frame is the one just before. VBench takes the features from DINO ViT-B/16 on 224 px. A still video has 1.
    """
    if features.shape[0] < 2:
        raise ShapeError(f"consistency needs the features of two frames or more, found {tuple(features.shape)}")
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    first, last = (unit[1:] @ unit[0]).clamp_min(0), (unit[1:] * unit[:-1]).sum(1).clamp_min(0)
    return ((first + last) / 2).mean().item()


def warp_error(video: Frames, flow: Float[Tensor, "steps 2 h w"] | None = None) -> float:
    """Lai et al. 2018 (eq. 12, 13): mean over frame pairs of the mean squared gap between I_t and the next frame warped to it.

    Pixels in [0, 1], bilinear warp, without occlusions and motion boundaries by Ruder et al. 2016. They take FlowNet2 on the video
    before processing; here it is DIS on the video itself, or the given true flow.
    """
    frames = (_at_least(video, 2) + 1) / 2
    forward, backward = flow_pair(_at_least(video, 2), flow)
    good, _ = consistent(forward, backward)
    kept = (good & ~motion_edge(forward))[:, None]
    square = (warp(frames[1:], forward, 1) - frames[:-1]).square() * kept
    counts = kept.flatten(1).sum(1) * frames.shape[1]
    return (square.flatten(1).sum(1) / counts.clamp_min(1)).mean().item()


def motion_of(video: Frames) -> float:
    """Median |flow| in pixels a frame, DIS; what shows nothing but grain is at rest."""
    return motions_of(video)[0]


def motions_of(video: Frames) -> tuple[float, float]:
    """`motion_of`, and the mean |flow| of the fastest 5 % of the pixels."""
    frames = _at_least(video, 2)
    levels = (frames + 1) * 127.5
    flows, plain = dis_flows(frames), grain(levels, blur(levels))
    return typical_motion(*flows, plain), fastest_motion(*flows, plain)


def _at_least(video: Tensor, count: int) -> Tensor:
    frames = video.detach().float().cpu()
    if frames.ndim != 4 or len(frames) < count:
        raise ShapeError(f"expected one video (frames >= {count}, channels, height, width), found {tuple(video.shape)}")
    if not bool(frames.isfinite().all()):
        raise DataError("the video holds NaN or infinity")
    return frames


def _levels(frames: Tensor) -> Tensor:
    return ((frames + 1) * 127.5).round().clamp(0, 255)


def each(videos: Videos, score: Callable[[Tensor], float]) -> PerSample:
    return torch.tensor([score(video.movedim(1, 0)) for video in videos], dtype=torch.float32)


@dataclass
class _OfVideo(MeanMetric):
    needs: ClassVar[frozenset[str]] = frozenset({"videos:generated"})
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    least_frames: ClassVar[int] = 2


@metric("pixel_spectrum")
@dataclass
class PixelSpectrum(_OfVideo):
    """`pixel_spectrum` of generated videos: share of temporal power at `above` cycles a frame and faster. Motion raises it too."""

    above: float = 0.25

    def update(self, samples: Samples) -> None:
        self.keep(samples.ids, each(samples.videos["generated"], lambda video: pixel_spectrum(video, self.above)))


@metric("warp_error")
@dataclass
class WarpError(MeanMetric):
    """`warp_error` of generated videos. flow: "dis" estimates the motion; "true" takes the target's."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    least_frames: ClassVar[int] = 2

    flow: Literal["dis", "true"] = "dis"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"videos:generated"} | ({"flows:target"} if self.flow == "true" else set()))

    @property
    def continues(self) -> bool:
        return self.flow == "true"

    def update(self, samples: Samples) -> None:
        videos = samples.videos["generated"].movedim(2, 1)
        flows: Any = samples.flows["target"].movedim(2, 1) if self.flow == "true" else [None] * len(videos)
        self.keep(samples.ids, torch.tensor([warp_error(video, flow) for video, flow in zip(videos, flows, strict=True)]))


@metric("vb_flicker")
@dataclass
class VbFlicker(_OfVideo):
    """VBench's `temporal_flickering` of generated videos, in [0, 1]. Motion lowers it as flicker does."""

    better: ClassVar[Literal["higher", "lower"]] = "higher"

    def update(self, samples: Samples) -> None:
        self.keep(samples.ids, each(samples.videos["generated"], temporal_flickering))


@metric("vb_smooth")
@dataclass
class VbSmooth(_OfVideo):
    """VBench's `motion_smoothness` of generated videos with flow midpoints for AMT-S, in [0, 1]."""

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    least_frames: ClassVar[int] = 3

    def update(self, samples: Samples) -> None:
        self.keep(samples.ids, each(samples.videos["generated"], motion_smoothness))


@metric("vb_dynamic")
@dataclass
class VbDynamic(_OfVideo):
    """Share of generated videos that move, VBench's `dynamic_degree` with DIS for RAFT; `reach`: their motion over its threshold.

    fps: frames per second of the videos; of rollouts and video files it is filled in where the recipe does not set it, and 8 where
    nothing tells.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"

    fps: float = 8.0

    def __post_init__(self) -> None:
        if not 0 < self.fps < math.inf:
            raise RecipeError(f"fps: found {self.fps}, expected frames per second above 0")

    @property
    def least_frames(self) -> int:  # type: ignore[override]
        return max(1, round(self.fps / 8)) + 1

    def update(self, samples: Samples) -> None:
        found = [dynamic_degree(video.movedim(1, 0), self.fps) for video in samples.videos["generated"]]
        self.keep(samples.ids, torch.tensor([float(moves) for moves, _ in found]))
        self.keep(samples.ids, torch.tensor([reach for _, reach in found]), also="reach")


@metric("vb_subject")
@dataclass
class VbSubject(MeanMetric):
    """VBench's `subject_consistency` of generated videos on the features of an extractor, which is DINO only where it is named."""

    better: ClassVar[Literal["higher", "lower"]] = "higher"
    least_frames: ClassVar[int] = 2

    extractor: str = "tinyconv"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"features:{self.extractor}:frames:generated"})

    def update(self, samples: Samples) -> None:
        rows = samples.features[f"{self.extractor}:frames:generated"]
        self.keep(samples.ids, torch.tensor([subject_consistency(features) for features in rows]))


@metric("motion")
@dataclass
class Motion(_OfVideo):
    """Median |flow| of generated videos in pixels a frame, which only describes; `ratio` to the target's where that is there and
    moves by at least `least` pixels a frame: below 1 the generated video moves too little. `fastest`, `fastest_ratio`: the same of
    the mean of the fastest 5 % of the pixels, for objects before a ground at rest, whose median is 0 however fast they are. On toy
    clips (32 px, objects of .64 and 1.92 px a frame) that mean reads .72 and 2.03, and 1.1 and 2.0 under noise of 6 gray levels."""

    wants: ClassVar[frozenset[str]] = frozenset({"videos:target"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {}

    least: float = 0.05

    def update(self, samples: Samples) -> None:
        made = _motions(samples.videos["generated"])
        self.keep(samples.ids, made[0])
        self.keep(samples.ids, made[1], also="fastest")
        if "target" in samples.videos:
            true = _motions(samples.videos["target"])
            ratios = torch.where(true >= self.least, made / true, torch.nan)
            self.keep(samples.ids, ratios[0], also="ratio")
            self.keep(samples.ids, ratios[1], also="fastest_ratio")


def _motions(videos: Videos) -> Float[Tensor, "2 b"]:
    return torch.tensor([motions_of(video.movedim(1, 0)) for video in videos]).T
