"""Where a video is cut: hard cuts, dissolves and fades, decided from what `finder` saw, and the shots between them.

Hard cuts by PySceneDetect's rules on changes between frames, save where motion, light or a flash explains the change; dissolves
by what they are, a mix of two pictures; fades by contrast that goes to nothing.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..core.errors import RecipeError
from .fades import BLANK, fades
from .finder import CutFinder, around
from .reader import Reader
from .timeline import Timeline

__all__ = ["DETECTORS", "Cuts", "Rules", "Spans", "decide", "find_cuts", "needed", "shots", "watched", "widened"]

DETECTORS = ("adaptive", "content", "hash", "histogram", "threshold", "dissolve", "fade")
BRIGHTER = 8.0  # levels of 255: what lies between the two changes of a flash is this much brighter than both sides
TRIM = 0.5  # seconds on both sides of a gradual change; a hard cut trims one frame on both sides
SLOW = 1.1  # seconds: mixtures that last no longer are explained by a hard cut among them
CLEAR = 0.8  # of `mix_unlike` is enough for a mixture of less than half the most error
BACKED = 0.7  # a hit of the histograms lets the pictures of a mixture be only so much as unlike


@dataclass(frozen=True)
class Rules:
    """Thresholds of what is a cut. detectors: which kinds of changes are looked for, all of those named.

    adaptive: a change of `content` or more, `ratio` times the mean of the 6 around it, between unlike pictures. Also one of `least`
    or more, whose ratio times the unlikeness is `stands`, if the pictures around it are half as unlike or less. unlike: how unlike
    two pictures are at least (`likeness.unlikeness`: 1 minus a correlation, motion and light taken out).
    dissolve: `mix` is the most error of a mixture, as a share of what motion and light leave, `mix_unlike` the least unlikeness of
    its ends; `longest` the seconds beyond which mixtures are no dissolve but a scene that drifts slowly: of what is smooth, a small
    shift is nearly a mixture of two others. slow: 1 minus the correlation of histograms, at the rates that are not every frame,
    that lets it be less.
    content, hash, histogram, threshold: PySceneDetect's detectors of those names on every frame, by `content_cut`, `hash`,
    `histogram` and `threshold` (levels of 255, share of bits, 1 minus correlation, levels of 255).
    """

    detectors: tuple[str, ...] = ("adaptive", "dissolve", "fade")
    ratio: float = 3.5
    content: float = 15.0
    least: float = 5.0
    stands: float = 1.0
    unlike: float = 0.45
    mix: float = 2.0
    mix_unlike: float = 0.5
    longest: float = 4.0
    slow: float = 0.2
    content_cut: float = 27.0
    hash: float = 0.35
    histogram: float = 0.2
    threshold: float = 12.0

    def __post_init__(self) -> None:
        if unknown := [name for name in self.detectors if name not in DETECTORS]:
            raise RecipeError(f"detectors of cuts: expected some of {', '.join(DETECTORS)}, found {unknown[0]!r}")
        numbers = {name: value for name, value in vars(self).items() if name != "detectors"}
        if wrong := [name for name, value in numbers.items() if not 0 <= value < float("inf")]:
            raise RecipeError(f"rules of cuts: expected {wrong[0]} of 0 or more, found {numbers[wrong[0]]}")


@dataclass(frozen=True)
class Spans:
    """hard: rows of the first frames of new shots. gradual: spans of seconds, not trimmed, that belong to no shot."""

    hard: tuple[int, ...]
    gradual: tuple[tuple[float, float], ...]


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


def find_cuts(timeline: Timeline, rules: Rules = Rules()) -> Cuts:
    """Cuts of a video in one decoding pass, with the frames that failed; gradual changes are trimmed by .5 s on both sides.

    What changes as much from every frame to the next is motion, not cuts: a slide show with a picture a frame is one shot.
    """
    finder, whole = CutFinder(**watched(rules)), set()
    with Reader(timeline, seeks=False) as reader:
        for index, picture in reader.frames():
            whole.add(index)
            finder.see(reader.frame(index, picture))
    track = finder.track()
    found = decide(track, rules)
    failed = tuple(time for i, time in enumerate(timeline.times) if i not in whole)
    hard = tuple(float(track["time"][row]) for row in found.hard)
    return Cuts(hard, tuple(widened(found.gradual, TRIM, timeline.duration)), len(whole), len(failed), failed)


def watched(rules: Rules, rates: Sequence[float] = (1.0,)) -> dict[str, Any]:
    """What a CutFinder has to look at for these rules."""
    every = (0.0,) if "histogram" in rules.detectors else ()
    return {"rates": (*every, *rates), "hashes": "hash" in rules.detectors, "levels": "threshold" in rules.detectors}


def needed(rules: Rules) -> set[str]:
    """Arrays of a track that these rules read and that a CutFinder need not have."""
    arrays = {"hash": "hash", "histogram": "histogram_0", "threshold": "level"}
    return {arrays[name] for name in rules.detectors if name in arrays}


def decide(track: Mapping[str, np.ndarray], rules: Rules = Rules()) -> Spans:
    """Hard cuts and gradual changes of a CutFinder's track."""
    if not len(track["time"]):
        return Spans((), ())
    flashes, seconds = _flashes(track), track["time"]
    faded = list(fades(seconds, track["luma"], track["spread"])) if "fade" in rules.detectors else []
    faded = [span for span in faded if not _holds(span, seconds[sorted(flashes)])]
    hard = {row for row in _hard(track, rules) - flashes if not any(begin < seconds[row] <= end for begin, end in faded)}
    mixtures = _mixed(track, rules, seconds[sorted(hard)]) if "dissolve" in rules.detectors else ()
    mixed = [(begin, end) for begin, end in widened([*mixtures], 0.0, float("inf")) if end - begin <= rules.longest]
    return Spans(tuple(sorted(hard)), tuple(widened([*mixed, *faded], 0.0, float("inf"))))


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


