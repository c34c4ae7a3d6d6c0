"""Captions of a file, with what else its lines hold."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...core.errors import DataError, MissingExtra, RecipeError
from ...core.load import near
from ..columns import ALONE, STOCK
from ..tables import read_csv, read_jsonl
from .rows import given_ones
from .rules import Perturbed, Refused
from .sentence import normal

__all__ = ["GIVEN", "Captioned", "given_of", "json_line", "read_captions"]

COLUMNS = (*ALONE["target_caption"], *STOCK["target_caption"])
GIVEN = STOCK["negative_caption"]
KINDS = ".txt, .jsonl, .csv or .parquet"


@dataclass(frozen=True)
class Captioned:
    """One caption. where: file and line. values: the line's columns, the caption's too unless that is called text or caption.
    fault: why there is no caption, empty where there is one. lost: columns that JSON cannot hold."""

    where: str
    caption: str
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""
    lost: tuple[str, ...] = ()


def read_captions(path: Path, column: str = "") -> list[Captioned]:
    """Lines of .txt (each a caption), .jsonl, .csv or .parquet (column, or the one called text, caption, edited_prompt or so).

    A line without a text has a fault. DataError for a file that cannot be read, of another kind, without such a column, with two of
    them, or without any caption. RecipeError for a column of .txt.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        found = "is a folder; name a file in it" if path.is_dir() else "no such file; give one"
        raise DataError(f"{path}: {found}: {KINDS} with a column of captions")
    if kind == ".txt":
        if column:
            raise RecipeError(f"{path}: column {column!r} is asked for, but a .txt has none, each line is a caption")
        return _usable(path, list(_text_lines(path)))
    lost: tuple[str, ...] = ()
    if kind == ".parquet":
        values, lost = _parquet(path)
        rows = [(f"{path.name}:{i}", one, "") for i, one in enumerate(values)]
    elif kind in (".jsonl", ".csv"):
        rows = [(line.where, dict(line.values), line.fault) for line in (read_jsonl if kind == ".jsonl" else read_csv)(path)]
    else:
        raise DataError(f"{path}: captions are read from {KINDS}, not from {kind or 'a file without ending'}")
    names = list(dict.fromkeys(name for _, one, _ in rows for name in one))
    found = _column(path, column, names, lost) if names or lost else column
    return _usable(path, [_captioned(where, one, fault, found, lost) for where, one, fault in rows])


def _column(path: Path, column: str, names: Sequence[str], lost: Sequence[str]) -> str:
    """The column of captions; which of the wrong captions that a file brings are meant must be clear too."""
    fits = [column] if column in names else [] if column else [name for name in COLUMNS if name in names]
    if len(fits) > 1:
        raise DataError(f"{path}: columns {', '.join(fits)} could each be the captions; say which: --column {fits[0]}")
    if not fits:
        packed = next((name for name in ([column] if column else COLUMNS) if name in lost), "")
        if packed:
            raise DataError(f"{path}: column {packed!r} holds bytes, expected text")
        wanted = repr(column) if column else "called " + ", ".join(COLUMNS)
        raise DataError(f"{path}: no column {wanted}{near(column, names)}; say which: --column NAME")
    if len(given := [name for name in GIVEN if name in names]) > 1:
        raise DataError(f"{path}: columns {', '.join(given)} could each be the wrong captions; rename one")
    return fits[0]


def _usable(path: Path, captions: list[Captioned]) -> list[Captioned]:
    if not any(normal(line.caption) for line in captions):
        first = next((f"; the first: {line.where}: {line.fault}" for line in captions if line.fault), "")
        raise DataError(f"{path}: no caption with words in {len(captions)} lines{first}")
    return captions


def _text_lines(path: Path) -> Iterator[Captioned]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    for number, line in enumerate(lines, 1):
        yield Captioned(f"{path.name}:{number}", line.strip())


def _parquet(path: Path) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Its rows, and the columns left out: those with bytes, as pictures are."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading parquet") from None
    try:
        schema = parquet.read_schema(path)
        lost = tuple(column.name for column in schema if _packed(column.type))
        return parquet.read_table(path, columns=[name for name in schema.names if name not in lost]).to_pylist(), lost
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: is no parquet file that can be read ({str(error).splitlines()[0]})") from error


def _packed(kind: Any) -> bool:
    """Whether a type of pyarrow has bytes in it."""
    inside = [kind.field(i).type for i in range(kind.num_fields)]
    inside += [getattr(kind, name) for name in ("value_type", "storage_type") if hasattr(kind, name)]
    return "binary" in str(kind) if not inside else any(map(_packed, inside))


def _captioned(where: str, values: dict[str, Any], fault: str, column: str, lost: tuple[str, ...]) -> Captioned:
    value = values.get(column)
    if column in ALONE["target_caption"]:
        values.pop(column, None)
    if not fault and not isinstance(value, str):
        fault = f"{column} is {'missing' if value is None else type(value).__name__}, expected text"
    caption = value if isinstance(value, str) else ""
    if not fault and not _whole(caption):
        fault = f"{column} is no valid text (half of a surrogate pair)"
    return Captioned(where, "" if fault else caption, values, fault, lost)


def given_of(line: Captioned) -> Perturbed:
    """The wrong captions that a line brings in negative_caption, a text or a list of them; what is none of them is refused."""
    value = next((line.values[name] for name in GIVEN if line.values.get(name) not in (None, "")), [])
    texts = value if isinstance(value, list) else [value]
    good = [text.strip() for text in texts if isinstance(text, str) and text.strip() and _whole(text)]
    made = given_ones(line.caption, good)
    bad = Refused("given", "is no text")
    return Perturbed(made.negatives, (*made.refused, *[bad] * (len(texts) - len(good))))


def json_line(values: Mapping[str, Any]) -> str:
    """As one line of JSON. What it lacks becomes null (NaN, infinity) or text (dates)."""
    try:
        text = json.dumps(values, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:
        plain = json.loads(json.dumps(values, default=str), parse_constant=lambda name: None)
        text = json.dumps(plain, ensure_ascii=False)
    return (text if _whole(text) else json.dumps(json.loads(text))) + "\n"


def _whole(text: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in text)
