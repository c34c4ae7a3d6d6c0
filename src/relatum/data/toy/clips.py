"""Videos of the toy world as a data set of whole clips: frames at equal distances with the caption of their motion."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from ...core.draws import key_of
from ...core.registry import reader
from ..rows import LazyRows, Row, Shot
from .grammar import motion_caption
from .motion import SPEEDS, MovingScene, draw_motion, frames, from_middle, keeps_clear, unturned
from .readers import SceneImage, Split, ToyScenes
from .scene import HELD_OUT, Grounds, Scene, Stream, draw_scene, grounds_of, pairs_of

__all__ = ["MotionClip", "ToyClips"]

ROOM = {"anywhere": 0.5, "middle": 0.25}  # sides of the image that a large object can move in


@dataclass(frozen=True)
class MotionClip:
    """A moving scene's frames from time 0, `step` seconds apart, as a ClipRef."""

    moving: MovingScene
    frames: int
    step: float
    where: str

    def digest(self) -> str:
        return hashlib.blake2b(f"{self.moving.digest()} {self.frames} {self.step}".encode(), digest_size=16).hexdigest()

    def shot(self, size: int) -> Shot:
        times = [round(i * self.step, 9) for i in range(self.frames)]
        return Shot(frames(self.moving, times, size), torch.ones(self.frames - 1, dtype=torch.bool))


@reader("toy_clips")
@dataclass
class ToyClips:
    """Moving scenes: the clip "target" of `frames` frames, `step` seconds apart, and the text "target", its caption.

    paced: captions tell the speeds. directions: 4 or 8. speeds: of "slow" and "fast", those that occur. whole: nothing reaches a
    border, so that a caption is true of all of the clip. start: "anywhere", or in the "middle" of the image along its way. Then the
    direction says where an object is in each frame; else only the frame's number beside it does, which small networks do not find
    within an hour. split, max_objects, grounds: as of "toy_scenes". Image "target": one of the frames.
    Facts: "offset" and "spacing" (both `step`), "source_time" (0), "video", "motion" (`MovingScene.facts`), "scenes" (one a frame).

    >>> row = ToyClips(count=10, frames=4).rows()[3]
    >>> row.id, row.clips["target"].shot(32).frames.shape, len(row.facts["scenes"])
    ('toy_clips-train-0-3', torch.Size([4, 3, 32, 32]), 4)
    """

    split: Split = "train"
    count: int = 10_000
    seed: int = 0
    max_objects: int = 1
    grounds: Grounds = "plain"
    frames: int = 8
    step: float = 0.2
    directions: int = 4
    paced: bool = False
    speeds: tuple[str, ...] = tuple(SPEEDS)
    whole: bool = True
    start: Literal["anywhere", "middle"] = "anywhere"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        ToyScenes(self.split, self.count, self.seed, self.max_objects, self.grounds)  # refuses what it cannot draw
        if not 2 <= self.frames <= 1024:
            raise ValueError(f"frames: found {self.frames}, expected 2 to 1024")
        if not (self.step > 0 and math.isfinite(self.step)):
            raise ValueError(f"step: found {self.step}, expected seconds above 0")
        if self.directions not in (4, 8):
            raise ValueError(f"directions: found {self.directions}, expected 4 or 8")
        if self.start not in ROOM:
            raise ValueError(f"start: found {self.start!r}, expected {' or '.join(ROOM)}")
        if not self.speeds or set(self.speeds) - set(SPEEDS):
            raise ValueError(f"speeds: found {self.speeds}, expected some of {', '.join(SPEEDS)}")
        if self.whole and self._longest > ROOM[self.start]:
            raise ValueError(
                f"whole: in {self.frames} frames of {self.step} s the slowest object goes {self._longest:.2f} of the image, more "
                "than fits; take fewer frames or a shorter step, or set whole = false"
            )

    @property
    def _seconds(self) -> float:
        return (self.frames - 1) * self.step

    @property
    def _longest(self) -> float:
        """What the slowest object that occurs moves, in sides of the image."""
        return min(SPEEDS[speed] for speed in self.speeds) * self._seconds

    def rows(self) -> Sequence[Row]:
        return LazyRows(self.count, self._row)

    def _row(self, index: int) -> Row:
        key = key_of("toy_clips", self.seed, self.split, index)
        stream = Stream(key)
        moving = self._moving(stream)
        name = f"toy_clips-{self.split}-{self.seed}-{index}"
        shown = key_of(key, "frame") % self.frames
        return Row(
            id=name,
            group=name,
            images={"target": SceneImage(moving.at(round(shown * self.step, 9)), f"{name} (frame {shown})")},
            texts={"target": motion_caption(moving, key_of(key, "caption"), self.paced)},
            facts={
                "offset": self.step,
                "spacing": self.step,
                "source_time": 0.0,
                "video": name,
                "motion": moving.facts(),
                "scenes": [moving.at(round(i * self.step, 9)).facts() for i in range(self.frames)],
            },
            where=name,
            clips={"target": MotionClip(moving, self.frames, self.step, f"{name} (target)")},
        )

    def _moving(self, stream: Stream) -> MovingScene:
        while True:
            moving = draw_motion(stream, self._scene(stream), self.directions, self.speeds)
            if self.start == "middle":
                moving = from_middle(moving)
                chosen = moving if not self.whole or keeps_clear(moving, self._seconds) else None
            else:
                chosen = unturned(moving, self._seconds) if self.whole else moving
            if chosen is not None:
                return chosen

    def _scene(self, stream: Stream) -> Scene:
        held_out = self.split == "held_out_attributes"
        grounds, pairs = grounds_of(self.grounds), pairs_of(held_out)
        while True:
            scene = draw_scene(stream, 1 + int(stream.uniform() * self.max_objects), grounds, pairs)
            if not held_out or any(o.pair in HELD_OUT for o in scene.objects):
                return scene
