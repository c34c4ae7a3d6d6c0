"""Flicker at matched motion: what moves less flickers less, and must not win by that."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float

from ..core.registry import metric
from ..core.shapes import Film
from .base import Estimate, Samples
from .flicker import motion_flicker
from .sets import Sets, Statistic
from .temporal import motions_of

__all__ = ["MatchedFlicker", "at_motion"]

Numbers = Float[np.ndarray, "n"]


def at_motion(values: Numbers, motion: Numbers, wanted: float, weights: Numbers | None = None) -> float:
    """The mean of `values` of videos that move, had they moved by `wanted` on average: mean + b (wanted - mean motion), b the slope
    of values on motion by least squares over these videos (the adjusted mean of the analysis of covariance, Cochran 1957).

    NaN where no two of them move differently, and where `wanted` lies beyond the slowest or the fastest: a line is not continued.
    weights: multiplicities.

    >>> at_motion(np.array([1.0, 2.0, 3.0]), np.array([1.0, 2.0, 3.0]), 2.5)  # what rises by 1 a pixel of motion
    2.5
    """
    w = np.ones(len(values)) if weights is None else np.asarray(weights, np.float64)
    used = (w > 0) & np.isfinite(values) & np.isfinite(motion)
    if not used.any() or not motion[used].min() <= wanted <= motion[used].max():
        return math.nan
    w, f, m = w[used] / w[used].sum(), values[used], motion[used]
    mean, center = float(w @ f), float(w @ m)
    spread = float(w @ (m - center) ** 2)
    if spread <= 1e-12:
        return mean if math.isclose(center, wanted, abs_tol=1e-6) else math.nan
    return mean + float(w @ ((m - center) * (f - mean))) / spread * (wanted - center)


@metric("matched_flicker")
@dataclass
class MatchedFlicker(Sets):
    """F, or with what = "rho" the correlation rho (see `FlickerReading`), of generated videos at the motion of the true ones.

    Within one arm a video that moves more flickers more or less; a line tells how much. The arm's mean is moved along its own line
    from the motion that it has to the mean motion of the true videos (`at_motion`), so that two arms are read at one motion: one
    that flickers less only by moving less has no lower number, and one that moves so little that none of its videos reaches the
    true mean has none. Motion: mean |flow| of the fastest 5 % of the pixels (`fastest`). Real videos keep their plain mean.

    Standard error: jackknife over videos, the slope taken anew each time; compare resamples alike. A straight line is assumed
    between the slowest and the fastest video; and where noise is taken for motion, the slope, and so the correction, is too small
    or too large: read `motion` beside it. Videos whose F or rho is undefined are left out.
    """

    least_frames: ClassVar[int] = 3

    what: Literal["f", "rho"] = "f"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({"videos:generated", "videos:target"})

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "lower" if self.what == "f" else "higher"

    def update(self, samples: Samples) -> None:
        """A batch may hold one side alone."""
        for side, read in (("generated", self._read), ("target", _moved)):
            for name, video in zip(samples.ids, samples.videos.get(side, ()), strict=False):
                self.kept[side][name] = torch.tensor(read(video.movedim(1, 0)), dtype=torch.float64)

    def _read(self, film: Film) -> list[float]:
        reading = motion_flicker(film, twin=False)
        return [getattr(reading, self.what), reading.fastest]

    def estimate(self) -> Estimate:
        _, x, _, y = self.sets
        values, motion, wanted = x[:, 0].numpy(), x[:, 1].numpy(), float(y.mean())
        known = int(np.isfinite(values).sum())
        value = at_motion(values, motion, wanted)
        if math.isnan(value):
            reach = f"{motion.min():.3g} to {motion.max():.3g}"
            return Estimate(value, None, known, f"the true videos move by {wanted:.3g} px a frame, these by {reach}: none to match")
        note = f"{len(values) - known} of {len(values)} undefined" if known < len(values) else ""
        return Estimate(value, self._stderr(), known, note)

    def statistic(self) -> Statistic | None:
        _, x, _, y = self.sets
        values, motion, true = x[:, 0].numpy(), x[:, 1].numpy(), y[:, 0].numpy()
        return None if self.count < 2 else lambda wx, wy: at_motion(values, motion, float(wy @ true / wy.sum()), wx)

    def _stderr(self) -> float | None:
        """Jackknife over videos, of equal ids a pair at a time, else the generated ones alone; None where one leaves nothing."""
        ids, _, others, _ = self.sets
        statistic, ones = self.statistic(), np.ones(len(others))
        assert statistic is not None
        left = [np.arange(len(ids)) != i for i in range(len(ids))]
        values = np.array([statistic(w.astype(float), w.astype(float) if ids == others else ones) for w in left])
        return float(np.sqrt((len(ids) - 1) * values.var())) if np.isfinite(values).all() and len(ids) > 2 else None


def _moved(film: Film) -> list[float]:
    return [motions_of(film)[1]]
