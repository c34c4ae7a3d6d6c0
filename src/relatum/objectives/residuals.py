"""Residuals of clips: what a prediction gets wrong frame by frame, in which words, and which frames hang together."""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.outcome import Outcome
from ..core.path import NoiseLevel, expand
from ..core.prediction import Parametrization
from ..core.shapes import Joined, Leveled, PerSample, VideoLatents

__all__ = ["Space", "anchor_frames", "bound", "gain", "mean_over_pairs", "of_pairs", "residual", "shot_ends"]

Space = Literal["raw", "eps", "v", "x0"]
Framed = Float[Tensor, "b t"]  # one number a frame
Places = Int[Tensor, "b t"]  # a frame's number for each frame


def gain(kind: Parametrization, space: Space, level: NoiseLevel) -> Leveled:
    """How many times larger an error is in `space` than in the network's own words: (a' sigma - b' alpha) / (a sigma - b alpha).

    The noisy latents being known, every reading is linear in the raw output. From eps to x0 it is -sigma / alpha: 14.6 in size at
    the last step of Stable Diffusion.
    """
    if space in ("raw", kind.value):
        return torch.ones_like(level.alpha)
    (a, b), (a1, b1) = kind.mix(level), Parametrization(space).mix(level)
    return (a1 * level.sigma - b1 * level.alpha) / (a * level.sigma - b * level.alpha)


def bound(kind: Parametrization, space: Space, level: NoiseLevel) -> Leveled:
    """min(1, 1 / gain^2): the weight under which a squared error in `space` never counts more than in the network's own words.

    For an eps network and x0 it is min(SNR, 1).
    """
    return gain(kind, space, level).square().reciprocal().clamp_max(1)


def residual(outcome: Outcome, space: Space = "raw") -> VideoLatents:
    """Prediction minus truth in `space`, float32, as `Prediction.read` has it."""
    prediction = outcome.matched
    raw = prediction.raw.float() - outcome.truth(prediction.kind)
    return raw if space == "raw" else raw * expand(gain(prediction.kind, space, outcome.level), raw)


def of_pairs(weight: Leveled, steps: int) -> Float[Tensor, "b steps"]:
    """The weight of each pair of neighbors: of noise levels a frame, the lower one's."""
    return weight[:, None].expand(-1, steps) if weight.ndim == 1 else torch.minimum(weight[:, 1:], weight[:, :-1])


def mean_over_pairs(change: Float[Tensor, "b steps"], neighbors: Joined) -> PerSample:
    """The mean over the pairs that count; 0 where none does. What is not finite stays so, wherever it is."""
    return (change * neighbors).sum(1) / neighbors.sum(1).clamp_min(1)


def shot_ends(neighbors: Joined) -> tuple[Places, Places]:
    """For each frame the first and the last one of its shot: the frames that a chain of neighbors connects it with.

    >>> shot_ends(torch.tensor([[True, False, True]]))
    (tensor([[0, 0, 2, 2]]), tensor([[1, 1, 3, 3]]))
    """
    edge = neighbors.new_ones(len(neighbors), 1)
    begins, ends = torch.cat([edge, ~neighbors], 1), torch.cat([~neighbors, edge], 1)
    i = torch.arange(begins.shape[1], device=neighbors.device).expand_as(begins)
    first = torch.where(begins, i, 0).cummax(1).values
    last = torch.where(ends, i, i.shape[1] - 1).flip(1).cummin(1).values.flip(1)
    return first, last


def anchor_frames(outcome: Outcome, start: Literal["random", "first"] = "random") -> Places:
    """For each frame the anchor of its shot: a frame drawn uniformly (address "anchor frame"), or the shot's first."""
    first, last = shot_ends(outcome.neighbors)
    if start == "first":
        return first
    share = outcome.draws.uniform("anchor frame").to(outcome.clean.device)[:, None]
    return torch.minimum(first + (share * (last - first + 1)).long(), last)
