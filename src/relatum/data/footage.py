"""Videos as sources of frames: an index on disk of time stamps and cuts, and frames that are decoded in one pass when needed."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ..atomic import write_text
from ..core.draws import key_of
from ..core.errors import DataError
from ..video import cuts, dissolve, fades, finder, likeness
from ..video.cuts import Cuts, Rules, find_cuts, shots
from ..video.decode import Limits, Timeline, frames_at, read_timeline
from .refs import shown

__all__ = ["INDEX", "Film", "Footage", "Frame", "Reel", "open_footage"]

SEARCH = cuts, dissolve, fades, finder, likeness  # the modules that look for cuts
INDEX = 2  # raise it when time stamps or cuts of the same file may come out otherwise
BYTES = 256 << 20  # decoded frames of one video that are kept at most
KEPT = 2  # videos whose decoded frames are kept; rows lie video by video, so that one is enough for one reader of them


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame of a video: an ImageRef. Asking one for its pixels decodes all wanted frames of its video. time: seconds."""

    film: Film
    index: int
    time: float

    @property
    def where(self) -> str:
        return f"{shown(str(self.film.path))} at {self.time:.2f} s"

    def digest(self) -> str:
        """Of the file's content and the frame's time stamp; decodes nothing."""
        return hashlib.sha256(f"{self.film.content} {self.time:.6f}".encode()).hexdigest()

    def pixels(self, size: int) -> Float[Tensor, "3 size size"]:
        """Center-cropped and resized, float32 in [-1, 1]. DataError if the frame cannot be decoded."""
        found = self.film.reel.frame(self.film, self.index, size)
        if found is None:
            raise DataError(f"{self.where}: the frame cannot be decoded; the file is damaged there")
        return found.float().div_(127.5).sub_(1)


@dataclass(eq=False)
class Film:
    """What the frames of one video share; light, for rows hold one each video. wanted: frames that rows show."""

    path: Path
    content: str
    folder: str
    reel: Reel = field(repr=False)
    wanted: set[int] = field(default_factory=set, repr=False)

    def timeline(self) -> Timeline:
        """From the index, else from the file's packets. DataError if the file is no longer the one that was listed."""
        if _hash(self.path) != self.content:
            raise DataError(f"{shown(str(self.path))}: was changed after it was listed; run the command again")
        return self.read()

    def read(self) -> Timeline:
        """From the index, else from the file's packets."""
        return _stored(self.folder, f"{self.content}-times", lambda: read_timeline(self.path), partial(Timeline, path=self.path))


class Reel:
    """Decoded frames of the last few videos, as bytes at the size asked for. It is not carried along when pickled."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, int], tuple[set[int], dict[int, Any]]] = OrderedDict()

    def frame(self, film: Film, index: int, size: int) -> Any:
        """(3, size, size) uint8, None where it cannot be decoded. One pass over the video for all that is wanted of it.

        Where that is more than BYTES, the part that begins at this frame: for rows in the order of time, one pass all the same.
        """
        key = (film.content, size)
        asked, frames = self._kept.get(key, (set(), {}))
        if index not in asked:
            wanted, most = sorted(film.wanted | asked | {index}), max(BYTES // (3 * size * size), 1)
            wanted = wanted if len(wanted) <= most else wanted[bisect_left(wanted, index) :][:most]
            asked, frames = set(wanted), frames_at(film.timeline(), wanted, size)
        self._kept[key] = asked, frames
        self._kept.move_to_end(key)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return frames.get(index)

    def __getstate__(self) -> dict[str, Any]:
        return {"_kept": OrderedDict()}


@dataclass(frozen=True)
class Footage:
    """An open video: a Clip. cuts: look for cuts by decoding it once; without, all is one shot, and damage shows later.

    ranges: the shots, half-open in units of the file's clock, where somebody has found them already; then nothing is looked for.
    """

    film: Film
    timeline: Timeline = field(repr=False)
    cuts: bool
    ranges: Sequence[tuple[int, int]] = ()

    @property
    def content(self) -> str:
        """SHA-256 of the file."""
        return self.film.content

    @property
    def times(self) -> Sequence[float]:
        return self.timeline.times

    @property
    def duration(self) -> float:
        return self.timeline.duration

    def shots(self) -> tuple[Sequence[tuple[int, int]], Sequence[str]]:
        """Ranges without a cut and without a frame that cannot be decoded, and what is odd about the file."""
        notes = list(self.timeline.notes)
        if self.ranges:
            stamps = self.timeline.stamps
            return [(bisect_left(stamps, start), bisect_left(stamps, stop)) for start, stop in self.ranges], notes
        if not self.cuts:
            return [(0, len(self.times))], notes
        cuts = self._found
        if cuts.failed:
            first = f" (first at {min(cuts.failed_times):.2f} s)" if cuts.failed_times else ""
            notes.append(f"{cuts.failed} of {len(self.times)} frames cannot be decoded{first}")
        return shots(self.timeline, cuts), notes

    def lost(self) -> frozenset[int]:
        """Frames that do not decode, as far as cuts were looked for."""
        looked = self.cuts and not self.ranges
        return frozenset(bisect_left(self.times, second) for second in self._found.failed_times) if looked else frozenset()

    @cached_property
    def _found(self) -> Cuts:
        name = f"{self.content}-cuts-{_settings():x}"
        return _stored(self.film.folder, name, lambda: find_cuts(self.timeline), Cuts)

    def frame(self, index: int) -> Frame:
        self.film.wanted.add(index)
        return Frame(self.film, index, self.times[index])


def open_footage(path: Path, reel: Reel, cuts: bool = True, folder: str = "", ranges: Sequence[tuple[int, int]] = ()) -> Footage:
    """The video at `path`, from its packets or from the index in `folder`. DataError for a file that is no usable video.

    Entries of the index are addressed by the file's content, so that an edited file gets new ones, and a moved file keeps its own.
    """
    film = Film(path, _hash(path), folder, reel)
    return Footage(film, film.read(), cuts, ranges)


def _hash(path: Path) -> str:
    try:
        if path.stat().st_size > Limits().max_bytes:
            read_timeline(path)  # refuses it, before so much is read
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{shown(str(path))}: cannot be read ({error.strerror})") from None


def _settings() -> int:
    """A number that stands for how cuts are looked for: all constants of those modules."""
    return key_of(*((name, repr(value)) for name, value in sorted(_constants().items())), repr(Rules()))


def _constants() -> dict[str, Any]:
    found = {f"{of.__name__}.{name}": value for of in SEARCH for name, value in vars(of).items()}
    return {name: value for name, value in found.items() if (last := name.rpartition(".")[2]).isupper() and last[0] != "_"}


def _stored(folder: str, name: str, make: Callable[[], Any], load: Callable[..., Any]) -> Any:
    """What `make` gave for this name once, without its path; an entry that is damaged or of another version is made again."""
    file = Path(folder) / f"{name}-v{INDEX}.json"
    if folder:
        try:
            return load(**{key: _tuples(value) for key, value in json.loads(file.read_text(encoding="utf-8")).items()})
        except (OSError, ValueError, TypeError, AttributeError):
            pass
    made = make()
    if folder:
        write_text(file, json.dumps({key: value for key, value in dataclasses.asdict(made).items() if key != "path"}))
    return made


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
