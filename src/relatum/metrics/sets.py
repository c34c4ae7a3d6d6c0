"""Metrics between the set of generated images and the set of targets, on an extractor's features."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.registry import metric
from ..pretrained.clips import framestats
from .base import Estimate, MeanMetric, Samples
from .frechet import frechet_debiased, frechet_distance, frechet_jackknife, frechet_null, frechet_null_permuted, weighted_frechet
from .kernel import kernel_estimate, kernel_statistic

__all__ = ["Fd", "FdDebiased", "FdNull", "FeatDist", "FeatureSets", "Kd", "Sets", "Statistic"]

Statistic = Callable[[np.ndarray, np.ndarray], float]


@dataclass
class Sets:
    """The common part of metrics on the set of generated samples and the set of targets: keeps a row of numbers of each by sample
    id, so that shards merge, order does not matter and compare can resample."""

    kept: dict[str, dict[str, Tensor]] = field(default_factory=lambda: {"generated": {}, "target": {}}, init=False)

    def merge(self, other: Sets) -> None:
        for side, rows in other.kept.items():
            self.kept[side].update(rows)

    @property
    def sets(self) -> tuple[list[str], Tensor, list[str], Tensor]:
        """ids and features (n, d) float64 of generated, then of target, each in the order of its ids; of frames those of `last`."""
        ids = {side: sorted(rows) for side, rows in self.kept.items()}
        rows = {side: [kept[i] if kept[i].ndim == 1 else kept[i][self.last] for i in ids[side]] for side, kept in self.kept.items()}
        x, y = (torch.stack(rows[side]) if rows[side] else torch.zeros(0, 1) for side in self.kept)
        return ids["generated"], x, ids["target"], y

    @property
    def last(self) -> int:
        """Of frames: the last step that every rollout has, counted from the given frame as 0."""
        return min((len(row) for kept in self.kept.values() for row in kept.values()), default=0) - 1

    @property
    def count(self) -> int:
        return min(len(rows) for rows in self.kept.values())

    def compute(self) -> Estimate:
        if self.count < 2:
            return Estimate(math.nan, None, self.count, "fewer than 2 samples a set")
        return self.estimate()

    def estimate(self) -> Estimate:
        raise NotImplementedError

    def statistic(self) -> Statistic | None:
        """The number as a function of multiplicities (n,), (m,) of generated and target, each over its sorted ids; all ones give
        the estimate. None where the metric has no weighted form or fewer than 2 samples."""
        return None


@dataclass
class FeatureSets(Sets):
    """Sets of features.

    extractor: a name ("tinyconv", "randconv", "clip"), folder, file or hub id; see relatum.pretrained.
    of: what is embedded: "" images, "frames:" every frame of a video (kept as (t, d)), "clips:" videos whole. over_time: of frames
    their statistics over time are kept (`framestats`).
    """

    better: ClassVar[Literal["higher", "lower"]] = "lower"
    of: ClassVar[str] = ""
    over_time: ClassVar[bool] = False

    extractor: str = "tinyconv"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"features:{self.extractor}:{self.of}{side}" for side in ("generated", "target"))

    def update(self, samples: Samples) -> None:
        """A batch may hold one side alone, where the sets are not paired."""
        present = [side for side in self.kept if f"{self.extractor}:{self.of}{side}" in samples.features]
        if not present:
            raise DataError(f"no features of extractor {self.extractor!r} among: {', '.join(samples.features) or 'none'}")
        for side in present:
            rows = samples.features[f"{self.extractor}:{self.of}{side}"].detach().double().cpu()
            self.kept[side].update(zip(samples.ids, framestats(rows) if self.over_time else rows, strict=True))


@metric("fd")
@dataclass
class Fd(FeatureSets):
    """Fréchet distance, biased upwards by about `fd_null`: compare equal n only.

    groups: of the jackknife that gives the standard error; 0 leaves it out.
    """

    groups: int = 10

    def estimate(self) -> Estimate:
        _, x, _, y = self.sets
        groups = min(self.groups, self.count // 2)
        return Estimate(frechet_distance(x, y), frechet_jackknife(x, y, groups) if groups > 1 else None, self.count)

    def statistic(self) -> Statistic | None:
        _, x, _, y = self.sets
        return None if self.count < 2 else lambda wx, wy: weighted_frechet(x, y, wx, wy)


@metric("fd_null")
@dataclass
class FdNull(FeatureSets):
    """What `fd` would be for two sets of one distribution, by the formula or (`by = "permutation"`) by mixing the sets."""

    by: Literal["formula", "permutation"] = "formula"
    permutations: int = 20
    seed: int = 0

    def estimate(self) -> Estimate:
        _, x, _, y = self.sets
        if self.by == "permutation":
            drawn = frechet_null_permuted(x, y, self.permutations, self.seed)
            return Estimate(drawn.value, drawn.stderr, self.count)
        note = "" if self.count >= 2 * x.shape[1] else f"{self.count} samples of {x.shape[1]} features: first order only"
        return Estimate(frechet_null(x, y), None, self.count, note)


@metric("fd_debiased")
@dataclass
class FdDebiased(FeatureSets):
    """`fd` less `fd_null`; NaN with the reason below two samples a feature. groups: as of `fd`."""

    groups: int = 10

    def estimate(self) -> Estimate:
        _, x, _, y = self.sets
        result, groups = frechet_debiased(x, y), min(self.groups, self.count // 2)
        stderr = frechet_jackknife(x, y, groups) if groups > 1 and not math.isnan(result.value) else None
        return Estimate(result.value, stderr, self.count, result.note)


@metric("kd")
@dataclass
class Kd(FeatureSets):
    """Kernel distance of the whole sets, unbiased, may be negative. origin: where the kernel's zero lies, see `kernel_distance`.

    Sets of equal ids are paired: an output is not compared with its own reference (see `kernel_estimate`). Older tables print a
    mean over random subsets: that is `kernel_distance_subsets`.
    """

    origin: Literal["auto", "zero", "pooled"] = "auto"

    def estimate(self) -> Estimate:
        x, y, how = self._settings()
        return kernel_estimate(x, y, **how)

    def statistic(self) -> Statistic | None:
        x, y, how = self._settings()
        return None if self.count < 2 else kernel_statistic(x, y, **how)

    def _settings(self) -> tuple[Tensor, Tensor, dict[str, Any]]:
        ids_x, x, ids_y, y = self.sets
        return x, y, {"paired": ids_x == ids_y, "origin": self.origin}


@metric("featdist")
@dataclass
class FeatDist(MeanMetric):
    """Root-mean-square difference of a generated image's features from its target's, mean over samples."""

    better: ClassVar[Literal["higher", "lower"]] = "lower"

    extractor: str = "tinyconv"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"features:{self.extractor}:{side}" for side in ("generated", "target"))

    def update(self, samples: Samples) -> None:
        gap = samples.features[f"{self.extractor}:generated"].double() - samples.features[f"{self.extractor}:target"].double()
        self.keep(samples.ids, gap.square().mean(1).sqrt())
