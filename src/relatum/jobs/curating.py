"""`relatum curate`: from what a recipe lists to a manifest, decisions, a report and training sets."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from ..atomic import make_folder, write_text
from ..core.errors import DataError, RecipeError
from ..core.load import load
from ..curation.asking import ask_all
from ..curation.item import Item, Job
from ..curation.judging import judge, judged, keeps_for
from ..curation.looking import needed
from ..curation.manifest import Input, Said, read_columns, write_manifest
from ..curation.plan import plan_of
from ..curation.probe import classify
from ..curation.recipe import table_of
from ..curation.settings import Curation
from ..curation.viewing import write_report
from ..curation.what_if import rung_lines, what_if
from ..data.sources import Inputs
from ..video.opening import VideoError
from ..video.source import Hashes, Source, content_of
from .exporting import Output, export

__all__ = ["BAD", "Listed", "curate", "explain", "retune", "shard_of", "status"]

Say = Callable[[str], None]
Costs = dict[str, tuple[float, int]]
"""Seconds by stage, and the videos that they were spent on."""
BAD = ("error", "crash", "timeout")
EVERY = 5.0  # seconds between two words on how far it is


@dataclass(frozen=True)
class Listed:
    """What the inputs list, in order. contents: SHA-256 of each, "" of one that cannot be read; faults: then why, by place."""

    sources: Sequence[Source]
    contents: Sequence[str]
    faults: Mapping[int, VideoError]

    def distinct(self) -> dict[str, Source]:
        """The first source of each content, in ascending order of the contents."""
        found: dict[str, Source] = {}
        for source, content in zip(self.sources, self.contents, strict=True):
            if content:
                found.setdefault(content, source)
        return dict(sorted(found.items()))

    def inputs(self) -> Iterator[Input]:
        """As the manifest has them."""
        first: dict[str, str] = {}
        for place, (source, content) in enumerate(zip(self.sources, self.contents, strict=True)):
            status, reason, detail, of = "ok", "", "", ""
            if source.fault or place in self.faults:
                fault = self.faults.get(place)
                status, reason = (source.status, source.reason) if fault is None else classify(fault)
                detail = source.fault or str(fault)
            elif (of := first.setdefault(content, source.uri)) != source.uri:
                status, reason, detail = "duplicate", "same_content", f"the same bytes as {of}"
            offset, size = source.member or (0, 0)
            told = (source.title, source.captions, source.license, source.tag, source.group, source.note)
            path = os.fsencode(source.path).decode("utf-8", "backslashreplace")
            dup = of if status == "duplicate" else ""
            yield Input(source.uri, content, status, path, offset, size, reason, detail, dup, *told)


def curate(recipe: Curation, retry: Sequence[str] = (), shard: tuple[int, int] | None = None, say: Say = lambda line: None) -> Path:
    """Runs the recipe, or goes on with it; gives the report's path (with `shard`, the run's folder).

    retry: statuses ("error", "crash", "timeout") of videos that are tried again, and with them all of which a stage failed.
    shard: (i, n), i from 0: measure every n-th video only, for job arrays on a shared disk; the command without it finds all
    measured and writes the rest. say: is told how it goes.
    Whatever is wrong with a video is in the manifest; DataError where the run itself cannot go on.
    """
    if unknown := [status for status in retry if status not in BAD]:
        raise RecipeError(f"--retry: no status {unknown[0]!r}; known: {', '.join(BAD)}")
    started, run = time.perf_counter(), recipe.run
    plan = plan_of(recipe)
    keeps, job = keeps_for(recipe, plan), Job(recipe, plan, needed(plan.looks))
    outputs = {name: load(Output, table, f"output.{name}") for name, table in recipe.output.items()}
    make_folder(run)
    with locked(run, "" if shard is None else f"-{shard[0]}-of-{shard[1]}"):
        write_text(run / "curation.resolved.toml", tomli_w.dumps(table_of(recipe)))
        listed = list_sources(recipe)
        mine = listed.distinct()
        say(f"{len(listed.sources)} inputs, {len(mine)} different videos")
        if shard is not None:
            mine = {content: source for i, (content, source) in enumerate(mine.items()) if i % shard[1] == shard[0]}
        for content in mine:
            known = job.store.read(content, tracks=False)
            if known is not None and (known.status in retry or (retry and known.faults)):
                job.store.forget(content)
        spent = measure_all(mine, job, say)
        if shard is not None:
            return run
        before = costs_of(run)
        for name in ("run.json", "decisions.parquet", "decision.json"):  # until the tables agree again
            (run / name).unlink(missing_ok=True)
        said = look_at_all(listed, job, spent, say)
        counts = write_manifest(run, list(listed.inputs()), plan, job.store, lambda content: said.get(content, {}))
        table, decisions = judge(run, keeps)
        say("\n".join(decisions.lines))
        for stage, (seconds, videos) in before.items():
            spent[stage] = (spent[stage][0] + seconds, spent[stage][1] + videos)
        about = {"seconds": time.perf_counter() - started, "spent": spent, "counts": counts}
        write_text(run / "run.json", json.dumps(about, indent=1, sort_keys=True))
        page = write_report(job, keeps, table, decisions)
        failed = [*too_bad(run, recipe.limits.max_bad), *export_all(run, outputs, say)]
    if failed:
        raise DataError("; ".join(failed) + f"; everything else is written: {page}")
    return page


def too_bad(run: Path, most: float) -> list[str]:
    """What is to be said if more than this share of the inputs ended in error, crash or timeout."""
    sources, videos = read_columns(run / "sources.parquet"), read_columns(run / "videos.parquet")
    bad = [*zip(sources["uri"], sources["status"], strict=True), *zip(videos["uri"], videos["status"], strict=True)]
    bad = [(uri, status) for uri, status in bad if status in BAD]
    if len(bad) <= most * len(sources["uri"]):
        return []
    first = ", ".join(f"{uri} ({status})" for uri, status in bad[:3])
    return [f"{len(bad)} of {len(sources['uri'])} inputs are bad, more than limits.max_bad = {most:g}: {first} ..."]


def export_all(run: Path, outputs: Mapping[str, Output], say: Say) -> list[str]:
    """Writes the recipe's training sets; gives why for each that cannot be written."""
    failed = []
    for name, output in outputs.items():
        try:
            made = export(run, name, output)
        except DataError as error:
            failed.append(f"output.{name}: {error}")
            continue
        left_out = ", ".join(f"{count:,} {reason}" for reason, count in made.dropped.items())
        say(f"output.{name}: {made.samples:,} samples in {made.folder}" + (f"; not in it: {left_out}" if left_out else ""))
    return failed


