"""Benchmark "winoworld": the toy world's questions of binding, relation and order, in Winoground's form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ...core.draws import key_of
from ...core.registry import benchmark
from ..toy.readers import SPLITS, SceneImage, Split
from ..toy.scene import Grounds, Layout, grounds_of, pairs_of
from ..toy.winoworld import QUESTIONS, QuestionKind, draw_question
from .item import Ask, Item

__all__ = ["Winoworld"]


@benchmark("winoworld")
@dataclass
class Winoworld:
    """Items of two scenes of two objects and two captions; caption i is true of scene i and false of the other, by construction.

    Kinds (the tag), in turn: "binding": the objects have exchanged their colors, the captions are one bag of words. "relation":
    they have exchanged their places and the captions differ in the relation's word. "order": the same scenes, told as the same bag
    of words with the two noun phrases exchanged. split, grounds, layout: as of the reader "toy_scenes"; in "held_out_attributes"
    one of the scenes shows a pair of HELD_OUT. Item i depends on (seed, split, i) and its kind alone. Facts: "scenes", of both.

    >>> item = Winoworld(count=18).items()[17]
    >>> item.id, item.tag, item.matches
    ('winoworld-test-0-17', 'order', ((0, 0), (1, 1)))
    """

    asks: ClassVar[tuple[Ask, ...]] = ("text", "image", "group")
    strict: ClassVar[bool] = True

    count: int = 200
    seed: int = 0
    split: Split = "test"
    kinds: tuple[QuestionKind, ...] = QUESTIONS
    grounds: Grounds = "both"
    layout: Layout = "free"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"split: found {self.split!r}, expected one of {', '.join(SPLITS)}")
        if self.count < 1:
            raise ValueError(f"count: found {self.count}, expected at least 1")
        unknown = sorted(set(self.kinds) - set(QUESTIONS))
        if not self.kinds or unknown:
            raise ValueError(f"kinds: found {unknown or 'none'}, expected some of {', '.join(QUESTIONS)}")

    def items(self) -> Sequence[Item]:
        return [self._item(index) for index in range(self.count)]

    def _item(self, index: int) -> Item:
        held_out = self.split == "held_out_attributes"
        kind = self.kinds[index % len(self.kinds)]
        key = key_of("winoworld", self.seed, self.split, index)
        asked = draw_question(key, kind, grounds_of(self.grounds), pairs_of(held_out), held_out, self.layout)
        name = f"winoworld-{self.split}-{self.seed}-{index}"
        images = tuple(SceneImage(scene, f"{name} (image {i})") for i, scene in enumerate(asked.scenes))
        facts = {"scenes": [scene.facts() for scene in asked.scenes]}
        return Item(name, images, asked.captions, ((0, 0), (1, 1)), kind, name, facts)
