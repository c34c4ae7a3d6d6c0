"""Where a video is cut: hard cuts and gradual changes by PySceneDetect's rules, and the shots between them.

One decoding pass. Changes of content between frames at the video's own rate find hard cuts (its AdaptiveDetector's rule, also at
the ends and for cuts close together); luma histograms once a second find what changes too slowly for that, a dissolve or a fade.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from ..core.errors import MissingExtra
from . import dissolve
from .reader import Reader
from .timeline import Timeline

__all__ = ["Cuts", "find_cuts", "shots"]

RATIO = 3.5  # of a cut's change to the mean of the changes around it
WINDOW = 3  # changes on both sides that a change is compared with
BACKED = 2.0  # the same, of a cut that the histograms of that second show as well
CONTENT = 15.0  # a smaller change is no cut: mean difference of hue, saturation and value, in levels of 255
HISTOGRAM = {"threshold": 0.2, "bins": 128, "min_scene_len": 0.0}
APART = 1.0  # seconds between the frames whose histograms are compared, and from a hard cut that explains a hit
TRIM = 0.5  # seconds on both sides of a gradual change; a hard cut trims one frame on both sides
SHORT = 144  # pixels: the shorter edge of the frames that are scored, PySceneDetect's own 256 across at 16:9


@dataclass(frozen=True)
class Cuts:
    """hard: seconds of the first frame of each new shot. gradual: spans of seconds, trimmed already, that belong to no shot.

    decoded, failed: frames that gave whole pixels and that did not. failed_times: when the latter would be shown, seconds.
    """

    hard: tuple[float, ...]
    gradual: tuple[tuple[float, float], ...]
    decoded: int
    failed: int
    failed_times: tuple[float, ...]


def find_cuts(timeline: Timeline) -> Cuts:
    """Cuts of a video in one decoding pass, with the frames that failed.

    Hard cuts: a change of content of 15 or more, at least 3.5 times the mean of the six changes around it, cuts among those left
    out: inside a video AdaptiveDetector(3.5, window 3, no least length). Near an end the six are the nearest that there are; a
    video of seven frames or fewer has less than six, and a lone change (two frames) is judged by its size. What changes as much
    from every frame to the next is motion, not cuts: a slide show with a picture a frame is one shot. Where the histograms of a
    second show a change too, twice the mean is enough.
    Gradual changes: HistogramDetector(.2, 128 bins) on a frame a second; a hit that no hard cut within 1 s explains, and in which
    some frame is a mix of an earlier and a later one rather than one of these moved (see `dissolve`); other hits are motion.
    """
    histogram, cv2 = _detector()
    hits, waiting, decoded, changes = [], [], [], []
    recent = dissolve.Recent()
    last: float | None = None
    before: Any = None
    with Reader(timeline, seeks=False) as reader:
        for index, frame in reader.frames():
            seconds, small = timeline.times[index], _small(frame)
            colors = cv2.cvtColor(small, cv2.COLOR_BGR2HSV)
            decoded.append(index)
            changes.append(0.0 if before is None else cv2.norm(colors, before, cv2.NORM_L1) / colors.size)
            before = colors
            recent.add(seconds, small)
            if waiting and seconds > waiting[0][1] + TRIM + dissolve.MARGIN:
                hits += _judged(waiting, recent)
            if last is None or seconds - last >= APART - 0.5 / max(timeline.rate, 1.0):
                if histogram.process_frame(_code(timeline, index), small) and last is not None:
                    hits += _judged(waiting, recent)  # a video of gaps
                    waiting.append((last, seconds))
                last = seconds
    hits += _judged(waiting, recent)
    whole = set(decoded)
    failed = tuple(time for i, time in enumerate(timeline.times) if i not in whole)
    times = [timeline.times[i] for i in decoded]
    firm = _breaks(changes)
    backed = _backed(changes, times, firm, [hit[:2] for hit in hits if not hit[2]])
    hard = tuple(times[i] for i in sorted({*firm, *backed}))
    gradual = _gradual([hit[:2] for hit in hits if hit[2]], [times[i] for i in firm], timeline.duration)
    return Cuts(hard, tuple(gradual), len(decoded), len(failed), failed)


def shots(timeline: Timeline, cuts: Cuts) -> list[tuple[int, int]]:
    """Half-open ranges of indices into timeline.times that cross no cut, no gradual change, and no frame that failed.

    One frame on both sides of a hard cut is left out: a cut may lie a frame off, and compression blurs across it.
    """
    times = timeline.times
    outside: set[int] = set()
    starts = {bisect_left(times, second - 1e-9) for second in cuts.hard}
    for start in starts:
        outside |= {start - 1, start}
    for begin, end in cuts.gradual:
        outside |= set(range(bisect_left(times, begin), bisect_left(times, end + 1e-9)))
    outside |= {bisect_left(times, second) for second in cuts.failed_times}
    found, begin = [], 0
    for stop in [*sorted(i for i in outside if 0 <= i < len(times)), len(times)]:
        if stop > begin:
            found.append((begin, stop))
        begin = stop + 1
    return found


def _detector() -> tuple[Any, Any]:
    """(the histogram detector, cv2)."""
    try:
        import cv2
        from scenedetect.detectors import HistogramDetector
    except ImportError:
        raise MissingExtra("scenedetect", "video", "finding cuts") from None
    return HistogramDetector(**HISTOGRAM), cv2


def _judged(waiting: list[tuple[float, float]], recent: dissolve.Recent) -> list[tuple[float, float, bool]]:
    """Takes the hits that wait; each with whether frames mix in it."""
    found = [(begin, end, recent.mixes(begin - TRIM, end + TRIM)) for begin, end in waiting]
    waiting.clear()
    return found


def _backed(
    changes: Sequence[float], times: Sequence[float], firm: Sequence[int], hits: Sequence[tuple[float, float]]
) -> Iterator[int]:
    """Places of further cuts, in hits that no firm one explains."""
    open_hits = [(begin, end) for begin, end in hits if not any(begin < times[i] <= end for i in firm)]
    for i in range(1, len(changes)):
        if changes[i] >= max(CONTENT, BACKED * _around(changes, i, set(firm))) and any(a < times[i] <= b for a, b in open_hits):
            yield i


def _breaks(changes: Sequence[float]) -> list[int]:
    """Places of cuts, ascending. changes[i]: from frame i - 1 to frame i; changes[0] means nothing."""
    large = [i for i in range(1, len(changes)) if changes[i] >= CONTENT]
    found: set[int] = set()
    while new := {i for i in large if i not in found and changes[i] >= RATIO * _around(changes, i, found)}:
        found |= new
    return sorted(found)


def _around(changes: Sequence[float], place: int, without: Set[int]) -> float:
    """Mean of the 2 WINDOW changes nearest to one, as many on both sides where there are; 0 of none."""
    first = max(min(place - WINDOW, len(changes) - 1 - 2 * WINDOW), 1)
    near = [changes[i] for i in range(first, min(first + 2 * WINDOW + 1, len(changes))) if i != place and i not in without]
    return sum(near) / len(near) if near else 0.0


def _code(timeline: Timeline, index: int) -> Any:
    """The frame's time as the detectors take it, in microseconds, so that variable frame rates are exact."""
    from scenedetect.common import FrameTimecode, Timecode

    rate = Fraction(timeline.rate or 25.0).limit_denominator(1001)
    return FrameTimecode(Timecode(round(timeline.times[index] * 1e6), Fraction(1, 1_000_000)), fps=rate)


