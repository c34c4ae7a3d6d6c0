"""Metrics of rollouts from known truth: how long the scene holds, whether it moves as it should, and the error at each step."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, RecipeError, ShapeError
from ..core.registry import metric
from ..core.shapes import Videos
from .base import MeanMetric, Samples
from .oracle import Eye, Seen, match

__all__ = ["FrameError", "SceneHeld", "frame_errors", "steps_held"]

_Truth = Sequence[Mapping[str, Any]]  # the objects of one frame, mappings with shape, color, x and y
_MOVED = 0.03  # sides of the image: what moves less is not asked for its direction
_SAME = 1e-4  # sides a step: true steps that differ by more are not one straight motion
_CEILING = 100.0  # dB, of equal frames


def steps_held(shares: Sequence[float]) -> int:
    """The number of generated frames before the share first falls below one half, all of them where it never does (censored).

    shares: one a frame, the first of the given frame, which does not count. A scene that recovers later has still been lost.

    >>> steps_held([1.0, 1.0, 0.5, 0.0, 1.0]), steps_held([1.0, 0.0, 1.0]), steps_held([1.0, 1.0, 1.0])
    (2, 0, 2)
    """
    generated = shares[1:]
    return next((k for k, share in enumerate(generated) if share < 0.5), len(generated))


def frame_errors(generated: Videos, target: Float[Tensor, "_ 3 _ _ _"]) -> Float[Tensor, "b t"]:
    """Mean squared error of every frame, pixels in [-1, 1]. ShapeError for videos of different shapes, DataError for NaN."""
    if generated.shape != target.shape:
        raise ShapeError(f"generated videos have shape {tuple(generated.shape)} and the true ones {tuple(target.shape)}")
    for name, videos in (("generated", generated), ("true", target)):
        if not bool(videos.isfinite().all()):
            raise DataError(f"{name} videos hold NaN or infinity")
    return (generated.double() - target.double()).square().mean((1, 3, 4)).float()


@metric("scene_held")
@dataclass
class SceneHeld(MeanMetric):
    """Half-life of the scene in steps: how many generated frames keep at least half of the true objects in shape and color.

    Counted until the share first falls below one half (`steps_held`). A rollout that never loses the scene has its length, t - 1,
    and `survived` 1, so means over long-lived rollouts are too low. Undefined without objects or generated frames. Read by `eye`,
    which whoever builds the metric sets, and compared with the objects of facts["scenes"][frame]. Objects that others hide count
    as missing, so true videos may stay below 1.

    Beside it, over the generated frames: `attributes`, the mean share; `position`, the mean distance in sides of the image from
    true to seen centers, of the objects that are seen (undefined where none is: read it with `attributes`); `spurious`, the mean
    number of objects beyond the true ones. `direction`: share of the moving objects that are seen at frame m at least half of the
    true way along from where they were given, within 45 degrees. m is the last frame up to `lead` before the object turns; one that
    moves less than 0.03 sides by then is left out.

    every: only each n-th frame is read; the half-life is then a multiple of it, and unread frames of the series are NaN.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"videos:generated", "facts"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {
        "survived": "higher",
        "attributes": "higher",
        "position": "lower",
        "spurious": "lower",
        "direction": "higher",
    }
    continues: ClassVar[bool] = True

    every: int = 1
    lead: int = 4

    eye: Eye | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for name in ("every", "lead"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")

    def update(self, samples: Samples) -> None:
        for name, facts, video in zip(samples.ids, samples.facts, samples.videos["generated"], strict=True):
            self._keep(name, _truths(name, facts, video.shape[1]), video)

    def _keep(self, name: str, truths: Sequence[_Truth], video: Float[Tensor, "3 t h w"]) -> None:
        if self.eye is None:
            raise RecipeError("this metric reads objects from frames and has no eye; set `eye` (toy world: read_scene)")
        count = video.shape[1]
        read = range(0, count, self.every)
        seen = {k: list(self.eye(video[:, k])) for k in read}
        found = {k: match(truths[k], seen[k]) for k in read}
        series = {
            "attributes": {k: len(found[k]) / len(truths[k]) if truths[k] else math.nan for k in read},
            "position": {k: _mean([_way(truths[k][i], o) for i, o in found[k].items()]) for k in read},
            "spurious": {k: float(len(seen[k]) - len(found[k])) for k in read},
        }
        lost = steps_held([series["attributes"][k] for k in read])
        survived = lost == len(read) - 1
        known = len(read) > 1 and bool(truths[0])
        self.keep([name], torch.tensor([float(count - 1 if survived else lost * self.every) if known else math.nan]))
        self.keep([name], torch.tensor([float(survived) if known else math.nan]), also="survived")
        for what, values in series.items():
            self.keep([name], torch.tensor([_mean([v for k, v in values.items() if k > 0])]), also=what)
            self.keep_series([name], what, torch.tensor([[values.get(k, math.nan) for k in range(count)]]))
        self.keep([name], torch.tensor([self._direction(truths, found)]), also="direction")

    def _direction(self, truths: Sequence[_Truth], found: Mapping[int, Mapping[int, Seen]]) -> float:
        right = []
        for index, old in enumerate(truths[0]):
            frames = [k for k in found if 0 < k <= min(self.lead, _straight([truth[index] for truth in truths]))]
            new = truths[frames[-1]][index] if frames else old
            dx, dy = new["x"] - old["x"], new["y"] - old["y"]
            if math.hypot(dx, dy) >= _MOVED:
                seen = found[frames[-1]].get(index)
                right.append(seen is not None and _follows(seen.x - old["x"], seen.y - old["y"], dx, dy))
        return _mean([float(good) for good in right])


def _truths(name: str, facts: Mapping[str, Any], count: int) -> list[_Truth]:
    """The objects of every frame. DataError where the facts do not tell them, ShapeError where they are of fewer frames."""
    if "scenes" not in facts:
        raise DataError(f'{name}: scene_held needs facts["scenes"], one scene a frame; found {", ".join(sorted(facts)) or "none"}')
    if len(facts["scenes"]) < count:
        raise ShapeError(f"{name}: {count} frames and {len(facts['scenes'])} true scenes; roll out fewer steps or raise `future`")
    return [scene["objects"] for scene in facts["scenes"][:count]]


def _straight(way: Sequence[Mapping[str, Any]]) -> int:
    """The last frame that an object reaches with steps like its first one. way: the object in every frame."""
    steps = [(new["x"] - old["x"], new["y"] - old["y"]) for old, new in pairwise(way)]
    return next((k for k, step in enumerate(steps) if math.dist(step, steps[0]) > _SAME), len(steps))


def _follows(x: float, y: float, dx: float, dy: float) -> bool:
    """Whether the way (x, y) goes along (dx, dy) for at least half of its length and not further to the side than along."""
    along, across = (x * dx + y * dy), abs(x * dy - y * dx)
    return along >= 0.5 * (dx * dx + dy * dy) and across <= along


def _way(thing: Mapping[str, Any], seen: Seen) -> float:
    return math.hypot(seen.x - thing["x"], seen.y - thing["y"])


def _mean(values: Sequence[float]) -> float:
    """Over those that are defined; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


@metric("frame_error")
@dataclass
class FrameError(MeanMetric):
    """Mean squared error (pixels in [-1, 1]) of the generated frame `step` steps after the given one, against the true frame.

    `psnr` of that frame in dB beside it, at most 100, and `mean`, the error over all generated frames. Rollouts of fewer steps are
    undefined. Series "error": every frame's.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"videos:generated", "videos:target"})
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"psnr": "higher", "mean": "lower"}
    continues: ClassVar[bool] = True

    step: int = 8

    def __post_init__(self) -> None:
        if self.step < 1:
            raise ValueError(f"step: found {self.step}, expected at least 1; frame 0 is the given one")

    def update(self, samples: Samples) -> None:
        errors = frame_errors(samples.videos["generated"], samples.videos["target"])
        steps = errors.shape[1] - 1
        at = errors[:, self.step] if self.step <= steps else torch.full((len(samples),), torch.nan)
        self.keep(samples.ids, at)
        self.keep(samples.ids, (10 * torch.log10(4 / at)).clamp_max(_CEILING), also="psnr")
        self.keep(samples.ids, errors[:, 1:].mean(1), also="mean")
        self.keep_series(samples.ids, "error", errors)
