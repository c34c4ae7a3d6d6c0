"""Which decoded frames are whole: not those that a decoder marks as damaged, and none that were predicted from one."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

__all__ = ["LONGEST_RUN", "whole"]

LONGEST_RUN = 16  # B-frames between two others, the deepest reordering that H.264 and HEVC allow


def whole(decoded: Iterator[tuple[int, Any]], keyframes: Sequence[int], frames: int) -> Iterator[tuple[int, Any]]:
    """Of (index, frame or None for a packet that failed) in order of presentation, those whose pixels can be trusted.

    A damaged picture spoils what is predicted from it: everything up to the next keyframe, and the B-frames just before it.
    A damaged B-frame spoils only the B-frames beside it.
    """
    spoiled = (0, 0)  # half-open, indices
    run: list[tuple[int, Any]] = []
    for index, frame in decoded:
        if frame is None:
            spoiled = _widened(spoiled, index, keyframes, frames)
            continue
        run.append((index, frame))
        if frame.pict_type == _B and len(run) < LONGEST_RUN:
            continue  # what follows it may be what it was predicted from
        if frame.is_corrupt and frame.pict_type != _B:
            spoiled = _widened(spoiled, index, keyframes, frames)
        yield from _kept(run, spoiled)
        run = []
    yield from _kept(run, spoiled)


_B = 3  # AV_PICTURE_TYPE_B


def _widened(spoiled: tuple[int, int], index: int, keyframes: Sequence[int], frames: int) -> tuple[int, int]:
    after = bisect_right(keyframes, index)
    end = keyframes[after] if after < len(keyframes) else frames
    return (min(index, spoiled[0]) if index < spoiled[1] else index, end)


def _kept(run: list[tuple[int, Any]], spoiled: tuple[int, int]) -> Iterator[tuple[int, Any]]:
    start, end = spoiled
    broken = any(frame.is_corrupt for _, frame in run) or (run and start < end and run[0][0] <= start <= run[-1][0])
    for index, frame in run:
        if not frame.is_corrupt and (frame.key_frame or not (broken or start <= index < end)):
            yield index, frame
