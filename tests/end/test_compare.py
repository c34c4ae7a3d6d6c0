"""`relatum compare`: arms and seeds to one report, on the toy world and on a user's own pictures."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from relatum.cli import main
from relatum.compare.schema import Report, from_json
from relatum.recipe import read_recipe
from support.pictures import edits, folder
from support.runs import records, tiny_recipe, weights

EXAMPLES = Path(__file__).parents[2] / "examples"
CONTRAST = {"objectives": {"contrast": {"kind": "contrast", "to": "target", "weight": 0.5}}}
QUICK = {"max_train_steps": 2, "validation_steps": 2, "checkpointing_steps": 2}


def report_of(recipe: Path) -> Report:
    return from_json((recipe.with_suffix("") / "report.json").read_text())


def steps(recipe: Path) -> list[dict[str, Any]]:
    """The journal's records of training steps."""
    return [record for record in records(recipe) if "total" in record]


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny: Path, cache: Path) -> Path:
    """A finished comparison: the baseline, its twin, and a contrast."""
    arms: dict[str, Any] = {"mse": {}, "twin": {}, "contrast": CONTRAST}
    metrics = {"metrics": ["psnr", "edit_accuracy", "preservation", "fd", "kd"]}
    recipe = tiny_recipe(
        tmp_path_factory.mktemp("compared"), tiny, cache, train=QUICK, arms=arms, compare={"seeds": [0, 1]}, evaluate=metrics
    )
    assert main(["compare", str(recipe)]) == 0
    return recipe


def test_one_report_in_three_forms(compared: Path) -> None:
    run = compared.with_suffix("")
    report = report_of(compared)
    assert [arm.name for arm in report.arms] == ["mse", "twin", "contrast"]
    assert report.seeds == (0, 1)
    assert report.headline == "edit_accuracy"
    measured = {m.metric for m in report.measures}
    assert {"psnr", "edit_accuracy", "preservation", "fd", "kd"} <= measured
    assert {(e.arm, e.metric) for e in report.estimates} == {(arm, m) for arm in ("mse", "twin", "contrast") for m in measured}
    compared_metrics = {(d.arm, d.metric) for d in report.differences}
    assert {(arm, m) for arm in ("twin", "contrast") for m in ("psnr", "fd", "kd", "edit_accuracy")} <= compared_metrics
    assert "mse" not in {d.arm for d in report.differences}
    assert {c.arm for c in report.controls} >= {"copy the source", "round trip of the target"}
    assert all(report.cost[arm].seconds > 0 for arm in ("mse", "twin", "contrast"))
    assert report.loss_by_level["mse"]
    page, text = (run / "report.html").read_text(), (run / "report.md").read_text()
    assert "edit accuracy" in page.lower().replace("_", " ")
    for words in ("contrast", "psnr"):
        assert words in page.lower()
        assert words in text.lower()
    assert "http://" not in page.replace("http://www.w3.org", "")  # self-contained
    assert 'src="https' not in page


def test_a_twin_is_exactly_equal(compared: Path) -> None:
    """Same rows, noise, levels and sampling noise: two arms that say the same differ in nothing at all."""
    report = report_of(compared)
    mse, twin = ({e.metric: e for e in report.estimates if e.arm == arm} for arm in ("mse", "twin"))
    for metric, estimate in mse.items():
        assert dataclasses.replace(twin[metric], arm="mse") == estimate
    for difference in report.differences:
        if difference.arm == "twin":
            assert difference.estimate == 0
            assert difference.low == difference.high == 0
    other = [d.estimate for d in report.differences if d.arm == "contrast" and d.metric in ("psnr", "kd")]
    assert all(value != 0 for value in other)
    for seed in (0, 1):
        a, b = (steps(compared.with_suffix("") / "arms" / arm / f"seed-{seed}.toml") for arm in ("mse", "twin"))
        assert [r["total"] for r in a] == [r["total"] for r in b]


def test_all_arms_see_the_same_rows_noise_and_levels(compared: Path) -> None:
    """Before the first update the arms' weights are equal, so their denoising losses are, bit for bit; another seed's is not."""
    first = {
        (arm, seed): steps(compared.with_suffix("") / "arms" / arm / f"seed-{seed}.toml")[0]["denoise"]
        for arm in ("mse", "contrast")
        for seed in (0, 1)
    }
    assert first["mse", 0] == first["contrast", 0]
    assert first["mse", 1] == first["contrast", 1]
    assert first["mse", 0] != first["mse", 1]


