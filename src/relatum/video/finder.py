"""What finding cuts looks at, frame by frame: a watch that leaves plain arrays over time. What they mean is decided in `cuts`."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from ..core.errors import MissingExtra
from .dissolve import Mixes, Mixture
from .frame import Frame
from .likeness import SHORT, Picture, unlikeness

__all__ = ["WINDOW", "CutFinder", "around"]

SCORED = 72  # pixels: the shorter edge of the frames whose change is measured
BINS = 128  # of a histogram of luma
WINDOW = 3  # changes on both sides that a change is compared with
LEAST = 4.0  # levels of 255: a smaller change is not looked at
STANDS = 1.3  # times the mean of the changes around: what stands out less is not looked at
UNLIKE = 0.4  # 1 minus likeness: the frames around are looked at too
FLASH = 0.25  # seconds between two changes the second of which may bring the first one's picture back


class CutFinder:
    """Watches a video for cuts. `track()`: arrays of one length, a row a frame, NaN where nothing was looked at.

    time: seconds. change: mean difference of hue, saturation and value to the frame before, levels of 255 (ContentDetector's).
    luma, spread: mean and deviation of luma. unlike: 1 minus the likeness to the frame before, of changes that stand out; beside:
    the median of it at the 6 changes around. back: when the change happened that this one takes back, in seconds.
    histogram_RATE: correlation of the luma's histogram with that of the sample before, RATE samples a second (0: every frame).
    mix, mix_begin, mix_end, mix_unlike: of a span of mixtures, at its best one (`dissolve.Mixture`). hash: share of bits of the
    perceptual hash that differ from the frame before (HashDetector's); level: mean of red, green and blue (ThresholdDetector's).
    """

    def __init__(self, rates: Sequence[float] = (1.0,), hashes: bool = False, levels: bool = False) -> None:
        self.cv2 = _library()
        self._lists: dict[str, list[float]] = {name: [] for name in ("time", "change", "luma", "spread")}
        self._some: dict[str, dict[int, float]] = {name: {} for name in ("unlike", "beside", "back", *_MIX)}
        self._histograms = {float(rate): _Histograms() for rate in rates}
        self._hash = _Hash() if hashes else None
        self._levels = levels
        self._some |= {**({"hash": {}} if hashes else {}), **({"level": {}} if levels else {})}
        self._colors: Any = None
        self._recent: deque[Picture] = deque(maxlen=2 * WINDOW + 2)
        self._changed: list[tuple[int, Picture]] = []  # rows of the latest real changes with the picture before each
        self._mixes = Mixes()
        self._judged = 0

    def see(self, frame: Frame) -> None:
        cv2, small, row = self.cv2, frame.bgr(SCORED), len(self._lists["time"])
        colors = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
        known = self._colors is not None and self._colors.shape == colors.shape
        change = cv2.norm(colors, self._colors, cv2.NORM_L1) / colors.size if known else 0.0
        seen = Picture(frame.luma(SHORT), small)
        mean, deviation = cv2.meanStdDev(seen.gray)
        self._colors = colors
        for name, value in zip(self._lists, (frame.seconds, change, mean[0, 0], deviation[0, 0]), strict=True):
            self._lists[name].append(float(value))
        self._recent.append(seen)
        for rate, histograms in self._histograms.items():
            histograms.see(row, frame, rate)
        if self._hash is not None:
            self._some["hash"][row] = self._hash.distance(small)
        if self._levels:
            self._some["level"][row] = float(small.mean())
        if self._mixes.due(frame.seconds):
            self._note(self._mixes.see(frame.seconds, row, seen))
        if row >= WINDOW:
            self._judge(row - WINDOW)

    def track(self) -> Mapping[str, np.ndarray]:
        rows = len(self._lists["time"])
        for row in range(self._judged, rows):
            self._judge(row)
        self._note(self._mixes.close())
        arrays = {name: np.array(values, np.float64) for name, values in self._lists.items()}
        sparse = {**self._some, **{f"histogram_{rate:g}": found.values for rate, found in self._histograms.items()}}
        for name, values in sparse.items():
            arrays[name] = np.full(rows, np.nan)
            arrays[name][list(values)] = list(values.values())
        return arrays

    def _note(self, mixtures: Any) -> None:
        for found in mixtures:
            values: Mixture = found
            for name, value in zip(_MIX, (values.score, values.begin, values.end, values.unlike), strict=True):
                self._some[name][values.at] = value

    def _judge(self, row: int) -> None:
        """Looks at the pictures around a change that stands out; asked once of each row, when WINDOW more are known."""
        self._judged = row + 1
        changes = self._lists["change"]
        if row == 0 or changes[row] < LEAST or changes[row] < STANDS * around(changes, row, ()):
            return
        first = len(changes) - len(self._recent)  # the row of the oldest picture
        unlike = lambda i: unlikeness(self._recent[i - 1 - first], self._recent[i - first])  # noqa: E731
        if row - 1 < first:
            return
        self._some["unlike"][row] = unlike(row)
        if self._some["unlike"][row] < UNLIKE:
            return
        rows = [i for i in range(row - WINDOW, row + WINDOW + 1) if first < i < len(changes) and i != row]
        self._some["beside"][row] = median(unlike(i) for i in rows) if rows else 0.0
        times = self._lists["time"]
        self._changed = [(i, before) for i, before in self._changed if times[row] - times[i] <= FLASH]
        for i, before in self._changed:
            if unlikeness(before, self._recent[row - first]) < UNLIKE:
                self._some["back"][row] = times[i]
                break
        self._changed.append((row, self._recent[row - 1 - first]))


_MIX = ("mix", "mix_begin", "mix_end", "mix_unlike")


def around(changes: Sequence[float], place: int, without: Any) -> float:
    """Mean of the 2 WINDOW changes nearest to one, as many on both sides where there are; 0 of none. changes[0] means nothing."""
    first = max(min(place - WINDOW, len(changes) - 1 - 2 * WINDOW), 1)
    near = [changes[i] for i in range(first, min(first + 2 * WINDOW + 1, len(changes))) if i != place and i not in without]
    return sum(near) / len(near) if near else 0.0


class _Histograms:
    """Correlations of the histograms of luma of samples, as HistogramDetector has them."""

    def __init__(self) -> None:
        import cv2

        self.cv2: Any = cv2
        self.values: dict[int, float] = {}
        self._last: tuple[float, Any] | None = None

    def see(self, row: int, frame: Frame, rate: float) -> None:
        if self._last is not None and rate and frame.seconds - self._last[0] < 0.98 / rate:
            return
        found = self.cv2.calcHist([frame.luma(SCORED)], [0], None, [BINS], [0, 256])
        if self._last is not None:
            self.values[row] = float(self.cv2.compareHist(self._last[1], found, self.cv2.HISTCMP_CORREL))
        self._last = frame.seconds, found


class _Hash:
    def __init__(self) -> None:
        from scenedetect.detectors import HashDetector

        self._make, self._last = HashDetector.hash_frame, None

    def distance(self, small: np.ndarray) -> float:
        found = self._make(small, 8, 2)
        share = 0.0 if self._last is None else float((found != self._last).mean())
        self._last = found
        return share


def _library() -> Any:
    try:
        import cv2
    except ImportError:
        raise MissingExtra("opencv-python-headless", "video", "finding cuts") from None
    return cv2
