"""Intervals for arms: the unit of replication is the training seed; within a seed, sources are paired over arms.

Scores are (seeds, sources) arrays, NaN where a metric is undefined. Sources are the same held-out rows for every seed and arm
(a crossed design), so one resample draws seeds, then one set of source multiplicities that all seeds, arms and metrics share.
Drawing sources anew within each seed would average the sources' variance away over the seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int
from scipy import stats

__all__ = ["ONE_SEED", "Bootstrap", "Interval", "Scores", "Statistic", "paired", "rank_agreement"]

Scores = Float[np.ndarray, "seeds sources"]
Statistic = Callable[[np.ndarray, np.ndarray], float]

RARE = 0.05  # share of resamples without a value, from which on it is said
ONE_SEED = "one seed: says nothing about retraining"


@dataclass(frozen=True)
class Interval:
    """An estimate with its limits. n: defined (seed, source) scores. undefined: those left out. stderr: None where unknowable."""

    value: float
    low: float
    high: float
    stderr: float | None
    n: int
    seeds: int
    undefined: int = 0
    note: str = ""


@dataclass(frozen=True)
class Bootstrap:
    """The resamples of one comparison: every arm and metric that uses the same object shares its indices.

    Limits are the percentiles of the hierarchical bootstrap, recentered on the estimate (a resample of a distance is biased upward)
    and stretched for small samples: by the corrected standard error over the bootstrap's, and by Student's t over the normal
    quantile with Satterthwaite's degrees of freedom over the two levels (Hesterberg 2015, section 4). Of nominal 95 %, with a seed
    sd half the sources' and 40 sources, that covers 92 % for three seeds and 95 % for six; plain percentiles 86 and 93. The
    corrected variance adds s^2/S of the seed means and the source level's variance; their common residual counts twice, which errs
    on the wide side (Owen 2007, the pigeonhole bootstrap).

    clusters: for each source the number of its group, such as the video that several rows are from; empty where every source
    stands for itself. Groups are drawn whole: rows of one video say the same thing again (Davison & Hinkley 1997, section 3.8).
    """

    seeds: int
    sources: int
    resamples: int = 2000
    seed: int = 0
    confidence: float = 0.95
    clusters: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.seeds < 1 or self.sources < 1 or self.resamples < 2:
            raise ValueError(f"a bootstrap needs seeds, sources and two resamples, found {self}")
        if self.clusters and len(self.clusters) != self.sources:
            raise ValueError(f"{len(self.clusters)} clusters for {self.sources} sources")

    @property
    def independent(self) -> int:
        """How many sources stand for themselves: groups, where there are some."""
        return len(set(self.clusters)) if self.clusters else self.sources

    @cached_property
    def seed_weights(self) -> Int[np.ndarray, "resamples seeds"]:
        """How often each seed was drawn."""
        draws = np.random.default_rng((self.seed, 0))
        return draws.multinomial(self.seeds, np.full(self.seeds, 1 / self.seeds), self.resamples)

    @cached_property
    def source_weights(self) -> Int[np.ndarray, "resamples sources"]:
        """How often each source was drawn: its multiplicity, that of its group."""
        draws, count = np.random.default_rng((self.seed, 1)), self.independent
        drawn = draws.multinomial(count, np.full(count, 1 / count), self.resamples)
        return drawn[:, np.unique(self.clusters, return_inverse=True)[1]] if self.clusters else drawn

    def mean(self, scores: Scores, trained: bool = True) -> Interval:
        """The mean over seeds of each seed's mean over sources. trained=False: a control, which has no training seed."""
        self._check(scores)
        known = ~np.isnan(scores)
        filled = np.where(known, scores, 0.0)
        base = _ratio(filled.sum(1), known.sum(1))
        by_seed = _ratio(self.source_weights @ filled.T, self.source_weights @ known.T)
        return self._interval(base, by_seed, int(known.sum()), int((~known).sum()), trained)

    def difference(self, arm: Scores, baseline: Scores) -> Interval:
        """arm - baseline, paired by seed and source. A pair with an undefined side is left out and counted."""
        return self.mean(paired(arm, baseline))

    def distance(self, statistics: Sequence[Statistic], trained: bool = True) -> Interval:
        """A distribution metric (fd, kd): one `statistic(weights_x, weights_y) -> float` a seed, of that seed's outputs against the
        references. Weights are multiplicities (sources,), shared by an output and the reference of the same source.

        A naive bootstrap repeats rows, and a U-statistic then compares a row with itself: kd comes out too large by about
        (E k(x, x) - E k(x, x')) / n for each side. Multiplicities keep the pairs of *distinct* rows only.
        """
        return self._distances([statistics], trained)

    def distance_difference(self, arm: Sequence[Statistic], baseline: Sequence[Statistic]) -> Interval:
        """arm - baseline of a distribution metric; both sides share the weights."""
        return self._distances([arm, baseline], True)

    def _distances(self, arms: Sequence[Sequence[Statistic]], trained: bool) -> Interval:
        for statistics in arms:
            if len(statistics) != self.seeds:
                raise ValueError(f"found {len(statistics)} statistics for {self.seeds} seeds")
        signs = [1.0, -1.0][: len(arms)]

        def at(weights: np.ndarray) -> np.ndarray:
            rows = [[statistic(weights, weights) for statistic in statistics] for statistics in arms]
            return sum(sign * np.asarray(row, dtype=np.float64) for sign, row in zip(signs, rows, strict=True))  # type: ignore[return-value]

        base = at(np.ones(self.sources))
        nothing = np.full(self.seeds, np.nan)  # one row drawn over and over: it has no distance to speak of
        resamples = self.source_weights.astype(np.float64)
        by_seed = np.stack([at(weights) if np.count_nonzero(weights) > 1 else nothing for weights in resamples])
        found = self._interval(base, by_seed, self.sources * int((~np.isnan(base)).sum()), 0, trained)
        said, lost = [found.note] if found.note else [], int(np.isnan(base).sum())
        if 0 < lost < self.seeds:
            said.append(f"undefined in {lost} of {self.seeds} seeds")
        if found.seeds and (bare := float(np.isnan(by_seed[:, ~np.isnan(base)]).mean())) >= RARE:
            said.append(f"the interval leaves out {bare:.0%} of the resamples, where it is undefined")
        return replace(found, note="; ".join(said))

    def _check(self, scores: np.ndarray) -> None:
        if scores.shape != (self.seeds, self.sources):
            raise ValueError(f"found scores of shape {scores.shape}, expected ({self.seeds} seeds, {self.sources} sources)")

    def _interval(self, base: np.ndarray, by_seed: np.ndarray, n: int, undefined: int, trained: bool) -> Interval:
        """base: (seeds,) on all sources. by_seed: (resamples, seeds) on the resampled sources."""
        notes = [f"{undefined} undefined"] if undefined else []
        used = ~np.isnan(base)
        base, by_seed, seed_weights = base[used], by_seed[:, used], self.seed_weights[:, used]
        seeds = int(used.sum())
        if seeds == 0:
            return Interval(np.nan, np.nan, np.nan, None, 0, 0, undefined, "; ".join([*notes, "nothing defined"]))
        if seeds == 1 and trained:
            notes.append(ONE_SEED)
        value = float(base.mean())
        sources = min(n / seeds, self.independent)
        if seeds == 1 and sources < 2:
            return Interval(value, np.nan, np.nan, None, n, seeds, undefined, "; ".join([*notes, "one sample: no interval"]))
        both = _ratio(np.nansum(by_seed * seed_weights, 1), (seed_weights * ~np.isnan(by_seed)).sum(1))
        low, high, stderr = self._limits(value, base, by_seed, both[~np.isnan(both)], max(sources, 1.0))
        return Interval(value, low, high, stderr, n, seeds, undefined, "; ".join(notes))

    def _limits(
        self, value: float, base: np.ndarray, by_seed: np.ndarray, both: np.ndarray, sources: float
    ) -> tuple[float, float, float]:
        seeds = len(base)
        known = by_seed[~np.isnan(by_seed).any(1)]
        over_sources = float(known.mean(1).var()) * sources / (sources - 1) if sources > 1 and len(known) > 1 else 0.0
        over_seeds = float(base.var(ddof=1)) / seeds if seeds > 1 else 0.0
        variance, spread = over_sources + over_seeds, float(both.std())
        if spread <= 1e-12 * abs(value) or variance == 0:
            return value, value, variance**0.5
        freedom = variance**2 / (over_seeds**2 / max(seeds - 1, 1) + over_sources**2 / max(sources - 1, 1))
        tail = (1 - self.confidence) / 2
        stretch = stats.t.ppf(1 - tail, freedom) * variance**0.5 / (stats.norm.ppf(1 - tail) * spread)
        low, high = np.quantile(both, [tail, 1 - tail]) - both.mean()
        return value + float(stretch * low), value + float(stretch * high), variance**0.5


