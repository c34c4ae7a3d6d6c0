"""The road from data to noise: x_t = alpha * x0 + sigma * eps, and where a sample stands on it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from .draws import Draws
from .errors import RecipeError
from .shapes import Chosen, Latents, Leveled, PerSample

__all__ = ["DiscretePath", "EDMPath", "NoiseLevel", "Path", "StraightPath", "expand", "over_frames"]


def expand(value: Leveled | Chosen, like: Tensor) -> Tensor:
    """Reshape (b,) to (b, 1, ..., 1), or (b, t) to (b, 1, t, 1, 1), so that it broadcasts against `like`."""
    if value.ndim == 2:
        return value[:, None, :, None, None]
    return value.reshape(-1, *[1] * (like.ndim - 1))


def over_frames(value: Leveled) -> PerSample:
    """One number a sample: itself, or the mean over its frames."""
    return value if value.ndim == 1 else value.mean(1)


@dataclass(frozen=True)
class NoiseLevel:
    """Where each sample of a batch stands, or (b, t) each frame of each clip (Diffusion Forcing, Chen et al. 2024).

    `time` is what the network is told: a timestep index, t in [0, 1], or ln(sigma) / 4.

    alpha and sigma are float32 whatever the network's precision: in bfloat16 the first steps of a schedule add no noise at all.
    """

    time: Leveled
    alpha: Leveled
    sigma: Leveled

    @property
    def snr(self) -> Leveled:
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
    def draw(self, draws: Draws, frames: int = 0) -> NoiseLevel:
        """One noise level a sample, from the draws addressed "level"; or one for each of its `frames`."""
        ...

    @property
    def bins(self) -> tuple[float, float]:
        """Range of `time`, for reports by noise level."""
        ...


@dataclass(frozen=True)
class DiscretePath:
    """The DDPM family (Ho et al. 2020, eq. 4): alpha_t = sqrt(abar_t), sigma_t = sqrt(1 - abar_t), t uniform on the timesteps.

    abar: cumulative product of 1 - beta, shape (timesteps,), float32, falling. shift: above 1 draws more of the noisy levels, a
    uniform u becomes shift u / (1 + (shift - 1) u) (Esser et al. 2024, eq. 23). A clip shows its motion through noise that would
    hide a picture, so that what its caption says of the motion is learned from the noisiest levels alone.
    """

    abar: Float[Tensor, "timesteps"]
    shift: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.shift < math.inf:
            raise RecipeError(f"noise_shift is {self.shift}, expected a finite number above 0; 1 draws all levels alike")

    @classmethod
    def from_scheduler(cls, scheduler: Any) -> DiscretePath:
        """From any diffusers scheduler that has `alphas_cumprod`."""
        if not hasattr(scheduler, "alphas_cumprod"):
            raise RecipeError(
                f"scheduler {type(scheduler).__name__} has no alphas_cumprod; for a flow-matching model use the straight path"
            )
        return cls(scheduler.alphas_cumprod.detach().float().cpu())

    def at(self, index: Tensor) -> NoiseLevel:
        """The levels of given integer timesteps, shape (b,) or (b, t)."""
        abar = self.abar[index.cpu()]
        return NoiseLevel(index.float().cpu(), abar.sqrt(), (1 - abar).sqrt())

    def draw(self, draws: Draws, frames: int = 0) -> NoiseLevel:
        count = len(self.abar)
        u = _uniform(draws, frames)
        u = u if self.shift == 1 else self.shift * u / (1 + (self.shift - 1) * u)
        return self.at((u * count).long().clamp_max(count - 1))

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

    def at(self, t: Leveled) -> NoiseLevel:
        """The levels of given t in [0, 1], shape (b,) or (b, t)."""
        t = t.float().cpu()
        return NoiseLevel(t * self.scale, 1 - t, t)

    def draw(self, draws: Draws, frames: int = 0) -> NoiseLevel:
        return self.at(_uniform(draws, frames) * (1 - 2 * self.edge) + self.edge)

    @property
    def bins(self) -> tuple[float, float]:
        return 0.0, self.scale

    @property
    def zero_terminal_snr(self) -> bool:
        return False


@dataclass(frozen=True)
class EDMPath:
    """EDM's levels (Karras et al. 2022): x_0 + s * eps with ln s ~ N(mean, std), told as ln(s) / 4, divided by sqrt(1 + s^2).

    In those units alpha = 1 / sqrt(1 + s^2) and sigma = s / sqrt(1 + s^2): the division is EDM's c_in for unit data, c_skip and
    c_out are those of a v prediction, and the weighted error of EDM is the plain error of v. The defaults are those of Stable
    Video Diffusion (Blattmann et al. 2023, appendix D).
    """

    mean: float = 0.7
    std: float = 1.6

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean) or not 0 < self.std < math.inf:
            raise RecipeError(f"an EDM path of mean {self.mean} and std {self.std}: expected a finite number, and one above 0")

    def at(self, s: Leveled) -> NoiseLevel:
        """The levels of given standard deviations of the noise on unit data, shape (b,) or (b, t), above 0."""
        s = s.float().cpu()
        scale = (1 + s.square()).rsqrt()
        return NoiseLevel(s.log() / 4, scale, s * scale)

    def draw(self, draws: Draws, frames: int = 0) -> NoiseLevel:
        normal = draws.normal("level", (frames,) if frames else ())
        return self.at((self.mean + self.std * normal).exp())

    @property
    def bins(self) -> tuple[float, float]:
        """Three standard deviations to both sides."""
        return (self.mean - 3 * self.std) / 4, (self.mean + 3 * self.std) / 4

    @property
    def zero_terminal_snr(self) -> bool:
        return False


def _uniform(draws: Draws, frames: int) -> Leveled:
    """(b,), or (b, frames) of which column i is addressed "level i"."""
    return torch.stack([draws.uniform(f"level {i}") for i in range(frames)], 1) if frames else draws.uniform("level")
