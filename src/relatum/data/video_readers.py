"""Reader "videos": a folder of videos with metadata.jsonl or .txt files. Reader "frame_folders": clips as folders of images."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import DataError, RecipeError
from ..core.registry import reader
from ..imaging import SUFFIXES as IMAGES
from ..imaging import size_of
from ..video.opening import SUFFIXES
from .clip_reader import ClipReader
from .clips import Clip, Entry, captions_of
from .footage import Reel, open_footage
from .refs import FileContent, StoredImage, inside, shown
from .tables import read_jsonl, text_of

__all__ = ["FrameFolders", "VideoReader", "Videos", "natural"]


@dataclass
class VideoReader(ClipReader):
    """A ClipReader of video files.

    cuts: look for cuts, so that no pair crosses one; false trusts that every file is a single shot, and decodes nothing at listing.
    index_folder: where time stamps and cuts are kept between runs (a run's cache folder if empty; outside of a run nowhere).
    """

    cuts: bool = field(default=True, kw_only=True)
    index_folder: str = field(default="", kw_only=True)
    _reel: Reel = field(default_factory=Reel, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.cuts and self.on_cut != "split":
            raise RecipeError(
                f"on_cut = {self.on_cut!r} needs to know the cuts, and cuts = false looks for none; take one of them out"
            )

    def open_clip(self, entry: Entry) -> Clip:
        path = inside(Path(self.path), entry.file, entry.where)
        return open_footage(path, self._reel, self.cuts, self.index_folder)


@reader("videos")
@dataclass
class Videos(VideoReader):
    """A folder with metadata.jsonl ({"file_name": ..., "text": a caption or a list of them} a line), or videos with a .txt each.

    A line may name what its clip was cut from as "video": clips of one recording are one group. Several lines of one file add their
    captions. Beside a video, every line of its .txt is a caption; a .txt without a video is a bad row. Paths and links that leave
    the folder are refused. Example: rows = Videos("data/clips", per_video=4).rows()
    """

    def entries(self) -> Iterator[Entry]:
        root = _folder(self.path)
        if (root / "metadata.jsonl").is_file():
            yield from _merged(_described(root / "metadata.jsonl"))
            return
        files = list(_files(root))
        paths = [path for path in files if path.suffix.lower() in SUFFIXES]
        if not paths:
            raise DataError(f"{shown(str(root))}: no metadata.jsonl, and no videos ({', '.join(SUFFIXES)})")
        known = {path.with_suffix(".txt") for path in paths}
        for text in files:
            if text.suffix == ".txt" and text not in known:
                fault = (
                    f"captions without a video: beside it lies no {shown(text.stem)} as {', '.join(SUFFIXES)}; move it elsewhere"
                )
                yield Entry("", shown(str(text)), fault=fault)
        for path in paths:
            yield _beside(root, path, path.with_suffix(".txt"))


@reader("frame_folders")
@dataclass
class FrameFolders(ClipReader):
    """Clips as folders of images, in the natural order of their names ("2.png" before "10.png"), `rate` frames a second.

    Every folder below `path` that holds images is a clip, taken as one shot. Captions: metadata.jsonl ({"file_name": the folder,
    "text": ..., "video": what it was cut from, if anything} a line), or NAME.txt beside the folder NAME.
    """

    rate: float = field(default=25.0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate <= 0:
            raise RecipeError(f"frame_folders: rate is {self.rate}, expected frames a second, above 0")
        if self.on_cut != "split":
            raise RecipeError(f"frame_folders: on_cut = {self.on_cut!r}, but each folder is taken as one shot; take on_cut out")

    def entries(self) -> Iterator[Entry]:
        root = _folder(self.path)
        if (root / "metadata.jsonl").is_file():
            yield from _merged(_described(root / "metadata.jsonl"))
            return
        folders = dict.fromkeys(path.parent for path in _files(root) if path.suffix.lower() in IMAGES and path.parent != root)
        if not folders:
            raise DataError(f"{shown(str(root))}: no metadata.jsonl, and no folders of images")
        for folder in folders:
            yield _beside(root, folder, folder.with_name(f"{folder.name}.txt"))

    def open_clip(self, entry: Entry) -> Clip:
        where = entry.where
        try:
            root, folder = Path(self.path).resolve(), Path(self.path, entry.file).resolve()
        except (OSError, ValueError, RuntimeError) as error:  # name too long, a zero byte, a loop of links
            raise DataError(f"{where}: {error}") from None
        if not folder.is_relative_to(root):
            raise DataError(f"{where}: the path leads out of {shown(str(self.path))}; keep the clips inside the data folder")
        if not folder.is_dir():
            raise DataError(f"{where}: no such folder")
        names = sorted((path.name for path in folder.iterdir() if path.suffix.lower() in IMAGES), key=natural)
        if not names:
            raise DataError(f"{where}: no images in it")
        paths = [inside(root, (folder / name).relative_to(root).as_posix(), f"{where} {shown(name)}") for name in names]
        files = [FileContent(path).read(shown(str(path))) for path in paths]
        each = [hashlib.sha256(file).hexdigest() for file in files]
        return ImageClip(hashlib.sha256(" ".join(each).encode()).hexdigest(), paths, self.rate, _sizes(files))


@dataclass(frozen=True)
class ImageClip:
    """A Clip of image files, `rate` a second, one shot. content: hash of all of them. notes: what is odd about them."""

    content: str
    paths: Sequence[Path]
    rate: float
    notes: Sequence[str] = ()

    @property
    def times(self) -> Sequence[float]:
        return [index / self.rate for index in range(len(self.paths))]

    @property
    def duration(self) -> float:
        return len(self.paths) / self.rate

    def shots(self) -> tuple[Sequence[tuple[int, int]], Sequence[str]]:
        return [(0, len(self.paths))], self.notes

    def lost(self) -> frozenset[int]:
        return frozenset()

    def frame(self, index: int) -> StoredImage:
        return StoredImage(FileContent(self.paths[index]), shown(str(self.paths[index])))


def _sizes(files: Sequence[bytes]) -> list[str]:
    """A line where images are of different sizes, as far as their heads can be read."""
    sizes = Counter[tuple[int, int]]()
    for file in files:
        with suppress(DataError):
            sizes[size_of(file, "")] += 1
    each = ", ".join(f"{width} x {height} ({count})" for (height, width), count in sizes.most_common(4))
    return (
        [f"images of {len(sizes)} sizes: {each}{', ...' if len(sizes) > 4 else ''}; each is cropped by itself"]
        if len(sizes) > 1
        else []
    )


def _folder(path: str | Path) -> Path:
    if not Path(path).is_dir():
        raise DataError(f"{shown(str(path))}: no such folder")
    return Path(path)


def _files(root: Path) -> Iterator[Path]:
    """Files below `root` in the order of their names; folders that are links are not entered, so that loops end."""
    for folder, folders, names in os.walk(root):
        folders.sort(key=natural)
        yield from (Path(folder, name) for name in sorted(names, key=natural))


def natural(name: str) -> list[Any]:
    """A key that sorts "2.png" before "10.png", and "01.png" before "1.png"."""
    parts = [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in re.split(r"(\d+)", name) if part]
    return [*parts, (-1, 0, name)]


def _described(file: Path) -> Iterator[Entry]:
    for line in read_jsonl(file):
        try:
            if line.fault:
                raise DataError(f"{line.where}: {line.fault}")
            name = text_of(line, "file_name")
            captions = captions_of(line.values.get("text"), f"{line.where}: text")
            recording = text_of(line, "video") if line.values.get("video") is not None else ""
            yield Entry(name, f"{line.where} ({shown(name)})", captions, name, recording=recording)
        except DataError as error:
            yield Entry("", line.where, fault=str(error).removeprefix(f"{line.where}: "))


def _merged(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Entries of one name as one, with all their captions. Those that disagree on its recording are a fault."""
    found: dict[str, Entry] = {}
    for entry in entries:
        if entry.fault:
            yield entry
            continue
        known = found.get(entry.name)
        if known and entry.recording and known.recording and entry.recording != known.recording:
            yield replace(entry, fault=f"video is {entry.recording!r}, but {known.where} says {known.recording!r}")
        elif known:
            captions = [*known.captions, *entry.captions]
            found[entry.name] = replace(known, captions=captions, recording=known.recording or entry.recording)
        else:
            found[entry.name] = entry
    yield from found.values()


def _beside(root: Path, path: Path, text: Path) -> Entry:
    name, where = path.relative_to(root).as_posix(), shown(str(path))
    try:
        lines: list[str] = []
        if text.is_file():
            content = inside(root, text.relative_to(root).as_posix(), shown(str(text))).read_bytes().decode("utf-8-sig")
            lines = captions_of(content.split("\n"), where)
        return Entry(name, where, lines, name)
    except UnicodeDecodeError:
        return Entry(name, where, fault=f"{shown(text.name)} is not UTF-8")
    except DataError as error:
        return Entry(name, where, fault=str(error))
