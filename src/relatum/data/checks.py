"""The check before a run: every image and mask of the rows decoded once."""

from __future__ import annotations

from collections.abc import Iterable

from ..core.errors import DataError
from .rows import Row

__all__ = ["check"]


def check(rows: Iterable[Row]) -> list[str]:
    """What is wrong with the images and masks of these rows, one line each, naming file and row; empty if nothing is.

    An image that several rows share is decoded for each: the messages name rows.
    """
    problems = []
    for row in rows:
        reads = [*(image.pixels for image in row.images.values()), *(mask.mask for mask in row.masks.values())]
        for read in reads:
            try:
                read(8)
            except DataError as error:
                problems.append(str(error))
    return problems
