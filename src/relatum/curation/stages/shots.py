"""Clips of a video: its shots, the whole of it, or windows of one length."""

from __future__ import annotations

import hashlib
import math
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import numpy as np

from ...core.errors import RecipeError
from ...core.registry import stage
from ...video.cuts import Rules, decide, needed, widened
from ...video.timeline import Timeline
from ..base import Clip, Track, Video

__all__ = ["Divided", "Fixed", "Shots", "Whole"]

Span = tuple[int, int, str, str]  # first frame, the one after the last, why it begins and ends there


@dataclass(frozen=True)
class Divided:
    """Clips of a video, and what is in none of them. lost: by reason, how many pieces and how many seconds they last together.

    Reasons: "too short" (a shot), "tail" (what is left over of one that was split), and what lies beside shots: "hard", "gradual"
    (trimmed), "damage" (frames that did not decode). Clips and what is lost make up the video. shots: between two changes.
    """

    clips: list[Clip]
    shots: int
    lost: Mapping[str, tuple[int, float]] = field(default_factory=dict)


SHORTEST = 0.1  # seconds of a window


@stage("shots")
@dataclass
class Shots:
    """Clips of min_seconds to max_seconds that cross no cut, no gradual change and no frame that failed to decode.

    rules: what is a cut. trim_gradual: seconds left out on both sides of a gradual change; trim_hard: frames on both sides of a
    hard cut, which may lie a frame off and blurs across it in compression. long: what is done with a longer shot: "equal" parts,
    or "stride": parts of max_seconds, the last of what is left. measure: the recipe's name of the measure of cuts.
    """

    min_seconds: float = 2.0
    max_seconds: float = 10.0
    long: Literal["equal", "stride"] = "equal"
    trim_gradual: float = 0.5
    trim_hard: int = 1
    measure: str = "cuts"
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if not (0 <= self.min_seconds <= self.max_seconds and self.max_seconds > 0):
            found = f"{self.min_seconds} and {self.max_seconds}"
            raise RecipeError(f"shots: expected 0 <= min_seconds <= max_seconds, the latter above 0, found {found}")
        if not (0 <= self.trim_gradual < math.inf and self.trim_hard >= 0):
            raise RecipeError(f"shots: expected trims of 0 or more, found {self.trim_gradual} and {self.trim_hard}")

    def clips(self, video: Video, tracks: Mapping[str, Track]) -> list[Clip]:
        return self.divide(video, tracks).clips

    def divide(self, video: Video, tracks: Mapping[str, Track]) -> Divided:
        """The clips with what was left out."""
        timeline = video.timeline
        states, starts = self._states(timeline, self._track(tracks))
        shots = list(_runs(states, starts))
        kept: list[Clip] = []
        lost: dict[str, tuple[int, float]] = {}

        def lose(state: str, first: int, stop: int) -> None:
            count, seconds = lost.get(state, (0, 0.0))
            lost[state] = (count + 1, seconds + _seconds(timeline, first, stop))

        for first, stop, state in _stretches(states):
            lose(state, first, stop)
        for shot in shots:
            parts = list(_parts(timeline, shot, self.max_seconds, self.min_seconds, self.long))
            for part in parts:
                if _seconds(timeline, part[0], part[1]) >= self.min_seconds - 1e-6:
                    kept.append(_clip(video, part))
                else:
                    lose("too short" if len(parts) == 1 else "tail", part[0], part[1])
        return Divided(kept, len(shots), lost)

    def _track(self, tracks: Mapping[str, Track]) -> Track:
        if self.measure not in tracks:
            raise RecipeError(f"split.measure: no measure is named {self.measure!r}; measured are {', '.join(sorted(tracks))}")
        track = tracks[self.measure]
        if missing := sorted(needed(self.rules) - set(track)) if len(track["time"]) else []:
            name = f"[measure.{self.measure}]"
            raise RecipeError(
                f"split.rules.detectors: {name} has not recorded {missing[0]!r}; name the detector in its detectors too"
            )
        return track

    def _states(self, timeline: Timeline, track: Track) -> tuple[list[str], set[int]]:
        """Of each frame why it is in no shot ("" where it is in one), and the first frames after hard cuts."""
        times = timeline.times
        states = [""] * len(times)
        found = decide(track, self.rules)
        starts = {bisect_left(times, float(track["time"][row]) - 1e-9) for row in found.hard}
        for start in starts:
            for i in range(max(start - self.trim_hard, 0), min(start + self.trim_hard, len(times))):
                states[i] = "hard"
        for begin, end in widened(found.gradual, self.trim_gradual, timeline.duration):
            for i in range(bisect_left(times, begin - 1e-9), bisect_left(times, end + 1e-9)):
                states[i] = "gradual"
        whole = np.isin(np.array(times), track["time"])
        for i in np.flatnonzero(~whole):
            states[i] = "damage"
        return states, starts