def _gradual(hits: Sequence[tuple[float, float]], hard: Sequence[float], duration: float) -> Iterator[tuple[float, float]]:
    """Spans of hits that no hard cut explains, trimmed, those that meet made one."""
    span: tuple[float, float] | None = None
    for begin, end in hits:
        if any(begin < cut <= end or abs(cut - end) <= APART for cut in hard):
            continue
        begin, end = max(begin - TRIM, 0.0), min(end + TRIM, duration)
        if span is not None and begin <= span[1]:
            span = (span[0], end)
            continue
        if span is not None:
            yield span
        span = (begin, end)
    if span is not None:
        yield span


_PLANAR = ("yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")
_FULL_RANGE = 2  # AVCOL_RANGE_JPEG
_STRETCH = np.clip((np.arange(256) - 16) * (255 / 219), 0, 255).round().astype(np.uint8)


def _small(frame: Any) -> np.ndarray:
    """(h w 3) uint8 BGR, the shorter edge at most SHORT, for scoring alone: planes are shrunk before they become colors."""
    import cv2

    scale = min(SHORT / min(frame.width, frame.height), 1.0)
    size = (max(round(frame.width * scale), 1), max(round(frame.height * scale), 1))
    if frame.format.name not in _PLANAR:
        return frame.to_ndarray(format="bgr24", width=size[0], height=size[1], interpolation="AREA")
    y, u, v = (cv2.resize(_plane(plane), size, interpolation=cv2.INTER_LINEAR) for plane in frame.planes)
    if not frame.format.name.startswith("yuvj") and frame.color_range != _FULL_RANGE:
        y = cv2.LUT(y, _STRETCH)
    return cv2.cvtColor(cv2.merge([y, v, u]), cv2.COLOR_YCrCb2BGR)


def _plane(plane: Any) -> np.ndarray:
    return np.frombuffer(plane, np.uint8).reshape(plane.height, abs(plane.line_size))[:, : plane.width]
