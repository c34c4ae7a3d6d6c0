"""Distances between sets of videos: of their frames step by step, and of whole clips."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, ShapeError
from relatum.metrics import Evaluator, Extractor, Samples, kernel_estimate
from relatum.metrics.clips import Fvd, KdDrift, Kvd
from relatum.pretrained import extractor as known_names
from relatum.pretrained.clips import framestats

NAN = math.nan


# --- by step, against real frames


def frame_features(count: int, steps: int, seed: int) -> Tensor:
    return torch.randn(count, steps, 4, generator=torch.Generator().manual_seed(seed))


def features(generated: Tensor, target: Tensor, ids: list[str] | None = None) -> Samples:
    ids = ids or [f"v{i}" for i in range(len(generated))]
    return Samples(ids, features={"x:frames:generated": generated, "x:frames:target": target})


def test_kd_drift_is_the_kernel_distance_at_that_step() -> None:
    generated, target = frame_features(9, 5, 0), frame_features(9, 5, 1)
    made = KdDrift(extractor="x")
    made.update(features(generated, target))
    curve = made.curves
    assert len(curve) == 5
    for step in range(5):
        expected = kernel_estimate(generated[:, step], target[:, step], paired=True)
        assert (curve[step].value, curve[step].stderr) == (pytest.approx(expected.value), pytest.approx(expected.stderr))
    assert made.compute() == curve[4]
    statistic = made.statistic()
    assert statistic is not None
    ones = torch.ones(9, dtype=torch.float64).numpy()
    assert statistic(ones, ones) == pytest.approx(curve[4].value)
    assert torch.equal(made.sets[1], generated[:, 4].double())


def test_an_output_is_not_compared_with_its_own_true_frame() -> None:
    """A perfect copy of the truth is at distance 0 exactly at every step, not below."""
    truth = frame_features(7, 3, 0)
    made = KdDrift(extractor="x")
    made.update(features(truth, truth))
    assert [round(estimate.value, 9) for estimate in made.curves] == [0, 0, 0]


def test_kd_drift_with_unequal_and_unknown_frames() -> None:
    made = KdDrift(extractor="x")
    made.update(features(frame_features(4, 6, 0), frame_features(4, 6, 1)))
    longer, truth = frame_features(2, 8, 2), frame_features(2, 8, 3)
    truth[0, 5] = NAN
    made.update(features(longer, truth, ["w0", "w1"]))
    assert len(made.curves) == 6
    assert made.curves[4].n == 6
    assert made.compute().n == 5  # one true frame is not known at step 5
    assert "rollouts of 6 to 8 frames: step 5" in made.compute().note
    assert made.statistic() is None
    assert math.isnan(KdDrift(extractor="x").compute().value)


# --- clips


def tiny(pixels: Tensor) -> Tensor:
    return pixels.mean((2, 3))


def test_framestats_by_hand() -> None:
    """0, 1, 5: mean 2, variance (4 + 1 + 9)/3, mean step (1 + 4)/2, second difference |5 - 2·1 + 0| = 3."""
    assert framestats(torch.tensor([[[0.0], [1.0], [5.0]]]))[0].tolist() == pytest.approx([2, (14 / 3) ** 0.5, 2.5, 3])
    with pytest.raises(ShapeError, match="3 frames"):
        framestats(torch.zeros(1, 2, 4))


def clip_distance(generated: Tensor, target: Tensor) -> tuple[float, str]:
    evaluator = Evaluator({"fvd": Fvd(extractor="t")}, {"t": Extractor("t", "0a1b2c3d4e", "raw", tiny)})
    ids = [f"v{i}" for i in range(len(generated))]
    evaluator.update(Samples(ids, videos={"generated": generated, "target": target}))
    result = evaluator.compute()
    return result["fvd"].value, result.labels["fvd"]


def moving(count: int, seed: int) -> Tensor:
    """Videos whose level rises steadily, (count 3 12 8 8)."""
    g = torch.Generator().manual_seed(seed)
    rise = torch.linspace(-0.3, 0.3, 12)[None, None, :, None, None] * (0.8 + 0.4 * torch.rand(count, 3, 1, 1, 1, generator=g))
    return (rise + 0.05 * torch.randn(count, 3, 12, 8, 8, generator=g)).clamp(-1, 1)


def test_fvd_sees_the_order_of_frames_and_flicker() -> None:
    real, other = moving(30, 0), moving(30, 1)
    shuffled = other[:, :, torch.randperm(12, generator=torch.Generator().manual_seed(0))]
    flickering = other + 0.05 * torch.tensor([1.0, -1.0]).repeat(6)[None, None, :, None, None]
    same, label = clip_distance(other, real)
    assert label == "fd_clip[t framestats 0a1b2c3d]"
    assert clip_distance(shuffled, real)[0] > 10 * same
    assert clip_distance(flickering, real)[0] > 2 * same


def test_fvd_needs_ten_frames() -> None:
    with pytest.raises(DataError, match="clips of 9 frames; distances between clips need at least 10"):
        clip_distance(moving(4, 0)[:, :, :9], moving(4, 1)[:, :, :9])
    assert math.isfinite(clip_distance(moving(4, 0)[:, :, :10], moving(4, 1)[:, :, :10])[0])


def test_frames_are_embedded_once_for_all_metrics() -> None:
    calls = []

    def counted(pixels: Tensor) -> Tensor:
        calls.append(len(pixels))
        return tiny(pixels)

    metrics = {"fvd": Fvd(extractor="t"), "kvd": Kvd(extractor="t"), "kd_drift": KdDrift(extractor="t")}
    evaluator = Evaluator(metrics, {"t": Extractor("t", "0a1b2c3d4e", "raw", counted)})
    evaluator.update(Samples([f"v{i}" for i in range(4)], videos={"generated": moving(4, 0), "target": moving(4, 1)}))
    assert sum(calls) == 2 * 4 * 12
    result = evaluator.compute()
    assert len(result.curves["kd_drift"]) == 12
    assert result.plain()["kd_drift"]["curve"][11]["value"] == result["kd_drift"].value
    assert result.labels["kd_drift"] == "kd_drift[t 0a1b2c3d]"
    assert result.fingerprints["fvd"] == "0a1b2c3d raw, framestats"


def test_the_name_of_the_literature_needs_known_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(known_names.KNOWN, ("6726825d", "raw"), {"fd_clip": "FVD"})
    network = Extractor("i3d", "6726825d00", "raw", embed_clips=lambda v: v.mean((3, 4)).flatten(1))
    assert network.of_clips().label("fd_clip") == "FVD"
    assert Extractor("i3d", "6726825d00", "raw", tiny).of_clips().label("fd_clip") == "fd_clip[i3d framestats 6726825d]"
    with pytest.raises(DataError, match="network of clips and takes no images"):
        network.images(torch.zeros(1, 3, 8, 8))
