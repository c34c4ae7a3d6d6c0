"""Images and masks that lie in a file, a table or a tar shard, not read yet: the ImageRef and MaskRef of the readers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, ShapeError
from ..imaging import GROUNDS, MEGAPIXELS, decode, decode_mask, fit, fit_mask, size_of

__all__ = ["Content", "FileContent", "StoredImage", "StoredMask", "brief", "inside", "shown"]


@runtime_checkable
class Content(Protocol):
    """Bytes that can be read whenever they are needed. DataError naming `where` if they cannot."""

    def read(self, where: str) -> bytes: ...


def shown(name: str) -> str:
    """A file name or text for a one-line message: as it is when printable, else with its escapes."""
    return name if name.isprintable() else ascii(name)


def brief(text: str, most: int = 160) -> str:
    """`shown`, cut to `most` characters."""
    whole = shown(text if len(text) <= most else text[: most + 1])
    return whole if len(whole) <= most else f"{whole[: most - 3]}..."


def inside(root: Path, name: str, where: str) -> Path:
    """The file `name` under the folder `root`. DataError if it is absent, or leaves the folder by "..", "/" or a link."""
    if not name or "\0" in name:
        raise DataError(f"{where}: {name!r} is no file name")
    try:
        path, home = (root / name).resolve(), root.resolve()
        if not path.is_relative_to(home):
            raise DataError(f"{where}: the path leads out of {shown(str(root))}; keep the images inside the data folder")
        if path.is_file():
            return path
        what = "is not a regular file" if path.exists() else "no such file"
    except (OSError, RuntimeError) as error:  # name too long, a loop of links
        what = str(error)
    raise DataError(f"{where}: {what}")


@dataclass(frozen=True)
class FileContent:
    path: Path

    def read(self, where: str) -> bytes:
        try:
            return self.path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"{where}: no such file") from None
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True)
class StoredImage:
    """An image that is decoded when asked for. ground: the color behind transparent pixels."""

    content: Content
    where: str
    ground: str = "white"
    max_megapixels: float = MEGAPIXELS

    def stored_digest(self) -> str:
        """SHA-256 of the stored bytes."""
        return hashlib.sha256(self.content.read(self.where)).hexdigest()

    def digest(self) -> str:
        """Of what `pixels` depends on: the stored bytes and the ground."""
        return hashlib.sha256(f"{self.stored_digest()} {self.ground}".encode()).hexdigest()

    def pixels(self, size: int) -> Float[Tensor, "3 size size"]:
        """Center-cropped and resized, float32 in [-1, 1]."""
        return fit(decode(self.content.read(self.where), self.where, GROUNDS[self.ground], self.max_megapixels), size)

    def size(self) -> tuple[int, int]:
        """(height, width) as stored, upright."""
        return size_of(self.content.read(self.where), self.where, self.max_megapixels)


@dataclass(frozen=True)
class StoredMask:
    """A mask of an image: white where the edit may change pixels. It must have the image's size."""

    content: Content
    where: str
    image: StoredImage

    def digest(self) -> str:
        """Of the stored bytes and the image's size: an equal mask of an image of another size must be looked at again."""
        h, w = self.image.size()
        return hashlib.sha256(f"{h} {w} ".encode() + self.content.read(self.where)).hexdigest()

    def mask(self, size: int) -> Float[Tensor, "1 size size"]:
        """Cropped like its image and resized by area, float32 in [0, 1]. ShapeError naming both sizes if they differ."""
        full, (h, w) = decode_mask(self.content.read(self.where), self.where, self.image.max_megapixels), self.image.size()
        if full.shape[1:] != (h, w):
            raise ShapeError(f"{self.where}: the mask is {full.shape[1]} x {full.shape[2]}, its image {self.image.where} {h} x {w}")
        return fit_mask(full, size)
