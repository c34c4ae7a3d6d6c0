"""A tiny Stable Video Diffusion from a seed, with every part of the real ones: for tests and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ..core.path import EDMPath
from .codec import Codec
from .families.stable_video_diffusion import StableVideoDiffusion
from .folder import PipelineFolder
from .vision import MEAN, STD, ImageTower

__all__ = ["tiny_stable_video_diffusion"]


def tiny_stable_video_diffusion(seed: int = 0, frames: int = 4) -> StableVideoDiffusion:
    """About 3 M weights, for clips of `frames` unless another number is asked for; 4 pixels along the edge of a latent cell.

    The tower sees 224 pixels, as stock pipelines want it.
    """
    import diffusers
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet, vae = _unet(frames), _vae()
        shape: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
        tower = CLIPVisionModelWithProjection(CLIPVisionConfig(**shape, projection_dim=32, image_size=224, patch_size=56))
    scheduler = diffusers.EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        use_karras_sigmas=True,
        sigma_min=0.002,
        sigma_max=700.0,
        timestep_spacing="leading",
        timestep_type="continuous",
        steps_offset=1,
    )
    processor = {"do_normalize": True, "image_mean": list(MEAN), "image_std": list(STD), "crop_size": {"height": 224, "width": 224}}
    origin = PipelineFolder(Path("tiny"), {})
    return StableVideoDiffusion(unet, Codec(vae), ImageTower(tower, processor), scheduler, EDMPath(), origin)


def _unet(frames: int) -> Any:
    import diffusers

    build: Any = diffusers.UNetSpatioTemporalConditionModel
    return build(
        sample_size=8,
        block_out_channels=(64, 64),  # its norms have 32 groups; with one channel each they would undo what the network is told
        down_block_types=("CrossAttnDownBlockSpatioTemporal", "DownBlockSpatioTemporal"),
        up_block_types=("UpBlockSpatioTemporal", "CrossAttnUpBlockSpatioTemporal"),
        addition_time_embed_dim=16,
        projection_class_embeddings_input_dim=48,
        layers_per_block=1,
        cross_attention_dim=32,
        num_attention_heads=(2, 2),
        num_frames=frames,
    )


def _vae() -> Any:
    import diffusers

    build: Any = diffusers.AutoencoderKLTemporalDecoder  # its annotations say tuples of one
    return build(
        down_block_types=("DownEncoderBlock2D",) * 3,
        block_out_channels=(32, 32, 32),
        layers_per_block=1,
        latent_channels=4,
        sample_size=32,
        scaling_factor=0.18215,
    )
