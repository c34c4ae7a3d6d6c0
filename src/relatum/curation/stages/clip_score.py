"""How well a clip's caption fits its stills in CLIP's space, and where the stills lie there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from ...core.errors import RecipeError
from ...core.registry import stage
from ..base import Facts, Shown

__all__ = ["ClipScore"]


@stage("clip_score")
@dataclass
class ClipScore:
    """score: mean cosine similarity, -1 to 1, of the caption and `stills` of the clip (first, middle, last); scores: of each.

    caption: its kind. embedding: the stills' mean as a unit vector, for near duplicates; there without a caption too. Numbers of
    different CLIP models do not compare, and of a small one say little, so take a threshold as a percentile. model: path or hub
    id of a CLIP model, or "clip", which comes along and knows toy scenes alone. captions: kinds, of which the first that a clip has
    is scored.
    """

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("score", "scores", "caption", "embedding")
    cheap: ClassVar[tuple[str, ...]] = ("batch_size", "device")

    model: str
    captions: tuple[str, ...] = ("merged", "video", "image", "sidecar", "title")
    stills: int = 3
    batch_size: int = 32
    device: str = ""

    def __post_init__(self) -> None:
        if self.stills < 1 or self.batch_size < 1:
            raise RecipeError(f"{self}: expected stills and batch_size of 1 or more")

    @property
    def reads(self) -> tuple[str, ...]:
        return self.captions

    def open(self, device: str) -> None:
        from ...pretrained.stills import open_clip

        self._place = self.device or device
        self._clip = open_clip(self.model, self._place)

    def identity(self) -> str:
        return self._clip.fingerprint

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        from ...pretrained.stills import embed_captions, embed_stills

        together = self._place.startswith("cuda")
        kinds = [next((kind for kind in self.captions if any(clip.texts.get(kind, ()))), "") for clip in clips]
        captions = [next(filter(None, clip.texts[kind])) for clip, kind in zip(clips, kinds, strict=True) if kind]
        words = iter(embed_captions(self._clip, captions, together) if captions else ())
        stills = embed_stills(self._clip, [clip.stills for clip in clips], together)
        return [_facts(seen, kind, next(words) if kind else None) for seen, kind in zip(stills, kinds, strict=True)]


def _facts(stills: Any, kind: str, caption: Any) -> Facts:
    """stills: (n d) unit vectors, caption: (d,) or None."""
    mean = stills.mean(0)
    facts = {"embedding": [round(value, 4) for value in (mean / mean.norm().clamp(min=1e-12)).tolist()], "caption": kind or None}
    if caption is None:
        return {"score": None, "scores": None, **facts}
    scores = stills @ caption
    return {"score": round(scores.mean().item(), 4), "scores": [round(score, 4) for score in scores.tolist()], **facts}
