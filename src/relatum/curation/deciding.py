"""From facts to kept and dropped: every keep is asked about all clips, and every reason is written down."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import DataError, RecipeError
from ..core.load import near
from .base import Keep, Verdict

__all__ = ["Decisions", "decide", "without_errors"]

ERROR, KEPT = "error", "kept"


@dataclass(frozen=True)
class Decisions:
    """What becomes of each clip. ids, keep, reasons, dup_of: one entry a clip, in the table's order.

    reasons: all of them, "NAME: words" by the recipe's name of the keep; none of a clip that is kept. A clip with an error has that
    one only, as its facts say little. dup_of: the clip that is kept for it, or "". thresholds: as they came out, by keep. lines:
    for people.
    """

    ids: Sequence[str]
    keep: np.ndarray
    reasons: Sequence[Sequence[str]]
    dup_of: Sequence[str]
    thresholds: Mapping[str, Mapping[str, Any]]
    lines: Sequence[str]

    def columns(self) -> dict[str, list[Any]]:
        """Those of decisions.parquet."""
        return {
            "clip_id": list(self.ids),
            "keep": [bool(one) for one in self.keep],
            "reasons": [list(reasons) for reasons in self.reasons],
            "dup_of": list(self.dup_of),
        }

    def document(self) -> dict[str, Any]:
        """That of decision.json."""
        return {"thresholds": {name: dict(found) for name, found in self.thresholds.items()}, "lines": list(self.lines)}

    @classmethod
    def read(cls, columns: Mapping[str, Sequence[Any]], document: Mapping[str, Any]) -> Decisions:
        """What `columns` and `document` gave."""
        try:
            keep = np.array([bool(one) for one in columns["keep"]], dtype=bool)
            reasons = [tuple(reasons) for reasons in columns["reasons"]]
            return cls(list(columns["clip_id"]), keep, reasons, list(columns["dup_of"]), document["thresholds"], document["lines"])
        except (KeyError, TypeError) as error:
            raise DataError(f"no decisions: {error!r}; give the command again to decide anew") from error


def without_errors(table: Mapping[str, Sequence[Any]]) -> tuple[list[int], dict[str, Sequence[Any]]]:
    """The places of the clips that have no error, and their part of the table."""
    errors = table.get(ERROR, ())
    if not any(errors):
        return list(range(len(table["id"]))), dict(table)
    places = [place for place, error in enumerate(errors) if not error]
    return places, {name: [column[place] for place in places] for name, column in table.items()}


def decide(table: Mapping[str, Sequence[Any]], keeps: Mapping[str, Keep]) -> Decisions:
    """Asks each keep about all clips of which no stage failed; those that failed are dropped for that.

    table: columns as a Keep sees them, and "error". A share of the corpus is therefore one of all measured clips, whatever other
    keeps drop, as Stable Video Diffusion has it; keeps that need "kept" come last and see who is left. Nothing depends on the order
    of the clips. RecipeError for a fact that no stage writes.
    """
    _check(table, keeps)
    places, part = without_errors(table)
    part[KEPT] = kept = [True] * len(places)
    judged: dict[str, tuple[Verdict, int]] = {}
    for name in sorted(keeps, key=lambda name: KEPT in keeps[name].needs):  # stable: else in the recipe's order
        part[KEPT] = list(kept) if KEPT in keeps[name].needs else [True] * len(places)
        seen = sum(part[KEPT])
        verdict = _asked(name, keeps[name], part)
        judged[name] = verdict, seen
        kept = [before and drop is None for before, drop in zip(kept, verdict.drops, strict=True)]
    return _written(table, places, {name: judged[name] for name in keeps})


def _check(table: Mapping[str, Sequence[Any]], keeps: Mapping[str, Keep]) -> None:
    if odd := [name for name in keeps if name == ERROR or ":" in name]:
        raise RecipeError(f"keep.{odd[0]}: reasons begin with the name, so it has no colon, and {ERROR!r} is what stages leave")
    facts = [name for name in table if "." in name]
    for name, keep in keeps.items():
        for fact in keep.needs:
            if fact not in table and fact != KEPT:
                raise RecipeError(f"keep.{name}: no stage of the recipe writes the fact {fact!r}{near(fact, facts)}")
    if odd := [name for name, column in table.items() if len(column) != len(table["id"])]:
        raise DataError(f"{len(table['id'])} clips, but {len(table[odd[0]])} of {odd[0]!r}")


def _asked(name: str, keep: Keep, table: Mapping[str, Sequence[Any]]) -> Verdict:
    try:
        verdict = keep.judge(table)
    except DataError as error:
        raise DataError(f"keep.{name}: {error}") from error
    if len(verdict.drops) != len(table["id"]):
        raise DataError(f"keep.{name}: {type(keep).__name__} judged {len(verdict.drops)} of {len(table['id'])} clips")
    return verdict


def _written(table: Mapping[str, Sequence[Any]], places: Sequence[int], judged: Mapping[str, tuple[Verdict, int]]) -> Decisions:
    ids = [str(one) for one in table["id"]]
    reasons: list[list[str]] = [[] for _ in ids]
    dup_of = [""] * len(ids)
    for place, error in enumerate(table.get(ERROR, ())):
        if error:
            reasons[place].append(f"{ERROR}: {error}")
    failed = len(ids) - len(places)
    for name, (verdict, _) in judged.items():
        for place, drop in zip(places, verdict.drops, strict=True):
            if drop is not None:
                reasons[place].append(f"{name}: {drop}")
        for at, twin in (verdict.dup_of or {}).items():
            dup_of[places[at]] = ids[places[twin]]
    keep = np.array([not one for one in reasons], dtype=bool)
    lines = [f"{int(keep.sum()):,} of {len(ids):,} clips are kept" + (f"; {failed:,} are dropped for an error" if failed else "")]
    for name, (verdict, _) in judged.items():
        drops = sum(drop is not None for drop in verdict.drops)
        alone = sum(len(reasons[place]) == 1 for place, drop in zip(places, verdict.drops, strict=True) if drop is not None)
        lines.append(f"{name}: {verdict.line}: drops {drops:,}, {alone:,} of them alone")
    lines += _independent(judged, int(keep.sum()), len(places))
    thresholds = {name: {**(verdict.thresholds or {}), "line": verdict.line} for name, (verdict, _) in judged.items()}
    return Decisions(ids, keep, reasons, dup_of, thresholds, lines)


def _independent(judged: Mapping[str, tuple[Verdict, int]], kept: int, count: int) -> list[str]:
    """How many would be kept if keeps had nothing to do with each other, beside how many are."""
    shares = [1 - sum(drop is not None for drop in verdict.drops) / seen for verdict, seen in judged.values() if seen]
    if count == 0 or len(shares) < 2:
        return []
    product = f"{100 * math.prod(shares):.3g} %"
    return [
        f"{100 * kept / count:.3g} % are kept of those without an error; if the keeps were independent it would be {product} "
        "(Stable Video Diffusion: 26 %, 21 %); less than that says that they contradict each other, far more that they say the same"
    ]
