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
from .reading import clips_of, facts_of, lost_of, notes_of
from .store import Record, Store

__all__ = [
    "CLIP_COLUMNS",
    "Columns",
    "Input",
    "Said",
    "columns_of",
    "part_of",
    "read_columns",
    "split_of",
    "write_columns",
    "write_manifest",
]

Columns = Mapping[str, Sequence[Any]]

VIDEO_COLUMNS = (
    *("video_id", "uri", "status", "reason", "detail", "size_bytes", "container", "codec", "pix_fmt", "width", "height"),
    *("rotation", "sar", "color_space", "color_range", "rate", "time_base", "start_pts", "duration_s", "frames_declared", "frames"),
    *("decode_errors", "is_vfr", "keyframes", "max_gop_s", "has_audio", "notes", "unused_why", "unused_s"),
)
CLIP_COLUMNS = (  # before the facts
    *("clip_id", "video_id", "uri", "start_pts", "end_pts", "start_s", "end_s", "first_frame", "n_frames", "begins", "ends"),
    *("split", "error"),
)
IDENTITY = "identity"  # beside a look's text: of the model that wrote it
SPLITS = (("test", 0.01), ("validation", 0.02), ("train", 1.0))  # by how far into [0, 1) a group's hash lies


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
"""What looks said, by clip id: facts under their full names, with "NAME.identity" of those that write, and errors in words."""


def part_of(group: str) -> str:
    """The split of all clips of a group: "train" of 98 in a hundred, "validation" and "test" of one each.

    By the hash with which readers hold groups out: held_out = 0.02 at split_seed 0 leaves those of "train" to train on.
    """
    from ..core.draws import key_of

    place = key_of(0, "split", group) / 2**63
    return next(name for name, end in SPLITS if place < end)


def split_of(record: Record, plan: Plan) -> tuple[list[Clip], str]:
    """The clips of a video that was measured, and why there are none where the recipe's split failed of it."""
    try:
        return clips_of(record, plan), ""
    except DataError as error:
        return [], str(error)


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
        found, fault = split_of(record, plan)
        videos.append(_video_row(record, uri, found, fault) | _unused(record, plan, fault))
        rows, said = _clip_rows(record, found, plan, uri), asked(content)
        split = part_of(next((one.group for one in ones if one.group), content))
        for row in rows:
            facts, errors = said.get(row["clip_id"], ({}, ()))
            row |= {**facts, "split": split}
            row["error"] = "; ".join(filter(None, [row["error"], *errors]))
        clips += rows
        captions += [caption for clip in found for caption in _captions(clip.id, ones, said, plan)]
    write_columns(run / "sources.parquet", columns_of(map(vars, inputs), Input.__dataclass_fields__))
    write_columns(run / "videos.parquet", columns_of(videos, VIDEO_COLUMNS))
    clips.sort(key=lambda row: row["clip_id"])
    write_columns(run / "clips.parquet", columns_of(clips, (*CLIP_COLUMNS, *plan.facts)))
    captions.sort(key=lambda row: (row["clip_id"], row["kind"], row["text"]))
    write_columns(run / "captions.parquet", columns_of(captions, ("clip_id", "kind", "text", "weight", "identity")))
    return {"sources": len(inputs), "videos": len(videos), "clips": len(clips), "captions": len(captions)}


def _video_row(record: Record, uri: str, clips: Sequence[Clip], fault: str) -> dict[str, Any]:
    """One row of videos.parquet. fault: of the split."""
    how = ("error", "split_failed", fault) if fault else (record.status, record.reason, record.detail)
    known = {"video_id": record.content, "uri": uri, **dict(zip(("status", "reason", "detail"), how, strict=True))}
    return {**record.facts, **known, "notes": notes_of(record, clips)}


def _unused(record: Record, plan: Plan, fault: str) -> dict[str, Any]:
    lost = {} if fault else lost_of(record, plan)
    return {"unused_why": sorted(lost), "unused_s": [lost[reason] for reason in sorted(lost)]}


def _clip_rows(record: Record, clips: Sequence[Clip], plan: Plan, uri: str) -> list[dict[str, Any]]:
    """Rows of clips.parquet, one a clip, with the facts of measures."""
    rows = []
    for clip, facts in zip(clips, facts_of(record, clips, plan), strict=True):
        place = {"start_pts": clip.first_stamp, "end_pts": clip.stop_stamp, "start_s": clip.start, "end_s": clip.end}
        frames = {"first_frame": clip.first, "n_frames": clip.stop - clip.first, "begins": clip.begins, "ends": clip.ends}
        head = {"clip_id": clip.id, "video_id": clip.content, "uri": uri, **place, **frames}
        rows.append({**head, "error": "", **facts})
    return rows


def _captions(clip: str, same: Sequence[Input], said: Said, plan: Plan) -> Iterable[dict[str, Any]]:
    """The inputs' own captions are of all clips of their video; then what looks wrote of this one."""
    for kind, texts in (("sidecar", [text for one in same for text in one.captions]), ("title", [one.title for one in same])):
        for text in dict.fromkeys(filter(None, texts)):
            yield {"clip_id": clip, "kind": kind, "text": text, "weight": 1.0, "identity": ""}
    for name, look in plan.looks.items():
        facts = said.get(clip, ({}, ()))[0]
        if text := facts.get(f"{name}.text"):
            wrote = {"weight": getattr(look, "weight", 1.0), "identity": facts.get(f"{name}.{IDENTITY}", "")}
            yield {"clip_id": clip, "kind": name, "text": text, **wrote}


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