def retune(recipe: Curation) -> list[str]:
    """Decides anew from what was measured, and writes decisions and report; gives what is kept, and what other thresholds would."""
    plan = plan_of(recipe)
    keeps = keeps_for(recipe, plan)
    with locked(recipe.run, ""):
        table, decisions = judge(recipe.run, keeps)
        page = write_report(Job(recipe, plan, needed(plan.looks)), keeps, table, decisions)
    return [*decisions.lines, "", *rung_lines(what_if(table, keeps, decisions)), "", f"report: {page}"]


def status(recipe: Curation) -> list[str]:
    """Videos by status and reason, and clips kept and dropped, as the run's tables have them."""
    run = recipe.run
    lines = []
    for name in ("sources", "videos"):
        found = read_columns(run / f"{name}.parquet")
        counts = Counter(zip(found["status"], found["reason"], strict=True))
        lines += [
            f"{name}: {len(found['uri']):,}",
            *(f"  {count:8,} {' '.join(filter(None, of))}" for of, count in sorted(counts.items())),
        ]
    return [*lines, *judged(run).lines]


def explain(recipe: Curation, clip: str) -> list[str]:
    """All facts and captions of one clip (its id, or the beginning of one), and why it is kept or dropped."""
    run = recipe.run
    clips, captions, decisions = read_columns(run / "clips.parquet"), read_columns(run / "captions.parquet"), judged(run)
    places = [place for place, id in enumerate(clips["clip_id"]) if id.startswith(clip)]
    if len(places) != 1:
        raise DataError(f"{run}: {len(places) or 'no'} clips begin with {clip!r}; their ids are in clips.parquet and in the report")
    place = places[0]
    said = zip(captions["clip_id"], captions["kind"], captions["text"], strict=True)
    words = "kept" if decisions.keep[place] else "dropped: " + "; ".join(decisions.reasons[place])
    twin = [f"stands for it: {decisions.dup_of[place]}"] if decisions.dup_of[place] else []
    facts = [f"{name}: {value}" for name, column in clips.items() if (value := column[place]) not in (None, "", [])]
    return [words, *twin, *facts, *(f"caption ({kind}): {text}" for id, kind, text in said if id == clips["clip_id"][place])]


