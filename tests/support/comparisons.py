"""What a comparison measured, made up: a few scores, clips and divergences that become a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import torch

from relatum.compare.divergence import Divergence
from relatum.compare.outcomes import Key, Outcomes
from relatum.data.toy.clips import ToyClips
from relatum.engine.encoded import EncodedRows
from relatum.engine.job import Result
from relatum.jobs.clips import Clips
from relatum.metrics.base import Estimate
from relatum.metrics.evaluate import Evaluation
from relatum.recipe import recipe_from

__all__ = ["FRAMES", "SIZE", "compared", "evaluation"]

FRAMES, SIZE = 4, 16


def evaluation(scores: Mapping[str, Mapping[str, float]]) -> Evaluation:
    """Metrics that are means over rows, higher is better."""
    values = {name: sum(one.values()) / len(one) for name, one in scores.items()}
    return Evaluation(
        {name: Estimate(value, None, len(scores[name])) for name, value in values.items()},
        {name: dict(one) for name, one in scores.items()},
        {},
        dict.fromkeys(scores, "") | {name: name.replace("_", " ") for name in scores},
        dict.fromkeys(scores, ""),
        directions=dict.fromkeys(scores, "higher"),
    )


def compared(
    scores: Mapping[Key, Sequence[float]], lost: Mapping[Key, int | None] | None = None, given: int = 0, **more: Any
) -> Outcomes:
    """scores: of the headline, one a row, by (arm, seed), the baseline's arm first. lost: updates of trials that diverged.

    Every trial made gray clips, (arm number + 1) / 10 bright.
    """
    trials, lost = [*scores, *(lost or {})], lost or {}
    arms, seeds = list(dict.fromkeys(arm for arm, _ in trials)), sorted({seed for _, seed in trials})
    count = len(next(iter(scores.values())))
    rows = ToyClips(count=count, split="test", frames=FRAMES).rows()
    recipe = recipe_from(
        {
            "name": "made up",
            "data": {"train": {"kind": "toy_clips"}, "resolution": SIZE},
            "model": {"kind": "animatediff"},
            "task": {"kind": "video"},
            "evaluate": {"metrics": ["motion_caption"]},
            "compare": {"seeds": seeds, "headline": "motion_caption", "resamples": 200, "grid_rows": 2},
        },
        Path("."),
    )
    ids = [row.id for row in rows]
    result = Result(10, 40, 2.0, 5.0)
    table: dict[str, Any] = {
        "recipe": recipe,
        "arms": {arm: {} for arm in arms},
        "evaluations": {key: evaluation({"motion_caption": dict(zip(ids, one, strict=True))}) for key, one in scores.items()},
        "results": dict.fromkeys(scores, result),
        "made": {(a, s): torch.full((count, 3, FRAMES, SIZE, SIZE), (arms.index(a) + 1) / 10) for a, s in scores},
        "controls": {"still clip": evaluation({"motion_caption": dict.fromkeys(ids, 0.0)})},
        "suite": Clips(rows, Mock(spec=EncodedRows), SIZE, "", FRAMES, 1, given),
        "skipped": [],
        "not_measured": [],
        "environment": {"versions": {}},
        "seconds": 1.0,
        "divergences": [Divergence(a, s, update, f"update {update}: no number") for (a, s), update in lost.items()],
    }
    return Outcomes(**{**table, **more})
