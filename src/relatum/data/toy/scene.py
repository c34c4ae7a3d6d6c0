"""Scenes of the toy world as frozen values, and how they are drawn at random.

Positions and radii are in units of the image's side: x to the right, y down, both in [0, 1].
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeVar

__all__ = [
    "COLORS",
    "GROUND_COLORS",
    "HELD_OUT",
    "PLACES",
    "REACH",
    "RENDERER",
    "SHAPES",
    "SIZES",
    "TEXTURES",
    "Ground",
    "Grounds",
    "Layout",
    "Object",
    "Scene",
    "Stream",
    "draw_scene",
    "fits",
    "grounds_of",
    "lies_free",
    "pairs_of",
]

T = TypeVar("T")
Grounds = Literal["white", "plain", "textured", "both"]
Layout = Literal["free", "sides"]

RENDERER = "1"  # part of every digest: to be raised when the same scene gives other pixels

SHAPES = ("circle", "square", "triangle", "star", "ring", "cross")
COLORS = {  # 8-bit RGB, all saturated
    "red": (222, 30, 38),
    "orange": (255, 140, 0),
    "yellow": (255, 232, 40),
    "green": (30, 165, 55),
    "cyan": (40, 215, 225),
    "blue": (35, 70, 235),
    "purple": (130, 40, 180),
    "pink": (255, 120, 200),
}
SIZES = {"small": 0.15, "large": 0.2}  # radii
GROUND_COLORS = {  # 8-bit RGB of the two tones of a texture, none saturated; plain grounds have the first
    "white": ((245, 245, 245), (214, 214, 214)),
    "light gray": ((186, 186, 186), (156, 156, 156)),
    "dark gray": ((96, 96, 96), (68, 68, 68)),
    "black": ((16, 16, 16), (46, 46, 46)),
    "beige": ((216, 198, 164), (190, 172, 138)),
    "slate": ((84, 98, 122), (58, 72, 96)),
}
TEXTURES = ("plain", "stripes", "checks", "dots", "gradient")

_LOW, _MIDDLE, _HIGH = 0.24, 0.5, 0.76
PLACES = {
    "top left": (_LOW, _LOW),
    "top": (_MIDDLE, _LOW),
    "top right": (_HIGH, _LOW),
    "left": (_LOW, _MIDDLE),
    "center": (_MIDDLE, _MIDDLE),
    "right": (_HIGH, _MIDDLE),
    "bottom left": (_LOW, _HIGH),
    "bottom": (_MIDDLE, _HIGH),
    "bottom right": (_HIGH, _HIGH),
}

HELD_OUT = frozenset(  # pairs of shape and color that only the split "held_out_attributes" shows
    {
        ("circle", "purple"),
        ("square", "orange"),
        ("square", "yellow"),
        ("triangle", "cyan"),
        ("star", "blue"),
        ("star", "red"),
        ("ring", "green"),
        ("cross", "pink"),
    }
)

REACH = 1.2  # how far a shape's tips go beyond its radius


class Stream:
    """Random choices from an integer key. Built on `random.Random.random` alone, whose numbers Python promises never to change."""

    def __init__(self, key: int) -> None:
        self.uniform = random.Random(key).random

    def choice(self, of: Sequence[T]) -> T:
        return of[int(self.uniform() * len(of))]

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def between(self, low: float, high: float) -> float:
        """On a grid of 1/1000, so that a scene written as JSON is the same scene."""
        return round(low + (high - low) * self.uniform(), 3)


@dataclass(frozen=True)
class Object:
    """One object. (x, y): its center."""

    shape: str
    color: str
    size: str
    x: float
    y: float

    @property
    def radius(self) -> float:
        return SIZES[self.size]

    @property
    def pair(self) -> tuple[str, str]:
        """(shape, color): what tells it from the other objects of its scene."""
        return self.shape, self.color


@dataclass(frozen=True)
class Ground:
    color: str
    texture: str = "plain"


@dataclass(frozen=True)
class Scene:
    """One to a few objects on a ground. No two objects share both shape and color. Later objects lie above earlier ones.

    >>> Scene((Object("star", "red", "large", 0.5, 0.5),), Ground("white")).digest()[:8] == Scene.of(
    ...     {"objects": [dict(shape="star", color="red", size="large", x=0.5, y=0.5)], "ground": {"color": "white"}}
    ... ).digest()[:8]
    True
    """

    objects: tuple[Object, ...]
    ground: Ground

    def facts(self) -> dict[str, Any]:
        """The scene as JSON's types."""
        return {"objects": [asdict(o) for o in self.objects], "ground": asdict(self.ground)}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Scene:
        """The inverse of `facts`."""
        return cls(tuple(Object(**o) for o in facts["objects"]), Ground(**facts["ground"]))

    def digest(self) -> str:
        """Hex hash of the scene and of the renderer's version."""
        text = json.dumps([RENDERER, self.facts()], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def fits(new: Object, others: Sequence[Object]) -> bool:
    """Whether `new` lies free of `others`."""
    return all((new.x - o.x) ** 2 + (new.y - o.y) ** 2 >= (1.15 * (new.radius + o.radius)) ** 2 for o in others)


def lies_free(objects: Sequence[Object]) -> bool:
    """Whether no two of the objects overlap and all lie inside the image, as drawn ones do."""
    inside = all(REACH * o.radius <= min(o.x, o.y) and max(o.x, o.y) <= 1 - REACH * o.radius for o in objects)
    return inside and all(fits(o, objects[:i]) for i, o in enumerate(objects))


def grounds_of(which: str) -> tuple[Ground, ...]:
    """The grounds named by a reader's setting: "white", "plain", "textured" or "both"."""
    if which == "white":
        return (Ground("white"),)
    textures = {"plain": TEXTURES[:1], "textured": TEXTURES[1:], "both": TEXTURES}[which]
    return tuple(Ground(color, texture) for texture in textures for color in GROUND_COLORS)


def pairs_of(held_out: bool) -> tuple[tuple[str, str], ...]:
    """The pairs of shape and color that may occur, with or without those held out of training."""
    return tuple((s, c) for s in SHAPES for c in COLORS if held_out or (s, c) not in HELD_OUT)


def draw_scene(
    stream: Stream, count: int, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]], layout: Layout = "free"
) -> Scene:
    """A scene of `count` objects that do not overlap, of different pairs. At most four find room.

    layout: "sides" puts a large object on the left and one on the right, so that what a caption says of them shows early in the
    noise; small networks learn it within minutes.
    """
    assert 0 <= count <= 4
    ground = _draw_ground(stream, grounds)
    chosen: list[tuple[str, str]] = []
    while len(chosen) < count:
        pair = stream.choice(pairs)
        if pair not in chosen:
            chosen.append(pair)
    if layout == "sides":
        return Scene(_sides(stream, chosen), ground)
    while True:
        objects: list[Object] = []
        for shape, color in chosen:
            size = stream.choice(tuple(SIZES))
            edge = REACH * SIZES[size]
            new = Object(shape, color, size, stream.between(edge, 1 - edge), stream.between(edge, 1 - edge))
            if not fits(new, objects):
                break
            objects.append(new)
        if len(objects) == count:
            return Scene(tuple(objects), ground)


def _sides(stream: Stream, pairs: Sequence[tuple[str, str]]) -> tuple[Object, ...]:
    """A large object on the left and one on the right, each a little off its place."""
    assert len(pairs) == 2
    places = (0.73, 0.27) if stream.chance(0.5) else (0.27, 0.73)
    objects = []
    for (shape, color), x in zip(pairs, places, strict=True):
        objects.append(Object(shape, color, "large", stream.between(x - 0.03, x + 0.03), stream.between(0.47, 0.53)))
    return tuple(objects)


def _draw_ground(stream: Stream, grounds: Sequence[Ground]) -> Ground:
    """Plain grounds half of the time where there are both."""
    plain = [g for g in grounds if g.texture == "plain"]
    return stream.choice(plain if plain and stream.chance(0.5) else grounds)
