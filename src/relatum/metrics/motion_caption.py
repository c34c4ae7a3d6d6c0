"""Does a clip do what its caption says: are its objects there, and do those that should move go the way that was told?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, RecipeError, ShapeError
from ..core.registry import metric
from .base import MeanMetric, Samples
from .oracle import Eye, Seen

__all__ = ["MotionCaption", "Way", "initial_way"]

_PACES = ("slow ", "fast ")  # what a caption begins with where it tells speeds
_BETTER = 0.25  # share of the squared error of a straight line that a turn must leave, to be taken for one

Place = tuple[float, float]


@dataclass(frozen=True)
class Way:
    """velocity: at the first frame in which the object was seen, sides of the image a frame. reach: how far it got from there."""

    velocity: Place
    reach: float

    @property
    def speed(self) -> float:
        return math.hypot(*self.velocity)


def initial_way(places: Mapping[int, Place]) -> Way | None:
    """How an object sets out, from its centers by frame; None of one that is seen in fewer than three.

    On each axis a line, or one that turns at a wall and comes back at the same speed, is fitted to all centers by least squares; a
    turn is taken where it leaves less than a quarter of the straight line's squared error. What turns before its first frame is
    over is seen to go back only, and counts as going there.

    >>> initial_way({0: (0.5, 0.2), 1: (0.6, 0.2), 2: (0.7, 0.2), 3: (0.6, 0.2)}).velocity  # right, until frame 2
    (0.1, 0.0)
    """
    if len(places) < 3:
        return None
    frames = sorted(places)
    times, path = np.array(frames, np.float64) - frames[0], np.array([places[k] for k in frames], np.float64)
    x, y = (round(_slope(times, axis), 9) for axis in path.T)
    return Way((x, y), float(np.hypot(*(path - path[0]).T).max()))


def _slope(times: Float[np.ndarray, "n"], values: Float[np.ndarray, "n"]) -> float:
    """The first slope of the path that explains the values: straight, or turned at a whole or half frame."""
    slope, straight = _fitted(times, values)
    turns = np.arange(1.0, times[-1], 0.5)
    fits = [_fitted(np.minimum(times, 2 * turn - times), values) for turn in turns]
    turned = min(fits, key=lambda fit: fit[1], default=(slope, math.inf))
    return turned[0] if turned[1] < _BETTER * straight else slope


def _fitted(times: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Slope and squared error of least squares."""
    t, v = times - times.mean(), values - values.mean()
    slope = float(t @ v / (t @ t)) if t.any() else 0.0
    return slope, float(np.square(v - slope * t).sum())


