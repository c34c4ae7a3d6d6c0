"""What a curation's [input] lists: videos in folders, patterns, lists, tables and tar shards, each usable or with its fault."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import DataError, RecipeError
from ..core.load import near
from ..video.opening import SUFFIXES
from ..video.source import Hashes, Source, content_of, open_regular, opened
from .described import NOTHING, ROLES, TABLES, Told, beside, lines_of, merged, roles_of, told, told_by
from .tables import Line
from .tars import Member, members_of
from .walking import Found, Others, Walk, fault_of, pattern_of, printable

__all__ = ["Hashes", "Inputs", "Source", "content_of", "opened"]

LONGEST = 2**16  # bytes of a line in a list of paths


@dataclass
class Inputs:
    """The table [input] of a curation.

    path: a folder (with all below it), a pattern (`*`, `?`, `[...]`, `**`), a file, or a list of them. A .txt is a list of paths,
    one a line; .jsonl, .csv and .parquet are tables of paths; a .tar is a WebDataset shard; any other file is a video, whatever its
    name. columns: of tables, by role (path, title, caption, license, tag, group), where they are not named as expected; rows of one
    path are one source with all their captions. follow_symlinks: links found in folders are followed; what the recipe, a list or a
    table names always is. suffixes: of files in folders and shards that are taken for videos.
    Captions: NAME.txt (each line one) and NAME.json ({"caption" or "text": a text or a list, "title", ...}) beside NAME.mp4, and
    a folder's metadata.jsonl ({"file_name", "text", "video": what it was cut from}).
    """

    path: str | list[str]
    columns: dict[str, str] = field(default_factory=dict)
    follow_symlinks: bool = False
    suffixes: tuple[str, ...] = SUFFIXES

    def __post_init__(self) -> None:
        for role in self.columns:
            if role not in ROLES:
                raise RecipeError(f"input.columns: no role {role!r}{near(role, ROLES)}")
        if not self.path or "" in self._paths():
            raise RecipeError("input.path: expected a folder, a file, a pattern, or a list of them; found an empty one")
        if wrong := [suffix for suffix in self.suffixes if not re.fullmatch(r"\.[^./A-Z]+", suffix)]:
            raise RecipeError(f"input.suffixes: {wrong[0]!r}: expected a suffix in lower case with its dot, like '.mp4'")

    def sources(self, folder: Path) -> Iterator[Source]:
        """All inputs, in an order that is always the same. folder: what relative paths are relative to, the recipe's.

        Opens lists, tables, captions and tars, no video. DataError only for what makes the recipe wrong: a path where nothing is,
        a table without a column, a path that lists nothing at all.
        """
        seen: dict[str, int] = {}
        for text, listing in [(text, self._listing(folder.absolute(), text)) for text in self._paths()]:
            empty = True
            for source in listing:
                empty = False
                yield _named(source, seen)
            if empty:
                raise DataError(f"input.path: {printable(text)}: lists no videos (looked for {', '.join(self.suffixes)})")

    def _paths(self) -> list[str]:
        return [self.path] if isinstance(self.path, str) else self.path

    def _listing(self, folder: Path, text: str) -> Iterator[Source]:
        """Of one path of the recipe. DataError, before anything is listed, where nothing is."""
        path, name = folder / text, PurePosixPath(text).as_posix()
        if os.path.isdir(path):
            return self._folder(Walk(path, name, self.suffixes, self.follow_symlinks))
        start, pattern = pattern_of(PurePosixPath(text))
        if pattern and not os.path.lexists(path) and os.path.isdir(folder / start):
            return self._folder(Walk(folder / start, start.as_posix(), self.suffixes, self.follow_symlinks, pattern))
        if fault := fault_of(path, True, text):
            raise DataError(f"input.path: {printable(text)}: {fault[1]} (looked in {printable(str(folder))})")
        return self._file(path, name, True)

    def _folder(self, walk: Walk) -> Iterator[Source]:
        for found in walk:
            if found.reason:
                yield Source(printable(found.name), found.path, reason=found.reason, fault=found.fault)
            elif (suffix := found.path.suffix.lower()) == ".tar" or (found.named and suffix in (".txt", *TABLES)):
                yield from self._file(found.path, found.name, self.follow_symlinks)
            else:
                yield self._video(found)

    def _video(self, found: Found) -> Source:
        source = Source(printable(found.name), found.path, **vars(found.told))
        try:
            said = merged(found.told, beside(found.path, self.follow_symlinks, found.names))
        except DataError as error:
            return source.refused("bad_row", str(error))
        return replace(source, **vars(said))

    def _file(self, path: Path, name: str, follow: bool) -> Iterator[Source]:
        suffix = path.suffix.lower()
        if suffix == ".txt":
            yield from self._list(path, PurePosixPath(name))
        elif suffix in TABLES:
            yield from self._table(path, PurePosixPath(name))
        elif suffix == ".tar":
            yield from self._shard(path, name)
        else:
            yield Source(printable(name), path, **vars(beside(path, follow)))

    def _list(self, file: Path, name: PurePosixPath) -> Iterator[Source]:
        """Lines that are no UTF-8 are the names that they are for the system."""
        try:
            with open_regular(file) as lines:
                head = lines.read(3)
                lines.seek(3 if head == b"\xef\xbb\xbf" else 0)
                while line := lines.readline(LONGEST):
                    if text := os.fsdecode(line.rstrip(b"\r\n")):
                        yield from self._entry(file.parent / text, (name.parent / text).as_posix(), text)
        except (DataError, OSError) as error:
            yield Source(printable(str(name)), file, reason="open_failed", fault=f"the list cannot be read: {error}")

    def _entry(self, path: Path, name: str, text: str, said: Told | None = None) -> Iterator[Source]:
        """One path of a list or a table. said: by the table."""
        if fault := fault_of(path, True, text):
            shown = text if "://" in text else name  # of an address a path would lose a slash
            yield Source(printable(shown), path, **vars(said or NOTHING), reason=fault[0], fault=fault[1])
        elif said is None and path.suffix.lower() == ".tar":
            yield from self._shard(path, name)
        else:
            by_side = beside(path, True) if said is None or not said.captions else NOTHING
            try:
                yield Source(printable(name), path, **vars(merged(said or NOTHING, by_side)))
            except DataError as error:
                yield Source(printable(name), path, reason="bad_row", fault=str(error))

    def _table(self, file: Path, name: PurePosixPath) -> Iterator[Source]:
        where = printable(str(name))
        lines = list(lines_of(file, {*self.columns.values(), *(word for words in ROLES.values() for word in words)}))
        whole = [line for line in lines if not line.fault]
        roles = roles_of((column for line in whole for column in line.values), self.columns, where) if whole else {"path": ("",)}
        rows: dict[str, Told] = {}
        faults: list[Source] = []
        for line in lines:
            try:
                text = _path_of(line, roles["path"][0])
                rows[text] = merged(rows.get(text, NOTHING), told(line.values, roles))
            except DataError as error:
                faults.append(Source(f"{where}:{line.number}", file, reason="bad_row", fault=str(error)))
        for text, said in rows.items():
            yield from self._entry(file.parent / text, (name.parent / text).as_posix(), text, said)
        yield from faults

    def _shard(self, shard: Path, name: str) -> Iterator[Source]:
        """Videos of a shard with what the .txt and .json members of their keys say."""
        members = list(members_of(shard))
        said: dict[str, list[Member]] = {}
        for member in members:
            if not member.fault and PurePosixPath(member.name).suffix.lower() in (".txt", ".json"):
                said.setdefault(_key(member.name), []).append(member)
        others, seen = Others(f"{name}:"), set[str]()
        videos = {_key(member.name) for member in members if PurePosixPath(member.name).suffix.lower() in self.suffixes}
        for member in members:
            uri = printable(f"{name}:{member.name}" if member.name else name)
            if member.fault:
                yield Source(uri, shard, reason=member.reason, fault=member.fault)
            elif PurePosixPath(member.name).suffix.lower() in self.suffixes:
                source = _told_in(Source(uri, shard, (member.offset, member.size)), said.get(_key(member.name), []))
                yield source.refused("repeated", "another member has that name") if member.name in seen else source
                seen.add(member.name)
            elif member not in said.get(_key(member.name), []) or _key(member.name) not in videos:
                others.add(member.name)
        for uri, words in others.lines():
            yield Source(printable(uri), shard, reason="not_video", fault=words)


def _named(source: Source, seen: dict[str, int]) -> Source:
    """The source under a name of its own; the same file once more is a fault."""
    uri, count, same = source.uri, 1, hash((source.path, source.member))
    while uri in seen:
        if seen[uri] == same and not source.fault:
            source = source.refused("repeated", f"is listed already, as {uri}")
        count += 1
        uri = f"{source.uri} ({count})"
    seen[uri] = same
    return replace(source, uri=uri) if count > 1 else source


def _path_of(line: Line, column: str) -> str:
    if line.fault:
        raise DataError(line.fault)
    value: Any = line.values.get(column)
    if isinstance(value, dict):  # Hugging Face's struct of bytes and path
        value = value.get("path")
    if not isinstance(value, str) or not value:
        raise DataError(f"{column} is {value!r:.80}, expected the path of a video")
    return value


def _key(name: str) -> str:
    """WebDataset's: the name up to the first dot after the last slash."""
    folder, slash, last = name.rpartition("/")
    return folder + slash + last.partition(".")[0]


def _told_in(source: Source, members: list[Member]) -> Source:
    known, notes = NOTHING, list[str]()
    for member in members:
        try:
            known = merged(known, told_by(PurePosixPath(member.name).suffix.lower(), member.read("")))
        except DataError as error:
            notes.append(f"{printable(member.name)}: {error}")
    return replace(source, **{**vars(known), "note": "; ".join([*filter(None, [known.note]), *notes])})
