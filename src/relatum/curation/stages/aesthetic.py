"""How pleasing a clip's stills are, by a head that others trained on people's ratings, on CLIP embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from ...core.errors import RecipeError
from ...core.registry import stage
from ..base import Facts, Shown

__all__ = ["Aesthetic"]


@stage("aesthetic")
@dataclass
class Aesthetic:
    """score: mean over `stills` of the clip (first, middle, last); scores: of each.

    model: path or hub id of the CLIP model that the head was made for (LAION's: ViT-L/14). head: .safetensors with "weight" and
    "bias", or the layers of LAION's improved-aesthetic-predictor. activation: between its layers; LAION's have none.
    """

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("score", "scores")
    cheap: ClassVar[tuple[str, ...]] = ("batch_size", "device")
    reads: ClassVar[tuple[str, ...]] = ()

    model: str
    head: str
    activation: Literal["none", "relu", "gelu"] = "none"
    stills: int = 3
    batch_size: int = 32
    device: str = ""

    def __post_init__(self) -> None:
        if self.stills < 1 or self.batch_size < 1:
            raise RecipeError(f"{self}: expected stills and batch_size of 1 or more")

    def open(self, device: str) -> None:
        from ...pretrained.aesthetic import open_aesthetic
        from ...pretrained.stills import features_of, open_clip

        self._place = self.device or device
        self._clip = open_clip(self.model, self._place)
        self._head = open_aesthetic(self.head, features_of(self._clip), self.activation)

    def identity(self) -> str:
        return f"{self._clip.fingerprint} {self._head.fingerprint}"

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        from ...pretrained.stills import embed_stills

        together = self._place.startswith("cuda")
        scores = [self._head(seen) for seen in embed_stills(self._clip, [clip.stills for clip in clips], together)]
        return [{"score": round(of.mean().item(), 4), "scores": [round(score, 4) for score in of.tolist()]} for of in scores]
