"""Where a video comes from: a file, or a member of an uncompressed tar; its content's hash, and a path that a decoder can open."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any

from ..atomic import make_folder, needs_disk, write_text
from .opening import SUFFIXES, VideoError

__all__ = ["Hashes", "Source", "content_of", "open_regular", "opened", "stamp_of"]

_STATUS = {"not_video": "reject", "link": "reject", "repeated": "duplicate"}
FRESH = 2 * 10**9  # nanoseconds: a file changed so lately may change again under the same time stamp
AUTOSAVE = 30.0  # seconds of hashing that a killed process may lose
PIECE = 2**20


@dataclass(frozen=True)
class Source:
    """One input. uri: its name for people and tables, unique, printable. member: (offset, size) in the uncompressed tar at `path`.

    group: what never stands on both sides of a split, "" for the video itself. note: what about it could not be used (captions that
    are no text). fault: why it cannot be used, as far as the listing tells; reason: the same in a word, "" where it can:
    "not_video" by its suffix (one source stands for all such files of a place), "link" that is not followed, "repeated" in the
    listing, "bad_row" of a table, "unsafe" (a member or name that leads elsewhere), "open_failed" for what is missing or no file.
    """

    uri: str
    path: Path
    member: tuple[int, int] | None = None
    title: str = ""
    captions: tuple[str, ...] = ()
    license: str = ""
    tag: str = ""
    group: str = ""
    note: str = ""
    fault: str = ""
    reason: str = ""

    @property
    def status(self) -> str:
        """ "" for one that can be used, as far as known; else "reject", "duplicate" or "error"."""
        return _STATUS.get(self.reason, "error") if self.fault else ""

    @property
    def size(self) -> int:
        """Bytes. VideoError where it is gone."""
        return self.member[1] if self.member else _asked(self).st_size

    def refused(self, reason: str, fault: str) -> Source:
        return replace(self, fault=fault, reason=reason)


def open_regular(path: Path) -> IO[bytes]:
    """A regular file for reading; never waits, as opening a pipe would. VideoError for anything else."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except (OSError, ValueError) as error:
        raise VideoError(f"cannot be read ({error.strerror if isinstance(error, OSError) else error})") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise VideoError("is not a regular file")
    return os.fdopen(handle, "rb")


def content_of(source: Source) -> str:
    """SHA-256 of the video's bytes, read once in pieces. VideoError if they cannot be read, or change meanwhile."""
    found = hashlib.sha256()
    with _reading(source) as (file, size):
        before = os.fstat(file.fileno())
        for piece in _pieces(file, size, source):
            found.update(piece)
        after = os.fstat(file.fileno())
        if _stamp(before) != _stamp(after):
            raise VideoError(f"{source.uri}: was changed while it was read; run the command again", "read_failed")
    return found.hexdigest()


@contextmanager
def opened(source: Source, scratch: Path, tell: Callable[[int], None] = lambda pieces: None) -> Iterator[Path]:
    """A path to the video alone: its own, or for a member of a tar that of a copy in `scratch`, removed afterwards.

    tell: is told after each MiB that is copied, how many there are.
    """
    if source.member is None:
        yield source.path
        return
    make_folder(scratch)
    suffix = Path(source.uri).suffix.lower()
    with NamedTemporaryFile(dir=scratch, prefix="member-", suffix=suffix if suffix in SUFFIXES else "") as copy:
        with needs_disk(scratch, source.member[1]), _reading(source) as (file, size):
            for number, piece in enumerate(_pieces(file, size, source), 1):
                copy.write(piece)
                tell(number)
            copy.flush()
        yield Path(copy.name)


class Hashes:
    """Contents of sources, remembered in `file` between runs under path, place in it, size, inode and times of change.

    also: files of others that are read and not written.

    Example: with Hashes(run / "hashes.json") as hashes: content = hashes.of(source)
    """

    def __init__(self, file: Path, also: Iterable[Path] = ()) -> None:
        self.file, self._saved, self._new = file, time.monotonic(), False
        self._known, self._others = _remembered(file), [_remembered(other) for other in also if other != file]

    def __enter__(self) -> Hashes:
        return self

    def __exit__(self, *about: object) -> None:
        self.save()

    def known(self, source: Source) -> str | None:
        """What is remembered of a file that has not changed since; reads nothing. VideoError where it is gone."""
        key, stamp = _key(source), [*_stamp(_asked(source)), _length(source)]
        entries = (known.get(key) for known in (self._known, *self._others))
        return next((entry[-1] for entry in entries if entry and entry[:-1] == stamp), None)

    def of(self, source: Source) -> str:
        """`content_of`, or from memory."""
        return self.known(source) or self.add(source, content_of(source))

    def add(self, source: Source, content: str) -> str:
        """Remembers what `content_of` gave, unless the file was changed within the last seconds."""
        asked = _asked(source)
        if time.time_ns() - max(asked.st_mtime_ns, asked.st_ctime_ns) > FRESH:
            self._known[_key(source)], self._new = [*_stamp(asked), _length(source), content], True
        if time.monotonic() - self._saved > AUTOSAVE:
            self.save()
        return content

    def save(self) -> None:
        if self._new:
            write_text(self.file, json.dumps(self._known))
        self._saved, self._new = time.monotonic(), False


def _remembered(file: Path) -> dict[str, list[Any]]:
    try:
        return {str(key): list(value) for key, value in json.loads(file.read_text("utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}  # none yet, or none that can be read: all is read again


def _key(source: Source) -> str:
    return f"{source.member[0] if source.member else ''}:{source.path}"


def _length(source: Source) -> int:
    return source.member[1] if source.member else -1


def stamp_of(path: Path) -> tuple[int, ...]:
    """What changes when a file is written to or replaced; empty where it is gone."""
    try:
        return tuple(_stamp(path.stat()))
    except OSError:
        return ()


def _stamp(found: os.stat_result) -> list[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _asked(source: Source) -> os.stat_result:
    try:
        return source.path.stat()
    except (OSError, ValueError) as error:
        raise VideoError(f"{source.uri}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


@contextmanager
def _reading(source: Source) -> Iterator[tuple[IO[bytes], int | None]]:
    try:
        file = open_regular(source.path)
    except VideoError as error:
        raise VideoError(f"{source.uri}: {error}") from None
    with file:
        if source.member:
            file.seek(source.member[0])
        yield file, source.member[1] if source.member else None


def _pieces(file: IO[bytes], size: int | None, source: Source) -> Iterator[bytes]:
    """`size` bytes, or all that there are."""
    left = size
    while left is None or left > 0:
        try:
            piece = file.read(PIECE if left is None else min(left, PIECE))
        except OSError as error:
            raise VideoError(f"{source.uri}: cannot be read ({error.strerror})", "read_failed") from None
        if not piece and left is not None:
            raise VideoError(f"{source.uri}: {source.path.name} has become shorter since it was listed", "read_failed")
        if not piece:
            return
        left = None if left is None else left - len(piece)
        yield piece
