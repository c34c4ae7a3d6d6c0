"""Noising and parametrizations pinned to diffusers' schedulers: a round trip cannot see a sign that is wrong twice."""

from __future__ import annotations

import dataclasses

import jaxtyping
import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler, FlowMatchEulerDiscreteScheduler
from torch import Tensor

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError
from relatum.core.path import DiscretePath, NoiseLevel, StraightPath
from relatum.core.prediction import Parametrization, Prediction

SCHEDULES = {
    "stable-diffusion": {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    "linear": {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
    "cosine": {"beta_schedule": "squaredcos_cap_v2"},
    "zero-terminal-snr": {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "rescale_betas_zero_snr": True,
    },
    "short": {"beta_schedule": "linear", "num_train_timesteps": 50},
}
WORDS = {"epsilon": Parametrization.EPS, "sample": Parametrization.X0, "v_prediction": Parametrization.V}


def pair(seed: int = 0) -> tuple[Tensor, Tensor]:
    """x0 and eps, of different scale and offset so that swapping them shows."""
    g = torch.Generator().manual_seed(seed)
    return 0.7 * torch.randn(5, 4, 6, 8, generator=g) + 0.3, torch.randn(5, 4, 6, 8, generator=g)


def steps_of(count: int) -> Tensor:
    return torch.tensor([0, 1, count // 3, count // 2, count - 1])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_noising_is_add_noise(schedule: str) -> None:
    scheduler = DDPMScheduler(**SCHEDULES[schedule])
    x0, eps = pair()
    t = steps_of(scheduler.config.num_train_timesteps)
    level = DiscretePath.from_scheduler(scheduler).at(t)
    torch.testing.assert_close(level.blend(x0, eps), scheduler.add_noise(x0, eps, t), rtol=1e-6, atol=1e-6)
    assert level.time.tolist() == t.tolist()


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_v_is_get_velocity(schedule: str) -> None:
    scheduler = DDPMScheduler(**SCHEDULES[schedule])
    x0, eps = pair()
    t = steps_of(scheduler.config.num_train_timesteps)
    target = Parametrization.V.target(x0, eps, DiscretePath.from_scheduler(scheduler).at(t))
    torch.testing.assert_close(target, scheduler.get_velocity(x0, eps, t), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_readings_are_the_schedulers(schedule: str, word: str) -> None:
    """x0 is `pred_original_sample` of an arbitrary output; eps is what DDIM's deterministic step goes on with."""
    scheduler = DDIMScheduler(**SCHEDULES[schedule], prediction_type=word, clip_sample=False, set_alpha_to_one=False)
    path, (raw, noisy) = DiscretePath.from_scheduler(scheduler), pair(1)
    count = scheduler.config.num_train_timesteps
    scheduler.set_timesteps(count)
    for t in (1, count // 2, count - 1):
        level = path.at(torch.full((5,), t))
        if word == "epsilon" and bool(level.alpha[0] == 0):
            continue  # no x0 can be read from eps where there is no signal
        prediction = Prediction(raw, noisy, level, Parametrization.of_scheduler(word))
        theirs = scheduler.step(raw, t, noisy, eta=0.0)
        amplified = float(1 / level.alpha[0]) if word == "epsilon" else 1.0
        torch.testing.assert_close(prediction.x0, theirs.pred_original_sample, rtol=1e-4, atol=2e-6 * amplified)
        if word == "sample" and level.sigma[0] < 0.02:
            continue  # eps is amplified by 1 / sigma
        abar = path.abar[t - 1]
        onward = abar.sqrt() * prediction.x0 + (1 - abar).sqrt() * prediction.eps
        torch.testing.assert_close(onward, theirs.prev_sample, rtol=1e-4, atol=1e-5 * amplified)


def test_words_of_the_schedulers() -> None:
    assert {word: Parametrization.of_scheduler(word) for word in WORDS} == WORDS


def test_flow_noising_and_sign() -> None:
    """sigma is the share of noise, the model is told 1000 * sigma, and the output points from data to noise."""
    scheduler = FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(8)
    x0, eps = pair()
    for i in range(5):
        sigma, t = scheduler.sigmas[i], scheduler.timesteps[i]
        level = StraightPath().at(sigma.repeat(5))
        torch.testing.assert_close(level.time, t.repeat(5))
        noisy = level.blend(x0, eps)
        torch.testing.assert_close(noisy, scheduler.scale_noise(x0, t.repeat(5), eps))
        stepper = FlowMatchEulerDiscreteScheduler()
        stepper.set_timesteps(8)
        stepper.set_begin_index(i)
        onward = stepper.step(Parametrization.FLOW.target(x0, eps, level), t, noisy).prev_sample
        torch.testing.assert_close(onward, StraightPath().at(scheduler.sigmas[i + 1].repeat(5)).blend(x0, eps))


@pytest.mark.parametrize("path", [DiscretePath.from_scheduler(DDPMScheduler()), StraightPath()], ids=["discrete", "straight"])
@pytest.mark.parametrize("kind", list(Parametrization))
def test_every_reading_of_a_perfect_output_is_the_truth(kind: Parametrization, path: DiscretePath | StraightPath) -> None:
    x0, eps = pair()
    drawn = path.draw(Draws(3, range(5)))
    level = NoiseLevel(drawn.time, drawn.alpha.clamp_min(0.05), drawn.sigma.clamp_min(0.05))
    prediction = Prediction(kind.target(x0, eps, level), level.blend(x0, eps), level, kind)
    for other in Parametrization:
        torch.testing.assert_close(prediction.read(other), other.target(x0, eps, level), rtol=1e-4, atol=1e-4)


def test_half_precision_still_adds_noise() -> None:
    """diffusers' add_noise casts alphas to the sample's type: in bfloat16 sqrt(1 - .00085) is 1 and noise is lost."""
    x0, eps = (x.bfloat16() for x in pair())
    level = DiscretePath.from_scheduler(DDPMScheduler(**SCHEDULES["stable-diffusion"])).at(torch.zeros(5, dtype=torch.long))
    assert level.alpha.dtype == torch.float32
    noisy = level.blend(x0, eps)
    assert noisy.dtype == torch.float32
    torch.testing.assert_close(noisy, level.alpha[0] * x0.float() + level.sigma[0] * eps.float())
    assert 0.999 < float(level.alpha[0]) < 1


def test_reading_keeps_the_gradient() -> None:
    """d x0 / d raw is -sigma / alpha for eps: at alpha .6, sigma .8 that is -4/3 a number."""
    raw = torch.zeros(1, 1, 2, 2, requires_grad=True)
    level = NoiseLevel(torch.ones(1), torch.tensor([0.6]), torch.tensor([0.8]))
    Prediction(raw, torch.ones(1, 1, 2, 2), level, Parametrization.EPS).x0.sum().backward()
    torch.testing.assert_close(raw.grad, torch.full((1, 1, 2, 2), -4 / 3))


def test_levels_of_a_path() -> None:
    """Draws cover the path evenly: of 4,000 uniform levels each tenth holds 400, give or take 90 (more than four sigma)."""
    for path in (DiscretePath.from_scheduler(DDPMScheduler()), StraightPath()):
        level = path.draw(Draws(0, range(4000)))
        low, high = path.bins
        counts = torch.histc(level.time, 10, low, high)
        assert (counts - 400).abs().max() < 90
        assert level.time.min() >= low
        assert level.time.max() <= high
        torch.testing.assert_close(level.snr, (level.alpha / level.sigma).square())


def test_discrete_level_and_variance() -> None:
    level = DiscretePath.from_scheduler(DDPMScheduler()).draw(Draws(0, range(50)))
    torch.testing.assert_close(level.alpha.square() + level.sigma.square(), torch.ones(50))


def test_zero_terminal_snr_is_known() -> None:
    assert DiscretePath.from_scheduler(DDPMScheduler(**SCHEDULES["zero-terminal-snr"])).zero_terminal_snr
    assert not DiscretePath.from_scheduler(DDPMScheduler(**SCHEDULES["stable-diffusion"])).zero_terminal_snr


def test_a_flow_scheduler_is_no_discrete_path() -> None:
    with pytest.raises(RecipeError, match=r"FlowMatchEulerDiscreteScheduler has no alphas_cumprod; .* straight path"):
        DiscretePath.from_scheduler(FlowMatchEulerDiscreteScheduler())


def test_shapes_are_checked_in_tests() -> None:
    """The run-time checks are on: three times and four alphas are no level, and a prediction needs its batch axis."""
    with pytest.raises(jaxtyping.TypeCheckError):
        NoiseLevel(torch.zeros(3), torch.zeros(4), torch.zeros(3))
    level = NoiseLevel(torch.zeros(2), torch.full((2,), 0.6), torch.full((2,), 0.8))
    with pytest.raises(jaxtyping.TypeCheckError):
        level.blend(torch.zeros(2, 4, 8, 8), torch.zeros(2, 4, 8, 4))
    assert dataclasses.is_dataclass(level)
