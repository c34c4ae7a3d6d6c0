"""Clips and facts read off a video's record: nothing is opened or decoded."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..video.timeline import Timeline
from .base import Clip, Facts, Track, Video
from .plan import Plan, key_of
from .settings import Curation
from .store import Record

__all__ = ["TIMELINE", "clips_of", "clock_of", "errors_of", "facts_of", "limits_key", "stills_key", "timeline_of", "timeline_parts"]

TIMELINE = "timeline"  # the track of a record that holds its frames' times


def timeline_parts(timeline: Timeline) -> tuple[dict[str, Any], Track]:
    """(what is one value a video, what is one value a frame) of a timeline, as a record keeps it."""
    single = ("width", "height", "rotation", "rate", "duration", "variable", "notes", "seekable", "by_order")
    keys = np.zeros(len(timeline.times), bool)
    keys[list(timeline.keyframes)] = True
    frames = {"time": np.array(timeline.times), "stamp": np.array(timeline.stamps, np.int64), "key": keys}
    return {name: getattr(timeline, name) for name in single}, frames


def timeline_of(record: Record, path: Path = Path()) -> Timeline:
    """The timeline that a record was made with; `path`: where the file lies now."""
    frames, single = record.tracks[TIMELINE], dict(record.facts["timeline"])
    single["notes"] = tuple(single["notes"])
    keyframes, stamps = tuple(np.flatnonzero(frames["key"]).tolist()), tuple(frames["stamp"].tolist())
    return Timeline(path, tuple(frames["time"].tolist()), keyframes, stamps=stamps, **single)


def clips_of(record: Record, plan: Plan) -> list[Clip]:
    """The clips of a video that was measured, ascending; none of one that failed."""
    if record.failed:
        return []
    return plan.split.clips(Video(record.content, timeline_of(record)), record.tracks)


def facts_of(record: Record, clips: Sequence[Clip], plan: Plan) -> list[dict[str, Any]]:
    """The measures' facts of each clip by full name; None for all of a measure that failed inside the clip."""
    found = []
    for clip in clips:
        facts: dict[str, Any] = {}
        for name, measure in plan.measures.items():
            broken = any(_hits(fault.seconds, clip) for fault in record.faults if fault.stage == name)
            values: Facts = {} if broken else measure.facts(record.tracks[name], clip)
            facts |= {f"{name}.{fact}": values.get(fact) for fact in measure.writes}
        found.append(facts)
    return found


def errors_of(record: Record, clip: Clip) -> str:
    """Why a clip lacks facts, in words; empty where nothing failed."""
    faults = {fault.stage: fault for fault in reversed(record.faults) if _hits(fault.seconds, clip)}
    return "; ".join(f"{name} at {fault.seconds:.2f} s: {fault.words}" for name, fault in sorted(faults.items()))


def _hits(seconds: float, clip: Clip) -> bool:
    """Whether a fault at this time costs the clip. NaN: the measure has no track at all."""
    return seconds != seconds or clip.start - 1e-6 <= seconds < clip.end - 1e-6


def limits_key(recipe: Curation) -> str:
    """Of the limits that a video is held against; those of the process that does it change nothing in the answer."""
    process = ("timeout", "attempts", "max_memory_gib", "max_bad")
    return key_of({name: value for name, value in vars(recipe.limits).items() if name not in process})


def stills_key(recipe: Curation, plan: Plan, count: int) -> str:
    return key_of(plan.split_key, vars(recipe.stills), count)


def clock_of(record: Record) -> Fraction:
    """Seconds of one unit of the file's clock."""
    return Fraction(record.facts["time_base"])
