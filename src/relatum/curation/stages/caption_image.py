"""A caption of a clip's middle still, by a captioner of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from ...core.errors import RecipeError
from ...core.registry import stage
from ..base import Facts, Shown
from ..captions import caption_facts

__all__ = ["ImageCaption"]


@stage("image_caption")
@dataclass
class ImageCaption:
    """model: path or hub id ("@revision" allowed) of an image-text-to-text model of transformers, as BLIP, GIT or one to chat with.

    prompt: what a chat model is asked, or another one continues; empty: a question of ours, or nothing. tokens: of a caption at
    most. max_words: longer captions are refused. weight: how often this caption is drawn in training (Stable Video Diffusion's
    appendix: .5 image, .25 video, .25 merged). device: "" where the run's models are.
    """

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("text", "text_fault")
    cheap: ClassVar[tuple[str, ...]] = ("batch_size", "device", "weight")
    reads: ClassVar[tuple[str, ...]] = ()

    model: str
    prompt: str = ""
    tokens: int = 64
    max_words: int = 80
    weight: float = 0.5
    batch_size: int = 16
    device: str = ""
    stills: int = field(default=1, init=False)

    def __post_init__(self) -> None:
        if min(self.stills, self.tokens, self.max_words, self.batch_size) < 1 or self.weight < 0:
            raise RecipeError("expected stills, tokens, max_words and batch_size of 1 or more, and a weight of 0 or more")

    def open(self, device: str) -> None:
        from ...pretrained.captioner import open_captioner

        self._captioner = open_captioner(self.model, self.prompt, self.tokens, self.stills > 1, self.device or device)

    def identity(self) -> str:
        return self._captioner.fingerprint

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        return [caption_facts(text, self.max_words) for text in self._captioner([clip.stills for clip in clips])]
