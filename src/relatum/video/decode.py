"""Frames of a video, by index or in order: 8-bit RGB, upright, each under the time at which it is shown."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..core.errors import ShapeError
from ..imaging import fit, to_uint8
from .opening import Limits, open_video, shown
from .timeline import Timeline, read_timeline
from .turn import turn_of

__all__ = ["Limits", "Timeline", "read_timeline", "frames_at", "iterate", "Reader"]

SEEK_COST = 4  # frames: a keyframe this near is reached sooner by decoding on


def frames_at(timeline: Timeline, indices: Sequence[int], size: int | None = None) -> dict[int, UInt8[Tensor, "3 _h _w"]]:
    """The frames at `indices` into timeline.times, in one pass that seeks only past keyframes it need not decode.

    size: center-cropped to a square and resized as imaging.fit does; None is as shown. What cannot be decoded is absent from
    the answer, for the caller to count. The pixels are those of a sequential pass. IndexError for an index outside.
    """
    wanted = sorted(set(indices))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < len(timeline.times):
        raise IndexError(
            f"{shown(timeline.path)}: has frames 0 to {len(timeline.times) - 1}; asked for {wanted[0]} to {wanted[-1]}"
        )
    found: dict[int, Tensor] = {}
    if not wanted:
        return found
    with Reader(timeline) as reader:
        for index in wanted:
            if (frame := reader.at(index)) is not None:
                found[index] = _sized(reader.rgb(frame), size)
        sought = reader.sought
    missing = [index for index in wanted if index not in found]
    if missing and sought:  # a decoder may need more than the keyframe; from the beginning it has all there is
        with Reader(timeline, seeks=False) as reader:
            for index in missing:
                if (frame := reader.at(index)) is not None:
                    found[index] = _sized(reader.rgb(frame), size)
    return found


def iterate(timeline: Timeline, size_short: int | None = None) -> Iterator[tuple[int, float, np.ndarray]]:
    """(index, seconds, pixels (h w 3) uint8) of every frame that decodes, in order.

    size_short: the shorter edge of what is given, by area averaging, aspect kept; frames that are smaller stay as they are.
    """
    if size_short is not None and size_short < 1:
        raise ShapeError(f"frames cannot be shrunk to {size_short} pixels; give size_short of 1 or more")
    with Reader(timeline, seeks=False) as reader:
        for index, frame in reader.frames():
            yield index, timeline.times[index], reader.rgb(frame, size_short)


class Reader:
    """An open video that is read forward. faults: packets that did not decode. sought: whether it has ever jumped ahead.

    Frames come in the order of their times; one that comes late, repeats, or is marked as damaged by its decoder is left out.
    """

    def __init__(self, timeline: Timeline, seeks: bool = True) -> None:
        self.timeline, self.seeks = timeline, seeks and timeline.seekable
        self.faults, self.sought = 0, False
        self._index = {stamp: i for i, stamp in enumerate(timeline.stamps)}
        self._opened: Any = None
        self._held: tuple[int, Any] | None = None

    def __enter__(self) -> Reader:
        self._start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.__exit__(kind, error, trace)

    def frames(self) -> Iterator[tuple[int, Any]]:
        """(index, PyAV frame) from here to the end."""
        return self._frames

    def at(self, index: int) -> Any | None:
        """The frame at `index`, which must not lie before an earlier one asked for; None where it does not decode."""
        if self._held is not None and self._held[0] >= index:
            return self._held[1] if self._held[0] == index else None
        key = self.timeline.keyframe_before(index)
        if self.seeks and key is not None and key > self._position + SEEK_COST:
            self._seek(key)
        for found, frame in self._frames:
            if found >= index:
                self._held = (found, frame)
                return frame if found == index else None
        return None

    def rgb(self, frame: Any, size_short: int | None = None) -> np.ndarray:
        """(h w 3) uint8, upright. A frame whose size changes within the file is scaled to the timeline's."""
        turn = turn_of(frame)
        width, height = self.timeline.width, self.timeline.height
        if size_short is not None and size_short < min(width, height):
            short = min(width, height)
            width, height = (max(round(edge * size_short / short), 1) for edge in (width, height))
        if turn.transpose:
            width, height = height, width
        resized = (width, height) != (frame.width, frame.height)
        return turn.apply(frame.to_ndarray(format="rgb24", width=width, height=height, interpolation="AREA" if resized else None))

    def _start(self) -> None:
        self._opened = open_video(self.timeline.path, Limits(max_bytes=2**63, max_megapixels=self._megapixels()))
        self._container, self._stream = self._opened.__enter__()
        self._position, self._floor = -1, 0
        self._frames = self._decoded(self._container.demux(self._stream))

    def _megapixels(self) -> float:
        return self.timeline.width * self.timeline.height / 1e6 + 1

    def _seek(self, key: int) -> None:
        """Go to keyframe `key`; where the file's own index leads past it, go on decoding from the beginning."""
        import av.error

        stamp, self.sought = self.timeline.stamps[key], True
        packets, first = self._container.demux(self._stream), None
        with contextlib.suppress(av.error.FFmpegError):
            self._container.seek(stamp, stream=self._stream)
            first = next(packets, None)
        if first is not None and first.pts is not None and first.pts <= stamp:
            self._position, self._floor = key - 1, key
            self._frames = self._decoded(packets, first)
        else:
            self.seeks = False
            self._opened.__exit__(None, None, None)
            self._start()

    def _decoded(self, packets: Iterator[Any], first: Any = None) -> Iterator[tuple[int, Any]]:
        import av.error

        while True:
            try:
                packet = first or next(packets, None)
            except av.error.FFmpegError:
                self.faults += 1
                return
            first = None
            if packet is None:
                return
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.faults += 1
                continue
            for frame in frames:
                index = self._index.get(frame.pts)
                if index is None or index <= self._position or index < self._floor or frame.is_corrupt:
                    continue
                self._position = index
                yield index, frame


def _sized(pixels: np.ndarray, size: int | None) -> UInt8[Tensor, "3 h w"]:
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    if size is None:
        return image.contiguous()
    return torch.from_numpy(to_uint8(fit(image.float().div_(127.5).sub_(1), size))).permute(2, 0, 1).contiguous()
