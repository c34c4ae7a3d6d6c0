"""Objectives of clips by hand. In most, an x0 network whose truth is 0, so that its raw output is the residual r."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.errors import RecipeError
from relatum.core.path import StraightPath
from relatum.core.prediction import Parametrization
from relatum.objectives.blend import read_blend
from relatum.objectives.residuals import anchor_frames, bound, gain, mean_over_pairs, residual, shot_ends
from support.outcomes import judge, make_outcome, pixels, stable_diffusion_path, wrong_by


@pytest.mark.parametrize("r", [[1.0, 1.0, 1.0], [-1.0, 1.0, -1.0]])
def test_the_sources_numbers(r: list[float]) -> None:
    """[129 129 129] against 128 is off by 1 1 1: MSE 1, differences 0. [127 129 127]: MSE 1, differences (2^2 + 2^2) / 2 = 4.

    Robust at strength .5: (1 + .25 * 0) / 1.5 = 2/3 and (1 + .25 * 4) / 1.5 = 4/3.
    """
    outcome, moves = wrong_by(pixels([r])), r[0] != r[1]
    assert judge("denoise")(outcome).item() == 1
    assert judge("frame_difference", faithful=True)(outcome).item() == 4 * moves
    assert judge("frame_difference")(outcome).item() == pytest.approx(4 / 3 if moves else 2 / 3)
    assert outcome.watched["difference"].item() == 4 * moves


def test_independent_errors_cost_twice_and_alternating_ones_four_times() -> None:
    """E (r' - r)^2 = 2 E r^2; (-r - r)^2 = 4 r^2. A sample has 64 x 3 x 8 x 8 pairs: the ratio's standard error is about .02."""
    g = torch.Generator().manual_seed(0)
    r = torch.randn(2, 3, 65, 8, 8, generator=g)
    plain, differences = judge("denoise"), judge("frame_difference", faithful=True)
    assert (differences(wrong_by(r)) / plain(wrong_by(r))).tolist() == pytest.approx([2, 2], abs=0.06)
    signs = torch.tensor([(-1.0) ** t for t in range(65)])[:, None, None]
    still = r[:, :, :1].expand_as(r)
    alternating = wrong_by(still * signs)
    torch.testing.assert_close(differences(alternating), 4 * plain(alternating))
    assert differences(wrong_by(still)).tolist() == [0, 0]


def test_frames_have_an_order_and_positions_have_none() -> None:
    r = torch.randn(1, 2, 4, 3, 5, generator=torch.Generator().manual_seed(1))
    swapped = r[:, :, [0, 2, 1, 3]]
    for settings in ({"kind": "frame_difference", "faithful": True}, {"kind": "frame_difference"}, {"kind": "anchored_difference"}):
        term = judge(**settings)
        torch.testing.assert_close(term(wrong_by(r[:, :, :, [2, 0, 1]][..., [4, 1, 0, 2, 3]])), term(wrong_by(r)))
        assert not torch.allclose(term(wrong_by(swapped)), term(wrong_by(r)), rtol=1e-3)


def test_pairs_that_may_not_be_compared() -> None:
    """r = 0 1 5 5.5: squares 1, 16, .25. Without the middle pair (1 + .25) / 2 = .625; with all 17.25 / 3; with none 0."""
    r = pixels([[0, 1, 5, 5.5]] * 3)
    outcome = wrong_by(r, [[True, False, True], [True] * 3, [False] * 3])
    assert judge("frame_difference", faithful=True)(outcome).tolist() == pytest.approx([0.625, 17.25 / 3, 0])
    d = (1 + 25 + 30.25) / 4
    assert judge("frame_difference", strength=1.0)(outcome)[2].item() == pytest.approx(d / 2)


def test_what_is_not_finite_is_never_masked() -> None:
    change = torch.tensor([[1.0, math.nan]])
    assert mean_over_pairs(change, torch.tensor([[True, False]])).isnan().all()


def test_the_ratio_of_x0_to_eps() -> None:
    """At a shared level differences of x0 are (1 - abar) / abar times those of eps, in square."""
    outcome, _ = make_outcome(shape=(3, 4, 2, 5), timesteps=[0, 50, 300, 500, 800, 999])
    abar = outcome.level.alpha.square()
    for kind in ("frame_difference", "anchored_difference"):
        raw, x0 = (judge(kind, faithful=True, space=space)(outcome) for space in ("raw", "x0"))
        torch.testing.assert_close(x0, raw * (1 - abar) / abar, rtol=1e-5, atol=0)
    raw, x0 = (judge("anchored_difference", faithful=True, norm="l1", space=space)(outcome) for space in ("raw", "x0"))
    torch.testing.assert_close(x0, raw * ((1 - abar) / abar).sqrt(), rtol=1e-5, atol=0)


def test_growth_by_hand() -> None:
    """Stable Diffusion at t = 999: abar = .00466, so x0 is wrong sqrt(.99534 / .00466) = 14.6 times as far as eps."""
    level = stable_diffusion_path().at(torch.tensor([999, 0]))
    assert gain(Parametrization.EPS, "x0", level)[0].item() == pytest.approx(-14.6, abs=0.05)
    assert bound(Parametrization.EPS, "x0", level).tolist() == pytest.approx([level.snr[0].item(), 1])
    assert bound(Parametrization.V, "x0", level).tolist() == [1, 1]  # x0 is wrong by sigma times v's error


@pytest.mark.parametrize("kind", list(Parametrization))
@pytest.mark.parametrize("space", ["raw", "eps", "v", "x0"])
@pytest.mark.parametrize("frames", [False, True])
def test_residuals_are_those_of_the_readings(kind: Parametrization, space: Any, frames: bool) -> None:
    steps = [[20 + 150 * i + 30 * t for t in range(4)] for i in range(6)]
    outcome, _ = make_outcome(shape=(2, 4, 3, 3), kind=kind, timesteps=steps if frames else [s[0] for s in steps])
    words = kind if space == "raw" else Parametrization(space)
    read = outcome.matched.read(words) - outcome.truth(words)
    torch.testing.assert_close(residual(outcome, space), read, rtol=1e-4, atol=1e-4)


def test_residuals_on_the_straight_path() -> None:
    """x_t - (1 - t) x0 = t eps and raw = eps - x0: x0 = x_t - t raw, so an error e of raw is one of -t e of x0."""
    level = StraightPath().at(torch.tensor([0.25, 0.7]))
    assert gain(Parametrization.FLOW, "x0", level).tolist() == pytest.approx([-0.25, -0.7])


@pytest.mark.parametrize(
    "settings",
    [{"kind": "frame_difference"}, {"kind": "anchored_difference"}, {"kind": "anchored_difference", "norm": "l1"}],
    ids=["differences", "anchored", "anchored-l1"],
)
@pytest.mark.parametrize("space", ["v", "x0"])
def test_other_spaces_never_count_more_than_the_networks_own(settings: dict[str, Any], space: str) -> None:
    steps = [20, 300, 600, 800, 950, 999]
    for frames in (steps, [[s] * 4 for s in steps]):
        outcome, _ = make_outcome(shape=(2, 4, 3, 3), timesteps=frames)
        raw, other = (judge(**settings, space=name)(outcome) for name in ("raw", space))
        assert (other <= raw * (1 + 1e-5)).all()
        torch.testing.assert_close(other[3:], raw[3:], rtol=1e-4, atol=1e-6)  # SNR below 1: held at just that
    mixed, _ = make_outcome(shape=(2, 4, 3, 3), timesteps=[[10, 999, 10, 999]] * 6)
    size = judge("denoise")(mixed) if "norm" not in settings else judge("denoise")(mixed).sqrt()
    assert (judge(**settings, space=space)(mixed) < 4 * size).all()


def test_shots() -> None:
    """Frames 0 1 | 2 3 4 | 5."""
    first, last = shot_ends(torch.tensor([[True, False, True, True, False], [True] * 5]))
    assert first.tolist() == [[0, 0, 2, 2, 2, 5], [0] * 6]
    assert last.tolist() == [[1, 1, 4, 4, 4, 5], [5] * 6]


def test_anchors_are_drawn_uniformly_within_each_shot() -> None:
    """900 samples: each of three frames is the anchor of 1 2 3 about 300 times (standard deviation 14)."""
    outcome = wrong_by(torch.zeros(900, 1, 4, 1, 1), [[False, True, True]] * 900)
    found = anchor_frames(outcome)
    assert (found[:, 0] == 0).all()
    assert (found[:, 1:] == found[:, 1:2]).all()
    counts = found[:, 3].bincount(minlength=4).tolist()
    assert counts[0] == 0
    assert all(240 < count < 360 for count in counts[1:])
    assert torch.equal(found, anchor_frames(outcome))
    assert anchor_frames(outcome, "first").tolist()[5] == [0, 1, 1, 1]


def test_anchored_from_the_first_frame_is_the_path() -> None:
    """r = 2 3 1: 2^2 + 1^2 + 2^2 = 9, over 3 frames; absolute 2 + 1 + 2 = 5."""
    outcome = wrong_by(pixels([[2, 3, 1]]))
    assert judge("anchored_difference", start="first")(outcome).item() == 3
    assert judge("anchored_difference", start="first", norm="l1")(outcome).item() == pytest.approx(5 / 3)


def test_anchored_from_any_frame() -> None:
    """r = 2 3 1: differences cost 1 + 4, the anchor 4, 9 or 1: (5 + 4, 9, 1) / 3. A drawn anchor gives its own frame's."""
    outcome = wrong_by(pixels([[2, 3, 1]] * 30))
    anchors = anchor_frames(outcome)[:, 0]
    assert set(anchors.tolist()) == {0, 1, 2}
    expected = torch.tensor([9.0, 14.0, 6.0])[anchors] / 3
    torch.testing.assert_close(judge("anchored_difference")(outcome), expected)


def test_an_offset_costs_one_part_in_t_and_nothing_else_is_free() -> None:
    """The same error of 3 in 5 frames: 9 / 5, MSE 9. In shots of 2 and 3 frames each has an anchor: 18 / 5."""
    r = pixels([[3.0] * 5] * 2)
    outcome = wrong_by(r, [[True] * 4, [True, False, True, True]])
    assert judge("anchored_difference")(outcome).tolist() == pytest.approx([9 / 5, 18 / 5])
    assert judge("denoise")(outcome).tolist() == [9, 9]
    assert judge("anchored_difference")(wrong_by(0 * r)).tolist() == [0, 0]
    free = pixels([[0, 0, 3, 3, 3]])
    assert judge("anchored_difference")(wrong_by(free, [[True, False, True, True]])).item() == pytest.approx(9 / 5)


def gradient(term: Any, r: Tensor, **about: Any) -> Tensor:
    r = r.clone().requires_grad_()
    return torch.autograd.grad(term(wrong_by(r, **about)).sum(), r)[0]


def test_gradients_against_the_closed_forms() -> None:
    """n = c h w. diff: 2 (2 r_i - r_{i-1} - r_{i+1}) / (n pairs), at ends 2 (r_i - neighbor). anchored: so over T, and 2 r_a."""
    r = torch.randn(1, 2, 4, 1, 3, generator=torch.Generator().manual_seed(2))
    n, frames = 6, [r[:, :, i] for i in range(4)]
    bends = torch.stack(
        [
            frames[0] - frames[1],
            2 * frames[1] - frames[0] - frames[2],
            2 * frames[2] - frames[1] - frames[3],
            frames[3] - frames[2],
        ],
        2,
    )
    torch.testing.assert_close(gradient(judge("frame_difference", faithful=True), r), 2 * bends / (3 * n))
    robust = (2 * r / (4 * n) + 0.25 * 2 * bends / (3 * n)) / 1.5
    torch.testing.assert_close(gradient(judge("frame_difference"), r), robust)
    anchored = 2 * bends / (4 * n)
    anchored[:, :, 0] += 2 * frames[0] / (4 * n)
    torch.testing.assert_close(gradient(judge("anchored_difference", start="first"), r), anchored)
    signs = torch.sign(r[:, :, 1:] - r[:, :, :-1])
    l1 = torch.zeros_like(r)
    l1[:, :, 1:] += signs
    l1[:, :, :-1] -= signs
    l1[:, :, 0] += torch.sign(frames[0])
    torch.testing.assert_close(gradient(judge("anchored_difference", start="first", norm="l1"), r), l1 / (4 * n))


def test_temporal_residual_by_hand() -> None:
    """beta 1: an error of 3 everywhere counts (sqrt 2 - 1)^2 * 9 = 1.544. beta .75: 1.25 r - .75 r_a; r = 2 4, anchor 0:
    1 and 3.5, mean (1 + 12.25) / 2 = 6.625; anchor 1: -.5 and 2, mean (.25 + 4) / 2 = 2.125."""
    term = judge("temporal_residual")
    assert term(wrong_by(pixels([[3.0] * 5]))).item() == pytest.approx((2**0.5 - 1) ** 2 * 9)
    outcome = wrong_by(pixels([[2, 4]] * 12))
    anchors = anchor_frames(outcome)[:, 0]
    assert set(anchors.tolist()) == {0, 1}
    torch.testing.assert_close(judge("temporal_residual", beta=0.75)(outcome), torch.tensor([6.625, 2.125])[anchors])
    torch.testing.assert_close(judge("temporal_residual", beta=0.0)(outcome), judge("denoise")(outcome))
    alone = wrong_by(pixels([[2, 4]]), [[False]])
    assert judge("temporal_residual")(alone).item() == pytest.approx((2**0.5 - 1) ** 2 * 10)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "frame_difference", "faithful": True, "strength": 1.0}, "strength is read only"),
        ({"kind": "frame_difference", "strength": -1.0}, "0 or more"),
        ({"kind": "temporal_residual", "beta": -1.0}, "beta is -1"),
        ({"kind": "motion_weighted", "scale": 0.0}, "scale one above 0"),
        ({"kind": "temporal_spectrum", "above": -1}, "above is -1"),
        ({"kind": "entropy_floor", "floor": 1.5}, "floor is 1.5"),
        ({"kind": "entropy_floor", "faithful": True, "floor": 0.5}, "floor is read only"),
        ({"kind": "entropy_floor", "layers": ["("]}, "no regular expression"),
        ({"kind": "entropy_floor", "layers": []}, "names no layer"),
        ({"kind": "anchored_difference", "space": "flow"}, "space"),
    ],
)
def test_settings_that_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        read_blend({"denoise": {"kind": "denoise"}, "term": table})
