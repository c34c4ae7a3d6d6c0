"""Contrast and its blend, worked by hand on latents of one or two numbers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError, ShapeError
from relatum.core.outcome import Outcome
from relatum.core.path import NoiseLevel
from relatum.core.prediction import Parametrization, Prediction
from relatum.objectives.blend import Blend, Weighted, min_snr, read_blend
from relatum.objectives.contrast import Contrast
from relatum.objectives.denoise import Denoise
from support.outcomes import make_outcome


def outcome_of(
    predicted: Sequence[Any], clean: Sequence[Any], ids: Sequence[str] | None = None, **more: Any
) -> tuple[Outcome, Tensor]:
    """An outcome of latents with one row of numbers a sample and no noise to speak of; the network predicts x0 itself."""
    raw = torch.tensor(predicted, dtype=torch.float32).reshape(len(predicted), 1, 1, -1).requires_grad_()
    truth = torch.tensor(clean, dtype=torch.float32).reshape(len(clean), 1, 1, -1)
    half = torch.full((len(clean),), 0.5)
    level = NoiseLevel(half, half.sqrt(), half.sqrt())
    prediction = Prediction(raw, level.blend(truth, torch.zeros_like(truth)), level, Parametrization.X0)
    given: dict[str, Any] = {
        "clean": truth,
        "noise": torch.zeros_like(truth),
        "level": level,
        "predictions": {"matched": prediction},
        "anchors": {"target": truth, "source": -truth},
        "ids": ids or [str(i) for i in range(len(clean))],
        "draws": Draws(0, range(len(clean))),
    }
    return Outcome(**{**given, **more}), raw


def test_faithful_is_cross_entropy_of_dot_products() -> None:
    """Predictions 1 and 2, keys 3 and -1.

    Sample 0 has logits (3, -1): loss ln(1 + e^-4). Sample 1 has (6, -2) and its own is -2: loss 8 + ln(1 + e^-8).
    """
    outcome, _ = outcome_of([1, 2], [3, -1])
    want = [math.log1p(math.exp(-4)), 8 + math.log1p(math.exp(-8))]
    torch.testing.assert_close(Contrast(faithful=True)(outcome), torch.tensor(want))
    to_source = [4 + math.log1p(math.exp(-4)), math.log1p(math.exp(-8))]  # keys -3 and 1 turn every logit round
    torch.testing.assert_close(Contrast(faithful=True, to="source")(outcome), torch.tensor(to_source))


def test_distance_with_a_fixed_temperature() -> None:
    """Keys (0, 0), (2, 4); prediction 0 is (1, 0): squared distances mean 1/2 and (1 + 16)/2; tau 2 gives logits -1/4 and -17/4."""
    outcome, _ = outcome_of([[1, 0], [2, 4]], [[0, 0], [2, 4]])
    loss = Contrast(temperature=2.0)(outcome)
    torch.testing.assert_close(loss[0], torch.tensor(math.log1p(math.exp(-4))))
    torch.testing.assert_close(loss[1], torch.tensor(math.log1p(math.exp(-5))))  # at its key: 0 against (4 + 16)/2 / 2


def test_calibrated_temperature() -> None:
    """At the truth, with n equally distant negatives, the own key wins with exactly `confidence`: loss -ln p."""
    corners = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]
    outcome, _ = outcome_of(corners, corners)
    for confidence in (0.9, 0.999):
        torch.testing.assert_close(Contrast(confidence=confidence)(outcome), torch.full((4,), -math.log(confidence)))


@pytest.mark.parametrize("spread", [1.0, 0.01], ids=["strangers", "near-duplicates"])
def test_stationary_at_the_truth(spread: float) -> None:
    """The gradient at x0_hat = x0 is at most 1 % of that at x0_hat = the batch mean."""

    def pull(of: Tensor) -> float:
        raw = of.clone().requires_grad_()
        prediction = Prediction(raw, outcome.matched.noisy, outcome.level, Parametrization.X0)
        Contrast()(dataclasses.replace(outcome, predictions={"matched": prediction})).sum().backward()
        assert raw.grad is not None
        return float(raw.grad.norm())

    outcome, _ = make_outcome(spread=spread, kind=Parametrization.X0)
    at_mean = pull(outcome.clean.mean(0, keepdim=True).expand_as(outcome.clean))
    assert at_mean > 0
    assert pull(outcome.clean) <= 0.01 * at_mean


def test_pulls_towards_its_own_key() -> None:
    """One step down the gradient brings every prediction nearer to its own key than to the others'."""
    outcome, raw = outcome_of([[0.5, 0.4], [0.4, 0.6], [0.6, 0.6]], [[0, 0], [0, 1], [1, 1]])
    Contrast(temperature=0.5)(outcome).sum().backward()
    assert raw.grad is not None
    moved = (raw - 0.1 * raw.grad).detach().flatten(1)
    keys = outcome.clean.flatten(1)
    before, after = (torch.cdist(x, keys) for x in (raw.detach().flatten(1), moved))
    assert (after.diagonal() < before.diagonal()).all()


