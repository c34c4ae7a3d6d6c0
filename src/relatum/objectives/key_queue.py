"""A first-in first-out store of contrast keys from past batches (He et al. 2020, without the momentum encoder: keys are fixed)."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ..core.shapes import Keys, Latents

__all__ = ["KeyQueue"]


class KeyQueue:
    """Latents and the integer ids of their samples, newest last."""

    def __init__(self) -> None:
        self._held: tuple[Tensor, Tensor] | None = None

    def read(self, like: Latents, names: Keys) -> tuple[Float[Tensor, "n c *grid"], Int[Tensor, "n"]]:
        """The held keys on the device of `like`; empty tensors of its shape at the start."""
        if self._held is None:
            return like[:0], names[:0]
        return self._held[0].to(like), self._held[1].to(names.device)

    def push(self, keys: Latents, names: Keys, size: int) -> None:
        """Append a batch and keep the newest `size`."""
        old, old_names = self.read(keys, names)
        self._held = torch.cat([old, keys.detach()])[-size:], torch.cat([old_names, names])[-size:]

    def state(self) -> dict[str, Tensor]:
        return {} if self._held is None else {"latents": self._held[0].cpu().contiguous(), "names": self._held[1].cpu()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._held = (state["latents"], state["names"]) if state else None
