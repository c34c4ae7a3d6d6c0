"""Whether two pictures show one scene, whatever moved between them and however the light changed."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

__all__ = ["SHORT", "Picture", "evened", "likeness", "moved", "unlikeness"]

SHORT = 72  # pixels of the shorter edge
EDGES = (48, 256)  # pixels between which both edges are brought
WIDE = 2.5  # times as wide as high at most: OpenCV's DIS goes by the width alone and reads outside of pictures that are wider
GRID = (4, 3)  # blocks across and down, of frames that lie; the other way round of those that stand
FLAT = 2.0  # variance, in levels squared: blocks with less in both pictures say nothing
BAR = 6  # levels: rows and columns at the border that differ less within themselves, in both pictures, are no part of either


BLURRED = 2  # rows and columns beside a bar
ALIKE = 0.85  # likeness beyond which no better is looked for
PALE = 6.0  # levels: a color this far from gray on average is none


class Picture:
    """A frame as pictures are compared. gray: (h w) uint8 luma, blurred by one pixel, so that noise counts little."""

    def __init__(self, luma: np.ndarray, bgr: np.ndarray) -> None:
        self.gray, self._bgr = _gray(luma), bgr

    @functools.cached_property
    def tints(self) -> np.ndarray:
        """(blocks 2): mean red and blue difference of each block."""
        import cv2

        grid = GRID if self._bgr.shape[1] >= self._bgr.shape[0] else GRID[::-1]
        means = cv2.resize(self._bgr, grid, interpolation=cv2.INTER_AREA).astype(np.float32)
        return cv2.cvtColor(means / 255, cv2.COLOR_BGR2YCrCb)[..., 1:].reshape(-1, 2) * 255 - 127.5


def unlikeness(a: Picture, b: Picture) -> float:
    """0 for one scene, about 1 for two: 1 minus the likeness of what is seen, or how much the colors differ if that is more."""
    return max(1 - likeness(a.gray, b.gray), _recolored(a.tints, b.tints))


def _recolored(a: np.ndarray, b: np.ndarray) -> float:
    """Share of the colors of a picture that is not those of the other, paler or stronger by any factor, as light makes them.

    0 where one has hardly any.
    """
    aa, bb, ab = (float((x * y).sum()) for x, y in ((a, a), (b, b), (a, b)))
    return 1 - max(ab, 0.0) ** 2 / (aa * bb) if min(aa, bb) > PALE**2 * len(a) else 0.0


def _gray(luma: np.ndarray) -> np.ndarray:
    import cv2

    h, w = (int(np.clip(edge, *EDGES)) for edge in luma.shape)
    h = max(h, round(w / WIDE))
    if (h, w) != luma.shape:
        luma = cv2.resize(luma, (w, h), interpolation=cv2.INTER_LINEAR)
    return cv2.GaussianBlur(luma, (5, 5), 1.0)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """-1 to 1: the mean correlation of the blocks of two pictures; 1 of pictures that are both flat.

    The best of three: as they are, and each moved along the optical flow (DIS, "fast") to the other. Blocks are correlated one by
    one, so that neither a bar over part of the picture nor the light of a whole block counts.
    """
    shown = _shown(a, b)
    found = _blockwise(a[shown], b[shown])
    for source, target in ((a, b), (b, a)):
        if found > ALIKE:
            break
        shifted = moved(source, evened(source), evened(target))
        found = max(found, _blockwise(shifted[shown], target[shown]))
    return found


def moved(source: np.ndarray, like_source: np.ndarray, like_target: np.ndarray, preset: str = "FAST") -> np.ndarray:
    """(h w) float32: the source moved along the flow to the target; flow is found between two pictures that are like them."""
    import cv2

    flow = _flow(preset, *source.shape).calc(like_target, like_source, None)
    x, y = _places(*source.shape)
    where = (source.astype(np.float32), x + flow[..., 0], y + flow[..., 1])
    return cv2.remap(*where, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@functools.lru_cache(maxsize=16)
def _flow(preset: str, height: int, width: int) -> Any:
    """One for each size: DIS keeps the scales that a small picture made it take, and answers would depend on what was before."""
    import cv2 as library

    cv2: Any = library  # its stubs lack the flow
    return cv2.DISOpticalFlow_create(getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset}"))


@functools.lru_cache(maxsize=16)
def _places(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y


def evened(picture: np.ndarray) -> np.ndarray:
    """(h w) uint8 of mean 128 and deviation 50, so that flow does not see the light."""
    import cv2

    mean, deviation = (float(value[0, 0]) for value in cv2.meanStdDev(picture))
    gain = 50 / max(deviation, 2.0)
    return np.clip(picture * np.float32(gain) + np.float32(128 - gain * mean), 0, 255).astype(np.uint8)


def _shown(a: np.ndarray, b: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns without the bars at the border of both, and without what is blurred into them."""
    found = []
    for axis in (1, 0):
        spread = np.maximum(np.ptp(a, axis), np.ptp(b, axis))
        at = np.flatnonzero(spread > BAR)
        first, stop = (int(at[0]), int(at[-1]) + 1) if len(at) else (0, 0)
        first, stop = first + BLURRED * (first > 0), stop - BLURRED * (stop < len(spread))
        found.append(slice(first, stop) if stop - first >= EDGES[0] // 4 else slice(None))
    return found[0], found[1]


def _blockwise(a: np.ndarray, b: np.ndarray) -> float:
    import cv2

    a, b = a.astype(np.float32), b.astype(np.float32)
    grid = GRID if a.shape[1] >= a.shape[0] else GRID[::-1]
    mean = lambda values: cv2.resize(values, grid, interpolation=cv2.INTER_AREA)  # noqa: E731
    mean_a, mean_b = mean(a), mean(b)
    spread_a, spread_b = mean(a * a) - mean_a * mean_a, mean(b * b) - mean_b * mean_b
    told = np.maximum(spread_a, spread_b) > FLAT
    if not told.any():
        return 1.0
    together = (mean(a * b) - mean_a * mean_b) / np.sqrt(np.maximum(spread_a, FLAT) * np.maximum(spread_b, FLAT))
    return float(together[told].mean())
