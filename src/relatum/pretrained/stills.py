"""Embeddings of stills in CLIP's space, as unit vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from ..core.errors import DataError
from .extractor import Extractor
from .opening import open_extractor

__all__ = ["embed_captions", "embed_stills", "features_of", "open_clip"]


def open_clip(name: str, device: str = "cpu") -> Extractor:
    """The CLIP model of that path or hub id, or "clip", the small one that comes along. DataError for what has no text tower."""
    extractor = open_extractor(name, device)
    if extractor.embed_texts is None or extractor.embed_images is None:
        raise DataError(f"{name}: expected a CLIP model, which knows pictures and words in one space")
    return extractor


def features_of(extractor: Extractor) -> int:
    """How many numbers its embeddings have."""
    return embed_stills(extractor, [[np.zeros((32, 32, 3), np.uint8)]])[0].shape[1]


def embed_stills(extractor: Extractor, clips: Sequence[Sequence[np.ndarray]], together: bool = False) -> list[Float[Tensor, "n d"]]:
    """By clip, on the CPU in float32. clips: stills, (h w 3) uint8 RGB, all of one size within a clip.

    together: stills of one size in one batch, for a GPU; else a clip at a time, so that rounding does not know the others either.
    """
    groups: dict[Any, list[int]] = {}
    for i, clip in enumerate(clips):
        groups.setdefault(clip[0].shape if together else i, []).append(i)
    found: dict[int, Tensor] = {}
    for places in groups.values():
        stacked = torch.from_numpy(np.concatenate([np.stack(clips[i]) for i in places]))
        embedded = normalize(extractor.images(stacked.movedim(-1, 1).float() / 127.5 - 1).cpu(), dim=1)
        found |= dict(zip(places, embedded.split([len(clips[i]) for i in places]), strict=True))
    return [found[i] for i in range(len(clips))]


def embed_captions(extractor: Extractor, captions: Sequence[str], together: bool = False) -> Float[Tensor, "n d"]:
    """As `embed_stills`; captions that are longer than the model reads are cut."""
    groups = [list(captions)] if together else [[caption] for caption in captions]
    return normalize(torch.cat([extractor.texts(group).cpu() for group in groups]), dim=1)
