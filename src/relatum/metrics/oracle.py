"""Metrics from known truth: was the edit made, was the rest kept, are the right objects there in the right relation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..core.errors import RecipeError
from ..core.registry import metric
from .base import MeanMetric, Samples
from .coherence import changed_region, masked_mean_square

__all__ = ["AttributeAccuracy", "EditAccuracy", "Eye", "Preservation", "RelationAccuracy", "Seen"]


@runtime_checkable
class Seen(Protocol):
    """An object read from an image; (x, y) is its center, x to the right and y down, in sides of the image."""

    @property
    def shape(self) -> str: ...
    @property
    def color(self) -> str: ...
    @property
    def x(self) -> float: ...
    @property
    def y(self) -> float: ...


Eye = Callable[[Tensor], Sequence[Seen]]  # pixels (3, h, w) in [-1, 1] -> the objects seen, as the toy world's `read_scene`


@metric("edit_accuracy")
@dataclass
class EditAccuracy(MeanMetric):
    """Share of samples whose mean squared error to the target inside the changed region is below `share` of copying the source's.

    Region: the mask "changed", else where source and target differ by more than `threshold`. Samples that ask for no change inside
    it are undefined. `error` beside it: that error over copying's, 1 for a copy and 0 for the target.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated", "pixels:source", "pixels:target"})
    wants: ClassVar[frozenset[str]] = frozenset({"masks:changed"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"error": "lower"}

    share: float = 0.25
    threshold: float = 0.1

    def update(self, samples: Samples) -> None:
        region, target = changed_region(samples, self.threshold), samples.pixels["target"]
        made = masked_mean_square(samples.pixels["generated"], target, region)
        copied = masked_mean_square(samples.pixels["source"], target, region)
        defined = copied > 0
        self.keep(samples.ids, torch.where(defined, (made < self.share * copied).float(), torch.nan))
        self.keep(samples.ids, torch.where(defined, made / copied, torch.nan), also="error")


@metric("preservation")
@dataclass
class Preservation(MeanMetric):
    """PSNR in dB of generated against source outside the changed region, at most `ceiling`; `mse` beside it (pixels in [-1, 1]).

    Region: the mask "changed", else where source and target differ by more than `threshold`. Undefined where all may change.
    """

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated", "pixels:source"})
    wants: ClassVar[frozenset[str]] = frozenset({"pixels:target", "masks:changed"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"
    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"mse": "lower"}

    threshold: float = 0.1
    ceiling: float = 60.0

    def update(self, samples: Samples) -> None:
        outside = 1 - changed_region(samples, self.threshold)
        error = masked_mean_square(samples.pixels["generated"], samples.pixels["source"], outside)
        self.keep(samples.ids, (10 * torch.log10(4 / error)).clamp_max(self.ceiling))
        self.keep(samples.ids, error, also="mse")


@dataclass
class _Reader(MeanMetric):
    """Reads generated images with `eye`, which whoever builds the metric sets, and compares with facts["scene_<scene>"]["objects"],
    mappings with shape, color, x and y."""

    needs: ClassVar[frozenset[str]] = frozenset({"pixels:generated", "facts"})
    better: ClassVar[Literal["higher", "lower"]] = "higher"

    eye: Eye | None = field(default=None, init=False)

    def read(self, samples: Samples, scene: str) -> list[tuple[Sequence[Mapping[str, Any]], Sequence[Seen]]]:
        if self.eye is None:
            raise RecipeError("this metric reads objects from images and has no eye; set `eye` (toy world: read_scene)")
        truths = [facts[f"scene_{scene}"]["objects"] for facts in samples.facts]
        return list(zip(truths, map(self.eye, samples.pixels["generated"]), strict=True))


@metric("attribute_accuracy")
@dataclass
class AttributeAccuracy(_Reader):
    """Share of the true objects that are seen with their shape and color, wherever they are; `exact` beside it: all of them and no
    others. scene: which truth, "target" or "source" (what a copy would show)."""

    also_better: ClassVar[Mapping[str, Literal["higher", "lower"]]] = {"exact": "higher"}

    scene: Literal["target", "source"] = "target"

    def update(self, samples: Samples) -> None:
        found, exact = [], []
        for truth, seen in self.read(samples, self.scene):
            matches = match(truth, seen)
            found.append(len(matches) / len(truth) if truth else math.nan)
            exact.append(float(len(matches) == len(truth) == len(seen)))
        self.keep(samples.ids, torch.tensor(found))
        self.keep(samples.ids, torch.tensor(exact), also="exact")


@metric("relation_accuracy")
@dataclass
class RelationAccuracy(_Reader):
    """Share of the relations (left of, above) between true objects at least `margin` of the side apart that hold in what is seen.

    An object that is not seen fails its relations. Undefined for scenes without such a pair. scene: as of `attribute_accuracy`.
    """

    scene: Literal["target", "source"] = "target"
    margin: float = 0.15

    def update(self, samples: Samples) -> None:
        scores = [self._score(truth, match(truth, seen)) for truth, seen in self.read(samples, self.scene)]
        self.keep(samples.ids, torch.tensor(scores))

    def _score(self, truth: Sequence[Mapping[str, Any]], found: Mapping[int, Seen]) -> float:
        held = []
        for i in range(len(truth)):
            for j in range(i + 1, len(truth)):
                for axis in ("x", "y"):
                    gap = truth[j][axis] - truth[i][axis]
                    if abs(gap) >= self.margin:
                        both = i in found and j in found
                        held.append(both and (getattr(found[j], axis) - getattr(found[i], axis)) * gap > 0)
        return sum(held) / len(held) if held else math.nan


def match(truth: Sequence[Mapping[str, Any]], seen: Sequence[Seen]) -> dict[int, Seen]:
    """For each true object that is seen with its shape and color, the nearest such reading not taken yet, by the truth's index."""
    left, found = list(seen), {}
    for index, thing in enumerate(truth):
        near = [o for o in left if (o.shape, o.color) == (thing["shape"], thing["color"])]
        if near:
            found[index] = min(near, key=lambda o: (o.x - thing["x"]) ** 2 + (o.y - thing["y"]) ** 2)
            left.remove(found[index])
    return found
