"""Dispersive loss: what the network holds of different samples should lie apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from ..core.errors import RecipeError, ShapeError
from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import PerSample

__all__ = ["Dispersive"]


@objective("dispersive")
@dataclass(frozen=True)
class Dispersive:
    """log mean_j exp(-|h_i - h_j|^2 / (D tau)) over the batch of all processes, h the D features of a layer (Wang & He 2025).

    0, the maximum, where all features are equal. It differs from the paper in being one number a sample: the logarithm is taken
    of each sample's own mean, and the others' features are held (with equal means, half of the pairwise form's gradient).
    layer: of the network, by name. Its weight is .5 unless the recipe says otherwise; it goes beside `denoise`. Raises ShapeError
    for a batch of one.
    """

    tau: float = 0.5
    layer: str = "mid_block"
    asks = (MATCHED,)

    def __post_init__(self) -> None:
        if not 0 < self.tau < math.inf:
            raise RecipeError(f"dispersive: tau is {self.tau}, expected a finite number above 0")

    @property
    def advice(self) -> Mapping[str, Any]:
        """What the blend does with this term where the recipe says nothing."""
        return {"weight": 0.5}

    @property
    def features(self) -> tuple[str, ...]:
        return (self.layer,)

    def check_batch(self, size: int, where: str) -> None:
        """RecipeError for a batch of one: there would be nobody to differ from."""
        if size < 2:
            raise RecipeError(f"{where}: takes other samples of the batch; raise train.train_batch_size to 2 or more")

    def __call__(self, outcome: Outcome) -> PerSample:
        held = outcome.matched.features[self.layer].flatten(1).float()
        others = outcome.ranks.gather(held.detach())
        if len(others) < 2:
            raise ShapeError("dispersive needs other samples: the batch has one; use a larger train_batch_size")
        scaled, there = held / held.shape[1] ** 0.5, others / held.shape[1] ** 0.5  # before squaring: stable for large features
        distance = (scaled[:, None] - there[None]).square().sum(2)
        return torch.logsumexp(-distance / self.tau, 1) - math.log(len(others))
