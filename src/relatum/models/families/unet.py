"""A small text-conditioned UNet built from its size, and the schedule it is trained on: the bundled base's own denoiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["UNetSize", "build_schedule", "build_unet"]


@dataclass(frozen=True)
class UNetSize:
    """block_out_channels: one a resolution, with cross-attention at each. head_dim: features of an attention head."""

    sample_size: int = 8
    in_channels: int = 4
    out_channels: int = 4
    block_out_channels: tuple[int, ...] = (64, 96)
    layers_per_block: int = 1
    head_dim: int = 32
    cross_attention_dim: int = 128
    norm_num_groups: int = 16


def build_unet(size: UNetSize) -> Any:
    """diffusers' UNet2DConditionModel with fresh weights from torch's global generator."""
    from diffusers import UNet2DConditionModel

    cls: Any = UNet2DConditionModel  # its annotations name one-element tuples
    depth = len(size.block_out_channels)
    return cls(
        sample_size=size.sample_size,
        in_channels=size.in_channels,
        out_channels=size.out_channels,
        block_out_channels=size.block_out_channels,
        layers_per_block=size.layers_per_block,
        # heads, in spite of the name: diffusers keeps Stable Diffusion's old misnomer
        attention_head_dim=tuple(width // size.head_dim for width in size.block_out_channels),
        cross_attention_dim=size.cross_attention_dim,
        norm_num_groups=size.norm_num_groups,
        down_block_types=("CrossAttnDownBlock2D",) * depth,
        up_block_types=("CrossAttnUpBlock2D",) * depth,
    )


def build_schedule(prediction: Literal["epsilon", "v_prediction"] = "v_prediction") -> Any:
    """Stable Diffusion's 1000 levels (Rombach et al. 2022) as a DDIMScheduler."""
    from diffusers import DDIMScheduler

    return DDIMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
    )
