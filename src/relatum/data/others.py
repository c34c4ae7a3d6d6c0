"""Another row's caption beside each row's own: a wrong text that costs nothing to find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..core.draws import key_of
from ..core.errors import DataError
from .rows import MappedRows, Row

__all__ = ["with_random_texts"]


def with_random_texts(rows: Sequence[Row], name: str = "target") -> Sequence[Row]:
    """The same rows with text "random": the text `name` of another one, chosen by the row's id alone.

    DataError for a single row. Captions may be equal by chance; a data set of few captions is no place for it.
    """
    if len(rows) < 2:
        raise DataError("a random caption is another row's; one row is too few")

    def add(index: int, row: Row) -> Row:
        other = rows[(index + 1 + key_of("random text", row.id) % (len(rows) - 1)) % len(rows)]
        return replace(row, texts={**row.texts, "random": other.texts[name]})

    return MappedRows(rows, add)
