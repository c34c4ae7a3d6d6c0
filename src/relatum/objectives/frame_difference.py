"""Losses on how the error changes from frame to frame ("Making videos lose more"). `conditioning` says what they do to training.

r is prediction minus truth, (b c t h w); D r its differences r_{i+1} - r_i between frames that may be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch

from ..core.errors import RecipeError
from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import PerSample
from .residuals import Space, anchor_frames, bound, mean_over_pairs, of_pairs, residual

__all__ = ["AnchoredDifference", "FrameDifference"]


@objective("frame_difference")
@dataclass(frozen=True)
class FrameDifference:
    """Robust form (default): (d + strength * diff / 2) / (1 + strength), d the denoising error and diff = mean (D r)^2.

    Errors that are independent from frame to frame cost d, equal ones less, alternating ones more. Its condition number is at most
    3.3 for strength <= 1 (3.1 at 16 frames), so that it trains at the learning rate of d.
    Faithful form: diff alone. An error that is the same in all frames costs nothing and is never unlearned.

    space: whose words diff is in; d is in the network's own. The robust form weighs diff so that it never counts more than in
    those (see `residuals.bound`: min(SNR, 1) from eps to x0; from eps to v that is "raw" again). Watches diff as `difference`.
    """

    faithful: bool = False
    strength: float = 0.5
    space: Space = "raw"
    asks = (MATCHED,)
    needs_clips = True

    def __post_init__(self) -> None:
        if self.faithful and self.strength != 0.5:
            raise RecipeError("frame_difference: strength is read only with faithful = false; leave it out")
        if not 0 <= self.strength < float("inf"):
            raise RecipeError(f"frame_difference: strength is {self.strength}, expected a finite number, 0 or more")

    @property
    def caution(self) -> str:
        """What a recipe's writer should know; empty for nothing."""
        words = "an error that all frames share costs nothing, so it is never unlearned; add a term of kind denoise"
        return words if self.faithful else ""

    def __call__(self, outcome: Outcome) -> PerSample:
        neighbors, r = outcome.neighbors, residual(outcome, self.space)
        change = (r[:, :, 1:] - r[:, :, :-1]).square().mean((1, 3, 4))
        if not self.faithful:
            change = change * of_pairs(bound(outcome.matched.kind, self.space, outcome.level), change.shape[1])
        diff = mean_over_pairs(change, neighbors)
        outcome.watch("difference", diff)
        return diff if self.faithful else (outcome.error() + self.strength / 2 * diff) / (1 + self.strength)


@objective("anchored_difference")
@dataclass(frozen=True)
class AnchoredDifference:
    """(|r_a|^2 + sum |D r|^2) / T, or with absolute values (norm "l1"): a frame a drawn at random, and the differences that run
    away from it on both sides. Means over channels and positions; signs of differences do not matter to either norm.

    The source's final form. Zero only where r is; an error that all frames share costs 1 / T of what MSE asks. With its largest
    eigenvalue of 4 and a condition number of 174 to 438 at 16 frames (1.7 T^2 for a at an end) it wants a quarter of MSE's learning
    rate and then learns what frames share slowly. The robust form (default) is bounded in spaces that enlarge errors, as in
    `FrameDifference`; in "raw", and for a v network in all, both forms are one. start: "first" is the path from the first frame.
    Where cuts or repeated frames part a clip, every shot has an anchor of its own, else its offset would be free; still over T.
    """

    faithful: bool = False
    norm: Literal["l2", "l1"] = "l2"
    space: Space = "raw"
    start: Literal["random", "first"] = "random"
    asks = (MATCHED,)
    needs_clips = True

    @property
    def caution(self) -> str:
        """What a recipe's writer should know; empty for nothing."""
        return "badly conditioned (174 to 438 at 16 frames): give train.learning_rate a quarter of what denoise takes"

    def __call__(self, outcome: Outcome) -> PerSample:
        neighbors, r = outcome.neighbors, residual(outcome, self.space)
        frames = torch.arange(r.shape[2], device=r.device)
        anchored = anchor_frames(outcome, self.start) == frames
        change = r[:, :, 1:] - r[:, :, :-1]
        value, steps = (x.square() if self.norm == "l2" else x.abs() for x in (r, change))
        value, steps = value.mean((1, 3, 4)) * anchored, steps.mean((1, 3, 4)) * neighbors
        if not self.faithful:
            held = bound(outcome.matched.kind, self.space, outcome.level)
            held = held if self.norm == "l2" else held.sqrt()
            value, steps = value * (held if held.ndim == 2 else held[:, None]), steps * of_pairs(held, steps.shape[1])
        return (value.sum(1) + steps.sum(1)) / len(frames)
