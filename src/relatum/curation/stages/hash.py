"""A clip's pictures as hashes that nearly equal pictures share: what near-duplicates are found by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...core.errors import RecipeError
from ...core.registry import stage
from ...video.frame import Frame
from ..base import Clip, Facts, Track, Video, inside

__all__ = ["Hash", "HashWatch", "dhash"]

SHORT = 144  # pixels of the shorter side, as cuts are found on


@stage("hash")
@dataclass
class Hash:
    """Difference hashes of 64 bits (dHash, Krawetz 2013) of `fps` frames a second.

    dhash: of the clip's first, middle and last of these, 16 hexadecimal digits each; None where no frame lies in the clip. The
    distance of two is the number of bits that differ. All zeros where fewer than `least` of the 64 differences exceed a level:
    black, plain and nearly plain pictures say too little to be called equal.
    """

    fps: float = 4.0
    least: int = 16
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("dhash",)
    cheap: ClassVar[tuple[str, ...]] = ("least",)

    def __post_init__(self) -> None:
        if not (0 < self.fps < float("inf") and 0 <= self.least <= 64):
            raise RecipeError(f"hash: expected fps > 0 and least from 0 to 64, found {self.fps} and {self.least}")

    @property
    def rate(self) -> float:
        return self.fps

    def watch(self, video: Video) -> HashWatch:
        return HashWatch()

    def facts(self, track: Track, clip: Clip) -> Facts:
        places = np.flatnonzero(inside(track, clip))
        if not len(places):
            return {"dhash": None}
        middle = places[np.abs(track["time"][places] - (clip.start + clip.end) / 2).argmin()]
        hashes = np.where(track["steps"] >= self.least, track["dhash"], np.uint64(0))
        return {"dhash": [f"{int(hashes[i]):016x}" for i in (places[0], middle, places[-1])]}


class HashWatch:
    def __init__(self) -> None:
        self.times: list[float] = []
        self.hashes: list[tuple[int, int]] = []

    def see(self, frame: Frame) -> None:
        self.times.append(frame.seconds)
        self.hashes.append(dhash(frame.luma(SHORT)))

    def track(self) -> Track:
        """dhash: uint64. steps: how many of its 64 differences exceed a level."""
        table = np.asarray(self.hashes, np.uint64).reshape(-1, 2)
        return {"time": np.asarray(self.times, np.float64), "dhash": table[:, 0].copy(), "steps": table[:, 1].astype(np.uint8)}


def dhash(luma: np.ndarray) -> tuple[int, int]:
    """The hash of a picture (h w), and how many of its 64 differences exceed a level.

    Averaged to 9 x 8 pixels; a bit for every two neighbors in a row, from the top left, the first one the highest: 1 where the
    right one is brighter, by more than a level of 255, so that plain areas are 0 whatever their noise.
    """
    import cv2

    small = cv2.resize(luma.astype(np.float32), (9, 8), interpolation=cv2.INTER_AREA)
    step = np.diff(small, axis=1)
    return int.from_bytes(np.packbits(step > 1).tobytes(), "big"), int((np.abs(step) > 1).sum())
