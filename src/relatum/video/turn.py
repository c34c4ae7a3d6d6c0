"""The turn and mirroring that a video's display matrix asks for, on arrays of pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["Turn", "turn_of"]


@dataclass(frozen=True)
class Turn:
    """Transpose first, then flip rows (up-down) and columns (left-right). odd: an angle that is no right one, not applied."""

    transpose: bool = False
    rows: bool = False
    columns: bool = False
    degrees: int = 0
    odd: int = 0

    def apply(self, pixels: np.ndarray) -> np.ndarray:
        """(h w ...) as shown."""
        if self.transpose:
            pixels = pixels.swapaxes(0, 1)
        if self.rows:
            pixels = pixels[::-1]
        if self.columns:
            pixels = pixels[:, ::-1]
        return np.ascontiguousarray(pixels)


def turn_of(frame: Any) -> Turn:
    """Of a decoded frame. Its display matrix (a b u, c d v, x y w) sends a stored pixel to x' = ax + cy, y' = bx + dy."""
    from av.sidedata.sidedata import Type

    data = frame.side_data.get(Type.DISPLAYMATRIX)
    if data is None:
        return Turn()
    a, b, _, c, d = (int(value) for value in np.frombuffer(data, np.int32, 5))
    degrees = int(frame.rotation)
    if not (a == d == 0 and b and c) and not (b == c == 0 and a and d):
        return Turn(odd=degrees)
    transpose = a == 0
    return Turn(transpose, rows=(b if transpose else d) < 0, columns=(c if transpose else a) < 0, degrees=degrees)
