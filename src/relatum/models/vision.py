"""What tells a video model of its first picture: a frozen CLIP image tower (Radford et al. 2021), and what it is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.fingerprint import fingerprint_of
from ..core.shapes import Pixels, Tokens

__all__ = ["ImageTower", "smoothly"]

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)  # CLIP's, where the processor has none


class ImageTower:
    """A frozen CLIPVisionModelWithProjection: one token an image, projected, not normalized. Never gives a gradient.

    processor: the table of the CLIPImageProcessor, of which image_mean and image_std are read. size: edge of the tower's pictures.
    width: of the token. batch: images that go through the tower at once.
    """

    def __init__(self, encoder: nn.Module, processor: Mapping[str, Any], batch: int = 16) -> None:
        config: Any = encoder.config
        self.encoder = encoder.eval().requires_grad_(False)
        self.processor = dict(processor)
        self.batch = batch
        self.size, self.width = int(config.image_size), int(config.projection_dim)
        self.mean, self.std = _three(processor, "image_mean", MEAN), _three(processor, "image_std", STD)
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identifies weights, configuration and preprocessing: the key of everything that is cached from this tower."""
        if self._fingerprint is None:
            config: Any = self.encoder.config
            known = {key: value for key, value in config.to_dict().items() if not key.startswith("_") and "version" not in key}
            known = {key: value for key, value in known.items() if key not in ("dtype", "torch_dtype", "architectures")}
            self._fingerprint = fingerprint_of([known, self.mean, self.std], self.encoder)
        return self._fingerprint

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Tokens:
        """(b 1 d), float32, of images in [-1, 1] of any size, squeezed to a square as StableVideoDiffusionPipeline does it."""
        first = next(self.encoder.parameters())
        tokens = []
        for part in pixels.split(self.batch):
            seen = self.prepared(part.to(first.device)).to(first.dtype)
            tokens.append(self.encoder(pixel_values=seen).image_embeds[:, None].float())
        return torch.cat(tokens)

    def prepared(self, pixels: Pixels) -> Float[Tensor, "b 3 size size"]:
        """What the tower sees: resized in [-1, 1], brought to [0, 1], then less the mean and divided by the deviation."""
        mean, std = (pixels.new_tensor(numbers)[:, None, None] for numbers in (self.mean, self.std))
        return ((smoothly(pixels.float(), self.size) + 1) / 2 - mean) / std

    def to(self, device: torch.device | str) -> ImageTower:
        """Moves the network; returns itself."""
        self.encoder.to(device)
        return self


def _three(processor: Mapping[str, Any], name: str, usual: Sequence[float]) -> tuple[float, ...]:
    found = processor.get(name, usual)
    good = isinstance(found, Sequence) and len(found) == 3 and all(isinstance(x, int | float) and math.isfinite(x) for x in found)
    if not good or (name == "image_std" and min(found) <= 0):
        raise DataError(f"feature_extractor: {name} is {found!r}, expected three numbers{', above 0' * (name == 'image_std')}")
    return tuple(float(x) for x in found)


def smoothly(pixels: Pixels, size: int) -> Float[Tensor, "b 3 size size"]:
    """Blurred by a Gaussian of (f - 1) / 2 pixels, f the factor by which an edge shrinks, then bicubic with aligned corners.

    diffusers' `_resize_with_antialiasing`, after skimage and the original code of Stable Video Diffusion; not clamped.
    """
    for axis, edge in ((-1, pixels.shape[-1]), (-2, pixels.shape[-2])):
        pixels = _blurred(pixels, max((edge / size - 1) / 2, 0.001), axis)
    return F.interpolate(pixels, (size, size), mode="bicubic", align_corners=True)


def _blurred(pixels: Pixels, deviation: float, axis: int) -> Pixels:
    """Along one axis, over about two deviations to each side, reflected at the edges."""
    reach = int(max(4 * deviation, 3)) // 2
    steps = torch.arange(-reach, reach + 1, dtype=pixels.dtype, device=pixels.device)
    weights = torch.exp(-steps.square() / (2 * deviation**2))
    kernel = (weights / weights.sum()).expand(3, 1, 1, -1)
    across = axis == -1
    padded = F.pad(pixels, (reach, reach, 0, 0) if across else (0, 0, reach, reach), mode="reflect")
    return F.conv2d(padded, kernel if across else kernel.transpose(-1, -2), groups=3)
