"""The same command again: bit for bit where a run was killed, politely stopped, damaged or finished."""

from __future__ import annotations

import contextlib
import io
import json
import random
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.cli import main
from support.runs import finished_weights, in_processes, records, tiny_recipe

# An objective that sends the process a signal before the update of a given step, as a scheduler or a user would.
SIGNAL = """
import os
import signal
import sys
from dataclasses import dataclass

from relatum.core.outcome import MATCHED
from relatum.core.registry import objective

STEPS = []


@objective("signals")
@dataclass(frozen=True)
class Signals:
    asks = (MATCHED,)

    def __call__(self, outcome):
        if outcome.training:
            STEPS.append(len(STEPS) + 1)
            if os.environ.get("SIGNAL_AT") == str(len(STEPS)):
                os.kill(os.getpid(), getattr(signal, os.environ["SIGNAL"]))
        return outcome.error()
"""
EXTRA = {"kind": "contrast", "to": "target", "weight": 0.1, "queue": 6}
STEPS = 7


def recipe_of(folder: Path, tiny: Path, cache: Path, everything: bool) -> Path:
    """Every two steps a checkpoint; with everything: the moving average, a queue of keys, warm-up, a cosine."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "signals.py").write_text(SIGNAL)
    objectives: dict[str, Any] = {"denoise": {"kind": "signals"}}
    train: dict[str, Any] = {"max_train_steps": STEPS, "checkpointing_steps": 2, "validation_steps": STEPS}
    if everything:
        objectives["contrast"] = EXTRA
        train |= {"use_ema": True, "ema_decay": 0.9, "lr_scheduler": "cosine", "lr_warmup_steps": 2}
    task = {"kind": "edit", "conditioning_dropout_prob": 0.2}
    return tiny_recipe(folder, tiny, cache, plugins=["signals.py"], objectives=objectives, train=train, task=task)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def told(recipe: Path) -> list[dict[str, Any]]:
    """The journal without what a clock decides; training losses by noise level are of one sitting."""
    timed = ("seconds", "steps_per_second", "peak_memory", "train_by_level")
    return [{k: v for k, v in record.items() if k not in timed} for record in records(recipe)]


@pytest.mark.parametrize("everything", [False, True], ids=["plain", "everything"])
def test_a_killed_run_ends_in_the_same_bits(tmp_path: Path, tiny: Path, cache: Path, everything: bool) -> None:
    whole, killed = (recipe_of(tmp_path / name, tiny, cache, everything) for name in ("whole", "killed"))
    assert in_processes(["train", str(whole)], tmp_path / "a")[0] == [0]
    at = random.Random(20 + everything).randint(3, STEPS)
    codes, _ = in_processes(["train", str(killed)], tmp_path / "b", SIGNAL="SIGKILL", SIGNAL_AT=str(at))
    assert codes == [-signal.SIGKILL]
    assert not (killed.with_suffix("") / "final").exists()
    assert max(r["step"] for r in records(killed)) == at - 1
    codes, said = in_processes(["train", str(killed)], tmp_path / "c")
    assert codes == [0], said
    assert same(finished_weights(whole), finished_weights(killed))
    assert told(whole) == told(killed)
    steps = [r["step"] for r in told(killed) if "total" in r]
    assert steps == list(range(1, STEPS + 1))


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory, tiny: Path, cache: Path) -> tuple[Path, dict[str, torch.Tensor], str]:
    """A recipe whose run got SIGTERM in its third step, the weights of the same run in one go, and what was said at the stop."""
    recipe, whole = (recipe_of(tmp_path_factory.mktemp(name), tiny, cache, everything=False) for name in ("stopped", "whole"))
    assert main(["train", str(whole)]) == 0
    before, words = signal.getsignal(signal.SIGTERM), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(words):
        patch.setenv("SIGNAL", "SIGTERM")
        patch.setenv("SIGNAL_AT", "3")
        _forget_steps()
        assert main(["train", str(recipe)]) == 130
    assert signal.getsignal(signal.SIGTERM) is before
    return recipe, finished_weights(whole), words.getvalue()


@pytest.fixture
def stopped(once: tuple[Path, dict[str, torch.Tensor], str], tmp_path: Path) -> Path:
    """A copy of the recipe and its stopped run."""
    shutil.copytree(once[0].parent, tmp_path, dirs_exist_ok=True)
    recipe = tmp_path / once[0].name
    recipe.write_text(recipe.read_text().replace(str(once[0].parent), str(tmp_path)))
    return recipe


@pytest.fixture
def whole(once: tuple[Path, dict[str, torch.Tensor], str]) -> dict[str, torch.Tensor]:
    return once[1]


def _forget_steps() -> None:
    for name, module in sys.modules.items():
        if name.startswith("relatum_plugin_signals"):
            module.STEPS.clear()  # type: ignore[attr-defined]


def test_a_polite_stop_writes_a_checkpoint_and_says_how_to_go_on(
    stopped: Path, whole: dict[str, torch.Tensor], once: tuple[Path, dict[str, torch.Tensor], str]
) -> None:
    assert (stopped.with_suffix("") / "checkpoints" / "latest").read_text() == "checkpoint-3\n"
    assert "SIGTERM: writing a checkpoint" in once[2]
    assert "step 3" in once[2]
    assert "same command" in once[2]
    assert main(["train", str(stopped)]) == 0
    assert same(finished_weights(stopped), whole)


def test_other_settings_are_refused(stopped: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run that stands somewhere may not go on with another learning rate; where it writes its checkpoints it may."""
    resolved = stopped.with_suffix("") / "recipe.resolved.toml"
    before = resolved.read_text()
    assert main(["train", str(stopped), "-o", "train.learning_rate=0.5"]) == 2
    assert resolved.read_text() == before
    said = capsys.readouterr().err
    assert "other settings" in said
    assert "output_dir" in said
    assert main(["train", str(stopped), "-o", "train.checkpointing_steps=3"]) == 0
    assert main(["train", str(stopped), "-o", "seed=9"]) == 2
    assert "other settings" in capsys.readouterr().err