def widened(spans: Sequence[tuple[float, float]], by: float, duration: float) -> Iterator[tuple[float, float]]:
    """Ascending, within [0, duration], those that meet made one."""
    last: tuple[float, float] | None = None
    for begin, end in sorted(spans):
        begin, end = max(begin - by, 0.0), min(end + by, duration)
        if last is not None and begin <= last[1]:
            last = (last[0], max(end, last[1]))
            continue
        if last is not None:
            yield last
        last = (begin, end)
    if last is not None:
        yield last


def _hard(track: Mapping[str, np.ndarray], rules: Rules) -> set[int]:
    found: set[int] = set()
    if "adaptive" in rules.detectors:
        unlike = np.nan_to_num(track["unlike"], nan=1.0)
        found |= {row for row in _breaks(track["change"].tolist(), rules) if unlike[row] >= rules.unlike}
        found |= _outstanding(track, rules)
    if "content" in rules.detectors:
        found |= set(np.flatnonzero(track["change"] >= rules.content_cut).tolist())
    if "hash" in rules.detectors:
        found |= set(np.flatnonzero(track["hash"] >= rules.hash).tolist())
    if "histogram" in rules.detectors:
        found |= set(np.flatnonzero(track["histogram_0"] <= 1 - rules.histogram).tolist())
    if "threshold" in rules.detectors:
        found |= set(_faded(track, rules))
    return found - {0}


def _breaks(changes: Sequence[float], rules: Rules = Rules()) -> list[int]:
    """Places of cuts by AdaptiveDetector's rule, cuts among the changes around left out. changes[i]: from frame i - 1 to i."""
    large = [i for i in range(1, len(changes)) if changes[i] >= rules.content]
    found: set[int] = set()
    while new := {i for i in large if i not in found and changes[i] >= rules.ratio * around(changes, i, found)}:
        found |= new
    return sorted(found)


def _outstanding(track: Mapping[str, np.ndarray], rules: Rules) -> Set[int]:
    """Changes between unlike pictures, among pictures that are alike."""
    changes, unlike, beside = track["change"].tolist(), track["unlike"], track["beside"]
    rows = np.flatnonzero((unlike >= rules.unlike) & (track["change"] >= rules.least) & (unlike >= 2 * beside))
    return {int(row) for row in rows if changes[row] * unlike[row] >= rules.stands * around(changes, int(row), ())}


def _flashes(track: Mapping[str, np.ndarray]) -> set[int]:
    """Rows of changes into and out of light: the second takes the first back; between them it is brighter, or nothing is seen."""
    found: set[int] = set()
    time, luma, spread = track["time"], track["luma"], track["spread"]
    for row in np.flatnonzero(~np.isnan(track["back"])).tolist():
        start = int(np.searchsorted(time, track["back"][row]))
        light = luma[start:row].max() > max(luma[max(start - 1, 0)], luma[row]) + BRIGHTER
        if light or spread[start:row].min() < BLANK:
            found |= set(range(start, row + 1))
    return found


def _mixed(track: Mapping[str, np.ndarray], rules: Rules, hard: np.ndarray) -> Iterator[tuple[float, float]]:
    hits = list(_hits(track, rules, hard))
    for row in np.flatnonzero(~np.isnan(track["mix"])):
        begin, end, score, unlike = (float(track[name][row]) for name in ("mix_begin", "mix_end", "mix", "mix_unlike"))
        least = rules.mix_unlike * (CLEAR if score < 0.5 * rules.mix else 1.0)
        if any(a <= end and begin <= b for a, b in hits):
            least *= BACKED
        if score < rules.mix and unlike >= least and not (end - begin <= SLOW and _holds((begin, end), hard)):
            yield begin, end


def _hits(track: Mapping[str, np.ndarray], rules: Rules, hard: np.ndarray) -> Iterator[tuple[float, float]]:
    """Spans between two samples whose histograms differ, at the rates that are not every frame, and no hard cut says why."""
    for name, values in track.items():
        if not name.startswith("histogram_") or name == "histogram_0":
            continue
        rows = np.flatnonzero(~np.isnan(values))
        times = [float(track["time"][0]), *(float(track["time"][row]) for row in rows)]
        for begin, row in zip(times, rows, strict=False):
            span = (begin, float(track["time"][row]))
            if values[row] <= 1 - rules.slow and not _holds(span, hard):
                yield span


def _holds(span: tuple[float, float], seconds: np.ndarray) -> bool:
    return bool(np.any((seconds > span[0]) & (seconds <= span[1] + 1e-6)))


def _faded(track: Mapping[str, np.ndarray], rules: Rules) -> Iterator[int]:
    """ThresholdDetector itself, on levels that are known already."""
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import ThresholdDetector

    detector = ThresholdDetector(threshold=rules.threshold, min_scene_len=0)
    for row, level in enumerate(track["level"]):
        for cut in detector.process_frame(FrameTimecode(row, 25.0), np.full(1, level)):
            yield cut.frame_num
