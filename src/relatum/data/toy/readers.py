"""The toy world as data sets: rows made when they are asked for. Row i depends on (seed, split, i) and the settings alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count as counted
from typing import Any, Literal, get_args

from torch import Tensor

from ...core.draws import key_of
from ...core.registry import reader
from ..rows import LazyRows, Row
from .edits import KINDS, Edit, Kind, draw_edit, objects_needed
from .grammar import FALSE_KINDS, caption, false_scenes, plain_wording
from .render import changed, render
from .scene import HELD_OUT, Grounds, Layout, Object, Scene, Stream, draw_scene, grounds_of, lies_free, pairs_of

__all__ = ["SPLITS", "LazyRows", "SceneImage", "SceneMask", "ToyEdits", "ToyScenes", "scene_of_row"]

Split = Literal["train", "test", "held_out_attributes"]
SPLITS: tuple[Split, ...] = get_args(Split)
MOST = 2**40


@dataclass(frozen=True)
class SceneImage:
    """A scene's rendering, as an ImageRef."""

    scene: Scene
    where: str

    def digest(self) -> str:
        return self.scene.digest()

    def pixels(self, size: int) -> Tensor:
        """(3, size, size) float32 in [-1, 1]."""
        return render(self.scene, size)


@dataclass(frozen=True)
class SceneMask:
    """Where two scenes may differ, as a MaskRef."""

    source: Scene
    target: Scene
    where: str

    def digest(self) -> str:
        return f"{self.source.digest()}{self.target.digest()}"

    def mask(self, size: int) -> Tensor:
        """(1, size, size) float32, 0 or 1."""
        return changed(self.source, self.target, size)


@reader("toy")
@dataclass
class ToyEdits:
    """Edits: images "source" and "target", texts "instruction", "source" and "target" (captions that always differ),
    the exact mask "changed".

    split: "train" and "test" never show the pairs of shape and color in HELD_OUT; in "held_out_attributes" an object that the edit
    is about has one of them (for kind "ground": some object of the scene). kinds: drawn with equal chance. max_objects: 1 to 3 in
    source and target alike. grounds: "white", "plain", "textured" or "both".

    >>> row = ToyEdits(split="test", count=10).rows()[3]
    >>> row.id, sorted(row.images), row.masks["changed"].mask(32).shape
    ('toy-test-0-3', ['source', 'target'], torch.Size([1, 32, 32]))
    """

    split: Split = "train"
    count: int = 10_000
    seed: int = 0
    kinds: tuple[Kind, ...] = KINDS
    max_objects: int = 3
    grounds: Grounds = "both"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        _check(self.split, self.count, self.max_objects)
        unknown = sorted(set(self.kinds) - set(KINDS))
        if not self.kinds or unknown:
            raise ValueError(f"kinds: found {unknown or 'none'}, expected some of {', '.join(KINDS)}")
        for kind in self.kinds:
            low, high = objects_needed(kind, self.max_objects)
            if low > high:
                raise ValueError(
                    f"max_objects: found {self.max_objects}, but kind {kind!r} needs 2; raise it or leave the kind out"
                )

    def rows(self) -> Sequence[Row]:
        return LazyRows(self.count, self._row)

    def _row(self, index: int) -> Row:
        key = key_of("toy", self.seed, self.split, index)
        edit = self._edit(Stream(key))
        name = f"toy-{self.split}-{self.seed}-{index}"
        images = {role: SceneImage(scene, f"{name} ({role})") for role, scene in (("source", edit.source), ("target", edit.target))}
        return Row(
            id=name,
            group=name,
            images=images,
            texts={"instruction": edit.instruction, **_captions(edit, key)},
            masks={"changed": SceneMask(edit.source, edit.target, f"{name} (changed)")},
            facts=_facts(edit),
            where=name,
        )

    def _edit(self, stream: Stream) -> Edit:
        kind = stream.choice(self.kinds)
        grounds, pairs = grounds_of(self.grounds), pairs_of(held_out=self.split == "held_out_attributes")
        low, high = objects_needed(kind, self.max_objects)
        while True:
            source = draw_scene(stream, low + int(stream.uniform() * (high - low + 1)), grounds, pairs)
            edit = draw_edit(stream, source, kind, grounds, pairs)
            if edit is not None and (self.split != "held_out_attributes" or _shows_held_out(edit)):
                return edit


