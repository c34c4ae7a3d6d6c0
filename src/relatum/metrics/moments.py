"""Mean and scatter of features, collected in any number of pieces; and how anybody's arrays become checked float64 matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor

from ..core.errors import DataError

__all__ = ["Matrix", "Moments", "Vector", "float64", "matrix", "pair", "weighted_moments"]

Matrix = Float64[Tensor, "_ _"]
Vector = Float64[Tensor, "_"]

LARGEST = 1e75


def matrix(features: Any, name: str, least: int = 2) -> Matrix:
    """(n, d) float64 on the CPU, from a numpy array, a tensor or nested lists; the input is not touched.

    Raises DataError that names the set where it is not two-dimensional, has fewer than `least` rows, is complex, not finite or
    beyond 1e75, whose fourth power no double holds.
    """
    try:
        tensor = float64(features)
    except (TypeError, ValueError, RuntimeError) as error:
        found = type(features).__name__
        raise DataError(f"{name}: expected numbers of shape (samples, features), found {found} ({error})") from error
    if tensor.ndim != 2 or tensor.shape[1] == 0:
        raise DataError(f"{name}: expected shape (samples, features), found {tuple(tensor.shape)}")
    if len(tensor) < least:
        raise DataError(f"{name}: {len(tensor)} samples; this needs at least {least}")
    bad = (~tensor.isfinite()).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(f"{name}: row {int(bad[0])} holds NaN or infinity ({len(bad)} such rows); find the sample that made it")
    if tensor.abs().max() > LARGEST:
        raise DataError(
            f"{name}: values up to {tensor.abs().max().item():.3g}; distances of more than {LARGEST:g} overflow, scale them"
        )
    return tensor


def float64(values: Any) -> Tensor:
    """A detached float64 copy on the CPU; lists never pass through float32, read-only arrays are welcome."""
    if values.is_complex() if isinstance(values, Tensor) else np.iscomplexobj(values):
        raise DataError("complex numbers have no distance here; give their real part")
    if isinstance(values, Tensor):
        return values.detach().to("cpu", torch.float64)
    return torch.from_numpy(np.array(values, dtype=np.float64))


def pair(x: Any, y: Any, least: int = 2) -> tuple[Matrix, Matrix]:
    """Two checked sets of equal width."""
    x, y = matrix(x, "x", least), matrix(y, "y", least)
    if x.shape[1] != y.shape[1]:
        raise DataError(f"x has {x.shape[1]} features and y has {y.shape[1]}; both must come from the same extractor")
    return x, y


@dataclass(frozen=True)
class Moments:
    """count, mean (d,) and scatter (d, d) = sum of (x - mean)(x - mean)^T, float64. Adding two gives the moments of both sets.

    Update of Chan, Golub & LeVeque (1983), eq. 2.1: exact for shards in any order, and blind to a common offset.
    """

    count: float
    mean: Vector
    scatter: Matrix

    @classmethod
    def of(cls, x: Any) -> Moments:
        """The moments of one piece, at least one sample."""
        x = matrix(x, "features", 1)
        return weighted_moments(x, torch.ones(len(x), dtype=torch.float64))

    def __add__(self, other: Moments) -> Moments:
        if len(self.mean) != len(other.mean):
            raise DataError(f"features of width {len(self.mean)} and {len(other.mean)} do not merge")
        count, delta = self.count + other.count, other.mean - self.mean
        scatter = self.scatter + other.scatter + torch.outer(delta, delta) * (self.count * other.count / count)
        return Moments(count, self.mean + delta * (other.count / count), scatter)

    @property
    def covariance(self) -> Matrix:
        """Unbiased (ddof 1)."""
        if self.count < 2:
            raise DataError(f"{self.count:g} samples; a covariance needs at least 2")
        return self.scatter / (self.count - 1)


def weighted_moments(x: Matrix, weights: Vector) -> Moments:
    """The moments of x with row i counted weights[i] times. Centered on a first mean, so that an offset costs no digits."""
    count = weights.sum().item()
    first = x.mean(0)
    centered = x - first
    rest = (weights[:, None] * centered).sum(0) / count
    centered = centered - rest
    return Moments(count, first + rest, centered.T @ (weights[:, None] * centered))
