"""`relatum curate`: from what a recipe lists to a manifest, decisions, a report and training sets."""

from __future__ import annotations

import fcntl
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import tomli_w

from ..atomic import make_folder, write_text
from ..core.errors import DataError, RecipeError
from ..core.load import load
from ..curation.asking import ask_all
from ..curation.base import Keep
from ..curation.guard import sweep
from ..curation.item import Item, Job
from ..curation.judging import judge, judged, keeps_for
from ..curation.looking import needed
from ..curation.manifest import Said, read_columns, write_manifest
from ..curation.plan import plan_of
from ..curation.recipe import table_of
from ..curation.settings import Curation
from ..curation.viewing import write_report
from ..curation.what_if import rung_lines, what_if
from ..video.source import Source, stamp_of
from .account import Account, amend, counts_of, digest_of, is_same
from .exporting import Output, export
from .listing import Listed, Shard, list_sources

__all__ = ["BAD", "curate", "explain", "retune", "shard_of", "status"]

Say = Callable[[str], None]
BAD = ("error", "crash", "timeout")
EVERY = 5.0  # seconds between two words on how far it is


def curate(recipe: Curation, retry: Sequence[str] = (), shard: Shard | None = None, say: Say = lambda line: None) -> Path:
    """Runs the recipe, or goes on with it; gives the report's path (with `shard`, the run's folder).

    retry: statuses ("error", "crash", "timeout") of videos that are tried again, and with them all of which a stage failed.
    shard: measure a part of the videos only, for job arrays on a shared disk; the command without it finds all measured and writes
    the rest. say: is told how it goes.
    Whatever is wrong with a video is in the manifest; DataError where the run itself cannot go on.
    """
    if unknown := [status for status in retry if status not in BAD]:
        raise RecipeError(f"--retry: no status {unknown[0]!r}; known: {', '.join(BAD)}")
    run, plan = recipe.run, plan_of(recipe)
    keeps, job = keeps_for(recipe, plan), Job(recipe, plan, needed(plan.looks))
    outputs = {name: load(Output, table, f"output.{name}") for name, table in recipe.output.items()}
    make_folder(run)
    with locked(run, shard):
        listed = list_sources(recipe, shard)
        mine = listed.distinct()
        say(f"{len(listed.sources)} inputs, {len(mine)} different videos")
        digest = "" if shard else digest_of(list(listed.inputs()), job)
        if digest and not retry and is_same(job, digest, mine):
            say("nothing has changed")
            return run / "report.html"
        write_text(run / "curation.resolved.toml", tomli_w.dumps(table_of(recipe)))
        with Account(job, digest, f"-{shard[0]}-of-{shard[1]}" if shard else "") as account:
            if shard is None:
                sweep(job)
            forget(mine, retry, job)
            measure_all(mine, job, account, say)
            if shard is not None:
                return run
            page = write_all(listed, job, keeps, account, say)
            failed = [*too_bad(run, recipe.limits.max_bad), *export_all(run, outputs, say)]
            account.about |= {"complete": True, "failed": failed}
    if failed:
        raise DataError("; ".join(failed) + f"; everything else is written: {page}")
    return page


def forget(mine: Iterable[str], retry: Sequence[str], job: Job) -> None:
    """Removes what is known of videos that are to be tried again."""
    for content in mine if retry else ():
        known = job.store.read(content, tracks=False)
        if known is not None and (known.status in retry or known.faults):
            job.store.forget(content)


