"""Reader "folder": images in a folder, described by metadata.jsonl or metadata.csv, or by a .txt file beside each image."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..core.errors import DataError
from ..core.registry import reader
from ..imaging import MEGAPIXELS, SUFFIXES
from .columns import check_roles, resolve
from .records import Policy, Record, list_rows
from .refs import Content, FileContent, inside, shown
from .rows import Row
from .tables import Line, read_csv, read_jsonl

__all__ = ["Folder"]


@reader("folder")
@dataclass
class Folder:
    """A folder with metadata.jsonl or metadata.csv (file names relative to it), or images with a sidecar .txt caption each.

    path: the folder, or the metadata file itself. columns: column by role (source, target, instruction, source_caption,
    target_caption, mask, negative, negative_caption, group, id) where the names are not stock ones; Hugging Face's `file_name` and
    `..._file_name` are read as `image` and `...`. A negative_caption may be a list, the hardest first.
    on_bad_row: "stop", or "skip" (every image is decoded at listing). ground: color behind transparency.
    Ids default to file and line, groups to the digest of the source image (of the target, where there is no source).
    A path or link that leaves the folder is refused. Example: rows = Folder("data/edits").rows()
    """

    path: str | Path
    columns: dict[str, str] = field(default_factory=dict)
    on_bad_row: Literal["stop", "skip"] = "stop"
    ground: Literal["white", "gray", "black"] = "white"
    max_megapixels: float = MEGAPIXELS
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_roles(self.columns)

    def rows(self) -> list[Row]:
        self.skipped.clear()
        file = self._metadata()
        lines = [] if file is None else _READ[file.suffix.lower()](file)
        records = list(_sidecars(Path(self.path))) if file is None else [_record(file, line) for line in lines]
        name = shown(str(file or self.path))
        names = dict.fromkeys(column for record in records for column in record.values)
        if not names:
            faults = "".join(f"; {record.where}: {record.fault}" for record in records[:1])
            raise DataError(f"{name}: no rows{faults}")
        roles = resolve(names, self.columns, name)
        return list_rows(records, Policy(roles, self.on_bad_row == "skip", self.ground, self.max_megapixels), self.skipped)

    def _metadata(self) -> Path | None:
        path = Path(self.path)
        if path.is_file():
            if path.suffix.lower() not in _READ:
                raise DataError(f"{shown(str(path))}: expected a folder, or a .jsonl or .csv file of metadata")
            return path
        if not path.is_dir():
            raise DataError(f"{shown(str(path))}: no such folder")
        found = [path / name for name in ("metadata.jsonl", "metadata.csv") if (path / name).is_file()]
        if len(found) > 1:
            raise DataError(f"{shown(str(path))}: has metadata.jsonl and metadata.csv; set path to the one that is meant")
        return found[0] if found else None


_READ: dict[str, Callable[[Path], Iterator[Line]]] = {".jsonl": read_jsonl, ".csv": read_csv}


def _record(file: Path, line: Line) -> Record:
    values, where, fault = {_plain(name): value for name, value in line.values.items()}, line.where, line.fault
    if len(values) < len(line.values):
        fault = fault or f"two columns mean the same: {', '.join(line.values)}"

    def content(column: str) -> tuple[Content, str]:
        name = values[column]
        if not isinstance(name, str):
            raise DataError(f"{where}: {column} is {type(name).__name__} {name!r}, expected a file name")
        return FileContent(inside(file.parent, name, f"{where} ({column}: {shown(name)})")), name

    return Record(f"{file.name}:{line.number}", where, values, content, fault)


def _plain(column: str) -> str:
    """Hugging Face imagefolders say file_name for the image, and x_file_name for the image x."""
    return "image" if column == "file_name" else column.removesuffix("_file_name")


def _sidecars(root: Path) -> Iterator[Record]:
    found = False
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(names):
            path = Path(folder, name)
            if path.suffix.lower() in SUFFIXES:
                found = True
                yield _sidecar(root, path)
    if not found:
        raise DataError(f"{shown(str(root))}: no metadata.jsonl, no metadata.csv, and no images")


def _sidecar(root: Path, path: Path) -> Record:
    relative, where, fault, text = path.relative_to(root).as_posix(), shown(str(path)), "", None
    try:
        relative.encode()
        beside = path.with_suffix(".txt")
        if beside.is_file():
            text = inside(root, beside.relative_to(root).as_posix(), shown(str(beside))).read_bytes().decode("utf-8-sig")
    except UnicodeEncodeError:
        fault = "the file name is not UTF-8; rename it"
    except UnicodeDecodeError:
        fault = f"{shown(path.stem)}.txt is not UTF-8"
    except DataError as error:
        fault = str(error)

    def content(column: str) -> tuple[Content, str]:
        return FileContent(inside(root, relative, where)), relative

    return Record(relative, where, {"image": relative, "text": text}, content, fault)
