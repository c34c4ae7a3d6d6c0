"""Lines of JSONL and CSV files of metadata, each with its place and, where it is broken, why."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .refs import brief, shown

__all__ = ["Line", "read_csv", "read_json", "read_jsonl", "text_of", "utf8"]


@dataclass(frozen=True)
class Line:
    """One line: its number in the file, where ("metadata.jsonl:3"), its values by column, fault: why it cannot be used."""

    number: int
    where: str
    values: Mapping[str, Any]
    fault: str = ""


def read_jsonl(file: Path) -> Iterator[Line]:
    """One JSON object a line, empty lines left out. DataError if the file cannot be read."""
    with _opened(file, "rb") as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Line(number, f"{shown(str(file))}:{number}", *_object(line, "utf-8-sig" if number == 1 else "utf-8"))


def _object(line: bytes, encoding: str) -> tuple[Mapping[str, Any], str]:
    try:
        values = json.loads(line.decode(encoding))
    except UnicodeDecodeError as error:
        return {}, f"is not UTF-8 ({error.reason} at byte {error.start})"
    except (ValueError, RecursionError) as error:
        return {}, f"is not JSON ({error})"
    return (values, "") if isinstance(values, dict) else ({}, f"expected a JSON object, found {type(values).__name__}")


def read_csv(file: Path, columns: tuple[str, ...] = ()) -> Iterator[Line]:
    """Rows of a CSV file with a heading, each with the number of its first line.

    DataError if it is no CSV, if two columns have one name, or if it lacks one of `columns`.
    """
    name, number = shown(str(file)), 1
    try:
        with _opened(file, "r") as lines:
            table = csv.reader(lines, strict=True)
            head = next(table, [])
            if twice := sorted({column for column in head if head.count(column) > 1}):
                raise DataError(f"{name}:1: two columns are named {twice[0]!r}")
            for column in columns:
                if column not in head:
                    found = ", ".join(map(shown, head)) or "none"
                    raise DataError(f"{name}:1: no column {column!r}; found the columns {found}")
            number = table.line_num + 1
            for cells in table:
                fault = "" if len(cells) == len(head) else f"has {len(cells)} fields, the heading {len(head)}"
                if cells:
                    yield Line(number, f"{name}:{number}", dict(zip(head, cells, strict=False)), fault)
                number = table.line_num + 1
    except csv.Error as error:
        raise DataError(f"{name}:{number}: is not CSV ({error})") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: is not UTF-8 ({error.reason} at byte {error.start})") from None


def read_json(file: Path) -> Any:
    """The value in a JSON file. DataError if it is none."""
    try:
        with _opened(file, "r") as text:
            return json.load(text)
    except DataError:
        raise
    except UnicodeDecodeError as error:
        raise DataError(f"{shown(str(file))}: is not UTF-8 ({error.reason} at byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{shown(str(file))}: is not JSON ({error})") from None


def text_of(line: Line, column: str) -> str:
    """A text that must be there, more than spaces. DataError naming line and column."""
    value = line.values.get(column)
    if not isinstance(value, str) or not value.strip():
        kind = type(value).__name__
        found = "is missing" if value is None else "is empty" if kind == "str" else f"is {kind} {value!r:.80}"
        raise DataError(f"{line.where}: {column} {found}, expected text")
    return utf8(value, f"{line.where}: {column}")


def utf8(text: str, what: str) -> str:
    """The text as it is. DataError for a lone surrogate, which no encoder takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise DataError(f"{what} {brief(text)} is not valid Unicode (a lone surrogate)") from None
    return text


def _opened(file: Path, mode: str) -> Any:
    try:
        return file.open(mode) if "b" in mode else file.open(mode, encoding="utf-8-sig", newline="")
    except OSError as error:
        raise DataError(f"{shown(str(file))}: cannot be read ({error.strerror})") from None
