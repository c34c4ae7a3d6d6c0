"""Guided sampling: from noise to latents over any diffusers scheduler, with a picture that depends on its own address only."""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.draws import Draws, key_of
from ..core.errors import RecipeError, ShapeError
from ..core.load import near
from ..core.shapes import Latents, NullTokens, Pixels, Stacked, Tokens, Told, Videos
from ..models.calls import Call, call_image
from ..models.families.stable_diffusion import StableDiffusion
from ..models.schedulers import MOST_STEPS, SAMPLERS, set_steps

__all__ = ["Sampling", "generate", "generate_clips", "guidance", "sample"]

View = Literal["text", "image", "uncond"]
VIEWS: tuple[View, ...] = ("text", "image", "uncond")  # the stock InstructPix2Pix pipeline's order in the batch


@dataclass(frozen=True)
class Sampling:
    """Settings, named as in diffusers. Any guidance scale is taken as it is: none switches guidance off by being small.

    eta: of DDIM (Song et al. 2021, eq. 16), 0 to 1; other schedulers do not read it. scheduler_options: other settings of the
    scheduler's class, such as use_karras_sigmas.
    """

    scheduler: str = "DDIMScheduler"
    num_inference_steps: int = 20
    guidance_scale: float = 7.5
    image_guidance_scale: float = 1.5
    eta: float = 0.0
    scheduler_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.scheduler not in SAMPLERS:
            raise RecipeError(f"sample.scheduler: no {self.scheduler!r}{near(self.scheduler, SAMPLERS)}")
        if not 1 <= self.num_inference_steps <= MOST_STEPS:
            raise RecipeError(f"num_inference_steps is {self.num_inference_steps}, expected at least 1, at most {MOST_STEPS}")
        for name in ("guidance_scale", "image_guidance_scale"):
            if not math.isfinite(getattr(self, name)):
                raise RecipeError(f"{name} is {getattr(self, name)}, expected a finite number")
        if not 0 <= self.eta <= 1:
            raise RecipeError(f"eta is {self.eta}, expected 0 to 1")
        if self.eta and self.scheduler != "DDIMScheduler":
            raise RecipeError(f"eta is read by DDIMScheduler only, found scheduler {self.scheduler}")


def guidance(settings: Sampling, edit: bool) -> dict[View, float]:
    """How much of each view's prediction is in the guided one; the weights sum to 1.

    Edit: e_uncond + s_I (e_image - e_uncond) + s_T (e_text - e_image) (Brooks et al. 2023, eq. 3), that is s_T of text, s_I - s_T
    of image and 1 - s_I of uncond. Text to image: e_uncond + s_T (e_text - e_uncond) (Ho & Salimans 2022). A view of weight
    exactly 0 is left out: it need not be computed.

    >>> guidance(Sampling(guidance_scale=7.5, image_guidance_scale=1.5), edit=True)
    {'text': 7.5, 'image': -6.0, 'uncond': -0.5}
    >>> guidance(Sampling(guidance_scale=1.0, image_guidance_scale=1.0), edit=True)
    {'text': 1.0}
    """
    text, image = settings.guidance_scale, settings.image_guidance_scale
    if edit:
        weights = {"text": text, "image": image - text, "uncond": 1 - image}
    else:
        weights = {"text": text, "image": 0.0, "uncond": 1 - text}
    return {view: weights[view] for view in VIEWS if weights[view] != 0}


@torch.no_grad()
def sample(
    network: nn.Module,
    scheduler: Any,
    settings: Sampling,
    tokens: Tokens,
    null: NullTokens,
    image: Stacked | None,
    noise: Latents,
    generators: Sequence[torch.Generator],
    features: Told | None = None,
    start: tuple[Latents, float] | None = None,
    call: Call = call_image,
) -> Latents:
    """Latents after all steps, float32, on the network's device.

    tokens: of the prompts; null: of the empty one. image: the source's unscaled latents, None for text to image. noise:
    standard normal. generators: one a sample, for schedulers that add noise on their way. The scheduler is not changed.
    features: what the network is told beside the noise level. start: (latents, strength): they are noised to that share of the
    schedule and refined from there (Meng et al. 2022, SDEdit), instead of beginning at pure noise. call: how the network is asked.
    """
    first = next(network.parameters())
    where: dict[str, Any] = {"device": first.device, "dtype": first.dtype}
    weights = guidance(settings, image is not None)
    states = _stack_tokens(tuple(weights), tokens, null).to(**where)
    images = None if image is None else _stack_images(tuple(weights), image).to(**where)
    scheduler = copy.deepcopy(scheduler)
    set_steps(scheduler, settings.num_inference_steps, first.device)
    extra = _step_settings(scheduler, settings, list(generators))
    latents, times = _begin(scheduler, noise.to(first.device).float(), start)
    told = None if features is None else torch.cat([features] * len(weights)).to(**where)
    training = network.training
    network.eval()
    try:
        for time in times:
            inputs = scheduler.scale_model_input(torch.cat([latents] * len(weights)), time).to(first.dtype)
            inputs = inputs if images is None else torch.cat([inputs, images], 1)
            raw = call(network, inputs, time, states, told)
            guided = _combine(raw.float().chunk(len(weights)), list(weights.values()))
            latents = scheduler.step(guided, time, latents, **extra, return_dict=False)[0].float()
    finally:
        network.train(training)
    return latents


