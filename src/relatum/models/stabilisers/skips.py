"""Scaled skip connections of a UNet (ScaleLong, Huang et al. 2023)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import RecipeError

__all__ = ["SkipScale", "present_kappa", "scale_skips"]


class SkipScale(nn.Module):
    """Skips i = first, first + 1, ... of one up block, times kappa^i; i counts from 0 at the skip that leaves the network first.

    (The paper counts from 1 and writes kappa^(i - 1).) kappa goes from 1 to its end linearly over the first
    `updates` training forwards. All numbers are buffers, so a checkpoint resumes in the middle.
    """

    kappa: Tensor
    updates: Tensor
    forwards: Tensor

    def __init__(self, first: int, kappa: float, updates: int) -> None:
        super().__init__()
        self.first = first
        self.register_buffer("kappa", torch.tensor(kappa))
        self.register_buffer("updates", torch.tensor(updates))
        self.register_buffer("forwards", torch.tensor(0))

    def advance(self) -> None:
        """One training forward begins; the first one still has kappa = 1."""
        self.forwards += 1

    def now(self) -> Tensor:
        """kappa at this forward."""
        done = ((self.forwards - 1) / self.updates.clamp(min=1)).clamp(0, 1)
        return 1 - (1 - self.kappa.float()) * torch.where(self.updates > 0, done, 1.0)

    def forward(self, skips: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        kappa = self.now()
        return tuple((skip * kappa ** (self.first + i)).to(skip.dtype) for i, skip in enumerate(skips))


def scale_skips(network: Any, kappa: float, updates: int) -> None:
    """Lets each up block of a diffusers UNet scale the skips that it is given. RecipeError for another network."""
    blocks = list(getattr(network, "up_blocks", ()))
    if not blocks:
        raise RecipeError(f"{type(network).__name__} has no up_blocks, whose skips skip_scale could scale")
    left = sum(len(block.resnets) for block in blocks)
    for block in blocks:  # the deepest first
        left -= len(block.resnets)
        block.skip_scale = SkipScale(left, kappa, updates).to(next(block.parameters()).device)
        block.register_forward_pre_hook(_scale, with_kwargs=True)


def _scale(block: Any, args: tuple[Any, ...], given: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, {**given, "res_hidden_states_tuple": block.skip_scale(given["res_hidden_states_tuple"])}


def present_kappa(network: nn.Module) -> float | None:
    """What the skips are scaled with now; None where they are not."""
    found = [module for module in network.modules() if isinstance(module, SkipScale)]
    return float(found[0].now()) if found else None
