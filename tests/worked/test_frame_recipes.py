"""Recipes with objectives of clips: where they are refused, and what is said of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relatum.core.errors import RecipeError
from relatum.core.toml import merged
from relatum.jobs.checking import check_recipe, check_settings
from relatum.recipe import Recipe, recipe_from

CLIPS = {"kind": "toy_clips", "count": 4, "frames": 4}
BASE: dict[str, Any] = {
    "name": "plain",
    "data": {"train": CLIPS, "test": {**CLIPS, "split": "test"}, "resolution": 16},
    "model": {"kind": "animatediff", "pretrained_model_name_or_path": "nowhere"},
    "task": {"kind": "video"},
    "objectives": {"denoise": {"kind": "denoise"}},
}


def recipe(**more: Any) -> Recipe:
    return recipe_from(merged(BASE, more), Path("."))


@pytest.mark.parametrize("kind", ["frame_difference", "temporal_residual", "entropy_floor"])
def test_a_task_of_pictures_has_no_frames(kind: str) -> None:
    pictures = {"kind": "toy", "count": 8}
    data = {"train": pictures, "test": {**pictures, "split": "test"}}
    asked = recipe(data=data, model={"kind": "stable_diffusion"}, task={"kind": "edit"}, objectives={"smooth": {"kind": kind}})
    with pytest.raises(RecipeError, match=r"objectives\.smooth: compares frames of clips, but task 'edit' has none"):
        check_settings(asked)
    check_settings(recipe(objectives={"smooth": {"kind": kind}}))


def test_check_says_what_an_objective_is_known_for() -> None:
    """Of the recipe and of its arms, each once; nothing of those that are harmless."""
    arms = {
        "robust": {"objectives": {"smooth": {"kind": "frame_difference"}}},
        "faithful": {"objectives": {"smooth": {"kind": "frame_difference", "faithful": True}}},
        "anchored": {"objectives": {"smooth": {"kind": "anchored_difference"}}},
    }
    lines = check_recipe(recipe(arms=arms))
    said = [line for line in lines if "objectives.smooth" in line]
    assert [line.partition(": ")[0] for line in said] == ["arms.faithful.objectives.smooth", "arms.anchored.objectives.smooth"]
    assert "never unlearned" in said[0]
    assert "a quarter of what denoise takes" in said[1]
