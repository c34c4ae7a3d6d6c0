"""Guided sampling of Stable Video Diffusion: from a picture and noise to a clip that depends on its own address only."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from ..core.draws import Draws
from ..core.errors import RecipeError, ShapeError
from ..core.load import near
from ..core.path import expand
from ..core.shapes import Latents, PerSample, Pixels, Tokens, Told, VideoLatents, Videos
from ..models.families.stable_video_diffusion import SAMPLERS, StableVideoDiffusion
from ..models.schedulers import MOST_STEPS, set_steps
from .sample import Sampling

__all__ = ["Animating", "animate_pictures", "guided_frames"]


@dataclass(frozen=True)
class Animating:
    """Settings, named as in diffusers' StableVideoDiffusionPipeline. scheduler: "" is the model's own class.

    Guidance grows in a line from the first frame to the last; none switches it off by being small. fps, motion_bucket_id: what the
    network is told where the clip's own are not given. noise_aug_strength: noise on the picture, in pixels in [-1, 1].
    decode_chunk_size: frames that are decoded together; 0 is all of a clip.
    """

    num_inference_steps: int = 25
    min_guidance_scale: float = 1.0
    max_guidance_scale: float = 3.0
    fps: float = 7.0
    motion_bucket_id: float = 127.0
    noise_aug_strength: float = 0.02
    decode_chunk_size: int = 0
    scheduler: str = ""
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scheduler and self.scheduler not in SAMPLERS:
            raise RecipeError(
                f"scheduler: {self.scheduler!r} cannot sample a Stable Video Diffusion{near(self.scheduler, SAMPLERS)}; "
                f"take one of {', '.join(SAMPLERS)}"
            )
        if not 1 <= self.num_inference_steps <= MOST_STEPS:
            raise RecipeError(f"num_inference_steps is {self.num_inference_steps}, expected at least 1, at most {MOST_STEPS}")
        for name in ("min_guidance_scale", "max_guidance_scale"):
            if not math.isfinite(getattr(self, name)):
                raise RecipeError(f"{name} is {getattr(self, name)}, expected a finite number")
        if not 0 < self.fps < math.inf:
            raise RecipeError(f"fps is {self.fps}, expected frames a second above 0")
        for name in ("motion_bucket_id", "noise_aug_strength", "decode_chunk_size"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected 0 or more")

    @classmethod
    def of(cls, settings: Sampling, **more: Any) -> Animating:
        """What `Sampling` says, as far as this family has it: guidance_scale is that of the last frame, the first has 1 at most.

        Its scheduler DDIM, the default, which knows no levels of EDM's, stands for the model's own. RecipeError for eta.
        """
        if settings.eta:
            raise RecipeError(f"eta is {settings.eta}; it is DDIM's, which cannot sample a Stable Video Diffusion")
        own = settings.scheduler == Sampling.scheduler
        known = cls(
            settings.num_inference_steps,
            min(1.0, settings.guidance_scale),
            settings.guidance_scale,
            scheduler="" if own else settings.scheduler,
            scheduler_options=settings.scheduler_options,
        )
        return replace(known, **more)

    def ramp(self, frames: int) -> Tensor:
        """(frames,) guidance scales."""
        return torch.linspace(self.min_guidance_scale, self.max_guidance_scale, frames)


def animate_pictures(
    model: StableVideoDiffusion,
    settings: Animating,
    *,
    seed: int,
    ids: Sequence[int | str],
    pictures: Pixels,
    frames: int,
    fps: PerSample | None = None,
    motion: PerSample | None = None,
    network: nn.Module | None = None,
    batch: int = 4,
) -> Videos:
    """Clips in [-1, 1], (b 3 t h w), on the CPU, of the size of their pictures (b 3 h w) in [-1, 1].

    Each depends on `seed`, its id, its picture and what it is told, not on its neighbors or on `batch`. The first frame is made as
    the others are; it is not the picture itself. fps, motion: frames a second and motion buckets of each clip. network: another set
    of weights than the model's own, such as the averaged ones. ShapeError where ids and pictures do not belong together.
    """
    edges = pictures.shape[1:]
    shape = model.latent_shape((edges[1], edges[2]))
    if len(ids) != len(pictures) or frames < 2:
        raise ShapeError(
            f"{len(ids)} ids, {len(pictures)} pictures and {frames} frames; expected as many ids, and 2 frames or more"
        )
    fps = torch.full((len(ids),), float(settings.fps)) if fps is None else fps.cpu().float()
    motion = torch.full_like(fps, settings.motion_bucket_id) if motion is None else motion.cpu().float()
    told = torch.stack([fps - 1, motion, torch.full_like(fps, settings.noise_aug_strength)], 1)
    scheduler, clips = model.sampler(settings.scheduler, settings.scheduler_options), []
    for start in range(0, len(ids), batch):
        part = slice(start, start + batch)
        draws, seen = Draws(seed, ids[part]), pictures[part].float().cpu()
        noised = seen + settings.noise_aug_strength * draws.normal("augmentation", edges)
        noise = draws.normal("sample", (shape[0], frames, *shape[1:]))
        first, tokens = model.codec.encode(noised).mean, model.tower.encode(seen)
        latents = guided_frames(model, scheduler, settings, tokens, first, told[part], noise, network)
        clips.append(model.codec.decode_clips(latents, settings.decode_chunk_size or None).cpu())
    return torch.cat(clips)


@torch.no_grad()
def guided_frames(
    model: StableVideoDiffusion,
    scheduler: Any,
    settings: Animating,
    tokens: Tokens,
    first: Latents,
    told: Told,
    noise: VideoLatents,
    network: nn.Module | None = None,
) -> VideoLatents:
    """Latents after all steps, float32, on the network's device: uncond + g (cond - uncond), g growing over the frames.

    tokens (b 1 d) and first (b c h w), unscaled latents, are the picture's; without condition both are zero. noise: standard
    normal. Where every g is 1 the network is asked once a step. `scheduler` is begun anew.
    """
    network = network or model.unet
    weight = next(network.parameters())
    where: dict[str, Any] = {"device": weight.device, "dtype": weight.dtype}
    frames = noise.shape[2]
    ramp = settings.ramp(frames).to(weight.device)
    views = 1 if bool((ramp == 1).all()) else 2
    image = first[:, :, None].expand(-1, -1, frames, -1, -1)
    states = torch.cat([torch.zeros_like(tokens), tokens][-views:]).to(**where)
    beside = torch.cat([torch.zeros_like(image), image][-views:]).to(**where)
    numbers = torch.cat([told] * views).to(**where)
    set_steps(scheduler, settings.num_inference_steps, weight.device)
    latents = noise.to(weight.device).float() * scheduler.init_noise_sigma
    training = network.training
    network.eval()
    try:
        for time in scheduler.timesteps:
            noisy = scheduler.scale_model_input(torch.cat([latents] * views), time).to(weight.dtype)
            raw = model.call(network, torch.cat([noisy, beside], 1), time, states, numbers).float()
            if views == 2:
                without, told_all = raw.chunk(2)
                raw = without + expand(ramp[None], raw) * (told_all - without)
            latents = scheduler.step(raw, time, latents, return_dict=False)[0].float()
    finally:
        network.train(training)
    return latents
