"""The page's numbers from a run's arrays: bins, who dropped what alone, groups of duplicates, and all of it as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from .view import Curated, Filter

__all__ = ["Bins", "dropped_by", "groups", "histogram", "independent", "marks", "numbers_of", "passes"]


@dataclass(frozen=True)
class Bins:
    """Clips by a fact's value: edges (k + 1,), kept and dropped (k,), the last bin closed. below, above: (kept, dropped) outside of
    the edges (on a logarithmic scale, zeros are below). log: whether edges grow by a factor. missing: clips without the fact."""

    edges: np.ndarray
    kept: np.ndarray
    dropped: np.ndarray
    below: tuple[int, int] = (0, 0)
    above: tuple[int, int] = (0, 0)
    log: bool = False
    missing: int = 0

    @property
    def count(self) -> int:
        return int(self.kept.sum() + self.dropped.sum()) + sum(self.below) + sum(self.above)


def histogram(values: np.ndarray, keep: np.ndarray, at: Sequence[float] = (), count: int | None = None) -> Bins:
    """Bins of a fact. values: (n,), NaN where missing. at: thresholds, which will be edges.

    Logarithmic where positive values span more than 30-fold (5th to 95th percentile) and none, nor a threshold, is negative.
    Whole numbers of a short range have a bin each. Single values far outside are counted beside the edges, not drawn to scale.
    """
    known = np.isfinite(values)
    found, kept, missing = values[known].astype(np.float64), keep[known], int((~known).sum())
    if not len(found):
        return Bins(np.zeros(1), np.zeros(0, int), np.zeros(0, int), missing=missing)
    positive = found[found > 0]
    log = bool(found.min() >= 0) and all(mark > 0 for mark in at) and _reach(positive) > 30
    edges = _edges(positive if log else found, at, log, count or min(48, max(12, math.ceil(2 * len(found) ** 0.5))))
    for end in edges[[0, -1]]:
        found[np.abs(found - end) <= 1e-9 * abs(end)] = end  # rounding shall not push what lies on an end over it
    sides = [(int((side & kept).sum()), int((side & ~kept).sum())) for side in (found < edges[0], found > edges[-1])]
    bins = [np.histogram(found[part], edges)[0] for part in (kept, ~kept)]
    return Bins(edges, bins[0], bins[1], sides[0], sides[1], log, missing)


def _reach(positive: np.ndarray) -> float:
    if len(positive) < 2:
        return 1.0
    low, high = np.quantile(positive, [0.05, 0.95])
    return float(high / low)


def _edges(found: np.ndarray, marks: Sequence[float], log: bool, count: int) -> np.ndarray:
    low, high = float(found.min()), float(found.max())
    whole = [round(mark) for mark in marks if abs(mark - round(mark)) < 1e-9]
    if not log and len(whole) == len(marks) and np.array_equal(found, np.round(found)):
        low, high = min([low, *whole]), max([high, *whole])
        if 0 < high - low < 48:
            return np.arange(low, high + 2) - 0.5
    scaled, at = (np.log10(found), [math.log10(mark) for mark in marks]) if log else (found, list(marks))
    first, last = (float(q) for q in np.quantile(scaled, [0.005, 0.995]))
    room = (last - first) / 4
    low, high = max(float(scaled.min()), first - room), min(float(scaled.max()), last + room)
    low, high = min([low, *at]), max([high, *at])
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-300):
        room = abs(high) / 10 or 0.5
        low, high = low - room, high + room
    edges = _through(at, low, high, (high - low) / count)
    edges = 10**edges if log else edges
    for mark in marks:
        edges[np.abs(edges - mark).argmin()] = mark
    return edges


def _through(at: Sequence[float], low: float, high: float, width: float) -> np.ndarray:
    """Edges from low to high, even by about this width but for the outer bins, through all of `at`; none of these is an end."""
    if not at:
        return np.linspace(low, high, round((high - low) / width) + 1)
    apart = max(at) - min(at)
    width = apart / max(1, round(apart / width)) if apart > width / 2 else width
    low, high = low - width * (min(at) - low < width / 1e6), high + width * (high - max(at) < width / 1e6)
    before, after = math.ceil((min(at) - low) / width), math.ceil((high - min(at)) / width)
    grid = min(at) + width * np.arange(-before, after + 1)
    clear = (grid > low + width / 4) & (grid < high - width / 4)
    clear &= np.abs(grid[:, None] - np.array(at)).min(1) > width / 1e6
    return np.unique(np.array([low, high, *at, *grid[clear]]))


def marks(view: Curated, fact: str) -> list[float]:
    """Limits of all thresholds on a fact, as edges of bins: what equals an upper limit lies below its edge, as it is kept."""
    lines = [line for line in view.thresholds if line.fact == fact]
    above = [float(np.nextafter(line.high, math.inf)) for line in lines if line.high is not None]
    return [*(line.low for line in lines if line.low is not None), *above]


def passes(values: np.ndarray, low: float | None, high: float | None) -> np.ndarray:
    """(n,) bool: known and within the limits."""
    inside = np.isfinite(values)
    inside &= True if low is None else values >= low
    return inside & (True if high is None else values <= high)


def dropped_by(filters: Sequence[Filter], n: int) -> np.ndarray:
    """(n,) how many filters drop each clip."""
    return sum((found.drops.astype(np.int64) for found in filters), np.zeros(n, np.int64))


def independent(filters: Sequence[Filter]) -> float:
    """The share of the clips that would be left if the filters dropped independently: the product of what each alone leaves."""
    judged = [(found.drops.sum(), len(found.drops) if found.seen is None else found.seen) for found in filters]
    return math.prod(1 - float(dropped) / seen for dropped, seen in judged if seen)


def groups(ids: Sequence[str], twin: Sequence[str]) -> list[list[int]]:
    """Places of near-duplicates: the clip that stands for a group, then those that it stands for; largest group first."""
    place = {name: at for at, name in enumerate(ids)}
    found: dict[str, list[int]] = {}
    for at, name in enumerate(twin):
        if name:
            found.setdefault(name, []).append(at)
    return sorted(([place[name], *rest] if name in place else rest for name, rest in found.items()), key=lambda g: (-len(g), g))


def numbers_of(view: Curated) -> dict[str, Any]:
    """All numbers of the page, as JSON can write them."""
    clips, hits = view.clips, dropped_by(view.filters, len(view.clips))
    return {
        "schema": 1,
        "name": view.name,
        "created": view.created,
        "steps": [asdict(step) for step in view.steps],
        "clips": {"count": len(clips), "seconds": clips.seconds, "kept": clips.kept, "kept_seconds": clips.kept_seconds},
        "unused_seconds": dict(view.unused),
        "independent_share": independent(view.filters),
        "filters": [
            {
                "name": found.name,
                "line": found.line,
                "dropped": int(found.drops.sum()),
                "only_by_this": int((found.drops & (hits == 1)).sum()),
                "missing": found.missing,
                "note": found.note,
            }
            for found in view.filters
        ],
        "thresholds": [asdict(line) for line in view.thresholds],
        "facts": {name: _bins(histogram(values, clips.keep, marks(view, name))) for name, values in view.facts.items()},
        "labels": {name: {word: list(pair) for word, pair in words.items()} for name, words in view.labels.items()},
        "duplicate_groups": len(groups(clips.id, clips.twin)),
        "clip_errors": len(clips.errors),
        "troubles": _counts([(found.status, found.reason) for found in view.troubles]),
        "costs": [asdict(cost) for cost in view.costs],
        "wall_seconds": view.wall,
        "workers": view.workers,
        "identities": dict(view.identities),
        "versions": dict(view.versions),
        "warnings": list(view.warnings),
    }


def _bins(found: Bins) -> dict[str, Any]:
    arrays = {name: getattr(found, name).tolist() for name in ("edges", "kept", "dropped")}
    return {**arrays, "below": found.below, "above": found.above, "log": bool(found.log), "missing": found.missing}


def _counts(pairs: Sequence[tuple[str, str]]) -> list[dict[str, Any]]:
    return [{"status": pair[0], "reason": pair[1], "count": pairs.count(pair)} for pair in sorted(set(pairs))]
