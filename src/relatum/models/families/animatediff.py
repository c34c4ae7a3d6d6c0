"""The AnimateDiff family (Guo et al. 2023): a Stable Diffusion whose UNet has motion modules between its frames."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from ...core.errors import RecipeError
from ...core.registry import family
from ...pretrained.loading import quiet
from ..calls import call_motion
from ..trainable import Trainable, Trained, make_trainable
from .stable_diffusion import StableDiffusion, open_stable_diffusion

__all__ = ["AnimateDiffSettings", "MotionSize", "fresh_motion", "open_animatediff", "with_motion"]


@dataclass(frozen=True)
class MotionSize:
    """Fresh motion modules. heads: of temporal attention. most_frames: of the longest clip that they can be asked for.

    layers: transformer blocks a module. mid_block: whether the middle block has one.
    """

    heads: int = 4
    most_frames: int = 32
    layers: int = 1
    mid_block: bool = True


def open_animatediff(
    path_or_id: str, images: int, *, adapter: str = "", size: MotionSize | None = None, seed: int = 0, offline: bool = False
) -> StableDiffusion:
    """A Stable Diffusion by folder, bundled name or hub id with motion modules: those of `adapter`, or fresh ones of `size`.

    Fresh ones change nothing until they are trained: their last layer is zero, which diffusers leaves out.
    """
    from diffusers import MotionAdapter

    base = open_stable_diffusion(path_or_id, images, offline=offline)
    if not adapter:
        return with_motion(base, fresh_motion(base.unet, size or MotionSize(), seed))
    with quiet():
        modules: Any = MotionAdapter.from_pretrained(adapter, torch_dtype=torch.float32, use_safetensors=True)
    return with_motion(base, modules)


def with_motion(base: StableDiffusion, modules: Any) -> StableDiffusion:
    """`base` with the motion modules of a MotionAdapter between its layers; the weights of both are copied."""
    from diffusers import UNetMotionModel

    unet: Any = base.unet
    with quiet():
        motion = UNetMotionModel.from_unet2d(unet, modules)
    return dataclasses.replace(base, unet=motion, call=call_motion)


def fresh_motion(network: nn.Module, size: MotionSize, seed: int) -> Any:
    """A MotionAdapter that fits `network`, whose last layers are zero: it changes nothing until it is trained."""
    from diffusers import MotionAdapter

    cls: Any = MotionAdapter  # its annotations name one-element tuples
    unet: Any = network
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        modules = cls(
            block_out_channels=tuple(unet.config.block_out_channels),
            motion_layers_per_block=unet.config.layers_per_block,
            motion_transformer_layers_per_block=size.layers,
            motion_num_attention_heads=size.heads,
            motion_norm_num_groups=unet.config.norm_num_groups,
            motion_max_seq_length=size.most_frames,
            use_motion_mid_block=size.mid_block,
        )
    for name, module in modules.named_modules():
        if name.endswith("proj_out"):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    return modules


@family("animatediff")
@dataclass(frozen=True)
class AnimateDiffSettings:
    """A Stable Diffusion 1.x or 2.x with motion modules.

    pretrained_model_name_or_path: a Stable Diffusion, or an AnimateDiff pipeline saved before. motion_adapter: folder or hub id of
    trained motion modules; "" for fresh ones of `motion`. train: which weights; the motion modules alone by default.
    """

    pretrained_model_name_or_path: str = "relatum:toy"
    motion_adapter: str = ""
    motion: MotionSize = field(default_factory=MotionSize)
    offline: bool = False
    train: Trainable = field(default_factory=lambda: Trainable("partial", pattern="motion_modules"))

    def open(self, images: int, features: int, seed: int) -> tuple[StableDiffusion, Trained]:
        """The model with its trainable part chosen; `seed` draws fresh motion modules and adapters."""
        if features:
            raise RecipeError("model: an animatediff model is told nothing beside the noise level")
        name = self.pretrained_model_name_or_path
        model = open_animatediff(name, images, adapter=self.motion_adapter, size=self.motion, seed=seed, offline=self.offline)
        return model, make_trainable(model.unet, self.train, seed=seed, widened=model.widened)
