"""Whether an edit leaves alone what it was not asked to change, and whether it changed anything at all."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch.nn.functional import max_pool2d

from ..core.errors import DataError
from ..core.registry import metric
from ..core.shapes import Masks, PerSample, Pixels
from .base import MeanMetric, Samples
from .pixels import ssim_map

__all__ = ["Coherence", "changed_region", "masked_mean_square"]


def changed_region(samples: Samples, threshold: float = 0.1) -> Masks:
    """(b 1 h w), 1 where the edit may change pixels: the given mask, else where source and target differ by more than `threshold`
    in any channel (pixels in [-1, 1])."""
    if "changed" in samples.masks:
        return samples.masks["changed"]
    if not {"source", "target"} <= samples.pixels.keys():
        raise DataError('the changed region needs masks "changed", or images "source" and "target" to take it from')
    gap = (samples.pixels["target"] - samples.pixels["source"]).abs()
    return (gap.amax(1, keepdim=True) > threshold).to(gap.dtype)


def masked_mean_square(a: Pixels, b: Pixels, weights: Masks) -> PerSample:
    """(b,) mean of (a - b)² over channels and pixels, weighted by (b 1 h w); NaN where the weights are all 0."""
    error = ((a - b).double().square() * weights).flatten(1).sum(1)
    return (error / (weights.double().flatten(1).sum(1) * a.shape[1])).float()


@metric("coherence")
@dataclass
class Coherence(MeanMetric):
    """Mean SSIM of generated against source over the windows that lie wholly outside the changed region; 1 is untouched.

    Region: the mask "changed", else where source and target differ by more than `threshold`. A sample without such a window is
    undefined. `copied` beside it, the identity-copy detector: 1 where the mean squared change of the source inside the region is
    below `copy` times the change asked for (target against source): a model that copies has perfect coherence and copied = 1.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated", "pixels:source"})
    wants: ClassVar[frozenset[str]] = frozenset({"pixels:target", "masks:changed"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"copied": "lower"}

    window: int = 7
    threshold: float = 0.1
    copy: float = 0.1

    def update(self, samples: Samples) -> None:
        generated, source = samples.pixels["generated"], samples.pixels["source"]
        region = changed_region(samples, self.threshold)
        touched = max_pool2d((region > 0).float(), self.window, stride=1)
        free = 1 - touched
        similarity = ssim_map(generated, source, window=self.window).mean(1, keepdim=True)
        self.keep(samples.ids, (similarity * free).flatten(1).sum(1) / free.flatten(1).sum(1))
        if "target" in samples.pixels:
            made = masked_mean_square(generated, source, region)
            asked = masked_mean_square(samples.pixels["target"], source, region)
            copied = (made < self.copy * asked).float()
            self.keep(samples.ids, torch.where(asked > 0, copied, torch.nan), also="copied")
