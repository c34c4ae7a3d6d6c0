"""Objectives of right and wrong captions, worked by hand. Targets are 0 here, so a constant raw output c has the error c^2."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError, ShapeError
from relatum.core.outcome import Outcome
from relatum.core.path import NoiseLevel
from relatum.core.prediction import Parametrization, Prediction
from relatum.objectives.blend import read_blend
from relatum.objectives.captions import CaptionContrast, CaptionPreference
from relatum.objectives.delta_fm import DeltaFM, derangement
from relatum.objectives.dispersive import Dispersive
from relatum.objectives.negatives import HardNegative, NoNegative, ReflectedNegative, SoftNegative

Views = Mapping[str, Sequence[float]]


def outcome_of(views: Views, **more: Any) -> tuple[Outcome, dict[str, Tensor]]:
    """Raw outputs of these constants, (b 1 2 1); alpha .8, sigma .6; clean and noise are 0."""
    size = len(next(iter(views.values())))
    level = NoiseLevel(torch.full((size,), 500.0), torch.full((size,), 0.8), torch.full((size,), 0.6))
    still = torch.zeros(size, 1, 2, 1)
    raws = {key: torch.tensor(row).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 1).clone().requires_grad_() for key, row in views.items()}
    made = {key: Prediction(raw, still, level, Parametrization.EPS) for key, raw in raws.items()}
    ids = [f"row-{i}" for i in range(size)]
    return Outcome(still, still, level, made, {}, ids, Draws(0, ids), **more), raws


def pulls(loss: Tensor, raws: Mapping[str, Tensor]) -> dict[str, list[float]]:
    """Each view's gradient of the mean loss at its first number of each sample."""
    grads = torch.autograd.grad(loss.mean(), list(raws.values()), allow_unused=True)
    return {
        key: [0.0] * len(raw) if g is None else g[:, 0, 0, 0].tolist() for (key, raw), g in zip(raws.items(), grads, strict=True)
    }


def test_faithful_hard_negative_acts_on_means() -> None:
    """d+ = 4, 1 (mean 2.5), d- = 1, 3.24 (mean 2.12 < 2.5): active, loss 4 - 1 = 3 and 1 - 3.24 = -2.24, mean 0.38 = 2.5 - 2.12.

    Gradient of a mean over 2 samples and 2 cells of c^2: 2 c / 4, so +2 / 2, +1 / 2 and -1 / 2, -1.8 / 2.
    """
    outcome, raws = outcome_of({"matched": [2.0, 1.0], "negative": [1.0, 1.8]})
    loss = HardNegative(faithful=True)(outcome)
    torch.testing.assert_close(loss, torch.tensor([3.0, -2.24]))
    found = pulls(loss, raws)
    assert found["matched"] == pytest.approx([1.0, 0.5])
    assert found["negative"] == pytest.approx([-0.5, -0.9])
    assert outcome.watched["active_fraction"].tolist() == [1.0, 1.0]


def test_faithful_hard_negative_beyond_its_bound_is_mse_and_reads_zero() -> None:
    """d- = 9 > d+ = 4: 4 - min(9, sg 4) = 0, with the gradient of d+ alone. At bound .5 the value is 4 - 2."""
    outcome, raws = outcome_of({"matched": [2.0], "negative": [3.0]})
    loss = HardNegative(faithful=True)(outcome)
    assert loss.tolist() == [0.0]
    plain = pulls(outcome.error(), raws)
    assert pulls(loss, raws) == plain
    assert plain["matched"] == pytest.approx([2.0])
    assert HardNegative(faithful=True, bound=0.5)(outcome).tolist() == [2.0]


def test_micro_batches_decide_by_themselves() -> None:
    """d+ = 4, 1, 1, 1 and d- = 1, 1, 4, 4. Of all four: 10 / 4 > 7 / 4, inactive. In twos: 1 < 2.5 active, 4 > 1 not. In ones: the
    first alone, as an equal pair is none.
    """
    outcome, _ = outcome_of({"matched": [2.0, 1.0, 1.0, 1.0], "negative": [1.0, 1.0, 2.0, 2.0]})
    for size, active in ((None, [0, 0, 0, 0]), (2, [1, 1, 0, 0]), (1, [1, 0, 0, 0])):
        HardNegative(faithful=True, micro_batch=size)(outcome)
        assert outcome.watched["active_fraction"].tolist() == active
    with pytest.raises(ShapeError, match="4 samples do not divide into micro-batches of 3"):
        HardNegative(faithful=True, micro_batch=3)(outcome)