@reader("toy_scenes")
@dataclass
class ToyScenes:
    """Single scenes with captions: image "target", text "target". In "held_out_attributes" some object has a pair of HELD_OUT.

    related: captions say how the first two objects stand to each other; needs min_objects 2. negatives: 0 to 3 captions that are
    false of the scene, "negative.1" and so on, of different kinds (some of `negative_kinds`; facts "negatives"), each as
    likely to come first; besides image "negative", the scene that negative.1 describes (facts "scene_negative"). Negatives
    need related captions. Outside of "held_out_attributes" they show or name no pair of HELD_OUT either. layout: "sides" puts one
    large object on the left and one on the right, and words captions plainly: what small networks learn within minutes.

    >>> ToyScenes(count=2).rows()[0].id
    'toy_scenes-train-0-0'
    """

    split: Split = "train"
    count: int = 10_000
    seed: int = 0
    max_objects: int = 3
    grounds: Grounds = "both"
    min_objects: int = 1
    related: bool = False
    negatives: int = 0
    negative_kinds: tuple[str, ...] = FALSE_KINDS
    layout: Layout = "free"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        _check(self.split, self.count, self.max_objects)
        if not 1 <= self.min_objects <= self.max_objects:
            raise ValueError(f"min_objects: found {self.min_objects}, expected 1 to max_objects, {self.max_objects}")
        if self.related and self.min_objects < 2:
            raise ValueError(f"related: a relation needs two objects, found min_objects {self.min_objects}; set it to 2")
        if self.layout == "sides" and (self.min_objects, self.max_objects) != (2, 2):
            raise ValueError('layout: "sides" takes two objects; set min_objects and max_objects to 2')
        unknown = sorted(set(self.negative_kinds) - set(FALSE_KINDS))
        if unknown or len(set(self.negative_kinds)) < len(self.negative_kinds):
            words = f"found {unknown[0]!r}" if unknown else "found one twice"
            raise ValueError(f"negative_kinds: {words}, expected some of {', '.join(FALSE_KINDS)}")
        if not 0 <= self.negatives <= len(self.negative_kinds):
            raise ValueError(f"negatives: found {self.negatives}, expected 0 to {len(self.negative_kinds)}, the number of kinds")
        if self.negatives and not self.related:
            raise ValueError(f"negatives: {self.negatives} need captions that state a relation; set related = true")

    def rows(self) -> Sequence[Row]:
        return LazyRows(self.count, self._row)

    def _row(self, index: int) -> Row:
        key = key_of("toy_scenes", self.seed, self.split, index)
        wording = key_of(key, "caption")
        wording = plain_wording(wording) if self.layout == "sides" else wording
        stream = Stream(key)
        kinds = _shuffled(self.negative_kinds, Stream(key_of(key, "negatives")))[: self.negatives]
        while True:
            scene = self._scene(stream)
            false = self._false(scene, wording) if kinds else {}
            if set(kinds) <= set(false):
                break
        name = f"toy_scenes-{self.split}-{self.seed}-{index}"
        images, facts = {"target": SceneImage(scene, f"{name} (target)")}, {"scene_target": scene.facts()}
        texts = {"target": caption(scene, wording, self.related)}
        if kinds:
            images["negative"] = SceneImage(false[kinds[0]], f"{name} (negative)")
            texts |= {f"negative.{i}": caption(false[kind], wording, True) for i, kind in enumerate(kinds, 1)}
            facts |= {"scene_negative": false[kinds[0]].facts(), "negatives": kinds}
        return Row(id=name, group=name, images=images, texts=texts, facts=facts, where=name)

    def _scene(self, stream: Stream) -> Scene:
        held_out = self.split == "held_out_attributes"
        grounds, pairs = grounds_of(self.grounds), pairs_of(held_out)
        while True:
            count = self.min_objects + int(stream.uniform() * (self.max_objects - self.min_objects + 1))
            scene = draw_scene(stream, count, grounds, pairs, self.layout)
            if not held_out or _any_held_out(scene.objects):
                return scene

    def _false(self, scene: Scene, wording: int) -> dict[str, Scene]:
        """The scene's false scenes that could have been drawn themselves."""
        pairs = set(pairs_of(self.split == "held_out_attributes"))
        return {
            kind: other
            for kind, other in false_scenes(scene, wording).items()
            if pairs.issuperset(shown := {o.pair for o in other.objects})
            and len(shown) == len(other.objects)
            and lies_free(other.objects)
        }


def scene_of_row(row: Row, role: str = "target") -> Scene:
    """The true scene behind a toy row's image."""
    return Scene.of(row.facts[f"scene_{role}"])


def _captions(edit: Edit, key: int) -> dict[str, str]:
    """Captions of source and target in the same wording, one in which they differ: not every wording tells of places."""
    for attempt in counted():
        wording = key_of(key, "caption", attempt)
        source, target = caption(edit.source, wording), caption(edit.target, wording)
        if source != target:
            return {"source": source, "target": target}
    raise AssertionError("unreachable")


def _facts(edit: Edit) -> dict[str, Any]:
    return {
        "kind": edit.kind,
        "scene_source": edit.source.facts(),
        "scene_target": edit.target.facts(),
        "before": [asdict(o) for o in edit.before],
        "after": [asdict(o) for o in edit.after],
    }


def _shows_held_out(edit: Edit) -> bool:
    return _any_held_out(edit.source.objects if edit.kind == "ground" else (*edit.before, *edit.after))


def _shuffled(words: Sequence[str], stream: Stream) -> list[str]:
    """All orders are equally likely."""
    left = list(words)
    return [left.pop(int(stream.uniform() * len(left))) for _ in words]


def _any_held_out(objects: Sequence[Object]) -> bool:
    return any(o.pair in HELD_OUT for o in objects)


def _check(split: str, count: int, max_objects: int) -> None:
    if split not in SPLITS:
        raise ValueError(f"split: found {split!r}, expected one of {', '.join(SPLITS)}")
    if not 1 <= count < MOST:
        raise ValueError(f"count: found {count}, expected at least 1 and below 2**40")
    if not 1 <= max_objects <= 3:
        raise ValueError(f"max_objects: found {max_objects}, expected 1, 2 or 3")
