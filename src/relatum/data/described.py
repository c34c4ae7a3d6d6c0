"""What tables and files beside videos say of them: captions, title, license, tag, group."""

from __future__ import annotations

import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MissingExtra
from ..core.load import near
from ..video.source import open_regular
from .clips import captions_of
from .refs import brief
from .tables import Line, read_csv, read_jsonl, utf8

__all__ = ["NOTHING", "ROLES", "TABLES", "Told", "beside", "lines_of", "merged", "roles_of", "told", "told_by"]

# Columns that are recognized by themselves; of a path the first that is there, of captions all.
ROLES: dict[str, tuple[str, ...]] = {
    "path": ("path", "file_name", "file", "filename", "filepath", "video_path", "video"),
    "title": ("title",),
    "caption": ("caption", "captions", "text", "texts"),
    "license": ("license", "licence"),
    "tag": ("tag",),
    "group": ("group", "recording", "video"),
}
TABLES = (".jsonl", ".csv", ".parquet")
MOST = 2**24  # bytes of a file of captions


@dataclass(frozen=True)
class Told:
    """What is said of one video. note: what could not be used."""

    title: str = ""
    captions: tuple[str, ...] = ()
    license: str = ""
    tag: str = ""
    group: str = ""
    note: str = ""


NOTHING = Told()


def lines_of(table: Path, columns: Collection[str]) -> Iterator[Line]:
    """Rows of a .jsonl, .csv or .parquet table, of parquet the values of these columns; a last line says where the table breaks."""
    number, suffix = 0, table.suffix.lower()
    try:
        rows = _parquet(table, columns) if suffix == ".parquet" else read_csv(table) if suffix == ".csv" else read_jsonl(table)
        for line in rows:
            number = line.number
            yield line
    except DataError as error:
        yield Line(number + 1, "", {}, str(error))


def _parquet(table: Path, columns: Collection[str]) -> Iterator[Line]:
    """Columns of bytes are not read, nor are the bytes of Hugging Face's structs of bytes and path."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading parquet") from None
    number = 0
    try:
        with pq.ParquetFile(table) as file:
            fields = [field for field in file.schema_arrow if field.name in columns]
            read = [_place(field.name, str(field.type)) for field in fields if not str(field.type).endswith("binary")]
            absent = dict.fromkeys(file.schema_arrow.names)
            for batch in file.iter_batches(4096, columns=read) if read else ():
                for number, values in enumerate(batch.to_pylist(), number + 1):  # noqa: B020 - it goes on counting
                    yield Line(number, "", {**absent, **values})
            if not read and file.metadata.num_rows:
                yield Line(1, "", absent)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"is not a whole parquet file ({error})") from None


def _place(name: str, type: str) -> str:
    return f"{name}.path" if type.startswith("struct") and "path:" in type else name


def roles_of(names: Iterable[str], given: Mapping[str, str], where: str) -> dict[str, tuple[str, ...]]:
    """Columns by role: the recipe's word first, then the known names. DataError if a named column is absent, or that of paths."""
    names = list(dict.fromkeys(names))
    for role, column in given.items():
        if column not in names:
            raise DataError(f"{where}: no column {column!r} for {role}{near(column, names)} (recipe: columns = {{{role} = ...}})")
    found = {role: (given[role],) if role in given else tuple(n for n in known if n in names) for role, known in ROLES.items()}
    if not found["path"]:
        raise DataError(
            f"{where}: no column of paths; looked for {', '.join(ROLES['path'])}; found {', '.join(map(brief, names)) or 'none'} "
            "(say it in the recipe: columns = {path = ...})"
        )
    path = found["path"][0]
    return {role: tuple(n for n in columns if role == "path" or n != path) for role, columns in found.items()}


def told(values: Mapping[str, Any], roles: Mapping[str, tuple[str, ...]] = ROLES, where: str = "") -> Told:
    """What a row or an object says; a value that is no text is left out, and noted."""
    words: dict[str, str] = {}
    captions: list[str] = []
    notes: list[str] = []
    for role in ("title", "license", "tag", "group", "caption"):
        for column in roles[role]:
            try:
                texts = _texts(values.get(column), f"{where}{column}", role == "caption")
            except DataError as error:
                notes.append(f"{error}; left out")
                continue
            if role == "caption":
                captions += texts
            elif texts:
                words.setdefault(role, texts[0])
    return Told(captions=tuple(dict.fromkeys(captions)), note="; ".join(notes), **words)


def _texts(value: Any, what: str, many: bool) -> list[str]:
    if many:
        return captions_of(value, what)
    if value is None or (isinstance(value, float) and value != value):  # NaN: an empty cell of a table
        return []
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{what} is {type(value).__name__} {value!r:.80}, expected text")
    text = utf8(str(value), what).strip()
    return [text] if text else []


def merged(first: Told, second: Told) -> Told:
    """Both, with the captions of both; where they differ in a word, the first's. DataError for two groups."""
    if NOTHING in (first, second):
        return second if first == NOTHING else first
    if first.group and second.group and first.group != second.group:
        raise DataError(f"two rows are of different groups, {brief(first.group)} and {brief(second.group)}")
    words = {name: getattr(first, name) or getattr(second, name) for name in ("title", "license", "tag", "group")}
    captions = tuple(dict.fromkeys([*first.captions, *second.captions]))
    return Told(captions=captions, note="; ".join(dict.fromkeys(filter(None, [first.note, second.note]))), **words)


def beside(video: Path, follow: bool, names: Collection[str] | None = None) -> Told:
    """What NAME.txt (each line a caption) and NAME.json (an object) beside NAME.mp4 say. names: what the folder holds, if known."""
    found = NOTHING
    stem, suffix = os.path.splitext(video.name)
    for other in (".txt", ".json"):
        if other == suffix or (names is not None and stem + other not in names):
            continue
        path = video.with_name(stem + other)
        if names is None and not os.path.lexists(path):
            continue
        try:
            if path.is_symlink() and not follow:
                raise DataError("is a symbolic link, and follow_symlinks is false")
            with open_regular(path) as file:
                found = merged(found, told_by(path.suffix, file.read(MOST + 1)))
        except (DataError, OSError) as error:
            found = replace(found, note="; ".join(filter(None, [found.note, f"{brief(path.name)}: {error}"])))
    return found


def told_by(suffix: str, data: bytes) -> Told:
    """What the bytes of a .txt or .json say. DataError for what cannot be read as such."""
    if len(data) > MOST:
        raise DataError(f"has more than {MOST:,} bytes")
    try:
        text = data.decode("utf-8-sig")
        if suffix != ".json":
            return Told(captions=tuple(dict.fromkeys(captions_of(text.split("\n"), "line"))))
        values = json.loads(text)
    except UnicodeDecodeError as error:
        raise DataError(f"is not UTF-8 ({error.reason} at byte {error.start})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(str(error) if isinstance(error, DataError) else f"is not JSON ({error})") from None
    if not isinstance(values, dict):
        raise DataError(f"expected a JSON object, found {type(values).__name__}")
    return told(values)
