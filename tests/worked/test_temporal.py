"""Other people's measures of videos against their formulas, worked by hand, with the blind spots that the docs name."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from relatum.core.errors import RecipeError, ShapeError
from relatum.metrics import Samples
from relatum.metrics.temporal import (
    Motion,
    VbDynamic,
    dynamic_degree,
    motion_of,
    motion_smoothness,
    pixel_spectrum,
    subject_consistency,
    temporal_flickering,
    warp_error,
)


def levels(*values: float, size: int = 32) -> Tensor:
    return (torch.tensor(values) / 127.5 - 1).reshape(-1, 1, 1, 1).expand(-1, 3, size, size).clone()


def sliding(speed: int, frames: int = 7, size: int = 64) -> Tensor:
    noise = torch.randn(1, 3, size, size + 80, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.avg_pool2d(noise, 7, 1, 3)[0] * 3
    return torch.stack([texture[:, :, 70 - speed * k : 70 - speed * k + size] for k in range(frames)]).clamp(-1, 1)


def test_vbench_flicker_cannot_tell_a_fade_from_alternation() -> None:
    """Fade by 2 levels a frame, or 127, 129, 127, 129: the mean step is 2 either way; 1 - 2/255."""
    fade, alternation = temporal_flickering(levels(100, 102, 104, 106)), temporal_flickering(levels(127, 129, 127, 129))
    assert fade == pytest.approx(1 - 2 / 255)
    assert alternation == pytest.approx(fade)
    assert temporal_flickering(levels(10, 20, 20)) == pytest.approx(1 - 5 / 255)  # steps 10 and 0


def test_pixel_spectrum() -> None:
    """x = 1, 0, 3, 0 about its mean 1: X(1/4) = (1 - 3) = -2, X(1/2) = 1 - 0 + 3 - 0 = 4. Power 4 and 16; at >= 0.3: 16/20."""
    video = levels(1, 0, 3, 0)
    assert pixel_spectrum(video, 0.3) == pytest.approx(0.8, abs=1e-4)
    assert pixel_spectrum(video) == pytest.approx(1)  # 1/4 counts as fast
    assert math.isnan(pixel_spectrum(levels(5, 5, 5)))


def test_pixel_spectrum_takes_motion_for_flicker() -> None:
    assert pixel_spectrum(sliding(4, 16)) > 2 * pixel_spectrum(sliding(1, 16))


def test_smoothness_of_a_fade_and_of_alternation() -> None:
    """Fade: odd frames lie midway, 1. 127, 133, 127: the midpoint is 127, off by 6: 1 - 6/255."""
    assert motion_smoothness(levels(100, 102, 104, 106, 108)) == pytest.approx(1)
    assert motion_smoothness(levels(127, 133, 127)) == pytest.approx(1 - 6 / 255)


def test_smoothness_follows_motion() -> None:
    still = 1 - motion_smoothness(sliding(2).flip(0)[[0, 3, 1]])  # the middle frame is not midway
    assert 1 - motion_smoothness(sliding(2)) < 0.25 * still


def test_dynamic_degree() -> None:
    """Threshold at 64 px and 8 frames/s: 6 * 64/256 = 1.5 px. 3 px a frame moves (reach 2), 1 px does not (2/3)."""
    moves, reach = dynamic_degree(sliding(3))
    assert moves
    assert reach == pytest.approx(2, rel=0.15)
    moves, reach = dynamic_degree(sliding(1))
    assert not moves
    assert reach == pytest.approx(2 / 3, rel=0.25)
    # At 16 frames/s every second frame counts: 2 px a step. At 4 the threshold is twice as high.
    assert dynamic_degree(sliding(1), 16)[1] == pytest.approx(4 / 3, rel=0.2)
    assert dynamic_degree(sliding(3), 4)[1] == pytest.approx(1, rel=0.15)
    with pytest.raises(ShapeError, match="leave one"):
        dynamic_degree(sliding(1, 2), 24)


def test_subject_consistency() -> None:
    """(1, 0), (3/5, 4/5), (0, 2): to the first 0.6 and 0, to the last 0.6 and 0.8: ((0.6 + 0.6) + (0 + 0.8)) / 4 = 0.5."""
    assert subject_consistency(torch.tensor([[1.0, 0], [0.6, 0.8], [0, 2]])) == pytest.approx(0.5)
    assert subject_consistency(torch.tensor([[1.0, 0], [-1, 0]])) == 0  # not below


def test_warp_error() -> None:
    """Brightness steps 0, 10, 0 levels at rest: ((10/255)² + (10/255)²) / 2. Moving along the flow: next to nothing."""
    rest = torch.zeros(2, 2, 32, 32)
    assert warp_error(levels(50, 60, 50), rest) == pytest.approx((10 / 255) ** 2, rel=1e-4)
    assert warp_error(levels(50, 60, 60), rest) == pytest.approx((10 / 255) ** 2 / 2, rel=1e-4)
    video = sliding(2, 4)
    assert warp_error(video) < 0.05 * warp_error(video, torch.zeros(3, 2, 64, 64))


def test_warp_error_takes_a_fade_for_flicker() -> None:
    assert warp_error(levels(100, 102, 104)) == pytest.approx(warp_error(levels(100, 102, 100)), rel=1e-3)


def test_motion_and_its_ratio() -> None:
    fast, slow = (sliding(speed).movedim(1, 0)[None] for speed in (3, 1))
    made = Motion()
    made.update(Samples(["a"], videos={"generated": slow, "target": fast}))
    assert made.scores["a"] == pytest.approx(1, abs=0.1)
    assert made.also["ratio"]["a"] == pytest.approx(1 / 3, abs=0.05)
    made.update(Samples(["b"], videos={"generated": fast, "target": fast[:, :, :1].repeat(1, 1, 7, 1, 1)}))
    assert math.isnan(made.also["ratio"]["b"])  # the target is at rest
    noise = torch.randn(6, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 0.03
    assert motion_of(noise) == 0  # mere grain


def test_frames_per_second_are_positive() -> None:
    with pytest.raises(RecipeError, match="fps: found 0"):
        VbDynamic(fps=0)
