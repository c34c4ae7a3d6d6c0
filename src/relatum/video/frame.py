"""One decoded frame as those see it that measure videos: small, upright, in full range, made once whoever asks."""

from __future__ import annotations

import functools
import re
from typing import Any

import numpy as np

from .turn import Turn

__all__ = ["Frame"]

_PLANAR = re.compile(r"(yuva?|yuvj)4\d\dp(9|10|12|14|16)?(le)?|gray(9|10|12|14|16)?(le)?")
_PACKED = {"bgr24": slice(0, 3), "rgb24": slice(2, None, -1), "bgra": slice(0, 3), "bgr0": slice(0, 3), "rgba": slice(2, None, -1)}
_FULL_RANGE, _VIDEO_RANGE = 2, 1  # AVColorRange
_RED_BLUE = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}  # AVColorSpace: BT.709, BT.2020
_SD = (0.299, 0.114)  # BT.601, also where the file does not say


class Frame:
    """A frame of a video, shown at `seconds` from the first one. width, height: as shown.

    `picture` is PyAV's frame; a watch that keeps a Frame keeps all of its pixels. size: (width, height) as shown of the video, for
    a frame whose own size differs from it; None is its own. The arrays are shared by all who ask and are read-only.
    """

    def __init__(self, index: int, seconds: float, picture: Any, turn: Turn, size: tuple[int, int] | None = None) -> None:
        own = (picture.height, picture.width) if turn.transpose else (picture.width, picture.height)
        self.index, self.seconds, self.picture, self.turn = index, seconds, picture, turn
        self.width, self.height = size or own
        self._made: dict[tuple[str, int], np.ndarray] = {}
        self._halves: list[np.ndarray] = []

    def luma(self, short: int) -> np.ndarray:
        """(h w) uint8, 0 black and 255 white: the shorter edge `short`, or as it is in a smaller frame; areas are averaged."""
        key = ("luma", self._least(short))
        if key not in self._made:
            self._keep(key, self.turn.apply(self._luma(key[1])))
        return self._made[key]

    def bgr(self, short: int) -> np.ndarray:
        """(h w 3) uint8, sized as `luma`; planes are shrunk before they become colors, by the matrix that the file names."""
        key = ("bgr", self._least(short))
        if key not in self._made:
            self._keep(key, self.turn.apply(self._bgr(key[1])))
        return self._made[key]

    def _keep(self, key: tuple[str, int], made: np.ndarray) -> None:
        made.flags.writeable = False
        self._made[key] = made

    def _least(self, short: int) -> int:
        return max(min(short, self.width, self.height), 1)

    def _size(self, short: int) -> tuple[int, int]:
        """(width, height) as stored."""
        scale = short / min(self.width, self.height)
        across, down = (max(round(edge * scale), 1) for edge in (self.width, self.height))
        return (down, across) if self.turn.transpose else (across, down)

    def _luma(self, short: int) -> np.ndarray:
        import cv2

        if _bits(self.picture.format) is None:
            return cv2.cvtColor(self._colors(short), cv2.COLOR_BGR2GRAY)
        stored = self._stored_luma(short)
        if not _is_video_range(self.picture):
            return stored.copy()
        return cv2.convertScaleAbs(np.maximum(stored, 16), alpha=255 / 219, beta=-16 * 255 / 219)

    def _bgr(self, short: int) -> np.ndarray:
        import cv2

        picture, bits = self.picture, _bits(self.picture.format)
        if bits is None:
            return self._colors(short)
        if picture.format.name.startswith("gray"):
            return cv2.cvtColor(self._luma(short), cv2.COLOR_GRAY2BGR)
        size = self._size(short)
        chroma = [_eight(_shrunk([_plane(plane, bits)], size), bits) for plane in picture.planes[1:3]]
        matrix = _matrix(int(picture.colorspace), _is_video_range(picture))
        return cv2.transform(cv2.merge([self._stored_luma(short), *chroma]), matrix)

    def _stored_luma(self, short: int) -> np.ndarray:
        """(h w) uint8: as stored in turn and range."""
        key, bits = ("stored", short), _bits(self.picture.format) or 8
        if key not in self._made:
            if not self._halves:
                self._halves.append(_plane(self.picture.planes[0], bits))
            self._made[key] = _eight(_shrunk(self._halves, self._size(short)), bits)
        return self._made[key]

    def _colors(self, short: int) -> np.ndarray:
        """(h w 3) uint8: of formats that are not planes of luma and chroma."""
        import cv2

        size, name = self._size(short), self.picture.format.name
        if name in _PACKED:
            depth = 3 if name in ("bgr24", "rgb24") else 4
            plane = self.picture.planes[0]
            rows = np.frombuffer(plane, np.uint8).reshape(plane.height, abs(plane.line_size))
            pixels = rows[:, : plane.width * depth].reshape(plane.height, plane.width, depth)
            return np.ascontiguousarray(_shrunk([pixels], size)[..., _PACKED[name]])
        if name == "gbrp":
            green, blue, red = (_shrunk([_plane(plane, 8)], size) for plane in self.picture.planes[:3])
            return cv2.merge([blue, green, red])
        return self.picture.to_ndarray(format="bgr24", width=size[0], height=size[1], interpolation="AREA")


