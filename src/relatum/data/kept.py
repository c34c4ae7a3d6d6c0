"""What a curation kept, as its manifest says it: time ranges of the original videos, with weighted captions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MissingExtra
from .refs import shown
from .tables import read_jsonl

__all__ = ["RANGES", "KeptClip", "KeptVideo", "read_kept"]

RANGES = ("ranges.parquet", "ranges.jsonl")  # an export of ranges, which can be read without the run that made it
SOURCE = ("path", "offset", "size", "group")
PLACE = ("clip_id", "video_id", "uri", "start_pts", "end_pts", "start_s", "end_s", "split")


@dataclass(frozen=True)
class KeptClip:
    """[start_pts, end_pts) in units of the file's clock, shown from start_s to end_s. captions: (kind, text, weight above 0)."""

    id: str
    start_pts: int
    end_pts: int
    start_s: float
    end_s: float
    captions: tuple[tuple[str, str, float], ...]

    @property
    def said(self) -> tuple[tuple[str, float], ...]:
        return tuple((text, weight) for _, text, weight in self.captions)


@dataclass(frozen=True)
class KeptVideo:
    """An original video that clips were kept of, ascending. content: SHA-256. group: what never straddles a split, if not itself.

    split: "train", "validation" or "test", by the hash of the group.
    path: the file, or the tar in which it lies, `size` bytes at `offset`; size is 0 for a file.
    """

    content: str
    uri: str
    group: str
    split: str
    path: str
    offset: int
    size: int
    clips: tuple[KeptClip, ...]


def read_kept(path: Path) -> list[KeptVideo]:
    """The kept clips of a run folder or of an export of ranges, by video, in the order of their contents.

    DataError where a table or column is missing, no clip is kept, or a clip has no decision (the curation was not finished).
    """
    folder = path if path.is_dir() else path.parent
    found = [folder / name for name in RANGES if (folder / name).is_file()]
    if (folder / "clips.parquet").is_file():
        rows = _decided(folder)
    elif found:
        rows = [dict(row) for row in _ranges(found[0])]
    else:
        hint = '; read exported pairs by their format: kind = "webdataset", "parquet" or "frame_pairs"'
        known = (folder / "export.json").is_file()
        raise DataError(
            f"{shown(str(path))}: holds no clips.parquet and no {' or '.join(RANGES)}{hint if known else ''}; "
            "expected the run folder of relatum curate, or an export of ranges"
        )
    if not rows:
        raise DataError(f"{shown(str(path))}: no clip is kept; its report says what each keep drops")
    videos: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        videos.setdefault(row["video_id"], []).append(row)
    return [_video(content, videos[content]) for content in sorted(videos)]


def _decided(run: Path) -> list[dict[str, Any]]:
    clips = _table(run / "clips.parquet", PLACE)
    keep = {row["clip_id"]: row["keep"] for row in _table(run / "decisions.parquet", ("clip_id", "keep"))}
    if undecided := [row["clip_id"] for row in clips if row["clip_id"] not in keep]:
        first = f"{shown(str(run))}: {len(undecided)} of {len(clips)} clips have no decision, the first {undecided[0]}"
        raise DataError(f"{first}; the curation was not finished, run it again")
    captions: dict[str, list[tuple[str, str, float]]] = {}
    for row in _table(run / "captions.parquet", ("clip_id", "kind", "text", "weight")):
        weight = 1.0 if row["weight"] is None else float(row["weight"])
        captions.setdefault(row["clip_id"], []).append((row["kind"], row["text"], weight))
    sources: dict[str, list[dict[str, Any]]] = {}
    for row in _table(run / "sources.parquet", ("content", *SOURCE)):
        sources.setdefault(row["content"], []).append(row)
    return [
        {**_source(sources.get(row["video_id"], []), run, row), **row, "captions": captions.get(row["clip_id"], [])}
        for row in clips
        if keep[row["clip_id"]]
    ]


def _source(same: Sequence[Mapping[str, Any]], run: Path, clip: Mapping[str, Any]) -> dict[str, Any]:
    """Where a content lies: the first of its sources that is still there. Its group: the first that is named."""
    if not same:
        raise DataError(f"{shown(str(run))}: sources.parquet lacks {clip['uri']}; the curation was not finished, run it again")
    found = next((row for row in same if Path(row["path"]).is_file()), same[0])
    group = next((row["group"] for row in same if row["group"]), "")
    return {"path": found["path"], "offset": found["offset"], "size": found["size"], "group": group}


def _ranges(file: Path) -> Iterable[Mapping[str, Any]]:
    columns = (*PLACE, *SOURCE, "kinds", "captions", "weights")
    if file.suffix == ".parquet":
        rows: Sequence[Mapping[str, Any]] = _table(file, columns)
    else:
        lines = list(read_jsonl(file))
        for line in lines:
            missing = [name for name in columns if name not in line.values]
            if line.fault or missing:
                raise DataError(f"{line.where}: {line.fault or 'lacks ' + ', '.join(missing)}; export the ranges again")
        rows = [line.values for line in lines]
    for row in rows:
        yield {**row, "captions": list(zip(row["kinds"], row["captions"], row["weights"], strict=True))}


def _table(file: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The columns of a parquet file, row by row. DataError where it is absent, damaged, or lacks one of them."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading a manifest") from None
    try:
        with parquet.ParquetFile(file) as table:
            if lacking := [name for name in columns if name not in table.schema_arrow.names]:
                raise DataError(f"{shown(str(file))}: has no column {lacking[0]!r}; run the curation again")
            return table.read(list(columns)).to_pylist()
    except FileNotFoundError:
        raise DataError(f"{shown(str(file))}: no such table; the curation was not finished, run it again") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{shown(str(file))}: cannot be read ({str(error).splitlines()[0]}); run the curation again") from None


def _video(content: str, rows: Sequence[Mapping[str, Any]]) -> KeptVideo:
    clips = [
        KeptClip(
            row["clip_id"],
            int(row["start_pts"]),
            int(row["end_pts"]),
            float(row["start_s"]),
            float(row["end_s"]),
            tuple(
                sorted((str(kind), text.strip(), float(weight)) for kind, text, weight in row["captions"] if _used(text, weight))
            ),
        )
        for row in rows
    ]
    clips.sort(key=lambda clip: clip.start_pts)
    first = rows[0]
    return KeptVideo(
        content,
        first["uri"],
        first["group"] or "",
        first["split"],
        first["path"],
        int(first["offset"]),
        int(first["size"]),
        tuple(clips),
    )


def _used(text: Any, weight: float) -> bool:
    return isinstance(text, str) and bool(text.strip()) and weight > 0
