"""Rows of frame pairs out of a clip: the images of a pair under their names, and its times as facts."""

from __future__ import annotations

from collections.abc import Iterator

from ..core.errors import DataError
from .clips import Clip, Entry, Ranges
from .pairs import TRIES, Pair, PairLaw, draw_pairs, valid_frames
from .rows import ImageRef, Row

__all__ = ["pair_rows"]


def pair_rows(entry: Entry, clip: Clip, shots: Ranges, group: str, skipped: list[str], law: PairLaw) -> Iterator[Row]:
    """At most `law.per_video` rows of the clip, fewer with a line in `skipped`. DataError where no pair fits."""
    slots = valid_frames(clip.times, law.grid, shots)
    count = 0
    for count, pair in enumerate(draw_pairs(slots, law, entry.name), 1):
        caption = entry.caption(law.seed, count - 1, int(slots.shots[pair.slot]))
        yield _row(entry, clip, pair, count - 1, group, law, caption)
    if count == 0:
        most = max((clip.times[stop - 1] - clip.times[start] for start, stop in shots), default=0.0)
        raise DataError(
            f"{entry.where}: no pair fits: {len(slots.valid)} valid frames, {len(shots)} shots, the longest of {most:.2f} s; "
            f"a pair spans at least {_least(law):.2f} s; leave it out, or ask for less (grid, offset, past, spacing, future)"
        )
    if count < law.per_video:
        skipped.append(f"{entry.where}: {count} of {law.per_video} pairs; {_why_fewer(count, slots.sources(law)[1])}")


def _why_fewer(count: int, different: int) -> str:
    if count == different:
        return "there are no more different ones"
    return f"{different} different ones exist, but the law makes the others so rare that {TRIES:,} draws gave none"


def _least(law: PairLaw) -> float:
    """Seconds from the oldest to the last frame of the shortest pair."""
    reach = law.reach(law.support()[0])
    return (max(reach) - min(reach)) * law.grid


def _row(entry: Entry, clip: Clip, pair: Pair, number: int, group: str, law: PairLaw, caption: str) -> Row:
    times = clip.times
    source, target = pair.past[0], pair.future[0]
    images: dict[str, ImageRef] = {"source": clip.frame(source)}
    images |= {f"past.{j}": clip.frame(index) for j, index in enumerate(pair.past[1:], 2)}
    images |= {"target": clip.frame(target)}
    images |= {f"future.{j}": clip.frame(index) for j, index in enumerate(pair.future[1:], 2)}
    offset = round(times[target] - times[source], 6)
    spacing = round((times[source] - times[pair.past[-1]]) / (law.past - 1), 6) if law.past > 1 else law.spacing or offset
    facts = {"offset": offset, "spacing": spacing, "video": entry.name, "source_time": round(times[source], 6)}
    texts = {"instruction": caption, "target": caption}
    return Row(f"{entry.name}:{number}", group, images, texts, facts=facts, where=f"{entry.where} pair {number}")
