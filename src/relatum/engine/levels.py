"""Losses by noise level: every term's mean, standard error and count in equal bins of the path's time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.path import NoiseLevel, over_frames
from ..core.ranks import ONE, Ranks
from ..core.shapes import PerSample

__all__ = ["LevelBins"]


class LevelBins:
    """Accumulates (b,) terms; nothing is computed or moved from the device until `rows`, `merge` or `gather`.

    span: `Path.bins`, the range of time. A time at the upper end belongs to the last bin.
    """

    def __init__(self, span: tuple[float, float], bins: int = 10) -> None:
        self.span, self.bins = span, bins
        self._pending: list[tuple[Tensor, dict[str, Tensor]]] = []
        self._moments: dict[str, Tensor] = {}  # (3, bins) float64: n, mean, sum of squared differences from it

    def add(self, level: NoiseLevel, terms: Mapping[str, PerSample]) -> None:
        """level: where the samples stand (of levels a frame, the mean time counts); terms: (b,) numbers by name."""
        self._pending.append((over_frames(level.time.detach()), {name: term.detach() for name, term in terms.items()}))

    def merge(self, other: LevelBins) -> None:
        """Takes in what another accumulator of the same bins has seen."""
        self._drain()
        other._drain()
        for name, moments in other._moments.items():
            self._moments[name] = _merge(self._moments.get(name, torch.zeros_like(moments)), moments)

    def gather(self, ranks: Ranks = ONE, device: torch.device | str = "cpu") -> LevelBins:
        """The accumulators of all processes as one; every process must have seen the same terms."""
        self._drain()
        whole = LevelBins(self.span, self.bins)
        for name, moments in self._moments.items():
            parts = ranks.gather(moments[None].to(device)).cpu()
            whole._moments[name] = torch.zeros_like(moments)
            for part in parts:
                whole._moments[name] = _merge(whole._moments[name], part)
        return whole

    def rows(self) -> list[dict[str, Any]]:
        """One {"term", "low", "high", "n", "mean", "stderr"} for each bin with samples; stderr is None for a single one."""
        self._drain()
        low, high = self.span
        width, rows = (high - low) / self.bins, []
        for name, moments in self._moments.items():
            for i, (n, mean, squares) in enumerate(moments.T.tolist()):
                if n:
                    stderr = (squares / (n - 1) / n) ** 0.5 if n > 1 else None
                    edges = {"low": low + i * width, "high": low + (i + 1) * width}
                    rows.append({"term": name, **edges, "n": int(n), "mean": mean, "stderr": stderr})
        return rows

    def clear(self) -> None:
        self._pending.clear()
        self._moments.clear()

    def _drain(self) -> None:
        if not self._pending:
            return
        low, high = self.span
        for name in {name: None for _, terms in self._pending for name in terms}:
            have = [(time, terms[name]) for time, terms in self._pending if name in terms]
            time = torch.cat([t for t, _ in have]).double().cpu()
            values = torch.cat([v for _, v in have]).double().cpu()
            place = ((time - low) / (high - low) * self.bins).long().clamp(0, self.bins - 1)
            n = torch.zeros(self.bins, dtype=torch.float64).index_add_(0, place, torch.ones_like(values))
            mean = torch.zeros_like(n).index_add_(0, place, values) / n.clamp_min(1)
            squares = torch.zeros_like(n).index_add_(0, place, (values - mean[place]).square())
            fresh = torch.stack([n, mean, squares])
            self._moments[name] = _merge(self._moments.get(name, torch.zeros_like(fresh)), fresh)
        self._pending.clear()


def _merge(a: Tensor, b: Tensor) -> Tensor:
    """Moments of the union (Chan, Golub & LeVeque 1979)."""
    (na, ma, sa), (nb, mb, sb) = a, b
    n = na + nb
    share = nb / n.clamp_min(1)
    gap = mb - ma
    return torch.stack([n, ma + gap * share, sa + sb + gap.square() * na * share])
