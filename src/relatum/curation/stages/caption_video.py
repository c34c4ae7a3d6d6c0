"""A caption of a whole clip from several stills, by a captioner of videos."""

from __future__ import annotations

from dataclasses import dataclass

from ...core.registry import stage
from .caption_image import ImageCaption

__all__ = ["VideoCaption"]


@stage("video_caption")
@dataclass
class VideoCaption(ImageCaption):
    """As `ImageCaption`, from `stills` of the clip in order of time.

    model: GIT-video and its like, which are shown as many of them as they were made for, or a model to chat with that takes several
    pictures.
    """

    stills: int = 8
    weight: float = 0.25
    batch_size: int = 4
