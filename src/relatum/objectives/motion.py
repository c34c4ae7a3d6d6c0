"""Denoising errors that look at motion: what frames have in common counts less, or what moves counts more."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from ..core.errors import RecipeError
from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import PerSample
from .residuals import anchor_frames, residual

__all__ = ["MotionWeighted", "TemporalResidual"]


@objective("temporal_residual")
@dataclass(frozen=True)
class TemporalResidual:
    """mean (sqrt(beta^2 + 1) r - beta r_a)^2, r prediction minus truth and r_a that of an anchor frame drawn at random: the
    appearance-debiased temporal loss of MotionDirector (Zhao et al. 2023), which takes truth and prediction through that map.

    An error that all frames share counts (sqrt(beta^2 + 1) - beta)^2 of what it does in MSE: .17 for beta = 1. The source adds it
    to the denoising error. Shots that cuts and repeated frames part have an anchor each.
    """

    beta: float = 1.0
    asks = (MATCHED,)
    needs_clips = True

    def __post_init__(self) -> None:
        if not 0 <= self.beta < float("inf"):
            raise RecipeError(f"temporal_residual: beta is {self.beta}, expected a finite number, 0 or more")

    def __call__(self, outcome: Outcome) -> PerSample:
        anchors, r = anchor_frames(outcome), residual(outcome)
        there = r.gather(2, anchors[:, None, :, None, None].expand_as(r))
        return ((self.beta**2 + 1) ** 0.5 * r - self.beta * there).square().flatten(1).mean(1)


@objective("motion_weighted")
@dataclass(frozen=True)
class MotionWeighted:
    """mean w r^2, w = 1 + strength * log(1 + |D z| / scale), over its mean in the sample and then clipped to [.5, 3]
    (after LTD, Wu et al. 2026; the mean and the clip are ours, so that the size of a step stays that of MSE).

    |D z|: root mean square over channels of the clean latents' change, position by position; a frame has the mean of its changes
    to the neighbors that it may be compared with, 0 where there is none. scale: in the latents' unit, their standard deviation;
    fixed, not the clip's own, so that the autoencoder's noise in a static clip weighs nothing. No gradient passes through w. A
    static clip gives the denoising error exactly. Watches the weights' standard deviation as `weight_spread`.
    """

    strength: float = 1.0
    scale: float = 0.25
    asks = (MATCHED,)
    needs_clips = True

    def __post_init__(self) -> None:
        if not 0 <= self.strength < float("inf") or not 0 < self.scale < float("inf"):
            raise RecipeError("motion_weighted: strength is a finite number, 0 or more, and scale one above 0")

    def __call__(self, outcome: Outcome) -> PerSample:
        weight = self.weights(outcome)
        outcome.watch("weight_spread", weight.flatten(1).std(1, correction=0))
        return (weight * residual(outcome).square()).flatten(1).mean(1)

    @torch.no_grad()
    def weights(self, outcome: Outcome) -> Float[Tensor, "b 1 t h w"]:
        """w of every position."""
        z, counted = outcome.clean.float(), outcome.neighbors.float()[:, None, :, None, None]
        change = (z[:, :, 1:] - z[:, :, :-1]).square().mean(1, keepdim=True).sqrt() * counted
        before, after = (0, 0, 0, 0, 1, 0), (0, 0, 0, 0, 0, 1)
        moved = (pad(change, before) + pad(change, after)) / (pad(counted, before) + pad(counted, after)).clamp_min(1)
        weight = 1 + self.strength * torch.log1p(moved / self.scale)
        return (weight / weight.mean((1, 2, 3, 4), keepdim=True)).clamp(0.5, 3)
