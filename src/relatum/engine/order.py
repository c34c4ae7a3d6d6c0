"""The order in which a run visits its rows: a permutation an epoch, addressed by the samples seen, for any number of processes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from ..core.draws import key_of

__all__ = ["Order"]


@dataclass(frozen=True)
class Order:
    """Position p of the run is row `permutation(p // rows)[p % rows]`; no row is left out, whatever the batch size.

    Micro-batch m of update u on rank r holds the positions ((u * accumulation + m) * ranks + r) * batch + 0, 1, ..., so one process
    with batch 8 visits what two with 4 + 4 do, or one with 4 and two micro-steps.
    """

    rows: int
    seed: int
    batch: int
    accumulation: int = 1
    ranks: int = 1

    @property
    def samples_per_update(self) -> int:
        return self.batch * self.accumulation * self.ranks

    def positions(self, update: int, micro: int, rank: int) -> list[int]:
        """Samples seen before each sample of this micro-batch: the addresses of its draws."""
        start = ((update * self.accumulation + micro) * self.ranks + rank) * self.batch
        return list(range(start, start + self.batch))

    def indices(self, positions: list[int]) -> list[int]:
        """The rows at these positions."""
        epochs = {p // self.rows for p in positions}
        orders = {epoch: self._permutation(epoch) for epoch in epochs}
        return [orders[p // self.rows][p % self.rows] for p in positions]

    def _permutation(self, epoch: int) -> list[int]:
        return _permutation(self.rows, key_of(self.seed, "order", epoch))


@lru_cache(maxsize=4)
def _permutation(rows: int, key: int) -> list[int]:
    return torch.randperm(rows, generator=torch.Generator().manual_seed(key)).tolist()
