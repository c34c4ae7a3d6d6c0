"""From what a curation kept to a training set on disk: the [output.NAME] tables of its recipe."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import make_folder, remove_stale, sync_folder, write_bytes, write_text
from ..core.errors import DataError, RecipeError
from ..data.kept import read_kept
from ..data.shards import MIB, Unit, forget
from ..data.writing import parquet_bytes, write_folder, write_parquet, write_webdataset
from .outputs import Output
from .sampling import SILENT, ranges_of, units_of

__all__ = ["Exported", "Output", "export"]

VERSION = 2  # raise it when the same clips and settings may give other files
SUMMARY = "export.json"
WRITERS = {"webdataset": write_webdataset, "parquet": write_parquet, "folder": write_folder}


@dataclass(frozen=True)
class Exported:
    """What an export holds. dropped: how many samples are not in it, by reason; notes: about single videos, a line each.

    reader: the table that reads it in a recipe's [data]; empty for clips in shards. key: of settings and kept clips.
    """

    folder: Path
    samples: int
    files: list[str]
    dropped: Mapping[str, int]
    notes: list[str]
    reader: Mapping[str, Any]
    key: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def export(run: Path, name: str, output: Output, progress: Callable[[int, int], None] | None = None) -> Exported:
    """Writes RUN/exports/NAME, which is whole or absent, and says what is in it; the same command goes on where a killed one was.

    What is there already from the same clips and settings is left as it is; from others, it is replaced once the new one is whole.
    progress(done, all): told after each video or clip. DataError where nothing is left to write, with the reasons.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise RecipeError(f"output.{name}: expected a name of letters, digits, _ and -")
    place = run / "exports"
    final = place / name
    key = _key(run, output)
    if (known := _read(final)) is not None and known.key == key:
        return known
    if final.exists() and known is None:
        raise DataError(
            f"{final}: is there, but is no whole export ({SUMMARY}, or a file that it names, is missing or damaged); move it away"
        )
    make_folder(place)
    remove_stale(place)
    part = place / f".{name}-{key}"
    for other in place.glob(f".{name}-*"):
        if other != part and re.fullmatch(rf"\.{name}-[0-9a-f]{{16}}", other.name):
            shutil.rmtree(other)
    if _read(part) is None:
        _write(run, part, output, key, progress)
    forget(part)
    old = place / f".{name}.old-{os.getpid()}"
    if final.exists():
        os.replace(final, old)
    os.replace(part, final)
    sync_folder(place)
    shutil.rmtree(old, ignore_errors=True)
    found = _read(final)
    assert found is not None
    return found


def _key(run: Path, output: Output) -> str:
    """Of what decides the files; not of where videos lie."""
    videos = [{**asdict(video), "path": "", "offset": 0, "size": 0} for video in read_kept(run)]
    return hashlib.sha256(json.dumps([VERSION, asdict(output), videos], sort_keys=True).encode()).hexdigest()[:16]


def _write(run: Path, part: Path, output: Output, key: str, progress: Callable[[int, int], None] | None) -> None:
    """All of an export in a folder that is not its own yet."""
    if output.kind == "ranges":
        rows, notes = ranges_of(run, output)
        if output.form == "parquet":
            columns = {name: [row[name] for row in rows] for name in (rows[0] if rows else ())}
            file, data = "ranges.parquet", parquet_bytes(columns)
        else:
            file, data = "ranges.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows).encode()
        write_bytes(part / file, data)
        samples, files, dropped = len(rows), [file], Counter({SILENT: len(notes)} if notes else {})
    else:
        scratch = part / ".videos"
        units = _told(units_of(run, output, scratch), progress)
        written = WRITERS[output.form](units, part, int(output.shard_mib * MIB), output.shard_rows)
        samples, files = written.samples, [shard.file for shard in written.shards]
        dropped, notes = written.dropped, written.notes
        shutil.rmtree(scratch, ignore_errors=True)
    if not samples:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.most_common()) or "no reason is known"
        first = f"; the first: {notes[0]}" if notes else ""
        raise DataError(
            f"{part.parent / part.name[1:-17]}: nothing is left to write ({reasons}{first}); ask for less in its [output]"
        )
    about = {"kind": output.kind, "samples": samples, "files": files, "dropped": dict(dropped), "notes": notes, "key": key}
    write_text(part / SUMMARY, json.dumps({**about, "reader": _reader(output), "settings": asdict(output)}, indent=1))


def _told(units: list[Unit], progress: Callable[[int, int], None] | None) -> list[Unit]:
    def told(number: int, unit: Unit) -> Unit:
        def make() -> Any:
            made = unit()
            if progress is not None:
                progress(number + 1, len(units))
            return made

        return make

    return [told(number, unit) for number, unit in enumerate(units)]


def _reader(output: Output) -> dict[str, Any]:
    """The reader that takes an export, without its path."""
    if output.kind == "ranges":
        return {"kind": "curated"}
    if output.kind == "clips":
        if output.form == "webdataset":
            return {}
        return {"kind": "frame_folders", "rate": output.rate} if output.frames else {"kind": "videos", "cuts": False}
    return {"kind": "frame_pairs" if (output.kind, output.form) == ("pairs", "folder") else output.form}


def _read(folder: Path) -> Exported | None:
    try:
        about = json.loads((folder / SUMMARY).read_text("utf-8"))
        names = ("samples", "files", "dropped", "notes", "key", "settings")
        if not all((folder / name).is_file() for name in about["files"] if name.endswith((".tar", ".parquet", ".jsonl"))):
            return None
        reader = {**about["reader"], "path": str(folder)} if about["reader"] else {}
        return Exported(folder, reader=reader, **{name: about[name] for name in names})
    except (OSError, ValueError, KeyError, TypeError):
        return None
