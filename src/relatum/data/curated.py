"""Reader "curated": pairs of frames, or clips, out of what a curation kept, drawn from the original videos, without an export."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..atomic import make_folder, needs_disk, temporary
from ..core.errors import DataError, RecipeError
from ..core.registry import reader
from ..video.source import Source, opened
from .clip_reader import ClipReader
from .clips import Entry
from .footage import Footage, Reel, open_footage
from .kept import KeptVideo, read_kept
from .refs import shown

__all__ = ["Curated"]


@reader("curated")
@dataclass
class Curated(ClipReader):
    """A run folder of `relatum curate`, or an export of ranges. Each video gives `per_video` pairs (or clips of `frames` frames),
    however many ranges were kept of it, and none that leaves its range. A caption is drawn from the range's by their weights;
    group: the video, or the group that the inputs named for it; facts: as ClipReader's, "video" being the SHA-256 of the file.

    max_seconds is 0, of any length: the clips are short already. index_folder: as of VideoReader; videos in tars are copied there.
    A video that is gone or was changed since is a bad row. Example: rows = Curated("runs/walks", per_video=4).rows()
    """

    max_seconds: float = field(default=0.0, kw_only=True)
    index_folder: str = field(default="", kw_only=True)
    _kept: dict[str, KeptVideo] = field(default_factory=dict, init=False, repr=False)
    _reel: Reel = field(default_factory=Reel, init=False, repr=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.on_cut != "split":
            raise RecipeError(f"curated: on_cut = {self.on_cut!r}, but what was kept holds no cuts; take on_cut out")

    def entries(self) -> Iterator[Entry]:
        self._kept.clear()
        for video in read_kept(Path(self.path)):
            where, fault = shown(video.uri), ""
            said = [clip for clip in video.clips if clip.said]
            silent = [f"the clip from {c.start_s:.2f} to {c.end_s:.2f} s has no caption" for c in video.clips if not c.said]
            if silent and said and self.on_bad_row == "skip":
                self.skipped += [f"{where}: {words}" for words in silent]
                video = replace(video, clips=tuple(said))
            elif silent:
                fault = f"{silent[0]}; give the inputs captions, or the curation a look that writes them"
            self._kept[video.content] = video
            captions = [clip.said for clip in video.clips]
            yield Entry(video.content, where, file=video.path, fault=fault, recording=video.group, said=captions)

    def kept(self, entry: Entry) -> KeptVideo:
        """What was kept of a video that `entries` has given."""
        return self._kept[entry.name]

    def open_clip(self, entry: Entry) -> Footage:
        video = self._kept[entry.name]
        ranges = [(clip.start_pts, clip.end_pts) for clip in video.clips]
        path = _copied(video, self.index_folder) if video.size else Path(video.path)
        footage = open_footage(path, self._reel, folder=self.index_folder, ranges=ranges)
        if footage.content != video.content:
            if video.size:
                path.unlink()
            raise DataError(f"{entry.where}: was changed after it was curated; run relatum curate again")
        return footage


def _copied(video: KeptVideo, folder: str) -> Path:
    """A video out of its tar, as a file that can be decoded from."""
    if not folder:
        raise DataError(f"{shown(video.uri)}: lies in a tar; name an index_folder, where a copy may lie, or unpack the tar")
    path = Path(folder) / "members" / f"{video.content}{Path(video.uri).suffix.lower()}"
    if not path.is_file():
        make_folder(path.parent)
        source = Source(video.uri, Path(video.path), (video.offset, video.size))
        with opened(source, path.parent) as member, needs_disk(path.parent, video.size):
            shutil.copyfile(member, temporary(path))
            os.replace(temporary(path), path)
    return path
