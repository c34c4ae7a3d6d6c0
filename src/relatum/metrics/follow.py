"""What pixels do against their own neighbors in time, read along the flow: the sums behind `motion_flicker`."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, uniform_filter1d
from torch import Tensor
from torch.nn.functional import max_pool2d

from ..video.flow import consistent, dis_flow, motion_edge, prefilter, spline_power, warp

__all__ = ["BLURRED_NOISE", "Follower", "blur", "fastest_motion", "grain", "spectrum", "twin_floor", "typical_motion"]

BLUR = 1.0  # pixels, of the pre-blur
MARGIN = 2  # pixels at the border that are not measured
TWINS = 8  # frames whose motion-only twins are measured, evenly spaced
WINDOW = 17  # pixels, in which structure is told from grain
LUMA = torch.tensor([0.299, 0.587, 0.114])  # Rec. 601


def _gaussian(levels: Tensor, sigma: float) -> Tensor:
    low = levels.numpy()
    for axis in (-2, -1):
        low = gaussian_filter1d(low, sigma, axis, mode="mirror", truncate=4.0)
    return torch.from_numpy(low)


def blur(levels: Tensor) -> Tensor:
    """Gaussian of 1 pixel over (.. h w), continued by reflection."""
    return _gaussian(levels, BLUR)


def _noise_left(sigma: float) -> float:
    """Share of white noise's variance that a blur leaves."""
    line = np.zeros(65)
    line[32] = 1
    return float((gaussian_filter1d(line, sigma, truncate=4.0) ** 2).sum() ** 2)


BLURRED_NOISE = _noise_left(BLUR)  # 0.0796


def grain(levels: Tensor, low: Tensor) -> Tensor:
    """(t h w) true where a frame shows nothing but grain: coarse detail (blurred by 2 pixels) is no stronger than three times what
    white noise with this fine detail would have, within 17 x 17 pixels. No motion can be seen there, so none is assumed.

    The mean over a frame and its neighbors decides. Frames (t c h w) and the same pre-blurred.
    """
    weights = LUMA if levels.shape[1] == 3 else torch.ones(1)
    luma, soft = (torch.einsum("c,tchw->thw", weights, frames) for frames in (levels, low))
    coarse, fine = _gaussian(luma, 2.0), luma - soft
    spread = _mean(coarse.square()) - _mean(coarse).square()
    line = np.zeros((33, 33))
    line[16, 16] = 1
    left = float(((line - gaussian_filter1d(gaussian_filter1d(line, BLUR, 0), BLUR, 1)) ** 2).sum())
    surplus = spread - 3 * _noise_left(2.0) / left * _mean(fine.square())
    return torch.from_numpy(uniform_filter1d(surplus.numpy(), 3, axis=0, mode="nearest")) < 0.1


def _mean(values: Tensor) -> Tensor:
    out = values.numpy()
    for axis in (-2, -1):
        out = uniform_filter1d(out, min(WINDOW, out.shape[axis]), axis, mode="nearest")
    return torch.from_numpy(out)


class Follower:
    """Sums over pixels, frame by frame. Frames come in pieces, so that long videos fit in memory."""

    def __init__(self) -> None:
        self.full: list[Tensor] = []  # (t c c): second moments of the residual over channels, over the pixels used
        self.blurred: list[Tensor] = []  # the same, pre-blurred
        self.counts: list[Tensor] = []  # (t 5): pixels used, followed, in view, all; and the power of noise that warping keeps
        self.steps: list[Tensor] = []  # (t 3): sums of (I - A)(B - I), (I - A)², (B - I)² over the pixels used
        self.lost: list[Tensor] = []  # the same, not warped, over the pixels in view that cannot be followed
        self.moved: list[Tensor] = []  # masks (t h w): used, and followed by the flow itself

    def add(self, levels: Tensor, low: Tensor, forward: Tensor, back: Tensor, plain: Tensor) -> None:
        """n + 2 frames (t c h w), where they are grain, and the n + 1 flows between them both ways, for the n frames within."""
        middle = low[1:-1]
        plain = plain[1:-1]
        to_last, good_a, seen_a = _sides(back[:-1], forward[:-1], plain)
        to_next, good_b, seen_b = _sides(forward[1:], back[1:], plain)
        both = torch.cat([levels, low], 1)
        knots = prefilter(both)
        last, following = warp(knots[:-2], to_last, filtered=True), warp(knots[2:], to_next, filtered=True)
        good, seen, c = good_a & good_b, seen_a & seen_b, levels.shape[1]
        used = _inner(good, motion_edge(to_last) | motion_edge(to_next)) & _clear(to_last) & _clear(to_next)
        rest = (both[1:-1] - (last + following) / 2) * used[:, None]
        self.full.append(_moments(rest[:, :c]))
        self.blurred.append(_moments(rest[:, c:]))
        kept = (spline_power(to_last) + spline_power(to_next)) * used
        self.counts.append(torch.stack([_total(x) for x in (used, good, seen, torch.ones_like(used), kept)], 1))
        self.steps.append(_products(middle - last[:, c:], following[:, c:] - middle, used))
        self.lost.append(_products(middle - low[:-2], low[2:] - middle, seen & ~good))
        self.moved.append(used & ~plain)


