"""What a metric is: it takes samples, merges with its like from other processes, and gives an estimate that knows how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, runtime_checkable

import torch
from torch import Tensor

from ..core.shapes import Features, Masks, PerSample, Pixels

__all__ = ["Estimate", "Metric", "Samples"]


@dataclass(frozen=True)
class Estimate:
    """A number that knows how sure it is. n: the samples behind it. note: why value is NaN, or what limits it."""

    value: float
    stderr: float | None
    n: int
    note: str = ""


@dataclass(frozen=True)
class Samples:
    """One batch of evaluated samples; metrics share what was decoded, resized and embedded once.

    ids: (b) names, equal over arms, so that results pair. pixels: "generated", and where known "source", "target".
    masks: "changed": 1 where the edit may change pixels. texts: "instruction", "source", "target" captions.
    features: by "extractor:what" ("clip:generated", "clip:text:target"). facts: one mapping a sample, the toy world's truth.
    """

    ids: Sequence[str]
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    masks: Mapping[str, Masks] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    features: Mapping[str, Features] = field(default_factory=dict)
    facts: Sequence[Mapping[str, Any]] = ()

    def __len__(self) -> int:
        return len(self.ids)


@runtime_checkable
class Metric(Protocol):
    """`needs`: names out of Samples ("pixels:generated", "masks:changed", "features:clip:generated", "texts:target", "facts").

    per_sample: {id: score} where the metric is a mean over samples (NaN: undefined, counted and left out), else None
    (distribution metrics, which keep their features instead for the weighted bootstrap of compare).
    """

    needs: ClassVar[frozenset[str]]
    better: ClassVar[Literal["higher", "lower"]]

    def update(self, samples: Samples) -> None: ...
    def merge(self, other: Self) -> None: ...
    def compute(self) -> Estimate: ...


@dataclass
class MeanMetric:
    """The common part of metrics that are a mean over samples: keeps every sample's score, for paired statistics."""

    scores: dict[str, float] = field(default_factory=dict, init=False)

    def keep(self, ids: Sequence[str], values: PerSample | Tensor) -> None:
        self.scores.update(zip(ids, values.detach().double().cpu().tolist(), strict=True))

    def merge(self, other: Self) -> None:
        self.scores.update(other.scores)

    def compute(self) -> Estimate:
        values = torch.tensor(list(self.scores.values()), dtype=torch.float64)
        known = values[~values.isnan()]
        note = f"{len(values) - len(known)} undefined" if len(known) < len(values) else ""
        if len(known) == 0:
            return Estimate(float("nan"), None, 0, note or "no samples")
        stderr = (known.std() / len(known) ** 0.5).item() if len(known) > 1 else None
        return Estimate(known.mean().item(), stderr, len(known), note)
