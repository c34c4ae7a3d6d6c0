"""Schedulers by class name, built from a model's own schedule: one for training, any for sampling."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from ..core.errors import RecipeError
from ..core.load import near

__all__ = ["SAMPLERS", "build_scheduler", "training_scheduler"]

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


def build_scheduler(name: str, config: Mapping[str, Any], options: Mapping[str, Any] | None = None) -> Any:
    """A fresh sampling scheduler of class `name` on the schedule of `config`; `options` override its settings.

    RecipeError for an unknown class or option.
    """
    import diffusers

    if name not in SAMPLERS:
        raise RecipeError(f"no scheduler {name!r}{near(name, SAMPLERS)}")
    cls: Any = getattr(diffusers, name)
    known = set(inspect.signature(cls.__init__).parameters) - {"self", "kwargs"}
    for key in options or {}:
        if key not in known:
            raise RecipeError(f"{name} has no setting {key!r}{near(key, known)}")
    return cls.from_config(dict(config), **(options or {}))  # as stock code does: settings that were only defaults do not travel


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