def test_a_comparison_goes_on_where_it_stopped(
    tmp_path: Path, tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four trials, interrupted at the start of the third: the second call trains two, and edits only what is not edited yet."""
    import relatum.jobs.editing
    import relatum.jobs.training

    recipe = tiny_recipe(tmp_path, tiny, cache, train=QUICK, arms={"mse": {}, "contrast": CONTRAST}, compare={"seeds": [0, 1]})
    trained: list[str] = []
    real, stop_at = relatum.jobs.training.train, 3

    def train(job: Any) -> Any:
        if len(trained) + 1 == stop_at:
            raise KeyboardInterrupt
        trained.append("/".join(job.folder.parts[-2:]))
        return real(job)

    generated: list[int] = []
    generate = relatum.jobs.editing.Pictures.make
    monkeypatch.setattr(relatum.jobs.training, "train", train)
    monkeypatch.setattr(relatum.jobs.editing.Pictures, "make", lambda *a: (generated.append(1), generate(*a))[1])
    assert main(["compare", str(recipe)]) == 130
    assert trained == ["mse/seed-0", "contrast/seed-0"]
    assert not (recipe.with_suffix("") / "report.json").exists()
    stop_at = 0
    assert main(["compare", str(recipe)]) == 0
    assert trained[2:] == ["mse/seed-1", "contrast/seed-1"]
    assert len(generated) == 5  # four trials and the guessing control
    assert "report.html" in capsys.readouterr().out
    assert main(["compare", str(recipe)]) == 0
    assert (len(trained), len(generated)) == (4, 5)


REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "budget": ({"arms": {"a": {}, "b": {"train": {"max_train_steps": 9}}}}, "arms.b.train.max_train_steps"),
    "data": ({"arms": {"a": {}, "b": {"data": {"train": {"count": 9}}}}}, "arms.b.data.train.count"),
    "rate": ({"arms": {"a": {}, "b": {"train": {"learning_rate": 1.0}}}}, "compare.may_differ"),
    "alone": ({"arms": {"a": {}}}, "two or more"),
    "baseline": ({"arms": {"mse": {}, "b": {}}, "compare": {"baseline": "mes"}}, "did you mean 'mse'"),
    "headline": ({"arms": {"a": {}, "b": {}}, "compare": {"headline": "pnsr"}}, "did you mean 'psnr'"),
    "seeds": ({"arms": {"a": {}, "b": {}}, "compare": {"seeds": [1, 1]}}, "different seeds"),
    "typo": ({"arms": {"a": {}, "b": {"train": {"use_emma": True}}}}, "did you mean 'use_ema'"),
    "unknown": ({"arms": {"a": {}, "b": {"objectives": {"c": {"kind": "contrasted"}}}}}, "did you mean 'contrast'"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_compared_is_refused_before_anything_runs(
    tmp_path: Path, tiny: Path, cache: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sections, words = REFUSALS[case]
    recipe = tiny_recipe(tmp_path, tiny, cache, **sections)
    assert main(["compare", str(recipe)]) == 2
    assert words in capsys.readouterr().err
    assert not recipe.with_suffix("").exists()


def test_a_recipe_may_say_that_arms_differ_in_their_rate(
    tmp_path: Path, tiny: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arms = {"a": {}, "b": {"train": {"learning_rate": 1e-4}}}
    recipe = tiny_recipe(tmp_path, tiny, cache, arms=arms, compare={"may_differ": ["train.learning_rate"]})
    assert main(["check", str(recipe)]) == 0
    assert "# arm b: {'train.learning_rate': '0.0001'}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CLIP of random weights in transformers' layout."""
    from transformers import CLIPConfig, CLIPModel

    from relatum.models.tiny import byte_tokenizer

    folder = tmp_path_factory.mktemp("clip")
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    words = {"vocab_size": 514, "max_position_embeddings": 48, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513}
    config = CLIPConfig(
        text_config={**small, **words}, vision_config={**small, "image_size": 16, "patch_size": 8}, projection_dim=8
    )
    CLIPModel(config).save_pretrained(folder)
    byte_tokenizer().save_pretrained(folder)
    return folder


def test_a_users_own_pictures(tmp_path: Path, tiny: Path, cache: Path, tiny_clip: Path) -> None:
    """No captions, no known scenes: what needs them is listed, the rest is measured. Markup in an instruction stays text."""
    rows = [{k: row[k] for k in ("input_image", "edited_image", "edit_prompt")} for row in edits(10)]
    for row in rows:
        row["edit_prompt"] = "<script>alert(1)</script> & <img src=x onerror=alert(2)>"
    folder(tmp_path / "own", rows)
    recipe = tiny_recipe(tmp_path, tiny, cache, train=QUICK, arms={"mse": {}, "contrast": CONTRAST})
    table = read_recipe(recipe).table()
    table["data"] = {"train": {"kind": "folder", "path": "own"}, "held_out": 4, "resolution": 16}
    table["evaluate"] |= {"metrics": ["psnr", "clip_sim", "clip_dir", "attribute_accuracy"], "clip": str(tiny_clip)}
    table["compare"]["headline"] = "psnr"
    recipe.write_text(tomli_w.dumps(table))
    assert main(["compare", str(recipe)]) == 0
    report = report_of(recipe)
    assert {m.metric for m in report.measures} == {"psnr"}
    lacking = {line.partition(":")[0]: line for line in report.not_measured}
    assert lacking.keys() == {"clip_sim", "clip_dir", "attribute_accuracy", "fd", "safety_rate"}
    assert "texts target" in lacking["clip_sim"]
    assert "facts" in lacking["attribute_accuracy"]
    page = (recipe.with_suffix("") / "report.html").read_text()
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert all(line.partition(":")[0] in page for line in report.not_measured)


def test_the_example_of_a_new_objective(tmp_path: Path, tiny: Path, cache: Path) -> None:
    """The file is short, and the recipe beside it runs as a user would run it, smaller."""
    assert len((EXAMPLES / "ten_line_objective.py").read_text().splitlines()) <= 25
    settings = {
        "model.pretrained_model_name_or_path": tiny,
        "output_dir": tmp_path / "new-objective",
        "cache_dir": cache,
        "data.resolution": 16,
        "data.train.count": 12,
        "data.test.count": 6,
        "train.max_train_steps": 2,
        "train.train_batch_size": 4,
        "train.sample_rows": 0,
        "train.logging_steps": 1,
        "sample.num_inference_steps": 1,
        "evaluate.metrics": ["psnr", "edit_accuracy"],
        "compare.seeds": [0],
        "compare.resamples": 50,
    }
    overrides = [word for key, value in settings.items() for word in ("-o", f"{key}={json.dumps(value, default=str)}")]
    assert main(["compare", str(EXAMPLES / "new_objective.toml"), *overrides]) == 0
    report = report_of(tmp_path / "new-objective.toml")
    assert [arm.name for arm in report.arms] == ["mse", "charbonnier"]
    assert any("charbonnier" in value for value in report.arms[1].differences.values())
    losses = steps(tmp_path / "new-objective" / "arms" / "charbonnier" / "seed-0.toml")[0]
    assert np.isfinite(losses["sharp"])
    assert losses["sharp"] >= 0


def test_side_by_side_is_one_after_the_other(tmp_path: Path, tiny: Path, cache: Path, compared: Path) -> None:
    """Two trials in processes of their own end in the weights of this one, to rounding: the number of threads may differ."""
    threads = torch.get_num_threads()
    metrics = {"metrics": ["psnr", "edit_accuracy"]}
    recipe = tiny_recipe(
        tmp_path,
        tiny,
        cache,
        train=QUICK,
        arms={"mse": {}, "contrast": CONTRAST},
        compare={"seeds": [0], "workers": 2},
        evaluate=metrics,
    )
    assert main(["compare", str(recipe)]) == 0
    assert torch.get_num_threads() == threads
    for arm in ("mse", "contrast"):
        one, other = (weights(r.with_suffix("") / "arms" / arm / "seed-0" / "final") for r in (recipe, compared))
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)
