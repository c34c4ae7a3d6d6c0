"""Flicker at matched motion, on numbers by hand and on videos whose flicker and motion are made: moving less wins nothing."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from relatum.metrics import Evaluator, Samples
from relatum.metrics.matched import MatchedFlicker, at_motion

MOTION = np.array([0.5, 1.0, 1.5, 2.0, 3.0])


def test_the_adjusted_mean_by_hand() -> None:
    """Motions 1, 2, 4 (mean 7/3) and F 2, 3, 7 (mean 4): slope (−4/3·−2 + −1/3·−1 + 5/3·3)/(16/9 + 1/9 + 25/9) = 8/(14/3) = 12/7.

    At motion 3: 4 + 12/7 · 2/3 = 36/7.
    """
    found = at_motion(np.array([2.0, 3.0, 7.0]), np.array([1.0, 2.0, 4.0]), 3.0)
    assert found == pytest.approx(36 / 7)


def test_weights_are_multiplicities() -> None:
    f, m, w = np.array([2.0, 3.0, 7.0, 9.0]), np.array([1.0, 2.0, 4.0, 3.0]), np.array([2.0, 0.0, 1.0, 3.0])
    repeated = [0, 0, 2, 3, 3, 3]
    assert at_motion(f, m, 2.0, w) == pytest.approx(at_motion(f[repeated], m[repeated], 2.0))
    f[1] = math.nan
    assert at_motion(f, m, 2.0) == pytest.approx(at_motion(np.delete(f, 1), np.delete(m, 1), 2.0))


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_an_arm_that_moves_less_has_no_lower_number(noise: float) -> None:
    """F = 2 a pixel of motion in both arms, but one moves .7 as much: its mean is .7 of the other's, at 1.6 px a frame both read
    3.2. One that flickers less at the same motion is lower; where F knows nothing of motion the mean stays."""
    errors = noise * np.array([1.0, -1.0, -1.0, 1.0, 0.0])
    full, less = 2 * MOTION + errors, 2 * 0.7 * MOTION + errors
    assert less.mean() < 0.71 * full.mean()
    assert at_motion(full, MOTION, 1.6) == pytest.approx(3.2, abs=noise / 2 + 1e-9)
    assert at_motion(less, 0.7 * MOTION, 1.6) == pytest.approx(3.2, abs=noise / 2 + 1e-9)
    assert at_motion(1.4 * MOTION + errors, MOTION, 1.6) == pytest.approx(2.24, abs=noise / 2 + 1e-9)
    assert at_motion(np.full(5, 3.0), 0.7 * MOTION, 1.6) == pytest.approx(3.0)


def test_a_line_is_not_continued() -> None:
    """None of these videos moves by 1.6: nothing can be said, frozen ones included. Real ones, which all move alike, keep their
    mean."""
    assert math.isnan(at_motion(2 * MOTION, 0.5 * MOTION, 1.6))
    assert math.isnan(at_motion(np.ones(5), np.zeros(5), 1.6))
    assert math.isnan(at_motion(np.full(5, math.nan), MOTION, 1.6))
    assert at_motion(np.array([1.0, 3.0]), np.array([1.6, 1.6]), 1.6) == 2.0


def videos(speeds: list[float], noise: list[float], frames: int = 5) -> Tensor:
    """(n 3 t h w): one soft texture that slides, under white noise of its own deviation."""
    g = torch.Generator().manual_seed(0)
    texture = avg_pool2d(torch.randn(1, 3, 48, 80, generator=g), 5, 1, 2)[0].clamp(-0.8, 0.8)
    out = []
    for speed, sd in zip(speeds, noise, strict=True):
        starts = [round(speed * k) for k in range(frames)]
        film = torch.stack([texture[:, :48, start : start + 48] for start in starts], 1)
        out.append(film + sd * torch.randn(film.shape, generator=g))
    return torch.stack(out).clamp(-1, 1)


def built(generated: Tensor, target: Tensor, **settings: Any) -> MatchedFlicker:
    metric: Any = MatchedFlicker(**settings)
    ids = [f"v{i}" for i in range(len(generated))]
    evaluator = Evaluator({"matched_flicker": metric})
    for i in range(len(ids)):
        evaluator.update(Samples([ids[i]], videos={"generated": generated[i : i + 1], "target": target[i : i + 1]}))
    return metric


def test_videos_that_flicker_as_they_move() -> None:
    """Noise of 4 levels a pixel of motion; the true videos move by 0 to 3. One arm moves as they do, one by 2/3 of it: the plain
    means of F differ by a third, the matched ones by less than a tenth."""
    speeds = [0.0, 1.0, 2.0, 3.0, 3.0, 3.0]
    true, unit = videos(speeds, [0.0] * 6), 4 / 127.5
    arm = built(videos(speeds, [unit * s for s in speeds]), true)
    slow = [0.0, 1.0, 1.0, 2.0, 2.0, 3.0]
    lazy = built(videos(slow, [unit * s for s in slow]), true)
    means = [np.mean([row[0].item() for row in metric.kept["generated"].values()]) for metric in (arm, lazy)]
    assert means[1] < 0.8 * means[0]
    one, other = arm.compute(), lazy.compute()
    assert other.value == pytest.approx(one.value, rel=0.1)
    assert one.value == pytest.approx(means[0], rel=0.05)  # it moves as the truth does
    assert one.stderr is not None
    assert 0 < one.stderr < 3
    statistic = lazy.statistic()
    assert statistic is not None
    assert statistic(np.ones(6), np.ones(6)) == pytest.approx(other.value)
    frozen = built(videos([0.0] * 6, [0.0] * 6), true).compute()
    assert math.isnan(frozen.value)
    assert frozen.note.startswith("the true videos move by")


def test_rho_is_better_higher_and_sets_need_not_be_paired() -> None:
    speeds = [0.0, 1.0, 2.0]
    made, true = videos(speeds, [0.0] * 3), videos([1.0, 1.0, 1.0], [0.0] * 3)
    metric = MatchedFlicker(what="rho")
    assert (metric.better, MatchedFlicker().better) == ("higher", "lower")
    metric.update(Samples(["a", "b", "c"], videos={"generated": made}))
    assert math.isnan(metric.compute().value)
    metric.update(Samples(["x", "y", "z"], videos={"target": true}))
    assert metric.count == 3
    assert metric.kept["target"]["x"][0].item() == pytest.approx(1, abs=0.1)