def paired(arm: Scores, baseline: Scores) -> Scores:
    """arm - baseline, NaN where either is undefined."""
    if arm.shape != baseline.shape:
        raise ValueError(f"arms are not paired: shapes {arm.shape} and {baseline.shape}")
    return arm.astype(np.float64) - baseline.astype(np.float64)


def rank_agreement(
    oracle: Float[np.ndarray, "n"], learned: Float[np.ndarray, "n"], resamples: int = 1000, seed: int = 0
) -> Interval:
    """Spearman's rank correlation of two metrics over the same samples, with a percentile bootstrap over samples.

    NaN where fewer than three pairs are defined or a side is constant.
    """
    known = ~(np.isnan(oracle) | np.isnan(learned))
    x, y, undefined = oracle[known], learned[known], int((~known).sum())
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Interval(
            np.nan, np.nan, np.nan, None, len(x), 1, undefined, "too few samples or a constant side: no ranks to compare"
        )
    picks = np.random.default_rng((seed, 2)).integers(0, len(x), (resamples, len(x)))
    ranks_x, ranks_y = stats.rankdata(x[picks], axis=1), stats.rankdata(y[picks], axis=1)
    centered_x, centered_y = ranks_x - ranks_x.mean(1, keepdims=True), ranks_y - ranks_y.mean(1, keepdims=True)
    norms = np.sqrt((centered_x**2).sum(1) * (centered_y**2).sum(1))
    draws = (centered_x * centered_y).sum(1)[norms > 0] / norms[norms > 0]
    low, high = np.quantile(draws, [0.025, 0.975])
    value = float(np.corrcoef(stats.rankdata(x), stats.rankdata(y))[0, 1])
    return Interval(value, float(low), float(high), float(draws.std(ddof=1)), len(x), 1, undefined)


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where bottom is 0."""
    return np.divide(top, bottom, out=np.full(np.shape(top), np.nan), where=bottom > 0)
