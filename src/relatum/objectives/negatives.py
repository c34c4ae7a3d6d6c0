"""Fine-tuning on captions with none, hard and soft negatives ("Leveraging contrastive learning to improve editing").

d+, d- and d0 are the errors of the same noisy picture under its caption, a wrong one and none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.nn.functional import softplus

from ..core.errors import RecipeError, ShapeError
from ..core.outcome import MATCHED, NEGATIVE, NULL, Ask, Outcome
from ..core.registry import objective
from ..core.shapes import Chosen, PerSample

__all__ = ["HardNegative", "NoNegative", "ReflectedNegative", "SoftNegative"]


@objective("no_negative")
@dataclass(frozen=True)
class NoNegative:
    """d+: the control arm, plain fine-tuning on the same captions for the same budget. The same as `denoise`."""

    asks = (MATCHED,)

    def __call__(self, outcome: Outcome) -> PerSample:
        return outcome.error()


@objective("hard_negative")
@dataclass(frozen=True)
class HardNegative:
    """Robust form (default): d+ + strength * relu(m + d+ - d-) a sample, with m = margin * sg(d+).

    Faithful form (the source's eq. 1): mean d+ - min(mean d-, bound * sg(mean d+)). Where the mean of d- exceeds the bound the
    gradient is that of MSE, so how many samples the means are over decides how often it acts: `micro_batch` consecutive samples
    of a process; None: the whole batch of all processes. The bound takes no gradient, else bound = 1 would cancel the loss.
    Watches `active_fraction`.
    """

    faithful: bool = False
    margin: float = 0.05
    strength: float = 1.0
    bound: float = 1.0
    micro_batch: int | None = None
    asks = (MATCHED, NEGATIVE)

    def __post_init__(self) -> None:
        for name, default in (
            {"margin": 0.05, "strength": 1.0}.items() if self.faithful else {"bound": 1.0, "micro_batch": None}.items()
        ):
            if getattr(self, name) != default:
                raise RecipeError(
                    f"hard_negative: {name} is read only with faithful = {str(not self.faithful).lower()}; leave it out"
                )
        if self.margin < 0 or self.strength < 0 or not 0 < self.bound < float("inf"):
            raise RecipeError("hard_negative: margin and strength must not be negative, and bound is a finite number above 0")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise RecipeError(f"hard_negative: micro_batch is {self.micro_batch}, expected 1 or more")

    def check_batch(self, size: int, where: str) -> None:
        """RecipeError where a process's batch of this size does not divide into micro-batches."""
        if self.micro_batch is not None and size % self.micro_batch:
            raise RecipeError(f"{where}: micro_batch {self.micro_batch} does not divide train.train_batch_size, {size}")

    def __call__(self, outcome: Outcome) -> PerSample:
        asked, active = outcome.asked("negative"), self.active(outcome)
        right = outcome.error()
        wrong = torch.where(asked, outcome.error("negative"), right)
        outcome.watch("active_fraction", active.float(), among=asked)
        if self.faithful:
            return right - torch.where(active, wrong, self.bound * right.detach())
        hinge = (self.margin * right.detach() + right - wrong).clamp_min(0)
        return right + self.strength * torch.where(asked, hinge, 0.0)

    def active(self, outcome: Outcome) -> Chosen:
        """Where the negative has a gradient."""
        asked, right = outcome.asked("negative"), outcome.error().detach()
        wrong = torch.where(asked, outcome.error("negative").detach(), right)
        if not self.faithful:
            return asked & ((1 + self.margin) * right > wrong)
        return asked & (self._mean(wrong, outcome) < self.bound * self._mean(right, outcome))

    def _mean(self, errors: PerSample, outcome: Outcome) -> PerSample:
        """Each sample's micro-batch mean."""
        if self.micro_batch is None:
            return outcome.ranks.gather(errors).mean().expand_as(errors)
        if len(errors) % self.micro_batch and outcome.training:
            raise ShapeError(f"hard_negative: {len(errors)} samples do not divide into micro-batches of {self.micro_batch}")
        return torch.cat([part.mean().expand_as(part) for part in errors.split(self.micro_batch)])


@objective("soft_negative")
@dataclass(frozen=True)
class SoftNegative:
    """Robust form (default): d+ + strength * tau * softplus((d+ - sg(d0)) / tau): captions that do not help yet weigh up to
    1 + strength times as much. Bounded below by 0; d0 takes no gradient.

    Faithful form (the source's eq. 2): d+ - d0, with gradient through both. It is unbounded below: the error without text
    grows for ever, which at first looks like better matching. With a stop-gradient on d0 its gradient would be MSE's exactly.
    tau: in units of the error. null: whose d0, the network's own as it stands or the frozen base's.
    """

    faithful: bool = False
    strength: float = 1.0
    tau: float = 0.01
    null: Literal["student", "reference"] = "student"

    def __post_init__(self) -> None:
        if self.faithful:
            for name, default in {"strength": 1.0, "tau": 0.01, "null": "student"}.items():
                if getattr(self, name) != default:
                    raise RecipeError(f"soft_negative: {name} is read only with faithful = false; leave it out")
        if self.strength < 0 or self.tau <= 0:
            raise RecipeError("soft_negative: strength must not be negative, and tau is above 0")

    @property
    def asks(self) -> tuple[Ask, ...]:
        return (MATCHED, NULL) if self.faithful else (MATCHED, Ask("null", grad=False, model=self.null))

    def __call__(self, outcome: Outcome) -> PerSample:
        right, none = outcome.error(), outcome.error(self.asks[1].key)
        outcome.watch("text_helps", (right < none).float(), among=right != none)
        if self.faithful:
            return right - none
        return right + self.strength * self.tau * softplus((right - none.detach()) / self.tau)


@objective("reflected_negative")
@dataclass(frozen=True)
class ReflectedNegative:
    """mean ((1 + beta) p_ref - beta p - y)^2 on wrong captions (Zheng et al. 2025, DiffusionNFT, the negative half).

    The prediction p is pushed away from the frozen base's p_ref, as its mirror image must fit the target y: bounded below by 0, and
    the base's own error where p = p_ref. Its weight is .5 unless the recipe says otherwise; it goes beside `denoise`.
    """

    beta: float = 0.5
    asks = (NEGATIVE, Ask("negative", grad=False, model="reference"))

    def __post_init__(self) -> None:
        if not 0 < self.beta < float("inf"):
            raise RecipeError(f"reflected_negative: beta is {self.beta}, expected a finite number above 0")

    def __call__(self, outcome: Outcome) -> PerSample:
        own, base = (outcome.predictions[ask.key] for ask in self.asks)
        mirrored = (1 + self.beta) * base.raw.detach().float() - self.beta * own.raw.float()
        loss = (mirrored - outcome.truth(own.kind, "negative")).square().flatten(1).mean(1)
        return torch.where(outcome.asked("negative"), loss, 0.0)

    @property
    def advice(self) -> Mapping[str, Any]:
        """What the blend does with this term where the recipe says nothing."""
        return {"weight": 0.5}
