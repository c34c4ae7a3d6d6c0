"""The codec: an autoencoder (diffusers' AutoencoderKL) between pixels and latents, and the moments that are cached of it."""

from __future__ import annotations

import inspect
from typing import Any, NamedTuple

import torch
from torch import nn

from ..core.errors import ShapeError
from ..core.fingerprint import fingerprint_of
from ..core.shapes import Latents, Pixels, Videos

__all__ = ["Codec", "Moments"]


class Moments(NamedTuple):
    """Gaussian posterior of an encoded image, (b c h w) each, float32, before any scaling (Kingma & Welling 2014)."""

    mean: Latents
    logvar: Latents


class Codec:
    """A frozen AutoencoderKL, or AutoencoderKLTemporalDecoder. Never gives a gradient; all that it returns is float32 whatever its
    own precision.

    factor: pixels along one edge of a latent cell (8 for Stable Diffusion). scaling: what brings latents to about unit variance.
    shift: subtracted before scaling; 0 for the Stable Diffusion family. batch: images that go through the network at once.
    temporal: the decoder looks at a clip's frames together.
    """

    def __init__(self, vae: nn.Module, batch: int = 16) -> None:
        config: Any = vae.config
        self.vae = vae.eval().requires_grad_(False)
        self.batch = batch
        self.scaling = float(config.scaling_factor)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.channels = int(config.latent_channels)
        self.factor = 2 ** (len(config.block_out_channels) - 1)
        self.temporal = "num_frames" in inspect.signature(vae.forward).parameters
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Identifies configuration and weights: the key of everything that is cached from this codec."""
        if self._fingerprint is None:
            # _name_or_path and the library's version say nothing about what the network computes
            config = {key: value for key, value in dict(self.vae.config).items() if not key.startswith("_")}  # type: ignore[arg-type]
            self._fingerprint = fingerprint_of(config, self.vae)
        return self._fingerprint

    @torch.no_grad()
    def encode(self, pixels: Pixels) -> Moments:
        """Moments of images in [-1, 1]; ShapeError unless both edges are multiples of `factor`."""
        height, width = pixels.shape[-2:]
        if height % self.factor or width % self.factor:
            raise ShapeError(
                f"images of {height} x {width} pixels: the autoencoder needs edges that are multiples of {self.factor}"
            )
        first = next(self.vae.parameters())
        parts = []
        for part in pixels.split(self.batch):
            posterior = self.vae.encode(part.to(first.device, first.dtype), return_dict=False)[0]  # type: ignore[operator]
            parts.append(Moments(posterior.mean.float(), posterior.logvar.float()))  # logvar is clamped to [-30, 20] by diffusers
        return Moments(torch.cat([p.mean for p in parts]), torch.cat([p.logvar for p in parts]))

    def latents(self, moments: Moments, noise: Latents | None) -> Latents:
        """The training target: (mean + std * noise - shift) * scaling; without noise the mode."""
        sample = moments.mean if noise is None else moments.mean + torch.exp(0.5 * moments.logvar) * noise.to(moments.mean)
        return (sample - self.shift) * self.scaling

    def unscaled(self, latents: Latents) -> Latents:
        """What the autoencoder itself speaks, of scaled latents."""
        return latents.float() / self.scaling + self.shift

    def source(self, moments: Moments) -> Latents:
        """What InstructPix2Pix concatenates: the mode, *not* scaled (Brooks et al. 2023; diffusers' training script)."""
        return moments.mean

    def decode(self, latents: Latents) -> Pixels:
        """Images in [-1, 1] of scaled latents."""
        return torch.cat([self._decoded(part, 1) for part in latents.split(self.batch)])

    def decode_clips(self, latents: Latents, chunk: int | None = None) -> Videos:
        """Clips in [-1, 1] of scaled latents (b c t h w), frame by frame where the decoder is not temporal.

        chunk: frames of a clip that a temporal decoder sees at once, all unless said; fewer need less memory.
        """
        if self.temporal:
            clips = [clip.transpose(0, 1).split(chunk or len(clip[0])) for clip in latents]
            return torch.stack([torch.cat([self._decoded(part, len(part)) for part in parts]) for parts in clips]).transpose(1, 2)
        frames = self.decode(latents.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (len(latents), -1)).transpose(1, 2)

    @torch.no_grad()
    def _decoded(self, latents: Latents, frames: int) -> Pixels:
        """frames: how many a temporal decoder takes for one clip."""
        first, more = next(self.vae.parameters()), {"num_frames": frames} if self.temporal else {}
        inputs = self.unscaled(latents).to(first.device, first.dtype)
        return self.vae.decode(inputs, return_dict=False, **more)[0].float().clamp(-1, 1)  # type: ignore[operator]

    def to(self, device: torch.device | str) -> Codec:
        """Moves the network; returns itself."""
        self.vae.to(device)
        return self
