"""The tables of a curation's run folder, written by hand over small videos."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from relatum.video.timeline import read_timeline

__all__ = ["clip_of", "kept", "table"]

Kept = Sequence[tuple[Path, Sequence[tuple[int, int]]]]


def table(file: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist([dict(row) for row in rows]), file)


def clip_of(path: Path, first: int, stop: int) -> str:
    """A clip's id: of content and range."""
    return hashlib.sha256(f"{path.read_bytes()!r} {first} {stop}".encode()).hexdigest()[:16]


def kept(
    run: Path,
    videos: Kept,
    captions: Sequence[tuple[str, str, float]] = (("image", "a square", 0.5), ("video", "it moves", 0.25)),
    dropped: Sequence[str] = (),
    groups: Mapping[Path, str] | None = None,
    splits: Mapping[Path, str] | None = None,
) -> Path:
    """A run folder with these ranges of frames of each video as clips. dropped: ids of clips that were not kept.

    splits: of videos that are not in "train".
    """
    run.mkdir(parents=True, exist_ok=True)
    sources, clips, said = [], [], []
    for path, ranges in videos:
        content, timeline = hashlib.sha256(path.read_bytes()).hexdigest(), read_timeline(path)
        place = {"path": str(path), "offset": 0, "size": 0}
        sources.append({"uri": path.name, "content": content, "status": "ok", **place, "group": (groups or {}).get(path, "")})
        for first, stop in ranges:
            id, stamps = clip_of(path, first, stop), timeline.stamps
            end = timeline.times[stop] if stop < len(timeline.times) else timeline.duration
            frames = {"start_pts": stamps[first], "end_pts": stamps[stop - 1] + 1, "start_s": timeline.times[first], "end_s": end}
            clips.append({"clip_id": id, "video_id": content, "uri": path.name, **frames, "first_frame": first})
            clips[-1]["split"] = (splits or {}).get(path, "train")
            said += [{"clip_id": id, "kind": kind, "text": text, "weight": weight} for kind, text, weight in captions]
    table(run / "sources.parquet", sources)
    table(run / "clips.parquet", sorted(clips, key=lambda clip: clip["clip_id"]))
    table(run / "captions.parquet", said)
    table(run / "decisions.parquet", [{"clip_id": clip["clip_id"], "keep": clip["clip_id"] not in dropped} for clip in clips])
    return run
