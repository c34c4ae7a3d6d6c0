"""Which suite a recipe's task is judged by."""

from __future__ import annotations

from collections.abc import Sequence

from ..core.errors import DataError, RecipeError
from ..data.rows import Row
from ..engine.encoded import EncodedRows
from ..recipe import Recipe
from ..tasks.base import Task
from .clips import Clips
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
    if task.makes == "clips":
        frames = _frames(recipe, chosen)
        return Clips(chosen, encoded, size, content, frames, recipe.evaluate.step, task.images)
    _check_offset(recipe, chosen)
    return Rollouts(chosen, encoded, size, content, recipe.rollout.steps, recipe.evaluate.step)


def _frames(recipe: Recipe, rows: Sequence[Row]) -> int:
    """How many frames every row's clip has. DataError where they differ; RecipeError where that is too few for evaluate.step."""
    counts = {row.clips["target"].frames: row for row in reversed(rows)}
    if len(counts) > 1:
        found = ", ".join(f"{count} ({row.id!r})" for count, row in sorted(counts.items()))
        raise DataError(f"data.test: clips of different lengths, {found} frames; an evaluation takes clips of one length")
    frames = next(iter(counts))
    if recipe.evaluate.step >= frames:
        raise RecipeError(f"evaluate.step is {recipe.evaluate.step}, but clips have {frames} frames, counted from 0")
    return frames


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