@functools.lru_cache(maxsize=64)
def _bits_of(name: str) -> int | None:
    found = _PLANAR.fullmatch(name)
    return None if found is None else next((int(group) for group in found.groups() if group and group.isdigit()), 8)


def _bits(format: Any) -> int | None:
    """Of a sample of planes of luma and chroma, little-endian; None for other formats."""
    return _bits_of(format.name)


def _is_video_range(picture: Any) -> bool:
    """Black is 16 and white 235. Gray is in full range unless it says otherwise, as swscale has it; color is not."""
    if picture.format.name.startswith("gray"):
        return picture.color_range == _VIDEO_RANGE
    return picture.color_range != _FULL_RANGE and not picture.format.name.startswith("yuvj")


@functools.cache
def _matrix(space: int, video_range: bool) -> np.ndarray:
    """(3 4) float64: blue, green and red of luma, blue and red difference and 1, all in levels of 255."""
    red, blue = _RED_BLUE.get(space, _SD)
    green = 1 - red - blue
    from_blue, from_red = 2 * (1 - blue), 2 * (1 - red)
    rows = np.array([[1, from_blue, 0], [1, -blue / green * from_blue, -red / green * from_red], [1, 0, from_red]])
    if video_range:
        rows = rows * (255 / np.array([219, 224, 224]))
    return np.column_stack([rows, -rows @ [16 if video_range else 0, 128, 128]])


def _plane(plane: Any, bits: int) -> np.ndarray:
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    return np.frombuffer(plane, kind).reshape(plane.height, abs(plane.line_size) // np.dtype(kind).itemsize)[:, : plane.width]


def _eight(plane: np.ndarray, bits: int) -> np.ndarray:
    import cv2

    return plane if bits == 8 else cv2.convertScaleAbs(plane, alpha=2.0 ** (8 - bits))


def _shrunk(halves: list[np.ndarray], size: tuple[int, int]) -> np.ndarray:
    """The first of `halves` at `size` (width, height): halved as often as it can be, the rest by linear interpolation.

    halves: of one plane, each half of the one before, as many as were needed so far; this adds those that it makes.
    """
    import cv2

    depth = 0
    while True:
        held = halves[depth]
        down, across = held.shape[0] // 2, held.shape[1] // 2
        if across < size[0] or down < size[1]:
            break
        depth += 1
        if depth == len(halves):
            halves.append(cv2.resize(held[: 2 * down, : 2 * across], (across, down), interpolation=cv2.INTER_AREA))
    return held if held.shape[1::-1] == size else cv2.resize(held, size, interpolation=cv2.INTER_LINEAR)
