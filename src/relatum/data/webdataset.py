"""Reader "webdataset": tar shards, indexed once and read by offset. Nothing is ever extracted to disk."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from ..core.errors import DataError
from ..core.registry import reader
from ..imaging import MEGAPIXELS, SUFFIXES
from .columns import check_roles, resolve
from .records import Policy, Record, files_of, list_rows
from .refs import Content, shown
from .rows import Row

__all__ = ["WebDataset"]


@reader("webdataset")
@dataclass
class WebDataset:
    """WebDataset shards: members KEY.EXTENSION, of which those with one key make a row.

    path: a .tar file, a folder of them, a glob pattern, or a list. Columns come from the extensions: `k.input_image.jpg` is the
    image column input_image, `k.edit_prompt.txt` the text column edit_prompt, `k.jpg` is `image`, `k.txt` is `text`, and
    the keys of `k.json` are columns. columns, on_bad_row, ground, max_megapixels: as in Folder.
    Ids default to shard and key, groups to the digest of the source image. A link, a device, a member whose name leaves the
    archive, a compressed or truncated shard is a DataError whatever on_bad_row says.
    """

    path: str | Path | list[str]
    columns: dict[str, str] = field(default_factory=dict)
    on_bad_row: Literal["stop", "skip"] = "stop"
    ground: Literal["white", "gray", "black"] = "white"
    max_megapixels: float = MEGAPIXELS
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_roles(self.columns)

    def rows(self) -> list[Row]:
        self.skipped.clear()
        shards = files_of(self.path, (".tar",), "tar shard")
        records = [record for shard in shards for record in _samples(shard)]
        name = shown(str(shards[0]))
        if not records:
            raise DataError(f"{name}: no rows")
        names = dict.fromkeys(column for record in records for column in record.values)
        roles = resolve(names, self.columns, name)
        return list_rows(records, Policy(roles, self.on_bad_row == "skip", self.ground, self.max_megapixels), self.skipped)


@dataclass(frozen=True)
class _Member:
    shard: Path
    name: str
    offset: int
    size: int

    def read(self, where: str) -> bytes:
        try:
            with self.shard.open("rb") as file:
                file.seek(self.offset)
                data = file.read(self.size)
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({error.strerror})") from error
        if len(data) != self.size:
            raise DataError(f"{where}: {shown(str(self.shard))} has become shorter since it was listed")
        return data


def _samples(shard: Path) -> Iterator[Record]:
    samples: dict[str, dict[str, _Member]] = {}
    for member in _index(shard):
        path = PurePosixPath(member.name)
        stem, dot, extension = path.name.partition(".")
        if not stem or not dot:  # hidden files and files without an extension belong to no sample
            continue
        key = (path.parent / stem).as_posix()
        sample = samples.setdefault(key, {})
        if extension.lower() in sample:
            raise DataError(f"{shown(str(shard))}: two members are named {shown(member.name)}")
        sample[extension.lower()] = member
    for key, sample in samples.items():
        yield _record(shard, key, sample)


def _index(shard: Path) -> Iterator[_Member]:
    """The regular files of an uncompressed tar. DataError for links, devices, escaping names, and an archive without its end."""
    name, length = shown(str(shard)), shard.stat().st_size
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                here = f"{name}: member {shown(member.name)}"
                if member.name.startswith("/") or ".." in PurePosixPath(member.name).parts or "\0" in member.name:
                    raise DataError(f"{here} leads out of the archive; the shard is refused")
                if member.isdir():
                    continue
                if not member.isreg() or member.issparse():
                    raise DataError(f"{here} is a link, a device or sparse; only regular files are read, the shard is refused")
                if member.offset_data + member.size > length:
                    raise DataError(f"{here} is truncated")
                yield _Member(shard, member.name, member.offset_data, member.size)
            end = tar.offset
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name}: is not an uncompressed tar file ({error}); unpack .tar.gz shards first") from error
    with shard.open("rb") as file:  # tarfile takes a broken header in the middle for the end
        file.seek(end)
        if file.read(512) != bytes(512):
            raise DataError(f"{name}: is truncated or broken at byte {end} (no end-of-archive block)")


def _record(shard: Path, key: str, sample: dict[str, _Member]) -> Record:
    where, fault = f"{shown(str(shard))}:{shown(key)}", ""
    values: dict[str, Any] = {}
    images: dict[str, _Member] = {}
    for extension, member in sample.items():
        try:
            found = _values(extension, member, where)
        except (DataError, ValueError, RecursionError) as error:
            found, fault = {}, f"{shown(member.name)}: {error}"
        for column, value in found.items():
            if column in values:
                fault = f"two members give the column {shown(column)}"
            values[column] = value
            if value is member:
                images[column] = member

    def content(column: str) -> tuple[Content, str]:
        if column not in images:
            raise DataError(f"{where}: {column} is no image (its extension should be one of {', '.join(SUFFIXES)})")
        return images[column], images[column].name

    return Record(f"{shard.name}:{key}", where, values, content, fault)


def _values(extension: str, member: _Member, where: str) -> dict[str, Any]:
    """The columns that one member gives."""
    name, _, kind = extension.rpartition(".")
    if f".{kind}" in SUFFIXES:
        return {name or "image": member}
    if kind in ("txt", "text"):
        return {name or "text": member.read(where).decode("utf-8-sig")}
    if kind == "json":
        value = json.loads(member.read(where).decode("utf-8-sig"))
        if name:
            return {name: value}
        if not isinstance(value, dict):
            raise DataError(f"expected a JSON object, found {type(value).__name__}")
        return value
    return {}
