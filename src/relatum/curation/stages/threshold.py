"""Keeps clips by one number: absolute thresholds, and shares of the corpus."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...core.errors import DataError, RecipeError
from ...core.registry import stage
from ..base import Verdict

__all__ = ["Limit", "Range", "in_words", "percentile"]


@dataclass(frozen=True)
class Limit:
    """A threshold as it came out. share: of the clips, where that set it, else 0."""

    value: float
    share: float = 0.0


@stage("range")
@dataclass(frozen=True)
class Range:
    """Keeps clips of which a fact is neither too low nor too high. A value that equals a threshold is kept.

    fact: its full name, "motion.mean". at_least, at_most: in the fact's unit. drop_lowest, drop_highest: shares, from 0 to below 1,
    of all clips that have the fact, whatever else drops them; only where at least `percentile_from` have it. Where both are given
    the stricter one holds. reduce: of a fact with several numbers. on_missing: what happens to clips without the fact.
    """

    fact: str
    at_least: float | None = None
    at_most: float | None = None
    drop_lowest: float = 0.0
    drop_highest: float = 0.0
    percentile_from: int = 200
    reduce: Literal["mean", "min", "max"] = "mean"
    on_missing: Literal["error", "keep", "drop"] = "error"

    def __post_init__(self) -> None:
        given = [value for value in (self.at_least, self.at_most) if value is not None]
        shares = (self.drop_lowest, self.drop_highest)
        if not given and not any(shares):
            raise RecipeError(f"a range of {self.fact!r} needs one of at_least, at_most, drop_lowest, drop_highest")
        if not all(math.isfinite(value) for value in given) or sorted(given) != given:
            raise RecipeError(f"expected finite numbers, at_least not above at_most; found {self.at_least} and {self.at_most}")
        if not all(0 <= share < 1 for share in shares) or not sum(shares) < 1:
            raise RecipeError(f"expected shares of 0 or more, together below 1; found drop_lowest, drop_highest = {shares}")
        if self.percentile_from < 1:
            raise RecipeError(f"percentile_from is {self.percentile_from}, expected 1 or more")

    @property
    def needs(self) -> tuple[str, ...]:
        return (self.fact,)

    def judge(self, table: Mapping[str, Sequence[Any]]) -> Verdict:
        """DataError where the fact is missing and the recipe does not say what then, or is no number."""
        values = self.numbers(table)
        missing = np.flatnonzero(np.isnan(values)).tolist()
        if missing and self.on_missing == "error":
            raise DataError(
                f"{self.fact} is missing of {len(missing):,} of {len(values):,} clips, the first is {table['id'][missing[0]]}; "
                'find out why, or say on_missing = "keep" or "drop"'
            )
        low, high = self.limits(values)
        drops: list[str | None] = [None] * len(values)
        for limit, sign, out in ((low, "<", _below(values, low)), (high, ">", _above(values, high))):
            for place in np.flatnonzero(out).tolist():
                drops[place] = in_words(float(values[place]), sign, limit) if limit else None
        if self.on_missing == "drop":
            for place in missing:
                drops[place] = f"the fact is missing ({self.fact})"
        found = {
            "fact": self.fact,
            "at_least": low.value if low else None,
            "at_most": high.value if high else None,
            "clips_with_it": len(values) - len(missing),
            "clips_without_it": len(missing),
        }
        return Verdict(drops, self._line(low, high, len(values) - len(missing), len(missing)), missing, found)

    def numbers(self, table: Mapping[str, Sequence[Any]]) -> np.ndarray:
        """(n,) float64; NaN where the fact is missing or not finite."""
        try:
            values = _reduced(table[self.fact], self.reduce)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.fact} is not a number, nor a list of numbers; a range needs one that is") from error
        values[~np.isfinite(values)] = np.nan
        return values + 0.0  # no -0

    def limits(self, values: np.ndarray) -> tuple[Limit | None, Limit | None]:
        """The lower and the upper threshold; None is none. values: (n,), NaN where missing."""
        known = np.sort(values[~np.isnan(values)])
        low = [Limit(self.at_least)] if self.at_least is not None else []
        high = [Limit(self.at_most)] if self.at_most is not None else []
        if len(known) >= self.percentile_from:
            if self.drop_lowest:
                low.append(Limit(percentile(known, self.drop_lowest), self.drop_lowest))
            if self.drop_highest:
                high.append(Limit(0.0 - percentile(-known[::-1], self.drop_highest), self.drop_highest))
        return max(low, key=lambda limit: limit.value, default=None), min(high, key=lambda limit: limit.value, default=None)

    def _line(self, low: Limit | None, high: Limit | None, known: int, missing: int) -> str:
        parts = [
            f"{self.fact} {sign} {_told(limit, end)}"
            for limit, sign, end in ((low, ">=", "lowest"), (high, "<=", "highest"))
            if limit
        ]
        line = " and ".join(parts) or f"{self.fact}: no threshold"
        ends = ((self.drop_lowest, "lowest"), (self.drop_highest, "highest"))
        shares = " and ".join(f"{end} {100 * share:g} %" for share, end in ends if share)
        if shares and known < self.percentile_from:
            line += f"; {shares} not dropped: {known:,} clips have the fact, {self.percentile_from:,} are needed"
        if missing:
            line += f"; missing of {missing:,} clips, which are {'kept' if self.on_missing == 'keep' else 'dropped'}"
        return line


def percentile(known: np.ndarray, share: float) -> float:
    """The threshold below which the lowest `share` of ascending values lies: known[floor(share * n)], never between two values.

    What is below it are at most floor(share * n) values, fewer where that value occurs more than once.
    """
    return float(known[min(len(known) - 1, math.floor(share * len(known) + 1e-9))])  # 0.29 * 100 is 28.999999999999996


def in_words(value: float, sign: str, limit: Limit) -> str:
    """ "0.0031 < 0.005"; all digits where four would look the same."""
    left, right = f"{value:.4g}", f"{limit.value:.4g}"
    if left == right:
        left, right = repr(value), repr(limit.value)
    share = f" ({'lowest' if sign == '<' else 'highest'} {100 * limit.share:g} %)" if limit.share else ""
    return f"{left} {sign} {right}{share}"


def _told(limit: Limit, end: str) -> str:
    return f"{limit.value:.4g}" + (f" ({end} {100 * limit.share:g} %)" if limit.share else "")


def _below(values: np.ndarray, limit: Limit | None) -> np.ndarray:
    return values < limit.value if limit else np.zeros(len(values), bool)


def _above(values: np.ndarray, limit: Limit | None) -> np.ndarray:
    return values > limit.value if limit else np.zeros(len(values), bool)


def _reduced(column: Sequence[Any], reduce: str) -> np.ndarray:
    kinds = set(map(type, column))
    if str in kinds:  # which numpy would read
        raise TypeError
    if not kinds & {list, tuple, np.ndarray}:
        return np.array(column, dtype=np.float64)  # None becomes NaN
    out = np.full(len(column), np.nan)
    for place, value in enumerate(column):
        numbers = np.array(value if value is not None else [], dtype=np.float64)
        if numbers.size:
            out[place] = getattr(np, reduce)(numbers)
    return out
