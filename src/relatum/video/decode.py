"""Frames of a video, by index or in order: 8-bit RGB, upright, each under the time at which it is shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..core.errors import ShapeError
from ..imaging import fit, to_uint8
from .opening import Limits, shown
from .reader import Reader
from .timeline import Timeline, read_timeline

__all__ = ["Limits", "Timeline", "read_timeline", "frames_at", "iterate", "visit", "Reader"]

T = TypeVar("T")


def frames_at(timeline: Timeline, indices: Sequence[int], size: int | None = None) -> dict[int, UInt8[Tensor, "3 _h _w"]]:
    """The frames at `indices` into timeline.times, in one pass that seeks only past keyframes it need not decode.

    size: center-cropped to a square and resized as imaging.fit does; None is as shown. What does not decode, or only from
    damaged frames, is absent from the answer, for the caller to count. The pixels are those of a sequential pass. IndexError
    for an index outside.
    """
    return visit(timeline, indices, lambda reader, index, frame: _sized(reader.rgb(frame), size))


def visit(timeline: Timeline, indices: Iterable[int], use: Callable[[Reader, int, Any], T]) -> dict[int, T]:
    """use(reader, index, PyAV frame) of the frames at `indices`, as `frames_at` finds them."""
    wanted = sorted(set(indices))
    if wanted and not 0 <= wanted[0] <= wanted[-1] < len(timeline.times):
        raise IndexError(
            f"{shown(timeline.path)}: has frames 0 to {len(timeline.times) - 1}; asked for {wanted[0]} to {wanted[-1]}"
        )
    found: dict[int, T] = {}
    if not wanted:
        return found
    with Reader(timeline) as reader:
        for index in wanted:
            if (frame := reader.at(index)) is not None:
                found[index] = use(reader, index, frame)
        sought = reader.sought
    missing = [index for index in wanted if index not in found]
    if missing and sought:  # a decoder may need more than the keyframe; from the beginning it has all there is
        with Reader(timeline, seeks=False) as reader:
            for index in missing:
                if (frame := reader.at(index)) is not None:
                    found[index] = use(reader, index, frame)
    return found


def iterate(timeline: Timeline, size_short: int | None = None, damaged: bool = False) -> Iterator[tuple[int, float, np.ndarray]]:
    """(index, seconds, pixels (h w 3) uint8) of every frame that decodes, in order. damaged: see Reader.

    size_short: the shorter edge of what is given, by area averaging, aspect kept; frames that are smaller stay as they are.
    """
    if size_short is not None and size_short < 1:
        raise ShapeError(f"frames cannot be shrunk to {size_short} pixels; give size_short of 1 or more")
    with Reader(timeline, seeks=False, damaged=damaged) as reader:
        for index, frame in reader.frames():
            yield index, timeline.times[index], reader.rgb(frame, size_short)


def _sized(pixels: np.ndarray, size: int | None) -> UInt8[Tensor, "3 h w"]:
    image = torch.from_numpy(pixels).permute(2, 0, 1)
    if size is None:
        return image.contiguous()
    return torch.from_numpy(to_uint8(fit(image.float().div_(127.5).sub_(1), size))).permute(2, 0, 1).contiguous()
