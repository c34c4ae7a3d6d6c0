"""A video read forward: whole frames under their indices, seeking where that is sooner, and as upright RGB. Needs no torch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from .damage import LONGEST_RUN, whole
from .frame import Frame
from .opening import Limits, open_video, packets_of
from .timeline import Timeline
from .turn import Turn, turn_of

__all__ = ["Reader"]

SEEK_COST = 4  # frames: a keyframe this near is reached sooner by decoding on


class Reader:
    """An open video that is read forward. faults: packets that did not decode. sought: whether it has ever jumped ahead.

    Frames come in the order of their times; one that comes late or repeats is left out. damaged: give also the frames that
    the decoder marks as damaged, and those predicted from them, which may be gray or smeared.
    """

    def __init__(self, timeline: Timeline, seeks: bool = True, damaged: bool = False) -> None:
        self.timeline, self.seeks, self.damaged = timeline, seeks and timeline.seekable, damaged
        self.faults, self.sought = 0, False
        self._index = {stamp: i for i, stamp in enumerate(timeline.stamps)}
        self._opened: Any = None
        self._held: tuple[int, Any] | None = None
        self._target: int | None = None
        self._skips = False
        self._upright: Turn | None = None

    def __enter__(self) -> Reader:
        self._start()
        from av.video.reformatter import VideoReformatter

        self._shaper = VideoReformatter()  # one for all frames: setting it up costs as much as converting a small frame
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
        self._target = index
        for found, frame in self._frames:
            if found >= index:
                self._held = (found, frame)
                return frame if found == index else None
        return None

    def frame(self, index: int, frame: Any) -> Frame:
        """A PyAV frame as measures see it."""
        return Frame(index, self.timeline.times[index], frame, self.turn(frame), (self.timeline.width, self.timeline.height))

    def turn(self, frame: Any) -> Turn:
        """One for the whole video, as its frame size is: that of the first frame asked about."""
        if self._upright is None:
            self._upright = turn_of(frame)
        return self._upright

    def rgb(self, frame: Any, size_short: int | None = None) -> np.ndarray:
        """(h w 3) uint8, upright. A frame whose size changes within the file is scaled to the timeline's."""
        from av.video.reformatter import Interpolation

        turn = self.turn(frame)
        width, height = self.timeline.width, self.timeline.height
        if size_short is not None and size_short < min(width, height):
            short = min(width, height)
            width, height = (max(round(edge * size_short / short), 1) for edge in (width, height))
        if turn.transpose:
            width, height = height, width
        how = Interpolation.AREA if (width, height) != (frame.width, frame.height) else Interpolation.BILINEAR
        if frame.format.components[0].bits > 8:  # without it, 10 bits lose 2 levels
            how |= Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT
        shaped = self._shaper.reformat(frame, format="rgb24", width=width, height=height, interpolation=how, threads=1)
        return turn.apply(shaped.to_ndarray())

    def _start(self) -> None:
        self._opened = open_video(self.timeline.path, Limits(max_bytes=2**63, max_megapixels=self._megapixels()))
        self._container, self._stream = self._opened.__enter__()
        self._skips = False
        self._position, self._floor, self._turn = -1, 0, -1
        self._frames = self._whole(packets_of(self._container, self._stream))

    def _megapixels(self) -> float:
        return self.timeline.width * self.timeline.height / 1e6 + 1

    def _seek(self, key: int) -> None:
        """Go to keyframe `key`; where the file's own index leads past it, go on decoding from the beginning."""
        import av.error

        self.sought, stamps, by_order = True, self.timeline.stamps, self.timeline.by_order
        for aim in (stamps[key], stamps[max(key - LONGEST_RUN, 0)]):  # a container that seeks by decoding time lands a little late
            packets, first = packets_of(self._container, self._stream), None
            with contextlib.suppress(av.error.FFmpegError):
                self._container.seek(aim, stream=self._stream)
                first = next(packets, None)
            landed = None if first is None else first.dts if by_order else first.pts
            if landed is not None and (landed == stamps[key] if by_order else landed <= stamps[key]):
                self._position, self._floor, self._turn = key - 1, key, key - 1
                self._frames = self._whole(packets, first)
                return
        self.seeks = False
        self._opened.__exit__(None, None, None)
        self._start()

    def _whole(self, packets: Iterator[Any], first: Any = None) -> Iterator[tuple[int, Any]]:
        decoded = self._decoded(packets, first)
        if self.damaged:
            return ((index, frame) for index, frame in decoded if frame is not None)
        return whole(decoded, self.timeline.keyframes, len(self.timeline.times))

    def _decoded(self, packets: Iterator[Any], first: Any = None) -> Iterator[tuple[int, Any]]:
        """Frames under their indices, ascending; None for a packet that failed, under the index that it should have had."""
        import av.error

        while True:
            packet, first, fault = first, None, None
            try:
                packet = packet or next(packets, None)
                if packet is not None and packet.size == 0 and packet.dts is not None:
                    continue  # a frame that was dropped in recording; to the decoder it would say that the film is over
                if self._target is not None and packet is not None:
                    self._hasten(packet, self._target)
                frames = packet.decode() if packet is not None else []
            except av.error.FFmpegError:
                frames, fault = [], self._failed(packet)
            if fault is not None and fault >= self._floor:
                self.faults += 1
                yield fault, None
            for frame in frames:
                index = self._place(frame)
                if index is not None and index > self._position and index >= self._floor:
                    self._position = index
                    yield index, frame
            if packet is None:
                return

    def _hasten(self, packet: Any, target: int) -> None:
        """Not decoding frames that lie well before the target and that no other frame is predicted from."""
        index = self._index.get(packet.pts, len(self._index))
        skips = not self.timeline.by_order and index + LONGEST_RUN < target
        if skips != self._skips:
            self._skips = skips
            self._stream.codec_context.skip_frame = "NONREF" if skips else "DEFAULT"

    def _place(self, frame: Any) -> int | None:
        if self.timeline.by_order:
            self._turn += 1
            return self._turn if self._turn < len(self.timeline.times) else None
        return self._index.get(frame.pts)

    def _failed(self, packet: Any) -> int:
        if self.timeline.by_order:
            self._turn += 1
            return self._turn
        return self._position + 1 if packet is None else self._index.get(packet.pts, self._position + 1)
