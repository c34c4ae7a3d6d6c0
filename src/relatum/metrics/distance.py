"""All distances between sets of features in one place, with their multiplicity-weighted forms for the bootstrap of compare."""

from .frechet import (
    frechet_debiased,
    frechet_distance,
    frechet_from_moments,
    frechet_jackknife,
    frechet_null,
    frechet_null_permuted,
    weighted_frechet,
)
from .kernel import kernel_distance, kernel_distance_subsets, kernel_estimate, weighted_kernel
from .moments import Moments

__all__ = [
    "Moments",
    "frechet_debiased",
    "frechet_distance",
    "frechet_from_moments",
    "frechet_jackknife",
    "frechet_null",
    "frechet_null_permuted",
    "kernel_distance",
    "kernel_distance_subsets",
    "kernel_estimate",
    "weighted_frechet",
    "weighted_kernel",
]
