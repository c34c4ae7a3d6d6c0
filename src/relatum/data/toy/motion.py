"""Scenes that move: every object has a constant velocity and bounces off the image's borders, the ground stands still.

Units are sides of the image and seconds: x to the right, y down. The state at any time, the true flow and what stays visible are
closed formulas, so a video is nothing but the scene and the times that are asked for.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from ...core.errors import DataError
from .render import coverage, render
from .scene import REACH, RENDERER, Object, Scene, Stream

__all__ = [
    "DIRECTIONS",
    "SPEEDS",
    "MovingScene",
    "direction_of",
    "draw_motion",
    "film",
    "flow",
    "from_middle",
    "frames",
    "keeps_clear",
    "speed_of",
    "unturned",
    "velocity_of",
    "visible",
]

_DIAGONAL = 0.7071068
DIRECTIONS = {  # unit vectors; the first four are those of a video unless it asks for all
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "up left": (-_DIAGONAL, -_DIAGONAL),
    "up right": (_DIAGONAL, -_DIAGONAL),
    "down left": (-_DIAGONAL, _DIAGONAL),
    "down right": (_DIAGONAL, _DIAGONAL),
}
SPEEDS = {"slow": 0.1, "fast": 0.3}  # sides a second: 0.64 and 1.92 pixels a frame at 32 px and 5 frames a second
_BETWEEN = 0.2  # what is faster is called fast
_STILL = 0.25  # share of the objects that stand still
_DIGITS = 9  # of positions and times, so that 3 * 0.2 s and 0.6 s show the same scene

Velocity = tuple[float, float]  # x, y in sides a second


@dataclass(frozen=True)
class MovingScene:
    """The scene at time 0 and one velocity an object, in its order. Objects pass over each other, later ones above earlier ones.

    An object's center stays 1.2 radii from the borders, where it is reflected. Raises DataError for objects that start beyond.

    >>> from .scene import Ground
    >>> scene = Scene((Object("star", "red", "large", 0.5, 0.3), Object("ring", "blue", "small", 0.3, 0.7)), Ground("white"))
    >>> moving = MovingScene(scene, ((0.3, 0.0), (0.0, 0.0)))
    >>> [moving.at(seconds).objects[0].x for seconds in (0, 0.4, 1)]  # turned at 0.76 after 0.867 seconds
    [0.5, 0.62, 0.72]
    """

    start: Scene
    velocities: tuple[Velocity, ...]

    def __post_init__(self) -> None:
        if len(self.velocities) != len(self.start.objects):
            raise DataError(
                f"a moving scene of {len(self.start.objects)} objects has {len(self.velocities)} velocities; give one each"
            )
        for thing, velocity in zip(self.start.objects, self.velocities, strict=True):
            if not all(abs(at - 0.5) <= 0.5 - _edge(thing) + 1e-9 for at in (thing.x, thing.y)):
                raise DataError(
                    f"the {thing.color} {thing.shape} starts at ({thing.x}, {thing.y}); a {thing.size} one that moves needs "
                    f"{_edge(thing):g} to {1 - _edge(thing):g}"
                )
            if not all(math.isfinite(speed) for speed in velocity):
                raise DataError(f"the {thing.color} {thing.shape} has velocity {velocity}; expected finite numbers")

    def at(self, seconds: float) -> Scene:
        """The scene at a time, which may be negative. Positions are rounded to nine digits."""
        return self.after(seconds).start

    def after(self, seconds: float) -> MovingScene:
        """The same motion with its time 0 moved to `seconds`: positions and velocities of that moment."""
        objects, velocities = [], []
        for thing, (vx, vy) in zip(self.start.objects, self.velocities, strict=True):
            (x, vx), (y, vy) = (_reflect(at, v, seconds, _edge(thing)) for at, v in ((thing.x, vx), (thing.y, vy)))
            objects.append(replace(thing, x=x, y=y))
            velocities.append((vx, vy))
        return MovingScene(replace(self.start, objects=tuple(objects)), tuple(velocities))

    def facts(self) -> dict[str, Any]:
        """The moving scene as JSON's types."""
        return {"scene": self.start.facts(), "velocities": [list(v) for v in self.velocities]}

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> MovingScene:
        """The inverse of `facts`."""
        return cls(Scene.of(facts["scene"]), tuple((vx, vy) for vx, vy in facts["velocities"]))

    def digest(self) -> str:
        """Hex hash of the scene, its motion and the renderer's version."""
        text = json.dumps([RENDERER, self.facts()], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _edge(thing: Object) -> float:
    return round(REACH * thing.radius, _DIGITS)


def _reflect(at: float, velocity: float, seconds: float, edge: float) -> tuple[float, float]:
    """Position and velocity on a line between two walls at `edge` and 1 - `edge`, unfolded into a circle of twice the way.

    What touches a wall has turned already.
    """
    span = round(1 - 2 * edge, _DIGITS)
    along = round(round(at - edge + velocity * seconds, _DIGITS) % (2 * span), _DIGITS) % (2 * span)
    back = along > span
    position = round(edge + (2 * span - along if back else along), _DIGITS)
    if along in (0, span):
        return position, abs(velocity) if along == 0 else -abs(velocity)
    return position, -velocity if back else velocity


def velocity_of(direction: str, speed: str) -> Velocity:
    """The velocity that the two words stand for."""
    x, y = DIRECTIONS[direction]
    return round(x * SPEEDS[speed], 6), round(y * SPEEDS[speed], 6)


def direction_of(velocity: Velocity) -> str:
    """The nearest of the eight directions; "" of what stands still."""
    vx, vy = velocity
    if vx == vy == 0:
        return ""
    return max(DIRECTIONS, key=lambda word: DIRECTIONS[word][0] * vx + DIRECTIONS[word][1] * vy)


def speed_of(velocity: Velocity) -> str:
    """ "slow" or "fast"; "" of what stands still."""
    squared = velocity[0] ** 2 + velocity[1] ** 2
    return "" if squared == 0 else "slow" if squared < _BETWEEN**2 else "fast"


def draw_motion(stream: Stream, scene: Scene, directions: int = 4, speeds: Sequence[str] = tuple(SPEEDS)) -> MovingScene:
    """One of the first `directions` words and one of the speeds for every object; a quarter stand still, but never all."""
    words = tuple(DIRECTIONS)[:directions]
    while True:
        velocities: list[Velocity] = []
        for _ in scene.objects:
            still = stream.chance(_STILL)
            moved = velocity_of(stream.choice(words), stream.choice(speeds))
            velocities.append((0.0, 0.0) if still else moved)
        if not scene.objects or any(v != (0.0, 0.0) for v in velocities):
            return MovingScene(scene, tuple(velocities))


def unturned(moving: MovingScene, seconds: float) -> MovingScene | None:
    """The same motion from starts where nothing reaches a border within `seconds`: every object's start is mapped, in proportion,
    from where its center may be to where it may begin. None where something is too fast for that."""
    objects = []
    for thing, (vx, vy) in zip(moving.start.objects, moving.velocities, strict=True):
        edge = _edge(thing)
        at = []
        for place, way in ((thing.x, vx * seconds), (thing.y, vy * seconds)):
            low, high = edge + max(0.0, -way), 1 - edge - max(0.0, way)
            if high < low:
                return None
            at.append(round(low + (place - edge) / (1 - 2 * edge) * (high - low), _DIGITS))
        objects.append(replace(thing, x=at[0], y=at[1]))
    return MovingScene(replace(moving.start, objects=tuple(objects)), moving.velocities)


def keeps_clear(moving: MovingScene, seconds: float) -> bool:
    """Whether no object reaches a border within that time."""
    return all(
        _edge(thing) <= place + speed * seconds <= 1 - _edge(thing)
        for thing, velocity in zip(moving.start.objects, moving.velocities, strict=True)
        for place, speed in zip((thing.x, thing.y), velocity, strict=True)
    )


def from_middle(moving: MovingScene) -> MovingScene:
    """The same motion from the middle of the image along each object's way; where an object stands still, from where it was."""
    objects = []
    for thing, (vx, vy) in zip(moving.start.objects, moving.velocities, strict=True):
        objects.append(replace(thing, x=0.5 if vx else thing.x, y=0.5 if vy else thing.y))
    return MovingScene(replace(moving.start, objects=tuple(objects)), moving.velocities)


def frames(moving: MovingScene, times: Sequence[float], size: int = 64) -> Float[Tensor, "t 3 {size} {size}"]:
    """The pixels in [-1, 1] at the given times in seconds."""
    return torch.stack([render(moving.at(seconds), size) for seconds in times])


def film(shots: Sequence[MovingScene], seconds: float, rate: float, size: int = 64) -> Float[Tensor, "t 3 {size} {size}"]:
    """A video of one shot after the other with hard cuts between them, each `seconds` long at `rate` frames a second."""
    count = round(seconds * rate)
    if count < 1:
        raise DataError(f"shots of {seconds} s at {rate} frames/s have no frame; give longer shots or a higher rate")
    return torch.cat([frames(shot, [i / rate for i in range(count)], size) for shot in shots])


def flow(moving: MovingScene, t0: float, t1: float, size: int = 64) -> Float[Tensor, "2 {size} {size}"]:
    """The way in pixels, x right then y down, from the frame at t0 to that at t1, of the topmost object that covers at least half
    of the pixel at t0; 0 on the ground. An object that bounces on the way has its way from end to end."""
    result = np.zeros((2, size, size), np.float32)
    now, then = moving.at(t0), moving.at(t1)
    for cover, old, new in zip(_covers(now, size), now.objects, then.objects, strict=True):
        result[:, cover >= 0.5] = np.asarray([[new.x - old.x], [new.y - old.y]]) * size
    return torch.from_numpy(result)


def visible(moving: MovingScene, t0: float, t1: float, size: int = 64) -> Float[Tensor, "1 {size} {size}"]:
    """1 where what a pixel shows at t0 is still seen at t1, at the pixel moved by `flow`; else 0.

    Counted strictly, so that reading frame t1 at the moved places (bilinearly) gives frame t0 there, with no error at edges: the
    pixel shows one object, or the ground, alone, and so do all those that the reading touches. Hence objects lose their outline.
    """
    now, then = moving.at(t0), moving.at(t1)
    layers, later = _layers(now, size), _layers(then, size)
    result = (layers == 0) & (later == 0)
    for index, (old, new) in enumerate(zip(now.objects, then.objects, strict=True), start=1):
        shift = [round((b - a) * size, 4) for a, b in ((old.y, new.y), (old.x, new.x))]  # as float32 flows round
        result |= (layers == index) & _all_of(later == index, shift[0], shift[1])
    return torch.from_numpy(result[None].astype(np.float32))


def _covers(scene: Scene, size: int) -> list[NDArray[np.float32]]:
    """The share of every pixel that each object covers, as if it were alone."""
    result = []
    for thing in scene.objects:
        canvas = np.zeros((size, size), np.float32)
        top, left, alpha = coverage(thing, size)
        canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
        result.append(canvas)
    return result


def _layers(scene: Scene, size: int) -> NDArray[np.int64]:
    """What each pixel shows alone: 0 the ground, i + 1 object i, -1 a mixture."""
    shown = np.zeros((size, size), np.int64)
    for index, cover in enumerate(_covers(scene, size), start=1):
        shown[cover > 0] = -1
        shown[cover == 1] = index
    return shown


def _all_of(where: NDArray[np.bool_], down: float, right: float) -> NDArray[np.bool_]:
    """Whether `where` holds at all pixels that a bilinear reading at the moved place touches; False beyond the border."""
    result = np.ones_like(where)
    for rows in {math.floor(down), math.ceil(down)}:
        for columns in {math.floor(right), math.ceil(right)}:
            result &= _moved(where, rows, columns)
    return result


def _moved(where: NDArray[np.bool_], rows: int, columns: int) -> NDArray[np.bool_]:
    """result[y, x] = where[y + rows, x + columns], False beyond the border."""
    size = where.shape[0]
    far = max(abs(rows), abs(columns))
    padded = np.pad(where, far)
    return padded[far + rows : far + rows + size, far + columns : far + columns + size]
