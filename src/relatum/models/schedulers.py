"""Schedulers by class name, built from a model's own schedule: one for training, any for sampling."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..core.errors import RecipeError
from ..core.load import near

__all__ = ["MOST_STEPS", "SAMPLERS", "build_scheduler", "check_sampler", "set_steps", "training_scheduler"]

MOST_STEPS = 1000  # the length of every Stable Diffusion's schedule

# Those of diffusers that step an eps, x0 or v prediction on a discrete schedule and take their noise from given generators.
SAMPLERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


def build_scheduler(
    name: str, config: Mapping[str, Any], options: Mapping[str, Any] | None = None, among: Sequence[str] = SAMPLERS
) -> Any:
    """A fresh sampling scheduler of class `name`, one of `among`, on the schedule of `config`; `options` override its settings.

    RecipeError for an unknown class or option, and for a value that the class refuses.
    """
    import diffusers

    if name not in among:
        raise RecipeError(f"no scheduler {name!r}{near(name, among)}")
    cls: Any = getattr(diffusers, name)
    known = {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items() if k not in ("self", "kwargs")}
    for key, value in (options or {}).items():
        if key not in known:
            raise RecipeError(f"{name} has no setting {key!r}{near(key, known)}")
        if isinstance(known[key], bool) and not isinstance(value, bool):
            raise RecipeError(f"{name}.{key}: expected true or false, found {value!r}")
        if isinstance(value, float) and not math.isfinite(value):
            raise RecipeError(f"{name}.{key}: expected a finite number, found {value}")
    try:  # as stock code does: settings that were only defaults do not travel
        return cls.from_config(dict(config), **(options or {}))
    except Exception as error:  # each class refuses in its own way
        raise RecipeError(f"{name} does not take {dict(options or {})}: {type(error).__name__}: {error}") from error


def set_steps(scheduler: Any, steps: int, device: Any = None) -> None:
    """`set_timesteps`; RecipeError where the schedule is shorter than `steps`, or the class's settings do not allow them."""
    name, length = type(scheduler).__name__, int(scheduler.config.num_train_timesteps)
    if not 1 <= steps <= length:
        raise RecipeError(f"num_inference_steps is {steps}, but the model's schedule has {length} timesteps; take 1 to {length}")
    try:
        scheduler.set_timesteps(steps, device=device)
    except Exception as error:  # each class refuses in its own way
        raise RecipeError(f"{name} cannot make {steps} steps with its settings: {type(error).__name__}: {error}") from error


def check_sampler(name: str, options: Mapping[str, Any], steps: int) -> None:
    """RecipeError for what this sampler refuses on Stable Diffusion's schedule: to be said before any weights are opened."""
    stock = {"num_train_timesteps": MOST_STEPS, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    set_steps(build_scheduler(name, stock, options), steps)


def training_scheduler(config: Mapping[str, Any], changes: Mapping[str, Any] | None = None) -> Any:
    """DDPMScheduler on the same betas: the source of `alphas_cumprod`.

    RecipeError for an eps prediction on a schedule that has no signal left at its end.
    """
    scheduler = build_scheduler("DDPMScheduler", config, changes)
    prediction = scheduler.config.prediction_type
    if prediction not in ("epsilon", "sample", "v_prediction"):
        raise RecipeError(f"the scheduler's prediction_type is {prediction!r}, expected epsilon, sample or v_prediction")
    if prediction == "epsilon" and float(scheduler.alphas_cumprod[-1]) <= 0:
        raise RecipeError(
            "rescale_betas_zero_snr leaves no signal at the last timestep, where epsilon says nothing about the image; "
            "use prediction_type v_prediction or sample (Lin et al. 2023)"
        )
    return scheduler
