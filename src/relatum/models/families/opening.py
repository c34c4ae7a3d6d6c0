"""Finished pipelines of any family, by what their folder says they are."""

from __future__ import annotations

from ..folder import find_pipeline
from .animatediff import MOTION_PIPELINES, open_animatediff
from .stable_diffusion import StableDiffusion, open_stable_diffusion
from .stable_video_diffusion import StableVideoDiffusion, is_video_diffusion, open_stable_video_diffusion

__all__ = ["open_pipeline"]


def open_pipeline(
    path_or_id: str, images: int, *, features: int = 0, offline: bool = False
) -> StableDiffusion | StableVideoDiffusion:
    """The model of a folder, bundled name or hub id, opened by its family: see `open_stable_diffusion`, `open_animatediff` and
    `open_stable_video_diffusion`, which needs no images and features: it has its own.
    """
    origin = find_pipeline(path_or_id, offline=offline)
    if is_video_diffusion(origin):
        return open_stable_video_diffusion(path_or_id, offline=offline)
    opener = open_animatediff if origin.pipeline in MOTION_PIPELINES else open_stable_diffusion
    return opener(path_or_id, images, features=features, offline=offline)
