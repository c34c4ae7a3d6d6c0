"""The base term's weighting and the blend's bookkeeping, where test_contrast.py leaves off."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from relatum.core.errors import RecipeError
from relatum.core.path import NoiseLevel
from relatum.core.prediction import Parametrization
from relatum.objectives.blend import Blend, Weighted, min_snr, read_blend
from relatum.objectives.denoise import Denoise
from support.outcomes import make_outcome

NO_SIGNAL = NoiseLevel(torch.tensor([0.0, 999.0]), torch.tensor([0.8, 0.0]), torch.tensor([0.6, 1.0]))


def test_min_snr_at_zero_terminal_snr() -> None:
    """An eps prediction cannot be read there, and the message says what to use; v and x0 weigh that level with min(0, g) = 0."""
    with pytest.raises(RecipeError, match="zero terminal SNR; use v_prediction"):
        min_snr(Parametrization.EPS, NO_SIGNAL, 5.0)
    for kind in (Parametrization.V, Parametrization.X0):
        weight = min_snr(kind, NO_SIGNAL, 5.0)
        assert weight.isfinite().all()
        assert weight[1] == 0


def test_min_snr_without_noise() -> None:
    """At sigma 0 the SNR is infinite: an x0 error weighs gamma, a v error gamma / infinity = 0."""
    clean = NoiseLevel(torch.zeros(1), torch.ones(1), torch.zeros(1))
    assert min_snr(Parametrization.X0, clean, 5.0).item() == 5
    assert min_snr(Parametrization.V, clean, 5.0).item() == 0


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"kind": "denoise", "wieght": 2.0}, "objectives.base.wieght: .*did you mean 'weight'"),
        ({"kind": "denoise", "snr_gama": 5.0}, "did you mean 'snr_gamma'"),
        ({"kind": "denoise", "level_weight": "srn"}, "objectives.base.level_weight: found 'srn'.*did you mean 'snr'"),
        ({"kind": "denoise", "cap": "tenth"}, "objectives.base.cap: expected a number, found the string 'tenth'"),
        ({"kind": "contrast", "temprature": 0.1}, "did you mean 'temperature'"),
        ({"kind": "contrast", "similarity": "cosin"}, "did you mean 'cosine'"),
    ],
)
def test_mistyped_settings_are_answered_with_the_near_name(table: dict[str, Any], says: str) -> None:
    with pytest.raises(RecipeError, match=says):
        read_blend({"base": table})


def test_balance_meter() -> None:
    """The same error three times, weights 1, 3 and 2. The first two are uncapped: the base is their sum, 4; shares 1/4, 3/4, 2/4.

    The third is capped at .1 of the base: it adds .4 of the error to the 4, and is measured always, the others when asked.
    """
    terms = {name: Weighted(Denoise(), weight) for name, weight in (("one", 1.0), ("three", 3.0))}
    blend = Blend({**terms, "held": Weighted(Denoise(), 2.0, cap=0.1)})
    outcome, _ = make_outcome()
    asked, usual = blend(outcome, measure_balance=True), blend(outcome)
    assert set(usual.balance) == {"held"}
    for name, share in (("one", 0.25), ("three", 0.75), ("held", 0.5)):
        torch.testing.assert_close(asked.balance[name], torch.full((6,), share))
    torch.testing.assert_close(asked.total, 4.4 * outcome.error())
    torch.testing.assert_close(asked.total, usual.total)


def test_every_weight_multiplies() -> None:
    """Weight 2, half of the warm-up, SNR weight min(S, 1) at SNR 1/4 and 4: 1/4 and 1."""
    outcome, _ = make_outcome(batch=2)
    alpha2 = torch.tensor([0.2, 0.8])
    level = NoiseLevel(outcome.level.time, alpha2.sqrt(), (1 - alpha2).sqrt())
    outcome.__dict__["level"] = level
    term = Weighted(Denoise(), weight=2.0, warmup_steps=10, level_weight="snr")
    torch.testing.assert_close(term.factor(outcome, 5), torch.tensor([0.25, 1.0]))
