"""Benchmark "toy_order": one scene, its caption, and the same words in other orders, by the four rules of COCO-Order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count as counted
from typing import ClassVar

from ...core.draws import key_of
from ...core.registry import benchmark
from ..toy.claims import is_true
from ..toy.readers import SceneImage, Split, ToyScenes, scene_of_row
from ..toy.scene import Grounds, Layout, Scene
from .item import Ask, Item

__all__ = ["ToyOrder"]

_ARTICLES = ("a", "an")


@benchmark("toy_order")
@dataclass
class ToyOrder:
    """Items of one scene of two objects and five texts: its caption, and one by each of `data.negatives.ORDER_RULES`.

    All five are the same bag of words; no wrong one reads as a sentence that is true of the scene. split, grounds, layout: as of
    the reader "toy_scenes". Item i depends on (seed, split, i) alone. Facts: "scenes", "rules" (of the wrong texts, in order).

    >>> item = ToyOrder(count=2).items()[1]
    >>> item.id, len(item.texts), item.facts["rules"][3]
    ('toy_order-test-0-1', 5, 'shuffle_trigrams')
    """

    asks: ClassVar[tuple[Ask, ...]] = ("text",)
    strict: ClassVar[bool] = False

    count: int = 200
    seed: int = 0
    split: Split = "test"
    grounds: Grounds = "both"
    layout: Layout = "free"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        ToyScenes(self.split, self.count, self.seed, grounds=self.grounds)  # refuses what it cannot draw

    def items(self) -> Sequence[Item]:
        return [self._item(index) for index in range(self.count)]

    def _item(self, index: int) -> Item:
        from ..negatives import ORDER_RULES

        name = f"toy_order-{self.split}-{self.seed}-{index}"
        for attempt in counted():
            seed = key_of("toy_order", self.seed, index, attempt)
            scenes = ToyScenes(self.split, 1, seed, 2, self.grounds, min_objects=2, related=True, layout=self.layout)
            row = scenes.rows()[0]
            scene, caption = scene_of_row(row), row.texts["target"]
            wrong = _wrong(caption, scene, seed)
            if len(wrong) == len(ORDER_RULES):
                facts = {"scenes": [scene.facts()], "rules": list(wrong.values())}
                return Item(name, (SceneImage(scene, name),), (caption, *wrong), ((0, 0),), "", name, facts)
        raise AssertionError("unreachable")


def _wrong(caption: str, scene: Scene, key: int) -> dict[str, str]:
    """Rule by text. The plain tagger, so that no library decides what is asked."""
    from ..negatives import ORDER_RULES, RuleTagger, perturb

    found = perturb(caption, ORDER_RULES, key, RuleTagger())
    texts = {_as_given(negative.text, caption): negative.rule for negative in found.negatives}
    bag = sorted(caption.split())
    return {t: rule for t, rule in texts.items() if t != caption and sorted(t.split()) == bag and not is_true(t, scene)}


def _as_given(text: str, caption: str) -> str:
    """Where articles were fitted to their new neighbors, the caption's own, in its order: the words must tell nothing."""
    words = text.split()
    if sorted(words) == sorted(caption.split()):
        return text
    given = iter([word for word in caption.split() if word in _ARTICLES])
    return " ".join(next(given, word) if word in _ARTICLES else word for word in words)
