"""The processes of a run, as an objective sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

__all__ = ["ONE", "Ranks"]


@dataclass(frozen=True)
class Ranks:
    """`gather` concatenates a tensor (b, ...) over all processes in rank order, without gradient. Identity on one process."""

    rank: int = 0
    size: int = 1
    all_gather: Callable[[Tensor], Tensor] | None = None

    def gather(self, tensor: Tensor) -> Tensor:
        return tensor.detach() if self.all_gather is None else self.all_gather(tensor.detach())

    def offset(self, batch: int) -> int:
        """Where this process's samples start in a gathered tensor; `batch` must be equal on all processes."""
        return self.rank * batch


ONE = Ranks()
