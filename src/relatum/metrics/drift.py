"""How a rollout wears out: statistics of every frame by step, slopes and losses a step, half-lives, the distance to real frames.

What is measured a frame knows no model and no extractor: sharpness, noise, level and contrast. A rollout that holds together
keeps them; one that conditions each frame on its last output feeds its own faults back, and they run away step by step.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import conv2d, cosine_similarity

from ..core.errors import DataError, ShapeError
from ..core.registry import metric
from ..core.shapes import Pixels
from .base import MeanMetric, Samples
from .trends import half_life, theil_sen

__all__ = ["Drift", "correlation", "drift_series", "loss", "noise", "rate", "sharpness", "trend", "wear"]

LUMA = (0.299, 0.587, 0.114)
LEAST = 8  # pixels an edge
ROUNDING = 1e-4  # share of energy that rounding to 8 bits leaves in the upper band of a picture of ordinary contrast
HALF_LEVEL = 0.004  # half of 1/127.5, a gray level of pixels in [-1, 1]
FAINT = 0.1  # std: a quarter of a usual picture's
USUAL = (0.05, 0.007, 0.0025, 0.03)  # a step of real video: upper quartile of the slopes of sharpness, contrast, noise and color


def sharpness(frames: Pixels) -> Float[Tensor, "b"]:
    """(b,) share of the luma's energy above a quarter of the sampling rate, in [0, 1]; NaN for a frame without any contrast.

    Luma Y less its weighted mean, under a periodic Hann window (hy · hx); power |FFT|²; bins with √(fy² + fx²) > 0.25 cycles a
    pixel over all bins. Brightness, contrast and the picture's edges leave it alone. Blur lowers it, noise raises it: read
    `noise` beside it.
    """
    luma = _luma(_checked(frames))
    h, w = luma.shape[-2:]
    hann = (torch.hann_window(n, periodic=True, dtype=torch.float64) for n in (h, w))
    window = torch.outer(*hann)
    centered = luma - ((luma * window).sum((1, 2)) / window.sum())[:, None, None]
    power = torch.fft.fft2(centered * window).abs().square()
    fy, fx = torch.fft.fftfreq(h, dtype=torch.float64), torch.fft.fftfreq(w, dtype=torch.float64)
    upper = (fy[:, None].square() + fx[None, :].square()).sqrt() > 0.25
    total = power.sum((1, 2))
    share = (power * upper).sum((1, 2)) / total
    return torch.where(total > 1e-12 * window.square().sum() * h * w, share, torch.nan)


def noise(frames: Pixels) -> Float[Tensor, "b"]:
    """(b,) standard deviation of white noise in the units of pixels in [-1, 1], estimated within the frame.

    median |I * N| / (0.6745 · 6) over all pixels and channels, with Immerkær's mask N (1996: [1 -2 1; -2 4 -2; 1 -2 1], blind to
    ramps, root of squares 6). The median in place of his mean: edges, in less than half of the pixels, do not count as noise.
    """
    pixels = _checked(frames)
    line = torch.tensor([1.0, -2.0, 1.0], dtype=torch.float64)
    mask = torch.outer(line, line)[None, None]
    rough = conv2d(pixels.flatten(0, 1)[:, None], mask).abs().reshape(len(pixels), -1)
    return torch.from_numpy(np.median(rough.numpy(), axis=1)) / (0.6744897501960817 * 6)


def correlation(frames: Pixels, other: Pixels) -> Float[Tensor, "b"]:
    """(b,) Pearson correlation of two frames' pixels, channels pooled, each about its own mean a channel. In [-1, 1].

    1 for the same picture, blind to level and contrast, about 0 for pictures that have nothing in common. other: the reference.
    0 where it has contrast and the frame has none: all was lost. NaN where the reference has no contrast or holds NaN (no truth
    known).
    """
    a, b = (f.double() - f.double().mean((2, 3), keepdim=True) for f in (frames, other))
    ours, theirs = a.square().sum((1, 2, 3)), b.square().sum((1, 2, 3))
    flat = 1e-9 * a[0].numel()
    found = torch.where(ours <= flat, 0.0, (a * b).sum((1, 2, 3)) / (ours * theirs).sqrt()).clamp(-1, 1)
    return torch.where(theirs > flat, found, torch.nan)


def drift_series(video: Float[Tensor, "t 3 h w"], target: Float[Tensor, "s 3 _ _"] | None = None) -> dict[str, Float[Tensor, "t"]]:
    """Statistics of every frame of one video, pixels in [-1, 1]; frame 0 is the given frame.

    sharpness, noise: as above. mean, std: level and contrast, averaged over the channels. red, green, blue: the channels' means.
    to_first: mean squared difference from frame 0. like_first: `correlation` with it. With target, the true frames at the same
    times (fewer, or frames of NaN, where the truth is not known): error, the mean squared difference from them, and like_truth.
    """
    frames = _checked(video)
    means, deviations = frames.mean((2, 3)), frames.std((2, 3), correction=0)
    first = frames[:1].expand_as(frames)
    series = {
        "sharpness": sharpness(video),
        "noise": noise(video),
        "mean": means.mean(1),
        "std": deviations.mean(1),
        **dict(zip(("red", "green", "blue"), means.unbind(1), strict=True)),
        "to_first": (frames - first).square().mean((1, 2, 3)),
        "like_first": correlation(frames, first),
    }
    if target is not None:
        truth = _truth(target, frames)
        series["error"] = (frames - truth).square().mean((1, 2, 3))
        series["like_truth"] = correlation(frames, truth)
    return series


def trend(series: Mapping[str, Float[Tensor, "t"]]) -> Float[Tensor, "6"]:
    """How fast a video's look changes: Theil-Sen slopes a step over frames 1, 2, ... of its six statistics, in relative units.

    ln(sharpness + 1e-4), ln(std + .004), noise / s, red / s, green / s, blue / s, with s the given frame's std, at least .1: each
    is the change relative to what was given, so that 1 means a factor e or a whole standard deviation. Below 1e-4 and .004, half
    a gray level, rounding to 8 bits rules; a flat frame has sharpness 0 here. NaN below two generated frames.
    """
    return torch.tensor([theil_sen(values[1:]) for values in _relative(series)], dtype=torch.float64)


def loss(series: Mapping[str, Float[Tensor, "t"]]) -> Float[Tensor, "6"]:
    """What became of a video's look by its end, a step: the median of the last quarter of the generated frames (one at least) less
    the given frame, over the number of steps, of the statistics of `trend` and in its units. NaN without generated frames.

    >>> series = {name: torch.full((9,), 1.0) for name in ("sharpness", "std", "noise", "green", "blue")}
    >>> series["red"] = torch.tensor([0.0, 0.5, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8])  # over after two of eight steps
    >>> round(loss(series)[3].item(), 3), trend(series)[3].item()
    (0.1, 0.0)
    """
    steps = len(series["std"]) - 1
    if steps < 1:
        return torch.full((6,), math.nan, dtype=torch.float64)
    last = max(1, steps // 4)
    ends = [float(np.median(values[-last:].numpy())) - float(values[0]) for values in _relative(series)]
    return torch.tensor(ends, dtype=torch.float64) / steps


def wear(series: Mapping[str, Float[Tensor, "t"]], truth: Mapping[str, Float[Tensor, "t"]] | None = None) -> Float[Tensor, "6"]:
    """Of each statistic the larger of |`trend`| and |`loss`|: wear that goes on, and wear that is soon over. NaN as `trend`.

    truth: the series of the true frames at the same steps, whose trend and loss are taken off first.
    """
    parts = [trend(series), loss(series)]
    if truth is not None:
        parts = [parts[0] - trend(truth), parts[1] - loss(truth)]
    return torch.maximum(parts[0].abs(), parts[1].abs())


def rate(slopes: Float[Tensor, "6"]) -> Float[Tensor, ""]:
    """One number of `wear` or `trend`: root mean square of four of them in units of real video's own slopes: .05 a step for
    sharpness, .007 for contrast, .0025 for noise, .03 for color (itself the root mean square over the channels).

    The units are upper quartiles, rounded, of the slopes of 17 real clips of 16 frames at 64 pixels; without them the noisiest
    statistic rules.
    """
    four = torch.stack([*slopes[:3], slopes[3:].square().mean().sqrt()])
    return (four / torch.tensor(USUAL, dtype=four.dtype)).square().mean().sqrt()


def _relative(series: Mapping[str, Tensor]) -> list[Float[Tensor, "t"]]:
    logs = [(series["sharpness"].nan_to_num(0.0) + ROUNDING).log(), (series["std"] + HALF_LEVEL).log()]
    return [*logs, *(series[name] / series["std"][0].clamp_min(FAINT) for name in ("noise", "red", "green", "blue"))]


def _luma(pixels: Tensor) -> Float[Tensor, "b h w"]:
    return (pixels * torch.tensor(LUMA, dtype=pixels.dtype).reshape(1, 3, 1, 1)).sum(1)


def _checked(frames: Tensor) -> Float[Tensor, "b 3 h w"]:
    if frames.ndim != 4 or frames.shape[1] != 3:
        raise ShapeError(f"expected frames (t, 3, height, width) of one video, found {tuple(frames.shape)}")
    if len(frames) == 0 or min(frames.shape[-2:]) < LEAST:
        raise ShapeError(f"drift needs frames of {LEAST} pixels an edge or more, found {tuple(frames.shape)}")
    bad = (~frames.isfinite()).flatten(1).any(1).nonzero().flatten()
    if len(bad):
        raise DataError(f"frame {int(bad[0])} of {len(frames)} holds NaN or infinity ({len(bad)} such frames)")
    return frames.detach().double().cpu()


def _truth(target: Tensor, frames: Tensor) -> Tensor:
    """The true frames, of equal count: NaN where the truth ends early."""
    if target.ndim != 4 or target.shape[1:] != frames.shape[1:]:
        raise ShapeError(
            f"target: expected frames of shape (t, {', '.join(map(str, frames.shape[1:]))}), found {tuple(target.shape)}"
        )
    truth = torch.full_like(frames, math.nan)
    count = min(len(frames), len(target))
    truth[:count] = target[:count].detach().double().cpu()
    return truth


@metric("drift")
@dataclass
class Drift(MeanMetric):
    """How fast a rollout's look changes, by its own frames: `rate` of its `wear`. 0 for a frozen one, near 1 for real video.

    Why this headline. Faults that feed back show as a trend in simple statistics, in either direction: blur and sharpening, fading
    and over-contrast, noise, a creeping tint. A slope of one of them can stand still while another runs away, so all are taken,
    each a step, in the units of real video's own restlessness, and the sign goes. Theil-Sen over the generated frames, because one
    odd frame is no drift; but a rollout that dies within a few steps has no slope after that, so where the loss from the given
    frame to the last quarter, over all steps, is larger, that counts. The step from the given frame to the first output (`jump`:
    that step alone, in the same units) is one step of them. `trend`: the rate of the slopes alone, blind to an early collapse. On
    the 17 clips that gave the units, with made wear of 13 kinds and strengths, it tells worn from real with a mean AUC of .64
    (`trend`, made for wear that goes on: .72; the plain length of the slopes: .61), and puts the worn clip above its own original
    in 81 % (88 %, 75 %). It asks nothing of the truth, so it means the same on anyone's video. What it cannot see: a wrong but
    steady picture (`error_slope`, `truth_half_life`) and a frozen one, which scores 0 (read a metric of motion beside it). Real
    video does not score 0 either: `real` is its own rate at the same steps, the floor to read against; `against_truth` is the rate
    of the difference of both.

    Beside it, by rollout: sharpness_slope, noise_slope, contrast_slope, color_slope (root mean square over the channels), as in
    `trend`; first_half_life, truth_half_life: of the correlation with the given frame and with the true frame, from 1 towards 0,
    with first_censored, truth_censored: 1 where it held to the last step; error_slope: of the mean squared error a step; and with
    clip, an extractor of images and texts: prompt (100 · cos, mean over generated frames), prompt_slope, cosine_slope (of the
    cosine with the given frame). The bootstrap of compare resamples rollouts' sources: a rollout's frames stay together.

    series, a value a frame: sharpness, noise, mean, std, to_first, like_first, error, like_truth, and with clip prompt and
    first_cosine.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"videos:generated"})
    better: ClassVar[Literal["higher", "lower"]] = "lower"
    least_frames: ClassVar[int] = 3
    continues: ClassVar[bool] = True
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {
        "trend": "lower", "jump": "lower", "against_truth": "lower", "error_slope": "lower", "truth_half_life": "higher",
        "truth_censored": "higher", "prompt": "higher", "prompt_slope": "higher",
    }  # fmt: skip

    clip: str = ""

    @property
    def wants(self) -> frozenset[str]:  # type: ignore[override]
        seen = frozenset({"videos:target"})
        return seen | {f"features:{self.clip}:{what}" for what in ("frames:generated", "text:target")} if self.clip else seen

    @property
    def also_extractors(self) -> Mapping[str, str]:
        """Which of the further numbers rest on an extractor."""
        return dict.fromkeys(("prompt", "prompt_slope", "cosine_slope"), self.clip)

    def update(self, samples: Samples) -> None:
        target = samples.videos.get("target")
        for i, name in enumerate(samples.ids):
            video, truth = samples.videos["generated"][i].movedim(0, 1), None if target is None else target[i].movedim(0, 1)
            try:
                self._update_one(name, video, truth)
            except (DataError, ShapeError) as error:
                raise type(error)(f"drift of {name!r}: {error}") from error
        if self.clip:
            self._update_clip(samples)

    def _update_one(self, name: str, video: Tensor, truth: Tensor | None) -> None:
        series = drift_series(video, truth)
        slopes = trend(series)
        relative = torch.stack(_relative(series))
        known = {"": rate(wear(series)), "trend": rate(slopes), "color_slope": slopes[3:].square().mean().sqrt()}
        known |= {f"{what}_slope": slope for what, slope in zip(("sharpness", "contrast", "noise"), slopes, strict=False)}
        known["jump"] = rate(relative[:, 1] - relative[:, 0]) if len(video) > 1 else torch.tensor(math.nan)
        known |= _lives("first", series["like_first"])
        if truth is not None:
            known |= _lives("truth", series["like_truth"]) | {"error_slope": torch.tensor(theil_sen(series["error"][1:]))}
            real = _real(truth)
            own = torch.tensor(math.nan)
            if real:
                # fewer true frames: their wear and ours over the same steps
                ours = {what: values[: len(real["std"])] for what, values in series.items()}
                own, known["against_truth"] = rate(wear(real)), rate(wear(ours, real))
            known["real"] = own
            known.setdefault("against_truth", own)
        for what, value in known.items():
            self.keep([name], value.reshape(1), also=what)
        for what in (name for name in series if name not in ("red", "green", "blue")):
            self.keep_series([name], what, _padded(series[what], len(video))[None])

    def _update_clip(self, samples: Samples) -> None:
        frames = samples.features.get(f"{self.clip}:frames:generated")
        if frames is None:
            return
        frames = frames.detach().double().cpu()
        first = cosine_similarity(frames, frames[:, :1], dim=2)
        self.keep_series(samples.ids, "first_cosine", first)
        self.keep(samples.ids, torch.tensor([theil_sen(values[1:]) for values in first]), also="cosine_slope")
        words = samples.features.get(f"{self.clip}:text:target")
        if words is not None:
            prompt = 100 * cosine_similarity(frames, words.detach().double().cpu()[:, None], dim=2)
            self.keep_series(samples.ids, "prompt", prompt)
            self.keep(samples.ids, prompt[:, 1:].mean(1), also="prompt")
            self.keep(samples.ids, torch.tensor([theil_sen(values[1:]) for values in prompt]), also="prompt_slope")


def _lives(which: str, quality: Tensor) -> dict[str, Tensor]:
    """A rollout without any generated frame, or without known quality, has no half-life."""
    if bool(quality[1:].isnan().all()):
        return {f"{which}_half_life": torch.tensor(math.nan), f"{which}_censored": torch.tensor(math.nan)}
    life = half_life(torch.cat([torch.ones(1, dtype=quality.dtype), quality[1:]]))
    return {f"{which}_half_life": torch.tensor(life.steps), f"{which}_censored": torch.tensor(float(life.censored))}


def _real(truth: Tensor) -> dict[str, Tensor]:
    """Statistics of the true frames up to the first unknown one."""
    unknown = (~truth.isfinite()).flatten(1).any(1).nonzero().flatten()
    count = int(unknown[0]) if len(unknown) else len(truth)
    return drift_series(truth[:count]) if count else {}


def _padded(values: Tensor, length: int) -> Tensor:
    out = torch.full((length,), math.nan, dtype=torch.float64)
    count = min(length, len(values))
    out[:count] = values[:count]
    return out