def test_robust_hard_negative_has_a_margin_a_sample() -> None:
    """d+ = 4, d- = 4.1: hinge .05 * 4 + 4 - 4.1 = .1, loss 4.1. d- = 4.3: 4.2 < 4.3, no hinge, loss 4. d- = 1: 4 + 3.2 = 7.2.

    The margin takes no gradient: at the first sample d+ counts twice, 2 * 2 * 2 / (2 * 3) = 4 / 3.
    """
    outcome, raws = outcome_of({"matched": [2.0, 2.0, 2.0], "negative": [4.1**0.5, 4.3**0.5, 1.0]})
    loss = HardNegative()(outcome)
    torch.testing.assert_close(loss, torch.tensor([4.1, 4.0, 7.2]))
    found = pulls(loss, raws)
    assert found["matched"] == pytest.approx([4 / 3, 2 / 3, 4 / 3])
    assert found["negative"] == pytest.approx([-(4.1**0.5) / 3, 0.0, -1 / 3])
    torch.testing.assert_close(HardNegative(strength=0.5)(outcome), torch.tensor([4.05, 4.0, 5.6]))


def test_soft_negatives() -> None:
    """d+ = 1, d0 = 4. Faithful: -3, and d0 is pushed up. Robust at tau 2: 1 + 2 ln(1 + e^-1.5) = 1.40283, d0 is left alone."""
    outcome, raws = outcome_of({"matched": [1.0], "null": [2.0]})
    faithful = SoftNegative(faithful=True)(outcome)
    assert faithful.tolist() == [-3.0]
    assert pulls(faithful, raws) == {"matched": [1.0], "null": [-2.0]}
    robust = SoftNegative(tau=2.0)(outcome)
    assert robust.item() == pytest.approx(1 + 2 * math.log1p(math.exp(-1.5)))
    found = pulls(robust, raws)
    assert found["null"] == [0.0]
    assert found["matched"] == pytest.approx([1 + 1 / (1 + math.exp(1.5))])


def test_soft_negative_with_the_reference_reads_the_frozen_base() -> None:
    """d0 of the base is 1: 4 + .01 ln(1 + e^300) = 4 + 3."""
    outcome, _ = outcome_of({"matched": [2.0], "reference:null": [1.0]})
    assert SoftNegative(null="reference")(outcome).item() == pytest.approx(7.0)


def test_faithful_soft_negative_with_a_frozen_null_would_be_mse() -> None:
    outcome, raws = outcome_of({"matched": [1.5], "null": [2.0]})
    right, none = outcome.error(), outcome.error("null").detach()
    assert pulls(right - none, raws) == pulls(NoNegative()(outcome), raws)


def test_caption_contrast() -> None:
    """Errors 1, 2, 2 at tau 1: -ln(e^-1 / (e^-1 + 2 e^-2)) = ln(1 + 2 / e) = .55144. Equal errors: ln 3. Constants do nothing."""
    views = {"matched": [1.0, 1.5], "negative": [2**0.5, 1.5], "negative.2": [2**0.5, 1.5]}
    outcome, _ = outcome_of(views)
    loss = CaptionContrast(captions=3, tau=1.0, share=1.0)(outcome)
    assert loss.tolist() == pytest.approx([math.log1p(2 / math.e), math.log(3)])
    assert outcome.watched["nce_accuracy"].tolist() == [1.0, 0.0]
    more, _ = outcome_of({key: [(c * c + 0.7) ** 0.5 for c in row] for key, row in views.items()})
    torch.testing.assert_close(CaptionContrast(captions=3, tau=1.0, share=1.0)(more), loss)


def test_caption_contrast_of_a_share_keeps_its_mean() -> None:
    """At share .25 the drawn ones count four times: 4 ln(1 + e^-3) for errors 1 and 4; those without a wrong caption nothing."""
    chosen = torch.arange(40) != 7
    outcome, _ = outcome_of({"matched": [1.0] * 40, "negative": [2.0] * 40}, chosen={"negative": chosen})
    drawn = outcome.draws.uniform("chosen") < 0.25
    assert 3 < int(drawn.sum()) < 20
    loss = CaptionContrast(tau=1.0, share=0.25)(outcome)
    torch.testing.assert_close(loss, torch.where(drawn & chosen, 4 * math.log1p(math.exp(-3)), 0.0))


def test_caption_preference() -> None:
    """As the base: ln 2 + d+. Gained 1 on the base for the right caption, lost .5 for the wrong: ln(1 + e^-1.5) + d+."""
    same = {"matched": [1.5], "negative": [1.2], "reference:matched": [1.5], "reference:negative": [1.2]}
    outcome, raws = outcome_of(same)
    assert CaptionPreference(beta=7.0)(outcome).item() == pytest.approx(math.log(2) + 2.25)
    alone = pulls(CaptionPreference(beta=7.0, anchor=0.0)(outcome), raws)
    assert alone["matched"][0] > 0 > alone["negative"][0]
    swapped, turned = outcome_of(
        {**same, "matched": [1.2], "negative": [1.5], "reference:matched": [1.2], "reference:negative": [1.5]}
    )
    other = pulls(CaptionPreference(beta=7.0, anchor=0.0)(swapped), turned)
    assert other["matched"] == pytest.approx([-alone["negative"][0]])
    moved, _ = outcome_of({"matched": [1.0], "negative": [1.5**0.5], "reference:matched": [2**0.5], "reference:negative": [1.0]})
    assert CaptionPreference(beta=2.0)(moved).item() == pytest.approx(math.log1p(math.exp(-1.5)) + 1.0)


