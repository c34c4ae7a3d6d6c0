"""Finished pipelines of any family, by what their folder says they are."""

from __future__ import annotations

from ..folder import find_pipeline
from .animatediff import MOTION_PIPELINES, open_animatediff
from .stable_diffusion import StableDiffusion, open_stable_diffusion

__all__ = ["open_pipeline"]


def open_pipeline(path_or_id: str, images: int, *, features: int = 0, offline: bool = False) -> StableDiffusion:
    """The model of a folder, bundled name or hub id, opened by its family: see `open_stable_diffusion`, `open_animatediff`."""
    origin = find_pipeline(path_or_id, offline=offline)
    if origin.pipeline in MOTION_PIPELINES:
        return open_animatediff(path_or_id, images, features=features, offline=offline)
    return open_stable_diffusion(path_or_id, images, features=features, offline=offline)
