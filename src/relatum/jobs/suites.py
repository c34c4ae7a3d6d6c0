"""Which suite a recipe's task is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import RecipeError
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
    _check_offset(recipe, chosen)
    return Rollouts(chosen, encoded, size, content, recipe.rollout.steps, recipe.evaluate.step)


def _check_offset(recipe: Recipe, rows: Sequence[Row]) -> None:
    """RecipeError where rollouts are asked for other times than those of the true frames they would be compared with."""
    asked = recipe.rollout.offset
    for row in rows:
        known = row.facts.get("offset")
        if asked is not None and known is not None and "future.2" in row.images and abs(asked - known) > 0.01 * known:
            raise RecipeError(
                f"rollout.offset is {asked} s, but the true frames of {row.id!r} lie {known:g} s apart; "
                "leave it out, or give the test reader that offset"
            )
