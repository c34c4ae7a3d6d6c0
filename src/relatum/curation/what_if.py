"""What other thresholds would keep, from the facts that are there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import Keep
from .deciding import Decisions, without_errors
from .stages.threshold import Limit, Range, percentile

__all__ = ["Rung", "rung_lines", "what_if"]

SHARES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True)
class Rung:
    """One threshold at one value. keep: the recipe's name. setting: "at_least", "at_most", or "" for a keep without a number.

    fact: or "". value: None for no threshold. drops: clips that it drops of `clips` without an error. alone: how many are kept if
    there is nothing else; together: with everything else as it is now; only: dropped by nothing else. now: whether it is in force.
    """

    keep: str
    setting: str
    fact: str
    value: float | None
    clips: int
    drops: int
    together: int
    only: int
    now: bool

    @property
    def alone(self) -> int:
        return self.clips - self.drops


def what_if(table: Mapping[str, Sequence[Any]], keeps: Mapping[str, Keep], decisions: Decisions) -> list[Rung]:
    """A ladder for each threshold of each range: none, values at which it drops certain shares of the clips, and the one in force.

    Keeps of other kinds have one rung, as they are. Everything else is as the decisions have it: twins are not looked for anew, so
    that other rungs are estimates where there are many. The rungs in force are exact. table: as `decide` was given.
    """
    places, part = without_errors(table)
    drops = _drops(keeps, decisions, places)
    sides = {}
    for name, keep in keeps.items():
        if isinstance(keep, Range):
            sides[name] = _sides(keep, keep.numbers(part))
            drops |= {(name, setting): ~side.passes(limit) for setting, (side, limit) in sides[name].items()}
            del drops[name, ""]
    total = np.sum(list(drops.values()), axis=0) if drops else np.zeros(len(places), int)
    out = []
    for name, setting in drops:
        base = total - drops[name, setting] == 0  # what everything else keeps
        if not setting:
            lost = drops[name, ""]
            out.append(
                Rung(name, "", "", None, len(places), int(lost.sum()), int((base & ~lost).sum()), int((base & lost).sum()), True)
            )
            continue
        side, limit = sides[name][setting]
        out += _ladder(name, setting, keeps[name].needs[0], side, limit, base)
    order = list(keeps)
    return sorted(out, key=lambda rung: order.index(rung.keep))


@dataclass(frozen=True)
class _Side:
    """Values of which the low are dropped: those of a fact, or, with sign -1, their negatives. missing: NaN is dropped."""

    values: np.ndarray
    sign: int
    missing: bool

    def passes(self, limit: Limit | None) -> np.ndarray:
        if self.missing:
            return self.values >= (limit.value * self.sign if limit else -np.inf)
        return ~(self.values < limit.value * self.sign) if limit else np.ones(len(self.values), bool)


def _sides(keep: Range, values: np.ndarray) -> dict[str, tuple[_Side, Limit | None]]:
    """By setting, for each that the keep has; both where it has neither now, as too few clips have the fact."""
    low, high = keep.limits(values)
    missing = keep.on_missing == "drop"
    asked = {"at_least": low or keep.drop_lowest, "at_most": high or keep.drop_highest}
    both = {"at_least": (_Side(values, 1, missing), low), "at_most": (_Side(-values, -1, missing), high)}
    return {setting: both[setting] for setting, has in asked.items() if has}


def _drops(keeps: Mapping[str, Keep], decisions: Decisions, places: Sequence[int]) -> dict[tuple[str, str], np.ndarray]:
    """(clips,) bool by keep, from the reasons."""
    drops = {(name, ""): np.zeros(len(places), bool) for name in keeps}
    for at, place in enumerate(places):
        for reason in decisions.reasons[place]:
            drops[reason.partition(": ")[0], ""][at] = True
    return drops


def _ladder(name: str, setting: str, fact: str, side: _Side, limit: Limit | None, base: np.ndarray) -> list[Rung]:
    known = np.sort(side.values[~np.isnan(side.values)])
    among = np.sort(side.values[base & ~np.isnan(side.values)])
    unknown, unknown_among = (int(np.isnan(values).sum()) if side.missing else 0 for values in (side.values, side.values[base]))
    wanted = {percentile(known, share) for share in SHARES} if len(known) else set()
    now = limit.value * side.sign if limit else None
    rungs = []
    for value in [None, *sorted(wanted | ({now} if now is not None else set()))]:
        drops = unknown + (int(np.searchsorted(known, value)) if value is not None else 0)
        only = unknown_among + (int(np.searchsorted(among, value)) if value is not None else 0)
        shown = None if value is None else value * side.sign + 0.0  # no -0 either
        rungs.append(Rung(name, setting, fact, shown, len(base), drops, int(base.sum()) - only, only, value == now))
    return rungs


def rung_lines(rungs: Sequence[Rung]) -> list[str]:
    """The rungs as a table of plain text; "*" marks what is in force."""
    out, last = [], None
    for rung in rungs:
        here = rung.keep, rung.setting
        if here != last:
            what = f"keep.{rung.keep}" + (f".{rung.setting} ({rung.fact})" if rung.setting else "")
            out.append(f"{what:40} {'drops':>10} {'of it alone':>12} {'kept alone':>11} {'kept with all':>14}")
            last = here
        value = ("none" if rung.value is None else f"{rung.value:.4g}") if rung.setting else "as it is"
        mark = "*" if rung.now else " "
        out.append(f"  {mark} {value:36} {rung.drops:10,} {rung.only:12,} {rung.alone:11,} {rung.together:14,}")
    return out
