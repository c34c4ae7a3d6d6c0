"""Samples gathered into shards, so that a killed run goes on behind the last whole one.

What is written comes in *units*, calls that each make a few samples (those of one video). Shards are closed between units; beside
each lies a note of what it holds.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import make_folder, remove_stale, write_bytes, write_text
from ..core.errors import DataError

__all__ = ["MIB", "Made", "Sample", "Shard", "Unit", "Written", "forget", "write_shards"]

MIB = 2**20
KEY = re.compile(r"[A-Za-z0-9_-]{1,80}")  # a dot would end it, and a tar has room for a hundred characters with the ending
ENDING = re.compile(r"/?[a-z0-9_]+(\.[a-z0-9_]+)*")


@dataclass(frozen=True)
class Sample:
    """files: bytes by ending, "jpg" or "source.jpg" (the image "source"), or "/0001.jpg" (in a folder of the sample's own).

    values: texts, numbers, and lists of either, by column; every sample of a set has the same columns.
    """

    key: str
    files: Mapping[str, bytes]
    values: Mapping[str, Any]

    def name(self, ending: str) -> str:
        return f"{self.key}{ending}" if ending.startswith("/") else f"{self.key}.{ending}"


@dataclass(frozen=True)
class Made:
    """What a unit gives. dropped: how many samples are not there, by reason; notes: what else is to be said, a line each."""

    samples: Sequence[Sample] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()


Unit = Callable[[], Made]


@dataclass(frozen=True)
class Shard:
    """file: within the folder. entries: of the index, as its format has them. units: how many are in this shard and those before.

    dropped, notes: since the shard before.
    """

    file: str
    keys: list[str]
    entries: list[Any]
    units: int
    dropped: dict[str, int]
    notes: list[str]


@dataclass
class Written:
    shards: list[Shard] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)

    @property
    def samples(self) -> int:
        return sum(len(shard.keys) for shard in self.shards)

    def add(self, shard: Shard) -> None:
        self.shards.append(shard)
        self.dropped.update(shard.dropped)
        self.notes += shard.notes


def write_shards(
    units: Sequence[Unit],
    folder: Path,
    last: str,
    seal: Callable[[int, Sequence[Sample]], tuple[str, list[Any]]],
    finish: Callable[[Sequence[Shard]], bytes],
    most_bytes: int,
    most_rows: int,
) -> Written:
    """Shards of at most so many bytes and rows (more only where a single unit has more), then the file `last`.

    seal(number, samples) writes one shard, whole or not at all, and gives its name and entries; finish(shards) the bytes of `last`.
    Called again it goes on, or gives the same once more, as long as the notes beside the shards are there (`forget` removes them).
    DataError for a bad or repeated key, and where the folder holds somebody else's set.
    """
    make_folder(folder)
    remove_stale(folder)
    written = _resumed(folder)
    if (folder / last).exists() and not written.shards:
        raise DataError(f"{folder}: holds a set already ({last}); delete it, or choose another folder")
    keys = {key for shard in written.shards for key in shard.keys}
    held, since, size = list[Sample](), Made(dropped=Counter(), notes=[]), 0
    for number in range(written.shards[-1].units if written.shards else 0, len(units)):
        made = units[number]()
        more = sum(len(data) for sample in made.samples for data in sample.files.values())
        if held and (size + more > most_bytes or len(held) + len(made.samples) > most_rows):
            written.add(_closed(folder, len(written.shards), held, number, since, seal))
            held, since, size = [], Made(dropped=Counter(), notes=[]), 0
        for sample in made.samples:
            _check(sample, keys, folder)
        held, size = [*held, *made.samples], size + more
        since = Made((), Counter(since.dropped) + Counter(made.dropped), [*since.notes, *made.notes])
    if held:
        written.add(_closed(folder, len(written.shards), held, len(units), since, seal))
    else:
        written.dropped.update(since.dropped)
        written.notes += since.notes
    if written.shards:
        write_bytes(folder / last, finish(written.shards))
    return written


def forget(folder: Path) -> None:
    """Removes what lies beside the shards, once nobody goes on with them."""
    for note in folder.glob(".shard-*.json"):
        note.unlink()


def _closed(folder: Path, number: int, held: Sequence[Sample], units: int, since: Made, seal: Callable[..., Any]) -> Shard:
    file, entries = seal(number, held)
    shard = Shard(file, [sample.key for sample in held], entries, units, dict(since.dropped), list(since.notes))
    write_text(_beside(folder, number), json.dumps(asdict(shard)))
    return shard


def _resumed(folder: Path) -> Written:
    """The shards that are whole, as what lies beside them says."""
    written = Written()
    try:
        while (folder / (shard := Shard(**json.loads(_beside(folder, len(written.shards)).read_text("utf-8")))).file).exists():
            written.add(shard)
    except (OSError, ValueError, TypeError):
        pass  # the first that is not there, or cannot be read: from here all is made anew
    return written


def _beside(folder: Path, number: int) -> Path:
    return folder / f".shard-{number:05}.json"


def _check(sample: Sample, keys: set[str], folder: Path) -> None:
    if not KEY.fullmatch(sample.key):
        raise DataError(f"{folder}: the key {sample.key!a} is not of 1 to 80 letters, digits, _ and -, which every reader takes")
    if sample.key in keys:
        raise DataError(f"{folder}: two samples have the key {sample.key}; keys must be unique")
    for ending in sample.files:
        if not ENDING.fullmatch(ending) or len(sample.name(ending)) > 100:
            raise DataError(
                f"{folder}: {sample.name(ending)!a} cannot be a file of a shard (small letters, digits, _ and .; 100 at most)"
            )
    keys.add(sample.key)
