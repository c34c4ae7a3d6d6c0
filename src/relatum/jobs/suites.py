"""Which suite a recipe's task is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from ..data.rows import Row
from ..engine.encoded import EncodedRows
from ..recipe import Recipe
from ..tasks.base import Task
from .editing import Pictures
from .rolling import Rollouts
from .suite import Suite, content_of

__all__ = ["open_suite"]


def open_suite(recipe: Recipe, task: Task, rows: Sequence[Row], encoded: EncodedRows) -> Suite:
    """The first `evaluate.rows` held-out rows that could be encoded, as the task's kind of suite."""
    by_id = {row.id: row for row in rows}
    chosen = [by_id[name] for name in encoded.ids[: recipe.evaluate.rows]]
    size, content = recipe.data.resolution, content_of(chosen)
    if task.makes == "pictures":
        return Pictures(chosen, encoded, size, content)
    return Rollouts(chosen, encoded, size, content, recipe.rollout.steps, recipe.evaluate.step)
