"""From paired scores to a verdict in words: better, no worse, no evidence, worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .schema import Cost, Difference, Estimate, Measure
from .significance import ENOUGH_SEEDS, holm, mcnemar, sign_flip, superiority, wilcoxon
from .statistics import ONE_SEED, Bootstrap, Interval, Scores, Statistic, paired

__all__ = ["cost_ratio", "difference_of_distances", "difference_of_means", "estimate_of", "judge"]


def estimate_of(arm: str, metric: str, interval: Interval) -> Estimate:
    """The report's row for an interval."""
    return Estimate(
        arm, metric, interval.value, interval.low, interval.high, interval.stderr, interval.n, interval.seeds, interval.note
    )


def difference_of_means(
    measure: Measure, names: tuple[str, str], arm: Scores, baseline: Scores, bootstrap: Bootstrap
) -> Difference:
    """Unjudged difference of a metric that is a mean over samples. names: (arm, baseline). Undefined scores are NaN."""
    steps = paired(arm, baseline)
    known = ~np.isnan(steps)
    counts = known.sum(1)
    by_seed = np.divide(np.where(known, steps, 0.0).sum(1), counts, out=np.full(len(steps), np.nan), where=counts > 0)
    return replace(
        _difference(measure, names, bootstrap.mean(steps), by_seed),
        p_wilcoxon=_finite(wilcoxon(grouped(steps, bootstrap.clusters))),
        superiority=_finite(superiority(steps, measure.better)),
        p_mcnemar=_items(steps) if _right_or_wrong(arm, baseline) and not bootstrap.clusters else None,
    )


def grouped(steps: Scores, clusters: Sequence[int]) -> np.ndarray:
    """Mean step of every group of sources, where sources come in groups: (seeds, groups)."""
    if not clusters:
        return steps
    labels = np.asarray(clusters)
    known = ~np.isnan(steps)
    members = (labels[:, None] == np.unique(labels)).astype(np.float64)
    counts = known @ members
    return np.divide(np.where(known, steps, 0.0) @ members, counts, out=np.full(counts.shape, np.nan), where=counts > 0)


def _right_or_wrong(arm: Scores, baseline: Scores) -> bool:
    """Whether every defined score is 0 or one positive value (1, or 100 for percent)."""
    values = np.unique(np.concatenate([scores[~np.isnan(scores)] for scores in (arm, baseline)]))
    return bool(len(values) == 2 and values[0] == 0)


def _items(steps: Scores) -> float:
    """McNemar's p with each source counted once: for the side that has it right in more seeds. One seed: McNemar's test itself."""
    totals = np.nansum(steps, 0)
    return mcnemar(totals > 0, totals < 0).p


def difference_of_distances(
    measure: Measure, names: tuple[str, str], arm: Sequence[Statistic], baseline: Sequence[Statistic], bootstrap: Bootstrap
) -> Difference:
    """Unjudged difference of a distribution metric: one weighted statistic a seed and arm, in the order of the seeds."""
    ones = np.ones(bootstrap.sources)
    by_seed = np.array([a(ones, ones) - b(ones, ones) for a, b in zip(arm, baseline, strict=True)])
    return _difference(measure, names, bootstrap.distance_difference(arm, baseline), by_seed)


def _difference(measure: Measure, names: tuple[str, str], interval: Interval, by_seed: np.ndarray) -> Difference:
    known = int((~np.isnan(by_seed)).sum())
    return Difference(
        arm=names[0],
        baseline=names[1],
        metric=measure.metric,
        estimate=interval.value,
        low=interval.low,
        high=interval.high,
        seeds=interval.seeds,
        n=interval.n,
        by_seed=tuple(by_seed.tolist()),
        p_sign_flip=_finite(sign_flip(by_seed)) if known > 1 else None,
        undefined=interval.undefined,
        note=interval.note,
    )


