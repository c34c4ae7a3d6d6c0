"""What a metric is: it takes samples, merges with its like from other processes, gives an estimate that knows how sure it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.shapes import Masks, Pixels, Videos

__all__ = ["Estimate", "MeanMetric", "Metric", "Samples", "mean_of"]


@dataclass(frozen=True)
class Estimate:
    """A number that knows how sure it is. n: the samples behind it. note: why value is NaN, or what limits it.

    low, high: a 95 % interval, where the metric has a better one than value +- 1.96 stderr.
    """

    value: float
    stderr: float | None
    n: int
    note: str = ""
    low: float | None = None
    high: float | None = None

    def __float__(self) -> float:
        return self.value


@dataclass(frozen=True)
class Samples:
    """One batch of evaluated samples; metrics share what was decoded, resized and embedded once.

    ids: (b) names, equal over arms, so that results pair. pixels: "generated", and where known "source", "target".
    masks: "changed": 1 where the edit may change pixels. texts: "instruction", "source", "target" captions.
    masks are on the pixel grid. features: by "extractor:what" ("clip:generated", "clip:text:target"), (b d); of the frames of a
    video "extractor:frames:what", (b t d). facts: one mapping a sample, the toy world's truth.
    videos: "generated", and where known "target", the true frames at the same times. given: how many of their first frames were
    given: 1, the source, of rollouts and of images that are animated; 0 of clips that are made whole, whose target shows the same
    caption but begins elsewhere. flows: (b 2 t-1 h w), true motion of the target in pixels, from each frame to the next, x (right)
    then y (down), where it is known.
    """

    ids: Sequence[str]
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    masks: Mapping[str, Masks] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    features: Mapping[str, Float[Tensor, "b *t d"]] = field(default_factory=dict)
    facts: Sequence[Mapping[str, Any]] = ()
    videos: Mapping[str, Videos] = field(default_factory=dict)
    flows: Mapping[str, Float[Tensor, "b 2 steps h w"]] = field(default_factory=dict)
    given: int = 1

    def __len__(self) -> int:
        return len(self.ids)


@runtime_checkable
class Metric(Protocol):
    """Registered with `@metric(name)`; a dataclass whose fields are its settings. Updating twice with a sample counts it once.

    needs: names out of Samples ("pixels:generated", "masks:changed", "features:clip:generated", "texts:target", "facts").
    least_frames (may be missing): frames of a video, the given one included, below which it cannot be measured. continues (may be
    missing): whether it asks how a video goes on from its given frame, so that clips that are made whole do not have it.
    wants: names that it uses where they are there, for further numbers (`also`) or instead of a guess.
    Metrics that are a mean over samples keep {id: score} in `scores` (NaN: undefined, counted and left out); metrics on sets keep
    their features instead (`sets`), for the weighted bootstrap of compare.
    """

    @property
    def needs(self) -> frozenset[str]: ...
    @property
    def better(self) -> Literal["higher", "lower"]: ...
    def update(self, samples: Samples) -> None: ...
    def merge(self, other: Any) -> None: ...
    def compute(self) -> Estimate: ...


def mean_of(scores: Mapping[str, float]) -> Estimate:
    """Mean over the defined scores with its standard error; the order of arrival does not matter."""
    values = torch.tensor([scores[name] for name in sorted(scores)], dtype=torch.float64)
    known = values[~values.isnan()]
    note = f"{len(values) - len(known)} of {len(values)} undefined" if len(known) < len(values) else ""
    if len(known) == 0:
        return Estimate(float("nan"), None, 0, note or "no samples")
    stderr = (known.std() / len(known) ** 0.5).item() if len(known) > 1 else None
    return Estimate(known.mean().item(), stderr, len(known), note)


@dataclass
class MeanMetric:
    """The common part of metrics that are a mean over samples: keeps every sample's score, for paired statistics.

    scores: the headline by id. also: further numbers by name ("source" of clip_sim), each {id: score}. also_better: which of them
    have a better side; the others only describe. series: of metrics on videos, {id: one value a frame} by name, for curves over
    the steps of a rollout; value 0 belongs to the given frame.
    """

    wants: ClassVar[frozenset[str]] = frozenset()
    least_frames: ClassVar[int] = 1
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {}

    scores: dict[str, float] = field(default_factory=dict, init=False)
    also: dict[str, dict[str, float]] = field(default_factory=dict, init=False)
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict, init=False)

    def keep(self, ids: Sequence[str], values: Tensor, also: str = "") -> None:
        """Store one score a sample, values (b,), as the headline or under a further name."""
        scores = self.also.setdefault(also, {}) if also else self.scores
        scores.update(zip(ids, values.detach().double().cpu().tolist(), strict=True))

    def merge(self, other: MeanMetric) -> None:
        self.scores.update(other.scores)
        for name, scores in other.also.items():
            self.also.setdefault(name, {}).update(scores)
        for name, values in other.series.items():
            self.series.setdefault(name, {}).update(values)

    def keep_series(self, ids: Sequence[str], name: str, values: Float[Tensor, "b t"]) -> None:
        """Store one value a frame and sample."""
        self.series.setdefault(name, {}).update(zip(ids, values.detach().double().cpu().tolist(), strict=True))

    def compute(self) -> Estimate:
        return mean_of(self.scores)
