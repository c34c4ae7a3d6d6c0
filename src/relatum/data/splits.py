"""Train and test rows by group: rows of one group never stand on both sides, and adding rows moves none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from .rows import Row

__all__ = ["split"]


def split(rows: Sequence[Row], held_out: int | float, seed: int) -> tuple[list[Row], list[Row]]:
    """(train, test), each in the order of `rows`.

    held_out as a fraction: a group is held out when its hash, uniform on [0, 1), is below it; so its side depends on nothing but
    its name and the seed. As a whole number: the groups of smallest hash, until at least so many rows are held out.
    DataError, with the counts, if a side would be empty.
    """
    places = {row.group: key_of(seed, "split", row.group) / 2**63 for row in rows}
    if isinstance(held_out, bool) or held_out < 0 or (isinstance(held_out, float) and not held_out <= 1):
        raise RecipeError(f"held_out is {held_out!r}; expected a fraction between 0 and 1, or a whole number of rows")
    if isinstance(held_out, float):
        chosen = {group for group, place in places.items() if place < held_out}
    else:
        chosen = _smallest(rows, places, held_out)
    train = [row for row in rows if row.group not in chosen]
    test = [row for row in rows if row.group in chosen]
    if not train or not test:
        raise DataError(
            f"held_out = {held_out} leaves {len(train)} rows to train on and {len(test)} to test, of {len(rows)} rows in "
            f"{len(places)} groups; give more rows or groups, or another held_out or seed"
        )
    return train, test


def _smallest(rows: Sequence[Row], places: dict[str, float], count: int) -> set[str]:
    sizes = Counter(row.group for row in rows)
    chosen: set[str] = set()
    for group in sorted(places, key=lambda group: (places[group], group)):
        if sum(sizes[name] for name in chosen) >= count:
            break
        chosen.add(group)
    return chosen
