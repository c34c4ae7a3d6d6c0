"""How often a safety checker flags what was generated. It looks; no pixel is changed and no sample dropped."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch

from ..core.registry import metric
from ..core.shapes import Pixels
from .base import Estimate, MeanMetric, Samples

__all__ = ["Checker", "SafetyRate", "wilson"]

Checker = Callable[[Pixels], Sequence[bool]]  # pixels (b 3 h w) in [-1, 1] -> one flag an image


def wilson(flagged: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """The interval of Wilson (1927) for a share k/n; never empty at 0 or n. flagged may be a sum of shares. z = 1.96 covers 95 %.

    >>> [round(edge, 4) for edge in wilson(0, 10)]
    [0.0, 0.2775]
    """
    if not 0 <= flagged <= n or n == 0:
        raise ValueError(f"expected 0 <= flagged <= n and n > 0, found {flagged} of {n}")
    share, scale = flagged / n, 1 + z * z / n
    center = (share + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, center - half), min(1.0, center + half)


@metric("safety_rate")
@dataclass
class SafetyRate(MeanMetric):
    """Share of generated images that the checker flags, with its 95 % Wilson interval.

    checker_path: folder or hub id of a StableDiffusionSafetyChecker, opened at the first batch; or set `checker`. Without
    either the rate is NaN, "not measured".
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated"})
    better: ClassVar[Literal["higher", "lower"]] = "lower"

    checker_path: str = ""
    checker: Checker | None = field(default=None, init=False)

    def update(self, samples: Samples) -> None:
        if self.checker is None and self.checker_path:
            from ..pretrained.safety_checker import open_safety_checker

            self.checker = open_safety_checker(self.checker_path)
        pixels = samples.pixels["generated"]
        if self.checker is None:
            flags = torch.full((len(samples),), math.nan)
        else:
            flags = torch.tensor([float(flag) for flag in self.checker(pixels.clone())])
        self.keep(samples.ids, flags)

    def compute(self) -> Estimate:
        known = [flag for flag in self.scores.values() if not math.isnan(flag)]
        if not known:
            return Estimate(math.nan, None, 0, "not measured: no safety checker given")
        flagged, n = int(sum(known)), len(known)
        low, high = wilson(flagged, n)
        share = flagged / n
        return Estimate(
            share,
            math.sqrt(share * (1 - share) / n),
            n,
            f"{flagged} of {n} flagged, 95 % interval {low:.4f} to {high:.4f}",
            low,
            high,
        )
