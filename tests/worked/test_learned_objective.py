"""An objective with weights of its own: the engine trains them, and checkpoints hold them."""

from dataclasses import dataclass

import pytest
import torch
from torch import nn

from relatum.core.outcome import MATCHED
from relatum.models.denoiser import Denoiser
from relatum.models.tiny import tiny_stable_diffusion
from relatum.objectives.blend import Blend, Weighted
from relatum.objectives.denoise import Denoise
from support.outcomes import make_outcome


@dataclass(eq=False)
class Scaled(nn.Module):
    """exp(s) * error - s: minimal at s = -log(error), so that s has a gradient of exp(s) * error - 1."""

    start: float = 0.5
    asks = (MATCHED,)

    def __post_init__(self) -> None:
        super().__init__()
        self.log_scale = nn.Parameter(torch.tensor(self.start))

    def forward(self, outcome):
        return self.log_scale.exp() * outcome.error() - self.log_scale


def test_its_weights_are_part_of_what_is_trained() -> None:
    blend = Blend({"base": Weighted(Denoise()), "scaled": Weighted(Scaled())})
    denoiser: Denoiser = tiny_stable_diffusion().denoiser()
    denoiser.learned = blend.learned()
    assert "learned.scaled.log_scale" in dict(denoiser.named_parameters())


def test_gradient_reaches_them() -> None:
    blend = Blend({"base": Weighted(Denoise()), "scaled": Weighted(Scaled())})
    outcome = make_outcome()[0]
    blend(outcome).total.mean().backward()
    scale = blend.terms["scaled"].objective.log_scale
    expected = (torch.tensor(0.5).exp() * outcome.error() - 1).mean().item()
    assert scale.grad.item() == pytest.approx(expected, rel=1e-5)


def test_state_round_trip() -> None:
    saved = Blend({"base": Weighted(Denoise()), "scaled": Weighted(Scaled(start=2.0))}).state()
    assert saved.keys() == {"scaled.log_scale"}
    fresh = Blend({"base": Weighted(Denoise()), "scaled": Weighted(Scaled())})
    fresh.load_state(saved)
    assert fresh.terms["scaled"].objective.log_scale.item() == 2.0