def test_repeated_ids_are_no_negatives() -> None:
    """Sample 1 is the same thing as sample 0, so each has the one negative 5.

    tau 10. Sample 0 stands at its key, squared distances 0 and 25; sample 1 stands at 0 with key 1, squared distances 1 and 25.
    """
    outcome, _ = outcome_of([0, 0, 5], [0, 1, 5], ids=["a", "a", "b"])
    loss = Contrast(temperature=10.0)(outcome)
    torch.testing.assert_close(loss[0], torch.tensor(math.log1p(math.exp(-2.5))))
    assert outcome.watched["effective_negatives"].tolist() == [1, 1, 2]
    torch.testing.assert_close(loss[1], torch.tensor(0.1 + math.log(math.exp(-0.1) + math.exp(-2.5))))


def test_masks_keys_as_near_to_the_truth_as_its_own() -> None:
    """Keys 0, 0.01 and 10: to sample 0 the second is no negative, as 0.0001 is under 1 % of the mean distance 50."""
    outcome, _ = outcome_of([0, 0, 10], [0, 0.01, 10])
    Contrast()(outcome)
    assert outcome.watched["effective_negatives"].tolist() == [1, 1, 2]


def test_accuracy_is_watched() -> None:
    """Prediction 4 stands at its key, prediction 3 nearer to the other's."""
    outcome, _ = outcome_of([4, 3], [4, 0])
    Contrast(temperature=1.0)(outcome)
    assert outcome.watched["nce_accuracy"].tolist() == [1, 0]


def test_cosine_forgets_scale() -> None:
    outcome, _ = make_outcome(kind=Parametrization.X0)
    twice = {"matched": Prediction(3 * outcome.matched.raw, outcome.matched.noisy, outcome.level, Parametrization.X0)}
    term = Contrast(similarity="cosine")
    torch.testing.assert_close(term(outcome), term(dataclasses.replace(outcome, predictions=twice)))


def test_finite_on_large_unscaled_latents() -> None:
    """64 x 64 x 4 source latents of unscaled size (std 5.5), in half precision: raw dots reach 5e5, past float16's 65,504."""
    g = torch.Generator().manual_seed(0)
    big = (5.5 * torch.randn(3, 4, 64, 64, generator=g)).half()
    outcome, _ = make_outcome(batch=3, shape=(4, 64, 64), kind=Parametrization.X0)
    prediction = Prediction(big, outcome.matched.noisy, outcome.level, Parametrization.X0)
    outcome = dataclasses.replace(
        outcome, predictions={"matched": prediction}, anchors={"source": big.float(), "target": big.float()}
    )
    for faithful in (True, False):
        assert Contrast(faithful=faithful, to="source")(outcome).isfinite().all()


def test_queue_adds_negatives_and_forgets_the_oldest() -> None:
    """Batches of two with a queue of three: 1, then 1 + 2, then 1 + 3 negatives (the newest three of four)."""
    term, counts = Contrast(queue=3, similar=0.0), []
    for step in range(3):
        ids = [f"{step}-{i}" for i in range(2)]
        outcome, _ = make_outcome(seed=step, batch=2, ids=ids)
        term(outcome)
        counts.append(outcome.watched["effective_negatives"].max().item())
    assert counts == [1, 3, 4]
    again = Contrast(queue=3)
    again.load_state(term.state())
    assert torch.equal(again.state()["latents"], term.state()["latents"])


def test_held_out_rows_do_not_enter_the_queue() -> None:
    term = Contrast(queue=3)
    term(dataclasses.replace(make_outcome()[0], training=False))
    assert term.state() == {}


def test_one_sample_has_no_negatives() -> None:
    with pytest.raises(ShapeError, match="needs negatives"):
        Contrast()(outcome_of([1], [2])[0])


def test_weight_and_warmup() -> None:
    """x0 predictions 1 and 3 of 0: errors 1 and 9. Weight 2 a quarter through the warm-up: 0.5 and 4.5."""
    outcome, _ = outcome_of([1, 3], [0, 0])
    blend = Blend({"base": Weighted(Denoise(), weight=2.0, warmup_steps=4)})
    torch.testing.assert_close(blend(outcome, step=1).total, torch.tensor([0.5, 4.5]))
    torch.testing.assert_close(blend(outcome, step=9).total, torch.tensor([2.0, 18.0]))
    torch.testing.assert_close(blend(outcome, step=1).losses["base"], torch.tensor([1.0, 9.0]))  # logged unweighted


