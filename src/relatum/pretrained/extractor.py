"""What an extractor is, and what its numbers may be called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ..core.errors import DataError
from ..core.shapes import Features, Pixels, Videos

__all__ = ["KNOWN", "LEAST_FRAMES", "Extractor", "preprocess"]

KNOWN: dict[tuple[str, str], dict[str, str]] = {}
"""Names of the literature by (first 8 digits of the weights' hash, preprocessing), to which both must fit: "fd" -> "FID", of clips
"fd_clip" -> "FVD"."""

LEAST_FRAMES = 10
CHUNK = 64  # frames embedded at once


@dataclass(frozen=True)
class Extractor:
    """Features of images and, in a joint space, of texts; or of whole clips.

    embed_images: pixels (b 3 h w) in [-1, 1] -> (b, d), None for a network of clips. embed_texts: texts -> (b, d), None without a
    text tower. embed_clips: videos (b 3 t h w) -> (b, d), None for a network of images: there its frames' statistics serve.
    weights: hash of the weights. preprocessing: in words, part of the identity. in_loss: a training loss saw these features, so
    they never make a headline.
    """

    name: str
    weights: str
    preprocessing: str
    embed_images: Callable[[Pixels], Features] | None = None
    embed_texts: Callable[[Sequence[str]], Features] | None = None
    in_loss: bool = False
    embed_clips: Callable[[Videos], Features] | None = None

    @property
    def fingerprint(self) -> str:
        return f"{self.weights[:8]} {self.preprocessing}"

    def label(self, metric: str) -> str:
        """The honest name of a metric on these features: "FID" for known weights *and* preprocessing, else "fd[name 1a2b3c4d]"."""
        known = KNOWN.get((self.weights[:8], self.preprocessing), {})
        flag = ", in loss" if self.in_loss else ""
        return known.get(metric, f"{metric}[{self.name} {self.weights[:8]}{flag}]")

    def images(self, pixels: Pixels) -> Features:
        """(b, d) float32, without gradient. DataError where pixels leave [-1, 1] or are not finite."""
        if self.embed_images is None:
            raise DataError(f"extractor {self.name} is a network of clips and takes no images; name one of images (tinyconv, clip)")
        self._in_range(pixels)
        with torch.no_grad():
            return self.embed_images(pixels).float()

    def frames(self, videos: Videos) -> Float[Tensor, "b t d"]:
        """(b, t, d) float32 of every frame by itself. A frame of NaN, one that is not known, has features of NaN."""
        flat = videos.movedim(1, 2).flatten(0, 1)
        known = ~flat.flatten(1).isnan().all(1)
        if not bool(known.any()):
            raise DataError(f"{self.name}: none of {len(flat)} frames is known; all are NaN")
        parts = [self.images(chunk) for chunk in flat[known].split(CHUNK)]
        features = torch.full((len(flat), parts[0].shape[1]), torch.nan, device=parts[0].device)
        features[known.to(features.device)] = torch.cat(parts)
        return features.unflatten(0, (len(videos), videos.shape[2]))

    def clips(self, videos: Videos, frames: Float[Tensor, "b t d"] | None = None) -> Float[Tensor, "b _"]:
        """(b, d) float32 of whole clips; of a network of images the statistics of its frames over time (`framestats`).

        frames: what `frames` gave, where it is at hand. DataError for fewer than 10 frames.
        """
        count = videos.shape[2]
        if count < LEAST_FRAMES:
            raise DataError(
                f"{self.name}: clips of {count} frames; distances between clips need at least {LEAST_FRAMES} (roll out further)"
            )
        if self.embed_clips is None:
            from .clips import framestats

            return framestats(self.frames(videos) if frames is None else frames)
        self._in_range(videos)
        with torch.no_grad():
            return self.embed_clips(videos).float()

    def of_clips(self) -> Extractor:
        """The same under the name that its features of clips have."""
        if self.embed_clips is not None:
            return self
        return replace(self, name=f"{self.name} framestats", preprocessing=f"{self.preprocessing}, framestats")

    def _in_range(self, pixels: Tensor) -> None:
        low, high = pixels.aminmax()
        if not (low >= -1.001 and high <= 1.001):  # false for NaN too
            raise DataError(f"{self.name}: pixels must lie in [-1, 1], found {low.item():.4g} to {high.item():.4g}")

    def texts(self, texts: Sequence[str]) -> Features:
        """(b, d) float32, without gradient."""
        if self.embed_texts is None:
            raise DataError(f"extractor {self.name} has no text tower; name a CLIP model")
        with torch.no_grad():
            return self.embed_texts(list(texts)).float()


def preprocess(
    pixels: Pixels, size: int, mean: Sequence[float] = (0.5, 0.5, 0.5), std: Sequence[float] = (0.5, 0.5, 0.5)
) -> Float[Tensor, "b 3 size size"]:
    """Short side to `size` by an antialiased float bicubic, center crop, (value in [0, 1] - mean) / std a channel.

    The bicubic's overshoot is clamped to the range, as PIL does.
    """
    height, width = pixels.shape[-2:]
    if min(height, width) != size:
        scale = size / min(height, width)
        shape = (max(size, round(height * scale)), max(size, round(width * scale)))
        pixels = interpolate(pixels.float(), shape, mode="bicubic", antialias=True).clamp(-1, 1)
    top, left = (pixels.shape[-2] - size) // 2, (pixels.shape[-1] - size) // 2
    square = (pixels[..., top : top + size, left : left + size].float() + 1) / 2
    mean_, std_ = (torch.tensor(v, device=pixels.device).reshape(1, 3, 1, 1) for v in (tuple(mean), tuple(std)))
    return (square - mean_) / std_
