"""The [train] section of a recipe. Names are those of diffusers' training scripts where one exists."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

from ..core.errors import MissingExtra, RecipeError

__all__ = ["TrainSettings"]


@dataclass(frozen=True)
class TrainSettings:
    """How a run steps.

    train_batch_size: samples a process and micro-step. max_train_steps: optimizer updates. lr_scheduler: after `lr_warmup_steps` of
    linear warm-up. validation_rows: held-out rows whose loss is measured with fixed noise and levels every `validation_steps`.
    monitor_steps: every so many updates attention entropy and gradient norms by block are journaled; 0 for never.
    monitor_attention: regular expressions of the attention layers that are watched; their blocks' gradients are told apart.
    on_nonfinite: "stop" ends the run before the update (exit code 4); "skip" leaves the update out and counts it; "rollback" goes
    back to the weights of checkpoints/last-good and on with the batches that follow, at most `most_rollbacks` times.
    spike_z: a gradient norm or total this many robust deviations above the median of the last `spike_window` updates is a spike;
    0 for off. on_spike: "warn" journals it and goes on; the others as on_nonfinite.
    checkpoints_total_limit: older ones are pruned once a newer one is whole. report_to: a tracker of accelerate; "auto" is
    TensorBoard where it is installed.
    noise_shift: above 1 trains more on the noisy levels, see `core.path.DiscretePath`.
    step: another step function, "module:function" (see engine/step.py).
    """

    max_train_steps: int = 1000
    train_batch_size: int = 16
    gradient_accumulation_steps: int = 1
    gradient_checkpointing: bool = False
    learning_rate: float = 5e-5
    lr_scheduler: Literal["constant", "linear", "cosine"] = "constant"
    lr_warmup_steps: int = 0
    adam_beta1: float = 0.9
    adam_beta2: float = 0.999
    adam_weight_decay: float = 1e-2
    adam_epsilon: float = 1e-8
    max_grad_norm: float = 1.0
    noise_shift: float = 1.0
    mixed_precision: Literal["no", "fp16", "bf16"] = "no"
    use_ema: bool = False
    ema_decay: float = 0.9999
    checkpointing_steps: int = 500
    checkpoints_total_limit: int = 2
    validation_steps: int = 500
    validation_rows: int = 128
    sample_rows: int = 4
    logging_steps: int = 10
    balance_steps: int = 200
    monitor_steps: int = 20
    monitor_attention: tuple[str, ...] = ("motion_modules", "temporal_transformer_blocks")
    on_nonfinite: Literal["stop", "skip", "rollback"] = "stop"
    on_spike: Literal["warn", "stop", "skip", "rollback"] = "warn"
    spike_z: float = 12.0
    spike_window: int = 100
    most_rollbacks: int = 3
    report_to: Literal["auto", "none", "tensorboard", "wandb"] = "auto"
    step: str = "relatum.engine.step:diffusion_step"

    def __post_init__(self) -> None:
        at_least_one = (
            "max_train_steps",
            "train_batch_size",
            "gradient_accumulation_steps",
            "checkpointing_steps",
            "checkpoints_total_limit",
        )
        for name in (*at_least_one, "validation_steps", "validation_rows", "logging_steps", "balance_steps", "most_rollbacks"):
            if getattr(self, name) < 1:
                raise RecipeError(f"train.{name} is {getattr(self, name)}, expected 1 or more")
        for name in ("lr_warmup_steps", "sample_rows", "monitor_steps"):
            if getattr(self, name) < 0:
                raise RecipeError(f"train.{name} is {getattr(self, name)}, expected 0 or more")
        self._check_numbers()
        self._check_watch()

    def _check_watch(self) -> None:
        if not 0 <= self.spike_z < math.inf:
            raise RecipeError(f"train.spike_z is {self.spike_z}, expected a finite number, 0 or more")
        if self.spike_window < 10:
            raise RecipeError(f"train.spike_window is {self.spike_window}, expected 10 or more: fewer say nothing of what is usual")
        for pattern in self.monitor_attention:
            try:
                re.compile(pattern)
            except re.error as error:
                raise RecipeError(f"train.monitor_attention: {pattern!r} is no regular expression ({error})") from error

    @property
    def undoes(self) -> set[str]:
        """What a run of these settings may have to do about an update: "stop", "skip", "rollback"."""
        return {self.on_nonfinite, *([self.on_spike] if self.spike_z else [])} - {"warn"}

    def _check_numbers(self) -> None:
        """Said positively, so that NaN fails too."""
        for name in ("learning_rate", "max_grad_norm", "noise_shift", "adam_epsilon"):
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"train.{name} is {getattr(self, name)}, expected a finite number above 0")
        for name in ("adam_beta1", "adam_beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise RecipeError(f"train.{name} is {getattr(self, name)}, expected 0 or more and below 1")
        if not 0 <= self.adam_weight_decay < math.inf:
            raise RecipeError(f"train.adam_weight_decay is {self.adam_weight_decay}, expected a finite number, 0 or more")
        if not 0 < self.ema_decay < 1:
            raise RecipeError(f"train.ema_decay is {self.ema_decay}, expected between 0 and 1")

    def tracker(self) -> str | None:
        """The tracker's name; None for none. MissingExtra where the recipe names one that is not installed."""
        if self.report_to == "none" or (self.report_to == "auto" and find_spec("tensorboard") is None):
            return None
        name = "tensorboard" if self.report_to == "auto" else self.report_to
        if find_spec(name) is None:
            raise MissingExtra(name, name, f'train.report_to = "{name}"')
        return name

    def learning_rate_at(self, updates: int) -> float:
        """The learning rate of the update after `updates` updates: a pure function, so that resuming needs no state."""
        if updates < self.lr_warmup_steps:
            return self.learning_rate * (updates + 1) / self.lr_warmup_steps
        left = 1 - (updates - self.lr_warmup_steps) / max(1, self.max_train_steps - self.lr_warmup_steps)
        match self.lr_scheduler:
            case "constant":
                return self.learning_rate
            case "linear":
                return self.learning_rate * max(left, 0.0)
            case "cosine":
                return self.learning_rate * 0.5 * (1 - math.cos(math.pi * max(left, 0.0)))
