"""Wrong captions end to end: trained with, matched by, compared, resumed, and corrected where the objective has a known bias."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.cli import main
from relatum.compare.schema import Report, from_json
from relatum.core.toml import merged
from relatum.engine.match import DiffusionScorer
from relatum.models.correction import CORRECTION_FILE
from relatum.models.families.stable_diffusion import open_stable_diffusion
from support.runs import records, tiny_recipe, weights

SCENES = {"min_objects": 2, "max_objects": 2, "related": True, "negatives": 2, "grounds": "white", "layout": "sides"}
WORLD: dict[str, Any] = {
    "data": {
        "train": {"kind": "toy_scenes", "count": 12, **SCENES},
        "test": {"kind": "toy_scenes", "split": "test", "count": 6, **SCENES},
    },
    "task": {"kind": "image", "negatives": 2},
}
QUICK = {"max_train_steps": 2, "validation_steps": 1, "checkpointing_steps": 1}
ASKED = {
    "scoring": {"levels": 2},
    "watch": ["wino"],
    "watch_items": 3,
    "benchmarks": {
        "wino": {"kind": "winoworld", "count": 6, "grounds": "white", "layout": "sides"},
        "find": {"kind": "toy_retrieval", "count": 8, "candidates": 4, "layout": "sides"},
    },
}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_image: Path, cache: Path) -> Path:
    """A finished comparison of plain fine-tuning, hard negatives in two passes, and a contrast of captions."""
    arms = {
        "none": {"objectives": {"main": {"kind": "no_negative"}}},
        "hard": {"objectives": {"main": {"kind": "hard_negative", "two_pass": True}}, "task": {"negative_random": 0.5}},
        "contrast": {"objectives": {"captions": {"kind": "caption_contrast", "captions": 3}}},
    }
    recipe = tiny_recipe(
        tmp_path_factory.mktemp("binding"), tiny_image, cache, **WORLD, train=QUICK, arms=arms, match=ASKED,
        objectives={"main": {"kind": "no_negative"}}, evaluate={"metrics": ["fd", "kd"]},
        compare={"seeds": [0, 1], "headline": "wino.group"},
    )  # fmt: skip
    assert main(["compare", str(recipe)]) == 0
    return recipe


def report_of(recipe: Path) -> Report:
    return from_json((recipe.with_suffix("") / "report.json").read_text())


def test_the_report_holds_what_was_asked(compared: Path) -> None:
    report = report_of(compared)
    cells = {(e.arm, e.metric): e for e in (*report.estimates, *report.controls)}
    for arm in ("none", "hard", "contrast", "before training", "CLIP"):
        assert cells[arm, "wino.text"].n in (6, 12)
        assert cells[arm, "find.image"].n in (8, 16)
    assert ("CLIP", "fd") not in cells
    judged = {d.metric for d in report.differences if d.arm == "hard"}
    assert {"wino.text", "wino.image", "wino.group", "find.text", "fd"} <= judged
    assert "wino.text.binding" not in judged
    assert {"matched_error", "null_error", "negative_error", "wino.text"} <= {chart.metric for chart in report.charts}
    assert "<svg" in (compared.with_suffix("") / "report.html").read_text()


def test_asking_again_scores_nothing(compared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command after the end reads every answer from disk; only the controls' CLIP may look again."""
    before = (compared.with_suffix("") / "report.json").read_text()

    def refuse(*_: Any) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(DiffusionScorer, "errors", refuse)
    assert main(["compare", str(compared)]) == 0
    now, then = (json.loads(text)["estimates"] for text in ((compared.with_suffix("") / "report.json").read_text(), before))
    assert now == then


