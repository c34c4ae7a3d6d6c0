"""The one decoding pass over a video: every frame goes to the measures that want it, and stills are set aside."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

import numpy as np

from ..video.frame import Frame
from ..video.reader import Reader
from .base import Measure, Track, Video
from .stills import Spool
from .store import Fault

__all__ = ["DECODING", "Passed", "watch"]

DECODING = "decoding"  # what a process was doing between two measures
END = -2  # in place of a frame: when all are seen
EMPTY: Track = {"time": np.zeros(0)}
LIMIT = 100  # faults of one measure that are listed; one that goes on failing is shown no more frames

Note = Callable[[str, int], None]


@dataclass(frozen=True)
class Passed:
    """decoded, lost: frames that gave whole pixels, and that did not. seconds: by measure, and of stills."""

    tracks: Mapping[str, Track]
    faults: Sequence[Fault]
    decoded: int
    lost: int
    seconds: Mapping[str, float] = field(default_factory=dict)


def watch(
    video: Video,
    measures: Mapping[str, Measure],
    spool: Spool | None = None,
    note: Note = lambda stage, index: None,
    avoid: Iterable[Sequence[Any]] = (),
) -> Passed:
    """Shows a video to the measures, each at its own rate: the first frame at or after every 1 / rate seconds.

    note(stage, frame): called before each measure sees a frame, so that a process that ends there can be explained; avoid: such
    places, which are not shown again but listed as faults. A measure that raises loses that frame alone.
    """
    timeline = video.timeline
    watchers = [_Watcher(name, measure, video) for name, measure in measures.items()]
    left_out = {(str(stage), int(index)) for stage, index, *_ in avoid}
    decoded, stilled = 0, 0.0
    with Reader(timeline, seeks=False) as reader:
        for index, picture in reader.frames():
            decoded += 1
            frame = reader.frame(index, picture)
            for watcher in watchers:
                if watcher.wants(frame):
                    note(watcher.name, index)
                    watcher.show(frame, (watcher.name, index) in left_out)
            if spool is not None:
                started = perf_counter()
                spool.see(frame)
                stilled += perf_counter() - started
            note(DECODING, index)
    tracks = {}
    for watcher in watchers:
        note(watcher.name, END)
        tracks[watcher.name] = watcher.track((watcher.name, END) in left_out)
    faults = [fault for watcher in watchers for fault in watcher.faults]
    seconds = {watcher.name: watcher.seconds for watcher in watchers} | {"stills": stilled}
    return Passed(tracks, faults, decoded, len(timeline.times) - decoded, seconds)


@dataclass
class _Watcher:
    name: str
    measure: Measure
    video: Video
    faults: list[Fault] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.watch, self.rate, self.next, self.seconds = None, 0.0, -math.inf, 0.0
        try:
            self.rate, self.watch = self.measure.rate, self.measure.watch(self.video)
            if not 0 <= self.rate < math.inf:
                raise ValueError(f"a rate of {self.rate}, expected frames a second, 0 or more")
        except Exception as error:
            self.faults = [Fault(self.name, math.nan, _words(error))] * LIMIT  # is shown nothing

    def wants(self, frame: Frame) -> bool:
        if not self.rate:
            return len(self.faults) < LIMIT
        if frame.seconds < self.next - 1e-6 or len(self.faults) >= LIMIT:
            return False
        self.next = (math.floor(frame.seconds * self.rate + 1e-6) + 1) / self.rate
        return True

    def show(self, frame: Frame, avoided: bool) -> None:
        if avoided:
            self.faults.append(Fault(self.name, frame.seconds, "ended the process that ran it"))
            return
        started = perf_counter()
        try:
            assert self.watch is not None
            self.watch.see(frame)
        except Exception as error:  # whatever a stage does wrong costs the clip that it does it in
            self.faults.append(Fault(self.name, frame.seconds, _words(error)))
            if len(self.faults) == LIMIT:
                self.faults.append(Fault(self.name, math.nan, f"failed {LIMIT} times and was shown no more frames"))
        finally:
            self.seconds += perf_counter() - started

    def track(self, avoided: bool) -> Track:
        try:
            if avoided:
                raise ChildProcessError("ended the process that ran it")
            return _checked(self.watch.track()) if self.watch is not None else EMPTY
        except Exception as error:
            self.faults.append(Fault(self.name, math.nan, _words(error)))
            return EMPTY


def _checked(track: Track) -> Track:
    """The track, if it is one."""
    arrays = {name: np.asarray(array) for name, array in track.items()}
    if "time" not in arrays or len({len(array) for array in arrays.values()}) > 1:
        raise ValueError(f"a track with {', '.join(arrays) or 'nothing'}; expected arrays of one length, one of them time")
    if odd := [name for name, array in arrays.items() if array.dtype.kind not in "fiub" or "/" in name]:
        raise ValueError(f"a track's {odd[0]!r} is of {arrays[odd[0]].dtype}; expected numbers, under a name without slashes")
    return arrays


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:500]
