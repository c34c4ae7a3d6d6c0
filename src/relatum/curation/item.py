"""All that is done with one video: probe, one pass, stills of its clips. What any engine maps over videos, on any machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..atomic import DiskFull
from ..core.errors import DataError
from ..video.opening import VideoError, shown
from ..video.source import Source, opened, stamp_of
from .base import Video
from .passing import Note, Passed, watch
from .plan import Plan, key_of
from .probe import classify, probe
from .reading import TIMELINE, clips_of, limits_key, stills_key, timeline_of, timeline_parts
from .settings import Curation
from .stills import Spool, stills_of
from .store import Record, Store

__all__ = ["Item", "Job", "measure", "scratch"]

STILLS = "stills"  # the track that says which frames were set aside, and what is noted while more are sought
PROBE = "probe"  # noted while a video is copied out of a tar file, or asked what it is


@dataclass(frozen=True)
class Item:
    """A video to measure: its content (SHA-256) and where it lies; member: (offset, size) in a tar file.

    stamp: of the file when its content was known, `stamp_of`; empty where nothing is known.
    """

    content: str
    path: str
    member: tuple[int, int] | None = None
    stamp: tuple[int, ...] = ()


@dataclass(frozen=True)
class Job:
    """What is done with every item. stills: how many of each clip are kept."""

    recipe: Curation
    plan: Plan
    stills: int

    @property
    def store(self) -> Store:
        return Store(self.recipe.run / "store")

    @property
    def keys(self) -> dict[str, str]:
        """By track, what it is made with."""
        measured = {name: self.plan.measure_key(name) for name in self.plan.measures}
        return {**measured, STILLS: key_of(vars(self.recipe.stills)), TIMELINE: ""}

    @property
    def stills_key(self) -> str:
        return stills_key(self.recipe, self.stills)

    @property
    def crash_key(self) -> str:
        """What a video that ended its process was held against: all that ran there."""
        return key_of(limits_key(self.recipe), self.keys, self.plan.split_key)

    def is_done(self, content: str) -> bool:
        """Whether the store has all that this job would leave of the video. A refusal is kept until the limits change, a crash
        until these or the stages do."""
        known = self.store.read(content, tracks=False)
        if known is None or known.limits != (self.crash_key if known.status in ("crash", "timeout") else limits_key(self.recipe)):
            return False
        if known.failed:
            return True
        whole = known.keys == {**known.keys, **self.keys}
        return whole and self.store.stilled(content, self.stills_key)[0] == self.plan.split_key


def measure(item: Item, job: Job, note: Note, avoid: Sequence[Sequence[Any]] = ()) -> dict[str, Any]:
    """Leaves the video's record and stills in the run's store, and measures nothing again that is there under the same key.

    Gives its status, and seconds by what they were spent on. Nothing that a file holds raises; what the disk says does.
    """
    if job.is_done(item.content):
        return {"spent": {}}
    spent = _Clock()
    store, limits = job.store, limits_key(job.recipe)
    known = store.read(item.content)
    if known is not None and not known.tracks:
        known = None
    path = Path(item.path)
    try:
        note(PROBE, 0)
        source = Source(item.path, path, item.member)
        with (
            opened(source, scratch(job.recipe), lambda pieces: note(PROBE, pieces)) as path,
            closing(Spool(job.recipe.stills, scratch(job.recipe))) as spool,
        ):
            note(PROBE, 0)
            record = _watched(path, item.content, job, known, spool, note, avoid, spent)
            if item.stamp and stamp_of(Path(item.path)) != item.stamp:
                raise VideoError(f"{shown(path)}: was changed while it was measured; run the command again", "read_failed")
            store.write(record)
            if not record.failed:
                _set_aside(record, path, job, spool, note)
                spent(STILLS)
    except DiskFull:
        raise
    except DataError as error:
        words = str(error).removeprefix(f"{shown(path)}: ")  # equal content gives equal records, wherever it lies
        status, reason = classify(error)
        known = known or Record(item.content, status)
        held = "" if reason == "read_failed" else limits  # another time it may be read
        store.write(replace(known, status=status, reason=reason, detail=words, limits=held))
    return {"spent": spent.seconds}


def _watched(
    path: Path,
    content: str,
    job: Job,
    known: Record | None,
    spool: Spool,
    note: Note,
    avoid: Sequence[Sequence[Any]],
    spent: _Clock,
) -> Record:
    """The video's record with all tracks that the job wants, those that were there taken over. The spool is filled where the
    video is decoded and has no stills yet.

    Held against the limits anew: other limits than before decode nothing again.
    """
    due = [name for name, key in job.keys.items() if known is None or known.keys.get(name) != key]
    timeline, facts = probe(path, job.recipe.limits)
    spent(PROBE)
    passed, fills = (
        Passed({}, (), known.facts["decoded"] if known else 0, known.facts["decode_errors"] if known else 0),
        STILLS in due,
    )
    if due:
        measures = {name: job.plan.measures[name] for name in due if name in job.plan.measures}
        passed = watch(Video(content, timeline), measures, spool if fills else None, note, avoid)
        spent.split("decode", passed.seconds)
    single, frames = timeline_parts(timeline)
    new = {**passed.tracks, TIMELINE: frames, **({STILLS: spool.track()} if fills else {})}
    old = known.tracks if known is not None else {}
    status, reason, detail = _judged(passed, job.recipe)
    return Record(
        content,
        status,
        reason,
        detail,
        limits_key(job.recipe),
        {**facts, "timeline": single, "decoded": passed.decoded, "decode_errors": passed.lost},
        job.keys,
        [*(fault for fault in (known.faults if known else ()) if fault.stage not in due), *passed.faults],
        {name: new.get(name, old.get(name, {})) for name in job.keys},
    )


def _set_aside(record: Record, path: Path, job: Job, spool: Spool, note: Note) -> None:
    """Leaves stills of the clips; those that are there stay. A split that fails is the video's error, and is asked again."""
    store, content, key = job.store, record.content, job.stills_key
    try:
        clips = clips_of(record, job.plan)
    except DataError as error:
        store.write(replace(record, status="error", reason="split_failed", detail=str(error), limits=""))
        return
    _, there = store.stilled(content, key)
    new = [clip for clip in clips if clip.id not in there]
    stills = stills_of(timeline_of(record, path), new, job.stills, record.tracks[STILLS], spool, note)
    store.write_stills(content, key, stills, job.plan.split_key, there & {clip.id for clip in clips})


def _judged(passed: Passed, recipe: Curation) -> tuple[str, str, str]:
    """(status, reason, detail) by how many frames decoded."""
    total = passed.decoded + passed.lost
    if not passed.lost:
        return "ok", "", ""
    words = f"{passed.lost} of {total} frames cannot be decoded"
    if passed.lost > recipe.limits.max_lost * total:
        return "reject", "corrupt", f"{words}; more than limits.max_lost = {recipe.limits.max_lost:g} of them"
    return "partial", "frames_lost", words


class _Clock:
    """Seconds by what they were spent on."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def __call__(self, on: str) -> None:
        now = time.perf_counter()
        self.seconds[on], self._last = self.seconds.get(on, 0.0) + now - self._last, now

    def split(self, on: str, parts: Mapping[str, float]) -> None:
        """The parts under their names, what is left of the time under `on`."""
        self(on)
        for name, seconds in parts.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds
            self.seconds[on] -= seconds


def scratch(recipe: Curation) -> Path:
    """Where what is needed for a while lies; on the run's own disk, so that nothing else fills up."""
    folder = recipe.run / "store" / "scratch"
    folder.mkdir(parents=True, exist_ok=True)
    return folder
