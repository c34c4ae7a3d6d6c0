"""Files that are whole or absent: written beside, synced to the disk, renamed. What cannot be written is an error that says so."""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .core.errors import DataError

__all__ = [
    "DiskFull",
    "make_folder",
    "needs_disk",
    "remove_stale",
    "sync_folder",
    "temporary",
    "write_bytes",
    "write_pieces",
    "write_text",
]


_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
DAY = 86400.0  # seconds


class DiskFull(DataError):
    """Nothing more can be written; says where, and what is free."""


def temporary(path: Path) -> Path:
    """The hidden name beside `path` under which this process writes it; no other process, also of another machine, has it."""
    return path.with_name(f".{path.name}.tmp-{_HOST}-{os.getpid()}")


@contextmanager
def needs_disk(folder: Path, needed: int | None = None) -> Iterator[None]:
    """Turns "no space left" inside the block into a DataError that names the folder, the free and the needed bytes."""
    try:
        yield
    except Exception as error:
        # safetensors raises its own class, with the system's words in it
        words = ("no space left", "os error 28", "os error 122", "quota exceeded")
        full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        if not full and not any(word in str(error).lower() for word in words):
            raise
        free = shutil.disk_usage(folder).free
        wanted = "" if needed is None else f", {needed:,} bytes are needed"
        raise DiskFull(
            f"{folder}: the disk is full: {free:,} bytes are free{wanted}; nothing was left half-written. "
            "Make room or choose another folder; the same command goes on where this one stopped"
        ) from error


@contextmanager
def _writable(path: Path) -> Iterator[None]:
    """Turns what the system says against writing `path` inside the block into a DataError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{path}: cannot be written ({reason}); choose another place, or make this one writable") from error


def make_folder(folder: Path) -> None:
    """The folder and its parents, if they are not there. DataError if they cannot be made."""
    with _writable(folder), needs_disk(_existing(folder)):
        folder.mkdir(parents=True, exist_ok=True)


def _existing(folder: Path) -> Path:
    return next((path for path in (folder, *folder.parents) if path.is_dir()), Path())


def write_bytes(path: Path, data: bytes) -> None:
    """Writes `data` so that `path` holds the old content or the new, whatever happens. DataError if it cannot be written."""
    write_pieces(path, (data,), len(data))


def write_pieces(path: Path, pieces: Iterable[bytes], size: int | None = None) -> None:
    """`write_bytes` for what is not held at once. size: bytes that are needed, where known."""
    make_folder(path.parent)
    with _writable(path):
        _write(path, pieces, size)


def _write(path: Path, pieces: Iterable[bytes], size: int | None) -> None:
    beside = temporary(path)
    try:
        with needs_disk(path.parent, size), beside.open("wb") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
            os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_bytes` for text, in UTF-8."""
    write_bytes(path, text.encode())


def sync_folder(folder: Path) -> None:
    """Makes renames in `folder` survive a power cut, where the system can."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_stale(folder: Path) -> None:
    """Deletes what processes that are gone had begun to write or to delete in `folder`; leaves what a living one has there, and
    for a day what is another machine's."""
    for path in [*folder.glob(".*.tmp-*"), *folder.glob(".*.old-*")]:
        rest, _, process = path.name.rpartition("-")
        host = rest.rpartition("-")[2]
        if re.fullmatch("[0-9a-f]{8}", host) and host != _HOST and _age(path) < DAY:
            continue
        if process.isdigit() and int(process) != os.getpid() and _lives(int(process)):
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _age(path: Path) -> float:
    """Seconds since it was changed; 0 of what is gone meanwhile."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:
        return True
    return True
