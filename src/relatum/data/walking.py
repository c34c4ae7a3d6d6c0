"""Folders of videos, walked in the natural order of names: what lies there, what metadata.jsonl says, and what is no video."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import DataError
from .described import NOTHING, Told, merged, told
from .tables import Line, read_jsonl
from .video_readers import natural

__all__ = ["Found", "Others", "Walk", "fault_of", "pattern_of", "printable"]

KINDS = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")
METADATA = "metadata.jsonl"
EXAMPLES = 3


@dataclass(frozen=True)
class Found:
    """A file below a folder. name: with the folder's. told: what metadata.jsonl says. names: all that lies beside it.

    named: a pattern asks for this suffix, so that it is what its suffix says, as if it were named. reason, fault: as a Source's.
    """

    path: Path
    name: str
    told: Told = NOTHING
    names: Collection[str] = ()
    named: bool = False
    reason: str = ""
    fault: str = ""


@dataclass
class Others:
    """Files that are neither videos nor captions, counted by suffix."""

    place: str
    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str) -> None:
        kind = os.path.splitext(name)[1].lower()
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            self.examples.setdefault(kind, []).append(printable(name))

    def lines(self) -> Iterator[tuple[str, str]]:
        """(name for all of a suffix, what is to be said)."""
        for kind, count in sorted(self.counts.items()):
            why = "captions of no video, or other text" if kind in (".txt", ".json") else "by the suffix"
            what = f"{count} files are no videos" if count > 1 else "is no video"
            more = f" and {count - EXAMPLES} more" if count > EXAMPLES else ""
            uri = f"{self.place}*{kind or ' without a suffix'}"
            yield uri, f"{what} ({why}): {', '.join(self.examples[kind])}{more}"


@dataclass
class Walk:
    """All below the folder `root`, shown as `name`. pattern: parts of a glob that files (or folders, with all in them) must fit."""

    root: Path
    name: str
    suffixes: Collection[str]
    follow: bool
    pattern: tuple[str, ...] = ()
    _others: Others = field(init=False)
    _told: dict[str, Told] = field(default_factory=dict, init=False)
    _entered: set[tuple[int, int]] = field(default_factory=set, init=False)

    def __iter__(self) -> Iterator[Found]:
        self._others = Others(self._name("**/"))
        stack = [("", not self.pattern)]
        while stack:
            at, whole = stack.pop()
            folders: list[tuple[str, bool]] = []
            try:
                entries = sorted(os.scandir(self.root / at), key=lambda entry: natural(entry.name))
                if not self._enter(at):
                    yield self._fault(at, "repeated", "a link to a folder that was listed already, or leads back into itself")
                    continue
            except OSError as error:
                yield self._fault(at, "open_failed", f"the folder cannot be read ({error.strerror})")
                continue
            yield from self._files(at, entries, whole, folders)
            stack += reversed(folders)
        for at in self._told if not self.pattern else ():
            reason, fault = fault_of(self.root / at, True) or ("not_video", "is no regular file of this folder")
            yield self._fault(at, reason, f"{fault}; {METADATA} names it")
        for uri, words in self._others.lines():
            yield Found(self.root, uri, reason="not_video", fault=words)

    def _files(self, at: str, entries: list[os.DirEntry[str]], whole: bool, folders: list[tuple[str, bool]]) -> Iterator[Found]:
        """What of one folder fits; its folders go to `folders`."""
        names = frozenset(entry.name for entry in entries)
        if METADATA in names:
            yield from self._metadata(at)
        stems = {os.path.splitext(name)[0] for name in names if self._is_video(_below(at, name))}
        for entry in entries:
            here = _below(at, entry.name)
            fits = whole or _fits(here.split("/"), self.pattern)
            if entry.is_dir(follow_symlinks=False) or (self.follow and entry.is_symlink() and os.path.isdir(entry.path)):
                if fits or _fits(here.split("/"), self.pattern, partly=True):
                    folders.append((here, fits))
            elif fits:
                yield from self._file(here, entry, names, stems)

    def _file(self, here: str, entry: os.DirEntry[str], names: Collection[str], stems: Collection[str]) -> Iterator[Found]:
        path, (stem, suffix) = Path(entry.path), os.path.splitext(entry.name)
        named = bool(self.pattern) and suffix != "" and os.path.splitext(self.pattern[-1])[1] == suffix
        wanted = named or suffix == ".tar" or self._is_video(here)
        reason, fault = ("", "") if entry.is_file(follow_symlinks=False) else fault_of(path, self.follow) or ("", "")
        beside = entry.name == METADATA or (suffix in (".txt", ".json") and stem in stems)
        if beside and not wanted:
            return  # it is read, and what is wrong with it said, elsewhere
        if not wanted and reason in ("", "link") and os.path.isfile(path):
            self._others.add(here)
        elif reason:
            self._told.pop(here, None)
            yield self._fault(here, reason, fault)
        else:
            yield Found(path, self._name(here), self._told.pop(here, NOTHING), names, named)

    def _is_video(self, here: str) -> bool:
        return os.path.splitext(here)[1].lower() in self.suffixes or here in self._told

    def _metadata(self, at: str) -> Iterator[Found]:
        """Reads a metadata.jsonl, whose file names are relative to its folder."""
        file = _below(at, METADATA)
        if fault := fault_of(self.root / file, self.follow):
            yield self._fault(file, *fault)
            return
        try:
            for line in read_jsonl(self.root / file):
                try:
                    here = _below(at, _file_name(line))
                    self._told[here] = merged(self._told.get(here, NOTHING), told(line.values))
                except _Unsafe as error:
                    yield self._fault(f"{file}:{line.number}", "unsafe", str(error))
                except DataError as error:
                    yield self._fault(f"{file}:{line.number}", "bad_row", str(error))
        except DataError as error:
            yield self._fault(file, "open_failed", str(error))

    def _enter(self, at: str) -> bool:
        """Whether this folder was not entered before, by another way."""
        if not self.follow:
            return True
        found = os.stat(self.root / at)
        key = (found.st_dev, found.st_ino)
        new = key not in self._entered
        self._entered.add(key)
        return new

    def _fault(self, at: str, reason: str, fault: str) -> Found:
        return Found(self.root / at, self._name(at), reason=reason, fault=fault)

    def _name(self, at: str) -> str:
        return at if self.name == "." else f"{self.name.rstrip('/')}/{at}"


class _Unsafe(DataError):
    """A name that leads out."""


def _file_name(line: Line) -> str:
    if line.fault:
        raise DataError(line.fault)
    name: Any = line.values.get("file_name")
    if not isinstance(name, str) or not name:
        raise DataError(f"file_name is {name!r:.80}, expected the name of a file")
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts:
        raise _Unsafe(
            f"{printable(name)} leads out of the folder; keep the videos inside it, or list them in a table of another name"
        )
    return path.as_posix()


def _below(at: str, name: str) -> str:
    return f"{at}/{name}" if at else name


def pattern_of(path: PurePosixPath) -> tuple[PurePosixPath, tuple[str, ...]]:
    """The folder that a glob begins in, and the parts of its pattern; none where it is no glob."""
    parts = path.parts
    first = next((i for i, part in enumerate(parts) if any(sign in part for sign in "*?[")), len(parts))
    return PurePosixPath(*parts[:first]), parts[first:]


def _fits(parts: list[str], pattern: tuple[str, ...], partly: bool = False) -> bool:
    """As a shell matches: `*` takes no hidden names, `**` any depth. partly: whether something below it may fit."""
    if not parts:
        return bool(pattern) if partly else all(part == "**" for part in pattern)
    if not pattern:
        return False
    if pattern[0] == "**":
        return _fits(parts, pattern[1:], partly) or (not parts[0].startswith(".") and _fits(parts[1:], pattern, partly))
    hidden = parts[0].startswith(".") and not pattern[0].startswith(".")
    return not hidden and fnmatchcase(parts[0], pattern[0]) and _fits(parts[1:], pattern[1:], partly)


def fault_of(path: Path, follow: bool, text: str = "") -> tuple[str, str] | None:
    """(reason, words) why there is no regular file to read at `path`; opens nothing. text: the path as it was given."""
    link = False
    try:
        found = os.lstat(path)
        if link := stat.S_ISLNK(found.st_mode):
            found = os.stat(path)
    except FileNotFoundError:
        if not link and ADDRESS.match(text):
            return "open_failed", "is an address, or no such file; only files of this machine are read: download it first"
        return "open_failed", "is a link to nothing" if link else "no such file"
    except OSError as error:
        return "open_failed", "is in a loop of links" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
    except ValueError as error:  # a null byte, a surrogate that stands for no byte
        return "open_failed", f"is no file name ({error})"
    if link and not follow:
        return "link", "is a symbolic link, and follow_symlinks is false"
    if stat.S_ISDIR(found.st_mode):
        return "open_failed", "is a folder, expected a file"
    if not stat.S_ISREG(found.st_mode):
        return "open_failed", f"is {KINDS.get(stat.S_IFMT(found.st_mode), 'something else')}, not a regular file"
    return None


def printable(name: str) -> str:
    """A name with what cannot be shown as its escape (a line break as \\n), so that it is one line of valid Unicode."""
    return name if name.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)
