"""Trainings in stages: what a recipe stands on is trained before it."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import RecipeError
from ..recipe import Recipe, read_recipe, shipped
from .training import is_finished, run_folder, train_recipe

__all__ = ["stages_before", "train_before"]


def stages_before(recipe: Recipe, above: tuple[str, ...] = ()) -> list[Recipe]:
    """The recipes that `recipe` stands on, the first to train first, each once. RecipeError for one that stands on itself."""
    found: dict[str, Recipe] = {}
    for name in recipe.after:
        beside = recipe.folder / name
        stage = read_recipe(beside if name not in shipped() and beside.is_file() else name)
        if stage.name in (*above, recipe.name):
            raise RecipeError(f"after: {name!r} stands on {recipe.name!r}, which stands on it; leave one of them out")
        found |= {one.name: one for one in (*stages_before(stage, (*above, recipe.name)), stage)}
    return list(found.values())


def train_before(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Trains, or resumes, every stage before this one that has not ended in its run folder. `say` hears of each."""
    for stage in stages_before(recipe):
        if not is_finished(run_folder(stage)):
            say(f"{recipe.name} stands on {stage.name}, which is trained first")
            train_recipe(stage)
