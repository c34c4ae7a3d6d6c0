"""The manifest: what a curation found, as parquet tables in its run folder. Rows are ordered by ids, so that the same videos and
settings give the same bytes on any engine; what depends on the clock is in run.json."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_bytes
from ..core.errors import DataError
from .base import Clip
from .plan import Plan
from .reading import errors_of, facts_of
from .store import Record

__all__ = ["CLIP_COLUMNS", "Columns", "clip_rows", "columns_of", "read_columns", "video_row", "write_columns"]

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


def video_row(record: Record, uri: str) -> dict[str, Any]:
    """One row of videos.parquet."""
    facts, timeline = record.facts, record.facts.get("timeline", {})
    row = {name: facts.get(name) for name in VIDEO_COLUMNS}
    about = {"rotation": timeline.get("rotation"), "notes": list(timeline.get("notes", ()))}
    known = {"video_id": record.content, "uri": uri, "status": record.status, "reason": record.reason, "detail": record.detail}
    return row | {key: value for key, value in about.items() if row[key] is None} | known


def clip_rows(record: Record, clips: Sequence[Clip], plan: Plan, uri: str) -> list[dict[str, Any]]:
    """Rows of clips.parquet, one a clip, with the facts of measures."""
    rows = []
    for clip, facts in zip(clips, facts_of(record, clips, plan), strict=True):
        place = {"start_pts": clip.first_stamp, "end_pts": clip.stop_stamp, "start_s": clip.start, "end_s": clip.end}
        frames = {"first_frame": clip.first, "n_frames": clip.stop - clip.first, "begins": clip.begins, "ends": clip.ends}
        head = {"clip_id": clip.id, "video_id": clip.content, "uri": uri, **place, **frames}
        rows.append({**head, "error": errors_of(record, clip), **facts})
    return rows


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
