"""All that is done with one video: probe, one pass, stills of its clips. What any engine maps over videos, on any machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..video.opening import shown
from ..video.source import Source, opened
from .base import Video
from .passing import Note, Passed, watch
from .plan import Plan, key_of
from .probe import classify, probe
from .reading import TIMELINE, clips_of, limits_key, stills_key, timeline_of, timeline_parts
from .settings import Curation
from .stills import Spool, stills_of
from .store import Record, Store

__all__ = ["Item", "Job", "measure", "scratch"]

STILLS = "stills"  # the track that says which frames were set aside


@dataclass(frozen=True)
class Item:
    """A video to measure: its content (SHA-256) and where it lies; member: (offset, size) in a tar file."""

    content: str
    path: str
    member: tuple[int, int] | None = None


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
        return stills_key(self.recipe, self.plan, self.stills)

    def is_done(self, content: str) -> bool:
        """Whether the store has all that this job would leave of the video. A failure is kept until limits or stages change."""
        known = self.store.read(content, tracks=False)
        if known is None or known.limits != limits_key(self.recipe):
            return False
        return known.failed or (known.keys == {**known.keys, **self.keys} and self.store.has_stills(content, self.stills_key))


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
        with opened(Source(item.path, path, item.member), scratch(job.recipe)) as path:
            record, spool = _watched(path, item.content, job, known, note, avoid, spent)
            try:
                store.write(record)
                if not record.failed:
                    note(STILLS, 0)
                    clips = clips_of(record, job.plan)
                    taken, timeline = record.tracks[STILLS], timeline_of(record, path)
                    stills = stills_of(timeline, clips, job.stills, taken, job.recipe.stills, spool)
                    store.write_stills(item.content, job.stills_key, stills)
                    spent("stills")
            finally:
                if spool is not None:
                    spool.close()
    except DataError as error:
        words = str(error).removeprefix(f"{shown(path)}: ")  # equal content gives equal records, wherever it lies
        status, reason = classify(error)
        known = known or Record(item.content, status)
        store.write(replace(known, status=status, reason=reason, detail=words, limits=limits))
    return {"spent": spent.seconds}


def _watched(
    path: Path, content: str, job: Job, known: Record | None, note: Note, avoid: Sequence[Sequence[Any]], spent: _Clock
) -> tuple[Record, Spool | None]:
    """The video's record with all tracks that the job wants, those that were there taken over; the spool, where one was filled.

    Held against the limits anew: other limits than before decode nothing again.
    """
    due = [name for name, key in job.keys.items() if known is None or known.keys.get(name) != key]
    timeline, facts = probe(path, job.recipe.limits)
    spent("probe")
    spool, passed = None, Passed({}, (), known.facts["decoded"] if known else 0, known.facts["decode_errors"] if known else 0)
    if due:
        spool = Spool(job.recipe.stills, scratch(job.recipe)) if STILLS in due else None
        measures = {name: job.plan.measures[name] for name in due if name in job.plan.measures}
        passed = watch(Video(content, timeline), measures, spool, note, avoid)
        spent.split("decode", passed.seconds)
    single, frames = timeline_parts(timeline)
    new = {**passed.tracks, TIMELINE: frames, **({STILLS: spool.track()} if spool else {})}
    old = known.tracks if known is not None else {}
    status, reason, detail = _judged(passed, job.recipe)
    record = Record(
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
    return record, spool


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
