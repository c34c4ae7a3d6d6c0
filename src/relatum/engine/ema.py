"""An exponential moving average of a network's trained parameters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

__all__ = ["EMA"]


class EMA:
    """shadow <- shadow - (1 - d) (shadow - parameter), d = min(decay, (1 + n) / (10 + n)) n updates after the first, 0 at it.

    The formula, warm-up and count of diffusers' EMAModel (pinned by a test), over the parameters with gradient only.
    """

    def __init__(self, module: nn.Module, decay: float = 0.9999) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be in [0, 1), found {decay}")
        self.decay, self.updates = decay, 0
        self.shadow = [p.detach().clone() for p in _trained(module)]

    def decay_at(self, updates: int) -> float:
        """The decay of the update that makes the count `updates` (1 for the first)."""
        n = max(0, updates - 1)
        return 0.0 if n == 0 else min((1 + n) / (10 + n), self.decay)

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the average toward the module's present parameters."""
        self.updates += 1
        gap = torch._foreach_sub(self.shadow, [p.detach() for p in _trained(module)])
        torch._foreach_sub_(self.shadow, gap, alpha=1 - self.decay_at(self.updates))

    @contextmanager
    def applied(self, module: nn.Module) -> Iterator[None]:
        """The module holds the average inside the block and its own weights after it, whatever happens there."""
        parameters = _trained(module)
        own = [p.detach().clone() for p in parameters]
        try:
            _copy(parameters, self.shadow)
            yield
        finally:
            _copy(parameters, own)

    def take(self, module: nn.Module, updates: int) -> None:
        """Goes on from an average that the module holds at this moment, made by `updates` updates."""
        self.shadow = [p.detach().clone() for p in _trained(module)]
        self.updates = updates


def _trained(module: nn.Module) -> list[nn.Parameter]:
    return [p for p in module.parameters() if p.requires_grad]


@torch.no_grad()
def _copy(parameters: list[nn.Parameter], values: list[Tensor]) -> None:
    torch._foreach_copy_([p.data for p in parameters], values)
