"""Whether a change of a second or so is a dissolve or a fade, by what these are, or only motion."""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np

__all__ = ["MARGIN", "RATE", "Recent", "is_mix"]

RATE = 8  # samples a second that are kept
REACH = (2, 4)  # samples from the middle to both ends, .25 and .5 s
MUCH = 0.5  # of an error: what explains a frame much better leaves less than this share of it
MIDDLE = (0.25, 0.75)  # weights of a frame in the middle; beyond, it is nearly one of its ends
LEAST = 4.0  # levels of 255: ends that differ less are one picture
SHORT = 72  # pixels of the shorter edge
MARGIN = 0.5  # seconds around the span whose samples are looked at


class Recent:
    """The last four seconds as small luma, RATE a second."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, np.ndarray]] = deque(maxlen=4 * RATE)

    def add(self, seconds: float, picture: np.ndarray) -> None:
        """picture: (h w 3) uint8 BGR; left out if it comes too soon after the last one."""
        import cv2

        if self._kept and seconds - self._kept[-1][0] < 0.9 / RATE:
            return
        scale = min(SHORT / min(picture.shape[:2]), 1.0)
        small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        self._kept.append((seconds, cv2.GaussianBlur(gray, (0, 0), 1.0)))

    def mixes(self, begin: float, end: float) -> bool:
        """Whether the samples of the span show a dissolve or a fade that motion does not explain."""
        frames = [frame for seconds, frame in self._kept if begin - MARGIN <= seconds <= end + MARGIN]
        middles = [(i, reach) for reach in REACH for i in range(reach, len(frames) - reach)]
        return any(is_mix(frames[i - reach], frames[i], frames[i + reach]) for i, reach in middles)


def is_mix(before: np.ndarray, middle: np.ndarray, after: np.ndarray) -> bool:
    """Whether the middle is w before + (1 - w) after, w by least squares, rather than one of them, as it is or moved.

    All (h w) uint8. The mixture's squared error is less than half of that of either end alone, and less than half of that of the
    two ends moved along their optical flow to the middle, each pixel taken from the end that fits it better.
    """
    a, m, b = (frame.astype(np.float32) for frame in (before, middle, after))
    apart = float(np.square(a - b).mean())
    if apart < LEAST**2:
        return False
    weight = float(((m - b) * (a - b)).mean()) / apart
    mixed = float(np.square(m - weight * a - (1 - weight) * b).mean())
    alone = min(float(np.square(m - a).mean()), float(np.square(m - b).mean()))
    if not MIDDLE[0] < weight < MIDDLE[1] or mixed >= MUCH * alone:
        return False
    moved = np.minimum(_unexplained(before, middle), _unexplained(after, middle))
    return mixed < MUCH * float(moved.mean())


def _unexplained(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(h w): squared difference of the target and the source moved along the flow from the target to it."""
    import cv2 as library

    cv2: Any = library  # its stubs lack the flow
    flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(target, source, None)
    y, x = np.mgrid[: target.shape[0], : target.shape[1]].astype(np.float32)
    moved = cv2.remap(
        source.astype(np.float32), x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return np.square(target.astype(np.float32) - moved)
