"""Metrics in a joint space of images and texts: similarity to the prompt, and whether the edit goes the caption's way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Float64
from torch import Tensor
from torch.nn.functional import normalize

from ..core.errors import DataError
from ..core.registry import metric
from .base import MeanMetric, Samples
from .moments import matrix

__all__ = ["ClipDir", "ClipSim", "cosine_similarity", "directional_similarity"]


def cosine_similarity(a: Any, b: Any) -> Any:
    """(n,) cosine between rows of a and b (n, d); NaN where a row is zero. A numpy array for two numpy arrays, else a tensor."""
    return _back(_cosine(matrix(a, "a", 1), matrix(b, "b", 1)), a, b)


def directional_similarity(image_before: Any, image_after: Any, text_before: Any, text_after: Any) -> Any:
    """(n,) cosine between the change of image and the change of text, on unit embeddings (Gal et al. 2022, eq. 2).

    Four sets (n, d) of features of one joint space: numpy arrays, tensors or lists; scaled to unit length here. In [-1, 1]; NaN
    where image or text did not change (their direction is undefined: count such samples, do not average them).
    Returns a numpy array when all four are numpy arrays, else a float64 tensor.

    >>> directional_similarity([[1.0, 0.0]], [[0.0, 2.0]], [[3.0, 0.0]], [[0.0, 1.0]]).round(decimals=6).tolist()
    [1.0]
    """
    names = ("image_before", "image_after", "text_before", "text_after")
    given = (image_before, image_after, text_before, text_after)
    sets = [matrix(features, name, 1) for features, name in zip(given, names, strict=True)]
    if len({s.shape for s in sets}) > 1:
        found = ", ".join(f"{name} {tuple(s.shape)}" for name, s in zip(names, sets, strict=True))
        raise DataError(f"the four sets must have one shape, found {found}")
    before, after, said_before, said_after = (normalize(s, dim=1) for s in sets)
    return _back(_cosine(after - before, said_after - said_before), *given)


def _cosine(a: Float64[Tensor, "n d"], b: Float64[Tensor, "n d"], still: float = 1e-6) -> Float64[Tensor, "n"]:
    """NaN where either row is shorter than `still`: float32 embeddings of equal inputs differ by about 1e-7."""
    if a.shape != b.shape:
        raise DataError(f"features of shapes {tuple(a.shape)} and {tuple(b.shape)} do not pair")
    lengths = a.norm(dim=1), b.norm(dim=1)
    cosine = (a * b).sum(1) / (lengths[0] * lengths[1])
    return torch.where((lengths[0] > still) & (lengths[1] > still), cosine, torch.nan)


def _back(values: Tensor, *given: Any) -> Any:
    return values.numpy() if all(isinstance(g, np.ndarray) for g in given) else values


@metric("clip_sim")
@dataclass
class ClipSim(MeanMetric):
    """100 · cos(image, prompt), never clamped: generated–prompt as headline, source–prompt and target–prompt beside it.

    text: which text is the prompt ("target": the caption of the edited image). extractor: one with images and texts.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"

    extractor: str = "clip"
    text: Literal["target", "instruction", "source"] = "target"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset({f"features:{self.extractor}:generated", f"features:{self.extractor}:text:{self.text}"})

    @property
    def wants(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset(f"features:{self.extractor}:{image}" for image in ("source", "target"))

    def update(self, samples: Samples) -> None:
        prompt = samples.features[f"{self.extractor}:text:{self.text}"]
        self.keep(samples.ids, 100 * _similarity(samples.features[f"{self.extractor}:generated"], prompt))
        for image in ("source", "target"):
            if f"{self.extractor}:{image}" in samples.features:
                self.keep(samples.ids, 100 * _similarity(samples.features[f"{self.extractor}:{image}"], prompt), also=image)


@metric("clip_dir")
@dataclass
class ClipDir(MeanMetric):
    """Directional similarity, source to generated along source to target caption; `sim_image` beside it: cos(source, generated).

    Samples whose image did not change at all are undefined: counted in the note, not averaged.
    """

    better: ClassVar[Literal["higher", "lower"]] = "higher"

    extractor: str = "clip"

    @property
    def needs(self) -> frozenset[str]:
        return frozenset(f"features:{self.extractor}:{what}" for what in ("source", "generated", "text:source", "text:target"))

    def update(self, samples: Samples) -> None:
        source, generated, said_source, said_target = (
            samples.features[f"{self.extractor}:{what}"] for what in ("source", "generated", "text:source", "text:target")
        )
        self.keep(samples.ids, torch.as_tensor(directional_similarity(source, generated, said_source, said_target)))
        self.keep(samples.ids, _similarity(source, generated), also="sim_image")


def _similarity(a: Tensor, b: Tensor) -> Tensor:
    return _cosine(matrix(a, "image features", 1), matrix(b, "text features", 1))
