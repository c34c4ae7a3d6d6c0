"""Videos of the toy world as a data set: pairs of a frame and a later one, with older and further frames and the true motion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ...core.draws import key_of
from ...core.registry import reader
from ..rows import Row
from .grammar import motion_caption
from .motion import MovingScene, draw_motion, flow
from .readers import LazyRows, SceneImage, Split, ToyScenes
from .scene import HELD_OUT, Grounds, Scene, Stream, draw_scene, grounds_of, pairs_of

__all__ = ["ToyVideos", "motion_of_row", "true_flows"]


@reader("toy_videos")
@dataclass
class ToyVideos:
    """Pairs of frames from moving scenes: images "source" and "target", "past.2" to "past.k" before the source, "future.2" to
    "future.n" after the target; texts "instruction" and "target", the same caption, true at the source's time.

    per_video: rows of one video, at different times; they share the group. step: seconds between frames, also of the past ones.
    seconds: sources lie within the first `seconds`, after enough frames of the past. law: the target's offset from the source,
    "next": one step; "half_normal": |N(0, sd)| in seconds, rounded to steps, at least one. Future frames follow in equal offsets.
    directions: 4 or 8. split, max_objects, grounds: as of "toy_scenes".

    Facts: "offset", "spacing", "source_time" (s), "video", "motion" (the video's `MovingScene.facts` from its time 0), "scenes"
    (those of source, target, future.2, ...), "scene_source", "scene_target".

    >>> row = ToyVideos(count=10, past=2, future=3).rows()[3]
    >>> row.id, sorted(row.images), len(row.facts["scenes"])
    ('toy_videos-train-0-3-0', ['future.2', 'future.3', 'past.2', 'source', 'target'], 4)
    """

    split: Split = "train"
    count: int = 10_000
    seed: int = 0
    max_objects: int = 2
    grounds: Grounds = "both"
    past: int = 1
    future: int = 1
    step: float = 0.2
    per_video: int = 1
    seconds: float = 6.0
    law: Literal["next", "half_normal"] = "next"
    sd: float = 2.0
    directions: Literal[4, 8] = 4
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        ToyScenes(self.split, self.count, self.seed, self.max_objects, self.grounds)  # refuses what it cannot draw
        for name in ("past", "future", "per_video"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: found {getattr(self, name)}, expected at least 1")
        for name in ("step", "seconds", "sd"):
            value = getattr(self, name)
            if not (value > 0 and math.isfinite(value)):
                raise ValueError(f"{name}: found {value}, expected a number above 0")
        if self.law not in ("next", "half_normal"):
            raise ValueError(f"law: found {self.law!r}, expected 'next' or 'half_normal'")
        if self.directions not in (4, 8):
            raise ValueError(f"directions: found {self.directions}, expected 4 or 8")
        if self._places < self.per_video:
            raise ValueError(
                f"per_video: found {self.per_video}, but {self.seconds} s in steps of {self.step} s leave {self._places} times for "
                f"the source after {self.past - 1} frames of the past; raise seconds or lower per_video"
            )

    @property
    def _places(self) -> int:
        """How many times the source may have."""
        return math.floor(self.seconds / self.step + 1e-9) - (self.past - 1)

    def rows(self) -> Sequence[Row]:
        return LazyRows(self.count, self._row)

    def _row(self, index: int) -> Row:
        video, pair = divmod(index, self.per_video)
        key = key_of("toy_videos", self.seed, self.split, video)
        stream = Stream(key)
        moving = draw_motion(stream, self._scene(stream), self.directions)
        group = f"toy_videos-{self.split}-{self.seed}-{video}"
        name = f"{group}-{pair}"
        place = (int(stream.uniform() * self._places) + pair * self._places // self.per_video) % self._places
        time = round((self.past - 1 + place) * self.step, 9)
        offset = round(self._steps(Stream(key_of(key, "offset", pair))) * self.step, 9)
        later = [moving.at(round(time + j * offset, 9)) for j in range(self.future + 1)]
        scenes = {"source": later[0], "target": later[1]}
        scenes |= {f"past.{j}": moving.at(round(time - (j - 1) * self.step, 9)) for j in range(2, self.past + 1)}
        scenes |= {f"future.{j}": later[j] for j in range(2, self.future + 1)}
        text = motion_caption(moving.after(time), key_of(key, "caption", pair))
        return Row(
            id=name,
            group=group,
            images={role: SceneImage(scene, f"{name} ({role})") for role, scene in scenes.items()},
            texts={"instruction": text, "target": text},
            facts={
                "offset": offset,
                "spacing": self.step,
                "video": group,
                "source_time": time,
                "motion": moving.facts(),
                "scenes": [scene.facts() for scene in later],
                "scene_source": later[0].facts(),
                "scene_target": later[1].facts(),
            },
            where=name,
        )

    def _scene(self, stream: Stream) -> Scene:
        held_out = self.split == "held_out_attributes"
        grounds, pairs = grounds_of(self.grounds), pairs_of(held_out)
        while True:
            scene = draw_scene(stream, 1 + int(stream.uniform() * self.max_objects), grounds, pairs)
            if not held_out or any(o.pair in HELD_OUT for o in scene.objects):
                return scene

    def _steps(self, stream: Stream) -> int:
        """The offset in steps."""
        if self.law == "next":
            return 1
        return max(1, round(self.sd * NormalDist().inv_cdf(0.5 + stream.uniform() / 2) / self.step))


def motion_of_row(row: Row) -> MovingScene:
    """The motion behind a row of "toy_videos", its time 0 at the source."""
    return MovingScene.of(row.facts["motion"]).after(row.facts["source_time"])


def true_flows(row: Row, size: int) -> Float[Tensor, "2 n {size} {size}"]:
    """The flow in pixels from the source to the target, from there to future.2, and so on, one for each future frame."""
    moving, offset = motion_of_row(row), row.facts["offset"]
    count = len(row.facts["scenes"]) - 1
    return torch.stack([flow(moving, j * offset, (j + 1) * offset, size) for j in range(count)], dim=1)
