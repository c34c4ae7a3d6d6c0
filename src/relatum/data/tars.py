"""Members of uncompressed tar files: where each lies, and why one is refused. Nothing is ever extracted to disk."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ..core.errors import DataError
from .refs import shown

__all__ = ["Member", "members_of"]

UNSAFE, FAILED = "unsafe", "open_failed"


@dataclass(frozen=True)
class Member:
    """A member of a tar shard, `size` bytes at `offset`. name: "" where the fault is the shard's own.

    fault: why it is refused; reason: the same in a word, "unsafe" or "open_failed".
    """

    shard: Path
    name: str
    offset: int = 0
    size: int = 0
    fault: str = ""
    reason: str = ""

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


def members_of(shard: Path) -> Iterator[Member]:
    """All but folders, in their order. Refused: links, devices, sparse files, names that lead out of the archive, what is cut off.

    An archive that is none, or is without its end, is a last member without a name.
    """
    found = False
    try:
        length = shard.stat().st_size
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                found = True
                if not member.isdir() or _leads_out(member.name):
                    yield Member(shard, member.name, member.offset_data, member.size, *_fault(member, length))
            end = tar.offset
        with shard.open("rb") as file:  # tarfile takes a broken header in the middle for the end
            file.seek(end)
            if file.read(512) != bytes(512):
                yield Member(shard, "", fault=f"is truncated or broken at byte {end} (no end-of-archive block)", reason=FAILED)
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        what = "is truncated or broken" if found else "is not an uncompressed tar file"
        yield Member(shard, "", fault=f"{what} ({error}); unpack .tar.gz shards first", reason=FAILED)


def _fault(member: tarfile.TarInfo, length: int) -> tuple[str, str]:
    if _leads_out(member.name):
        return "leads out of the archive", UNSAFE
    if not member.isreg() or member.issparse():
        return "is a link, a device or sparse; only regular files are read", UNSAFE
    cut = member.size < 0 or member.offset_data + member.size > length
    return ("is truncated", FAILED) if cut else ("", "")


def _leads_out(name: str) -> bool:
    return name.startswith("/") or ".." in PurePosixPath(name).parts or "\0" in name
