"""Metrics on pixels against the paired target: PSNR and SSIM."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ..core.errors import DataError, ShapeError
from ..core.registry import metric
from ..core.shapes import PerSample, Pixels
from .base import MeanMetric, Samples

__all__ = ["Psnr", "Ssim", "psnr", "same_images", "ssim", "ssim_map"]


def psnr(generated: Pixels, target: Pixels, data_range: float = 2.0) -> PerSample:
    """(b,) peak signal-to-noise ratio in dB, 10 log10(range² / mse) an image; infinite for equal images.

    data_range: 2 for pixels in [-1, 1].
    """
    same_images(generated, target)
    _positive("data_range", data_range)
    error = (generated.double() - target.double()).square().flatten(1).mean(1)
    return (10 * torch.log10(data_range**2 / error)).float()


def ssim(generated: Pixels, target: Pixels, data_range: float = 2.0, window: int = 11, sigma: float = 1.5) -> PerSample:
    """(b,) structural similarity (Wang et al. 2004, eq. 13; Gaussian 11 × 11, σ 1.5, K 0.01 and 0.03), mean over all pixels.

    Images are continued by reflection, as torchmetrics does; the paper's code leaves the border out.
    """
    same_images(generated, target)
    _positive("window", window)
    edge = window // 2
    if min(generated.shape[-2:]) <= edge:
        raise ShapeError(f"SSIM with a window of {window} needs images larger than {edge} pixels, found {tuple(generated.shape)}")
    a, b = (functional.pad(images, (edge, edge, edge, edge), mode="reflect") for images in (generated, target))
    return ssim_map(a, b, data_range, window, sigma).flatten(1).mean(1)


def ssim_map(
    generated: Pixels, target: Pixels, data_range: float = 2.0, window: int = 11, sigma: float = 1.5
) -> Float[Tensor, "b 3 _ _"]:
    """(b 3 h-window+1 w-window+1): the similarity of every window that lies wholly inside the image. In [-1, 1]."""
    same_images(generated, target)
    for name, value in (("data_range", data_range), ("window", window), ("sigma", sigma)):
        _positive(name, value)
    if min(generated.shape[-2:]) < window or window % 2 == 0:
        raise ShapeError(f"SSIM with a window of {window} (odd) needs images of at least that size, found {tuple(generated.shape)}")
    a, b = generated.double(), target.double()
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = _blur(a, window, sigma), _blur(b, window, sigma)
    var_a = (_blur(a * a, window, sigma) - mean_a**2).clamp_min(0)  # rounding can go below; a variance cannot
    var_b = (_blur(b * b, window, sigma) - mean_b**2).clamp_min(0)
    cov = _blur(a * b, window, sigma) - mean_a * mean_b
    similarity = (2 * mean_a * mean_b + c1) * (2 * cov + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return similarity.float()


def _blur(images: Tensor, window: int, sigma: float) -> Tensor:
    """Gaussian-weighted mean of whole windows, each channel by itself."""
    offsets = torch.arange(window, dtype=images.dtype, device=images.device) - window // 2
    weights = torch.exp(-0.5 * (offsets / sigma) ** 2)
    weights = (weights / weights.sum()).reshape(1, 1, 1, -1)
    flat = images.reshape(-1, 1, *images.shape[-2:])
    flat = functional.conv2d(functional.conv2d(flat, weights), weights.transpose(-1, -2))
    return flat.reshape(*images.shape[:2], *flat.shape[-2:])


def _positive(name: str, value: float) -> None:
    if not (value > 0 and math.isfinite(value)):
        raise DataError(f"{name}: found {value}, expected a number above 0")


def same_images(a: Tensor, b: Tensor) -> None:
    """ShapeError or DataError unless both are finite batches of images of one shape."""
    if a.ndim != 4 or b.ndim != 4:
        found = f"{tuple(a.shape)} and {tuple(b.shape)}"
        raise ShapeError(f"expected batches of images (images, channels, height, width), found {found}; one image is image[None]")
    if a.shape != b.shape:
        raise ShapeError(f"generated images have shape {tuple(a.shape)} and the ones compared with {tuple(b.shape)}")
    for name, images in (("generated", a), ("compared", b)):
        if not bool(images.isfinite().all()):
            raise DataError(f"{name} images hold NaN or infinity")


@metric("psnr")
@dataclass
class Psnr(MeanMetric):
    """PSNR in dB of generated against target. Scores above `ceiling` (equal images have infinity) count as `ceiling`."""

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated", "pixels:target"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    ceiling: float = 100.0

    def update(self, samples: Samples) -> None:
        self.keep(samples.ids, psnr(samples.pixels["generated"], samples.pixels["target"]).clamp_max(self.ceiling))


@metric("ssim")
@dataclass
class Ssim(MeanMetric):
    """SSIM of generated against target; `window` is the Gaussian's size in pixels, `sigma` its width."""

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated", "pixels:target"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    window: int = 11
    sigma: float = 1.5

    def update(self, samples: Samples) -> None:
        generated, target = samples.pixels["generated"], samples.pixels["target"]
        self.keep(samples.ids, ssim(generated, target, window=self.window, sigma=self.sigma))
