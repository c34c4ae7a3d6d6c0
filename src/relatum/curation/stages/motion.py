"""How much a clip moves, and whether it is the camera: dense optical flow between samples, in short sides per second."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ...core.errors import MissingExtra, RecipeError
from ...core.registry import stage
from ...video.frame import Frame
from ..base import Clip, Facts, Track, Video, inside

__all__ = ["Field", "Motion", "MotionWatch"]

STILL = 0.01  # short sides per second: what moves less is still
LEAST = 8  # pixels: frames of a shorter side have no flow
ENLARGED = 64  # pixels: smaller frames are enlarged to this, DIS needs some to make its pyramid of
CELL = 4  # pixels: DIS "fast" works on a quarter of the resolution
AROUND = 5  # cells on each side of the square in which a cell's evidence is gathered
EXPLAINED = 0.5  # of the squared change: what is left along a flow that is believed
BESIDE = 0.7  # the same in the nearest cells alone, so that a wall beside what moves is not taken along
TEXTURED = 0.03  # of the squared gradient: what changes less than a picture with this texture would, stands still
SEEN = 0.5  # levels of 255: a smaller change is rounding
NOISE = 8.0  # levels of 255: a larger change that the flow does not explain is motion all the same, too fast to follow
GUESSES = 32  # camera motions that are tried
CLOSE, CLOSE_SHARE = 0.004, 0.05  # of the short side, and of the motion: farther from the camera's motion is no support for it
BACKED = 0.3  # of the weight of what can be judged: with less support, the camera counts as still


@stage("motion")
@dataclass
class Motion:
    """Optical flow (OpenCV's DIS, preset "fast", Kroeger et al. 2016) on luma between frames `1 / fps` s apart.

    All speeds are in short sides of the frame per second, over the true time between the two frames: free of frame rate and size.
    mean: over pixels and pairs, pairs weighed by their time. median: over pairs, of the median over pixels. still: mean share of
    pixels under .01. camera: mean speed of the camera's motion over the frame; object: of what differs from it, parallax too.
    adjacent_p50, adjacent_p95: percentiles of the mean speed between adjacent frames, `adjacent` pairs a second: what trembles is
    fast there and slow above. None where no pair lies in the clip, or where the shorter side is under 8 pixels.
    Range: 0 to about .3 / time between the frames, .6 a second by default; what is faster reads less (a pan of 1 reads .13), so
    this is good for a least motion, not for a most. A pan of .02 reads .02. Noise of a static clip reads 0 where there is texture
    and at most .002 on a bare wall (.03 between adjacent frames). Light that changes is no motion; nor is the inside of a plain
    thing that moves, of which only the outline tells.

    short: pixels of the shorter side that flow is measured on.
    """

    fps: float = 2.0
    short: int = 128
    adjacent: float = 1.0
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("mean", "median", "still", "camera", "object", "adjacent_p50", "adjacent_p95")
    cheap: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        if not (0 < self.fps < float("inf") and 0 <= self.adjacent < float("inf") and self.short >= ENLARGED):
            raise RecipeError(
                f"motion: expected fps > 0, adjacent >= 0 (0 is off) and short >= {ENLARGED}, "
                f"found {self.fps}, {self.adjacent}, {self.short}"
            )

    @property
    def rate(self) -> float:
        return 0.0

    def watch(self, video: Video) -> MotionWatch:
        return MotionWatch(self)

    def facts(self, track: Track, clip: Clip) -> Facts:
        within = inside(track, clip)
        apart, next_to = within & (track["sampled"] > 0), within & (track["adjacent"] > 0)
        seconds = (track["time"] - track["since"])[apart]
        facts: dict[str, float | None] = dict.fromkeys(self.writes)
        if apart.any():
            for name in ("mean", "still", "camera", "object"):
                facts[name] = float(np.average(track[name][apart], weights=seconds))
            facts["median"] = float(np.median(track["median"][apart]))
        if next_to.any():
            for name, percent in (("adjacent_p50", 50), ("adjacent_p95", 95)):
                facts[name] = float(np.percentile(track["mean"][next_to], percent))
        return facts


COLUMNS = ("mean", "median", "still", "camera", "object")


class MotionWatch:
    """A row for every pair of frames; sampled, adjacent: 1 for what the pair is (both, where samples are one frame apart)."""

    def __init__(self, motion: Motion) -> None:
        self.motion, self.flow = motion, Field()
        self.due = self.due_adjacent = 0.0
        self.sample: tuple[float, np.ndarray] | None = None
        self.previous: tuple[int, float, np.ndarray] | None = None  # a frame whose next one is awaited
        self.rows: list[tuple[float, ...]] = []

    def see(self, frame: Frame) -> None:
        sampled, next_to = frame.seconds >= self.due - 1e-6, self._awaited(frame)
        if not sampled and next_to is None:
            return
        luma, earlier = frame.luma(self.motion.short), []
        if next_to is not None:
            earlier.append((*next_to, 0.0, 1.0))
        if sampled and self.sample is not None:
            if next_to is not None and next_to[0] == self.sample[0]:
                earlier = [(*next_to, 1.0, 1.0)]
            else:
                earlier.insert(0, (*self.sample, 1.0, 0.0))
        if sampled:
            self.sample, self.due = (frame.seconds, luma), _after(frame.seconds, self.motion.fps)
            if self.motion.adjacent and frame.seconds >= self.due_adjacent - 1e-6:
                self.previous = (frame.index, frame.seconds, luma)
                self.due_adjacent = _after(frame.seconds, self.motion.adjacent)
        for since, before, *kinds in earlier:
            if min(luma.shape) >= LEAST:
                self.rows.append((frame.seconds, since, *kinds, *self.flow.speeds(before, luma, frame.seconds - since)))

    def _awaited(self, frame: Frame) -> tuple[float, np.ndarray] | None:
        """The frame just before this one, if it waits for it; one that was lost in between ends the wait."""
        previous, self.previous = self.previous, None
        return previous[1:] if previous is not None and frame.index == previous[0] + 1 else None

    def track(self) -> Track:
        table = np.asarray(self.rows, np.float64).reshape(-1, 4 + len(COLUMNS))
        return dict(zip(("time", "since", "sampled", "adjacent", *COLUMNS), table.T.copy(), strict=True))


def _after(seconds: float, fps: float) -> float:
    """The next point of the grid k / fps."""
    return (np.floor(seconds * fps + 1e-4) + 1) / fps


class Field:
    """Flow between two pictures, what of it is evident, and the camera's part of it.

    DIS makes some flow of anything: on a noisy wall it follows the noise. A cell of 4 x 4 pixels is believed if the flow explains
    its change (the squared change between the pictures, averaged to cells and over 5 x 5 of them, falls below half along the flow);
    with texture and no change it stands still. The rest, walls and skies, moves with the camera, unless noise cannot change it so.
    What changes alike in 5 x 5 cells is light.
    """

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError:
            raise MissingExtra("opencv-python-headless", "video", "measuring motion") from None
        cv2.setNumThreads(1)
        self.cv2: Any = cv2  # its stubs lack the flow
        self.dis = self.cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self.grid = np.zeros((0, 0, 2), np.float32)
        self.camera = _Camera(0, 0)

    def speeds(self, before: np.ndarray, after: np.ndarray, seconds: float) -> tuple[float, ...]:
        """(mean, median, still, camera, object) of two pictures (h w) uint8."""
        short = min(before.shape)
        if short < ENLARGED:
            scale = -(-ENLARGED // short)
            size = (before.shape[1] * scale, before.shape[0] * scale)
            before, after = (self.cv2.resize(f, size, interpolation=self.cv2.INTER_CUBIC) for f in (before, after))
            short *= scale
        flow, known, unclear = self.cells(np.ascontiguousarray(before), np.ascontiguousarray(after))
        camera = self.camera(flow, known, unclear, short)
        flow = np.where(unclear, camera, flow)
        speed, of_camera, of_object = (np.abs(x) / (short * seconds) for x in (flow, camera, flow - camera))
        still = float((speed < STILL).mean())
        return float(speed.mean()), float(np.median(speed)), still, float(of_camera.mean()), float(of_object.mean())

    def cells(self, before: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """By cell: flow in pixels (complex, x + iy), whether it is known, and whether nothing tells it."""
        h, w = before.shape
        if self.grid.shape[:2] != (h, w):
            self.grid = np.dstack(np.meshgrid(np.arange(w, dtype=np.float32), np.arange(h, dtype=np.float32)))
            self.camera = _Camera(h // CELL, w // CELL)
        flow = self.dis.calc(before, after, None)
        led = self.cv2.remap(after, self.grid + flow, None, self.cv2.INTER_LINEAR, borderMode=self.cv2.BORDER_REPLICATE)
        a, b, moved, small = (self._reduced(x) for x in (before, after, led, flow))
        change, left = self._squared(a - b), self._squared(a - moved)
        moves = self._around(left, 3) < BESIDE * self._around(change, 3)
        change, left = self._around(change), self._around(left)
        moves &= (left < EXPLAINED * change) & (change > SEEN**2)
        stands = ~moves & (change < TEXTURED * self._texture(a))
        unclear = ~moves & ~stands & (change < NOISE**2)
        return np.where(stands, 0, small.view(np.complex64)[..., 0]), moves | stands, unclear

    def _reduced(self, picture: np.ndarray) -> np.ndarray:
        h, w = picture.shape[:2]
        small = self.cv2.resize(picture, (w // CELL, h // CELL), interpolation=self.cv2.INTER_AREA)
        return small if picture.ndim == 3 else small.astype(np.float32)

    def _texture(self, a: np.ndarray) -> np.ndarray:
        """Squared gradient in the direction in which there is least: along a lone edge a picture may move unseen."""
        x, y = self.cv2.Sobel(a, -1, 1, 0, scale=1 / 8), self.cv2.Sobel(a, -1, 0, 1, scale=1 / 8)
        xx, yy, xy = self._around(x * x), self._around(y * y), self._around(x * y)
        return xx + yy - np.sqrt((xx - yy) ** 2 + 4 * xy**2)

    def _squared(self, change: np.ndarray) -> np.ndarray:
        """Without what is common to the cells around, which is light that changes."""
        return (change - self._around(change)) ** 2

    def _around(self, values: np.ndarray, size: int = AROUND) -> np.ndarray:
        return self.cv2.blur(values, (size, size))


class _Camera:
    """The camera's motion: shift, turn and zoom, by consensus (MSAC, Torr and Zisserman 2000), then least squares on what agrees.

    With z the place as a complex number, flow = m z + c. Cells weigh by the square of their distance from the middle (the larger
    of both axes'; 1 at the edge), because a background is seen at the edge: a foreground in the middle wins only from 70 % of the
    frame on. Standing still is one of the guesses, and the answer where too little of the frame agrees on anything.
    """

    def __init__(self, h: int, w: int) -> None:
        y, x = np.mgrid[:h, :w].astype(np.float32)
        x, y = x - (w - 1) / 2, y - (h - 1) / 2
        self.place = (x + 1j * y).astype(np.complex64) * CELL
        self.weight = np.maximum(np.abs(x) / max(w / 2, 1), np.abs(y) / max(h / 2, 1)) ** 2
        self.thin = np.zeros((h, w), bool)
        self.thin[::2, ::2] = True
        self.pairs = np.random.default_rng(0).random((2, GUESSES))

    def __call__(self, flow: np.ndarray, known: np.ndarray, unclear: np.ndarray, short: int) -> np.ndarray:
        """(h w) complex: the camera's part of the flow, in pixels."""
        some = known & self.thin
        z, f, weight = self.place[some], flow[some], self.weight[some]
        still, least = np.zeros_like(flow), BACKED * self.weight[(known | unclear) & self.thin].sum()
        if z.size < 3:
            return still
        m, c = self._guesses(z, f, weight)
        gap = f - (m[:, None] * z + c[:, None])
        reach = (CLOSE * short + CLOSE_SHARE * np.abs(f)) ** 2
        backing = np.maximum(1 - (gap.real**2 + gap.imag**2) / reach, 0) @ weight
        best = int(backing.argmax())
        m, c = m[best], c[best]
        for _ in range(2):
            near = np.abs(f - (m * z + c)) ** 2 < reach
            if weight[near].sum() < least:
                return still
            m, c = _least_squares(z[near], f[near], weight[near])
        return m * self.place + c

    def _guesses(self, z: np.ndarray, f: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Motions (m, c): standing still, and through two cells each, drawn by their weights."""
        up_to = np.cumsum(weight)
        i, j = np.searchsorted(up_to, self.pairs * up_to[-1]).clip(0, z.size - 1)
        apart = z[i] - z[j]
        m = (f[i] - f[j]) / np.where(apart == 0, np.inf, apart)
        none = np.zeros(1, m.dtype)
        return np.concatenate([m, none]), np.concatenate([f[i] - m * z[i], none])


def _least_squares(z: np.ndarray, f: np.ndarray, weight: np.ndarray) -> tuple[Any, Any]:
    total = weight.sum()
    at, mean = (weight * z).sum() / total, (weight * f).sum() / total
    spread = (weight * np.abs(z - at) ** 2).sum()
    m = (weight * np.conj(z - at) * (f - mean)).sum() / spread if spread > 0 else 0
    return m, mean - m * at
