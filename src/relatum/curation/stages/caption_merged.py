"""One caption of two: what a language model makes of the captions of a clip's middle frame and of the whole clip."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from ...core.errors import RecipeError
from ...core.registry import stage
from ..base import Facts, Shown
from ..captions import caption_facts, merge

__all__ = ["MergedCaption"]

PROMPT = """\
Two captions of one short video. Of its middle frame: {image}
Of the whole video: {video}
Write one sentence that says what both say, and adds nothing. Answer with the sentence alone.
Sentence:"""


@stage("merged_caption")
@dataclass
class MergedCaption:
    """model: path or hub id ("@revision" allowed) of a causal language model; empty: the two as sentences one after the other, or
    one of them where it says all that the other says. image, video: kinds of the two captions, by the recipe's names.

    prompt: what the model reads, with {image} and {video} where the captions go. A clip without one of the two has none merged.
    """

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("text", "text_fault")
    cheap: ClassVar[tuple[str, ...]] = ("batch_size", "device", "weight")

    model: str = ""
    image: str = "image"
    video: str = "video"
    prompt: str = PROMPT
    tokens: int = 96
    max_words: int = 120
    weight: float = 0.25
    batch_size: int = 16
    device: str = ""
    stills: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if min(self.tokens, self.max_words, self.batch_size) < 1 or self.weight < 0:
            raise RecipeError(f"{self}: expected tokens, max_words and batch_size of 1 or more, and a weight of 0 or more")
        if lacking := [word for word in ("{image}", "{video}") if word not in self.prompt]:
            raise RecipeError(f"prompt: has no {lacking[0]}, so the model would not see that caption")

    @property
    def reads(self) -> tuple[str, ...]:
        return (self.image, self.video)

    def open(self, device: str) -> None:
        self._writer: Any = None
        if self.model:
            from ...pretrained.rewriter import Decoding, open_rewriter

            place = self.device or device
            size = self.batch_size if place.startswith("cuda") else 1  # on the CPU rounding does not know the batch either
            self._writer = open_rewriter(self.model, Decoding(tokens=self.tokens, batch_size=size), place)

    def identity(self) -> str:
        return self._writer.fingerprint if self._writer else ""

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        pairs = [tuple(next(iter(clip.texts.get(kind, ())), "") for kind in self.reads) for clip in clips]
        whole = [pair for pair in pairs if all(pair)]
        texts = iter(self._write(whole) if self._writer else [merge(*pair) for pair in whole])
        return [self._facts(pair, texts) for pair in pairs]

    def _facts(self, pair: tuple[str, ...], texts: Any) -> Facts:
        if lacking := next((kind for kind, text in zip(self.reads, pair, strict=True) if not text), ""):
            return caption_facts(None, self.max_words, f"no caption {lacking!r} to merge")
        text = next(texts)
        return caption_facts(text, self.max_words, "" if text is not None else "prompt and answer are longer than the model reads")

    def _write(self, pairs: Sequence[tuple[str, ...]]) -> list[str | None]:
        from ...pretrained.rewriter import Template

        parts = [{"{image}": image, "{video}": video} for image, video in pairs]
        filled = [re.sub(r"\{image\}|\{video\}", lambda found, part=part: part[found.group()], self.prompt) for part in parts]
        return self._writer(filled, Template("merge", "{caption}"))