def _sides(flow: Tensor, back: Tensor, plain: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Flow to one neighbor, where it is consistent, and where it stays in view; at rest where it is neither, over mere grain."""
    good, seen = consistent(flow, back)
    rest = plain & ~good
    return flow * ~rest[:, None], good | rest, seen | rest


def typical_motion(forward: Tensor, back: Tensor, plain: Tensor) -> float:
    """Median |flow| in pixels a frame; mere `grain` (t h w) is at rest."""
    return _sides(forward, back, plain[:-1])[0].square().sum(1).sqrt().median().item()


def fastest_motion(forward: Tensor, back: Tensor, plain: Tensor) -> float:
    """Mean over frame pairs of the mean |flow| of the fastest 5 % of the pixels, in pixels a frame; mere `grain` is at rest."""
    speed = _sides(forward, back, plain[:-1])[0].square().sum(1).sqrt().flatten(1)
    return speed.topk(max(1, int(speed.shape[1] * 0.05)), dim=1).values.mean().item()


def _products(first: Tensor, second: Tensor, mask: Tensor) -> Tensor:
    pairs = ((first, second), (first, first), (second, second))
    return torch.stack([_total((x * y).sum(1) * mask) for x, y in pairs], 1)


def _total(values: Tensor) -> Tensor:
    return values.flatten(1).double().sum(1)


def _clear(flow: Tensor) -> Tensor:
    """Where pixel and goal lie so far inside that the pre-blur took nothing from beyond the border; all, in very small frames."""
    h, w = flow.shape[-2:]
    if min(h, w) <= 8 * MARGIN:
        return torch.ones(len(flow), h, w, dtype=torch.bool)
    x, y = torch.arange(w), torch.arange(h)[:, None]
    inner = (x >= MARGIN) & (x < w - MARGIN) & (y >= MARGIN) & (y < h - MARGIN)
    to_x, to_y = x + flow[:, 0], y + flow[:, 1]
    return inner & (to_x >= MARGIN) & (to_x <= w - 1 - MARGIN) & (to_y >= MARGIN) & (to_y <= h - 1 - MARGIN)


def _inner(good: Tensor, edge: Tensor) -> Tensor:
    """Without the 2 pixels beside one that cannot be followed or where two motions meet: the flow errs there, and pre-blur and
    splines have mixed both sides. Frames of which a tenth of the followed pixels would not be left keep the edges of motion."""
    inner, apart = (max_pool2d(x.float()[:, None], 2 * MARGIN + 1, 1, MARGIN)[:, 0] == 0 for x in (~good, ~good | edge))
    enough = apart.flatten(1).sum(1) >= 0.1 * good.flatten(1).sum(1)
    return torch.where(enough[:, None, None], apart, inner)


def _moments(rest: Tensor) -> Tensor:
    """(t c c) sums over pixels of products of channels."""
    flat = rest.flatten(2).double()
    return flat @ flat.mT


def twin_floor(blurred: Tensor, forward: Tensor, back: Tensor, used: Tensor, known: bool) -> float:
    """F of the motion-only twins: frame t between itself moved to t - 1 and to t + 1 along the flow, pre-blurred.

    The flow of the twin is estimated anew, as the video's was, unless the true one is known. used: pixels (t-2 h w).
    """
    middles = np.unique(np.linspace(1, len(blurred) - 2, min(TWINS, len(blurred) - 2)).round().astype(int))
    here = torch.from_numpy(middles)
    low = blurred[here]
    knots = prefilter(low)
    last, following = (
        warp(knots, forward[here - 1], filtered=True),
        warp(knots, back[here], filtered=True),
    )  # frame t's pixels, where t - 1 and t + 1 had them
    if not known:
        sides = [torch.stack([dis_flow(*pair) for pair in zip(_unit(low), _unit(s), strict=True)]) for s in (last, following)]
        to_last, to_next = sides
    else:
        to_last, to_next = back[here - 1], forward[here]
    rest = low - (warp(last, to_last) + warp(following, to_next)) / 2
    good = used[here - 1][:, None].expand_as(rest)
    return math.sqrt(2 / 3 * rest[good].double().square().mean().item()) if bool(good.any()) else 0.0


def _unit(levels: Tensor) -> Tensor:
    return levels / 127.5 - 1


def spectrum(low: Tensor, forward: Tensor, back: Tensor) -> tuple[float, float]:
    """Top-quarter share and mean frequency of the power along trajectories from frame 0 that are consistent throughout."""
    h, w = low.shape[-2:]
    place, alive = torch.zeros(1, 2, h, w), torch.ones(h, w, dtype=torch.bool)
    series = [low[0]]
    for t in range(len(forward)):
        good = consistent(forward[t][None], back[t][None])[0].float()[:, None]
        alive &= warp(good, place, 1)[0, 0] > 0.99
        place = place + warp(forward[t][None], place, 1)
        series.append(warp(low[t + 1][None], place)[0])
    values = torch.stack(series)[:, :, alive].flatten(1).double()
    if values.shape[1] == 0:
        return math.nan, math.nan
    time = torch.arange(len(values), dtype=torch.float64)[:, None] - (len(values) - 1) / 2
    values = values - values.mean(0) - time * (time * values).sum(0) / time.square().sum()
    window = torch.hann_window(len(values) + 2, periodic=False, dtype=torch.float64)[1:-1, None]
    power = torch.fft.rfft(values * window, dim=0).abs().square().mean(1)
    frequencies = torch.fft.rfftfreq(len(values), dtype=torch.float64)
    if power.sum() <= 1e-12:
        return math.nan, math.nan
    share = power / power.sum()
    return float(share[frequencies >= 0.375].sum()), float((share * frequencies).sum())
