"""Clips with captions made into rows of frame pairs: what every reader of videos shares, whatever its layout."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from .pairs import TRIES, Pair, PairLaw, draw_pairs, valid_frames
from .refs import shown
from .rows import ImageRef, Row

__all__ = ["Clip", "ClipReader", "Entry", "captions_of", "list_pairs"]


@dataclass(frozen=True)
class Entry:
    """A clip as a data set lists it. name: unique. file: relative to the reader's folder; where names it.

    fault: why it cannot be used, as far as the listing tells. recording: what the clip was cut from; empty where it is all of it.
    said: by shot, captions with their weights, where each shot has its own; `captions` are then not used.
    """

    name: str
    where: str
    captions: Sequence[str] = ()
    file: str = ""
    fault: str = ""
    recording: str = ""
    said: Sequence[Sequence[tuple[str, float]]] = ()

    @property
    def group(self) -> str:
        """What never stands on both sides of a split: the recording."""
        return self.recording or self.name

    def caption(self, seed: int, number: int, shot: int) -> str:
        """The caption of pair `number`, which lies in this shot: drawn from all, or by their weights from the shot's own."""
        key = key_of(seed, "caption", self.name, number)
        if not self.said:
            return self.captions[key % len(self.captions)]
        sums = list(accumulate(weight for _, weight in self.said[shot]))
        return self.said[shot][bisect_right(sums, key / 2**63 * sums[-1], hi=len(sums) - 1)][0]


@runtime_checkable
class Clip(Protocol):
    """An open clip. content: hash of what it shows. times: seconds from the first frame, ascending.

    shots(): half-open ranges of frames that may be used together, and what is to be said about the clip.
    """

    @property
    def content(self) -> str: ...

    @property
    def times(self) -> Sequence[float]: ...

    @property
    def duration(self) -> float: ...

    def shots(self) -> tuple[Sequence[tuple[int, int]], Sequence[str]]: ...

    def frame(self, index: int) -> ImageRef: ...


@dataclass
class ClipReader(ABC):
    """Settings of every reader that draws pairs of frames from clips, and the rows that it gives.

    path: the data set's folder. law: the kind of `PairLaw`; per_video, grid, sd, offset, horizon, past, spacing, future,
    max_seconds and seed are the law's, in seconds. on_bad_row: "stop" with a DataError at a clip that cannot be used, or "skip".
    A row has the images "source", "past.2" ... (older), "target", "future.2" ... (later); its caption, drawn from the clip's, as
    the texts "instruction" and "target"; the clip's recording, if any, else its name as group; facts: offset, spacing,
    source_time (seconds), video (the clip's name).
    part: "train" leaves out, and "test" takes, the share `held_out` of the recordings, chosen by the hash of their names: two
    readers of one folder then give both sides, each with its own law.
    skipped: clips left out, and those that give less than was asked (damaged frames, fewer pairs), each with its reason.
    """

    path: str | Path
    _: KW_ONLY
    law: Literal["half_normal", "next", "uniform"] = "half_normal"
    per_video: int = 8
    grid: float = 0.2
    sd: float = 2.0
    offset: float = 0.2
    horizon: float = 6.0
    past: int = 1
    spacing: float = 0.0
    future: int = 1
    max_seconds: float = 30.0
    seed: int = 0
    part: Literal["all", "train", "test"] = "all"
    held_out: float = 0.1
    split_seed: int = 0
    on_bad_row: Literal["stop", "skip"] = "stop"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self.pair_law()
        if not 0 < self.held_out < 1:
            raise RecipeError(f"held_out is {self.held_out}, expected a share of the clips, above 0 and below 1")

    def pair_law(self) -> PairLaw:
        """The settings as a law. RecipeError for those that cannot be."""
        names = ("per_video", "grid", "sd", "offset", "horizon", "past", "spacing", "future", "max_seconds", "seed")
        return PairLaw(self.law, **{name: getattr(self, name) for name in names})

    @abstractmethod
    def entries(self) -> Iterable[Entry]:
        """What the data set lists, in its order."""

    @abstractmethod
    def open_clip(self, entry: Entry) -> Clip:
        """DataError for a clip that cannot be used."""

    def rows(self) -> list[Row]:
        self.skipped.clear()
        return list_pairs(self.entries(), self.open_clip, self.pair_law(), self._takes, self.on_bad_row == "skip", self.skipped)

    def _takes(self, group: str) -> bool:
        """Whether the group is on this side, as `splits.split` decides it."""
        return self.part == "all" or (self.part == "test") == (key_of(self.split_seed, "split", group) / 2**63 < self.held_out)


def list_pairs(
    entries: Iterable[Entry],
    open_clip: Callable[[Entry], Clip],
    law: PairLaw,
    takes: Callable[[str], bool],
    skip: bool,
    skipped: list[str],
) -> list[Row]:
    """The rows of all clips of groups that it `takes`, clip by clip. A bad clip is an error, or with `skip` a line in `skipped`.

    Clips longer than the law's `max_seconds` are always listed only. Clips of equal content are of one group, the first one's,
    and so are the clips of their recordings that follow.
    """
    rows: list[Row] = []
    names: dict[str, str] = {}
    groups: dict[str, str] = {}
    same: dict[str, str] = {}
    for entry in entries:
        try:
            _check(entry)
            if entry.name in names:
                raise DataError(f"{entry.where}: {shown(entry.name)} is listed by {names[entry.name]} already; name each clip once")
            names[entry.name] = entry.where
            clip = open_clip(entry)
            group = groups.setdefault(clip.content, same.get(entry.group, entry.group))
            same.setdefault(entry.group, group)
            if takes(group):
                rows += _rows_of(entry, clip, group, law, skipped)
        except DataError as error:
            if not skip:
                raise
            skipped.append(str(error))
    return rows


def _check(entry: Entry) -> None:
    if entry.fault:
        raise DataError(f"{entry.where}: {entry.fault}")
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{entry.where}: the name {entry.name!a} is not UTF-8; rename it") from None
    if not entry.captions and not all(entry.said or [()]):
        raise DataError(f"{entry.where}: no caption (missing or empty)")


def _rows_of(entry: Entry, clip: Clip, group: str, law: PairLaw, skipped: list[str]) -> Iterator[Row]:
    if law.max_seconds and clip.duration > law.max_seconds + 1e-6:
        skipped.append(f"{entry.where}: lasts {clip.duration:.2f} s; clips over max_seconds = {law.max_seconds:g} are left out")
        return
    shots, notes = clip.shots()
    skipped += [f"{entry.where}: {note}" for note in notes]
    if group != entry.group:
        skipped.append(f"{entry.where}: the same content as {shown(group)}; rows of both are of one group")
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


def captions_of(value: Any, what: str) -> list[str]:
    """The captions in a text or a list of texts, without empty ones. DataError naming `what` for anything else."""
    if value is None:
        return []
    texts = value if isinstance(value, list) else [value]
    for number, text in enumerate(texts):
        place = f"{what}[{number}]" if isinstance(value, list) else what
        if not isinstance(text, str):
            raise DataError(f"{place} is {type(text).__name__} {text!r}, expected text")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise DataError(f"{place}: {text!a} is not valid Unicode (a lone surrogate)") from None
    return [text.strip() for text in texts if text.strip()]