def cost_ratio(arm: Cost | None, baseline: Cost | None) -> float | None:
    """Time a step of the arm over that of the baseline: 1.03 is 3 % dearer. None where a side was not measured."""
    if arm is None or baseline is None or not arm.steps_per_second or not baseline.steps_per_second:
        return None
    return baseline.steps_per_second / arm.steps_per_second


def judge(
    differences: Sequence[Difference], measures: Sequence[Measure], headline: str, cost_ratio: float | None = None
) -> tuple[Difference, ...]:
    """The differences of one arm, with Holm over its metrics, verdict and words.

    "better" and "worse" need an interval clear of zero and, where the seeds allow it, p < .05 of the sign-flip test: the headline
    its own, because it was declared in advance, every other metric Holm's. Where the test cannot reach .05 (under six seeds, or
    2 m / 2^n >= .05 for m metrics) the interval decides and the verdict is marked seed-limited. One seed gives no evidence on a
    way of training. "no worse": the interval stays on the good side of the smallest effect of interest.
    """
    by_name = {measure.metric: measure for measure in measures}
    adjusted = holm({d.metric: math.nan if d.p_sign_flip is None else d.p_sign_flip for d in differences})
    family = sum(not math.isnan(p) for p in adjusted.values())
    judged = []
    for d in differences:
        tests = 1 if d.metric == headline else family
        limited = d.seeds < ENOUGH_SEEDS or tests * 2 / 2**d.seeds >= 0.05
        p = d.p_sign_flip if d.metric == headline else adjusted[d.metric]
        d = replace(d, p_holm=_finite(adjusted[d.metric]), seed_limited=limited)
        verdict = _verdict(d, by_name[d.metric], p)
        words = _words(replace(d, verdict=verdict), by_name[d.metric], d.metric == headline, tests, cost_ratio)
        judged.append(replace(d, verdict=verdict, words=words))
    return tuple(judged)


def _verdict(d: Difference, measure: Measure, p: float | None) -> str:
    if d.seeds < 2 or d.low is None or d.high is None:
        return "no evidence"
    worst, best = (d.low, d.high) if measure.better == "higher" else (-d.high, -d.low)
    confirmed = d.seed_limited or (p is not None and p < 0.05)
    if confirmed and worst > 0:
        return "better"
    if confirmed and best < 0:
        return "worse"
    if measure.smallest_effect is not None and worst > -measure.smallest_effect:
        return "no worse"
    return "no evidence"


def _words(d: Difference, measure: Measure, headline: bool, tests: int, ratio: float | None) -> str:
    """One sentence a fact, so that a reader sees what the verdict rests on."""
    if d.estimate is None:
        return f"{measure.label}: {d.note}."
    says = {
        "better": f"{d.arm} is better than {d.baseline}",
        "worse": f"{d.arm} is worse than {d.baseline}",
        "no worse": f"{d.arm} is no worse than {d.baseline}",
        "no evidence": f"No evidence that {d.arm} and {d.baseline} differ",
    }
    parts = [f"{says[d.verdict]} in {measure.label}"]
    if d.verdict == "no worse":
        parts[0] += f": any loss is smaller than {measure.smallest_effect:g}, the smallest effect of interest"
    if d.seeds < 2:
        parts.append(ONE_SEED[0].upper() + ONE_SEED[1:])
    elif d.seed_limited:
        least = min(1.0, tests * 2 / 2**d.seeds)
        what = "p" if headline or tests == 1 else f"p, corrected for {tests} metrics,"
        parts.append(f"Seed-limited: with {d.seeds} seeds the sign-flip test's {what} cannot fall below {least:.2g}")
    elif d.verdict in ("no evidence", "no worse") and d.low is not None and d.high is not None and d.low * d.high > 0:
        parts.append("The interval is clear of zero, but the sign-flip test over seeds does not confirm it")
    if ratio is not None:
        parts.append(f"A step costs {ratio:.2f} times the baseline's")
    return ". ".join(parts) + "."


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
