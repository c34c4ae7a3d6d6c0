"""How much of a clip repeats the frame before: decoders that got stuck, 12 pictures a second shown as 24, still pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...core.errors import RecipeError
from ...core.registry import stage
from ...video.frame import Frame
from ..base import Clip, Facts, Track, Video, inside

__all__ = ["Frozen", "FrozenWatch", "repeats"]

SHORT = 144  # pixels of the shorter side, as cuts are found on
BESIDE = 3  # changes before and after that a change is compared with
NEW = 0.25  # levels of 255: the least mean change beside a repeat, so that the noise of a codec is not taken for motion


@stage("frozen")
@dataclass
class Frozen:
    """Frames that repeat the one before, at the video's own rate. The change between two is mean |difference| of luma, 0 to 255.

    A frame repeats where its change is at most `level` (.01: a pixel in a hundred, by one), or `share` of the clip's mean change,
    or `beside` of the mean of the three changes before it and also of the three after it, if these are at least .25: a codec adds
    noise to repeats.
    share: of pairs of adjacent frames, 0 to 1; .5 for 12 pictures a second shown as 24. longest: seconds from the first to the last
    frame of the longest run that are one picture. None for a clip of one frame.
    A static scene without noise is frozen, rightly; one with noise is too, where the codec has removed all of it (as H.264 does at
    crf 28 with noise of 2 levels): the pixels do not tell it from a stuck camera.
    """

    level: float = 0.01
    share: float = 0.005
    beside: float = 0.2
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("share", "longest")
    cheap: ClassVar[tuple[str, ...]] = ("level", "share", "beside")

    def __post_init__(self) -> None:
        if not (self.level >= 0 and 0 <= self.share < 1 and 0 <= self.beside < 1):
            raise RecipeError(
                f"frozen: expected level >= 0 and share and beside in [0, 1), found {self.level}, {self.share} and {self.beside}"
            )

    @property
    def rate(self) -> float:
        return 0.0

    def watch(self, video: Video) -> FrozenWatch:
        return FrozenWatch()

    def facts(self, track: Track, clip: Clip) -> Facts:
        within = inside(track, clip)
        if not within.any():
            return {"share": None, "longest": None}
        again = repeats(track["change"][within], self.level, self.share, self.beside)
        since, time = track["since"][within], track["time"][within]
        longest, begin = 0.0, None
        for i, repeated in enumerate(again):
            begin = (since[i] if begin is None else begin) if repeated else None
            longest = longest if begin is None else max(longest, float(time[i] - begin))
        return {"share": float(again.mean()), "longest": longest}


class FrozenWatch:
    """change: of every frame after the first, to the one before."""

    def __init__(self) -> None:
        self.before: tuple[float, np.ndarray] | None = None
        self.rows: list[tuple[float, float, float]] = []

    def see(self, frame: Frame) -> None:
        import cv2

        luma = frame.luma(SHORT)
        if self.before is not None:
            since, before = self.before
            self.rows.append((frame.seconds, since, cv2.norm(before, luma, cv2.NORM_L1) / luma.size))
        self.before = (frame.seconds, luma)

    def track(self) -> Track:
        table = np.asarray(self.rows, np.float64).reshape(-1, 3)
        return {"time": table[:, 0].copy(), "since": table[:, 1].copy(), "change": table[:, 2].astype(np.float32)}


def repeats(changes: np.ndarray, level: float, share: float, beside: float) -> np.ndarray:
    """(n,) bool: which of a clip's changes (n,) are none. See `Frozen`; the first and the last have one side only."""
    sums = np.concatenate([[0.0], np.cumsum(changes, dtype=np.float64)])
    n = len(changes)
    here = np.arange(n)
    first, last = np.maximum(here - BESIDE, 0), np.minimum(here + 1 + BESIDE, n)
    before = (sums[here] - sums[first]) / np.maximum(here - first, 1)
    after = (sums[last] - sums[here + 1]) / np.maximum(last - here - 1, 1)
    around = np.minimum(before, after)
    return (changes <= max(level, share * float(changes.mean()))) | ((around >= NEW) & (changes <= beside * around))
