"""Recipes of representations from start to scores: what a finished run leaves is opened by name and judges pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from relatum.core.errors import DataError, RecipeError
from relatum.engine.journal import read_journal
from relatum.engine.match import ClipScorer, DiffusionScorer, Matching
from relatum.engine.probe import open_probed
from relatum.engine.train import _Loop
from relatum.jobs.checking import check_recipe
from relatum.jobs.training import train_recipe
from relatum.models.families.stable_diffusion import open_stable_diffusion
from relatum.models.trainable import LORA_FILE
from relatum.pretrained import open_extractor
from relatum.recipe import Recipe, read_recipe
from support.runs import tiny_recipe

PROBE = {"width": 8, "queries": 2, "heads": 2, "joint": 6}
PAIRS = torch.tensor([[0, 0], [0, 1], [1, 0]])
TEXTS = ["a red circle", "a blue square"]


def tiny(folder: Path, base: Path, cache: Path, name: str, step: str, model: dict[str, Any], **sections: Any) -> Recipe:
    data = {side: {"kind": "toy_scenes", "split": side, "count": count} for side, count in (("train", 12), ("test", 6))}
    path = tiny_recipe(folder, base, cache, name, model=model, task={"kind": "image"}, data=data, train={"step": step}, **sections)
    return read_recipe(path)


def images() -> torch.Tensor:
    return torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1


def test_a_probe_then_the_unet(tmp_path: Path, tiny_image: Path, cache: Path) -> None:
    """Stage 1 leaves a probe that names its model; stage 2 goes on with it and leaves a pipeline with LoRA beside its probe."""
    step = "relatum.engine.probe:probe_step"
    model: dict[str, Any] = {"kind": "probe"}
    first = tiny(tmp_path, tiny_image, cache, "probing", step, {**model, "probe": PROBE})
    check_recipe(first)
    train_recipe(first, quiet=True)
    probing = tmp_path / "probing" / "final"
    assert sorted(path.name for path in probing.rglob("*") if path.is_file()) == ["probe.json", "probe.safetensors"]
    before = open_probed(probing)(images(), TEXTS, PAIRS)
    lora = {"kind": "lora", "rank": 2}
    second = {**model, "begin": str(probing), "denoising": 1.0, "train": lora}
    train_recipe(tiny(tmp_path, tiny_image, cache, "tuning", step, second), quiet=True)
    tuned = tmp_path / "tuning" / "final"
    assert (tuned / LORA_FILE).is_file()
    assert (open_probed(tuned)(images(), TEXTS, PAIRS) - before).abs().max() > 1e-4
    scorer = DiffusionScorer(open_stable_diffusion(str(tuned), 0), Matching(levels=2))
    assert torch.isfinite(scorer(images(), TEXTS, PAIRS)).all()
    plain = {**second, "begin": "", "matching": 0.0}
    train_recipe(tiny(tmp_path, tiny_image, cache, "plain", step, plain), quiet=True)
    assert not (tmp_path / "plain" / "final" / "probe").exists()
    with pytest.raises(DataError, match="no probe that can be read"):
        train_recipe(tiny(tmp_path, tiny_image, cache, "lost", step, {**second, "begin": "nowhere"}), quiet=True)
    with pytest.raises(RecipeError, match="was made with"):
        train_recipe(tiny(tmp_path, tiny_image, cache, "other", step, {**second, "probe": {**PROBE, "joint": 5}}), quiet=True)


def test_the_map_begins_as_the_recipe_says(tmp_path: Path, tiny_image: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By default it is fitted to the latents of the rows; stopped after two updates and resumed, the CLIP ends as in one go."""
    model = {"kind": "clip", "pretrained_model_name_or_path": "clip", "weight": 1.0, "diffusion": str(tiny_image)}
    drawn = dict[str, float]()
    for name, kind in (("whole", "fitted"), ("fresh", "fresh")):
        recipe = tiny(tmp_path, tiny_image, cache, name, "relatum.engine.distill:distill_step", {**model, "map": kind})
        train_recipe(recipe, quiet=True)
        drawn[kind] = next(line["drawn_rms"] for line in read_journal(tmp_path / name) if "drawn_rms" in line)
    assert abs(drawn["fitted"] / drawn["fresh"] - 1) > 0.1
    parts = tiny(tmp_path, tiny_image, cache, "parts", "relatum.engine.distill:distill_step", model)
    update = _Loop._update

    def stop(self: Any) -> None:
        if self.updates == 2:
            raise KeyboardInterrupt
        update(self)

    with monkeypatch.context() as patch:
        patch.setattr(_Loop, "_update", stop)
        with pytest.raises(KeyboardInterrupt):
            train_recipe(parts, quiet=True)
    train_recipe(parts, quiet=True)
    whole, resumed, fresh = (load_file(tmp_path / name / "final" / "model.safetensors") for name in ("whole", "parts", "fresh"))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)
    assert any(not torch.equal(whole[name], fresh[name]) for name in whole)


def test_a_clip_judged_by_a_diffusion_model(tmp_path: Path, tiny_image: Path, cache: Path) -> None:
    """The finished folder is a CLIP that the extractors open; a task that gives pictures is refused."""
    model = {"kind": "clip", "pretrained_model_name_or_path": "clip", "weight": 1.0, "diffusion": str(tiny_image)}
    recipe = tiny(tmp_path, tiny_image, cache, "clip", "relatum.engine.distill:distill_step", model)
    result = train_recipe(recipe, quiet=True)
    assert result.held_out["held_out"]["sds"]["mean"] > 0
    final = tmp_path / "clip" / "final"
    fresh = ClipScorer(open_extractor("clip"))(images(), TEXTS, PAIRS)
    assert (ClipScorer(open_extractor(str(final)))(images(), TEXTS, PAIRS) - fresh).abs().max() > 1e-3
    path = tiny_recipe(tmp_path, tiny_image, cache, "wrong", model=model, train={"step": "relatum.engine.distill:distill_step"})
    with pytest.raises(RecipeError, match='takes kind = "image"'):
        train_recipe(read_recipe(path), quiet=True)