@stage("whole")
@dataclass
class Whole:
    """Each video is one clip, whatever is in it."""

    def clips(self, video: Video, tracks: Mapping[str, Track]) -> list[Clip]:
        return self.divide(video, tracks).clips

    def divide(self, video: Video, tracks: Mapping[str, Track]) -> Divided:
        frames = len(video.timeline.times)
        return Divided([_clip(video, (0, frames, "edge", "edge"))] if frames else [], 1)


@stage("fixed")
@dataclass
class Fixed:
    """Windows of `seconds`, one every `every` seconds (0: one after the other), whatever is in them; what is left of the end is a
    clip too if it has min_seconds (0: only whole windows)."""

    seconds: float = 5.0
    every: float = 0.0
    min_seconds: float = 0.0

    def __post_init__(self) -> None:
        if not (SHORTEST <= self.seconds < math.inf and 0 <= self.min_seconds <= self.seconds):
            found = f"{self.seconds} and {self.min_seconds}"
            raise RecipeError(f"fixed: expected seconds of {SHORTEST} or more and min_seconds up to that, found {found}")
        if self.every and not self.seconds <= self.every < math.inf:
            raise RecipeError(f"fixed.every: expected at least the {self.seconds} seconds of a clip, found {self.every}")

    def clips(self, video: Video, tracks: Mapping[str, Track]) -> list[Clip]:
        return self.divide(video, tracks).clips

    def divide(self, video: Video, tracks: Mapping[str, Track]) -> Divided:
        """The clips with the tail that was left out."""
        timeline, every = video.timeline, self.every or self.seconds
        kept, lost = [], {}
        for turn in range(math.ceil((timeline.duration - 1e-6) / every)):
            first, stop = (_from(timeline, seconds) for seconds in (turn * every, turn * every + self.seconds))
            ends = timeline.duration < turn * every + self.seconds - 1e-6
            if first == stop:
                continue
            if ends and timeline.duration - turn * every < (self.min_seconds or self.seconds) - 1e-6:
                lost["tail"] = (1, _seconds(timeline, first, stop))
                continue
            edges = ("edge" if first == 0 else "split", "edge" if stop == len(timeline.times) else "split")
            kept.append(_clip(video, (first, stop, *edges)))
        return Divided(kept, 1, lost)


def _from(timeline: Timeline, seconds: float) -> int:
    return bisect_left(timeline.times, seconds - 1e-6)


def _seconds(timeline: Timeline, first: int, stop: int) -> float:
    times = timeline.times
    return (times[stop] if stop < len(times) else timeline.duration) - times[first]


def _runs(states: list[str], starts: set[int]) -> Iterator[Span]:
    """Runs of frames in no state; a hard cut ends one even where nothing is trimmed."""
    first = None
    for i in range(len(states) + 1):
        ends = i == len(states) or bool(states[i])
        if first is not None and (ends or i in starts):
            before = "edge" if first == 0 else states[first - 1] or "hard"
            yield first, i, before, "edge" if i == len(states) else states[i] or "hard"
            first = None
        if first is None and not ends:
            first = i


def _stretches(states: list[str]) -> Iterator[tuple[int, int, str]]:
    """First frame, the one after the last, and state, of each run of frames in one state."""
    first = 0
    for i in range(1, len(states) + 1):
        if i == len(states) or states[i] != states[first]:
            if states[first]:
                yield first, i, states[first]
            first = i


def _parts(timeline: Timeline, shot: Span, most: float, least: float, how: str) -> Iterator[Span]:
    """The shot itself, or parts of at most `most` seconds. Equal parts that would be shorter than `least` are strides."""
    first, stop, begins, ends = shot
    seconds = _seconds(timeline, first, stop)
    if seconds <= most + 1e-6:
        yield shot
        return
    start, count = timeline.times[first], math.ceil((seconds - 1e-6) / most)
    step = seconds / count if how == "equal" and seconds / count >= least else most
    at = [first, *(_from(timeline, start + step * i) for i in range(1, count)), stop]
    places = [(a, b) for a, b in pairwise(at) if a < b]
    for i, (a, b) in enumerate(places):
        yield a, b, begins if i == 0 else "split", ends if i == len(places) - 1 else "split"


def _clip(video: Video, span: Span) -> Clip:
    first, stop, begins, ends = span
    timeline = video.timeline
    stamps = (timeline.stamps[first], timeline.stamps[stop - 1] + 1)
    return Clip(
        id=hashlib.sha256(f"{video.content} {stamps[0]} {stamps[1]}".encode()).hexdigest()[:24],
        content=video.content,
        first=first,
        stop=stop,
        start=timeline.times[first],
        end=timeline.times[first] + _seconds(timeline, first, stop),
        first_stamp=stamps[0],
        stop_stamp=stamps[1],
        begins=begins,
        ends=ends,
    )
