"""Objectives of what moves by hand: motion weights, spectra over frames, attention's entropy. See `wrong_by` for the outcomes."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import Tensor

from relatum.core.errors import RecipeError, ShapeError
from relatum.core.outcome import Outcome
from relatum.objectives.blend import read_blend
from support.outcomes import judge, make_outcome, pixels, wrong_by


def test_motion_weights_by_hand() -> None:
    """One channel, scale 1. Position A moves 0 e-1 e-1 (changes e-1, 0), B stands still. Per frame A has e-1, (e-1)/2, 0:
    w before the mean: 1 + 1 = 2, 1 + ln((e+1)/2), 1; B 1, 1, 1."""
    e = math.e
    clean = torch.tensor([[0, e - 1, e - 1], [0.0, 0.0, 0.0]]).T.reshape(1, 1, 3, 1, 2)
    outcome = wrong_by(torch.zeros(1, 1, 3, 1, 2), clean=clean)
    raw = torch.tensor([[2, 1], [1 + math.log((e + 1) / 2), 1], [1, 1]])
    found = judge("motion_weighted", scale=1.0).weights(outcome)[0, 0, :, 0]
    torch.testing.assert_close(found, raw / raw.mean())
    cut = dataclasses.replace(outcome, joined=torch.tensor([[False, True]]))
    assert judge("motion_weighted", scale=1.0).weights(cut).unique().tolist() == [1]


def test_motion_weights_are_the_samples_own() -> None:
    """A static clip weighs 1 everywhere, whatever moves beside it in the batch."""
    clean = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(6))
    clean[1] = 0.5
    weights = judge("motion_weighted").weights(wrong_by(0 * clean, clean=clean))
    assert weights[1].unique().tolist() == [1]
    torch.testing.assert_close(weights[:1], judge("motion_weighted").weights(wrong_by(0 * clean[:1], clean=clean[:1])))


def test_motion_weights_are_clipped_after_the_mean() -> None:
    """1 of 40 positions moves by 1e6 at strength 10: 1 + 10 ln(1 + 1e6 / .25) = 153 over a mean of 4.8 is 32, held at 3; the rest
    is 1 / 4.8, held at .5."""
    clean = torch.zeros(1, 1, 2, 1, 40)
    clean[0, 0, 1, 0, 7] = 1e6
    weights = judge("motion_weighted", strength=10.0).weights(wrong_by(0 * clean, clean=clean))
    assert weights[0, 0, 0, 0, 7] == 3
    assert weights[0, 0, 1, 0, 0] == 0.5


def test_motion_weighted_of_a_static_clip_is_the_denoising_error() -> None:
    g = torch.Generator().manual_seed(3)
    still = torch.randn(2, 3, 1, 4, 4, generator=g).expand(2, 3, 6, 4, 4)
    outcome = wrong_by(torch.randn(2, 3, 6, 4, 4, generator=g), clean=still)
    assert torch.equal(judge("motion_weighted")(outcome), judge("denoise")(outcome))
    assert outcome.watched["weight_spread"].tolist() == [0, 0]


def test_motion_weights_take_no_gradient() -> None:
    """Where the clean latents have one (a trained autoencoder), it reaches them through the residual alone: -2 w r / n."""
    g = torch.Generator().manual_seed(4)
    clean, r = torch.randn(2, 1, 2, 3, 2, 2, generator=g)
    outcome = wrong_by(r, clean=clean)
    term, w = judge("motion_weighted"), judge("motion_weighted").weights(outcome)
    clean.requires_grad_()
    found = torch.autograd.grad(term(dataclasses.replace(outcome, clean=clean)).sum(), clean)[0]
    torch.testing.assert_close(found, -2 * w * r / 24)


def spectrum_outcome(predicted: Tensor, clean: Tensor, joined: list[list[bool]] | None = None) -> Outcome:
    return wrong_by(predicted - clean, joined, clean)


def test_spectrum_by_hand() -> None:
    """Four frames, orthonormal: truth 1 -1 1 -1 has the one amplitude 4 / 2 = 2 at bin 2; a prediction of 0 0 0 0 has none.

    Bins 1 and 2 from `above` 1: (0 + 2^2) / 2 = 2. A prediction of the same motion half a period later, or on another level: 0.
    """
    clean = pixels([[1, -1, 1, -1]])
    term = judge("temporal_spectrum")
    assert term(spectrum_outcome(0 * clean, clean)).item() == pytest.approx(2, rel=2e-3)  # the least amplitude of .001
    assert judge("temporal_spectrum", above=2)(spectrum_outcome(0 * clean, clean)).item() == pytest.approx(4, rel=2e-3)
    assert term(spectrum_outcome(-clean, clean)).item() == pytest.approx(0, abs=1e-9)
    assert term(spectrum_outcome(clean + 5, clean)).item() == pytest.approx(0, abs=1e-9)
    assert judge("temporal_spectrum", above=0)(spectrum_outcome(clean + 5, clean)).item() == pytest.approx(100 / 3, rel=2e-3)


def test_spectrum_sees_the_order_of_frames() -> None:
    g = torch.Generator().manual_seed(5)
    clean, predicted = torch.randn(2, 1, 2, 6, 3, 3, generator=g)
    order = [3, 0, 5, 1, 4, 2]
    term = judge("temporal_spectrum")
    moved = term(spectrum_outcome(predicted[:, :, order], clean[:, :, order]))
    assert not torch.allclose(moved, term(spectrum_outcome(predicted, clean)), rtol=1e-3)


def test_spectrum_has_a_gradient_where_nothing_moves() -> None:
    clean = torch.zeros(1, 1, 5, 2, 2)
    predicted = torch.zeros_like(clean).requires_grad_()
    loss = judge("temporal_spectrum")(spectrum_outcome(predicted, clean + pixels([[0, 1, 0, 1, 0]])))
    assert torch.autograd.grad(loss.sum(), predicted)[0].isfinite().all()


def test_a_cut_is_no_motion_in_the_spectrum() -> None:
    """0 0 | 7 7 predicted as 0 0 | 0 0: every shot is at rest, so with the cut known the spectra are equal."""
    clean = pixels([[0, 0, 7, 7]] * 2)
    found = judge("temporal_spectrum")(spectrum_outcome(0 * clean, clean, [[True, False, True], [True] * 3]))
    assert found[0].item() == pytest.approx(0, abs=1e-9)
    assert found[1].item() > 10


def test_spectrum_counts_no_more_than_the_raw_error_it_comes_from() -> None:
    """eps at t = 999: unweighted it would be 213 times the error in eps."""
    for steps in ([999] * 6, [[10, 999, 400, 10]] * 6):
        outcome, _ = make_outcome(shape=(2, 4, 3, 3), error=0.01, timesteps=steps)
        assert (judge("temporal_spectrum")(outcome) < 4 * judge("denoise")(outcome)).all()


def test_spectrum_needs_a_bin() -> None:
    with pytest.raises(ShapeError, match="4 frames have the bins 0 to 2"):
        judge("temporal_spectrum", above=3)(wrong_by(torch.zeros(1, 1, 4, 2, 2)))
    assert read_blend({"d": {"kind": "denoise"}, "s": {"kind": "temporal_spectrum"}}).terms["s"].cap == 0.1


def attending(entropies: dict[str, list[float]], frames: int = 8) -> Outcome:
    outcome = wrong_by(torch.zeros(1, 1, frames, 1, 1))
    heard = {name: torch.tensor([values]) for name, values in entropies.items()}
    return dataclasses.replace(outcome, predictions={"matched": dataclasses.replace(outcome.matched, attention=heard)})


def test_entropy_floor_by_hand() -> None:
    """T = 8: ln 8 = 2.0794, floor .3 * that = .6238. Heads 0, .5, 2.0794 and 1: lacks .6238 and .1238, mean square
    (.3892 + .0153) / 2 = .2022 over the two alarmed. Faithful: (4.3241 + 2.4945 + 0 + 1.1652) / 4 = 1.9960."""
    most = math.log(8)
    outcome = attending({"a.motion_modules.0": [0, 0.5], "b.motion_modules.1": [most, 1.0], "c.attentions.0": [0.0, 0.0]})
    assert judge("entropy_floor")(outcome).item() == pytest.approx(0.2022, abs=1e-4)
    assert outcome.watched["alarmed_heads"].item() == 0.5
    assert outcome.watched["least_entropy"].item() == 0
    assert judge("entropy_floor", faithful=True)(outcome).item() == pytest.approx(1.9960, abs=1e-4)
    assert judge("entropy_floor", layers=("attentions",))(outcome).item() == pytest.approx((0.3 * most) ** 2)


def test_entropy_floor_is_silent_above_it_and_pushes_up_below() -> None:
    """Uniform attention is ln T, one-hot 0. Below the floor the gradient is -2 lack / alarmed; above it 0."""
    fine = attending({"motion_modules": [math.log(8), 0.7]})
    assert judge("entropy_floor")(fine).item() == 0
    heads = torch.tensor([[0.0, 0.2, 2.0]], requires_grad=True)
    low = dataclasses.replace(fine, predictions={"matched": dataclasses.replace(fine.matched, attention={"motion_modules": heads})})
    found = torch.autograd.grad(judge("entropy_floor")(low).sum(), heads)[0]
    floor = 0.3 * math.log(8)
    assert found[0].tolist() == pytest.approx([-floor, -(floor - 0.2), 0])


def test_entropy_floor_says_what_it_misses() -> None:
    assert judge("entropy_floor").attends == ("motion_modules",)
    with pytest.raises(RecipeError, match=r"no attention layer .* listened to c\.attentions\.0"):
        judge("entropy_floor")(attending({"c.attentions.0": [1.0]}))
    with pytest.raises(RecipeError, match="none at all"):
        judge("entropy_floor")(attending({}))
    with pytest.raises(ShapeError, match="needs clips"):
        judge("entropy_floor")(make_outcome()[0])
