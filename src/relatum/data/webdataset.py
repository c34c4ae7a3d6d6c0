"""Reader "webdataset": tar shards, indexed once and read by offset. Nothing is ever extracted to disk."""

from __future__ import annotations

import json
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
from .tars import Member, members_of

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


def _samples(shard: Path) -> Iterator[Record]:
    samples: dict[str, dict[str, Member]] = {}
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


def _index(shard: Path) -> Iterator[Member]:
    """The regular files of a shard. DataError at the first that is refused."""
    for member in members_of(shard):
        if member.fault:
            here = f": member {shown(member.name)}" if member.name else ":"
            raise DataError(f"{shown(str(shard))}{here} {member.fault}{'; the shard is refused' if member.name else ''}")
        yield member


def _record(shard: Path, key: str, sample: dict[str, Member]) -> Record:
    where, fault = f"{shown(str(shard))}:{shown(key)}", ""
    values: dict[str, Any] = {}
    images: dict[str, Member] = {}
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


def _values(extension: str, member: Member, where: str) -> dict[str, Any]:
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
