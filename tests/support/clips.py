"""Captioned clips whose frames tell their number, and what a test asks of rows of frame pairs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from relatum.data.rows import Row

from .films import film

__all__ = ["captioned", "number", "pairs", "scene", "tick"]


def tick(index: int, size: int = 32) -> np.ndarray:
    """A plain frame that tells its number, 0 to 99: red 30 + 20 for each ten, blue 30 + 20 for each one."""
    frame = np.full((size, size, 3), 120, np.uint8)
    frame[..., 0], frame[..., 2] = 30 + 20 * (index // 10), 30 + 20 * (index % 10)
    return frame


def number(row: Row, name: str) -> int:
    """Which tick an image of the row shows."""
    red, _, blue = (row.images[name].pixels(8).mean((1, 2)) * 127.5 + 127.5).tolist()
    return 10 * round((red - 30) / 20) + round((blue - 30) / 20)


def scene(seed: int, count: int, size: int = 64) -> list[np.ndarray]:
    """A shot of its own colors: coarse noise that goes round by a pixel a frame, so that its histogram stays."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((size // 8, size // 8, 1), np.uint8))
    return [np.roll(picture, i, axis=1) for i in range(count)]


def captioned(path: Path, frames: list[np.ndarray], caption: str = "a caption", **settings: Any) -> Path:
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return film(path, frames, **settings)


def pairs(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [(row.id, row.facts["source_time"], row.facts["offset"], row.texts["instruction"]) for row in rows]
