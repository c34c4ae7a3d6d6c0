"""What a curation kept trains the task frames: out of the original videos by the shipped example, and from an export."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from relatum.cli import main
from relatum.jobs.exporting import Output, export
from support.films import bars, film
from support.manifests import kept
from support.runs import finished_weights, records

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_on_curated.toml"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four videos of 2.4 s, two clips of each, in groups of their own; the hash of whose names says which are held out."""
    folder = tmp_path_factory.mktemp("curated")
    videos = [film(folder / f"{i}.mp4", [np.roll(bars(j, 64, 80), 11 * i, 1) for j in range(60)]) for i in range(4)]
    return kept(folder / "run", [(path, [(0, 28), (30, 60)]) for path in videos], groups={p: p.stem for p in videos})


def recipe_of(folder: Path, tiny: Path, data: dict[str, Any]) -> Path:
    """The example with a tiny model, for three steps."""
    table = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    table |= {"data": {**data, "resolution": 16}, "output_dir": str(folder / "run"), "cache_dir": str(folder / "cache")}
    table["model"] = {"kind": "stable_diffusion", "pretrained_model_name_or_path": str(tiny)}
    table["train"] |= {"max_train_steps": 3, "train_batch_size": 4, "lr_warmup_steps": 0, "logging_steps": 1, "sample_rows": 0}
    table["train"] |= {"checkpointing_steps": 3, "validation_steps": 3}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "run.toml"
    path.write_text(tomli_w.dumps(table), encoding="utf-8")
    return path


def test_the_example_trains_on_what_was_kept(tmp_path: Path, tiny: Path, run: Path) -> None:
    data = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))["data"]
    for side in ("train", "test"):
        data[side] |= {"path": str(run), "held_out": 0.4, "split_seed": 1}
    recipe = recipe_of(tmp_path, tiny, data)
    assert main(["train", str(recipe)]) == 0
    assert records(recipe)[-1]["samples_seen"] == 12
    assert finished_weights(recipe)


@pytest.mark.parametrize("format", ["webdataset", "folder"])
def test_exported_pairs_train_too(tmp_path: Path, tiny: Path, run: Path, format: Any) -> None:
    """Of four videos one is held out, and its pairs with it."""
    found = export(run, f"pairs-{format}", Output(format=format, size=32, per_video=4))
    recipe = recipe_of(tmp_path, tiny, {"train": dict(found.reader), "held_out": 4, "split_seed": 0})
    assert main(["train", str(recipe)]) == 0
    assert finished_weights(recipe)
