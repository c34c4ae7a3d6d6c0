"""What was seen inside the networks while they trained: attention entropy, gradient norms by block, balance, error by frame."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from ..engine.journal import read_journal
from .charts import Chart, Curve, Point
from .curves import FEWEST, History, broken_off
from .outcomes import Outcomes

__all__ = ["monitor_charts", "seen_of"]

MOST = 120  # points of a curve: a long run is journaled more often than a page can show
NOTICED = 0.01  # share of rows that look at one key, from which on there is a chart of it
SIDES = (("down_blocks", "down"), ("mid_block", "mid"), ("up_blocks", "up"))
RANGE = "Mean over seeds; the band is their range."
TITLES = {
    "entropy": ("Entropy of temporal attention, {}", "Mean over layers and heads; 1 looks at all frames alike, 0 at one."),
    "low": ("Attention rows that look at one frame, {}", "Share of rows whose entropy is below .1."),
    "gradient": ("Gradient norm, {}", "Before clipping."),
    "balance": ("Balance of {}", "Norm of the term's gradient over that of the base terms, at the prediction."),
}  # fmt: skip


def seen_of(folder: Path) -> dict[int, dict[str, float]]:
    """What a run's journal says of its monitors, by update: "entropy/up", "low/up", "gradient/up, motion modules", "balance/TERM".

    Entropies are means over layers and heads, gradient norms those of all blocks of one side together.
    """
    found: dict[int, dict[str, float]] = {}
    for record in read_journal(folder):
        if record.get("event") == "monitor":
            seen = _attention(record.get("attention", {})) | _gradient(record.get("gradient", {}))
        elif "event" not in record:
            terms = {name.removesuffix("/balance"): value for name, value in record.items() if name.endswith("/balance")}
            seen = {f"balance/{name}": value for name, value in terms.items() if value is not None}
        else:
            continue
        if seen:
            found.setdefault(record["step"], {}).update(seen)
    return found


def _attention(layers: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    out = {}
    for name, what in (("entropy", "mean"), ("low", "low")):
        by_side: dict[str, list[float]] = {}
        for layer, told in layers.items():
            if told.get(what) is not None:
                by_side.setdefault(_side(layer), []).append(told[what])
        out |= {f"{name}/{side}": math.fsum(values) / len(values) for side, values in by_side.items()}
    return out


def _gradient(blocks: Mapping[str, float | None]) -> dict[str, float]:
    squares: dict[str, float] = {}
    for block, norm in blocks.items():
        if norm is not None:
            side = _side(block) + (", motion modules" if block.endswith("/motion") else "")
            squares[side] = squares.get(side, 0.0) + norm**2
    return {f"gradient/{side}": math.sqrt(square) for side, square in squares.items()}


def _side(name: str) -> str:
    return next(
        (f"{side} blocks" if side != "mid" else "mid block" for part, side in SIDES if re.search(rf"\b{part}\b", name)), "rest"
    )


def monitor_charts(o: Outcomes) -> tuple[Chart, ...]:
    """Entropy, share of sharp rows and gradient norm by side of the network, balance by term, each over updates; error by frame."""
    names = {name for seen in o.seen.values() for values in seen.values() for name in values}
    order = list(TITLES)
    charts = []
    for name in sorted(names, key=lambda name: (order.index(name.partition("/")[0]), _rank(name), name)):
        kind, _, what = name.partition("/")
        title, note = TITLES[kind]
        curves = [
            _ranged(arm, [o.seen.get((arm, seed), {}) for seed in o.recipe.compare.seeds], name, broken_off(o, arm))
            for arm in o.arms
        ]
        values = [point.value for curve in curves for point in curve.points if point.value is not None]
        shown = max(len(curve.points) for curve in curves) >= FEWEST and (kind != "low" or max(values) >= NOTICED)
        if shown:
            curves = [curve for curve in curves if curve.points]
            log = kind == "gradient" or (kind == "balance" and min(values) > 0 and max(values) / min(values) >= 8)
            charts.append(
                Chart(title.format(what), f"monitor.{name}", "updates", curves=tuple(curves), note=f"{note} {RANGE}", log=log)
            )
    return (*charts, *_by_frame(o))


def _rank(name: str) -> int:
    return next((i for i, (_, side) in enumerate(SIDES) if f"/{side} " in name), len(SIDES))


def _ranged(arm: str, histories: Sequence[History], name: str, broke: tuple[float, ...]) -> Curve:
    """Mean and range over the seeds that were still going; of a long run some updates, and every seed's last."""
    steps = sorted({step for history in histories for step in history if name in history[step]})
    every = math.ceil(len(steps) / MOST) if steps else 1
    ends = {max((step for step in history if name in history[step]), default=None) for history in histories}
    points = []
    for step in (step for i, step in enumerate(steps) if i % every == 0 or step in ends):
        values = [history[step][name] for history in histories if name in history.get(step, {})]
        many = len(values) > 1
        points.append(Point(step, float(np.mean(values)), min(values) if many else None, max(values) if many else None))
    return Curve(arm, tuple(points), broke=broke)


def _by_frame(o: Outcomes) -> tuple[Chart, ...]:
    """The last validation's error of every frame, of trials that came to their end."""
    curves = []
    for arm in o.arms:
        told = [table for seed in o.seeds(arm) if (table := o.results[arm, seed].held_out.get("by_frame"))]
        if told:
            means = np.array([table["mean"] for table in told], dtype=np.float64)
            curves.append(Curve(arm, tuple(_frame(i, means[:, i], told[0]["stderr"][i]) for i in range(means.shape[1]))))
    note = "After training, on fixed noise and levels. Pointwise 95 % intervals: Student's t over seeds; of one seed, over rows."
    return (Chart("Held-out error by frame", "by_frame", "frame", "", "lower", tuple(curves), note),) if curves else ()


def _frame(index: int, values: np.ndarray, stderr: float | None) -> Point:
    mean, reach = float(values.mean()), None if stderr is None else 1.96 * stderr
    if len(values) > 1:
        reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5)
    return Point(index, mean, None if reach is None else mean - reach, None if reach is None else mean + reach)
