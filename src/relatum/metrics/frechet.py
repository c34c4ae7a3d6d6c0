"""The Fréchet distance between two sets of features, its floor for sets of one distribution, and its weighted form."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from ..core.errors import DataError
from .base import Estimate
from .moments import Matrix, Moments, Vector, float64, matrix, pair

__all__ = [
    "frechet_debiased",
    "frechet_distance",
    "frechet_from_moments",
    "frechet_jackknife",
    "frechet_null",
    "frechet_null_permuted",
    "weighted_frechet",
]


def frechet_distance(x: Any, y: Any) -> float:
    """‖μx − μy‖² + tr Σx + tr Σy − 2 tr(ΣxΣy)^½ of two sets of features (Heusel et al. 2017, eq. 6), covariances with ddof 1.

    x (N, d) and y (M, d): numpy arrays, tensors or lists; float64 inside, inputs untouched. A common offset does not change the
    value. Fewer samples than features is exact too: tr(ΣxΣy)^½ is the nuclear norm of the cross-Gram of the centered sets.
    The value is biased upwards by about `frechet_null`, so only numbers of equal N and M compare.
    Raises DataError for fewer than two samples, NaN or infinity, and unequal widths.

    >>> round(frechet_distance([[0.0], [2.0]], [[3.0], [9.0]]), 9)  # (1 - 6)² + 2 + 18 - 2·√(2·18)
    33.0
    """
    x, y = pair(x, y)
    return _distance(x, y, torch.ones(len(x), dtype=torch.float64), torch.ones(len(y), dtype=torch.float64))


def weighted_frechet(x: Any, y: Any, wx: Any, wy: Any) -> float:
    """`frechet_distance` with row i counted wx[i] (wy[i]) times, as in a bootstrap: equal to repeating the rows.

    x (N, d), y (M, d); wx (N,), wy (M,) non-negative counts that sum to at least 2. Repeated rows carry no new information, so a
    resample is biased upwards by about one floor more than the sample (about 2/N instead of 1/N a set): use the *spread* of
    bootstrap values, or their differences between arms under shared counts, never their mean.
    """
    x, y = pair(x, y, 1)
    return _distance(x, y, counts(wx, len(x), "wx"), counts(wy, len(y), "wy"))


def counts(weights: Any, length: int, name: str) -> Vector:
    """Checked multiplicities as float64."""
    tensor = float64(weights)
    if tensor.shape != (length,):
        raise DataError(f"{name}: expected {length} counts, one a row, found shape {tuple(tensor.shape)}")
    if not bool((tensor.isfinite() & (tensor >= 0)).all()):
        raise DataError(f"{name}: counts must be finite and not negative")
    if tensor.sum() < 2:
        raise DataError(f"{name}: counts sum to {tensor.sum().item():g}; at least 2 samples are needed")
    return tensor


def _distance(x: Matrix, y: Matrix, wx: Vector, wy: Vector) -> float:
    common = x.mean(0)  # near both sets, so the differences below lose nothing to an offset
    x, y = (x - common)[wx > 0], (y - common)[wy > 0]
    wx, wy = wx[wx > 0], wy[wy > 0]
    mean_x, mean_y = wx @ x / wx.sum(), wy @ y / wy.sum()
    rows_x = (x - mean_x) * (wx / (wx.sum() - 1)).sqrt()[:, None]
    rows_y = (y - mean_y) * (wy / (wy.sum() - 1)).sqrt()[:, None]
    gap = (mean_x - mean_y).square().sum()
    return (gap + rows_x.square().sum() + rows_y.square().sum()).item() - 2 * _overlap(rows_x, rows_y)


def _overlap(rows_x: Matrix, rows_y: Matrix) -> float:
    """tr(ΣxΣy)^½ where Σ = rowsᵀ rows: the nuclear norm of rows_x rows_yᵀ, or for full rank by Cholesky and eigvalsh."""
    width = rows_x.shape[1]
    if min(len(rows_x), len(rows_y)) > width:
        value = _overlap_of_covariances(rows_x.T @ rows_x, rows_y.T @ rows_y)
        if value is not None:
            return value
    rows_x, rows_y = (torch.linalg.qr(rows, mode="r").R if len(rows) > width else rows for rows in (rows_x, rows_y))
    return torch.linalg.svdvals(rows_x @ rows_y.T).sum().item()


def _overlap_of_covariances(cov_x: Matrix, cov_y: Matrix) -> float | None:
    """tr(ΣxΣy)^½ = Σ √eig(LᵀΣyL), Σx = LLᵀ; None where a root of a small eigenvalue would lose more than 1e-11 of the largest."""
    lower, failed = torch.linalg.cholesky_ex(cov_x)
    if failed:
        return None
    eigen = torch.linalg.eigvalsh(lower.T @ cov_y @ lower)
    if eigen[0] <= 1e-9 * eigen[-1]:
        return None
    return eigen.sqrt().sum().item()


def frechet_from_moments(a: Moments, b: Moments) -> float:
    """`frechet_distance` from merged moments, for sets that do not fit in memory. Needs symmetric roots where rank is short."""
    if len(a.mean) != len(b.mean):
        raise DataError(f"moments of width {len(a.mean)} and {len(b.mean)}; both must come from the same extractor")
    cov_a, cov_b = a.covariance, b.covariance
    overlap = _overlap_of_covariances(cov_a, cov_b)
    if overlap is None:
        overlap = torch.linalg.svdvals(_root(cov_a) @ _root(cov_b).T).sum().item()
    return ((a.mean - b.mean).square().sum() + cov_a.trace() + cov_b.trace()).item() - 2 * overlap


def _root(covariance: Matrix) -> Matrix:
    """R with RᵀR = covariance; eigenvalues that rounding made negative are zero."""
    values, vectors = torch.linalg.eigh(covariance)
    return values.clamp_min(0).sqrt()[:, None] * vectors.T


def frechet_null(x: Any, y: Any) -> float:
    """What `frechet_distance` expects to first order for two sets of one distribution: its bias, the floor of what it can resolve.

    (1/N + 1/M) [tr Σ + ½ Σ_ij λiλj(1 + δij)/(λi + λj)] for Gaussian features, λ the eigenvalues of the pooled covariance Σ
    (deviations from each set's own mean, N + M − 2 degrees of freedom). For N(0, I) against itself: (2d + d(d+1)/2)/N.
    Trust it from N = 2d on; below, see `frechet_null_permuted`.
    """
    x, y = pair(x, y)
    pooled = torch.cat([x - x.mean(0), y - y.mean(0)]) / (len(x) + len(y) - 2) ** 0.5
    eigen = torch.linalg.svdvals(pooled).square()
    total = eigen[:, None] + eigen[None, :]
    terms = torch.where(total > 0, eigen[:, None] * eigen[None, :] / total, 0.0)
    bracket = eigen.sum() + 0.5 * (terms.sum() + terms.diagonal().sum())
    return (1 / len(x) + 1 / len(y)) * bracket.item()


def frechet_null_permuted(x: Any, y: Any, permutations: int = 20, seed: int = 0) -> Estimate:
    """Mean distance between random halves of the pooled set, of the sizes of x and y: the floor without the Gaussian formula.

    Where x and y differ, the pooled spread holds their gap too, so this lies above `frechet_null`.
    """
    x, y = pair(x, y)
    if permutations < 1:
        raise DataError(f"permutations: found {permutations}, expected 1 or more")
    both, generator = torch.cat([x, y]), torch.Generator().manual_seed(seed)
    values = []
    for _ in range(permutations):
        order = torch.randperm(len(both), generator=generator)
        values.append(frechet_distance(both[order[: len(x)]], both[order[len(x) :]]))
    drawn = torch.tensor(values, dtype=torch.float64)
    return Estimate(drawn.mean().item(), (drawn.std() / permutations**0.5).item() if permutations > 1 else None, len(both))


def frechet_debiased(x: Any, y: Any) -> Estimate:
    """`frechet_distance` − `frechet_null`: near 0, on either side, for sets of one distribution.

    Refused (NaN, with the reason as note) where a set has fewer than 2d samples: there the first-order floor is wrong.
    """
    x, y = pair(x, y)
    least, width = min(len(x), len(y)), x.shape[1]
    if least < 2 * width:
        note = f"{least} samples of {width} features: a debiased distance needs at least {2 * width}"
        return Estimate(math.nan, None, least, note)
    return Estimate(frechet_distance(x, y) - frechet_null(x, y), None, least)


def frechet_jackknife(x: Any, y: Any, groups: int = 10) -> float:
    """Standard error of `frechet_distance` by leaving out one of `groups` interleaved groups at a time.

    Rows i of x and y are taken as paired and leave together. Near distance 0 the first-order variance vanishes and this is only
    the right order of magnitude (there, compare with `frechet_null_permuted`). Cost: `groups` distances.
    """
    x, y = matrix(x, "x"), matrix(y, "y")
    if groups < 2:
        raise DataError(f"groups: found {groups}, a jackknife needs 2 or more")
    values = torch.tensor([frechet_distance(a, b) for a, b in _without_groups(x, y, groups)], dtype=torch.float64)
    return ((groups - 1) / groups * (values - values.mean()).square().sum()).sqrt().item()


def _without_groups(x: Matrix, y: Matrix, groups: int) -> Iterator[tuple[Matrix, Matrix]]:
    for group in range(groups):
        yield x[torch.arange(len(x)) % groups != group], y[torch.arange(len(y)) % groups != group]
