"""Folders of images or videos from any model: what they hold, and which files pair."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from ..core.errors import DataError
from ..core.registry import metric as registered
from ..imaging import SUFFIXES as PICTURES
from ..video.opening import SUFFIXES as VIDEOS

__all__ = ["Kind", "check_pairs", "kind_of", "listed", "tables_of"]

Kind = Literal["images", "videos"]


def _suffixes(gifs: Kind) -> dict[Kind, set[str]]:
    """Endings by kind. gifs: what a .gif is taken for."""
    every: dict[Kind, set[str]] = {"images": {*PICTURES}, "videos": {*VIDEOS}}
    return {kind: some if kind == gifs else some - {".gif"} for kind, some in every.items()}


def kind_of(folder: Path, side: str, gifs: Kind = "videos") -> Kind:
    """What the folder holds. gifs: what a .gif is taken for. DataError where it is none, holds neither or both."""
    if not folder.is_dir():
        raise DataError(f"{side}: {folder} is no folder")
    files = sorted(path for path in folder.iterdir())
    found = {kind: [f for f in files if f.suffix.lower() in suffixes] for kind, suffixes in _suffixes(gifs).items()}
    if found["images"] and found["videos"]:
        raise DataError(
            f"{side}: {folder} holds images ({found['images'][0].name}, {len(found['images'])} in all) and videos "
            f"({found['videos'][0].name}, {len(found['videos'])} in all); put them into folders of their own"
        )
    if not found["images"] and not found["videos"]:
        every = ", ".join(sorted({*PICTURES, *VIDEOS}))
        raise DataError(f"{side}: no images and no videos in {folder} (looked for {every})")
    return "images" if found["images"] else "videos"


def listed(folder: Path, side: str, kind: Kind, gifs: Kind = "videos") -> dict[str, Path]:
    """Files of that kind by stem. gifs: what a .gif is taken for."""
    if (holds := kind_of(folder, side, gifs)) != kind:
        other = "evaluate_videos measures those" if kind == "images" else "evaluate measures those, against images"
        raise DataError(f"{side}: no {kind} in {folder}; it holds {holds} ({other})")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in _suffixes(gifs)[kind]):
        if path.stem in found:
            raise DataError(f"{side}: {found[path.stem]} and {path} have one stem; pairing needs different ones")
        found[path.stem] = path
    return found


def check_pairs(
    stems: Sequence[str], files: Mapping[str, Mapping[str, Path]], texts: Mapping[str, Mapping[str, str]], kind: Kind = "images"
) -> None:
    """DataError that names a file or caption without its pair."""
    for side, known in {**files, **{f"{name} captions": given for name, given in texts.items()}}.items():
        missing = [stem for stem in stems if stem not in known]
        surplus = [stem for stem in sorted(known) if stem not in set(stems)] if side in files else []
        if missing:
            raise DataError(f"{side}: nothing for {missing[0]!r} ({len(missing)} of {len(stems)} generated {kind} lack their pair)")
        if surplus:
            raise DataError(f"{side}: {known[surplus[0]]} has no generated {kind[:-1]} ({len(surplus)} such files)")


def tables_of(metrics: Mapping[str, Mapping[str, Any]] | Sequence[str], extractor: str, clip: str) -> dict[str, dict[str, Any]]:
    """The metrics' settings, with the extractors filled in that they leave open."""
    tables = {n: dict(t) for n, t in metrics.items()} if isinstance(metrics, Mapping) else {n: {} for n in metrics}
    for name, table in tables.items():
        cls = registered.find(table.get("kind", name), name)
        if any(f.name == "extractor" for f in dataclasses.fields(cls)):
            table.setdefault("extractor", (clip or "clip") if name.startswith("clip") else extractor)
    return tables
