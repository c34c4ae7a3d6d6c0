"""A row: images, texts and facts under names, read lazily. Every reader gives these and every task takes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, overload, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from ..core.shapes import Film

__all__ = ["ClipRef", "ImageRef", "LazyRows", "MaskRef", "Reader", "Row", "Shot"]


@runtime_checkable
class ImageRef(Protocol):
    """An image that is not read yet.

    where: names it in messages ("data/metadata.jsonl:12 (source: a.png)"). digest(): hex hash of its *content*, so that a cache
    notices an edited file. pixels(size): (3, size, size) float32 in [-1, 1], center-cropped and resized; DataError if unreadable.
    """

    @property
    def where(self) -> str: ...

    def digest(self) -> str: ...

    def pixels(self, size: int) -> Tensor: ...


@runtime_checkable
class MaskRef(Protocol):
    """A mask that is not read yet.

    mask(size): (1, size, size) float32 in [0, 1], 1 where marked; ShapeError if the mask does not have its image's size.
    """

    @property
    def where(self) -> str: ...

    def digest(self) -> str: ...

    def mask(self, size: int) -> Tensor: ...


class Shot(NamedTuple):
    """A clip that was read: pixels in [-1, 1], and of its t - 1 pairs of neighboring frames, which belong together: false across a
    cut, and where a frame is shown twice."""

    frames: Film
    joined: Bool[Tensor, "steps"]


@runtime_checkable
class ClipRef(Protocol):
    """A clip of frames at equal distances in time that is not read yet.

    digest(): hex hash of its content, the frames' times included. shot(size): square frames, center-cropped and resized; DataError
    if unreadable.
    """

    @property
    def where(self) -> str: ...

    @property
    def frames(self) -> int: ...

    def digest(self) -> str: ...

    def shot(self, size: int) -> Shot: ...


@dataclass(frozen=True)
class Row:
    """One example.

    id: unique in its data set. group: rows of one group never straddle a split.
    images: "source", "target" (edits) or "target" alone (text to image). masks: "changed": white where the edit may change pixels.
    texts: "instruction", "source", "target" (captions). Wrong ones, where there are: texts "negative.1" to "negative.k" of the
    target, hardest first; image "negative", of which the target's caption is wrong. facts: anything else; the toy world's truth.
    where: file and row, for messages. clips: "target", of rows that are videos.
    """

    id: str
    group: str
    images: Mapping[str, ImageRef]
    texts: Mapping[str, str]
    masks: Mapping[str, MaskRef] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    where: str = ""
    clips: Mapping[str, ClipRef] = field(default_factory=dict)


@runtime_checkable
class Reader(Protocol):
    """Gives the rows of a data set, in an order that is the same every time. Registered with `@reader(name)`; fields are settings.

    skipped: rows left out where the recipe allows it (`on_bad_row = "skip"`), each with its reason.
    """

    skipped: list[str]

    def rows(self) -> Sequence[Row]: ...


@dataclass(frozen=True)
class LazyRows(Sequence[Row]):
    """`length` rows that `make` gives by index, each time anew."""

    length: int
    make: Callable[[int], Row]

    def __len__(self) -> int:
        return self.length

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Row]: ...
    def __getitem__(self, index: int | slice) -> Row | Sequence[Row]:
        if isinstance(index, slice):
            return [self.make(i) for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(f"row {index} of {self.length}")
        return self.make(index % self.length)
