"""Randomness with an address: (seed, purpose, sample), never a rank, a worker or what was drawn before."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .shapes import PerSample

__all__ = ["Draws", "key_of"]


def key_of(*words: object) -> int:
    """A 63-bit integer for any words, the same in every process and on every machine."""
    text = "\x1f".join(str(word) for word in words)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


@dataclass(frozen=True)
class Draws:
    """The random numbers of one batch. `addresses` has one entry a sample: its position in the run (samples seen) or its id.

    A purpose gives the same numbers however often and in whatever order it is asked for, and a sample's numbers do not depend on
    the samples beside it: one process with batch 8 draws what two draw with 4 + 4.
    """

    seed: int
    addresses: Sequence[int | str]

    def _generators(self, purpose: str) -> list[torch.Generator]:
        return [torch.Generator().manual_seed(key_of(self.seed, purpose, address)) for address in self.addresses]

    def uniform(self, purpose: str) -> PerSample:
        """(b,) uniform on [0, 1)."""
        return torch.cat([torch.rand(1, generator=g) for g in self._generators(purpose)])

    def normal(self, purpose: str, shape: Sequence[int]) -> Tensor:
        """(b, *shape) standard normal, float32, on the CPU."""
        return torch.stack([torch.randn(tuple(shape), generator=g) for g in self._generators(purpose)])

    def __len__(self) -> int:
        return len(self.addresses)
