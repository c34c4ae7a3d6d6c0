"""A run's report: its tables, decisions and stills as the page wants them."""

from __future__ import annotations

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from .base import Keep
from .deciding import ERROR, KEPT, Decisions
from .item import Job
from .manifest import Columns, read_columns
from .presets import left_out
from .report.page import write_page
from .report.view import Clips, Cost, Curated, Filter, Rung, Step, Threshold, Trouble
from .stages.threshold import Range
from .what_if import Rung as Found
from .what_if import what_if

__all__ = ["versions", "write_report"]

LIBRARIES = ("relatum", "av", "numpy", "pyarrow", "safetensors", "torch", "transformers", "rapidocr", "onnxruntime", "ray")
EITHER = {"cv2": ("opencv-python-headless", "opencv-python"), "scenedetect": ("scenedetect-headless", "scenedetect")}
UNITS = {"motion": "short sides/s", "longest": "s", "seconds": "s"}  # by the first or the last part of a fact's name


def write_report(job: Job, keeps: Mapping[str, Keep], table: Mapping[str, Sequence[Any]], decisions: Decisions) -> Path:
    """Writes report.html and report.json of a run whose tables are there; gives the page's path."""
    return write_page(job.recipe.run, _view(job, keeps, table, decisions))


def _view(job: Job, keeps: Mapping[str, Keep], table: Mapping[str, Sequence[Any]], decisions: Decisions) -> Curated:
    recipe, run = job.recipe, job.recipe.run
    sources, videos, captions = (read_columns(run / f"{name}.parquet") for name in ("sources", "videos", "captions"))
    about = _about(run)
    facts, labels = _facts(keeps, table, decisions)
    rungs = what_if(table, keeps, decisions)
    name = recipe.origin or "RECIPE"
    return Curated(
        name=recipe.name,
        created=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        clips=_clips(run, table, decisions, captions),
        steps=_steps(sources, videos),
        filters=[_filter(name, keep, decisions) for name, keep in keeps.items()],
        thresholds=[_threshold(name, keep, decisions, rungs) for name, keep in keeps.items() if isinstance(keep, Range)],
        facts=facts,
        units={fact: unit for fact in facts if (unit := _unit(fact))},
        labels=labels,
        unused=_unused(videos),
        troubles=_troubles(sources, videos, tuple(job.plan.measures)),
        warnings=left_out(recipe.preset, job.plan.facts),
        costs=[Cost(stage, seconds, count) for stage, (seconds, count) in about.get("spent", {}).items()],
        wall=about.get("seconds"),
        workers=recipe.engine.workers,
        commands={"Run again": f"relatum curate {name}", "Retune": f"relatum curate {name} --retune -o keep.NAME.SETTING=VALUE"},
        identities={name: job.plan.measure_key(name) for name in job.plan.measures} | about.get("identities", {}),
        versions=versions(),
        recipe=recipe.source,
        stills=_Stills(job, dict(zip(table["id"], table["video"], strict=True))),
    )


