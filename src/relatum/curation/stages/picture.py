"""What can be seen of a picture without knowing what it shows: exposure, sharpness, black bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...core.errors import RecipeError
from ...core.registry import stage
from ...video.frame import Frame
from ..base import Clip, Facts, Track, Video, inside

__all__ = ["SIDES", "Picture", "PictureWatch", "margins", "sharpness"]

SHORT = 256  # pixels of the shorter side
DARK, BRIGHT = 16, 239  # levels of 255: darker, or brighter, is lost in shadow or burnt out
BLACK = 24  # levels: what a bar does not exceed (the limit of FFmpeg's cropdetect)
LIT = 48  # levels: what stands out from a bar
STRAY = 0.01  # of a line: so much of it may be brighter in a bar
NEAR = 3  # lines beside a bar in which its edge is looked for
EDGE = 0.5  # of the edge's length: so much of it is lit at once, somewhere in the clip
ALONE = 0.25  # of the frame: the widest bar with none at the opposite side
LEFT = 0.2  # of the frame: the narrowest picture between bars, less than an upright one in a wide frame
BLUR = 9  # pixels: the box that blurs again
SIDES = ("top", "bottom", "left", "right")


@stage("picture")
@dataclass
class Picture:
    """Exposure, sharpness and black bars of luma at 256 pixels of the shorter side, on `fps` frames a second.

    luma: mean, 0 (black) to 1 (white). dark, bright: mean shares of the frame under 16 and over 239 of 255. Bars count.
    sharpness: median of `sharpness`, 0 to 1: about .7 for a sharp photograph, .4 blurred by .4 % of the shorter side, .15 by .8 %.
    Free of contrast, so it compares contents; noise reads as detail. Of a large frame it tells what is left at 256 pixels.
    crop: shares of the frame at its top, bottom, left and right that are black bars; bars: share of the area. A bar is what is
    black in all frames of the clip and ends in a straight edge along which at some moment half of the picture is lit: dark
    scenes have no such edge. A bar without one opposite is at most a quarter of the frame; bars leave a fifth.
    Exact to 1/256 of the shorter side.
    Sharpness is None where nothing has an edge; everything is None where no frame lies in the clip.
    """

    fps: float = 1.0
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("luma", "dark", "bright", "sharpness", "bars", "crop")
    cheap: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not 0 < self.fps < float("inf"):
            raise RecipeError(f"picture: expected fps > 0, found {self.fps}")

    @property
    def rate(self) -> float:
        return self.fps

    def watch(self, video: Video) -> PictureWatch:
        return PictureWatch()

    def facts(self, track: Track, clip: Clip) -> Facts:
        within = inside(track, clip)
        if not within.any():
            return dict.fromkeys(self.writes)
        facts: dict[str, float | list[float] | None] = {
            name: float(track[name][within].mean()) for name in ("luma", "dark", "bright")
        }
        sharp = track["sharpness"][within]
        facts["sharpness"] = None if np.isnan(sharp).all() else float(np.nanmedian(sharp))
        crop = [_bar(track[side][within], track[f"{side}_edge"][within]) for side in SIDES]
        for a, b in ((0, 1), (2, 3)):
            if crop[a] + crop[b] > (1 - LEFT if crop[a] and crop[b] else ALONE):
                crop[a] = crop[b] = 0.0
        facts["bars"] = 1 - (1 - crop[0] - crop[1]) * (1 - crop[2] - crop[3])
        facts["crop"] = crop
        return facts


def _bar(widths: np.ndarray, edges: np.ndarray) -> float:
    """Share of the frame of one side's bar: the narrowest margin, if some frame shows its edge. widths: NaN in black frames."""
    if np.isnan(widths).all():
        return 0.0
    width = float(np.nanmin(widths))
    at = widths <= width + 1 / SHORT
    return width if edges[at].max() >= EDGE else 0.0


class PictureWatch:
    """Of every frame: exposure, sharpness, and of each side its black margin (share of the frame) and the lit share of its edge."""

    COLUMNS = ("time", "luma", "dark", "bright", "sharpness", *SIDES, *(f"{side}_edge" for side in SIDES))

    def __init__(self) -> None:
        self.rows: list[tuple[float, ...]] = []

    def see(self, frame: Frame) -> None:
        import cv2

        luma = frame.luma(SHORT)
        counts = cv2.calcHist([luma], [0], None, [256], [0, 256]).ravel().astype(np.float64) / luma.size
        exposure = (float(counts @ np.arange(256)) / 255, float(counts[:DARK].sum()), float(counts[BRIGHT + 1 :].sum()))
        widths, edges = margins(luma)
        h, w = luma.shape
        inner = luma if widths is None else luma[widths[0] : h - widths[1], widths[2] : w - widths[3]]
        shares = [float("nan")] * 4 if widths is None else [k / n for k, n in zip(widths, (h, h, w, w), strict=True)]
        self.rows.append((frame.seconds, *exposure, sharpness(inner), *shares, *edges))

    def track(self) -> Track:
        table = np.asarray(self.rows, np.float64).reshape(-1, len(self.COLUMNS))
        return dict(zip(self.COLUMNS, table.T.copy(), strict=True))


def sharpness(luma: np.ndarray) -> float:
    """Share of the gradients' energy that one more blur takes away, 0 (nothing: blurred already) to 1; NaN without gradients.

    Least over both axes of Σ max(|d| - |d'|, 0)² / Σ d², d the differences of neighbors along the axis and d' those after a box of
    9 pixels along it. 1 minus the blur metric of Crete et al. 2007 (SPIE 6492), with squares instead of absolute values, so that
    edges weigh more than noise.
    """
    import cv2

    found = []
    for x in (np.ascontiguousarray(luma), np.ascontiguousarray(luma.T)):
        if x.shape[1] < 2:
            continue
        again = cv2.blur(x, (BLUR, 1))
        d, e = cv2.absdiff(x[:, 1:], x[:, :-1]), cv2.absdiff(again[:, 1:], again[:, :-1])
        energy = cv2.norm(d, cv2.NORM_L2SQR)
        if energy > 0:
            found.append(cv2.norm(cv2.subtract(d, e), cv2.NORM_L2SQR) / energy)
    return float(min(found, default=float("nan")))


def margins(luma: np.ndarray) -> tuple[list[int] | None, list[float]]:
    """Black lines at (top, bottom, left, right), None where all are; and the lit share of each one's edge, 0 without a margin."""
    import cv2

    seen = (luma > BLACK).view(np.uint8)
    lines, columns = (cv2.reduce(seen, axis, cv2.REDUCE_AVG, dtype=cv2.CV_32F).ravel() > STRAY for axis in (1, 0))
    if not lines.any() or not columns.any():
        return None, [0.0] * 4
    widths = [int(np.argmax(x)) for x in (lines, lines[::-1], columns, columns[::-1])]
    top, bottom, left, right = widths
    lit = luma[top : len(lines) - bottom, left : len(columns) - right] > LIT
    near = (lit[:NEAR].mean(1), lit[-NEAR:].mean(1), lit[:, :NEAR].mean(0), lit[:, -NEAR:].mean(0))
    return widths, [float(share.max()) if width else 0.0 for share, width in zip(near, widths, strict=True)]
