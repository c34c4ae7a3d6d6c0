"""Curves over training: held-out errors with the right text, a wrong one and none, and what watched benchmarks answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy import stats

from ..engine.journal import read_journal
from ..jobs.asking import answers_of
from .charts import Chart, Curve, Point
from .outcomes import Outcomes

__all__ = ["FEWEST", "History", "broken_off", "history_of", "training_charts"]

History = Mapping[int, Mapping[str, float]]
"""Numbers by name, by the updates made so far."""

ERRORS = {
    "matched_error": "held-out error",
    "null_error": "held-out error without text",
    "negative_error": "held-out error, wrong text",
}
FEWEST = 3  # validations that make a curve
NOTE = "Pointwise 95 % intervals over seeds: Student's t. The averaged weights where a run has them."
BROKE = " From a cross on, the mean is of the seeds that did not diverge."


def history_of(folder: Path) -> dict[int, dict[str, float]]:
    """What a run's journal and its matching.jsonl say of its validations."""
    found: dict[int, dict[str, float]] = {}
    for record in read_journal(folder):
        if record.get("event") == "validation":
            held_out = record.get("held_out", {})
            found[record["step"]] = {name: held_out[name]["mean"] for name in ERRORS if name in held_out}
    for step, values in answers_of(folder).items():
        found.setdefault(step, {}).update(values)
    return found


def training_charts(o: Outcomes) -> tuple[Chart, ...]:
    """One chart a number that was told at three validations or more."""
    names = dict.fromkeys(name for history in o.histories.values() for values in history.values() for name in values)
    charts = []
    for name in names:
        if name.count(".") > 1:  # a benchmark's single kinds: too few items while training
            continue
        seeds = o.recipe.compare.seeds
        curves = [_curve(arm, [o.histories.get((arm, seed), {}) for seed in seeds], name, broken_off(o, arm)) for arm in o.arms]
        if max(len(curve.points) for curve in curves) >= FEWEST:
            error = name in ERRORS
            title = ERRORS.get(name, f"{name} while training")
            better = "neither" if error and name != "matched_error" else "lower" if error else "higher"
            note = NOTE + (BROKE if any(curve.broke for curve in curves) else "")
            charts.append(Chart(title, name, "updates", "", better, tuple(curves), note, log=error))
    return tuple(charts)


def broken_off(o: Outcomes, arm: str) -> tuple[float, ...]:
    """The updates at which the arm's trials diverged."""
    return tuple(sorted({float(one.update) for one in o.divergences if one.arm == arm and one.update is not None}))


def _curve(arm: str, histories: Sequence[History], name: str, broke: tuple[float, ...]) -> Curve:
    points = []
    for step in sorted({step for history in histories for step in history}):
        values = np.array([history[step][name] for history in histories if name in history.get(step, {})])
        if not len(values):
            continue
        reach = None
        if len(values) > 1:
            reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
        mean = float(values.mean())
        points.append(Point(step, mean, None if reach is None else mean - reach, None if reach is None else mean + reach))
    return Curve(arm, tuple(points), broke=broke)
