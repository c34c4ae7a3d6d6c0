"""What curation is made of. A *video* is decoded once, and every *measure* watches that pass and leaves a *track* of numbers over
time. A *split* makes *clips* of the tracks, a measure reads a clip's *facts* off its track, a *look* (a model) adds facts from a
clip's stills, and a *keep* decides from facts alone. Tracks are stored; all that follows from them costs milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np

from ..video.frame import Frame
from ..video.timeline import Timeline

__all__ = ["Clip", "Fact", "Facts", "Keep", "Look", "Measure", "Shown", "Split", "Track", "Verdict", "Video", "Watch", "inside"]

Fact = float | int | str | None | list[float] | list[str]
Facts = Mapping[str, Fact]
Track = Mapping[str, np.ndarray]
"""Numbers over time that one measure leaves: arrays by name, all of one length. "time": seconds of each sample from the first
frame, ascending; "since", of samples that compare two frames: seconds of the earlier one. May be empty; values may be NaN."""


@dataclass(frozen=True)
class Video:
    """What is known of a video before it is watched. content: SHA-256 of the file."""

    content: str
    timeline: Timeline


@dataclass(frozen=True)
class Clip:
    """A half-open range of a video's frames, [first, stop), shown during [start, end) seconds from the first frame.

    id: hash of content and range. first_stamp, stop_stamp: the same range in units of the file's clock (stop_stamp: of the last
    frame in it, plus one). begins, ends: why there: "edge" of the video, "hard" cut, "gradual" change, "damage", or a "split" of
    what was too long.
    """

    id: str
    content: str
    first: int
    stop: int
    start: float
    end: float
    first_stamp: int
    stop_stamp: int
    begins: str
    ends: str

    @property
    def seconds(self) -> float:
        return self.end - self.start


def inside(track: Track, clip: Clip) -> np.ndarray:
    """(n,) bool: which samples of a track lie in the clip; one that compares two frames, only if both do."""
    time = track["time"]
    since = track.get("since", time)
    return (since >= clip.start - 1e-6) & (time < clip.end - 1e-6)


@runtime_checkable
class Watch(Protocol):
    """One measure watching one video. An exception costs the clip in which it happens, nothing else; the watch goes on."""

    def see(self, frame: Frame) -> None: ...

    def track(self) -> Track:
        """Asked once, at the end."""
        ...


@runtime_checkable
class Measure(Protocol):
    """Adds facts from the one decoding pass: dear, so tracks are stored under the content and the settings of the measure.

    version: raise it when the same video may give other tracks. rate: frames a second that it is shown; 0 is every one.
    A dataclass registered with @stage; its fields are its settings. Facts are named "NAME.fact", NAME being the recipe's for it.
    writes: the facts' names. Settings that only `facts` uses are named in `cheap`: changing them does not measure anew.
    """

    version: ClassVar[int]
    writes: ClassVar[tuple[str, ...]]
    cheap: ClassVar[tuple[str, ...]]

    @property
    def rate(self) -> float: ...

    def watch(self, video: Video) -> Watch: ...

    def facts(self, track: Track, clip: Clip) -> Facts:
        """Every fact of `writes`; None for one that the clip cannot tell (too short)."""
        ...


@runtime_checkable
class Split(Protocol):
    """Makes clips of a video from the tracks of all measures, by the measures' names. Registered with @stage."""

    def clips(self, video: Video, tracks: Mapping[str, Track]) -> list[Clip]:
        """Ascending, not overlapping.

        A split may also have divide(video, tracks), which gives an object with `lost`: by reason, (how often, seconds) of footage
        that is in no clip, for the report.
        """
        ...


@dataclass(frozen=True)
class Shown:
    """A clip as a look sees it. stills: (h w 3) uint8 RGB, as many as the look's `stills`, in order of time.

    texts: captions by kind: "sidecar" and "title" as the inputs gave them, and what looks before this one wrote ("image", ...).
    facts: so far, under their full names.
    """

    clip: Clip
    stills: Sequence[np.ndarray]
    texts: Mapping[str, Sequence[str]]
    facts: Facts


@runtime_checkable
class Look(Protocol):
    """Adds facts from stills of clips: a model, on batches. Registered with @stage; a dataclass whose fields are its settings.

    version, writes: as a measure's. stills: how many of each clip it is shown, evenly from first to last (1: the middle one).
    batch_size: clips at once. Looks run where the models are: in the driving process, or in an actor with a GPU.
    May have reads: the kinds of captions that its answers depend on (else on all texts and facts), and cheap: settings that change
    no answer. A look that writes captions gives them as facts named "text" (the recipe's name of the look is the caption's kind).
    """

    version: ClassVar[int]
    writes: ClassVar[tuple[str, ...]]
    stills: int
    batch_size: int

    def open(self, device: str) -> None:
        """Load the model, once a process, before the first call."""
        ...

    def identity(self) -> str:
        """Of what the settings do not say: hash of weights and configuration. Callable after `open`; part of the cache's key."""
        ...

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]: ...


@dataclass(frozen=True)
class Verdict:
    """drops: by clip, why it is dropped, or None. line: the resolved threshold in words ("motion.mean >= 0.0213 (25 %)").

    missing: places of clips without the fact, of which the recipe says what happens to them. dup_of: by the place of a clip that
    is dropped for another one, that one's place.
    """

    drops: Sequence[str | None]
    line: str
    missing: Sequence[int] = ()
    thresholds: Mapping[str, Any] | None = None
    dup_of: Mapping[int, int] | None = None


@runtime_checkable
class Keep(Protocol):
    """Decides from facts, of all clips at once, so that a threshold may be a percentile and a duplicate know its twin.

    Registered with @stage. needs: full names of the facts that it reads. table: columns by full name, one entry a clip, in order
    of clip ids; besides facts there are "id", "video", "start", "end", "seconds" and "kept": whether all keeps before it keep the
    clip. One that needs "kept" is judged after all that do not.
    """

    @property
    def needs(self) -> tuple[str, ...]: ...

    def judge(self, table: Mapping[str, Sequence[Any]]) -> Verdict: ...
