"""Rollouts as the report shows them: all frames of a video in one PNG, played by the page's CSS alone, all columns in step."""

from __future__ import annotations

import base64
import io
import math
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup
from torch import Tensor

from ..core.errors import DataError, ShapeError
from ..imaging import to_uint8
from ..video.write import few_colors, paletted

__all__ = ["Film", "Reel", "Reels", "film_of", "picture", "play", "png_size", "rules", "still", "stills", "turn"]

PNG = b"\x89PNG\r\n\x1a\n"
WIDEST = 16384  # pixels of a sheet: what browsers still draw
PLAYED = 0.88  # share of a turn in which the film runs; then its last frame stays. The style sheet's @keyframes hold the same
STILLS = 9


@dataclass(frozen=True)
class Film:
    """One video. sheet: base64 of a PNG with all frames side by side, the first at the left. width, height: pixels of one frame."""

    frames: int
    fps: float
    width: int
    height: int
    sheet: str

    def __post_init__(self) -> None:
        if self.frames < 1 or not (math.isfinite(self.fps) and 0 < self.fps <= 1000):
            raise DataError(f"a film has 1 frame or more at above 0 and up to 1000 a second; found {self.frames} at {self.fps!r}")
        found, expected = png_size(self.sheet, "a film's sheet"), (self.frames * self.width, self.height)
        if found != expected or min(expected) < 1:
            wanted = f"{self.frames} frames of {self.width} x {self.height} make {expected[0]} x {expected[1]}"
            raise DataError(f"a film's sheet is {found[0]} x {found[1]} pixels, but {wanted}")
        if found[0] > WIDEST:
            raise DataError(f"a film's sheet is {found[0]} pixels wide, browsers draw {WIDEST}; take fewer or smaller frames")


@dataclass(frozen=True)
class Reel:
    """One held-out example: a film a column ("source", "target", an arm's name). Films that move have one length and one rate."""

    id: str
    instruction: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    films: Mapping[str, Film] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len({(film.frames, film.fps) for film in self.films.values() if film.frames > 1}) > 1:
            found = {column: f"{film.frames} frames at {film.fps:g}/s" for column, film in self.films.items()}
            raise DataError(
                f"reel {self.id!r}: films side by side need equal frames and rate; found {found}; cut them to one length"
            )

    @property
    def longest(self) -> Film | None:
        return max(self.films.values(), key=lambda film: film.frames, default=None)


@dataclass(frozen=True)
class Reels:
    """Rows of films under named columns. asked: what stands over the instructions."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Reel, ...]
    note: str = ""
    asked: str = "Instruction"

    def __post_init__(self) -> None:
        for reel in self.rows:
            if unknown := [column for column in reel.films if column not in self.columns]:
                raise DataError(f"reel {reel.id!r}: {unknown[0]!r} is none of the columns {list(self.columns)}")

    @property
    def edge(self) -> int:
        """Width of a film on the page in CSS pixels: a multiple of 64, so that small frames are enlarged evenly."""
        return max(128, min(192, 900 // max(len(self.columns), 1) // 64 * 64))


def film_of(video: Tensor, fps: float) -> Film:
    """The video (t 3 h w), pixels in [-1, 1], without loss; up to 256 colors as a palette, which is a third as large.

    ShapeError for another shape, DataError for values that are not finite or a sheet wider than 16384 pixels.
    """
    from PIL import Image

    if video.ndim != 4 or video.shape[1] != 3 or 0 in video.shape:
        raise ShapeError(f"a film is (t 3 h w) with at least one frame; found shape {tuple(video.shape)}")
    t, _, h, w = video.shape
    if t * w > WIDEST:
        raise DataError(f"{t} frames of {w} pixels side by side pass {WIDEST} pixels; take every second frame, or shrink them")
    sheet, stream = np.concatenate(list(to_uint8(video)), axis=1), io.BytesIO()
    exact = few_colors(sheet)
    image = Image.fromarray(sheet) if exact is None else paletted(*exact)
    image.save(stream, "PNG", optimize=True)
    return Film(t, float(fps), w, h, picture(stream.getvalue()))


def picture(png: bytes) -> str:
    """The bytes of a PNG file as the report holds them."""
    return base64.b64encode(png).decode("ascii")


def png_size(text: str, where: str) -> tuple[int, int]:
    """(width, height) of a PNG in base64. DataError that begins with `where` for anything else."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise DataError(f"{where}: not base64 ({error})") from error
    if data[:8] != PNG or data[12:16] != b"IHDR" or len(data) < 33:
        raise DataError(f"{where}: expected a PNG, found {data[:8]!r}")
    return struct.unpack(">II", data[16:24])


def rules(sections: Sequence[Reels]) -> Markup:
    """One style rule a film, `.f-SECTION-ROW-COLUMN`, so that a sheet is in the page once. Nothing that people named is in it."""
    lines = [
        f'.f-{s}-{r}-{c} {{ background-image: url("data:image/png;base64,{reel.films[column].sheet}"); }}'
        for s, section in enumerate(sections)
        for r, reel in enumerate(section.rows)
        for c, column in enumerate(section.columns)
        if column in reel.films
    ]
    return Markup("\n".join(lines))  # base64 that png_size has checked


def play(film: Film) -> str:
    """The style of an element that plays the film: every frame stays 1 / fps seconds, the last one longer."""
    return f"background-size: {100 * film.frames}% 100%; aspect-ratio: {film.width} / {film.height}; {turn(film, 'film')}".strip()


def turn(film: Film, keyframes: str) -> str:
    """The animation by the style sheet's @keyframes of that name, in step with the film; nothing for a single frame."""
    if film.frames == 1:
        return ""
    return f"animation: {keyframes} {film.frames / film.fps / PLAYED:.4f}s steps({film.frames}, jump-none) infinite;"


def still(film: Film, index: int) -> str:
    """The style of an element that shows one frame."""
    place = 100 * index / (film.frames - 1) if film.frames > 1 else 0.0
    size = f"background-size: {100 * film.frames}% 100%; aspect-ratio: {film.width} / {film.height};"
    return f"{size} background-position: {place:.4f}% 0;"


def stills(film: Film) -> list[int]:
    """Up to 9 frames that stand for the film where nothing moves: the first, the last, and evenly between."""
    return sorted({round(i * (film.frames - 1) / (STILLS - 1)) for i in range(STILLS)})
