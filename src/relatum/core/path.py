"""The road from data to noise: x_t = alpha * x0 + sigma * eps, and where a sample stands on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .draws import Draws
from .errors import RecipeError
from .shapes import Chosen, Latents, PerSample

__all__ = ["DiscretePath", "NoiseLevel", "Path", "StraightPath", "expand"]


def expand(per_sample: PerSample | Chosen, like: Tensor) -> Tensor:
    """Reshape (b,) to (b, 1, ..., 1) so that it broadcasts against `like`."""
    return per_sample.reshape(-1, *[1] * (like.ndim - 1))


@dataclass(frozen=True)
class NoiseLevel:
    """Where each sample of a batch stands. `time` is what the network is told: a timestep index, or t in [0, 1].

    alpha and sigma are float32 whatever the network's precision: in bfloat16 the first steps of a schedule add no noise at all.
    """

    time: PerSample
    alpha: PerSample
    sigma: PerSample

    @property
    def snr(self) -> PerSample:
        """Signal-to-noise ratio (alpha / sigma)^2; infinite where sigma is 0."""
        return (self.alpha / self.sigma) ** 2

    def blend(self, x0: Latents, eps: Latents) -> Latents:
        """The noisy sample x_t in float32."""
        return expand(self.alpha, x0) * x0.float() + expand(self.sigma, x0) * eps.float()

    def to(self, device: torch.device | str) -> NoiseLevel:
        return NoiseLevel(self.time.to(device), self.alpha.to(device), self.sigma.to(device))

    def __len__(self) -> int:
        return len(self.time)

    def __getitem__(self, index: Any) -> NoiseLevel:
        return NoiseLevel(self.time[index], self.alpha[index], self.sigma[index])


@runtime_checkable
class Path(Protocol):
    def draw(self, draws: Draws) -> NoiseLevel:
        """One noise level a sample, from the draws addressed "level"."""
        ...

    @property
    def bins(self) -> tuple[float, float]:
        """Range of `time`, for reports by noise level."""
        ...


@dataclass(frozen=True)
class DiscretePath:
    """The DDPM family (Ho et al. 2020, eq. 4): alpha_t = sqrt(abar_t), sigma_t = sqrt(1 - abar_t), t uniform on the timesteps.

    abar: cumulative product of 1 - beta, shape (timesteps,), float32, falling.
    """

    abar: Float[Tensor, "timesteps"]

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> DiscretePath:
        """From any diffusers scheduler that has `alphas_cumprod`."""
        if not hasattr(scheduler, "alphas_cumprod"):
            raise RecipeError(
                f"scheduler {type(scheduler).__name__} has no alphas_cumprod; for a flow-matching model use the straight path"
            )
        return cls(scheduler.alphas_cumprod.detach().float().cpu())

    def at(self, index: Tensor) -> NoiseLevel:
        """The levels of given integer timesteps, shape (b,)."""
        abar = self.abar[index.cpu()]
        return NoiseLevel(index.float().cpu(), abar.sqrt(), (1 - abar).sqrt())

    def draw(self, draws: Draws) -> NoiseLevel:
        count = len(self.abar)
        return self.at((draws.uniform("level") * count).long().clamp_max(count - 1))

    @property
    def bins(self) -> tuple[float, float]:
        return 0.0, float(len(self.abar))

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last step holds no signal (Lin et al. 2023), which an eps prediction cannot be read from."""
        return bool(self.abar[-1] <= 0)


@dataclass(frozen=True)
class StraightPath:
    """Flow matching (Lipman et al. 2023; Liu et al. 2023): alpha = 1 - t, sigma = t, with t uniform on [edge, 1 - edge].

    The network is told t * `scale`: 1000 for diffusers' flow-matching models, 1 for plain t.
    """

    scale: float = 1000.0
    edge: float = 1e-3

    def at(self, t: PerSample) -> NoiseLevel:
        """The levels of given t in [0, 1], shape (b,)."""
        t = t.float().cpu()
        return NoiseLevel(t * self.scale, 1 - t, t)

    def draw(self, draws: Draws) -> NoiseLevel:
        return self.at(draws.uniform("level") * (1 - 2 * self.edge) + self.edge)

    @property
    def bins(self) -> tuple[float, float]:
        return 0.0, self.scale

    @property
    def zero_terminal_snr(self) -> bool:
        return False
