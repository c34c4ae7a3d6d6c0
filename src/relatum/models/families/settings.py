"""The [model] section of a recipe: which checkpoint, and which of its weights are trained."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ...core.registry import family
from ..trainable import Trainable, Trained, make_trainable
from .stable_diffusion import StableDiffusion, open_stable_diffusion

__all__ = ["StableDiffusionSettings"]


@family("stable_diffusion")
@dataclass(frozen=True)
class StableDiffusionSettings:
    """A Stable Diffusion 1.x or 2.x checkpoint by folder, bundled name ("relatum:toy-edit") or hub id.

    prediction_type, rescale_betas_zero_snr: override the checkpoint's schedule. train: full, LoRA or partial training.
    offline: never ask the hub.
    """

    pretrained_model_name_or_path: str
    revision: str | None = None
    variant: str | None = None
    offline: bool = False
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    rescale_betas_zero_snr: bool | None = None
    train: Trainable = field(default_factory=Trainable)

    def open(self, images: int, features: int, seed: int) -> tuple[StableDiffusion, Trained]:
        """The model for so many pictures and features, with its trainable part chosen; `seed` draws the adapters."""
        model = open_stable_diffusion(
            self.pretrained_model_name_or_path,
            images,
            features=features,
            revision=self.revision,
            variant=self.variant,
            offline=self.offline,
            prediction_type=self.prediction_type,
            rescale_betas_zero_snr=self.rescale_betas_zero_snr,
        )
        return model, make_trainable(model.unet, self.train, seed=seed, widened=model.widened)
