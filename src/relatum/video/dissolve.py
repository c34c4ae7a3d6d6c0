"""Dissolves: spans in which each frame is a mix of an earlier and a later one, rather than one of them moved or lit otherwise."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .likeness import GRID, Picture, evened, moved, unlikeness

__all__ = ["RATE", "Mixes", "Mixture", "mixture"]

RATE = 8  # samples a second
REACHES = (1, 2, 4)  # samples from the middle to both ends, .125, .25 and .5 s
WORTH = 2.5  # a mixture whose error is more than this many times that of motion and light is none
WELL, CLEAR = 0.1, 0.5  # of either end alone: where motion and light leave less, a mixture has to leave less than this share of it
MUCH = 0.5  # of the error of either end alone: a mixture leaves less
MIDDLE = (0.25, 0.75)  # weights of a frame in the middle; beyond, it is nearly one of its ends
LEAST = 4.0  # levels of 255: ends that differ less are one picture
GAP = 0.4  # seconds between mixtures of one span


@dataclass
class Mixture:
    """A span of mixtures, in seconds. score: least error of a mixture, as a share of what motion and light leave. unlike: of
    the pictures before and after."""

    begin: float
    end: float
    score: float
    at: int
    unlike: float = 0.0


class Mixes:
    """Watches pictures for dissolves, RATE a second; gives each span when it is over."""

    def __init__(self) -> None:
        self._kept: deque[tuple[float, int, Picture, np.ndarray]] = deque(maxlen=2 * REACHES[-1] + 1)
        self._open: Mixture | None = None
        self._before: Picture | None = None
        self._after: Picture | None = None
        self._last = -np.inf

    def due(self, seconds: float) -> bool:
        return not self._kept or seconds - self._kept[-1][0] >= 0.9 / RATE

    def see(self, seconds: float, place: int, picture: Picture) -> Iterator[Mixture]:
        """place: the frame's number, which comes back as `Mixture.at`."""
        self._kept.append((seconds, place, picture, picture.gray.astype(np.float32).ravel() - 128))
        yield from self._tried(len(self._kept) - 1 - REACHES[-1])
        if self._open is not None and seconds - self._last > GAP + 2 * REACHES[-1] / RATE:
            yield from self._ended()

    def _tried(self, at: int) -> Iterator[Mixture]:
        """With the sample at `at` in the middle: the reach that fits best, if any does."""
        fits = []
        for reach in REACHES:
            if at >= reach and at + reach < len(self._kept):
                found = _weighed(*(self._kept[at + j][3] for j in (-reach, 0, reach)))
                if _is_middle(*found):
                    fits.append((found[1] / found[2], reach))
        if fits:
            first, middle, last = (self._kept[at + j] for j in (-min(fits)[1], 0, min(fits)[1]))
            score = mixture(first[2].gray, middle[2].gray, last[2].gray)
            if score < WORTH:
                yield from self._widened(first, middle, last, score)

    def close(self) -> Iterator[Mixture]:
        """At the end of the video."""
        for at in range(max(len(self._kept) - REACHES[-1], 0), len(self._kept)):
            yield from self._tried(at)
        yield from self._ended()

    def _ended(self) -> Iterator[Mixture]:
        if self._open is not None and self._before is not None and self._after is not None:
            self._open.unlike = unlikeness(self._before, self._after)
            yield self._open
            self._open = None

    def _widened(self, first: tuple, middle: tuple, last: tuple, score: float) -> Iterator[Mixture]:
        if self._open is not None and middle[0] - self._last > GAP:
            yield from self._ended()
        if self._open is None:
            self._open, self._before, self._after = Mixture(first[0], last[0], score, middle[1]), first[2], last[2]
        if first[0] < self._open.begin:
            self._open.begin, self._before = first[0], first[2]
        if last[0] > self._open.end:
            self._open.end, self._after = last[0], last[2]
        if score < self._open.score:
            self._open.score, self._open.at = score, middle[1]
        self._last = max(self._last, middle[0])


def _weighed(a: np.ndarray, m: np.ndarray, b: np.ndarray) -> tuple[float, float, float]:
    """(weight, error of the mixture, error of the better end alone), mean squares; a weight of 0 where the ends are one picture."""
    ab, ma, mb = a - b, m - a, m - b
    size = a.size
    apart = float(ab @ ab) / size
    if apart < LEAST**2:
        return 0.0, 0.0, 0.0
    weight = float(mb @ ab) / size / apart
    far_a, far_b = float(ma @ ma) / size, float(mb @ mb) / size
    return weight, max(far_b - weight * weight * apart, 0.0), min(far_a, far_b)


def _is_middle(weight: float, mixed: float, alone: float) -> bool:
    return MIDDLE[0] < weight < MIDDLE[1] and mixed < MUCH * alone


def mixture(before: np.ndarray, middle: np.ndarray, after: np.ndarray) -> float:
    """Squared error of the middle as w before + (1 - w) after, w by least squares, over the least of its errors as one of the two:
    as it is; moved along the optical flow to the middle, each pixel from the end that fits it better; moved, and lit otherwise by a
    gain and an offset.

    All (h w) uint8. Below 1 it is rather a mix; infinite where the weight is not near the middle or the mix fits badly.
    """
    a, m, b = (frame.astype(np.float32).ravel() - 128 for frame in (before, middle, after))
    weight, mixed, alone = _weighed(a, m, b)
    if not _is_middle(weight, mixed, alone):
        return float("inf")
    score = 0.0
    for preset in ("ULTRAFAST", "FAST", "MEDIUM"):  # most motion is explained by the first already
        left = _left(before, middle, after, alone, mixed / WORTH, preset)
        score = max(score, mixed / max(left, 1e-3))
        if score > (CLEAR if left < WELL * alone else WORTH):
            return float("inf")
    return score


def _left(before: np.ndarray, middle: np.ndarray, after: np.ndarray, alone: float, enough: float, preset: str) -> float:
    """Mean squared error that motion and light leave of the middle, each block by what explains it best; stops below `enough`."""
    even, shifted, best = evened(middle), [], None
    for end in (before, after):
        shifted.append(moved(end, evened(end), even, preset))
        for errors in (np.square(middle - shifted[-1]), _lit(shifted[-1], middle)):
            best = _blocks(errors) if best is None else np.minimum(best, _blocks(errors))
        if float(best.mean()) < enough:
            return float(best.mean())
    both = np.minimum(*(np.square(middle - one) for one in shifted))
    return min(alone, float(np.minimum(best, _blocks(both)).mean()))


def _blocks(errors: np.ndarray) -> np.ndarray:
    import cv2

    return cv2.resize(errors, GRID if errors.shape[1] >= errors.shape[0] else GRID[::-1], interpolation=cv2.INTER_AREA)


def _lit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """(h w): squared error of the target as gain x source + offset, by least squares."""
    x, y = source - source.mean(), target.astype(np.float32)
    y = y - y.mean()
    gain = float((x * y).sum()) / max(float((x * x).sum()), 1.0)
    return np.square(y - gain * x)
