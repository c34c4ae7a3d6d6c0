"""What a comparison measured, before it becomes a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..engine.train import Result
from ..jobs.suite import Suite
from ..metrics.evaluate import Evaluation
from ..recipe import Recipe

__all__ = ["Key", "Outcomes"]

Key = tuple[str, int]


@dataclass(frozen=True)
class Outcomes:
    """arms: what each changes, the baseline first. evaluations, results, made, histories (of validations): by (arm, seed)."""

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