@metric("motion_caption")
@dataclass
class MotionCaption(MeanMetric):
    """Share of the caption's objects that are there and do what it says, from what `eye` reads in the clip's own frames.

    The caption names shape, color and direction of every object of facts["scenes"][0], or that it stands still, as
    facts["motion"]["velocities"] has it; the true places do not matter. An object is followed from frame to frame by its shape and
    color (the nearest of several). It counts if it is seen in at least half of the frames and moves as told: along the direction
    within `angle` degrees from where it is first seen until it turns (`initial_way`), and at least `least` sides of the image away;
    or less than that where it should stand still.

    Chance. Objects that move at random, among the four directions of a toy video, go as told one time in four; among eight, with
    `angle` = 22.5, one time in eight.
    Beside it, over the objects that should move: `moved`, the share that moves at all; `direction`, the share that moves as told
    (none of what is not seen or stands still; chance at most 1/4); `heading`, the same of those that move (chance 1/4; undefined
    where none does). `still`: share of those that should stand still that are seen to. `found`: share of the frames in which an
    object is seen, mean over objects. `spurious`: objects a frame that the caption does not name. `speed`: geometric mean of the
    speeds over the true ones, of the objects that move as told, where the caption tells speeds (slow, fast) and `offset` is that of
    the frames; it only describes. Series "found": share of the objects seen in every frame.

    True clips stay a little below 1: what starts at a wall may turn before the next frame. Undefined without objects, and where
    facts["source_time"] is not 0, as in rollouts: the velocities are those of time 0 only. texts: `target`, for `speed`.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"videos:generated", "facts"})
    wants: ClassVar[frozenset[str]] = frozenset({"texts:target"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    least_frames: ClassVar[int] = 3
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {
        "found": "higher", "moved": "higher", "direction": "higher", "heading": "higher", "still": "higher", "spurious": "lower",
    }  # fmt: skip

    least: float = 0.04
    angle: float = 45.0

    eye: Eye | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name, most in (("least", 1.0), ("angle", 90.0)):
            if not 0 < getattr(self, name) <= most:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected above 0, at most {most:g}")

    def update(self, samples: Samples) -> None:
        texts = samples.texts.get("target", [""] * len(samples))
        for name, facts, text, video in zip(samples.ids, samples.facts, texts, samples.videos["generated"], strict=True):
            self._keep(name, facts, any(word in text for word in _PACES), video)

    def _keep(self, name: str, facts: Mapping[str, Any], told: bool, video: Float[Tensor, "3 t h w"]) -> None:
        if self.eye is None:
            raise RecipeError("this metric reads objects from frames and has no eye; set `eye` (toy world: read_scene)")
        objects, velocities = _caption(name, facts)
        seen = [list(self.eye(frame)) for frame in video.unbind(1)]
        paths = _followed(objects, seen)
        known = bool(objects) and not facts.get("source_time")
        numbers = self._numbers(paths, velocities, len(seen)) if known else {}
        numbers["speed"] = self._speed(paths, velocities, float(facts.get("offset", 0.0))) if known and told else math.nan
        numbers["spurious"] = (sum(map(len, seen)) - sum(map(len, paths))) / len(seen)
        for what in ("followed", *self.also_better, "speed"):
            value = torch.tensor([numbers.get(what, math.nan)])
            self.keep([name], value, also="" if what == "followed" else what)
        shares = [np.mean([k in path for path in paths]) if paths else math.nan for k in range(len(seen))]
        self.keep_series([name], "found", torch.tensor([shares]))

    def _numbers(self, paths: Sequence[Mapping[int, Place]], velocities: Sequence[Place], count: int) -> dict[str, float]:
        ways = [initial_way(path) for path in paths]
        moves = [way is not None and way.reach >= self.least for way in ways]
        right = [
            self._along(way, v) if any(v) else way is not None and not m for way, m, v in zip(ways, moves, velocities, strict=True)
        ]
        movers = [i for i, velocity in enumerate(velocities) if any(velocity)]
        return {
            "followed": _share([good and 2 * len(path) >= count for good, path in zip(right, paths, strict=True)]),
            "found": _share([len(path) / count for path in paths]),
            "moved": _share([moves[i] for i in movers]),
            "direction": _share([right[i] for i in movers]),
            "heading": _share([right[i] for i in movers if moves[i]]),
            "still": _share([right[i] for i in range(len(paths)) if i not in movers]),
        }

    def _along(self, way: Way | None, velocity: Place) -> bool:
        """Whether it moves, and the way that was told."""
        if way is None or way.reach < self.least:
            return False
        along = way.velocity[0] * velocity[0] + way.velocity[1] * velocity[1]
        return along > 0 and along >= math.cos(math.radians(self.angle)) * way.speed * math.hypot(*velocity) - 1e-9

    def _speed(self, paths: Sequence[Mapping[int, Place]], velocities: Sequence[Place], offset: float) -> float:
        pairs = [(way, v) for way, v in zip(map(initial_way, paths), velocities, strict=True) if any(v) and self._along(way, v)]
        logs = [math.log(way.speed / (math.hypot(*v) * offset)) for way, v in pairs if way is not None and offset > 0]
        return math.exp(sum(logs) / len(logs)) if logs else math.nan


def _caption(name: str, facts: Mapping[str, Any]) -> tuple[Sequence[Mapping[str, Any]], list[Place]]:
    """The objects that the caption names, and the velocity of each. DataError where the facts do not tell them."""
    lacking = [what for what in ("scenes", "motion") if what not in facts]
    if lacking:
        found = ", ".join(sorted(facts)) or "none"
        raise DataError(f"{name}: motion_caption needs facts of a moving scene (scenes, motion), as toy_clips has; found {found}")
    objects, velocities = facts["scenes"][0]["objects"], [(vx, vy) for vx, vy in facts["motion"]["velocities"]]
    if len(objects) != len(velocities):
        raise ShapeError(f"{name}: {len(objects)} objects and {len(velocities)} velocities")
    return objects, velocities


def _followed(objects: Sequence[Mapping[str, Any]], seen: Sequence[Sequence[Seen]]) -> list[dict[int, Place]]:
    """For each object its centers by frame, where one of its shape and color is seen; of several the nearest to the last."""
    left = [list(things) for things in seen]
    paths: list[dict[int, Place]] = []
    for thing in objects:
        path: dict[int, Place] = {}
        last: Place | None = None
        for k, things in enumerate(left):
            near = [o for o in things if (o.shape, o.color) == (thing["shape"], thing["color"])]
            if near:
                one = near[0] if last is None else min(near, key=lambda o, at=last: math.dist((o.x, o.y), at))
                things.remove(one)
                last = path[k] = (one.x, one.y)
        paths.append(path)
    return paths


def _share(values: Sequence[float]) -> float:
    """The mean; NaN of nothing."""
    return float(sum(values) / len(values)) if values else math.nan
