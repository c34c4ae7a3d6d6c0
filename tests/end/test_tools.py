"""`relatum evaluate`, `cache`, `check` and `doctor`, and what the command line does with its words."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relatum.cli import main
from relatum.models.codec import Codec
from support.runs import tiny_recipe


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path, cache: Path) -> Path:
    recipe = tiny_recipe(tmp_path_factory.mktemp("finished"), tiny, cache, train={"max_train_steps": 1})
    assert main(["train", str(recipe)]) == 0
    return recipe


def pictures(folder: Path, seed: int, count: int = 6, shift: int = 0) -> Path:
    """Random pictures; `shift` is added to every value."""
    folder.mkdir()
    values = np.random.default_rng(seed).integers(0, 200, (count, 24, 24, 3))
    for i, value in enumerate(values):
        Image.fromarray((value + shift).astype(np.uint8)).save(folder / f"{i}.png")
    return folder


def test_a_finished_run_is_evaluated_and_its_card_tells(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(finished), "--output", str(tmp_path / "e.json")]) == 0
    said = capsys.readouterr().out
    estimates = json.loads((tmp_path / "e.json").read_text())
    assert {"psnr", "edit_accuracy", "preservation"} <= estimates.keys()
    assert estimates["psnr"]["n"] == 6
    assert f"{estimates['psnr']['value']:.4f}" in said
    card = (finished.with_suffix("") / "README.md").read_text()
    assert "psnr" in card
    assert len([*(finished.with_suffix("") / "made").glob("*/*.png")]) == 6


def test_evaluating_before_training_is_an_error(
    tmp_path: Path, tiny: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(tiny_recipe(tmp_path, tiny, cache))]) == 3
    assert "relatum train" in capsys.readouterr().err


def test_folders_of_any_model_are_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ten grey levels of 255 apart everywhere: PSNR = 20 log10(255 / 10) = 28.13 dB."""
    made, target = pictures(tmp_path / "made", 1, shift=10), pictures(tmp_path / "target", 1)
    words = ["--generated", str(made), "--target", str(target), "--extractor", "randconv", "--output", str(tmp_path / "e.json")]
    assert main(["evaluate", *words]) == 0
    estimates: dict[str, Any] = json.loads((tmp_path / "e.json").read_text())
    assert estimates["psnr"]["value"] == pytest.approx(28.1308, abs=1e-3)
    assert "fd" in estimates
    assert "28.13" in capsys.readouterr().out


def test_folders_that_cannot_be_paired_say_which_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made, target = pictures(tmp_path / "made", 1), pictures(tmp_path / "target", 2)
    (target / "3.png").unlink()
    assert main(["evaluate", "--generated", str(made), "--target", str(target), "--extractor", "randconv"]) == 3
    assert "3" in capsys.readouterr().err
    (target / "3.png").write_bytes((made / "3.png").read_bytes()[:90])
    assert main(["evaluate", "--generated", str(made), "--target", str(target), "--extractor", "randconv"]) == 3
    said = capsys.readouterr().err
    assert "3.png" in said
    assert "truncated" in said


def test_evaluate_wants_a_recipe_or_folders(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate"]) == 2
    assert main(["evaluate", str(finished), "--generated", str(tmp_path)]) == 2
    assert "--generated" in capsys.readouterr().err


def test_the_cache_is_filled_once_and_cleaned_of_the_rest(
    tmp_path: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(tiny_recipe(tmp_path, tiny, tmp_path / "cache"))
    encoded: list[int] = []
    encode = Codec.encode

    def counted(self: Codec, pixels: torch.Tensor) -> Any:
        encoded.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Codec, "encode", counted)
    assert main(["cache", recipe]) == 0
    assert "12 training rows and 6 held-out rows" in capsys.readouterr().out
    assert sum(encoded) == 36
    assert main(["cache", recipe, "-o", "data.resolution=32"]) == 0
    assert sum(encoded) == 72
    assert main(["cache", recipe, "--action", "verify"]) == 0
    assert "every entry is whole" in capsys.readouterr().out
    size = _bytes(tmp_path / "cache")
    assert main(["cache", recipe, "--action", "gc"]) == 0
    freed = int(capsys.readouterr().out.split("freed ")[1].split()[0])
    assert freed > 0
    assert _bytes(tmp_path / "cache") < size
    assert main(["cache", recipe]) == 0
    assert sum(encoded) == 72
    assert main(["cache", recipe, "-o", "data.resolution=32"]) == 0
    assert sum(encoded) == 108
    shard = next((tmp_path / "cache").glob("image-*/shard-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:200])
    assert main(["cache", recipe, "--action", "verify"]) == 3
    assert shard.name in capsys.readouterr().err


def _bytes(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def test_check_prints_the_recipe_resolved_and_touches_nothing(
    tmp_path: Path, tiny: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"mse": {}, "ema": {"train": {"use_ema": True}}}
    recipe = tiny_recipe(tmp_path, tiny, cache, arms=arms)
    assert main(["check", str(recipe), "-o", "seed=7"]) == 0
    said = capsys.readouterr().out
    table = tomllib.loads(said)  # what is not settings is comments
    assert table["seed"] == 7
    assert table["train"]["adam_beta2"] == 0.999
    assert "# 12 training rows, 6 held out, 0 skipped" in said
    assert "# arm mse: the base recipe" in said
    assert "# arm ema: {'train.use_ema': 'true'}" in said
    assert [p.name for p in tmp_path.iterdir()] == [recipe.name]


def test_the_resolved_recipe_is_a_recipe(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Training what recipe.resolved.toml says finds the run finished: it is the same run."""
    assert main(["train", str(finished.with_suffix("") / "recipe.resolved.toml")]) == 0
    assert "1 steps, 4 samples seen" in capsys.readouterr().out


def test_doctor_lists_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("relatum ")
    assert f"torch {torch.__version__}".split("+")[0] in said
    assert "device cpu" in said
    assert "extra data:" in said
    assert "bundled base:" in said