class _Stills:
    """JPEG files of a clip by its id."""

    def __init__(self, job: Job, videos: Mapping[str, str]) -> None:
        self.job, self.videos = job, videos

    def __call__(self, clip: str) -> Sequence[bytes]:
        found = self.job.store.stills(self.videos[clip], self.job.stills_key, clip)
        middle = [found[(len(found) - 1) // 2]] if len(found) > 2 else []
        return [*found[:1], *middle, *(found[-1:] if len(found) > 1 else [])]


def _about(run: Path) -> dict[str, Any]:
    """run.json, as far as there is one."""
    try:
        return json.loads((run / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return {}


def _clips(run: Path, table: Mapping[str, Sequence[Any]], decisions: Decisions, captions: Columns) -> Clips:
    said: dict[str, list[tuple[str, str]]] = {}
    for clip, kind, text in zip(captions["clip_id"], captions["kind"], captions["text"], strict=True):
        said.setdefault(clip, []).append((kind, text))
    return Clips(
        id=list(table["id"]),
        video=read_columns(run / "clips.parquet")["uri"],
        start=np.array(table["start"], np.float64),
        end=np.array(table["end"], np.float64),
        keep=decisions.keep,
        twin=list(decisions.dup_of),
        errors={clip: error for clip, error in zip(table["id"], table["error"], strict=True) if error},
        captions=lambda clip: said.get(clip, ()),
    )


def _steps(sources: Columns, videos: Columns) -> list[Step]:
    lost = Counter(reason or status for status, reason in zip(sources["status"], sources["reason"], strict=True) if status != "ok")
    failed = [status not in ("ok", "partial") for status in videos["status"]]
    refused = Counter(reason for reason, out in zip(videos["reason"], failed, strict=True) if out)
    seconds = sum(length for length, out in zip(videos["duration_s"], failed, strict=True) if not out)
    return [
        Step("inputs", len(sources["uri"])),
        Step("different videos", len(failed), dict(lost)),
        Step("videos measured", len(failed) - sum(failed), dict(refused), seconds),
    ]


def _unused(videos: Columns) -> dict[str, float]:
    found: Counter[str] = Counter()
    for why, seconds in zip(videos["unused_why"], videos["unused_s"], strict=True):
        found.update(dict(zip(why, seconds, strict=True)))
    return dict(sorted(found.items()))


def _filter(name: str, keep: Keep, decisions: Decisions) -> Filter:
    prefix, found = f"{name}: ", decisions.thresholds.get(name, {})
    why = [
        next((reason.removeprefix(prefix) for reason in reasons if reason.startswith(prefix)), None)
        for reasons in decisions.reasons
    ]
    return Filter(name, found.get("line", ""), why, found.get("clips_without_it") or 0, seen=_seen(name, keep, decisions))


def _seen(name: str, keep: Keep, decisions: Decisions) -> int:
    """Clips that a keep judged: those without an error, and for one that sees who is left, those that no other keep drops."""
    names = [{reason.partition(": ")[0] for reason in reasons} for reasons in decisions.reasons]
    return sum(not found - {name} if KEPT in keep.needs else ERROR not in found for found in names)


def _threshold(name: str, keep: Range, decisions: Decisions, rungs: Sequence[Found]) -> Threshold:
    found = decisions.thresholds[name]
    mine = [rung for rung in rungs if rung.keep == name and rung.value is not None]
    sign = {"at_least": "≥", "at_most": "≤"} if len({rung.setting for rung in mine}) > 1 else {}
    ladder = [
        Rung(rung.value or 0.0, rung.alone, rung.together, rung.drops / max(rung.clips, 1), rung.now, sign.get(rung.setting, ""))
        for rung in mine
    ]
    return Threshold(name, keep.fact, found.get("at_least"), found.get("at_most"), ladder=ladder)


def _facts(
    keeps: Mapping[str, Keep], table: Mapping[str, Sequence[Any]], decisions: Decisions
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, tuple[int, int]]]]:
    """(numbers by fact, NaN where missing; words by fact with how many clips have them and how many of these are kept)."""
    ranges = {keep.fact: keep for keep in keeps.values() if isinstance(keep, Range)}
    numbers, labels = {}, {}
    for fact in (name for name in table if "." in name or name == "seconds"):
        known = [value for value in table[fact] if value is not None]
        if fact in ranges:
            numbers[fact] = ranges[fact].numbers(table)
        elif not known or isinstance(known[0], int | float):
            numbers[fact] = np.array([np.nan if value is None else value for value in table[fact]], np.float64)
        elif isinstance(known[0], str) and len(set(known)) <= 12:
            counts = Counter(known)
            kept = Counter(value for value, keep in zip(table[fact], decisions.keep, strict=True) if keep and value is not None)
            labels[fact] = {word: (counts[word], kept[word]) for word in sorted(counts)}
    return numbers, labels


def _unit(fact: str) -> str:
    first, _, last = fact.partition(".")
    return UNITS.get(last, "" if last == "still" else UNITS.get(first, ""))


def _troubles(sources: Columns, videos: Columns, measures: Sequence[str]) -> list[Trouble]:
    """What was not used, then videos of which a stage failed outside of all clips, then duplicates."""
    columns = ("status", "reason", "detail")
    found = [
        Trouble(uri, *about)
        for of in (sources, videos)
        for uri, *about in zip(of["uri"], *(of[name] for name in columns), strict=True)
        if about[0] not in ("ok", "duplicate")
    ]
    twins = [
        Trouble(uri, status, reason, detail)
        for uri, status, reason, detail in zip(sources["uri"], *(sources[name] for name in columns), strict=True)
        if status == "duplicate"
    ]
    begins = tuple(f"{name} failed" for name in measures)
    failed = [
        Trouble(uri, status, "stage_failed", "; ".join(words))
        for uri, status, notes in zip(videos["uri"], videos["status"], videos["notes"], strict=True)
        if (words := [note for note in notes or () if note.startswith(begins)])
    ]
    return [*found, *failed, *twins]


def versions() -> dict[str, str]:
    """Of Python and the libraries that what is measured may hang on, as far as they are installed; with those that PyAV carries."""
    found = {"python": platform.python_version()}
    for name, packages in {**{name: (name,) for name in LIBRARIES}, **EITHER}.items():
        for package in packages:
            with suppress(PackageNotFoundError):
                found.setdefault(name, version(package))
    with suppress(ImportError):
        import av

        carried = {name: ".".join(map(str, of)) for name, of in av.library_versions.items()}
        found |= {name: carried[name] for name in ("libavcodec", "libavformat", "libswscale") if name in carried}
        found["ffmpeg"] = av.ffmpeg_version_info
    return found
