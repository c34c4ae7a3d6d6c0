"""Trainings in stages: what a recipe stands on is trained before it."""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import RecipeError
from ..recipe import Recipe, read_recipe
from .training import finished, is_finished, run_folder, signature, train_recipe

__all__ = ["stages_before", "train_before"]


def stages_before(recipe: Recipe, above: tuple[str, ...] = ()) -> list[Recipe]:
    """The recipes that `recipe` stands on, the first to train first, each once; a file beside it comes before a shipped name.

    RecipeError for one that stands on itself.
    """
    found: dict[str, Recipe] = {}
    for name in recipe.after:
        beside = [path for path in (recipe.folder / name, recipe.folder / f"{name}.toml") if path.is_file()]
        stage = read_recipe(beside[0] if beside else name)
        if stage.name in (*above, recipe.name):
            raise RecipeError(f"after: {name!r} stands on {recipe.name!r}, which stands on it; leave one of them out")
        found |= {one.name: one for one in (*stages_before(stage, (*above, recipe.name)), stage)}
    return list(found.values())


def train_before(recipe: Recipe, say: Callable[[str], None]) -> None:
    """Trains, or resumes, every stage before this one that has not ended in its run folder. `say` hears of each.

    RecipeError where one has ended with other settings.
    """
    for stage in stages_before(recipe):
        if is_finished(run_folder(stage)):
            finished(run_folder(stage), signature(stage))  # refuses a run of other settings
        else:
            say(f"{recipe.name} stands on {stage.name}, which is trained first")
            train_recipe(stage)
