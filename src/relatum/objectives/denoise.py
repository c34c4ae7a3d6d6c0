"""The base term: plain denoising error."""

from __future__ import annotations

from dataclasses import dataclass

from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import PerSample

__all__ = ["Denoise"]


@objective("denoise")
@dataclass(frozen=True)
class Denoise:
    """Mean squared error between raw output and its target (Ho et al. 2020, eq. 14). For min-SNR give the term `snr_gamma`."""

    asks = (MATCHED,)

    def __call__(self, outcome: Outcome) -> PerSample:
        return outcome.error()
