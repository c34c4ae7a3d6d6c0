"""Clips and facts read off a video's record: nothing is opened or decoded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import DataError, RelatumError
from ..video.timeline import Timeline
from .base import Clip, Facts, Track, Video
from .plan import Plan, key_of
from .settings import Curation
from .store import Fault, Record

__all__ = [
    "TIMELINE",
    "check_facts",
    "clips_of",
    "errors_of",
    "facts_of",
    "limits_key",
    "lost_of",
    "notes_of",
    "stills_key",
    "timeline_of",
    "timeline_parts",
]

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
    """The clips of a video that was measured, ascending; none of one that failed.

    DataError where the split raises, or gives what are no clips of the video; RecipeError goes through.
    """
    if record.failed:
        return []
    timeline, where = timeline_of(record), f"split {type(plan.split).__name__} of video {record.content[:12]}"
    try:
        clips = list(plan.split.clips(Video(record.content, timeline), record.tracks))
        ends = [0, *(clip.stop for clip in clips)]
        for clip, end in zip(clips, ends, strict=False):
            if not end <= clip.first < clip.stop <= len(timeline.times):
                words = f"frames [{clip.first}, {clip.stop}) after one that ends at {end}, of {len(timeline.times)} frames"
                raise DataError(f"{where}: gave a clip of {words}; expected ascending ones that do not overlap")
            if clip.content != record.content:
                raise DataError(f"{where}: gave a clip of another video, {clip.content[:12]!r}")
        return clips
    except RelatumError:
        raise
    except Exception as error:  # a plug-in's, whatever it is
        raise DataError(f"{where}: {type(error).__name__}: {error}"[:500]) from error


def lost_of(record: Record, plan: Plan) -> dict[str, float]:
    """Seconds of footage that are in no clip, by reason, where the split says so."""
    divide: Any = getattr(plan.split, "divide", None)
    if divide is None or record.failed:
        return {}
    lost = divide(Video(record.content, timeline_of(record)), record.tracks).lost
    return {str(reason): float(seconds) for reason, (_, seconds) in lost.items()}


def facts_of(record: Record, clips: Sequence[Clip], plan: Plan) -> list[dict[str, Any]]:
    """The measures' facts of each clip by full name; None for all of a measure that failed inside the clip.

    Of a clip that lacks facts for that there is also "error": why, in words (`errors_of`, and what reading the facts raised).
    """
    found = []
    for clip in clips:
        facts: dict[str, Any] = {}
        errors = [errors_of(record, clip)]
        for name, measure in plan.measures.items():
            values: Facts = {}
            if not any(_hits(fault.seconds, clip) for fault in record.faults if fault.stage == name):
                try:
                    values = measure.facts(record.tracks[name], clip)
                    check_facts(values, measure.writes)
                except Exception as error:  # what a measure does wrong costs the clip that it does it in
                    values = {}
                    errors.append(f"{name}: {type(error).__name__}: {error}"[:500])
            facts |= {f"{name}.{fact}": values.get(fact) for fact in measure.writes}
        words = "; ".join(filter(None, errors))
        found.append({**facts, "error": words} if words else facts)
    return found


def check_facts(facts: Any, writes: Sequence[str]) -> None:
    """DataError for facts that are not those that a stage says it writes, or that a table cannot hold."""
    if set(facts) != set(writes):
        raise DataError(f"gave {', '.join(sorted(map(str, facts))) or 'nothing'}; it writes {', '.join(writes)}")
    for fact, value in facts.items():
        for single in value if isinstance(value, list) else [value]:
            if single is not None and not isinstance(single, float | int | str):
                raise DataError(f"{fact} is of type {type(single).__name__}; a fact is a number, a text, None, or a list of these")
            if isinstance(single, float) and not math.isfinite(single):
                raise DataError(f"{fact} is not finite")
            if isinstance(single, int) and abs(single) >= 2**63:
                raise DataError(f"{fact} is a whole number of more than 64 bits")
            if isinstance(single, str):
                single.encode()


def errors_of(record: Record, clip: Clip) -> str:
    """Why a clip lacks facts, as far as stages failed in the pass, in words; empty where nothing did."""
    faults = {fault.stage: fault for fault in reversed(record.faults) if _hits(fault.seconds, clip)}
    return "; ".join(f"{name}{_when(fault)}: {fault.words}" for name, fault in sorted(faults.items()))


def notes_of(record: Record, clips: Sequence[Clip] = ()) -> list[str]:
    """What is odd about a video, in words: its file's notes, then stages that failed, the first time outside of all of `clips`."""
    facts = record.facts
    notes = facts["notes"] if facts.get("notes") is not None else facts.get("timeline", {}).get("notes", ())
    outside: dict[str, list[Fault]] = {}
    for fault in record.faults:
        if not any(_hits(fault.seconds, clip) for clip in clips):
            outside.setdefault(fault.stage, []).append(fault)
    return [*notes, *(_told(name, faults) for name, faults in outside.items())]


def _told(stage: str, faults: Sequence[Fault]) -> str:
    more = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    return f"{stage} failed{_when(faults[0])}: {faults[0].words}{more}"


def _when(fault: Fault) -> str:
    return f" at {fault.seconds:.2f} s" if fault.seconds == fault.seconds else ""


def _hits(seconds: float, clip: Clip) -> bool:
    """Whether a fault at this time costs the clip. NaN: the measure has no track at all."""
    return seconds != seconds or clip.start - 1e-6 <= seconds < clip.end - 1e-6


def limits_key(recipe: Curation) -> str:
    """Of the limits that a video is held against; those of the process that does it change nothing in the answer."""
    process = ("timeout", "attempts", "max_memory_gib", "max_bad")
    return key_of({name: value for name, value in vars(recipe.limits).items() if name not in process})


def stills_key(recipe: Curation, count: int) -> str:
    """What a clip's stills are made with: they follow from this and the clip's range alone."""
    return key_of(vars(recipe.stills), count)
