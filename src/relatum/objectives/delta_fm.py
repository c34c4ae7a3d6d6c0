"""Contrastive flow matching: away from what another sample's target would have been."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from ..core.errors import RecipeError, ShapeError
from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import Keys, Latents, PerSample

__all__ = ["DeltaFM", "derangement"]


@objective("delta_fm")
@dataclass(frozen=True)
class DeltaFM:
    """d+ - strength * mean (p - y')^2, y' the target that another sample's picture and noise have at this sample's level (Stoica
    et al. 2025).

    The optimum is (y - strength * m) / (1 - strength) with m the mean target, so strength < 1; m = a * (mean latent) at a level
    whose target is a * x0 + b * eps. The mean latent is kept as an average over steps with `decay`, lies in the checkpoint and
    in the finished model, and sampling undoes the bias (`models.correction`). It holds d+ already: it takes the place of `denoise`.
    Each sample's other one is the next by the order of ids, never of the same id.
    """

    strength: float = 0.05
    decay: float = 0.99
    _mean: dict[str, Tensor] = field(default_factory=dict, init=False, repr=False, compare=False)
    asks = (MATCHED,)

    def __post_init__(self) -> None:
        if not 0 <= self.strength < 1:
            raise RecipeError(
                f"delta_fm: strength is {self.strength}, expected 0 or more and below 1: the optimum has 1 / (1 - strength)"
            )
        if not 0 <= self.decay < 1:
            raise RecipeError(f"delta_fm: decay is {self.decay}, expected 0 or more and below 1")

    def check_batch(self, size: int, where: str) -> None:
        """RecipeError for a batch of one: there would be nobody to differ from."""
        if size < 2:
            raise RecipeError(f"{where}: takes other samples of the batch; raise train.train_batch_size to 2 or more")

    def __call__(self, outcome: Outcome) -> PerSample:
        ranks, kind = outcome.ranks, outcome.matched.kind
        clean, noise, keys = (ranks.gather(x) for x in (outcome.clean, outcome.noise, outcome.keys))
        if outcome.training:
            self._remember(clean.float().mean(0))
        counts = keys.unique(return_counts=True)[1]
        if not self.strength or (not outcome.training and 2 * int(counts.max()) > len(keys)):  # a held-out batch may be alike
            return outcome.error()
        other = derangement(keys)
        mine = torch.arange(len(outcome.clean), device=keys.device) + ranks.offset(len(outcome.clean))
        theirs = kind.target(clean[other[mine]], noise[other[mine]], outcome.level)
        away = (outcome.matched.raw.float() - theirs).square().flatten(1).mean(1)
        return outcome.error() - self.strength * away

    def _remember(self, mean: Tensor) -> None:
        old, weight = self._mean.get("mean"), self._mean.get("weight", torch.zeros(()))
        new = mean.detach() * (1 - self.decay)
        self._mean["mean"] = new if old is None else self.decay * old.to(new) + new
        self._mean["weight"] = self.decay * weight + (1 - self.decay)

    def correction(self) -> tuple[float, Latents] | None:
        """(strength, mean latent (1 c h w)): what sampling needs; None before the first step."""
        if "mean" not in self._mean:
            return None
        return self.strength, (self._mean["mean"] / self._mean["weight"].to(self._mean["mean"]))[None]

    def state(self) -> dict[str, Tensor]:
        """The running mean, for checkpoints."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self._mean.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._mean.clear()
        self._mean.update(state)


def derangement(keys: Keys) -> Int[Tensor, "b"]:
    """For each sample another one of another key: the next in the order of keys. ShapeError where one key has over half of all.

    >>> derangement(torch.tensor([7, 3, 7, 5])).tolist()
    [3, 2, 1, 0]
    """
    order = keys.argsort(stable=True)
    most = int(keys.unique(return_counts=True)[1].max())
    if 2 * most > len(keys):
        raise ShapeError(
            f"delta_fm needs other samples: {most} of a batch of {len(keys)} are the same thing; use a larger train_batch_size"
        )
    return torch.empty_like(order).scatter(0, order, order.roll(-most))
