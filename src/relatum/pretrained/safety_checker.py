"""Stable Diffusion's safety checker as a function that only says what it flags."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn.functional import normalize

from ..core.errors import DataError
from ..core.shapes import Pixels
from .extractor import preprocess

__all__ = ["open_safety_checker"]


def open_safety_checker(path: str, device: str = "cpu") -> Callable[[Pixels], list[bool]]:
    """diffusers' StableDiffusionSafetyChecker from a folder or hub id, as pixels (b 3 h w) -> flags.

    Its scores and thresholds are computed here, because its own forward blackens what it flags and logs that it did.
    """
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    try:
        model: Any = StableDiffusionSafetyChecker.from_pretrained(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: no safety checker there ({str(error).splitlines()[0]})") from error
    model = model.eval().requires_grad_(False).to(device)
    size = model.config.vision_config.image_size

    def check(pixels: Pixels) -> list[bool]:
        images = preprocess(pixels.to(device), size, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
        with torch.no_grad():
            embedded = normalize(model.visual_projection(model.vision_model(images)[1]))
        special = embedded @ normalize(model.special_care_embeds).T - model.special_care_embeds_weights
        care = (special.round(decimals=3) > 0).any(1, keepdim=True)
        concepts = embedded @ normalize(model.concept_embeds).T - model.concept_embeds_weights + 0.01 * care
        return (concepts.round(decimals=3) > 0).any(1).tolist()

    return check