def test_watched_answers_are_one_line_a_validation(compared: Path) -> None:
    folder = compared.with_suffix("") / "arms" / "hard" / "seed-1"
    lines = [json.loads(line) for line in (folder / "matching.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [0, 1, 2]
    assert all(0 <= line["wino.group"]["mean"] <= 1 for line in lines)


@pytest.fixture(scope="module")
def biased(tmp_path_factory: pytest.TempPathFactory, tiny_image: Path, cache: Path) -> Path:
    """A run of delta_fm that took its steps in one go."""
    terms = {"main": {"kind": "delta_fm", "strength": 0.3}}
    recipe = tiny_recipe(tmp_path_factory.mktemp("delta"), tiny_image, cache, **WORLD, train=QUICK, objectives=terms)
    assert main(["train", str(recipe)]) == 0
    return recipe


def test_a_biased_model_is_corrected_wherever_it_is_opened(biased: Path, tiny_image: Path) -> None:
    """Outputs are .7 of the raw ones plus .3 * a * mean; the plain weights lie in the folder as they were trained."""
    final = biased.with_suffix("") / "final"
    assert (final / CORRECTION_FILE).is_file()
    model = open_stable_diffusion(str(final), 0)
    assert model.correction is not None
    g = torch.Generator().manual_seed(0)
    sample = torch.randn(2, *model.latent_shape(16), generator=g)
    told, time = model.text.encode(["a red star", ""]), torch.tensor([600, 600])
    with torch.no_grad():
        got = model.unet(sample, time, encoder_hidden_states=told, return_dict=False)[0]
        model.unet._forward_hooks.clear()
        raw = model.unet(sample, time, encoder_hidden_states=told, return_dict=False)[0]
    a, _ = model.kind.mix(model.path.at(time))
    torch.testing.assert_close(got, 0.7 * raw + 0.3 * a[:, None, None, None] * model.correction.mean)
    assert not torch.equal(weights(final)["conv_in.weight"], weights(tiny_image)["conv_in.weight"])


def test_a_biased_model_is_no_base_of_another(biased: Path, cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    again = tiny_recipe(
        biased.parent,
        biased.with_suffix("") / "final",
        cache,
        "again",
        **WORLD,
        train=QUICK,
        objectives={"m": {"kind": "delta_fm"}},
    )
    assert main(["train", str(again)]) == 2
    assert "was trained with delta_fm and is corrected for it already" in capsys.readouterr().err


def test_the_journal_tells_what_was_active(compared: Path, tmp_path: Path) -> None:
    (tmp_path / "run").symlink_to(compared.with_suffix("") / "arms" / "hard" / "seed-0")
    shares = [record["main/active_fraction"] for record in records(tmp_path / "run.toml") if "main/active_fraction" in record]
    assert len(shares) == 2
    assert all(0 <= share <= 1 for share in shares)


REFUSED = [
    ({"task": {"negatives": 0}, "objectives": {"m": {"kind": "hard_negative"}}}, "asks for view 'negative'.*set task.negatives"),
    ({"objectives": {"m": {"kind": "hard_negative", "faithful": True, "micro_batch": 3}}}, "micro_batch 3 does not divide"),
    ({"objectives": {"m": {"kind": "delta_fm"}}, "train": {"train_batch_size": 1}}, "takes other samples of the batch"),
    ({"objectives": {"m": {"kind": "caption_contrast"}}, "task": {"negatives": 1, "negative_image": 0.5}}, "one picture"),
    ({"match": {"benchmarks": {"../a": {"kind": "winoworld"}}}}, "cannot name one"),
    ({"match": {"benchmarks": {"fd": {"kind": "winoworld"}}}}, "a metric has this name"),
    ({"match": {"benchmarks": {"w": {"kind": "winoworl"}}}}, "no benchmark of kind 'winoworl'"),
    ({"data": {"negatives": {"count": 1}}, "task": {"kind": "image", "negatives": 3}}, "data.negatives.count makes 1"),
]  # fmt: skip


@pytest.mark.parametrize(("sections", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_check_refuses_what_cannot_run(
    sections: dict[str, Any], words: str, tmp_path: Path, tiny_image: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tiny_recipe(tmp_path, tiny_image, cache, **merged(WORLD, sections))
    assert main(["check", str(recipe)]) == 2
    assert re.search(words, capsys.readouterr().err)


def test_an_unknown_layer_is_refused_before_training(
    tmp_path: Path, tiny_image: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    terms = {"d": {"kind": "denoise"}, "m": {"kind": "dispersive", "layer": "midblock"}}
    recipe = tiny_recipe(tmp_path, tiny_image, cache, **WORLD, train=QUICK, objectives=terms)
    assert main(["train", str(recipe)]) == 2
    assert "no layer 'midblock' to listen to" in capsys.readouterr().err
