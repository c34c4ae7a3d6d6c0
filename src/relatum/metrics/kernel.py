"""The kernel distance: unbiased squared maximum mean discrepancy under the cubic polynomial kernel, without loss of digits.

Why not the kernel as it stands. k(x, y) = (x·y/d + 1)³ is not blind to an offset: for x + c and y + c the value truly grows, by
3(c² + 1)²·‖Δμ‖²/d to first order, 1e28 times for c = 1e7; and in float64 its terms, near c⁶ = 1e42, cancel to pure rounding.
Write x = m + u around the pooled mean m, a = m·m/d + 1, p = u·m/d, q = v·m/d, G = u·v/d. Then k = (a + p + q + G)³, and of its
expansion all that depends on one argument only cancels exactly between xx, yy and xy. What is left,

    G³ + 3G²(a + p + q) + 3G(a + p + q)² + 3pq(2a + p + q),

has the same U-statistic and terms no larger than the answer's own scale.

What an offset means. Of features whose mean lies 50,000 spreads or more from zero the true value shows the offset, not the
shape: its fourth power times the squared gap of the means. There the origin "auto" moves to the nearest round number (a multiple
of the power of ten at 100,000 spreads or just above), so that a common offset of 1e7 leaves the value as it was; for all other
features "auto" is exactly zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import DataError
from .base import Estimate
from .frechet import counts
from .moments import Matrix, Vector, float64, matrix, pair

__all__ = ["kernel_distance", "kernel_distance_subsets", "kernel_estimate", "kernel_statistic", "weighted_kernel"]

FAR = 1e5  # spreads between round origins


def kernel_distance(x: Any, y: Any, *, origin: Any = "auto") -> float:
    """Unbiased MMD² of two sets of features under (x·y/d + 1)³ (Bińkowski et al. 2018, eq. 4): the full U-statistic, float64.

    x (N, d), y (M, d): numpy arrays, tensors or lists. May be negative, never clamped. Equal to torchmetrics' `poly_mmd`.

    origin: where the kernel's zero lies. "auto": zero, but a round number near the mean for features offset beyond 50,000 times
    their spread (see this file's head), so that an offset like 1e7 does not change the value. "zero": always zero; under an
    offset the value truly grows, and stays exact where the textbook formula returns rounding noise. "pooled": the mean of both
    sets, blind to any offset, but another number than the definition's. An array (d,): that point. Numbers of different origins
    do not compare.
    Raises DataError for fewer than two samples, NaN or infinity, and unequal widths.

    >>> kernel_distance([[0.0], [1.0]], [[2.0], [3.0]])  # xx: 1, yy: 7³; xy: (1 + 1 + 3³ + 4³)/4 = 23.25
    297.5
    """
    return _Kernel.of(*pair(x, y), origin).distance()


def kernel_estimate(x: Any, y: Any, *, paired: bool = False, origin: Any = "auto") -> Estimate:
    """`kernel_distance` with its jackknife standard error.

    paired: rows i of x and y are one unit, as an output and the reference of one source: they leave the jackknife together, and the
    pairs (xi, yi) are left out of the cross term. With them the value is biased downwards by 2 (E k(xi, yi) - E k(xi, yj)) / n: a
    perfect copy of the references would get a large negative number instead of 0.
    """
    x, y = pair(x, y)
    if paired and len(x) != len(y):
        raise DataError(f"paired sets must have equal length, found {len(x)} and {len(y)}")
    kernel = _Kernel.of(x, y, origin)
    stderr = kernel.stderr(paired) if min(len(x), len(y)) > 2 else None
    return Estimate(kernel.distance(paired), stderr, min(len(x), len(y)))


def weighted_kernel(x: Any, y: Any, wx: Any, wy: Any, *, paired: bool = False, origin: Any = "auto") -> float:
    """`kernel_distance` with row i counted wx[i] (wy[i]) times, where copies of one row are never a pair.

    Σ_{i≠j} wi wj k(xi, xj) / Σ_{i≠j} wi wj for both sets, less 2 Σ wi wj k(xi, yj) / (Σwx Σwy). A bootstrap that repeats rows
    instead counts the large k(xi, xi) among the pairs and is biased upwards. Terms of one argument are dropped before weighing:
    they cancel for equal counts and would add only noise else. All counts 1 gives `kernel_estimate`.

    paired: as of `kernel_estimate`; wx equals wy (shared indices of a paired bootstrap), and no k(xi, yi) counts.
    """
    return kernel_statistic(x, y, paired=paired, origin=origin)(wx, wy)


def kernel_statistic(x: Any, y: Any, *, paired: bool = False, origin: Any = "auto") -> Callable[[Any, Any], float]:
    """`weighted_kernel` of fixed sets as a function of the counts; the kernel is computed once for all resamples."""
    x, y = pair(x, y)
    kernel = _Kernel.of(x, y, origin)

    def weighted(wx: Any, wy: Any) -> float:
        checked = counts(wx, len(x), "wx"), counts(wy, len(y), "wy")
        if paired and not torch.equal(*checked):
            raise DataError("paired rows need one count each: wx and wy differ")
        return kernel.weighted(*checked, paired)

    return weighted


def kernel_distance_subsets(
    x: Any, y: Any, subsets: int = 100, size: int = 1000, seed: int = 0, *, origin: Any = "auto"
) -> Estimate:
    """Mean over random subsets of equal size, and their standard deviation as `stderr`: how KID is usually printed.

    For comparison with older tables only. The deviation is that of *one* subset, no standard error of the mean.
    origin: as of `kernel_distance`.
    """
    x, y = pair(x, y)
    if size < 2 or subsets < 2:
        raise DataError(f"found {subsets} subsets of {size}; this needs 2 subsets or more, of 2 samples or more")
    if size > min(len(x), len(y)):
        raise DataError(f"subsets of {size} from sets of {len(x)} and {len(y)}; choose size <= {min(len(x), len(y))}")
    generator = torch.Generator().manual_seed(seed)
    drawn = []
    for _ in range(subsets):
        i, j = (torch.randperm(len(s), generator=generator)[:size] for s in (x, y))
        drawn.append(kernel_distance(x[i], y[j], origin=origin))
    values = torch.tensor(drawn, dtype=torch.float64)
    return Estimate(values.mean().item(), values.std(correction=0).item(), size, f"mean and deviation of {subsets} subsets")


@dataclass(frozen=True)
class _Kernel:
    """The three Gram matrices, the diagonals of xx and yy set to zero."""

    xx: Matrix
    yy: Matrix
    xy: Matrix

    @classmethod
    def of(cls, x: Matrix, y: Matrix, origin: Any) -> _Kernel:
        center = x.mean(0)
        center = center + torch.cat([x - center, y - center]).mean(0)
        u, v = x - center, y - center
        m = _mean_from(origin, center, torch.cat([u, v]).square().mean().sqrt().item())
        xx, yy = _essential(u, u, m), _essential(v, v, m)
        return cls(xx.fill_diagonal_(0), yy.fill_diagonal_(0), _essential(u, v, m))

    def distance(self, paired: bool = False) -> float:
        n, m = self.xy.shape
        if paired:
            others = self.xy.sum() - self.xy.trace()
            return ((self.xx.sum() + self.yy.sum() - 2 * others) / (n * (n - 1))).item()
        return (self.xx.sum() / (n * (n - 1)) + self.yy.sum() / (m * (m - 1)) - 2 * self.xy.sum() / (n * m)).item()

    def weighted(self, wx: Vector, wy: Vector, paired: bool) -> float:
        pairs_x, pairs_y = (w.sum() ** 2 - w.square().sum() for w in (wx, wy))
        if pairs_x <= 0 or pairs_y <= 0:
            raise DataError("all counts lie on one row; a kernel distance needs two different rows a set")
        own = wx @ self.xx @ wx / pairs_x + wy @ self.yy @ wy / pairs_y
        if not paired:
            return (own - 2 * (wx @ self.xy @ wy) / (wx.sum() * wy.sum())).item()
        others = (wx @ self.xy @ wx - wx.square() @ self.xy.diagonal()) / pairs_x
        return (own - 2 * others).item()

    def stderr(self, paired: bool) -> float:
        """Jackknife: each row (or pair of rows) left out in turn, from the row sums."""
        n, m = self.xy.shape
        xx, yy, xy = self.xx.sum(), self.yy.sum(), self.xy.sum()
        less_x, less_y = xx - 2 * self.xx.sum(1), yy - 2 * self.yy.sum(1)
        if paired:
            twins = self.xy.diagonal()
            less_xy = (xy - twins.sum()) - (self.xy.sum(1) - twins) - (self.xy.sum(0) - twins)
            left = (less_x + less_y - 2 * less_xy) / ((n - 1) * (n - 2))
            return _jackknife(left) ** 0.5
        by_x = less_x / ((n - 1) * (n - 2)) - 2 * (xy - self.xy.sum(1)) / ((n - 1) * m)
        by_y = less_y / ((m - 1) * (m - 2)) - 2 * (xy - self.xy.sum(0)) / (n * (m - 1))
        return (_jackknife(by_x) + _jackknife(by_y)) ** 0.5


def _jackknife(left: Vector) -> float:
    return ((len(left) - 1) / len(left) * (left - left.mean()).square().sum()).item()


def _mean_from(origin: Any, center: Vector, spread: float) -> Vector:
    """The pooled mean as seen from the kernel's origin. spread: root mean square deviation from it, over all features."""
    if isinstance(origin, str):
        if origin not in ("auto", "zero", "pooled"):
            raise DataError(f'origin: expected "auto", "zero", "pooled" or a point of {len(center)} numbers, found {origin!r}')
        if origin == "auto" and spread > 0:
            step = 10.0 ** math.ceil(math.log10(FAR * spread))
            return center - (center / step).round() * step
        return torch.zeros_like(center) if origin == "pooled" else center
    point = float64(origin)
    if point.shape != center.shape:
        raise DataError(f"origin: expected {len(center)} numbers, found shape {tuple(point.shape)}")
    return center - matrix(point[None], "origin", 1)[0]


def _essential(u: Matrix, v: Matrix, m: Vector) -> Matrix:
    """The part of the cubic kernel that depends on both arguments; u and v are deviations from the pooled mean m."""
    d = len(m)
    gram = u @ v.T / d
    p, q, a = (u @ m / d)[:, None], (v @ m / d)[None, :], (m @ m / d + 1)
    linear = a + p + q
    return gram**3 + 3 * gram.square() * linear + 3 * gram * linear.square() + 3 * p * q * (linear + a)
