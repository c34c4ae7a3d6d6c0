"""Every shipped recipe, made tiny, for five steps: its losses are those that are stored beside this file.

A change of a formula, of a default or of the order of draws shows here. Where it is meant, store the new numbers:
RELATUM_STORE_GOLDEN=1 pytest tests/golden
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.engine.journal import read_journal
from relatum.jobs.training import train_recipe
from relatum.recipe import Recipe, read_recipe, shipped

STORE = Path(__file__).with_name("losses.json")
STEPS = 5
# In the order in which the parts of the base are made; FOLDER is where the runs go.
UNET = {"block_out_channels": [16, 16], "head_dim": 8, "cross_attention_dim": 32, "norm_num_groups": 8, "sample_size": 4}
TINY: dict[str, dict[str, Any]] = {
    "base_autoencoder": {"model.size.block_out_channels": [8, 16, 16], "train.learning_rate": 1e-3},
    "base_clip": {
        "model.size": {"image_size": 16, "width": 32, "vision_layers": 1, "text_layers": 1, "heads": 2, "projection": 16},
        "model.vocabulary": 600,
    },
    "base_tinyconv": {},
    "base_text_to_image": {
        "model.autoencoder": "FOLDER/base_autoencoder/final",
        "model.clip": "FOLDER/base_clip/final",
        "model.size": UNET,
    },
    "base_edit": {"model.pretrained_model_name_or_path": "FOLDER/base_text_to_image/final"},
    "demo": {"model.pretrained_model_name_or_path": "FOLDER/base_edit/final"},
    "full": {"model.pretrained_model_name_or_path": "FOLDER/base_edit/final"},
    "rollouts": {"model.pretrained_model_name_or_path": "FOLDER/base_edit/final"},
    "clip_plain": {"model.pretrained_model_name_or_path": "FOLDER/base_clip/final"},
    "clip_diffusion": {
        "model.pretrained_model_name_or_path": "FOLDER/base_clip/final",
        "model.diffusion": "FOLDER/base_text_to_image/final",
    },
    "probing": {"model.pretrained_model_name_or_path": "FOLDER/base_text_to_image/final"},
    "binding": {"model.pretrained_model_name_or_path": "FOLDER/base_text_to_image/final", "match.watch": []},
    "binding_batches": {
        "model.pretrained_model_name_or_path": "FOLDER/base_text_to_image/final",
        "data.train.count": 64,
        "train.train_batch_size": 64,
    },
    "tuning": {
        "model.pretrained_model_name_or_path": "FOLDER/base_text_to_image/final",
        "model.begin": "FOLDER/probing/final",
    },
    "video_images": {"model.pretrained_model_name_or_path": "FOLDER/base_text_to_image/final"},
    "video_motion": {"model.pretrained_model_name_or_path": "FOLDER/video_images/final"},
    "video_tune": {"model.pretrained_model_name_or_path": "FOLDER/video_motion/final"},
    "motion": {"model.pretrained_model_name_or_path": "FOLDER/video_motion/final"},
}
EVERY = {
    "data.resolution": 16,
    "data.train.count": 24,
    "data.test.count": 4,
    "train.max_train_steps": STEPS,
    "train.train_batch_size": 4,
    "train.lr_warmup_steps": 2,
    "train.logging_steps": 1,
    "train.validation_steps": STEPS,
    "train.checkpointing_steps": STEPS,
    "train.sample_rows": 0,
    "train.balance_steps": 2,
    "sample.num_inference_steps": 1,
    "cache_dir": "FOLDER/cache",
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where all recipes run, one after the other: each part is made of those before it."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path_factory.mktemp("golden")
    torch.set_num_threads(threads)


def tiny(name: str, runs: Path) -> Recipe:
    settings = {key: json.dumps(value).replace("FOLDER", str(runs)) for key, value in {**EVERY, **TINY[name]}.items()}
    flat = [f"{key}={_toml(json.loads(value))}" for key, value in settings.items()]
    return read_recipe(name, flat)


def prepare(name: str, runs: Path) -> None:
    """Trains what a recipe is made of and that is not there: another process may have the tests of those."""
    settings = json.dumps(TINY[name])
    for other in TINY:
        if f"FOLDER/{other}/" in settings and not (runs / other / "final").exists():
            prepare(other, runs)
            train_recipe(tiny(other, runs), runs / other, quiet=True)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def losses(folder: Path) -> list[dict[str, float]]:
    """Of every step: the terms, the total and what is watched."""
    lines = [record for record in read_journal(folder) if "total" in record]
    others = ("step", "samples_seen", "lr")
    return [{name: value for name, value in record.items() if name not in others} for record in lines]


def test_every_shipped_recipe_is_here() -> None:
    assert set(TINY) == set(shipped())


@pytest.mark.parametrize("name", TINY)
def test_the_losses_are_the_stored_ones(name: str, runs: Path) -> None:
    prepare(name, runs)
    recipe = tiny(name, runs)
    found = {}
    for arm in recipe.arms or [""]:
        folder = runs / name / arm
        train_recipe(recipe.arm(arm, 0) if arm else recipe, folder, quiet=True)
        found[f"{name}/{arm}" if arm else name] = losses(folder)
    stored = json.loads(STORE.read_text()) if STORE.exists() else {}
    if os.environ.get("RELATUM_STORE_GOLDEN"):
        STORE.write_text(json.dumps({**stored, **found}, indent=1, sort_keys=True) + "\n")
        pytest.skip("stored")
    for key, steps in found.items():
        assert len(steps) == STEPS
        for step, (now, before) in enumerate(zip(steps, stored[key], strict=True), 1):
            assert now == pytest.approx(before, rel=1e-4, abs=1e-7), f"{key}, step {step}"
