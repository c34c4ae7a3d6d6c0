"""Tiny models from a seed, with every part of the real ones, in well under a second: for tests and examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch

from ..core.path import DiscretePath
from ..core.prediction import Parametrization
from .codec import Codec
from .families.stable_diffusion import StableDiffusion
from .families.tokenizer import build_tokenizer
from .folder import PipelineFolder
from .motion import MotionSize, fresh_motion, with_motion
from .schedulers import training_scheduler
from .text import TextEncoder
from .widen import tell, widen

__all__ = ["byte_tokenizer", "tiny_animatediff", "tiny_stable_diffusion"]


def byte_tokenizer(length: int = 48) -> Any:
    """A CLIPTokenizer of single bytes, 514 words, made without any file or network; `length` is its model_max_length."""
    return build_tokenizer([], 514, length)


def tiny_stable_diffusion(
    images: int = 1,
    *,
    seed: int = 0,
    factor: Literal[2, 4, 8] = 4,
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon",
    widened: bool = False,
    features: int = 0,
    width: int = 16,
) -> StableDiffusion:
    """A Stable Diffusion of about 0.2 M weights, for tasks that give it `images` pictures and tell it `features` numbers.

    widened: a network as widening gives it, not one with weights of its own for the pictures.
    """
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet = _unet(width, 4 if widened else 4 * (1 + images))
        if widened and images:
            widen(unet, 4, 4 * images)
        if features:
            tell(unet, features)
        vae = _vae(factor)
        tokenizer = byte_tokenizer()
        config = CLIPTextConfig(
            vocab_size=514,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=48,
            bos_token_id=512,
            eos_token_id=513,
            pad_token_id=513,
        )
        encoder = CLIPTextModel(config)
    schedule = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": prediction_type}
    scheduler = diffusers.DDIMScheduler(**schedule, clip_sample=False, set_alpha_to_one=False, steps_offset=1)
    path = DiscretePath.from_scheduler(training_scheduler(scheduler.config))
    kind = Parametrization.of_scheduler(prediction_type)
    origin = PipelineFolder(Path("tiny"), {})
    return StableDiffusion(
        unet,
        Codec(vae),
        TextEncoder(tokenizer, encoder),
        scheduler,
        kind,
        path,
        images,
        origin,
        widened and images > 0,
        features,
    )


def tiny_animatediff(
    images: int = 0,
    *,
    seed: int = 0,
    fresh: bool = True,
    prediction_type: Literal["epsilon", "v_prediction", "sample"] = "epsilon",
    widened: bool = False,
    width: int = 16,
    motion: MotionSize | None = None,
) -> StableDiffusion:
    """`tiny_stable_diffusion` with motion modules, for clips of at most 16 frames unless `motion` says otherwise.

    fresh: modules that change nothing as yet, their last layers zero; False draws those too, so that frames reach one another.
    """
    base = tiny_stable_diffusion(images, seed=seed, prediction_type=prediction_type, widened=widened, width=width)
    modules = fresh_motion(base.unet, motion or MotionSize(heads=2, most_frames=16), seed)
    if not fresh:
        draw = torch.Generator().manual_seed(seed)
        last = [module for name, module in modules.named_modules() if name.endswith("proj_out")]
        with torch.no_grad():
            for weights in (tensor for module in last for tensor in module.parameters()):
                weights.copy_(0.2 * torch.randn(weights.shape, generator=draw))
    return with_motion(base, modules)


def _unet(width: int, channels: int) -> Any:
    import diffusers

    return diffusers.UNet2DConditionModel(
        sample_size=8,
        in_channels=channels,
        out_channels=4,
        block_out_channels=(width, 2 * width),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=32,
        attention_head_dim=8,
    )


def _vae(factor: int) -> Any:
    import diffusers

    levels = {2: 2, 4: 3, 8: 4}[factor]
    build: Any = diffusers.AutoencoderKL  # its annotations say tuples of one
    return build(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=(8, *(16,) * (levels - 1)),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=8 * factor,
        scaling_factor=0.18215,
    )
