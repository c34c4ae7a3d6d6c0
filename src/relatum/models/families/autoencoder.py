"""A small AutoencoderKL built from its size: what the bundled base encodes pictures with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ...core.shapes import Latents, Pixels

__all__ = ["AutoencoderSize", "Reconstruction", "build_autoencoder", "measure_scaling"]


@dataclass(frozen=True)
class AutoencoderSize:
    """block_out_channels: one a resolution; the factor between pixels and latents is 2 ** (len - 1)."""

    sample_size: int = 32
    latent_channels: int = 4
    block_out_channels: tuple[int, ...] = (32, 64, 64)
    layers_per_block: int = 1
    norm_num_groups: int = 16
    mid_block_add_attention: bool = False


def build_autoencoder(size: AutoencoderSize) -> Any:
    """diffusers' AutoencoderKL with fresh weights from torch's global generator. Its scaling_factor is 1 until it is measured."""
    from diffusers import AutoencoderKL

    cls: Any = AutoencoderKL  # its annotations name one-element tuples
    depth = len(size.block_out_channels)
    vae = cls(
        in_channels=3,
        out_channels=3,
        sample_size=size.sample_size,
        latent_channels=size.latent_channels,
        block_out_channels=size.block_out_channels,
        layers_per_block=size.layers_per_block,
        norm_num_groups=size.norm_num_groups,
        mid_block_add_attention=size.mid_block_add_attention,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        scaling_factor=1.0,
        force_upcast=False,
    )
    with torch.no_grad():  # a narrow posterior from the start: with unit noise nothing gets through to the decoder
        vae.quant_conv.bias[size.latent_channels :] -= 5.0
    return vae


class Reconstruction(nn.Module):
    """An autoencoder that is being trained: pixels in; reconstruction, mean and logvar of the posterior out."""

    def __init__(self, vae: Any) -> None:
        super().__init__()
        self.vae = vae

    def forward(self, pixels: Pixels, noise: Latents | None = None) -> tuple[Pixels, Latents, Latents]:
        """Decodes mean + std * noise; without noise the mean. The reconstruction is not clamped."""
        posterior = self.vae.encode(pixels, return_dict=False)[0]
        latents = posterior.mean if noise is None else posterior.mean + posterior.std * noise
        return self.vae.decode(latents, return_dict=False)[0], posterior.mean, posterior.logvar


@torch.no_grad()
def measure_scaling(vae: Any, pixels: Pixels, batch: int = 64) -> float:
    """1 / standard deviation of the latents over images (Rombach et al. 2022, section G): writes it into the configuration too."""
    latents = torch.cat([vae.encode(part, return_dict=False)[0].mean for part in pixels.split(batch)])
    scaling = round(1 / float(latents.double().std()), 5)
    vae.register_to_config(scaling_factor=scaling)
    return scaling
