"""The manifest: what a curation found, as parquet tables in its run folder. Rows are ordered by ids, so that the same videos and
settings give the same bytes on any engine; what depends on the clock is in run.json."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..atomic import write_bytes
from ..core.errors import DataError
from .base import Clip, Facts
from .plan import Plan
from .reading import clips_of, errors_of, facts_of
from .store import Record, Store

__all__ = ["CLIP_COLUMNS", "Columns", "Input", "Said", "columns_of", "read_columns", "write_columns", "write_manifest"]

Columns = Mapping[str, Sequence[Any]]

VIDEO_COLUMNS = (
    *("video_id", "uri", "status", "reason", "detail", "size_bytes", "container", "codec", "pix_fmt", "width", "height"),
    *("rotation", "color_range", "rate", "time_base", "duration_s", "frames_declared", "frames", "decode_errors", "is_vfr"),
    *("keyframes", "has_audio", "notes"),
)
CLIP_COLUMNS = (  # before the facts
    *("clip_id", "video_id", "uri", "start_pts", "end_pts", "start_s", "end_s", "first_frame", "n_frames", "begins", "ends"),
    "error",
)


@dataclass(frozen=True)
class Input:
    """One input and what became of it. uri: its name; path, offset, size: where it lies, in a tar file if size is not 0.

    content: "" where it cannot be read. status: "ok", "reject", "error", or "duplicate" of dup_of, the uri that stands for both.
    """

    uri: str
    content: str
    status: str
    path: str = ""
    offset: int = 0
    size: int = 0
    reason: str = ""
    detail: str = ""
    dup_of: str = ""
    title: str = ""
    captions: tuple[str, ...] = ()
    license: str = ""
    tag: str = ""
    group: str = ""
    note: str = ""


Said = Mapping[str, tuple[Facts, Sequence[str]]]
"""What looks said, by clip id: facts under their full names, and errors in words."""


def write_manifest(run: Path, inputs: Sequence[Input], plan: Plan, store: Store, asked: Callable[[str], Said]) -> dict[str, int]:
    """Writes sources, videos, clips and captions as the store has them; gives counts. asked: what looks said, by content."""
    same: dict[str, list[Input]] = {}
    for one in inputs:
        if one.content:
            same.setdefault(one.content, []).append(one)
    videos, clips, captions = [], [], []
    for content, ones in sorted(same.items()):
        record, uri = store.read(content), ones[0].uri
        if record is None:
            raise DataError(f"{store.folder}: nothing is known of {uri}; run the command again")
        videos.append(_video_row(record, uri))
        found = clips_of(record, plan)
        rows, said = _clip_rows(record, found, plan, uri), asked(content)
        for row in rows:
            facts, errors = said.get(row["clip_id"], ({}, ()))
            row |= facts
            row["error"] = "; ".join(filter(None, [row["error"], *errors]))
        clips += rows
        captions += [caption for clip in found for caption in _captions(clip.id, ones, said, plan)]
    write_columns(run / "sources.parquet", columns_of(map(vars, inputs), Input.__dataclass_fields__))
    write_columns(run / "videos.parquet", columns_of(videos, VIDEO_COLUMNS))
    clips.sort(key=lambda row: row["clip_id"])
    write_columns(run / "clips.parquet", columns_of(clips, (*CLIP_COLUMNS, *plan.facts)))
    captions.sort(key=lambda row: (row["clip_id"], row["kind"], row["text"]))
    write_columns(run / "captions.parquet", columns_of(captions, ("clip_id", "kind", "text", "weight")))
    return {"sources": len(inputs), "videos": len(videos), "clips": len(clips), "captions": len(captions)}


def _video_row(record: Record, uri: str) -> dict[str, Any]:
    """One row of videos.parquet."""
    facts, timeline = record.facts, record.facts.get("timeline", {})
    row = {name: facts.get(name) for name in VIDEO_COLUMNS}
    about = {"rotation": timeline.get("rotation"), "notes": list(timeline.get("notes", ()))}
    known = {"video_id": record.content, "uri": uri, "status": record.status, "reason": record.reason, "detail": record.detail}
    return row | {key: value for key, value in about.items() if row[key] is None} | known


def _clip_rows(record: Record, clips: Sequence[Clip], plan: Plan, uri: str) -> list[dict[str, Any]]:
    """Rows of clips.parquet, one a clip, with the facts of measures."""
    rows = []
    for clip, facts in zip(clips, facts_of(record, clips, plan), strict=True):
        place = {"start_pts": clip.first_stamp, "end_pts": clip.stop_stamp, "start_s": clip.start, "end_s": clip.end}
        frames = {"first_frame": clip.first, "n_frames": clip.stop - clip.first, "begins": clip.begins, "ends": clip.ends}
        head = {"clip_id": clip.id, "video_id": clip.content, "uri": uri, **place, **frames}
        rows.append({**head, "error": errors_of(record, clip), **facts})
    return rows


def _captions(clip: str, same: Sequence[Input], said: Said, plan: Plan) -> Iterable[dict[str, Any]]:
    """The inputs' own captions are of all clips of their video; then what looks wrote of this one."""
    for kind, texts in (("sidecar", [text for one in same for text in one.captions]), ("title", [one.title for one in same])):
        for text in dict.fromkeys(filter(None, texts)):
            yield {"clip_id": clip, "kind": kind, "text": text, "weight": 1.0}
    for name, look in plan.looks.items():
        if text := said.get(clip, ({}, ()))[0].get(f"{name}.text"):
            yield {"clip_id": clip, "kind": name, "text": text, "weight": getattr(look, "weight", 1.0)}


def columns_of(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[Any]]:
    """Rows as columns, in the order of `names`."""
    found: dict[str, list[Any]] = {name: [] for name in names}
    for row in rows:
        for name, column in found.items():
            column.append(row.get(name))
    return found


def write_columns(file: Path, columns: Columns) -> None:
    """A parquet file, whole or absent. A column of nothing at all is one of numbers that are missing."""
    import pyarrow as pa
    from pyarrow import parquet

    arrays = {name: pa.array(list(column)) for name, column in columns.items()}
    plain = {name: array.cast(pa.float64()) if pa.types.is_null(array.type) else array for name, array in arrays.items()}
    out = io.BytesIO()
    parquet.write_table(pa.table(plain), out, compression="zstd")
    write_bytes(file, out.getvalue())


def read_columns(file: Path) -> dict[str, list[Any]]:
    """The columns of a parquet file. DataError where it is not there or damaged."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return parquet.read_table(file).to_pydict()
    except FileNotFoundError:
        raise DataError(f"{file}: no such table; run the curation first (relatum curate RECIPE)") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{file}: cannot be read ({str(error).splitlines()[0]}); run the curation again") from error
