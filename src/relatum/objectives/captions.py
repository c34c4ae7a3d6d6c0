"""Captions of one picture against each other: which of them explains the noisy picture best?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn.functional import cross_entropy, softplus

from ..core.errors import RecipeError
from ..core.outcome import MATCHED, NEGATIVE, Ask, Outcome
from ..core.registry import objective
from ..core.shapes import PerSample

__all__ = ["CaptionContrast", "CaptionPreference"]


@objective("caption_contrast")
@dataclass(frozen=True)
class CaptionContrast:
    """Cross-entropy over -d / tau of `captions` captions of the same noisy picture, the right one and its negatives (Lee et al.
    2025, SoftREPA, with wrong captions in place of other pictures').

    ln(captions) where no error differs; a constant added to all errors changes nothing. share: of the samples that it is computed
    for, which costs share * (captions - 1) of an MSE step; the others' loss is 0, and it is scaled so that its mean stays.
    tau: in units of the error. Add it to `denoise`: by itself it does not care for any error's size. Watches `nce_accuracy`.
    Its captions are of one picture, so the task's negatives must not be pictures.
    """

    captions: int = 2
    tau: float = 0.01
    share: float = 0.25
    same_picture: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 2 <= self.captions <= 4:
            raise RecipeError(f"caption_contrast: captions is {self.captions}, expected 2 to 4, the right one and its negatives")
        if self.tau <= 0 or not 0 < self.share <= 1:
            raise RecipeError("caption_contrast: tau is above 0 and share above 0, at most 1")

    @property
    def asks(self) -> tuple[Ask, ...]:
        views = ["negative", *(f"negative.{i}" for i in range(2, self.captions))]
        return (MATCHED, *(Ask(view, share=self.share) for view in views))

    def __call__(self, outcome: Outcome) -> PerSample:
        errors = torch.stack([outcome.error(ask.key) for ask in self.asks], 1)
        loss = cross_entropy(-errors / self.tau, torch.zeros_like(errors[:, 0], dtype=torch.long), reduction="none")
        chosen = torch.stack([outcome.asked(ask.key) for ask in self.asks]).all(0) & outcome.drawn(self.share)
        outcome.watch("nce_accuracy", (errors[:, 0] < errors[:, 1:].amin(1)).float(), among=chosen)
        return torch.where(chosen, loss / (self.share if outcome.training else 1.0), 0.0)


@objective("caption_preference")
@dataclass(frozen=True)
class CaptionPreference:
    """-log sigmoid(-beta / 2 * ((d+ - d+_ref) - (d- - d-_ref))) + anchor * d+: direct preference of the right caption over a wrong
    one, with respect to the frozen base (Wallace et al. 2024, Diffusion-DPO, with captions in place of pictures).

    beta: for errors that are means over the latent, not sums. ln 2 + anchor * d+ at the start. Watches `preferred`: the right
    caption gained more on the base than the wrong one.
    """

    beta: float = 5000.0
    anchor: float = 1.0
    asks = (MATCHED, NEGATIVE, Ask("matched", grad=False, model="reference"), Ask("negative", grad=False, model="reference"))

    def __post_init__(self) -> None:
        if not 0 < self.beta < math.inf or not 0 <= self.anchor < math.inf:
            raise RecipeError("caption_preference: beta is a finite number above 0, anchor 0 or more")

    def __call__(self, outcome: Outcome) -> PerSample:
        right, wrong, right_ref, wrong_ref = (outcome.error(ask.key) for ask in self.asks)
        gained = (right - right_ref.detach()) - (wrong - wrong_ref.detach())
        asked = outcome.asked("negative")
        outcome.watch("preferred", (gained < 0).float(), among=asked)
        return torch.where(asked, softplus(self.beta / 2 * gained), 0.0) + self.anchor * right
