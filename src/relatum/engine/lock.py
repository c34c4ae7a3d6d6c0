"""One process at a time in a run folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..atomic import make_folder
from ..core.errors import DataError

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

__all__ = ["locked"]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder/.lock` for the length of a with-block; DataError where another process does. Gone with its process.

    Does nothing where the system or the file system has no locks. A folder that is still empty at the end is removed again.
    """
    if fcntl is None:
        yield
        return
    make_folder(folder)
    path = folder / ".lock"
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}); choose another output_dir") from error
    try:
        if not _taken(handle, path):
            raise DataError(f"another process trains in {folder}; wait for it, stop it, or give this run another output_dir")
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held, so that no other process loses its own
    finally:
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()


def _taken(handle: int, path: Path) -> bool:
    """Whether the lock is this process's now, and still the one that others find."""
    assert fcntl is not None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        mine, now = os.fstat(handle), path.stat()
        return (mine.st_dev, mine.st_ino) == (now.st_dev, now.st_ino)  # else its holder removed it in between
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError:  # a file system without locks
        return True