def generate(
    model: StableDiffusion,
    settings: Sampling,
    *,
    seed: int,
    ids: Sequence[int | str],
    tokens: Tokens,
    size: int | tuple[int, int],
    image: Latents | None = None,
    network: nn.Module | None = None,
    batch: int = 16,
) -> Pixels:
    """Pictures in [-1, 1], (b 3 h w). Each depends on `seed`, its id and its conditioning, not on its neighbours or on `batch`.

    size: pixels, one edge or (height, width). image: `codec.source` of the pictures to edit. network: another set of weights than
    the model's own, such as the averaged ones. ShapeError where tokens, ids and image do not belong together.
    """
    shape = model.latent_shape(size)
    if len(ids) != len(tokens) or (image is not None and tuple(image.shape) != (len(ids), *shape)):
        found = None if image is None else tuple(image.shape)
        raise ShapeError(f"{len(ids)} ids, {len(tokens)} texts and source latents {found} do not fit images of size {size}")
    scheduler = model.sampler(settings.scheduler, settings.scheduler_options)
    parts = []
    for start in range(0, len(ids), batch):
        part = slice(start, start + batch)
        noise = Draws(seed, ids[part]).normal("sample", shape)
        generators = [torch.Generator().manual_seed(key_of(seed, "sampler", name)) for name in ids[part]]
        source = None if image is None else image[part]
        latents = sample(network or model.unet, scheduler, settings, tokens[part], model.text.null, source, noise, generators)
        parts.append(model.codec.decode(latents).cpu())
    return torch.cat(parts)


def generate_clips(
    model: StableDiffusion,
    settings: Sampling,
    *,
    seed: int,
    ids: Sequence[int | str],
    tokens: Tokens,
    frames: int,
    size: int | tuple[int, int],
    image: Latents | None = None,
    network: nn.Module | None = None,
    batch: int = 4,
) -> Videos:
    """Clips in [-1, 1], (b 3 t h w), on the CPU: as `generate`, for a model with motion modules.

    image: what stands beside the noisy frames (b c t h w) of an image-to-video model, see `tasks.video`.
    """
    channels, height, width = model.latent_shape(size)
    shape = (channels, frames, height, width)
    if len(ids) != len(tokens) or (image is not None and tuple(image.shape) != (len(ids), *shape)):
        found = None if image is None else tuple(image.shape)
        raise ShapeError(f"{len(ids)} ids, {len(tokens)} texts and latents {found} beside do not fit clips {shape}")
    scheduler = model.sampler(settings.scheduler, settings.scheduler_options)
    parts = []
    for start in range(0, len(ids), batch):
        part = slice(start, start + batch)
        noise = Draws(seed, ids[part]).normal("sample", shape)
        generators = [torch.Generator().manual_seed(key_of(seed, "sampler", name)) for name in ids[part]]
        beside = None if image is None else image[part]
        words, null, net = tokens[part], model.text.null, network or model.unet
        latents = sample(net, scheduler, settings, words, null, beside, noise, generators, call=model.call)
        parts.append(model.codec.decode_clips(latents).cpu())
    return torch.cat(parts)


def _begin(scheduler: Any, noise: Latents, start: tuple[Latents, float] | None) -> tuple[Latents, Tensor]:
    """Where sampling begins and the timesteps that it takes, as diffusers' image-to-image pipelines do."""
    if start is None:
        return noise * scheduler.init_noise_sigma, scheduler.timesteps
    order = getattr(scheduler, "order", 1)
    skipped = order * max(0, len(scheduler.timesteps) // order - max(1, round(len(scheduler.timesteps) // order * start[1])))
    if hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(skipped)
    times = scheduler.timesteps[skipped:]
    return scheduler.add_noise(start[0].to(noise), noise, times[:1]), times


def _stack_tokens(views: Sequence[View], tokens: Tokens, null: NullTokens) -> Tensor:
    return torch.cat([tokens if view == "text" else null.to(tokens).expand_as(tokens) for view in views])


def _stack_images(views: Sequence[View], image: Stacked) -> Tensor:
    return torch.cat([torch.zeros_like(image) if view == "uncond" else image for view in views])


def _combine(parts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    total = parts[0] * weights[0]
    for part, weight in zip(parts[1:], weights[1:], strict=True):
        total = total + part * weight
    return total


def _step_settings(scheduler: Any, settings: Sampling, generators: list[torch.Generator]) -> dict[str, Any]:
    """What of `eta` and `generator` this scheduler's step takes, as diffusers' pipelines ask."""
    taken = inspect.signature(scheduler.step).parameters
    every: dict[str, Any] = {"eta": settings.eta, "generator": generators}
    return {name: value for name, value in every.items() if name in taken}
