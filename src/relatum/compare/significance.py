"""Exact tests over training seeds and over sources, and the correction for a family of metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy import stats

__all__ = ["ENOUGH_SEEDS", "McNemar", "holm", "mcnemar", "sign_flip", "superiority", "wilcoxon"]

ENOUGH_SEEDS = 6  # the least that can reach p < .05 two-sided: 2 / 2^6 = .03125, 2 / 2^5 = .0625


class McNemar(NamedTuple):
    """only_arm, only_baseline: items that exactly one of the two has right."""

    only_arm: int
    only_baseline: int
    p: float


def sign_flip(differences: Float[np.ndarray, "seeds"]) -> float:
    """Two-sided p of the mean difference over seeds, by all 2^n sign patterns (Fisher 1935). Least possible: 2 / 2^n.

    NaN seeds are left out; NaN when none is left. Exact for up to 22 seeds; more raise ValueError.
    """
    known = np.asarray(differences, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) == 0:
        return float("nan")
    if len(known) > 22:
        raise ValueError(f"the exact sign-flip test enumerates 2^n patterns; found {len(known)} seeds, expected at most 22")
    sums = np.zeros(1)
    for step in known:
        sums = np.concatenate([sums + step, sums - step])
    slack = 1e-12 * np.abs(known).sum()  # the observed pattern itself must count, whatever the order of the sum
    return float((np.abs(sums) >= abs(known.sum()) - slack).mean())


def wilcoxon(differences: Float[np.ndarray, "seeds sources"]) -> float:
    """Two-sided Wilcoxon signed-rank p over sources, each source's difference averaged over its seeds (Wilcoxon 1945).

    It speaks of other sources for these trained weights, not of other trainings. Zeros are dropped; 1.0 when all are zero.
    """
    known = ~np.isnan(differences)
    counts = known.sum(0)
    means = np.where(known, differences, 0.0).sum(0)[counts > 0] / counts[counts > 0]
    if len(means) == 0:
        return float("nan")
    moved = means[means != 0]
    return float(stats.wilcoxon(moved)[1]) if len(moved) else 1.0  # type: ignore[arg-type]


def superiority(differences: Float[np.ndarray, "seeds sources"], better: str) -> float:
    """Probability that the arm beats the baseline on the same seed and source, ties counted half (Vargha & Delaney 2000)."""
    known = differences[~np.isnan(differences)]
    if len(known) == 0:
        return float("nan")
    gains = known if better == "higher" else -known
    return float((gains > 0).mean() + 0.5 * (gains == 0).mean())


def mcnemar(arm: Bool[np.ndarray, "items"], baseline: Bool[np.ndarray, "items"]) -> McNemar:
    """Exact McNemar test of two accuracies on the same items of one seed: a binomial of the items that exactly one has right."""
    if arm.shape != baseline.shape:
        raise ValueError(f"items are not paired: {arm.shape} and {baseline.shape}")
    only_arm, only_baseline = int((arm & ~baseline).sum()), int((~arm & baseline).sum())
    discordant = only_arm + only_baseline
    p = float(stats.binomtest(only_arm, discordant, 0.5).pvalue) if discordant else 1.0
    return McNemar(only_arm, only_baseline, p)


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Holm's step-down adjustment over a family (Holm 1979). NaN (not testable) stays NaN and does not count in the family."""
    family = sorted((name for name, p in p_values.items() if not np.isnan(p)), key=lambda name: p_values[name])
    adjusted, floor = {name: float("nan") for name in p_values}, 0.0
    for rank, name in enumerate(family):
        floor = max(floor, min(1.0, (len(family) - rank) * p_values[name]))
        adjusted[name] = floor
    return adjusted
