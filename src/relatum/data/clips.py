"""Clips with captions as data sets list them, made into rows: what every reader of videos shares, whatever its layout."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

from ..core.draws import key_of
from ..core.errors import DataError
from .refs import shown
from .rows import ImageRef, Row

__all__ = ["Clip", "Draw", "Entry", "Ranges", "captions_of", "list_rows"]

Ranges = Sequence[tuple[int, int]]


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

    shots(): half-open ranges of frames that may be used together, and what is to be said about the clip. lost(): frames that are
    known not to decode.
    """

    @property
    def content(self) -> str: ...

    @property
    def times(self) -> Sequence[float]: ...

    @property
    def duration(self) -> float: ...

    def shots(self) -> tuple[Ranges, Sequence[str]]: ...

    def lost(self) -> Set[int]: ...

    def frame(self, index: int) -> ImageRef: ...


@runtime_checkable
@runtime_checkable
class Draw(Protocol):
    """Makes the rows of an open clip: what they are is its own. skipped: lines that it adds to."""

    def __call__(self, entry: Entry, clip: Clip, shots: Ranges, group: str, skipped: list[str]) -> Iterator[Row]: ...


def list_rows(
    entries: Iterable[Entry],
    open_clip: Callable[[Entry], Clip],
    draw: Draw,
    takes: Callable[[str], bool],
    skip: bool,
    skipped: list[str],
    most_seconds: float = 0.0,
) -> list[Row]:
    """The rows of all clips of groups that it `takes`, clip by clip. A bad clip is an error, or with `skip` a line in `skipped`.

    Clips longer than `most_seconds` (0: any length is fine) are always listed only. Clips of equal content are of one group, the
    first one's, and so are the clips of their recordings that follow.
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
                rows += _rows_of(entry, clip, group, draw, skipped, most_seconds)
        except DataError as error:
            if not skip:
                raise
            skipped.append(str(error))
    return rows


def _rows_of(entry: Entry, clip: Clip, group: str, draw: Draw, skipped: list[str], most_seconds: float) -> Iterable[Row]:
    if most_seconds and clip.duration > most_seconds + 1e-6:
        skipped.append(f"{entry.where}: lasts {clip.duration:.2f} s; clips over max_seconds = {most_seconds:g} are left out")
        return ()
    shots, notes = clip.shots()
    skipped += [f"{entry.where}: {note}" for note in notes]
    if group != entry.group:
        skipped.append(f"{entry.where}: the same content as {shown(group)}; rows of both are of one group")
    return draw(entry, clip, shots, group, skipped)


def _check(entry: Entry) -> None:
    if entry.fault:
        raise DataError(f"{entry.where}: {entry.fault}")
    try:
        entry.name.encode()
    except UnicodeEncodeError:
        raise DataError(f"{entry.where}: the name {entry.name!a} is not UTF-8; rename it") from None
    if not entry.captions and not all(entry.said or [()]):
        raise DataError(f"{entry.where}: no caption (missing or empty)")


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