def test_reflected_negative() -> None:
    """p_ref = 1, p = 2, beta .5: mirrored 1.5 - 1 = .5, squared .25. At p = p_ref the base's error. Pushed away from the target."""
    outcome, raws = outcome_of({"negative": [2.0], "reference:negative": [1.0]})
    loss = ReflectedNegative()(outcome)
    assert loss.tolist() == [0.25]
    assert pulls(loss, raws)["negative"] == pytest.approx([-0.25])
    same, _ = outcome_of({"negative": [3.0], "reference:negative": [3.0]})
    assert ReflectedNegative()(same).tolist() == [9.0]


def test_a_negative_picture_has_its_own_target() -> None:
    """v-target alpha * eps - sigma * x0 of the wrong picture (x0 = 2 everywhere): -1.2, so a raw output of -1.2 has no error."""
    outcome, _ = outcome_of({"matched": [0.0], "negative": [-1.2]}, cleans={"negative": torch.full((1, 1, 2, 1), 2.0)})
    told = {key: dataclasses.replace(p, kind=Parametrization.V) for key, p in outcome.predictions.items()}
    outcome = dataclasses.replace(outcome, predictions=told)
    assert outcome.error("negative").item() == pytest.approx(0.0, abs=1e-12)
    assert outcome.error().item() == 0.0


def test_delta_fm_optimum() -> None:
    """Minimizing (p - y)^2 - s (p - m)^2 gives p = (y - s m) / (1 - s): y = 1, m = -2, s = .25: 2. x0-targets of clean 1 and -2."""
    clean = torch.tensor([1.0, -2.0]).reshape(2, 1, 1, 1).expand(2, 1, 2, 1)
    outcome, raws = outcome_of({"matched": [2.0, -3.0]})
    told = {"matched": dataclasses.replace(outcome.matched, kind=Parametrization.X0)}
    outcome = dataclasses.replace(outcome, clean=clean, predictions=told)
    term = DeltaFM(strength=0.25)
    loss = term(outcome)
    assert loss.tolist() == pytest.approx([1 - 0.25 * 16, 1 - 0.25 * 16])
    assert pulls(loss, raws)["matched"] == pytest.approx([0.0, 0.0], abs=1e-6)
    found = term.correction()
    assert found is not None
    assert found[0] == 0.25
    torch.testing.assert_close(found[1], torch.full((1, 1, 2, 1), -0.5))
    assert DeltaFM(strength=0.0)(outcome).tolist() == pytest.approx([1.0, 1.0])


def test_derangements_avoid_the_same_thing() -> None:
    keys = torch.tensor([5, 9, 5, 1, 9, 7])
    other = derangement(keys)
    assert sorted(other.tolist()) == list(range(6))
    assert bool((keys[other] != keys).all())
    with pytest.raises(ShapeError, match="2 of a batch of 3 are the same thing"):
        derangement(torch.tensor([4, 4, 1]))


def test_dispersive() -> None:
    """Features 0 and 2 of one dimension, tau 2: ln((1 + e^-2) / 2) each. Equal features: 0. Huge ones stay finite."""
    outcome, _ = outcome_of({"matched": [0.0, 0.0]})

    def held(values: list[float], width: int = 1) -> Outcome:
        features = {"mid_block": torch.tensor(values)[:, None].expand(-1, width)}
        return dataclasses.replace(outcome, predictions={"matched": dataclasses.replace(outcome.matched, features=features)})

    expected = math.log((1 + math.exp(-2)) / 2)
    assert Dispersive(tau=2.0)(held([0.0, 2.0])).tolist() == pytest.approx([expected, expected])
    assert Dispersive(tau=2.0)(held([0.0, 2.0], width=5)).tolist() == pytest.approx([expected, expected])
    assert Dispersive()(held([3.0, 3.0])).tolist() == pytest.approx([0.0, 0.0])
    assert Dispersive()(held([0.0, 1e4])).tolist() == pytest.approx([-math.log(2), -math.log(2)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "hard_negative", "bound": 2.0}, "bound is read only with faithful = true"),
        ({"kind": "hard_negative", "faithful": True, "margin": 0.1}, "margin is read only with faithful = false"),
        ({"kind": "soft_negative", "faithful": True, "tau": 1.0}, "tau is read only with faithful = false"),
        ({"kind": "delta_fm", "strength": 1.0}, "strength is 1.0, expected 0 or more and below 1"),
        ({"kind": "caption_contrast", "captions": 5}, "captions is 5, expected 2 to 4"),
        ({"kind": "denoise", "two_pass": True}, "does not know where it acts"),
    ],
)
def test_refusals(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        read_blend({"term": settings})