def write_all(listed: Listed, job: Job, keeps: Mapping[str, Keep], account: Account, say: Say) -> Path:
    """Has models look, and writes tables, decisions and report; gives the report's path."""
    run = job.recipe.run
    said = look_at_all(listed, job, account, say)
    for name in ("decisions.parquet", "decision.json", "report.html", "report.json"):  # until the tables agree again
        (run / name).unlink(missing_ok=True)
    written = write_manifest(run, list(listed.inputs()), job.plan, job.store, lambda content: said.get(content, {}))
    account.about["counts"] = written
    table, decisions = judge(run, keeps)
    say("\n".join(decisions.lines))
    account.about["counts"] = {**written, **counts_of(run, decisions)}
    account.write()
    return write_report(job, keeps, table, decisions)


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
    run, plan = recipe.run, plan_of(recipe)
    keeps = keeps_for(recipe, plan)
    if not (run / "clips.parquet").is_file():
        raise DataError(f"{run}: nothing is measured there yet: run relatum curate {recipe.origin or 'RECIPE'} first")
    with locked(run):
        amend(run, digest="")  # decisions are no longer those of the run
        table, decisions = judge(run, keeps)
        write_text(run / "curation.resolved.toml", tomli_w.dumps(table_of(recipe)))
        amend(run, counts=counts_of(run, decisions))
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
    try:
        return [*lines, *judged(run).lines]
    except DataError as error:
        return [*lines, f"nothing is decided: {error}"]


def explain(recipe: Curation, clip: str) -> list[str]:
    """All facts and captions of one clip (its id, or the beginning of one), and why it is kept or dropped."""
    run = recipe.run
    if not clip:
        raise RecipeError("--explain: give a clip's id, or the beginning of one; they are in clips.parquet and in the report")
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


def look_at_all(listed: Listed, job: Job, account: Account, say: Say) -> dict[str, Said]:
    """What the recipe's looks say of all clips, by content."""
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
            account.add(name, seconds.get(name, 0.0))
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            say(f"models have looked at {len(found)} of {len(texts)} videos")
    if job.recipe.engine.kind == "local":  # where they are open
        account.about["identities"] = {name: look.identity() for name, look in job.plan.looks.items()}
    return found


def measure_all(mine: Mapping[str, Source], job: Job, account: Account, say: Say) -> None:
    """Has all videos measured that are not yet."""
    items = [
        Item(content, str(source.path), source.member, stamp_of(source.path))
        for content, source in mine.items()
        if not job.is_done(content)
    ]
    say(f"{len(mine) - len(items)} videos measured already, {len(items)} to measure")
    if job.recipe.engine.kind == "ray":
        from ..curation.on_ray import run_ray as engine
    else:
        from ..curation.local import run_local as engine
    started = last = time.monotonic()
    for done, (_, cost) in enumerate(engine(items, job), 1):
        for stage, seconds in cost["spent"].items():
            account.add(stage, seconds)
        account.measured(done, time.monotonic() - started)
        if time.monotonic() - last > EVERY or done == len(items):
            last = time.monotonic()
            say(f"{done} of {len(items)} videos, {done / (last - started):.2f} a second")


@contextmanager
def locked(run: Path, shard: Shard | None = None) -> Iterator[None]:
    """Alone on a run folder, or beside other shards on one of its own. DataError else."""
    wanted = [(".lock", fcntl.LOCK_EX if shard is None else fcntl.LOCK_SH)]
    if shard is not None:
        wanted.append((f".lock-{shard[0]}-of-{shard[1]}", fcntl.LOCK_EX))
    with ExitStack() as stack:
        for name, how in wanted:
            try:
                fcntl.flock(stack.enter_context((run / name).open("a+")), how | fcntl.LOCK_NB)
            except BlockingIOError:
                words = "another process works on this curation; wait for it, or name another output_dir"
                raise DataError(f"{run}: {words}") from None
            except OSError as error:
                raise DataError(f"{run / name}: cannot be locked ({error.strerror}); name another output_dir") from error
        yield


def shard_of(text: str | None) -> Shard | None:
    """ "2/8" as (2, 8). RecipeError for what is no part of so many."""
    if text is None:
        return None
    first, _, of = text.partition("/")
    if not (text.isascii() and first.isdecimal() and of.isdecimal() and int(first) < int(of)):
        raise RecipeError(f"--shard {text!r}: expected I/N, the I-th of N parts, I from 0 to N - 1")
    return int(first), int(of)
