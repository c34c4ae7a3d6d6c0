"""Two processes with four samples each are one with eight: accelerate over gloo on the loopback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support.runs import finished_weights, in_processes, records, tiny_recipe, weights

DENOISE = {"kind": "denoise", "snr_gamma": 5.0}
# eps as large as the gradients: Adam's first updates are then smooth in them, and a wrong gradient shows in proportion.
SMOOTH = {"max_train_steps": 2, "adam_epsilon": 1e-2, "learning_rate": 1e-2, "validation_steps": 2}


def contrast(**settings: Any) -> dict[str, Any]:
    """Not capped, so that its gradient is as large as denoising's."""
    return {"denoise": DENOISE, "contrast": {"kind": "contrast", "to": "source", "weight": 0.1, "cap": 5.0, **settings}}


CASES: dict[str, dict[str, Any]] = {
    "denoise": {"denoise": DENOISE},
    "contrast": contrast(),
    "contrast and queue": contrast(queue=12),
    "faithful": {"denoise": DENOISE, "contrast": {"kind": "contrast", "faithful": True, "weight": 0.01}},
}


@pytest.mark.parametrize("case", CASES)
def test_two_processes_are_one(tmp_path: Path, tiny: Path, cache: Path, case: str) -> None:
    found, journals = [], []
    for processes, batch in ((1, 8), (2, 4)):
        recipe = tiny_recipe(
            tmp_path,
            tiny,
            cache,
            f"by-{batch}",
            objectives=CASES[case],
            train={**SMOOTH, "train_batch_size": batch, "use_ema": True},
        )
        codes, said = in_processes(["train", str(recipe)], tmp_path / f"logs-{batch}", processes)
        assert codes == [0] * processes, said
        found.append(finished_weights(recipe.parent / f"by-{batch}.toml"))
        journals.append([r for r in records(recipe) if "total" in r])
    base = weights(tiny)
    moved = max(float((found[0][name] - base[name]).abs().max()) for name in base)
    apart = max(float((found[0][name] - found[1][name]).abs().max()) for name in base)
    assert moved > 1e-4
    assert apart < 1e-6
    one, two = journals
    for a, b in zip(one, two, strict=True):
        assert a.keys() == b.keys()
        assert all(b[k] == pytest.approx(a[k], rel=1e-4, abs=1e-6) for k in a), (a, b)


# An objective that breaks for one row of the second process.
POISON = """
from dataclasses import dataclass

import torch

from relatum.core.outcome import MATCHED
from relatum.core.registry import objective


@objective("poisoned")
@dataclass(frozen=True)
class Poisoned:
    asks = (MATCHED,)

    def __call__(self, outcome):
        bad = torch.zeros(len(outcome.ids), dtype=torch.bool)
        if outcome.training and outcome.ranks.rank == 1 and outcome.draws.addresses[0] >= 8:
            bad[2] = True
        return outcome.error().masked_fill(bad, float("nan"))
"""


def test_a_poisoned_row_on_one_process_stops_both_before_the_update(tmp_path: Path, tiny: Path, cache: Path) -> None:
    """Update 0 holds positions 0 to 7, update 1 those from 8: process 1 breaks at position 14. Both stop alike."""
    (tmp_path / "poison.py").write_text(POISON)
    recipe = tiny_recipe(
        tmp_path,
        tiny,
        cache,
        plugins=["poison.py"],
        objectives={"spoiled": {"kind": "poisoned"}},
        train={**SMOOTH, "checkpointing_steps": 1, "max_train_steps": 3},
    )
    codes, said = in_processes(["train", str(recipe)], tmp_path / "logs", 2)
    assert codes == [4, 4], said
    messages = [[line for line in text.splitlines() if "not finite" in line] for text in said]
    assert len(messages[0]) == 1
    assert messages[0] == messages[1]
    assert "term 'spoiled' is not finite for toy-train-" in messages[0][0]
    assert "at noise level" in messages[0][0]
    run = recipe.with_suffix("")
    assert (run / "checkpoints" / "latest").read_text() == "checkpoint-1\n"
    assert not (run / "final").exists()
    assert not torch.equal(*(w["conv_in.weight"] for w in (weights(tiny), weights(run / "checkpoints" / "checkpoint-1"))))
