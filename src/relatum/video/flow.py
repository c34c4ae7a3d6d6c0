"""Motion between frames: OpenCV's DIS optical flow, warping along it, and where forward and backward flow agree."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import spline_filter1d
from torch import Tensor
from torch.nn import functional

from ..core.errors import MissingExtra, ShapeError

__all__ = ["backward_of", "consistent", "dis_flow", "dis_flows", "motion_edge", "prefilter", "spline_power", "warp"]

SHORT_SIDE = 64  # DIS needs some pixels to make its pyramid of: smaller frames are enlarged first, by a whole factor
LUMA = (0.299, 0.587, 0.114)  # Rec. 601
PAD = 3


def dis_flow(a: Float[Tensor, "c h w"], b: Float[Tensor, "c h w"]) -> Float[Tensor, "2 h w"]:
    """Where every pixel of `a` is in `b`, relative to its own place: x (right) then y (down), in pixels.

    Frames in [-1, 1] of 1 or 3 channels. Dense inverse search (Kroeger et al. 2016) as OpenCV has it, preset "medium", on luma.
    """
    if a.shape != b.shape or a.ndim != 3:
        raise ShapeError(f"expected two frames (channels, height, width) of one shape, found {tuple(a.shape)} and {tuple(b.shape)}")
    return torch.from_numpy(_Estimator()(*_gray(torch.stack([a, b]))))


def dis_flows(video: Float[Tensor, "t c h w"]) -> tuple[Float[Tensor, "steps 2 h w"], Float[Tensor, "steps 2 h w"]]:
    """Flow from every frame to the next, and from every next frame back to it, as of `dis_flow`.

    The newest answers are kept (by the pixels' hash, 256 MB at most): metrics that look at one video share the work.
    """
    gray = _gray(video)
    key = hashlib.blake2b(gray.tobytes(), digest_size=16, person=str(gray.shape).encode()[:16]).digest()
    known = _KEPT.get(key)
    if known is None:
        estimate = _Estimator()
        forward = [estimate(a, b) for a, b in pairwise(gray)]
        backward = [estimate(b, a) for a, b in pairwise(gray)]
        known = _KEPT.put(key, np.stack([np.stack(forward), np.stack(backward)]))
    forward, backward = torch.from_numpy(known.copy())
    return forward, backward


class _Kept:
    """Arrays by key; the ones that were used longest ago go first."""

    def __init__(self, limit: int) -> None:
        self.limit, self.held, self.arrays = limit, 0, OrderedDict[bytes, np.ndarray]()

    def get(self, key: bytes) -> np.ndarray | None:
        if key in self.arrays:
            self.arrays.move_to_end(key)
        return self.arrays.get(key)

    def put(self, key: bytes, array: np.ndarray) -> np.ndarray:
        self.arrays[key] = array
        self.held += array.nbytes
        while self.held > self.limit and self.arrays:
            self.held -= self.arrays.popitem(last=False)[1].nbytes
        return array


_KEPT = _Kept(256 * 2**20)


class _Estimator:
    """DIS on two gray frames (h w) uint8 -> (2 h w) float32."""

    def __init__(self) -> None:
        try:
            import cv2
        except ImportError as error:
            raise MissingExtra("opencv-python-headless", "video", "optical flow") from error
        cv2.setNumThreads(1)
        self.cv2: Any = cv2
        self.dis = self.cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)

    def __call__(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        h, w = a.shape
        scale = -(-SHORT_SIDE // min(h, w))
        if scale > 1:
            a, b = (self.cv2.resize(f, (w * scale, h * scale), interpolation=self.cv2.INTER_CUBIC) for f in (a, b))
        flow = self.dis.calc(np.ascontiguousarray(a), np.ascontiguousarray(b), None)
        if scale > 1:
            flow = self.cv2.resize(flow, (w, h), interpolation=self.cv2.INTER_AREA) / scale
        return np.ascontiguousarray(np.moveaxis(flow, -1, 0), dtype=np.float32)


def _gray(video: Tensor) -> np.ndarray:
    """(t h w) uint8 luma of frames in [-1, 1]."""
    frames = video.detach().float().cpu()
    if frames.shape[1] not in (1, 3):
        raise ShapeError(f"expected frames of 1 or 3 channels, found {frames.shape[1]} in {tuple(frames.shape)}")
    luma = frames[:, 0] if frames.shape[1] == 1 else torch.einsum("c,tchw->thw", torch.tensor(LUMA), frames)
    return ((luma + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).numpy()


def prefilter(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Coefficients of the cubic splines through the pixels: what `warp` reads, for images that are warped more than once."""
    coefficients: np.ndarray = images.numpy()
    for axis in (2, 3):
        coefficients = spline_filter1d(coefficients, 3, axis, output=coefficients.dtype.type, mode="mirror")
    return torch.from_numpy(coefficients)


def warp(
    images: Float[Tensor, "b c h w"], flow: Float[Tensor, "b 2 h w"], order: int = 3, filtered: bool = False
) -> Float[Tensor, "b c h w"]:
    """The images as seen along the flow: out(x) = image(x + flow(x)); beyond the border, the border's pixels.

    order 3: interpolating cubic splines (four bilinear readings of the coefficients, Ruijters et al. 2008), which keep fine detail
    between pixels; 1: bilinear, which blurs. filtered: the images are `prefilter`'s coefficients already.
    """
    x, y = _places(flow)
    if order == 1:
        return _read(images, x, y)
    coefficients = images if filtered else prefilter(images)
    padded = functional.pad(coefficients, (PAD, PAD, PAD, PAD), mode="reflect")
    (left, right, share_x), (up, down, share_y) = _pairs(x + PAD), _pairs(y + PAD)
    upper = share_x * _read(padded, left, up) + (1 - share_x) * _read(padded, right, up)
    lower = share_x * _read(padded, left, down) + (1 - share_x) * _read(padded, right, down)
    return share_y * upper + (1 - share_y) * lower


def _places(flow: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel coordinates (b 1 h w) that the flow leads to, kept inside the image."""
    h, w = flow.shape[-2:]
    x = (torch.arange(w) + flow[:, :1]).clamp(0, w - 1)
    y = (torch.arange(h)[:, None] + flow[:, 1:]).clamp(0, h - 1)
    return x, y


def _pairs(place: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where two linear readings of spline coefficients stand for four, and the weight of the first, for places along one axis."""
    base = place.floor()
    a = place - base
    w0, w1 = (1 - a) ** 3 / 6, (3 * a**3 - 6 * a**2 + 4) / 6
    w3 = a**3 / 6
    first = w0 + w1
    return base - 1 + w1 / first, base + 1 + w3 / (1 - first), first


def _read(images: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Bilinear readings at pixel coordinates (b 1 h w)."""
    h, w = images.shape[-2:]
    grid = torch.cat([x * (2 / max(w - 1, 1)) - 1, y * (2 / max(h - 1, 1)) - 1], 1).movedim(1, -1)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=True)


def consistent(
    flow: Float[Tensor, "b 2 h w"], back: Float[Tensor, "b 2 h w"], order: int = 1
) -> tuple[Bool[Tensor, "b h w"], Bool[Tensor, "b h w"]]:
    """Which pixels come back to themselves, and which stay in view at all.

    flow leads from these frames to others, back from those to these. |flow + back|² < 0.01 (|flow|² + |back|²) + 0.5, back read
    where flow leads (Sundaram et al. 2010, eq. 5). A pixel whose flow leaves the image is neither in view nor consistent.
    """
    h, w = flow.shape[-2:]
    returned = warp(back, flow, order)
    gap = (flow + returned).square().sum(1)
    close = gap < 0.01 * (flow.square().sum(1) + returned.square().sum(1)) + 0.5
    x, y = torch.arange(w) + flow[:, 0], torch.arange(h)[:, None] + flow[:, 1]
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    return close & inside, inside


def motion_edge(flow: Float[Tensor, "b 2 h w"]) -> Bool[Tensor, "b h w"]:
    """Where motion changes abruptly: |∇u|² + |∇v|² > 0.01 |flow|² + 0.002 (Sundaram et al. 2010, eq. 6): there flow errs."""
    slope = torch.zeros_like(flow[:, 0])
    slope[:, :, :-1] += flow.diff(dim=3).square().sum(1)
    slope[:, :-1] += flow.diff(dim=2).square().sum(1)
    return slope > 0.01 * flow.square().sum(1) + 0.002


def backward_of(flow: Float[Tensor, "steps 2 h w"]) -> Float[Tensor, "steps 2 h w"]:
    """Flow from every next frame back, out of the true flow forward: the fixed point of back(x) = -flow(x + back(x)).

    Each pixel starts from its own next motion, so that at the border of two motions it finds its own past. What was hidden in the
    earlier frame has no fixed point; `consistent` finds it out.
    """
    own = torch.cat([flow[1:], flow[-1:]])
    back = -own
    for _ in range(8):
        back = -warp(flow, back, 1)
    return back


def spline_power(flow: Float[Tensor, "b 2 h w"]) -> Float[Tensor, "b h w"]:
    """Share of white noise's variance that `warp` leaves, by pixel: 1 at whole pixels, about 1/2 midway between four."""
    steps = 64
    impulse = np.zeros(65)
    impulse[32] = 1
    coefficients = spline_filter1d(impulse, 3, mode="mirror")
    a = np.arange(steps + 1) / steps
    weights = np.stack([(1 - a) ** 3, 3 * a**3 - 6 * a**2 + 4, 3 * (1 - a) ** 3 - 6 * (1 - a) ** 2 + 4, a**3], 1) / 6
    table = np.array([(np.convolve(coefficients, w[::-1]) ** 2).sum() for w in weights])
    power = torch.from_numpy(table).float()
    phase = ((flow - flow.floor()) * steps).round().long()
    return power[phase[:, 0]] * power[phase[:, 1]]