def test_half_written_checkpoints_are_passed_over(stopped: Path, whole: dict[str, torch.Tensor]) -> None:
    folder = stopped.with_suffix("") / "checkpoints"
    shutil.copytree(folder / "checkpoint-3", folder / "checkpoint-4")
    (folder / "checkpoint-4" / "complete.json").unlink()
    (folder / "checkpoint-4" / "optimizer.safetensors").write_bytes(b"half")
    (folder / ".checkpoint-5.tmp-99999999").mkdir()
    assert main(["train", str(stopped)]) == 0
    assert same(finished_weights(stopped), whole)
    assert not (folder / ".checkpoint-5.tmp-99999999").exists()


def test_a_damaged_latest_falls_back_to_the_one_before(stopped: Path, whole: dict[str, torch.Tensor]) -> None:
    folder = stopped.with_suffix("") / "checkpoints"
    with (folder / "checkpoint-3" / "optimizer.safetensors").open("r+b") as file:
        file.truncate(100)
    with pytest.warns(UserWarning, match="checkpoint-2 is used instead"):
        assert main(["train", str(stopped)]) == 0
    assert same(finished_weights(stopped), whole)


def test_checkpoints_are_pruned_to_the_limit(stopped: Path) -> None:
    assert main(["train", str(stopped), "-o", "train.checkpoints_total_limit=1"]) == 0
    folder = stopped.with_suffix("") / "checkpoints"
    named = {(folder / pointer).read_text().strip() for pointer in ("best", "last-good", "latest")}
    assert f"checkpoint-{STEPS}" in named
    assert {p.name for p in folder.iterdir()} == {"best", "last-good", "latest", *named}


def test_a_finished_run_is_not_trained_again(
    stopped: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = stopped.with_suffix("")
    assert main(["train", str(stopped)]) == 0
    first = capsys.readouterr().out
    assert f"{STEPS} steps" in first

    def forbidden(*_: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("relatum.jobs.training.train", forbidden)
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()}
    assert main(["train", str(stopped)]) == 0
    assert {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file()} == before
    assert capsys.readouterr().out == first
    assert json.loads((run / "done.json").read_text())["steps"] == STEPS