@pytest.mark.parametrize(("kind", "want"), [("eps", [1.0, 0.5]), ("v", [4 / 5, 5 / 11]), ("x0", [4.0, 5.0])])
def test_min_snr_weights(kind: str, want: list[float]) -> None:
    """gamma 5 at SNR 4 and 10 (Hang et al. 2023): eps min(S, g)/S, v min(S, g)/(S + 1), x0 min(S, g)."""
    snr = torch.tensor([4.0, 10.0])
    alpha = (snr / (1 + snr)).sqrt()
    level = NoiseLevel(torch.zeros(2), alpha, (1 - alpha.square()).sqrt())
    torch.testing.assert_close(min_snr(Parametrization(kind), level, 5.0), torch.tensor(want), rtol=1e-5, atol=1e-6)


def test_min_snr_losses_do_not_depend_on_the_parametrization() -> None:
    """One predicted x0, told as eps, v, x0 or flow, costs the same."""
    outcome, _ = make_outcome(kind=Parametrization.X0)
    blend = Blend({"base": Weighted(Denoise(), snr_gamma=5.0)})
    want = blend(outcome).total
    for kind in (Parametrization.EPS, Parametrization.V, Parametrization.FLOW):
        told = Prediction(outcome.matched.read(kind), outcome.matched.noisy, outcome.level, kind)
        got = blend(dataclasses.replace(outcome, predictions={"matched": told})).total
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-5)


def test_level_weights() -> None:
    """SNR 4, 1/4 and 1/19 (alpha^2 .8, .2, .05): "snr" gives 1, 1/4, 1/19 and "abar" 1, 1, 0."""
    alpha2 = torch.tensor([0.8, 0.2, 0.05])
    outcome, _ = outcome_of([1, 1, 1], [0, 0, 0], level=NoiseLevel(torch.zeros(3), alpha2.sqrt(), (1 - alpha2).sqrt()))
    for word, want in (("snr", [1, 1 / 4, 1 / 19]), ("abar", [1.0, 1.0, 0.0]), ("none", [1.0, 1.0, 1.0])):
        torch.testing.assert_close(Weighted(Denoise(), level_weight=word).factor(outcome, 0), torch.tensor(want))


def test_cap_holds_the_gradient_at_a_share_of_the_base() -> None:
    """A term ten thousand times too heavy pulls with a tenth of the base term's gradient, a weak one with its own."""
    outcome, raws = make_outcome(spread=0.05)
    base = torch.autograd.grad(Denoise()(outcome).sum(), raws["matched"], retain_graph=True)[0].flatten(1).norm(dim=1)
    for weight in (1e4, 1e-9):
        blend = Blend({"base": Weighted(Denoise()), "pull": Weighted(Contrast(), weight=weight, cap=0.1)})
        outcome, raws = make_outcome(spread=0.05)
        alone = torch.autograd.grad(weight * Contrast()(outcome).sum(), raws["matched"])[0].flatten(1).norm(dim=1)
        outcome, raws = make_outcome(spread=0.05)
        judged = blend(outcome)
        together = torch.autograd.grad(judged.total.sum(), raws["matched"])[0]
        outcome, raws = make_outcome(spread=0.05)
        plain = torch.autograd.grad(Denoise()(outcome).sum(), raws["matched"])[0]
        torch.testing.assert_close(
            (together - plain).flatten(1).norm(dim=1), torch.minimum(alone, 0.1 * base), rtol=1e-3, atol=1e-6
        )
        torch.testing.assert_close(judged.balance["pull"], alone / base, rtol=1e-3, atol=1e-6)


def test_read_blend_takes_the_objectives_advice() -> None:
    """Robust contrast asks for a cap and an SNR weight; the recipe's word goes first; the faithful form asks for nothing."""
    blend = read_blend({"base": {"kind": "denoise"}, "pull": {"kind": "contrast"}, "far": {"kind": "contrast", "cap": 0.5}})
    assert (blend.terms["pull"].cap, blend.terms["pull"].level_weight) == (0.1, "snr")
    assert blend.terms["far"].cap == 0.5
    plain = read_blend({"base": {"kind": "denoise"}, "pull": {"kind": "contrast", "faithful": True}})
    assert (plain.terms["pull"].cap, plain.terms["pull"].level_weight) == (None, "none")


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({}, "objectives: a run needs at least one term"),
        ({"pull": {"kind": "contrast"}}, "objectives: every term is capped"),
        ({"pull": {"kind": "contrst"}}, "objectives.pull.kind: no objective of kind 'contrst'; did you mean 'contrast'?"),
        ({"base": {"kind": "denoise", "wight": 2}}, "objectives.base.wight"),
        ({"base": {"kind": "denoise"}, "pull": {"kind": "contrast", "faithful": True, "queue": 4}}, "leave out queue"),
    ],
)
def test_wrong_objectives_are_named(tables: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        read_blend(tables)
    assert says in str(caught.value)
