"""How each cell of a row is read, keyed and encoded: what the cache holds of it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..core.errors import DataError
from ..core.shapes import NullTokens, Pixels, Tokens
from ..data.rows import Row, Shot
from ..models.codec import Moments
from ..tasks.base import Needs
from .encoded import Column

__all__ = ["Entry", "ImageEncoder", "Looker", "Plan", "WordEncoder"]

PREPROCESSING = 1  # raise it when decoding, cropping or resizing of images changes
READ = {"image": "pixels", "clip": "shot", "look": "shot", "mask": "mask"}  # the methods that read them

Entry = dict[str, Tensor]


@runtime_checkable
class ImageEncoder(Protocol):
    """What the cache needs of a codec. fingerprint: hash of its weights. factor: pixels along one edge of a latent cell."""

    factor: int

    @property
    def fingerprint(self) -> str: ...

    def encode(self, pixels: Pixels) -> Moments: ...


@runtime_checkable
class WordEncoder(Protocol):
    """What the cache needs of a text encoder. null: (1 n d), the states of the empty text."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def null(self) -> NullTokens: ...

    def encode(self, texts: Sequence[str]) -> Tokens: ...


@runtime_checkable
class Looker(Protocol):
    """What the cache needs of an image tower: (b 1 d) of images in [-1, 1]."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, pixels: Pixels) -> Tokens: ...


class Plan:
    """The columns that rows are encoded to, their stores, and how an entry of each kind is made."""

    def __init__(
        self,
        rows: Sequence[Row],
        needs: Needs,
        size: int,
        codec: ImageEncoder | None,
        text: WordEncoder | None,
        dtype: str,
        tower: Looker | None = None,
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"the cache stores float32 or float16, not {dtype!r}")
        if ((needs.images or needs.clips) and codec is None) or (needs.texts and text is None):
            raise ValueError("images need a codec and texts a text encoder")
        if needs.looks and tower is None:
            raise ValueError("looks need an image tower")
        self.size, self.codec, self.text, self.tower = size, codec, text, tower
        self.dtype = torch.float16 if dtype == "float16" else torch.float32
        masks = [name for name in needs.optional_masks if codec is not None and rows and all(name in row.masks for row in rows)]
        kinds = (("image", needs.images), ("clip", needs.clips), ("look", needs.looks), ("mask", masks), ("text", needs.texts))
        self.columns: list[Column] = [(kind, name) for kind, names in kinds for name in names]
        self.frames: dict[str, tuple[int, str]] = {}  # of clips by name: how many frames the first one has, and where it is
        self.groups: dict[str, str] = {}
        if codec is not None:
            self.groups["image"] = f"image-{codec.fingerprint}-p{PREPROCESSING}-{size}-{dtype}"
            self.groups["clip"] = f"clip-{codec.fingerprint}-p{PREPROCESSING}-{size}-{dtype}"
            self.groups["mask"] = f"mask-p{PREPROCESSING}-{size}-{codec.factor}-{dtype}"
        if text is not None:
            self.groups["text"] = f"text-{text.fingerprint}-{dtype}"
        if tower is not None:
            self.groups["look"] = f"look-{tower.fingerprint}-p{PREPROCESSING}-{size}-{dtype}"
        self.groups = {kind: self.groups[kind] for kind in dict(self.columns)}

    def key(self, row: Row, column: Column) -> str:
        """The content hash of one cell. DataError if the row lacks it or the file cannot be read."""
        kind, name = column
        cells: Mapping[str, Any] = {**_pictured(row), "text": row.texts}[kind]
        if name not in cells:
            found = ", ".join(sorted(cells)) or "none"
            what = "clip" if kind == "look" else kind
            hint = "; readers of videos give clips where they are told frames and stride" if what == "clip" else ""
            raise DataError(f"{row.where or row.id}: no {what} {name!r}, which the task needs; found: {found}{hint}")
        if kind == "clip":
            self._check_frames(row, name)
        if kind == "text":
            return hashlib.sha256(cells[name].encode()).hexdigest()[:32]
        try:
            return cells[name].digest()
        except OSError as error:
            raise DataError(f"{cells[name].where or row.where}: cannot be read ({error})") from error

    def _check_frames(self, row: Row, name: str) -> None:
        """DataError unless the clip is as long as the first one was: batches hold clips of one length."""
        count, where = row.clips[name].frames, row.where or row.id
        most, first = self.frames.setdefault(name, (count, where))
        if count != most:
            words = f"{where}: the clip {name!r} has {count} frames, that of {first} {most}"
            raise DataError(f"{words}; all clips of a data set have the same number, so cut them to it or leave this one out")

    def read(self, row: Row, column: Column) -> Any:
        """The cell's content: pixels, mask or text."""
        kind, name = column
        if kind == "text":
            return row.texts[name]
        ref: Any = _pictured(row)[kind][name]
        try:
            return getattr(ref, READ[kind])(self.size)
        except OSError as error:
            raise DataError(f"{ref.where or row.where}: cannot be read ({error})") from error

    def encode(self, kind: str, cells: list[Any]) -> list[Entry]:
        """Entries of cells of one kind, on the CPU in the stored type."""
        if kind == "clip":
            return [self._clip(cell) for cell in cells]
        if kind == "look":
            return self._looks([cell.frames[0] for cell in cells])
        if kind == "image":
            assert self.codec is not None
            stacked: Entry = self.codec.encode(torch.stack(cells))._asdict()
        elif kind == "mask":
            assert self.codec is not None
            stacked = {"mask": avg_pool2d(torch.stack(cells).float(), self.codec.factor)}  # the share of marked pixels
        else:
            assert self.text is not None
            stacked = {"tokens": self.text.encode(cells)}
        stored = {part: tensor.detach().cpu().to(self.dtype) for part, tensor in stacked.items()}
        return [{part: tensor[i].clone() for part, tensor in stored.items()} for i in range(len(cells))]

    def _clip(self, shot: Shot) -> Entry:
        """Moments (c t h w), and which neighboring frames belong together."""
        assert self.codec is not None
        moments = {part: tensor.transpose(0, 1).contiguous() for part, tensor in self.codec.encode(shot.frames)._asdict().items()}
        return {**{part: tensor.detach().cpu().to(self.dtype) for part, tensor in moments.items()}, "joined": shot.joined.clone()}

    def _looks(self, frames: list[Tensor]) -> list[Entry]:
        """What the tower sees in first frames, (1 d), and the frames themselves in 8 bits."""
        assert self.tower is not None
        pixels = torch.stack(frames)
        looks, eight = self.tower.encode(pixels).cpu().to(self.dtype), ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [{"look": look.clone(), "frame": frame.clone()} for look, frame in zip(looks, eight, strict=True)]


def _pictured(row: Row) -> dict[str, Mapping[str, Any]]:
    """The cells that are read from files, by kind."""
    return {"image": row.images, "clip": row.clips, "look": row.clips, "mask": row.masks}
