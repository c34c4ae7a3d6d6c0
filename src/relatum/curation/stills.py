"""Stills of clips as JPEG: set aside while the video is decoded, or sought again where the clips have changed since."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO

import numpy as np

from ..video.frame import Frame
from ..video.reader import Reader
from ..video.timeline import Timeline
from .base import Clip, Track
from .settings import Stills

__all__ = ["Spool", "stills_of"]


class Spool:
    """Stills of a video in a temporary file, the first frame at or after every `every` seconds, so that memory does not grow with
    the video. Its track says which frames these were."""

    def __init__(self, settings: Stills, folder: Path) -> None:
        self.settings, self._next = settings, -math.inf
        self._file: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._places: dict[int, tuple[int, int]] = {}
        self._times: list[float] = []

    def see(self, frame: Frame) -> None:
        if frame.seconds < self._next - 1e-6:
            return
        self._next = (math.floor(frame.seconds / self.settings.every + 1e-6) + 1) * self.settings.every
        self.add(frame)
        self._times.append(frame.seconds)

    def track(self) -> Track:
        """Of the frames that were seen in the pass; to be asked before any are added."""
        return {"time": np.array(self._times), "frame": np.array(list(self._places), np.int64)}

    def add(self, frame: Frame) -> None:
        data = _jpeg(frame, self.settings)
        self._file.seek(0, 2)
        self._places[frame.index] = (self._file.tell(), len(data))
        self._file.write(data)

    def __contains__(self, frame: int) -> bool:
        return frame in self._places

    def read(self, frame: int) -> bytes:
        offset, size = self._places[frame]
        self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        self._file.close()


def stills_of(
    timeline: Timeline,
    clips: Sequence[Clip],
    count: int,
    taken: Track,
    spool: Spool,
    note: Callable[[str, int], None] = lambda stage, frame: None,
) -> Mapping[str, Sequence[bytes]]:
    """JPEG stills by clip id, at most `count` each, in order of time: of the frames `taken` in the pass those nearest to where they
    belong, or of a clip that has none of these the frames themselves. They are read from the spool when they are asked for, so that
    memory holds those of one clip. What is not there is sought, decoded and added; the answer is the same whatever was there.

    note("stills", frame): called before each that is sought.
    """
    wanted = {clip.id: _chosen(clip, count, timeline.times, taken["frame"]) for clip in clips}
    if missing := sorted({frame for frames in wanted.values() for frame in frames if frame not in spool}):
        with Reader(timeline) as reader:
            for index in missing:
                note("stills", index)
                if (picture := reader.at(index)) is not None:
                    spool.add(reader.frame(index, picture))
    return _Spooled(wanted, spool)


class _Spooled(Mapping[str, Sequence[bytes]]):
    """Stills by clip id, as the spool has their frames."""

    def __init__(self, frames: Mapping[str, Sequence[int]], spool: Spool) -> None:
        self._frames, self._spool = frames, spool

    def __getitem__(self, clip: str) -> Sequence[bytes]:
        return [self._spool.read(frame) for frame in self._frames[clip] if frame in self._spool]

    def __iter__(self) -> Iterator[str]:
        return iter(self._frames)

    def __len__(self) -> int:
        return len(self._frames)


def _chosen(clip: Clip, count: int, times: Sequence[float], taken: np.ndarray) -> list[int]:
    """Frames, ascending, each once: of `taken` the nearest to `count` places evenly in time from the first to the last; one: the
    middle."""
    within = [int(frame) for frame in taken if clip.first <= frame < clip.stop] or list(range(clip.first, clip.stop))
    seconds = np.array([times[frame] for frame in within])
    first, last = times[clip.first], times[clip.stop - 1]
    shares = [0.5] if count == 1 else [i / (count - 1) for i in range(count)]
    return sorted({within[int(np.abs(seconds - (first + share * (last - first))).argmin())] for share in shares})


def _jpeg(frame: Frame, settings: Stills) -> bytes:
    import cv2

    done, data = cv2.imencode(".jpg", frame.bgr(settings.short), [cv2.IMWRITE_JPEG_QUALITY, settings.quality])
    if not done:
        raise ValueError("a still could not be written as JPEG")
    return data.tobytes()
