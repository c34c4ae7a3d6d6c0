"""The quadratic forms of the frame objectives: their eigenvalues, and that the objectives really have these forms."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from relatum.core.draws import Draws
from relatum.core.errors import ShapeError
from relatum.core.outcome import Outcome
from relatum.core.path import NoiseLevel
from relatum.core.prediction import Parametrization, Prediction
from relatum.core.registry import objective
from relatum.objectives.conditioning import condition_number, eigenvalues, quadratic_form
from relatum.objectives.residuals import anchor_frames


def hessian(table: dict[str, Any], frames: int, seed: int = 0) -> tuple[torch.Tensor, int]:
    """(A with loss = r' A r / frames as the objective itself has it, anchor frame)."""
    clean, level = torch.zeros(1, 1, frames, 1, 1), NoiseLevel(torch.zeros(1), torch.full((1,), 0.8), torch.full((1,), 0.6))
    term = objective.build(table, "objectives.term")

    def outcome(r: torch.Tensor) -> Outcome:
        prediction = Prediction(r.reshape(1, 1, frames, 1, 1), clean, level, Parametrization.X0)
        return Outcome(clean, clean, level, {"matched": prediction}, {}, ["a"], Draws(seed, [0]))

    found = torch.autograd.functional.hessian(lambda r: term(outcome(r)).sum(), torch.zeros(frames))
    assert isinstance(found, torch.Tensor)
    return found.double() * frames / 2, int(anchor_frames(outcome(torch.zeros(frames)))[0, 0])


@pytest.mark.parametrize("frames", [2, 5, 16])
def test_the_objectives_have_these_forms(frames: int) -> None:
    for form, table in {
        "denoise": {"kind": "denoise"},
        "difference": {"kind": "frame_difference", "faithful": True},
        "frame_difference": {"kind": "frame_difference", "strength": 0.8},
    }.items():
        found, _ = hessian(table, frames)
        torch.testing.assert_close(found, quadratic_form(form, frames, strength=0.8), rtol=1e-5, atol=1e-6)  # type: ignore[arg-type]
    for seed in range(3):
        found, anchor = hessian({"kind": "anchored_difference"}, frames, seed)
        torch.testing.assert_close(found, quadratic_form("anchored_difference", frames, start=anchor), rtol=1e-5, atol=1e-6)
        found, anchor = hessian({"kind": "temporal_residual", "beta": 2.0}, frames, seed)
        torch.testing.assert_close(found, quadratic_form("temporal_residual", frames, start=anchor, beta=2.0), rtol=1e-5, atol=1e-5)


def test_anchored_at_sixteen_frames() -> None:
    """A path held at one end has the eigenvalues 2 - 2 cos((2k - 1) pi / (2T + 1)), k = 1 to T: .00906 to 3.964 at T = 16, ratio
    438. In the middle two shorter ones: 174. The largest is never above 4.24 (the anchor adds at most a little to 4).
    """
    found = [condition_number(quadratic_form("anchored_difference", 16, start=a)) for a in range(16)]
    assert min(found) == pytest.approx(174, abs=0.5)
    assert max(found) == pytest.approx(438, abs=0.5)
    assert found[0] == found[15] == max(found)
    ends = eigenvalues(quadratic_form("anchored_difference", 16))
    by_hand = torch.tensor([2 - 2 * math.cos((2 * k - 1) * math.pi / 33) for k in range(1, 17)], dtype=torch.float64)
    torch.testing.assert_close(ends, by_hand)
    largest = [eigenvalues(quadratic_form("anchored_difference", 16, start=a))[-1].item() for a in range(16)]
    assert min(largest) == pytest.approx(3.96, abs=0.01)
    assert max(largest) == pytest.approx(4.24, abs=0.01)


def test_robust_differences_are_well_conditioned() -> None:
    """1 + strength / 2 * T / (T - 1) * (2 + 2 cos(pi / T)): at 16 frames 1 + .5 * 16/15 * 3.9616 = 3.11 for strength 1 and 2.06 for
    .5. Over all clip lengths the worst are 4 frames: 1 + .5 * 4/3 * 3.4142 = 3.276.
    """
    one = [condition_number(quadratic_form("frame_difference", t, strength=1.0)) for t in range(2, 65)]
    assert max(one) == one[2] == pytest.approx(3.276, abs=0.001)
    assert one[14] == pytest.approx(3.113, abs=0.001)
    assert condition_number(quadratic_form("frame_difference", 16)) == pytest.approx(2.056, abs=0.001)
    assert eigenvalues(quadratic_form("frame_difference", 16))[-1].item() == pytest.approx(2.056 / 1.5, abs=0.001)


def test_differences_alone_leave_an_offset_free() -> None:
    values = eigenvalues(quadratic_form("difference", 16))
    assert abs(values[0].item()) < 1e-12
    assert condition_number(quadratic_form("difference", 16)) == math.inf
    assert condition_number(quadratic_form("denoise", 16)) == 1


def test_drawn_anchors_on_average() -> None:
    """The mean over a of path + e_a e_a' is path + 1 / T: 1/16 to 3.9616 + 1/16, ratio 64.4. That of temporal_residual at beta 1 is
    3 - 2 sqrt 2 / T * (all ones): 3, and 3 - 2.828 = .172 for what frames share, ratio 17.5.
    """
    for form, values, ratio in (("anchored_difference", (1 / 16, 4.0241), 64.39), ("temporal_residual", (0.1716, 3.0), 17.48)):
        mean = torch.stack([quadratic_form(form, 16, start=a) for a in range(16)]).mean(0)  # type: ignore[arg-type]
        assert eigenvalues(mean)[[0, -1]].tolist() == pytest.approx(values, abs=1e-4)
        assert condition_number(mean) == pytest.approx(ratio, abs=0.01)


def test_anchors_lie_within_the_clip() -> None:
    with pytest.raises(ShapeError, match="16 frames and anchor 16"):
        quadratic_form("anchored_difference", 16, start=16)
    with pytest.raises(ShapeError, match="1 frames"):
        quadratic_form("denoise", 1)
