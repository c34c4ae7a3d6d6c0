"""Extractors, their honest names, and evaluation of folders of images from any model."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, ShapeError
from relatum.imaging import save_png
from relatum.metrics import (
    Estimate,
    Evaluation,
    Evaluator,
    Extractor,
    Reading,
    Samples,
    comparable,
    evaluate,
    open_extractor,
    weighted_kernel,
)
from relatum.metrics.evaluate import build_metrics
from relatum.pretrained import TinyConv, extractor, load_tinyconv, preprocess, save_tinyconv, vae_mean


def images(count: int, seed: int, size: int = 16) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def folder(path: Path, pixels: Tensor, start: int = 0) -> Path:
    path.mkdir()
    for i, image in enumerate(pixels):
        save_png(path / f"image{start + i:03}.png", image)
    return path


def test_folders_give_the_metrics_that_they_allow(tmp_path: Path) -> None:
    source = images(12, 0)
    target = source.clone()
    target[..., 8:] = 0.5
    generated, given, wanted = folder(tmp_path / "g", source), folder(tmp_path / "s", source), folder(tmp_path / "t", target)
    result = evaluate(generated, wanted, given, batch=5)
    assert set(result.scores) >= {"psnr", "ssim", "featdist", "coherence", "coherence.copied", "preservation", "edit_accuracy"}
    assert set(result.sets) == {"fd", "fd_null", "fd_debiased", "kd"}
    assert result["coherence.copied"].value == 1  # the generated images are copies of the sources
    assert result["edit_accuracy"].value == 0
    assert result["psnr"].n == 12
    assert result.labels["fd"].startswith("fd[randconv ")
    assert result.labels["psnr"] == "psnr"
    assert result["fd"].value > 10 * evaluate(wanted, wanted, metrics=["fd"])["fd"].value
    assert math.isnan(result["fd_debiased"].value)  # 12 samples of 64 features


def test_unpaired_sets(tmp_path: Path) -> None:
    generated, other = folder(tmp_path / "g", images(8, 0)), folder(tmp_path / "t", images(6, 1), start=100)
    result = evaluate(generated, other, paired=False)
    assert {"fd", "kd"} <= set(result.estimates)
    assert "psnr" not in result.estimates
    assert result["kd"].n == 6


@pytest.mark.parametrize(("missing", "message"), [("t", "target: nothing for 'image003'"), ("g", "has no generated image")])
def test_missing_pairs(tmp_path: Path, missing: str, message: str) -> None:
    folders = {name: folder(tmp_path / name, images(4, 0)) for name in ("g", "t")}
    (folders[missing] / "image003.png").unlink()
    with pytest.raises(DataError, match=message):
        evaluate(folders["g"], folders["t"])


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is no folder"):
        evaluate(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images"):
        evaluate(tmp_path / "empty")
    alone = folder(tmp_path / "g", images(2, 0))
    with pytest.raises(DataError, match="nothing to measure"):
        evaluate(alone)
    (alone / "image001.png").write_bytes(b"not an image")
    with pytest.raises(DataError, match=r"image001\.png"):
        evaluate(alone, alone, metrics=["psnr"])


def counting(calls: list[str]) -> Extractor:
    def embed(pixels: Tensor) -> Tensor:
        calls.append("image")
        return pixels.mean((2, 3))

    def words(texts: list[str]) -> Tensor:
        calls.append("text")
        return torch.tensor([[float(len(t)), 1.0, 0.0] for t in texts])

    return Extractor("counting", "0123456789abcdef", "none", embed, words)


def test_one_embedding_feeds_all_metrics() -> None:
    calls: list[str] = []
    tables = {name: {"extractor": "own"} for name in ("fd", "kd", "featdist", "clip_sim", "clip_dir")}
    samples = Samples(
        ["a", "b", "c"],
        {side: images(3, i) for i, side in enumerate(("generated", "source", "target"))},
        texts={"source": ["x", "xy", "x"], "target": ["abc", "abcd", "ab"]},
    )
    evaluator = Evaluator(build_metrics(tables), {"own": counting(calls)})
    evaluator.update(samples)
    assert sorted(calls) == ["image"] * 3 + ["text"] * 2
    result = evaluator.compute()
    assert {"clip_sim.source", "clip_sim.target", "clip_dir.sim_image"} <= set(result.estimates)
    assert result.labels["clip_sim"] == "clip_sim[counting 01234567]"
    with pytest.raises(DataError, match="metric clip_sim needs features:own:text:target"):
        Evaluator(build_metrics({"clip_sim": {"extractor": "own"}}), {"own": counting([])}).update(
            Samples(["a"], {"generated": images(1, 0)})
        )


def test_evaluators_of_two_processes_merge() -> None:
    def made(part: slice) -> Evaluator:
        evaluator = Evaluator(build_metrics({"fd": {"extractor": "own"}, "psnr": {}}), {"own": counting([])})
        ids = [f"s{i}" for i in range(9)][part]
        evaluator.update(Samples(ids, {"generated": images(9, 0)[part], "target": images(9, 1)[part]}))
        return evaluator

    whole, half = made(slice(0, 9)), made(slice(4, 9))
    half.merge(made(slice(0, 4)))
    for name in ("fd", "psnr"):
        assert half.compute()[name].value == pytest.approx(whole.compute()[name].value, rel=1e-6)


def test_honest_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """Known weights with another preprocessing are not FID."""
    known = Extractor("inception", "6726825d00", "299 px", lambda p: p.mean((2, 3)))
    monkeypatch.setitem(extractor.KNOWN, ("6726825d", "299 px"), {"fd": "FID"})
    assert known.label("fd") == "FID"
    assert known.label("psnr_like") == "psnr_like[inception 6726825d]"
    assert Extractor("inception", "6726825d00", "32 px", known.embed_images).label("fd") == "fd[inception 6726825d]"
    assert "in loss" in vae_mean(lambda p: p, "aa" * 8).label("fd")


def test_numbers_that_do_not_compare() -> None:
    a = Reading("fd", Estimate(1.0, None, 100), "1a2b3c4d 32 px", biased=True)
    comparable(a, Reading("fd", Estimate(2.0, None, 100), "1a2b3c4d 32 px", biased=True))
    with pytest.raises(DataError, match="n = 100 and n = 50"):
        comparable(a, Reading("fd", Estimate(2.0, None, 50), "1a2b3c4d 32 px", biased=True))
    with pytest.raises(DataError, match="extractor fingerprint"):
        comparable(a, Reading("fd", Estimate(2.0, None, 100), "ffffffff 32 px", biased=True))
    unbiased = [Reading("kd", Estimate(0.0, None, n), "f") for n in (10, 20)]
    comparable(*unbiased)


def test_tinyconv_comes_back_from_its_file(tmp_path: Path) -> None:
    model = TinyConv({"pairs": 48, "ground": 6}, width=16, features=24)
    logits = model(images(2, 0, 32))
    assert {name: tuple(v.shape) for name, v in logits.items()} == {"pairs": (2, 48), "ground": (2, 6)}
    save_tinyconv(model, tmp_path / "tiny.safetensors")
    again = load_tinyconv(tmp_path / "tiny.safetensors")
    torch.testing.assert_close(again.features(images(2, 0, 32)), model.features(images(2, 0, 32)), rtol=1e-2, atol=5e-3)  # float16
    assert [p.name for p in tmp_path.iterdir()] == ["tiny.safetensors"]
    (tmp_path / "tiny.safetensors").write_bytes(b"junk")
    with pytest.raises(DataError, match="not a tinyconv file"):
        load_tinyconv(tmp_path / "tiny.safetensors")


def test_extractors_say_what_they_are_and_refuse_what_they_cannot_read(tmp_path: Path) -> None:
    control = open_extractor("randconv")
    assert control.fingerprint == open_extractor("randconv").fingerprint
    assert control.images(images(3, 0, 40)).shape == (3, 64)
    with pytest.raises(DataError, match=r"pixels must lie in \[-1, 1\]"):
        control.images(images(1, 0) * 3)
    with pytest.raises(DataError, match="pixels must lie"):
        control.images(images(1, 0) * math.nan)
    with pytest.raises(DataError, match="no text tower"):
        control.texts(["a"])
    (tmp_path / "model").mkdir()
    with pytest.raises(DataError, match="no config"):
        open_extractor(str(tmp_path / "model"))
    with pytest.raises(DataError, match="no such file"):
        open_extractor(str(tmp_path / "inception.pt"))


def test_preprocess_crops_the_middle_and_normalizes() -> None:
    """A 4 × 8 image, short side kept: columns 2 to 5. Value 0 is .5 in [0, 1]: (.5 - .3)/.4 = .5."""
    pixels = torch.zeros(1, 3, 4, 8)
    pixels[..., :2], pixels[..., 6:] = -1, 1
    out = preprocess(pixels, 4, (0.3, 0.3, 0.3), (0.4, 0.4, 0.4))
    torch.testing.assert_close(out, torch.full((1, 3, 4, 4), 0.5))


def test_statistics_are_the_estimates_under_any_name_and_settings() -> None:
    """All counts 1 give the estimate; a row counted 0 times is a row that is not there. Order: sorted ids, whatever came first."""
    tables: dict[str, dict[str, object]] = {
        "fd": {"extractor": "own"},
        "far": {"kind": "kd", "extractor": "own", "origin": "pooled"},
        "kd": {"extractor": "own"},
        "fd_null": {"extractor": "own"},
    }

    def result(keep: list[int]) -> Evaluation:
        evaluator = Evaluator(build_metrics(tables), {"own": counting([])})
        order = [i for i in (4, 2, 0, 5, 1, 3) if i in keep]
        pixels = {"generated": images(6, 0)[order], "target": images(6, 1)[order]}
        evaluator.update(Samples([f"s{i}" for i in order], pixels))
        return evaluator.compute()

    whole, without = result(list(range(6))), result([0, 1, 3, 4, 5])
    assert set(whole.statistics) == {"fd", "far", "kd"}
    ones, less = np.ones(6), np.array([1.0, 1, 0, 1, 1, 1])
    for name, statistic in whole.statistics.items():
        assert statistic(ones, ones) == pytest.approx(whole[name].value, rel=1e-9, abs=1e-12)
    assert whole.statistics["fd"](less, less) == pytest.approx(without["fd"].value, rel=1e-9)
    assert whole["far"].value != pytest.approx(whole["kd"].value, rel=1e-9)
    generated, target = whole.sets["kd"][1], whole.sets["kd"][3]
    doubled = np.array([2.0, 1, 0, 1, 1, 1])
    by_hand = weighted_kernel(generated, target, doubled, doubled, paired=True)
    assert whole.statistics["kd"](doubled, doubled) == pytest.approx(by_hand, rel=1e-12)
    assert not result([3]).statistics


def test_directions_are_of_the_numbers_that_have_one(tmp_path: Path) -> None:
    source, target = folder(tmp_path / "s", images(4, 0)), folder(tmp_path / "t", images(4, 1))
    directions = evaluate(target, target, source).directions
    lower = {"fd", "fd_null", "fd_debiased", "kd", "featdist", "coherence.copied", "edit_accuracy.error", "preservation.mse"}
    assert {name for name, way in directions.items() if way == "lower"} == lower
    assert {name for name, way in directions.items() if way == "higher"} == {
        "psnr", "ssim", "coherence", "edit_accuracy", "preservation",
    }  # fmt: skip
    evaluator = Evaluator(build_metrics({"clip_sim": {"extractor": "own"}}), {"own": counting([])})
    texts = {"target": ["abc", "abcd"]}
    evaluator.update(
        Samples(["a", "b"], {side: images(2, i) for i, side in enumerate(("generated", "source", "target"))}, texts=texts)
    )
    assert evaluator.compute().directions == {"clip_sim": "higher"}


def test_masks_of_another_size_are_refused(tmp_path: Path) -> None:
    made, source = folder(tmp_path / "g", images(3, 0)), folder(tmp_path / "s", images(3, 1, size=24))
    fine = folder(tmp_path / "fine", images(3, 2, size=24).sign())
    assert evaluate(made, source=source, masks=fine)["preservation"].n == 3  # on the grid of the sources
    other = folder(tmp_path / "other", images(3, 2, size=20).sign())
    with pytest.raises(ShapeError, match=r"image000.png has 20 x 20 .* the generated image 16 x 16, the source image 24 x 24"):
        evaluate(made, source=source, masks=other)
