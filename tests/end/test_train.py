"""`relatum train` from a recipe to a run folder, whose models stock diffusers loads."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from relatum.cli import main
from relatum.core.draws import Draws
from support.runs import finished_weights, records, tiny_recipe, weights

# diffusers 0.42 hands torch tensors to numpy's __array__ in its sigma schedules
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny: Path, cache: Path) -> Path:
    """The recipe of a finished run with everything on."""
    settings = {"use_ema": True, "ema_decay": 0.9, "report_to": "tensorboard", "validation_steps": 2, "sample_rows": 2}
    recipe = tiny_recipe(tmp_path_factory.mktemp("finished"), tiny, cache, train=settings)
    assert main(["train", str(recipe), "-o", "seed=3"]) == 0
    return recipe


def run_of(recipe: Path) -> Path:
    return recipe.with_suffix("")


def picture(path: Path) -> np.ndarray:
    with Image.open(path) as file:
        return np.asarray(file)


def test_the_run_folder_is_complete(finished: Path) -> None:
    run = run_of(finished)
    assert (run / "recipe.toml").read_text() == finished.read_text()
    resolved = tomllib.loads((run / "recipe.resolved.toml").read_text())
    assert resolved["seed"] == 3
    assert resolved["train"]["adam_beta1"] == 0.9  # a default that the recipe does not say
    assert "torch" in json.loads((run / "env.json").read_text())["versions"]
    for step in (2, 4):
        folder = run / "checkpoints" / f"checkpoint-{step}"
        assert {p.name for p in folder.iterdir()} >= {"unet", "unet_ema", "trainer_state.json", "optimizer.safetensors"}
        assert {p.name for p in (folder / "unet_ema").iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
        state = json.loads((folder / "trainer_state.json").read_text())
        assert (state["step"], state["samples_seen"]) == (step, 4 * step)
    assert [p.name for p in sorted((run / "sanity").glob("*.png"))] == ["step-000000.png"]
    assert (run / "sanity" / "batch.tsv").read_text().count("\n") == 2
    assert [p.name for p in sorted((run / "samples").glob("*.png"))] == [f"step-{n:06d}.png" for n in (0, 2, 4)]
    assert [*run.rglob("events.out.tfevents*")]
    card = (run / "README.md").read_text()
    assert "denoise" in card
    assert card.startswith("---")


def test_the_journal_tells_every_step_and_validation(finished: Path) -> None:
    lines = records(finished)
    steps = [r["step"] for r in lines if "total" in r]
    assert steps == [1, 2, 3, 4]
    assert all(r["samples_seen"] == 4 * r["step"] for r in lines if "total" in r)
    validations = [r for r in lines if r.get("event") == "validation"]
    assert [r["step"] for r in validations] == [0, 2, 4]
    assert validations[-1]["held_out"]["denoise"]["n"] == 6
    assert sum(row["n"] for row in validations[-1]["by_level"] if row["term"] == "denoise") == 6
    assert [r["step"] for r in lines if r.get("event") == "done"] == [4]


def test_nothing_is_pickled(finished: Path) -> None:
    for path in run_of(finished).rglob("*"):
        if path.is_file():
            head = path.read_bytes()[:4]
            assert path.suffix not in (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npy"), path
            assert head[:2] != b"PK", path  # torch.save's zip
            assert not (head[:1] == b"\x80" and head[1] <= 5), path  # a bare pickle


def test_the_final_weights_are_the_average_and_the_checkpoint_keeps_both(finished: Path) -> None:
    run = run_of(finished)
    last = run / "checkpoints" / "checkpoint-4"
    final, raw = weights(run / "final"), weights(last)
    from safetensors.torch import load_file

    averaged = load_file(last / "unet_ema" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(final[name], averaged[name]) for name in final)
    assert any(not torch.equal(raw[name], averaged[name]) for name in final)


def test_edit_gives_the_stock_pipelines_picture(finished: Path, tmp_path: Path) -> None:
    """The stock pipeline gets our addressed noise as `latents`; both round to 8 bits, so one step of 1/255 may differ."""
    from diffusers import StableDiffusionInstructPix2PixPipeline

    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    words = ["--instruction", "make it red", "--seed", "5", "--num-inference-steps", "3", "--guidance-scale", "2.5"]
    place = ["--image", str(tmp_path / "in.png"), "--output", str(tmp_path / "out.png")]
    assert main(["edit", str(run_of(finished)), *place, *words, "--image-guidance-scale", "1.25"]) == 0
    ours = picture(tmp_path / "out.png").astype(int)
    pipe: Any = StableDiffusionInstructPix2PixPipeline.from_pretrained(run_of(finished) / "final")
    pipe.set_progress_bar_config(disable=True)
    stock = pipe(
        "make it red",
        image=Image.fromarray(pixels),
        num_inference_steps=3,
        guidance_scale=2.5,
        image_guidance_scale=1.25,
        latents=Draws(5, [0]).normal("sample", (4, 8, 8)),
        output_type="np",
    ).images[0]
    assert ours.shape == (32, 32, 3)
    assert np.abs(ours - stock * 255).max() <= 1
    assert ours.std() > 1


def test_variations_lie_side_by_side(finished: Path, tmp_path: Path) -> None:
    Image.new("RGB", (40, 32), (200, 10, 10)).save(tmp_path / "in.png")
    place = ["--image", str(tmp_path / "in.png"), "--output", str(tmp_path / "deep" / "out.png"), "--instruction", "x"]
    assert main(["edit", str(run_of(finished)), *place, "--count", "2", "--num-inference-steps", "1"]) == 0
    height, width, _ = picture(tmp_path / "deep" / "out.png").shape
    assert width > 2.5 * height


def test_lora_loads_with_the_stock_pipeline(tmp_path: Path, tiny: Path, cache: Path) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel

    lora = {"train": {"kind": "lora", "rank": 2}}
    recipe = tiny_recipe(tmp_path, tiny, cache, model=lora, train={"learning_rate": 1e-2})
    assert main(["train", str(recipe)]) == 0
    final = run_of(recipe) / "final"
    pipe: Any = StableDiffusionInstructPix2PixPipeline.from_pretrained(tiny)
    g = torch.Generator().manual_seed(0)
    asked = torch.randn(1, 8, 4, 4, generator=g), torch.tensor([300]), torch.randn(1, 48, 32, generator=g)
    merged: Any = UNet2DConditionModel.from_pretrained(final / "unet")
    with torch.no_grad():
        base = pipe.unet(*asked).sample
        pipe.load_lora_weights(final)
        adapted, whole = pipe.unet(*asked).sample, merged(*asked).sample
    torch.testing.assert_close(adapted, whole, atol=1e-5, rtol=0)
    assert float((adapted - base).abs().max()) > 1e-3
    checkpoint = run_of(recipe) / "checkpoints" / "checkpoint-4" / "unet"
    assert [p.name for p in checkpoint.iterdir()] == ["pytorch_lora_weights.safetensors"]


def test_partial_training_changes_only_what_matches(tmp_path: Path, tiny: Path, cache: Path) -> None:
    partial = {"train": {"kind": "partial", "pattern": r"attn2\.to_[kv]"}}
    recipe = tiny_recipe(tmp_path, tiny, cache, model=partial, train={"max_train_steps": 2})
    assert main(["train", str(recipe)]) == 0
    before, after = weights(tiny), finished_weights(recipe)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if re.search(r"attn2\.to_[kv]", name)}
    assert changed


def test_text_to_image_trains_and_loads(tmp_path: Path, tiny_image: Path, cache: Path) -> None:
    from diffusers import StableDiffusionPipeline

    data = {"train": {"kind": "toy_scenes", "count": 8}, "test": {"kind": "toy_scenes", "count": 4}}
    data = {side: {**table, "split": side} for side, table in data.items()}
    train = {"sample_rows": 2, "max_train_steps": 2}
    recipe = tiny_recipe(tmp_path, tiny_image, cache, data=data, task={"kind": "image"}, train=train)
    assert main(["train", str(recipe)]) == 0
    pipe: Any = StableDiffusionPipeline.from_pretrained(run_of(recipe) / "final")
    pipe.set_progress_bar_config(disable=True)
    picture = pipe("a red circle", num_inference_steps=2, height=16, width=16, output_type="np").images[0]
    assert picture.shape == (16, 16, 3)
    assert [*(run_of(recipe) / "samples").glob("*.png")]


# eps as large as the gradients: Adam's first updates are then smooth in them, and a wrong gradient shows in proportion.
SMOOTH = {"max_train_steps": 2, "adam_epsilon": 1e-2, "learning_rate": 1e-2}


def test_accumulating_two_of_four_is_one_of_eight(tmp_path: Path, tiny: Path, cache: Path) -> None:
    found = []
    for batch, accumulation in ((8, 1), (4, 2)):
        train = {**SMOOTH, "train_batch_size": batch, "gradient_accumulation_steps": accumulation}
        recipe = tiny_recipe(tmp_path, tiny, cache, f"by-{batch}", train=train)
        assert main(["train", str(recipe)]) == 0
        found.append(finished_weights(recipe))
    base = weights(tiny)
    moved = max(float((found[0][name] - base[name]).abs().max()) for name in base)
    apart = max(float((found[0][name] - found[1][name]).abs().max()) for name in base)
    assert moved > 1e-3
    assert apart < 1e-6
