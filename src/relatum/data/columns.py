"""Which column of a data set plays which role in a row, and what is said when one is missing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from ..core.errors import DataError, RecipeError
from ..core.load import near
from .rows import Row

__all__ = ["IMAGES", "STOCK", "TEXTS", "check_roles", "require", "resolve"]

# Names that are recognized by themselves: diffusers' InstructPix2Pix script (--original_image_column and others default to
# input_image, edit_prompt, edited_image), its paired-caption sets (original_*, edited_*), MagicBrush (source_img), imagefolders.
STOCK: dict[str, tuple[str, ...]] = {
    "source": ("input_image", "original_image", "source_image", "source_img", "source"),
    "target": ("edited_image", "target_image", "target_img", "target"),
    "instruction": ("edit_prompt", "instruction"),
    "source_caption": ("original_prompt", "input_prompt", "source_caption"),
    "target_caption": ("edited_prompt", "output_prompt", "target_caption"),
    "mask": ("mask", "changed"),
    "negative": ("negative_image",),
    "negative_caption": ("negative_caption", "negative_captions"),
    "group": ("group",),
    "id": ("id",),
}
# Text-to-image sets: read where none of the names above gives a target image.
ALONE: dict[str, tuple[str, ...]] = {"target": ("image",), "target_caption": ("text", "caption")}
IMAGES = ("source", "target")
TEXTS = {"instruction": "instruction", "source_caption": "source", "target_caption": "target"}  # role: name in Row.texts


def check_roles(columns: Mapping[str, str]) -> None:
    """RecipeError if the recipe's `columns` names a role that does not exist."""
    for role in columns:
        if role not in STOCK:
            raise RecipeError(f"columns: no role {role!r}{near(role, STOCK)}")


def resolve(available: Iterable[str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """Column by role: the recipe's word first, then the stock names. DataError if a named column is absent or two names fit."""
    check_roles(given)
    names = list(dict.fromkeys(available))
    found: dict[str, str] = {}
    for role, column in given.items():
        if column not in names:
            raise DataError(f"{where}: no column {column!r} for {role}{near(column, names)} (recipe: columns = {{{role} = ...}})")
        found[role] = column
    free = [name for name in names if name not in found.values()]
    for role, stock in STOCK.items():
        _take(found, role, stock, free, where)
    if "source" not in found:
        for role, stock in ALONE.items():
            _take(found, role, stock, free, where)
    return found


def _take(found: dict[str, str], role: str, stock: Sequence[str], free: Sequence[str], where: str) -> None:
    fits = [name for name in stock if name in free]
    if role in found or not fits:
        return
    if len(fits) > 1:
        raise DataError(f"{where}: columns {', '.join(fits)} could each be {role}; say which: columns = {{{role} = {fits[0]!r}}}")
    found[role] = fits[0]


def require(
    rows: Sequence[Row],
    images: Iterable[str] = (),
    texts: Iterable[str] = (),
    where: str = "data",
    clips: Iterable[str] = (),
) -> None:
    """DataError unless every row has these images ("source", "target", "negative"), texts ("instruction", "source", "target",
    "negative.1" and so on) and clips ("target").

    The message names the first row without, the stock names looked for, the columns that the file has, and the nearest of them.
    """
    images, texts, clips = tuple(images), tuple(texts), tuple(clips)
    if not rows:
        raise DataError(f"{where}: no rows")
    for row in rows:
        for name in images:
            if name not in row.images:
                raise _missing(row, "image", name, name, where)
        for name in clips:
            if name not in row.clips:
                hint = (
                    "it holds pictures; a reader of videos gives clips where it has `frames`"
                    if row.images
                    else "its reader gives none"
                )
                raise DataError(f"{row.where or where}: no clip {name!r}; {hint}")
        for name in texts:
            if name not in row.texts:
                role = {text: role for role, text in TEXTS.items()}.get(name, name)
                raise _missing(row, "text", name, "negative_caption" if name.startswith("negative.") else role, where)


def _missing(row: Row, kind: str, name: str, role: str, where: str) -> DataError:
    stock = (*STOCK.get(role, (name,)), *ALONE.get(role, ()))
    has = list(dict.fromkeys([*row.facts.get("columns", ()), *row.images, *row.texts]))
    hints = [hint for word in (*stock, role) if "did you mean" in (hint := near(word, has))]
    looked = f"looked for a column named {', '.join(stock)}"
    return DataError(
        f"{row.where or where}: no {kind} {name!r}; {looked}; the row has: {', '.join(has) or 'none'}{hints[0] if hints else ''} "
        f"(say it in the recipe: columns = {{{role} = ...}})"
    )
