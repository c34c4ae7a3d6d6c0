"""Stills of clips as JPEG: set aside while the video is decoded, or sought again where the clips have changed since."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
        data = _jpeg(frame, self.settings)
        self._places[frame.index] = (self._file.tell(), len(data))
        self._times.append(frame.seconds)
        self._file.write(data)

    def track(self) -> Track:
        return {"time": np.array(self._times), "frame": np.array(list(self._places), np.int64)}

    def read(self, frame: int) -> bytes | None:
        if frame not in self._places:
            return None
        offset, size = self._places[frame]
        self._file.seek(offset)
        data = self._file.read(size)
        self._file.seek(0, 2)
        return data

    def close(self) -> None:
        self._file.close()


def stills_of(
    timeline: Timeline, clips: Sequence[Clip], count: int, taken: Track, settings: Stills, spool: Spool | None = None
) -> Mapping[str, Sequence[bytes]]:
    """JPEG stills by clip id, at most `count` each, in order of time: of the frames `taken` in the pass those nearest to where they
    belong, or of a clip that has none of these the frames themselves. What the spool does not hold is sought and decoded; the
    answer is the same with and without it.
    """
    wanted = {clip.id: _chosen(clip, count, timeline.times, taken["frame"]) for clip in clips}
    found = {frame: spool.read(frame) if spool else None for frames in wanted.values() for frame in frames}
    missing = sorted(frame for frame, data in found.items() if data is None)
    if missing:
        with Reader(timeline) as reader:
            for index in missing:
                if (picture := reader.at(index)) is not None:
                    found[index] = _jpeg(reader.frame(index, picture), settings)
    return {clip: [data for frame in frames if (data := found[frame]) is not None] for clip, frames in wanted.items()}


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