def list_sources(recipe: Curation) -> Listed:
    """What the recipe's inputs are, and what they hold; a file that was hashed before and has not changed is not read again."""
    sources = list(load(Inputs, recipe.input, "input").sources(recipe.folder))
    contents, faults = ["" for _ in sources], {}
    with Hashes(recipe.run / "hashes.json") as hashes, ThreadPoolExecutor(4) as pool:
        asked = {}
        for place, source in enumerate(sources):
            if source.fault:
                continue
            try:
                _refuse_large(source, recipe.limits.max_bytes)
                contents[place] = hashes.known(source) or ""
            except VideoError as error:
                faults[place] = error
                continue
            if not contents[place]:
                asked[place] = pool.submit(content_of, source)
        for place, found in asked.items():
            try:
                contents[place] = hashes.add(sources[place], found.result())
            except VideoError as error:
                faults[place] = error
    return Listed(sources, contents, faults)


def _refuse_large(source: Source, most: int) -> None:
    """VideoError for a file that is not even to be hashed."""
    if most and source.size > most:
        words = f"has {source.size:,} bytes, the limit is {most:,}; cut the video, or raise limits.max_bytes"
        raise VideoError(f"{source.uri}: {words}", "too_large")


def costs_of(run: Path) -> Costs:
    """What the run has cost so far."""
    try:
        return {
            stage: (seconds, videos)
            for stage, (seconds, videos) in json.loads((run / "run.json").read_text("utf-8"))["spent"].items()
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def look_at_all(listed: Listed, job: Job, spent: Costs, say: Say) -> dict[str, Said]:
    """What the recipe's looks say of all clips, by content; the seconds that they took are added to `spent`."""
    if not job.plan.looks:
        return {}
    texts: dict[str, dict[str, list[str]]] = {content: {"sidecar": [], "title": []} for content in listed.distinct()}
    for source, content in zip(listed.sources, listed.contents, strict=True):
        if content:
            texts[content]["sidecar"] += source.captions
            texts[content]["title"] += [source.title] if source.title else []
    found, last = {}, time.monotonic()
    for content, said, seconds in ask_all(texts, job):
        found[content] = said
        for name in job.plan.looks:
            spent[name] = (spent[name][0] + seconds.get(name, 0.0), spent[name][1] + 1)
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            say(f"models have looked at {len(found)} of {len(texts)} videos")
    return found


def measure_all(mine: Mapping[str, Source], job: Job, say: Say) -> Costs:
    """Has all videos measured that are not yet; gives what that cost over all processes."""
    items = [Item(content, str(source.path), source.member) for content, source in mine.items() if not job.is_done(content)]
    say(f"{len(mine) - len(items)} videos measured already, {len(items)} to measure")
    if job.recipe.engine.kind == "ray":
        from ..curation.on_ray import run_ray as engine
    else:
        from ..curation.local import run_local as engine
    spent: Costs = defaultdict(lambda: (0.0, 0))
    started = last = time.monotonic()
    for done, (_, cost) in enumerate(engine(items, job), 1):
        for stage, seconds in cost["spent"].items():
            spent[stage] = (spent[stage][0] + seconds, spent[stage][1] + 1)
        if time.monotonic() - last > EVERY or done == len(items):
            last = time.monotonic()
            say(f"{done} of {len(items)} videos, {done / (last - started):.2f} a second")
    return spent


@contextmanager
def locked(run: Path, part: str) -> Iterator[None]:
    """Alone on a run folder (or on one shard of it); what an earlier process left behind halfway is removed. DataError else."""
    with (run / f".lock{part}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DataError(f"{run}: another process works on this curation; wait for it, or name another output_dir") from None
        yield


def shard_of(text: str | None) -> tuple[int, int] | None:
    """ "2/8" as (2, 8). RecipeError for what is no part of so many."""
    if text is None:
        return None
    first, _, of = text.partition("/")
    if not (first.isdecimal() and of.isdecimal() and int(first) < int(of)):
        raise RecipeError(f"--shard {text!r}: expected I/N, the I-th of N parts, I from 0 to N - 1")
    return int(first), int(of)
