"""A question of a matching benchmark: some images, some texts, and which belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args, runtime_checkable

from ..refs import brief
from ..rows import ImageRef
from ..tables import utf8

__all__ = ["ASKS", "Ask", "Benchmark", "Item"]

Ask = Literal["text", "image", "group"]
ASKS: tuple[Ask, ...] = get_args(Ask)


@dataclass(frozen=True)
class Item:
    """One question. matches: (image, text) indices that belong together; every other pair does not.

    Winoground: 2 images, 2 texts, matches (0, 0) and (1, 1). ARO: 1 image, k texts, match (0, 0). ImageCoDe: 10 images, 1 text.
    Retrieval: one item of n images and all their captions. id: unique in its benchmark. tag: what is asked ("relation"), for
    tables by kind. group: items of one group are drawn together by a bootstrap. DataError for words that are not valid Unicode.
    """

    id: str
    images: tuple[ImageRef, ...]
    texts: tuple[str, ...]
    matches: tuple[tuple[int, int], ...]
    tag: str = ""
    group: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for text in (self.id, self.tag, self.group, *self.texts):
            utf8(text, f"item {brief(self.id)}:")


@runtime_checkable
class Benchmark(Protocol):
    """Registered with `@benchmark(name)`; a dataclass whose fields are settings.

    asks: "text": every image must find its text among the item's texts. "image": every text its image, with scores normalized by
    the empty caption's. "group": both. strict: a tie is wrong (Winoground); else a tie of k counts 1 / k.
    skipped: items left out, each with its reason.
    """

    skipped: list[str]

    @property
    def asks(self) -> tuple[Ask, ...]: ...
    @property
    def strict(self) -> bool: ...
    def items(self) -> Sequence[Item]: ...
