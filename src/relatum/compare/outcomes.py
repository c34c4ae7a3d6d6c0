"""What a comparison measured, before it becomes a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..engine.train import Result
from ..jobs.suite import Suite
from ..metrics.evaluate import Evaluation
from ..recipe import Recipe
from .divergence import Divergence, shown_seed, surviving

__all__ = ["Key", "Outcomes"]

Key = tuple[str, int]


@dataclass(frozen=True)
class Outcomes:
    """arms: what each changes, the baseline first. evaluations, results, made: by (arm, seed), of trials that did not diverge; made
    of one seed alone, `shown`. histories (of validations), seen (by monitors): by (arm, seed), of all trials."""

    recipe: Recipe
    arms: Mapping[str, Mapping[str, str]]
    evaluations: Mapping[Key, Evaluation]
    results: Mapping[Key, Result]
    made: Mapping[Key, Tensor]
    controls: Mapping[str, Evaluation]
    suite: Suite
    skipped: list[str]
    not_measured: list[str]
    environment: Mapping[str, Any]
    seconds: float
    histories: Mapping[Key, Mapping[int, Mapping[str, float]]] = field(default_factory=dict)
    seen: Mapping[Key, Mapping[int, Mapping[str, float]]] = field(default_factory=dict)
    divergences: Sequence[Divergence] = ()

    def seeds(self, arm: str) -> list[int]:
        """Those with which the arm did not diverge."""
        return surviving(arm, self.recipe.compare.seeds, self.divergences)

    def of(self, arm: str, seeds: Sequence[int] | None = None) -> list[Evaluation]:
        """The arm's evaluations with these seeds, or with all that it has."""
        return [self.evaluations[arm, seed] for seed in (self.seeds(arm) if seeds is None else seeds)]

    @property
    def first(self) -> Evaluation:
        """One that tells what was measured: of a trial, or of a control where no trial came to its end."""
        return next(iter({**self.evaluations, **self.controls}.values()))

    @property
    def shown(self) -> int:
        """The seed whose results are shown."""
        return shown_seed(self.arms, self.recipe.compare.seeds, self.divergences)
