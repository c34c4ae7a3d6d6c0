"""run.json: what a curation's tables were made of and with, and what that has cost."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from .. import __version__
from ..atomic import write_text
from ..curation.deciding import Decisions
from ..curation.item import Job
from ..curation.manifest import Input, read_columns
from ..curation.plan import key_of
from ..curation.reading import limits_key
from ..curation.recipe import table_of
from ..curation.viewing import versions

__all__ = ["Account", "amend", "counts_of", "digest_of", "is_same"]

SCHEMA = 1  # raise it when run.json has other fields
FILE = "run.json"
TABLES = ("sources.parquet", "videos.parquet", "clips.parquet", "captions.parquet", "decisions.parquet")
PAGES = ("decision.json", "report.html", "report.json", "curation.resolved.toml")


class Account:
    """What a run does, from when it begins to when it ends, however it ends: written at both, with what earlier runs have cost.

    spent: by stage, seconds over all processes, and the videos that they were spent on. about: what else there is to say. A shard
    has a file of its own, which the next whole run takes in.
    """

    def __init__(self, job: Job, digest: str, part: str = "") -> None:
        self.run, self.file = job.recipe.run, job.recipe.run / f"run{part}.json"
        self.spent: dict[str, tuple[float, int]] = defaultdict(lambda: (0.0, 0))
        before, self._parts = _read(self.file), [] if part else sorted(self.run.glob("run-*-of-*.json"))
        for found in (before, *map(_read, self._parts)):
            for stage, (seconds, videos) in found.get("spent", {}).items():
                self.add(stage, seconds, videos)
        kept = {name: before[name] for name in ("counts", "throughput", "identities") if name in before}
        self.about: dict[str, Any] = {**kept, "complete": False, "digest": digest, "failed": [], **_made_with(job)}
        self._started = time.perf_counter()

    def __enter__(self) -> Account:
        self.write()
        for part in self._parts:
            part.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.write()

    def add(self, stage: str, seconds: float, videos: int = 1) -> None:
        self.spent[stage] = (self.spent[stage][0] + seconds, self.spent[stage][1] + videos)

    def measured(self, videos: int, seconds: float) -> None:
        """How fast videos were measured this time, if any were."""
        if videos:
            self.about["throughput"] = {"videos": videos, "seconds": seconds, "videos_a_second": videos / max(seconds, 1e-9)}

    def write(self) -> None:
        about = {"schema_version": SCHEMA, **self.about, "spent": self.spent, "seconds": time.perf_counter() - self._started}
        write_text(self.file, json.dumps(about, indent=1, sort_keys=True) + "\n")


def amend(run: Path, **changes: Any) -> None:
    """Changes run.json of a run that has ended."""
    write_text(run / FILE, json.dumps({**_read(run / FILE), **changes}, indent=1, sort_keys=True) + "\n")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text("utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _made_with(job: Job) -> dict[str, Any]:
    """keys: under which the store has what each stage left."""
    plan = job.plan
    keys: dict[str, Any] = {"measure": {name: plan.measure_key(name) for name in plan.measures}, "split": plan.split_key}
    keys["look"] = {name: plan.look_key(name) for name in plan.looks}
    keys |= {"stills": job.stills_key, "limits": limits_key(job.recipe)}
    return {"config": key_of(table_of(job.recipe)), "keys": keys, "versions": versions()}


def counts_of(run: Path, decisions: Decisions) -> dict[str, Any]:
    """What came in and what goes out: inputs and videos by status and reason, clips, those kept, those dropped by keep."""
    counts: dict[str, Any] = {}
    for name in ("sources", "videos"):
        found = read_columns(run / f"{name}.parquet")
        counts[name] = Counter(" ".join(filter(None, of)) for of in zip(found["status"], found["reason"], strict=True))
    dropped = Counter(name for reasons in decisions.reasons for name in {reason.partition(": ")[0] for reason in reasons})
    return {**counts, "clips": len(decisions.ids), "kept": int(decisions.keep.sum()), "dropped": dropped}


def digest_of(inputs: Sequence[Input], job: Job) -> str:
    """Of all that a run's tables, report and training sets follow from, but for what models hold."""
    recipe, found = job.recipe, hashlib.sha256()
    table = {name: value for name, value in table_of(recipe).items() if name != "engine"}
    plugins = [hashlib.sha256((recipe.folder / plugin).read_bytes()).hexdigest() for plugin in recipe.plugins]
    found.update(json.dumps([SCHEMA, __version__, table, plugins, _made_with(job)], sort_keys=True, default=str).encode())
    for one in inputs:
        found.update(json.dumps(list(vars(one).values())).encode() + b"\n")
    return found.hexdigest()


def is_same(job: Job, digest: str, contents: Collection[str]) -> bool:
    """Whether a run that ended well has left all that this one would."""
    run, about = job.recipe.run, _read(job.recipe.run / FILE)
    if job.plan.looks or about.get("digest") != digest or not about.get("complete") or about.get("failed"):
        return False
    files = [*TABLES, *PAGES, *(f"exports/{name}/export.json" for name in job.recipe.output)]
    return all((run / file).is_file() for file in files) and all(job.store.has(content) for content in contents)
