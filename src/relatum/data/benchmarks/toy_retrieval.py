"""Benchmark "toy_retrieval": scenes of two objects on one ground, in pairs that share all words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count as counted
from typing import ClassVar

from ...core.draws import key_of
from ...core.registry import benchmark
from ..toy.claims import is_true
from ..toy.readers import SPLITS, SceneImage, Split
from ..toy.scene import GROUND_COLORS, Ground, Layout, Scene, pairs_of
from ..toy.winoworld import draw_question
from .item import Ask, Item
from .retrieval import retrieval_items

__all__ = ["ToyRetrieval"]


@benchmark("toy_retrieval")
@dataclass
class ToyRetrieval:
    """Items of `candidates` scenes (0: one item of all) and one caption each, true of its own scene alone. All on one plain ground.

    alike: 2: scenes come in pairs in which two objects have exchanged their colors, and their captions are the same bag of words in
    the same wording, so that words alone leave at least two candidates; 1: all are drawn freely. split: as of the reader
    "toy_scenes". Facts: "scenes".

    >>> item = ToyRetrieval(count=6).items()[0]
    >>> len(item.images), len(set(item.texts)), item.matches[5]
    (6, 6, (5, 5))
    """

    asks: ClassVar[tuple[Ask, ...]] = ("text", "image")
    strict: ClassVar[bool] = False

    count: int = 64
    candidates: int = 0
    seed: int = 0
    split: Split = "test"
    alike: int = 2
    ground: str = "light gray"
    layout: Layout = "free"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split: found {self.split!r}, expected one of {', '.join(SPLITS)}")
        if self.ground not in GROUND_COLORS:
            raise ValueError(f"ground: found {self.ground!r}, expected one of {', '.join(GROUND_COLORS)}")
        if self.alike not in (1, 2):
            raise ValueError(f"alike: found {self.alike}, expected 1 or 2")
        size = self.candidates or self.count
        if size < 2 or size % self.alike or self.count % size:
            raise ValueError(
                f"count: found {self.count} scenes for items of {size}; expected whole items of a multiple of {max(2, self.alike)}"
            )

    def items(self) -> Sequence[Item]:
        size = self.candidates or self.count
        items = []
        for number in range(self.count // size):
            name = f"toy_retrieval-{self.split}-{self.seed}-{number}"
            drawn = self._drawn(number, size)
            found = [(SceneImage(scene, f"{name} (image {i})"), (text,)) for i, (scene, text) in enumerate(drawn)]
            made = retrieval_items(name, found, [range(size)])[0]
            facts = {"scenes": [scene.facts() for scene, _ in drawn]}
            items.append(Item(name, made.images, made.texts, made.matches, "", name, facts))
        return items

    def _drawn(self, number: int, size: int) -> list[tuple[Scene, str]]:
        """Scenes and captions, each true of its own scene alone."""
        held_out = self.split == "held_out_attributes"
        grounds, pairs = (Ground(self.ground),), pairs_of(held_out)
        drawn: list[tuple[Scene, str]] = []
        for attempt in counted():
            if len(drawn) == size:
                break
            key = key_of("toy_retrieval", self.seed, self.split, number, attempt)
            asked = draw_question(key, "binding", grounds, pairs, held_out, self.layout)
            new = list(zip(asked.scenes, asked.captions, strict=True))[: self.alike]
            if not any(_confused(known, one) for known in drawn for one in new):
                drawn += new
        return drawn


def _confused(one: tuple[Scene, str], other: tuple[Scene, str]) -> bool:
    """Whether a caption of one is true of the other's scene."""
    if {o.pair for o in one[0].objects} != {o.pair for o in other[0].objects}:
        return False
    return bool(is_true(one[1], other[0]) or is_true(other[1], one[0]))
