"""How much of a clip's frames is text laid over them, by a heuristic that needs no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...core.errors import MissingExtra, RecipeError
from ...core.registry import stage
from ...video.frame import Frame
from ..base import Clip, Facts, Track, Video, inside
from ..lines import find_lines, share

__all__ = ["Text", "TextWatch"]

SHORT = 360  # pixels of the shorter side


@stage("text")
@dataclass
class Text:
    """Captions, subtitles, titles and other lines of text (see `lines`), on luma at 360 pixels, `fps` frames a second.

    area_max, area_mean: over the clip's frames, the share of a frame that boxes of lines cover, each counted by how likely it is
    text, so that what is doubtful adds little. Of large single letters, slanted or upright lines, and watermarks it sees little;
    rows of windows may read up to .1. Exact enough to rank and to drop above .07; the look "ocr" is better at deciding the rest.
    method: "heuristic". Areas are None where no frame lies in the clip.
    """

    fps: float = 1.0
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("area_max", "area_mean", "method")
    cheap: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise RecipeError(f"text: expected fps > 0, found {self.fps}")

    @property
    def rate(self) -> float:
        return self.fps

    def watch(self, video: Video) -> TextWatch:
        return TextWatch()

    def facts(self, track: Track, clip: Clip) -> Facts:
        areas = track["area"][inside(track, clip)]
        if not len(areas):
            return {"area_max": None, "area_mean": None, "method": "heuristic"}
        return {"area_max": float(areas.max()), "area_mean": float(areas.mean()), "method": "heuristic"}


class TextWatch:
    def __init__(self) -> None:
        try:
            import cv2
        except ImportError:
            raise MissingExtra("opencv-python-headless", "video", "finding text") from None
        cv2.setNumThreads(1)
        self.times: list[float] = []
        self.areas: list[float] = []

    def see(self, frame: Frame) -> None:
        luma = frame.luma(SHORT)
        self.areas.append(share(*find_lines(luma), luma.shape))
        self.times.append(frame.seconds)

    def track(self) -> Track:
        return {"time": np.array(self.times), "area": np.array(self.areas)}
