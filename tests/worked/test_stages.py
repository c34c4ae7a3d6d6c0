"""Recipes that stand on others: what is trained first, and what cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from relatum.core.errors import RecipeError
from relatum.jobs.stages import stages_before
from relatum.recipe import Recipe, read_recipe

BASE = """
name = "{name}"
after = {after}
data = {{ train = {{ kind = "toy_clips", count = 4 }} }}
model = {{ kind = "animatediff" }}
task = {{ kind = "video" }}
"""


def stages(folder: Path, **after: list[str]) -> dict[str, Recipe]:
    """Recipes in files of their names."""
    for name, others in after.items():
        (folder / f"{name}.toml").write_text(BASE.format(name=name, after=[f"{other}.toml" for other in others]))
    return {name: read_recipe(folder / f"{name}.toml") for name in after}


def test_the_first_comes_first_and_each_once(tmp_path: Path) -> None:
    """d stands on b and c, which both stand on a: a, b, c."""
    recipes = stages(tmp_path, a=[], b=["a"], c=["a"], d=["b", "c"])
    assert [one.name for one in stages_before(recipes["d"])] == ["a", "b", "c"]
    assert stages_before(recipes["a"]) == []


def test_a_circle_is_refused(tmp_path: Path) -> None:
    recipes = stages(tmp_path, a=["b"], b=["c"], c=["a"])
    with pytest.raises(RecipeError, match="stands on"):
        stages_before(recipes["a"])


def test_what_does_not_exist_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text(BASE.format(name="a", after=["nothing"]))
    with pytest.raises(RecipeError, match="nothing"):
        stages_before(read_recipe(tmp_path / "a.toml"))


def test_the_shipped_stages_of_a_video_model() -> None:
    assert [one.name for one in stages_before(read_recipe("video_tune"))] == ["video_images", "video_motion"]
