"""Pictures for text_area.py, drawn from a seed: textures that are no text but look like it to a gradient, and captions on busy
backgrounds with the boxes of their lines.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

__all__ = ["Caption", "TEXTURES", "captions", "compressed", "natural", "textures"]

SIZES = ((426, 240), (640, 360), (854, 480), (1280, 720), (360, 640), (480, 480))
WORDS = (
    "WHAT HAPPENED",
    "the",
    "news",
    "tonight",
    "WEATHER",
    "in",
    "Paris",
    "24",
    "how to fold",
    "paper",
    "live from",
    "our",
    "3:45 pm",
)
FONTS = (
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "LiberationSansNarrow-Bold.ttf",
    "LiberationSerif-Italic.ttf",
)


@dataclass(frozen=True)
class Caption:
    """picture: (h w 3) RGB. boxes: x, y, width, height of each line's ink, ascenders and descenders with it. style: in words."""

    picture: np.ndarray
    boxes: tuple[tuple[float, float, float, float], ...]
    style: str
    height: float

    @property
    def area(self) -> float:
        mask = np.zeros(self.picture.shape[:2], np.uint8)
        for x, y, w, h in self.boxes:
            mask[max(int(y), 0) : max(int(np.ceil(y + h)), 0), max(int(x), 0) : max(int(np.ceil(x + w)), 0)] = 1
        return float(mask.mean())


def natural(rng: np.random.Generator, width: int, height: int, contrast: float = 1.0) -> np.ndarray:
    """Noise whose amplitude falls with frequency as photographs' does, shadows, a few flat shapes with hard edges."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = 1 / np.maximum(np.hypot(fy, fx), 1 / max(width, height)) ** rng.uniform(0.9, 1.5)
    planes = []
    for _ in range(3):
        phase = np.exp(2j * np.pi * rng.random(amplitude.shape))
        plane = np.fft.irfft2(amplitude * phase, (height, width))
        planes.append(plane / max(plane.std(), 1e-9))
    shared = planes[0]
    picture = (
        np.stack([rng.uniform(70, 170) + contrast * 38 * (0.8 * shared + 0.4 * p) for p in planes], -1)
        .clip(0, 255)
        .astype(np.uint8)
    )
    for _ in range(rng.integers(0, 9)):
        color = tuple(int(v) for v in rng.integers(0, 256, 3))
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        axes = tuple(int(v) for v in rng.integers(4, max(min(width, height) // 3, 5), 2))
        cv2.ellipse(picture, center, axes, float(rng.uniform(0, 180)), 0, 360, color, -1, cv2.LINE_AA)
    return np.ascontiguousarray(picture)


def _shade(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Uneven light, blur and noise, as a camera adds."""
    height, width = picture.shape[:2]
    y, x = np.mgrid[:height, :width]
    light = 1 + rng.uniform(-0.3, 0.3) * (x / width - 0.5) + rng.uniform(-0.3, 0.3) * (y / height - 0.5)
    picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(0.4, 1.0) * min(width, height) / 360 + 0.1)
    return (picture * light[..., None] + rng.normal(0, 3, picture.shape)).clip(0, 255).astype(np.uint8)


def _pair(rng: np.random.Generator) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two colors of a fair contrast in luma."""
    while True:
        a, b = rng.integers(0, 256, 3), rng.integers(0, 256, 3)
        if abs(a.mean() - b.mean()) > 60:
            return tuple(int(v) for v in a), tuple(int(v) for v in b)


def _warp(rng: np.random.Generator, picture: np.ndarray, most: float) -> np.ndarray:
    """Seen at an angle: a random perspective; the margin is cut off by the caller's larger canvas."""
    h, w = picture.shape[:2]
    corners = np.array([[0, 0], [w, 0], [w, h], [0, h]], np.float32)
    moved = corners + (rng.uniform(-most, most, (4, 2)) * [w, h]).astype(np.float32)
    return cv2.warpPerspective(picture, cv2.getPerspectiveTransform(corners, moved), (w, h), borderMode=cv2.BORDER_REFLECT)


