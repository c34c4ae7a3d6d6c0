"""Metrics between sets of videos: on the features of whole clips (the fvd family), and of their frames step by step."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch

from ..core.registry import metric
from ..pretrained.extractor import LEAST_FRAMES
from .base import Estimate
from .kernel import kernel_estimate, kernel_statistic
from .sets import Fd, FeatureSets, Kd, Statistic

__all__ = ["FdClip", "Fvd", "KdClip", "KdDrift", "Kvd"]


@metric("fvd")
@dataclass
class Fvd(Fd):
    """Fréchet distance of generated and true videos on the features of whole clips (Unterthiner et al. 2019, section 3).

    Printed as fd_clip[extractor]; FVD is the name for known weights only. Of at least 10 frames a clip (DataError where features
    are made). An image extractor serves by the statistics of its frames over time, see `framestats`; video networks and I3D by
    path, see `open_extractor`. Biased upwards as `fd` is: compare equal numbers of clips of equal length. groups: of the jackknife
    that gives the standard error; 0 leaves it out.
    """

    of: ClassVar[str] = "clips:"
    printed: ClassVar[str] = "fd_clip"
    least_frames: ClassVar[int] = LEAST_FRAMES


@metric("kvd")
@dataclass
class Kvd(Kd):
    """Kernel distance on the features of whole clips: unbiased, so the better choice for few videos. Settings as of `kd`."""

    of: ClassVar[str] = "clips:"
    printed: ClassVar[str] = "kd_clip"
    least_frames: ClassVar[int] = LEAST_FRAMES


@metric("fd_clip")
@dataclass
class FdClip(Fd):
    """Fréchet distance on the statistics of the frames' features over time (`framestats`), by an image extractor, of clips of 3
    frames and more. Of 10 and more it is what `fvd` gives with that extractor; shorter ones have no business in the family of FVD,
    whose networks look at 10 frames at least."""

    of: ClassVar[str] = "frames:"
    over_time: ClassVar[bool] = True
    least_frames: ClassVar[int] = 3


@metric("kd_clip")
@dataclass
class KdClip(Kd):
    """`kvd` as `fd_clip` is `fvd`: unbiased, of clips of 3 frames and more."""

    of: ClassVar[str] = "frames:"
    over_time: ClassVar[bool] = True
    least_frames: ClassVar[int] = 3


@metric("kd_drift")
@dataclass
class KdDrift(FeatureSets):
    """Kernel distance between generated frames at the last step and the real frames at the same offset; unbiased, may be negative.

    `curves`: the same at every step, entry k for step k (0: the given frame, the same on both sides). Against real frames at
    *that* offset, because the real frames' own distribution moves on too. Rollouts of equal ids are paired: an output is not
    compared with its own true frame (see `kernel_estimate`). Frames of NaN (no truth) are left out at their step; where rollouts
    differ in length, the last step is that of the shortest, and the note says so. origin: as of `kd`.
    """

    of: ClassVar[str] = "frames:"

    origin: Literal["auto", "zero", "pooled"] = "auto"

    @property
    def curves(self) -> list[Estimate]:
        """The distance at each step, with its jackknife standard error."""
        return [self._at(step) for step in range(self.last + 1)] if self.count > 1 else []

    def estimate(self) -> Estimate:
        last, lengths = self._at(self.last), {len(rows) for kept in self.kept.values() for rows in kept.values()}
        uneven = f"rollouts of {min(lengths)} to {max(lengths)} frames: step {self.last} is the last they share"
        note = "; ".join(part for part in (last.note, uneven if len(lengths) > 1 else "") if part)
        return Estimate(last.value, last.stderr, last.n, note)

    def statistic(self) -> Statistic | None:
        ids_x, x, ids_y, y = self.sets
        if self.count < 2 or not bool(x.isfinite().all() and y.isfinite().all()):
            return None
        return kernel_statistic(x, y, paired=ids_x == ids_y, origin=self.origin)

    def _at(self, step: int) -> Estimate:
        rows = {
            side: {i: f[step] for i, f in sorted(kept.items()) if bool(f[step].isfinite().all())}
            for side, kept in self.kept.items()
        }
        count = min(len(kept) for kept in rows.values())
        if count < 2:
            return Estimate(math.nan, None, count, "fewer than 2 known frames a set")
        x, y = (torch.stack(list(kept.values())) for kept in rows.values())
        return kernel_estimate(x, y, paired=list(rows["generated"]) == list(rows["target"]), origin=self.origin)
