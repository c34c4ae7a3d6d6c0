"""Which clips the page shows, the same ones every time, and their stills as one small strip each."""

from __future__ import annotations

import base64
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .numbers import dropped_by, groups, passes
from .view import Curated, Filter, Threshold

__all__ = ["Rail", "first", "nearest", "rails", "shares", "strip"]

STRIPS = 100  # of three stills each
STRIP_BYTES = 36_000
BOX = (160, 120)


@dataclass(frozen=True)
class Rail:
    """Clips shown in a row, by their places. about: what they are a sample of: "near" or "past" a threshold, "dropped", "kept",
    "twins". of: the filter. line: the threshold that they are near to."""

    about: str
    title: str
    clips: Sequence[int]
    of: str = ""
    line: Threshold | None = None
    total: int = 0


def rails(view: Curated, most: int = STRIPS) -> list[Rail]:
    """All rows of the page, with `most` clips together: the other rows get clips by turns when duplicates have theirs."""
    wanted = [rail for line in view.thresholds for rail in _around(view, line)]
    near = {at for rail in wanted for at in rail.clips[:4]}
    wanted += [_dropped(view, found, near) for found in view.filters]
    wanted += [_kept(view)]
    twins = [
        Rail("twins", "", group[:4], total=len(group)) for group in groups(view.clips.id, view.clips.twin)[: min(6, most // 12)]
    ]
    most -= sum(len(rail.clips) for rail in twins)
    limits = shares([min(len(rail.clips), 12 if rail.about == "kept" else 4) for rail in wanted], most)
    cut = [Rail(r.about, r.title, r.clips[:limit], r.of, r.line, r.total) for r, limit in zip(wanted, limits, strict=True)]
    return [rail for rail in cut + twins if rail.clips]


def _around(view: Curated, line: Threshold) -> list[Rail]:
    """The clips nearest to a threshold on both sides: kept ones of those that pass, and those that only it drops before others."""
    values, clips = view.facts[line.fact], view.clips
    limits = [limit for limit in (line.low, line.high) if limit is not None]
    if not limits:
        return []
    hits = dropped_by(view.filters, len(clips))
    inside, known = passes(values, line.low, line.high), np.isfinite(values)
    away = np.min([np.abs(values - limit) for limit in limits], 0)
    drops = next(found.drops for found in view.filters if found.name == line.filter)
    out = known & ~inside & drops
    alone = out & (hits == 1)
    just_out = nearest(away, alone, clips.video) + nearest(away, out & ~alone, clips.video)
    just_in = nearest(away, inside & clips.keep, clips.video)
    return [
        Rail("near", "Just kept", just_in, line.filter, line, int((inside & clips.keep).sum())),
        Rail("past", "Just dropped", just_out, line.filter, line, int(out.sum())),
    ]


def _dropped(view: Curated, found: Filter, near: set[int]) -> Rail:
    lines = [line for line in view.thresholds if line.filter == found.name]
    twins = len(view.clips.twin) > 0 and all(view.clips.twin[at] for at in np.flatnonzero(found.drops).tolist())
    places = [] if twins else [int(at) for at in np.flatnonzero(found.drops) if at not in near]
    title = "Others that it drops" if lines else "A sample of what it drops"
    return Rail("dropped", title, first(places, view.clips.id, found.name, 4), found.name, None, int(found.drops.sum()))


def _kept(view: Curated) -> Rail:
    places = np.flatnonzero(view.clips.keep).tolist()
    return Rail("kept", "A sample of what is kept", first(places, view.clips.id, "kept", 12), total=len(places))


def nearest(away: np.ndarray, among: np.ndarray, video: Sequence[str], most: int = 4) -> list[int]:
    """Places of the smallest `away` among some, in that order; one a video as long as the nearest 8 x `most` have another."""
    places = np.flatnonzero(among)
    window = places[np.argsort(away[places], kind="stable")][: 8 * most].tolist()
    fresh = list({video[at]: at for at in reversed(window)}.values())
    return sorted(sorted(window, key=lambda at: at not in fresh)[:most], key=window.index)


def first(places: Sequence[int], ids: Sequence[str], salt: str, most: int) -> list[int]:
    """A sample that depends on ids alone: those of the smallest checksums."""
    return sorted(places, key=lambda at: (zlib.crc32(f"{salt}\0{ids[at]}".encode("utf-8", "replace")), ids[at]))[:most]


def shares(wanted: Sequence[int], total: int) -> list[int]:
    """How many of `total` each gets, by turns, none more than it wants."""
    given, turn = [0] * len(wanted), 0
    while total > 0 and any(turn < want for want in wanted):
        for place, want in enumerate(wanted):
            if turn < want and total > 0:
                given[place], total = given[place] + 1, total - 1
        turn += 1
    return given


def strip(stills: Sequence[bytes]) -> tuple[str, int, int] | None:
    """First, middle and last still side by side as a data: URI of one JPEG with its size; None where none can be read."""
    from PIL import Image

    chosen = list(dict.fromkeys([0, (len(stills) - 1) // 2, len(stills) - 1])) if stills else []
    pictures = []
    for place in chosen:
        try:
            with Image.open(io.BytesIO(stills[place])) as opened:
                opened.draft("RGB", BOX)
                picture = opened.convert("RGB")
        except (OSError, ValueError, Image.DecompressionBombError):
            continue
        picture.thumbnail(BOX)
        pictures.append(picture)
    if not pictures:
        return None
    whole = Image.new("RGB", (sum(p.width for p in pictures) + 2 * len(pictures) - 2, max(p.height for p in pictures)), "gray")
    at = 0
    for picture in pictures:
        whole.paste(picture, (at, 0))
        at += picture.width + 2
    for quality in (74, 50, 25, 5):
        stream = io.BytesIO()
        whole.save(stream, "JPEG", quality=quality)
        if stream.tell() <= STRIP_BYTES:
            break
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode(), whole.width, whole.height