def fence(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    dark, light = _pair(rng)
    picture = np.full((height, width, 3), dark, np.uint8) if rng.random() < 0.5 else natural(rng, width, height, 0.5)
    short = min(width, height)
    period = rng.uniform(0.015, 0.12) * short
    top, bottom = (0, height) if rng.random() < 0.4 else sorted(rng.uniform(0.1, 0.95, 2) * height)
    for x in np.arange(rng.uniform(0, period), width, period):
        cv2.rectangle(picture, (int(x), int(top)), (int(x + period * 0.45), int(bottom)), light, -1)
    for share in (0.2, 0.8)[: rng.integers(0, 3)]:
        y = int(top + share * (bottom - top))
        cv2.rectangle(picture, (0, y), (width, y + max(int(period * 0.4), 1)), light, -1)
    return _shade(rng, _warp(rng, picture, 0.12))


def foliage(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    picture = natural(rng, width, height, 0.4)
    short = min(width, height)
    for _ in range(rng.integers(600, 3000)):
        size = rng.uniform(0.004, 0.05) * short
        color = tuple(int(v) for v in np.clip(np.array([60, 110, 40]) * rng.uniform(0.2, 2.0) + rng.normal(0, 12, 3), 0, 255))
        center = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        cv2.ellipse(
            picture, center, (max(int(size), 1), max(int(size * 0.4), 1)), rng.uniform(0, 180), 0, 360, color, -1, cv2.LINE_AA
        )
    return _shade(rng, picture)


def windows(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    dark, light = _pair(rng)
    picture = np.full((height, width, 3), light, np.uint8)
    short = min(width, height)
    px, py = rng.uniform(0.04, 0.2, 2) * short
    fill = rng.uniform(0.4, 0.8, 2)
    for y in np.arange(rng.uniform(0, py), height, py):
        for x in np.arange(rng.uniform(0, px) if rng.random() < 0.1 else 0, width, px):
            color = tuple(int(v) for v in np.clip(np.array(dark) + rng.normal(0, 25, 3), 0, 255))
            cv2.rectangle(picture, (int(x), int(y)), (int(x + px * fill[0]), int(y + py * fill[1])), color, -1)
            if rng.random() < 0.5 and px > 10:
                cv2.line(picture, (int(x + px * fill[0] / 2), int(y)), (int(x + px * fill[0] / 2), int(y + py * fill[1])), light, 1)
    return _shade(rng, _warp(rng, picture, 0.15))


def brick(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    mortar, stone = _pair(rng)
    picture = np.full((height, width, 3), mortar, np.uint8)
    h = rng.uniform(0.02, 0.09) * min(width, height)
    for row, y in enumerate(np.arange(0, height, h)):
        for x in np.arange(-(row % 2) * 1.2 * h, width, 2.4 * h):
            color = tuple(int(v) for v in np.clip(np.array(stone) + rng.normal(0, 14, 3), 0, 255))
            cv2.rectangle(picture, (int(x), int(y)), (int(x + 2.15 * h), int(y + 0.78 * h)), color, -1)
    return _shade(rng, _warp(rng, picture, 0.1))


def grass(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    picture = natural(rng, width, height, 0.3)
    short = min(width, height)
    for _ in range(rng.integers(800, 4000)):
        x, y, length = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(0.02, 0.15) * short
        color = tuple(int(v) for v in np.clip(np.array([80, 130, 50]) * rng.uniform(0.3, 1.8), 0, 255))
        tip = (int(x + rng.normal(0, 0.3) * length), int(y - length))
        cv2.line(picture, (int(x), int(y)), tip, color, int(rng.integers(1, max(short // 150, 2) + 1)), cv2.LINE_AA)
    return _shade(rng, picture)


def crowd(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    picture = natural(rng, width, height, 0.4)
    size = rng.uniform(0.015, 0.07) * min(width, height)
    for y in np.arange(0.1 * height, height, 1.6 * size):
        for x in np.arange(rng.uniform(0, size), width, 2.2 * size):
            at = np.array([x, y]) + rng.normal(0, 0.3 * size, 2)
            shirt = tuple(int(v) for v in rng.integers(0, 256, 3))
            skin = tuple(int(v) for v in np.clip(np.array([200, 150, 120]) * rng.uniform(0.4, 1.2), 0, 255))
            cv2.ellipse(
                picture,
                (int(at[0]), int(at[1] + 1.3 * size)),
                (max(int(size), 1), max(int(size), 1)),
                0,
                0,
                360,
                shirt,
                -1,
                cv2.LINE_AA,
            )
            cv2.circle(picture, (int(at[0]), int(at[1])), max(int(size * 0.55), 1), skin, -1, cv2.LINE_AA)
    return _shade(rng, picture)


def branches(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    picture = natural(rng, width, height, 0.3) // 2 + 110
    short = min(width, height)

    def grow(x: float, y: float, angle: float, length: float, thick: float) -> None:
        if length < 0.02 * short:
            return
        tip = (x + length * np.cos(angle), y + length * np.sin(angle))
        cv2.line(picture, (int(x), int(y)), (int(tip[0]), int(tip[1])), (40, 32, 28), max(int(thick), 1), cv2.LINE_AA)
        for turn in (-0.5, 0.4):
            grow(*tip, angle + turn + rng.normal(0, 0.2), length * rng.uniform(0.6, 0.85), thick * 0.65)

    for _ in range(rng.integers(2, 6)):
        grow(
            rng.uniform(0, width),
            height,
            -np.pi / 2 + rng.normal(0, 0.2),
            rng.uniform(0.15, 0.3) * height,
            rng.uniform(0.01, 0.03) * short,
        )
    return _shade(rng, picture)


def checkerboard(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    dark, light = _pair(rng)
    y, x = np.mgrid[:height, :width]
    size = max(rng.uniform(0.01, 0.1) * min(width, height), 1.5)
    odd = ((x // size + y // size) % 2).astype(bool)
    return _shade(rng, _warp(rng, np.where(odd[..., None], np.uint8(light), np.uint8(dark)), rng.choice([0.0, 0.15])))


def stripes(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    dark, light = _pair(rng)
    y, x = np.mgrid[:height, :width]
    angle, size = rng.uniform(0, np.pi), max(rng.uniform(0.01, 0.08) * min(width, height), 2)
    on = np.sin((x * np.cos(angle) + y * np.sin(angle)) * np.pi / size) > rng.uniform(-0.5, 0.5)
    return _shade(rng, np.where(on[..., None], np.uint8(light), np.uint8(dark)))


def noise(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    coarse = rng.normal(
        128, rng.uniform(20, 80), (max(height // int(rng.integers(1, 6)), 1), max(width // int(rng.integers(1, 6)), 1), 3)
    )
    return cv2.resize(coarse.clip(0, 255).astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


TEXTURES: dict[str, Callable[[np.random.Generator, int, int], np.ndarray]] = {
    f.__name__: f for f in (fence, foliage, windows, brick, grass, crowd, branches, checkerboard, stripes, noise, natural)
}


def textures(seed: int, count: int) -> Iterator[tuple[str, np.ndarray]]:
    """`count` pictures of each texture, of all sizes."""
    for name, draw in TEXTURES.items():
        for i in range(count):
            rng = np.random.default_rng([seed, sum(name.encode()), i])
            yield name, draw(rng, *SIZES[i % len(SIZES)])


def _font(rng: np.random.Generator, size: int) -> Any:
    try:
        return ImageFont.truetype(FONTS[rng.integers(len(FONTS))], size)
    except OSError:
        return ImageFont.load_default(size)


def captions(seed: int, count: int) -> Iterator[Caption]:
    """Lines of words: 4 to 16 % of the shorter edge high, plain, outlined, with a shadow, on a box or a band, some letterboxed."""
    names = list(TEXTURES)
    for i in range(count):
        rng = np.random.default_rng([seed, 7, i])
        width, height = SIZES[i % len(SIZES)]
        short = min(width, height)
        behind = (
            natural(rng, width, height) if rng.random() < 0.6 else TEXTURES[names[rng.integers(len(names))]](rng, width, height)
        )
        style = ("plain", "outline", "shadow", "box", "band", "letterbox")[rng.integers(6)]
        yield _caption(rng, behind, style, max(int(short * np.exp(rng.uniform(np.log(0.04), np.log(0.16)))), 9))


def _caption(rng: np.random.Generator, behind: np.ndarray, style: str, size: int) -> Caption:
    height, width = behind.shape[:2]
    font, lines = _font(rng, size), []
    for _ in range(rng.integers(1, 4)):
        words: list[str] = []
        for _ in range(rng.integers(1, 8)):
            if font.getlength(" ".join([*words, word := WORDS[rng.integers(len(WORDS))]])) < 0.94 * width:
                words.append(word)
        lines.append(" ".join(words) or "live")
    tall = int(1.25 * size)
    x0, y0 = rng.uniform(0.02, 0.1) * width, (rng.uniform(0.03, 0.2) if rng.random() < 0.3 else rng.uniform(0.6, 0.95)) * height
    y0 = float(np.clip(y0, 4, max(height - tall * len(lines) - 6, 4)))
    light = rng.random() < 0.75
    color = tuple(int(v) for v in (rng.integers(200, 256, 3) if light else rng.integers(0, 50, 3)))
    if rng.random() < 0.2:
        color = (255, 230, 40) if light else (150, 10, 20)
    under = (10, 10, 10) if light else (245, 245, 245)
    canvas = Image.fromarray(behind)
    draw = ImageDraw.Draw(canvas)
    middle = rng.random() < 0.6
    place = []
    for k, line in enumerate(lines):
        x = (width - font.getlength(line)) / 2 if middle else x0
        place.append((x, y0 + k * tall))
    if style == "plain":  # legible: dark behind light
        veil = Image.new("RGB", canvas.size, under)
        canvas = Image.blend(canvas, veil, 0.55)
        draw = ImageDraw.Draw(canvas)
    spans = [draw.textbbox(at, line, font=font) for at, line in zip(place, lines, strict=True)]
    if style in ("band", "letterbox"):
        draw.rectangle((0, y0 - size * 0.3, width, y0 + tall * len(lines) + size * 0.3 if style == "band" else height), fill=under)
    elif style == "box":
        for a, b, c, d in spans:
            draw.rectangle((a - size * 0.3, b - size * 0.2, c + size * 0.3, d + size * 0.2), fill=under)
    for (x, y), line in zip(place, lines, strict=True):
        if style == "shadow":
            draw.text((x + max(size // 14, 1), y + max(size // 14, 1)), line, font=font, fill=under)
        draw.text(
            (x, y), line, font=font, fill=color, stroke_width=max(size // 12, 1) if style == "outline" else 0, stroke_fill=under
        )
    boxes = tuple((a, b, c - a, d - b) for a, b, c, d in spans)
    return Caption(np.asarray(canvas).copy(), boxes, style, size / min(width, height))


def compressed(picture: np.ndarray, crf: int) -> np.ndarray:
    """The picture as the last of five frames of H.264."""
    height, width = picture.shape[0] // 2 * 2, picture.shape[1] // 2 * 2
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream: Any = output.add_stream("libx264", rate=25, options={"crf": str(crf), "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for _ in range(5):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")))
        output.mux(stream.encode(None))
    file.seek(0)
    with av.open(file) as source:
        return [frame.to_ndarray(format="rgb24") for frame in source.decode(video=0)][-1]
