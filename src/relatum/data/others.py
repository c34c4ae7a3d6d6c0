"""Another row's caption beside each row's own: a wrong text that costs nothing to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.draws import key_of
from ..core.errors import DataError
from .rows import LazyRows, Row

__all__ = ["with_random_texts"]


def with_random_texts(rows: Sequence[Row], name: str = "target") -> Sequence[Row]:
    """The same rows with text "random": the text `name` of another one, the same at every reading of the data set.

    It is of another group and not the same words. DataError where there is none.
    """
    if len(rows) < 2:
        raise DataError("a random caption is another row's; one row is too few")

    def add(index: int) -> Row:
        row = rows[index]
        first = key_of("random text", row.id) % (len(rows) - 1)
        for step in range(len(rows) - 1):
            other = rows[(index + 1 + (first + step) % (len(rows) - 1)) % len(rows)]
            words = other.texts.get(name, row.texts.get(name, ""))
            if other.group != row.group and words.split() != row.texts.get(name, "").split():
                return replace(row, texts={**row.texts, "random": words})
        raise DataError(f"{row.where or row.id}: no other row has another caption, so none is a random one")

    return LazyRows(len(rows), add)
