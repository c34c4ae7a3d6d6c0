"""What a network's raw output means, and every other reading of it.

Each parametrization is a pair (a, b): the network is trained to output a * x0 + b * eps. Together with
x_t = alpha * x0 + sigma * eps that is a 2 x 2 linear system, so x0 and eps follow for all of them from one formula.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import cached_property

import torch
from torch import Tensor

from .path import NoiseLevel, expand
from .shapes import Latents, Leveled

__all__ = ["Parametrization", "Prediction"]


class Parametrization(Enum):
    EPS = "eps"  # eps                        (Ho et al. 2020)
    X0 = "x0"  # x0
    V = "v"  # alpha * eps - sigma * x0       (Salimans & Ho 2022, appendix D)
    FLOW = "flow"  # eps - x0                 (Liu et al. 2023; diffusers' sign)

    @classmethod
    def of_scheduler(cls, prediction_type: str) -> Parametrization:
        """diffusers' `prediction_type` word for it: epsilon, sample, v_prediction."""
        return {"epsilon": cls.EPS, "sample": cls.X0, "v_prediction": cls.V, "flow_prediction": cls.FLOW}[prediction_type]

    def mix(self, level: NoiseLevel) -> tuple[Leveled, Leveled]:
        """(a, b) a sample, or a frame."""
        one, zero = torch.ones_like(level.alpha), torch.zeros_like(level.alpha)
        match self:
            case Parametrization.EPS:
                return zero, one
            case Parametrization.X0:
                return one, zero
            case Parametrization.V:
                return -level.sigma, level.alpha
            case Parametrization.FLOW:
                return -one, one

    def target(self, x0: Latents, eps: Latents, level: NoiseLevel) -> Latents:
        """a * x0 + b * eps in float32: what a perfect network would output."""
        a, b = self.mix(level)
        return expand(a, x0) * x0.float() + expand(b, x0) * eps.float()


@dataclass(frozen=True)
class Prediction:
    """A raw output with all that is needed to read it. Readings are float32 and keep the gradient to `raw`.

    features: what layers of the network gave on the way, by the layer's name, where an objective asks for them.
    attention: entropies in nats of what attention layers looked at, (b heads) by the layer's name, likewise.
    """

    raw: Latents
    noisy: Latents
    level: NoiseLevel
    kind: Parametrization
    features: Mapping[str, Tensor] = field(default_factory=dict)
    attention: Mapping[str, Tensor] = field(default_factory=dict)

    @cached_property
    def x0(self) -> Latents:
        """The predicted clean sample. For eps the raw error grows by sigma / alpha: 14.6 at t = 999 of Stable Diffusion."""
        a, b, alpha, sigma = self._coefficients
        return (sigma * self.raw.float() - b * self.noisy) / (a * sigma - b * alpha)

    @cached_property
    def eps(self) -> Latents:
        a, b, alpha, sigma = self._coefficients
        return (a * self.noisy - alpha * self.raw.float()) / (a * sigma - b * alpha)

    def read(self, kind: Parametrization) -> Latents:
        """The same prediction in the words of another parametrization."""
        if kind is self.kind:
            return self.raw.float()
        return kind.target(self.x0, self.eps, self.level)

    @cached_property
    def _coefficients(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        terms = (*self.kind.mix(self.level), self.level.alpha, self.level.sigma)
        a, b, alpha, sigma = (expand(c, self.raw) for c in terms)
        return a, b, alpha, sigma
