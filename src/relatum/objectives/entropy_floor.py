"""Attention that looks at more than one frame: a floor under the entropy of the motion modules' heads."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch

from ..core.errors import RecipeError, ShapeError
from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import PerSample

__all__ = ["EntropyFloor"]


@objective("entropy_floor")
@dataclass(frozen=True)
class EntropyFloor:
    """Robust form (default): mean relu(floor * ln T - H)^2 over the alarmed heads, those below the floor; 0 where none is.

    Faithful form: mean (H - ln T)^2 over all heads, which asks attention to be blind. H: entropy in nats of what a head looks at,
    0 for a single frame to ln T for all T frames alike. layers: regular expressions, found anywhere in the names of attention
    layers. It goes beside `denoise`. Watches `alarmed_heads`, their share, and `least_entropy`, the lowest head's share of ln T.
    RecipeError where no layer is found.
    """

    faithful: bool = False
    floor: float = 0.3
    layers: tuple[str, ...] = ("motion_modules",)
    asks = (MATCHED,)
    needs_clips = True

    def __post_init__(self) -> None:
        if self.faithful and self.floor != 0.3:
            raise RecipeError("entropy_floor: floor is read only with faithful = false; leave it out")
        if not 0 < self.floor <= 1:
            raise RecipeError(f"entropy_floor: floor is {self.floor}, expected a share of ln T above 0 and at most 1")
        if not self.layers:
            raise RecipeError("entropy_floor: layers names no layer; leave it out for the motion modules")
        for pattern in self.layers:
            try:
                re.compile(pattern)
            except re.error as error:
                raise RecipeError(f"entropy_floor: layers: {pattern!r} is no regular expression: {error}") from error

    @property
    def attends(self) -> tuple[str, ...]:
        """The attention layers that it listens to."""
        return self.layers

    def __call__(self, outcome: Outcome) -> PerSample:
        if outcome.clean.ndim != 5:
            raise ShapeError(f"entropy_floor: latents of shape {tuple(outcome.clean.shape)} have no frames; it needs clips")
        heard = [h for name, h in outcome.attention.items() if any(re.search(pattern, name) for pattern in self.layers)]
        if not heard:
            there = ", ".join(outcome.attention) or "none at all"
            raise RecipeError(f"entropy_floor: no attention layer of this network matches {self.layers}; it listened to {there}")
        entropy, most = torch.cat([h.float() for h in heard], 1), math.log(outcome.clean.shape[2])
        lack = (self.floor * most - entropy).clamp_min(0)
        alarmed = lack > 0
        outcome.watch("alarmed_heads", alarmed.float().mean(1))
        outcome.watch("least_entropy", entropy.amin(1) / max(most, 1e-6))
        if self.faithful:
            return (entropy - most).square().mean(1)
        return lack.square().sum(1) / alarmed.sum(1).clamp_min(1)
