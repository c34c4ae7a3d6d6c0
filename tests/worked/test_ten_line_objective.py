"""The example of a researcher's own objective: one file outside the package, named by a recipe."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from relatum.core.draws import Draws
from relatum.core.outcome import Outcome
from relatum.core.path import NoiseLevel
from relatum.core.prediction import Parametrization, Prediction
from relatum.core.toml import import_plugin
from relatum.objectives.blend import read_blend
from relatum.recipe import read_recipe
from support.outcomes import judge, pixels, wrong_by

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_recipe_finds_it_and_it_counts_by_hand() -> None:
    """Width .1: errors of 0 and .3 cost 0 and sqrt(.09 + .01) - .1 = .21623, mean .10811. At SNR 1/99 the sample is left out."""
    recipe = read_recipe(EXAMPLES / "new_objective.toml")
    arm = recipe.arm("charbonnier", seed=1)
    term = read_blend(arm.objectives).terms["sharp"]
    assert term.weight == 0.5
    clean = torch.zeros(2, 1, 1, 2)
    raw = torch.tensor([0.0, 0.3, 0.0, 0.3]).reshape(2, 1, 1, 2)
    level = NoiseLevel(torch.zeros(2), torch.tensor([0.8, 0.1]), torch.tensor([0.6, 0.99**0.5]))
    predictions = {"matched": Prediction(raw, clean, level, Parametrization.X0)}
    outcome = Outcome(clean, clean, level, predictions, {"target": clean}, ["a", "b"], Draws(0, [0, 1]))
    torch.testing.assert_close(term.objective(outcome), torch.tensor([(0.1**0.5 - 0.1) / 2, 0.0]))


def test_the_one_for_clips_counts_by_hand() -> None:
    """r = 0 0 6 bends by 6: (12 + .5 / 6 * 36) / 1.5 = 10. With a cut it does not: 12 / 1.5 = 8."""
    import_plugin(EXAMPLES / "ten_line_clip_objective.py")
    outcome = wrong_by(pixels([[0, 0, 6]] * 2), [[True, True], [True, False]])
    assert judge("bending")(outcome).tolist() == pytest.approx([10, 8])


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path: Path) -> None:
    allowed = 25 if path.name.startswith("ten_line") else 70
    assert len(path.read_text(encoding="utf-8").splitlines()) <= allowed
