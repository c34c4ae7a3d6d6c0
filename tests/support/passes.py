"""Frames of arrays for measures, without a file, and moving pictures to make them of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from relatum.curation.base import Clip, Measure, Track, Video
from relatum.video.frame import Frame
from relatum.video.timeline import Timeline
from relatum.video.turn import Turn

__all__ = ["clip", "facts", "frames", "shifted", "texture", "video", "watched"]


def frames(pictures: Iterable[np.ndarray], times: Sequence[float] | None = None, turn: Turn = Turn()) -> Iterator[Frame]:  # noqa: B008
    """Of gray (h w) or color (h w 3) pictures, any numbers of 0 to 255; times in seconds, None is 25 a second. All are as large as
    the first, as a reader gives them.
    """
    size = None
    for index, pixels in enumerate(pictures):
        whole = np.clip(np.round(pixels), 0, 255).astype(np.uint8)
        made = av.VideoFrame.from_ndarray(whole, format="gray" if whole.ndim == 2 else "rgb24")
        frame = Frame(index, index / 25 if times is None else times[index], made, turn, size)
        size = (frame.width, frame.height)
        yield frame


def video(times: Sequence[float] = (), width: int = 64, height: int = 48) -> Video:
    end = (times[-1] if times else 0.0) + 0.04
    return Video("0" * 64, Timeline(Path("made.mp4"), tuple(times), (0,), width, height, 0, 25.0, end, False, ()))


def watched(measure: Measure, shown: Iterable[Frame]) -> Track:
    """The track of one pass, at the measure's rate."""
    shown = list(shown)
    size = (shown[0].width, shown[0].height) if shown else (64, 48)
    watch, due = measure.watch(video([frame.seconds for frame in shown], *size)), 0.0
    for frame in shown:
        if not measure.rate or frame.seconds >= due - 1e-6:
            watch.see(frame)
            due = (np.floor(frame.seconds * measure.rate + 1e-6) + 1) / measure.rate if measure.rate else 0.0
    return watch.track()


def clip(start: float = 0.0, end: float = 1e6) -> Clip:
    return Clip("c", "0" * 64, 0, 1, start, end, 0, 1, "edge", "edge")


def facts(measure: Measure, pictures: Iterable[np.ndarray], times: Sequence[float] | None = None) -> dict[str, Any]:
    """Of the whole as one clip."""
    return dict(measure.facts(watched(measure, frames(pictures, times)), clip()))


def texture(seed: int, height: int = 144, width: int = 192, contrast: float = 40.0, power: float = 1.2) -> np.ndarray:
    """(h w) float32 around 128, seamless: noise whose amplitude falls as frequency to -power, as that of photographs does."""
    draw = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    frequency[0, 0] = 1
    smooth = np.exp(-((frequency * 2) ** 2))
    made = np.fft.ifft2(np.fft.fft2(draw.normal(size=(height, width))) * smooth / frequency**power).real
    return (128 + contrast * (made - made.mean()) / made.std()).astype(np.float32)


def shifted(picture: np.ndarray, x: float, y: float = 0.0) -> np.ndarray:
    """What was at the left now is `x` pixels further right (and `y` further down); what leaves comes in again."""
    height, width = picture.shape[:2]
    wide = cv2.copyMakeBorder(np.roll(picture, (int(np.floor(y)), int(np.floor(x))), (0, 1)), 4, 4, 4, 4, cv2.BORDER_WRAP)
    move = np.array([[1, 0, x - np.floor(x)], [0, 1, y - np.floor(y)]], np.float32)
    return cv2.warpAffine(wide, move, (width + 8, height + 8), flags=cv2.INTER_CUBIC)[4:-4, 4:-4]
