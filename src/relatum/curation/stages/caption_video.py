"""A caption of a whole clip from several stills, by a captioner of videos."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ...core.errors import RecipeError
from ...core.registry import stage
from ..base import Facts, Shown
from ..captions import caption_facts

__all__ = ["VideoCaption"]


@stage("video_caption")
@dataclass
class VideoCaption:
    """As `ImageCaption`, from `stills` of the clip in order of time.

    model: GIT-video and its like, which are shown as many of them as they were made for, or a model to chat with that takes several
    pictures.
    """

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("text", "text_fault")
    cheap: ClassVar[tuple[str, ...]] = ("batch_size", "device", "weight")
    reads: ClassVar[tuple[str, ...]] = ()

    model: str
    prompt: str = ""
    stills: int = 8
    tokens: int = 64
    max_words: int = 80
    weight: float = 0.25
    batch_size: int = 4
    device: str = ""

    def __post_init__(self) -> None:
        if min(self.stills, self.tokens, self.max_words, self.batch_size) < 1 or self.weight < 0:
            raise RecipeError(f"{self}: expected stills, tokens, max_words and batch_size of 1 or more, and a weight of 0 or more")

    def open(self, device: str) -> None:
        from ...pretrained.captioner import open_captioner

        self._captioner = open_captioner(self.model, self.prompt, self.tokens, self.stills > 1, self.device or device)

    def identity(self) -> str:
        return self._captioner.fingerprint

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        return [caption_facts(text, self.max_words) for text in self._captioner([clip.stills for clip in clips])]
