"""The Stable Diffusion 1.x and 2.x family (Rombach et al. 2022) and its editing form, InstructPix2Pix (Brooks et al. 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import nn

from ...core.errors import RecipeError
from ...core.path import DiscretePath
from ...core.prediction import Parametrization
from ...pretrained.loading import quiet
from ..calls import Call, call_image, call_motion
from ..codec import Codec
from ..correction import Correction, read_correction
from ..denoiser import Denoiser
from ..folder import PipelineFolder, find_pipeline
from ..schedulers import build_scheduler, training_scheduler
from ..text import TextEncoder
from ..widen import tell, widen

__all__ = ["StableDiffusion", "open_folder", "open_stable_diffusion"]

PIPELINES = ("StableDiffusionPipeline", "StableDiffusionInstructPix2PixPipeline", "StableDiffusionImg2ImgPipeline")


@dataclass(frozen=True)
class StableDiffusion:
    """An opened model. scheduler: the sampling scheduler that is saved with it. origin: the folder that it came from.

    images: how many pictures' latents are concatenated to the noisy ones: 0 text to image, 1 edits, k given frames.
    features: numbers that the network is told beside the noise level. widened: inputs were added on opening, untrained as yet.
    correction: of the network's outputs, attached to it already; it is saved with the weights. call: how the network is asked;
    one with motion modules wants clips (see `animatediff`). notes: what is worth saying of how the parts fit, a line each.
    """

    unet: nn.Module
    codec: Codec
    text: TextEncoder
    scheduler: Any
    kind: Parametrization
    path: DiscretePath
    images: int
    origin: PipelineFolder
    widened: bool = False
    features: int = 0
    correction: Correction | None = None
    call: Call = call_image
    notes: tuple[str, ...] = ()
    tower: ClassVar[None] = None

    @property
    def makes_clips(self) -> bool:
        """Whether its network has motion modules, and so makes clips instead of pictures."""
        return self.call is call_motion

    def denoiser(
        self, without_adapters: Callable[[], AbstractContextManager[None]] | None = None, reference: nn.Module | None = None
    ) -> Denoiser:
        """The network with its meaning, as the engine asks it. `without_adapters` comes from `make_trainable`."""
        return Denoiser(self.unet, self.kind, without_adapters, reference, self.call)

    def sampler(self, name: str, options: Mapping[str, Any] | None = None) -> Any:
        """A fresh sampling scheduler by class name on this model's schedule."""
        return build_scheduler(name, self.scheduler.config, options)

    def latent_shape(self, size: int | tuple[int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of an image of `size` pixels, or of (height, width)."""
        height, width = (size, size) if isinstance(size, int) else size
        return self.codec.channels, height // self.codec.factor, width // self.codec.factor

    def to(self, device: torch.device | str) -> StableDiffusion:
        """Moves all networks; returns itself."""
        self.unet.to(device)
        self.codec.to(device)
        self.text.to(device)
        return self

    def save_pipeline(self, folder: Path, dtype: torch.dtype | None = None, shared: str | None = None) -> None:
        """Writes a whole pipeline that stock diffusers loads; see `relatum.models.saving`."""
        from ..saving import save_pipeline

        save_pipeline(self, folder, dtype, shared)


def open_stable_diffusion(
    path_or_id: str,
    images: int,
    *,
    features: int = 0,
    revision: str | None = None,
    variant: str | None = None,
    offline: bool = False,
    prediction_type: str | None = None,
    rescale_betas_zero_snr: bool | None = None,
) -> StableDiffusion:
    """Opens a checkpoint by folder, bundled name or hub id, in float32, from safetensors only.

    images, features: what the task gives the network, see `StableDiffusion`; one that takes fewer pictures, or no features, is
    widened so that it behaves as before. prediction_type ("epsilon", "v_prediction", "sample") and rescale_betas_zero_snr override
    the checkpoint's schedule. RecipeError: another architecture, a network that does not fit the task or its own parts.
    DataError: a missing or unreadable part.
    """
    changes = {"prediction_type": prediction_type, "rescale_betas_zero_snr": rescale_betas_zero_snr}
    return open_folder(find_pipeline(path_or_id, revision, variant, offline), images, features, variant, changes)


def open_folder(
    origin: PipelineFolder,
    images: int,
    features: int = 0,
    variant: str | None = None,
    changes: Mapping[str, Any] | None = None,
    pipelines: Sequence[str] = PIPELINES,
    network: str = "UNet2DConditionModel",
    call: Call = call_image,
) -> StableDiffusion:
    """`open_stable_diffusion` of a folder that is found, also where a pipeline of other names holds another kind of network.

    changes: of the schedule's settings; those that are None are none.
    """
    _check(origin, images, features, pipelines, network)
    changes = {key: value for key, value in (changes or {}).items() if value is not None}
    with quiet():
        unet, vae, encoder, tokenizer, scheduler = _load(origin, variant, network)
    if "beta_schedule" in changes and scheduler.config.get("trained_betas") is not None:
        raise RecipeError(f"model.beta_schedule: {origin.path}/scheduler lists its betas one by one (trained_betas); leave it out")
    channels = int(vae.config.latent_channels)
    missing = channels * (1 + images) - int(unet.config.in_channels)
    if missing:
        widen(unet, int(unet.config.in_channels), missing)
    if untold := features > 0 and unet.config.time_cond_proj_dim is None:
        tell(unet, features)
    training = training_scheduler(scheduler.config, changes)
    kind, path = Parametrization.of_scheduler(training.config.prediction_type), DiscretePath.from_scheduler(training)
    if correction := read_correction(origin.path):
        correction.attach(unet, kind, path)
    return StableDiffusion(
        unet,
        Codec(vae),
        TextEncoder(tokenizer, encoder),
        _sampling_scheduler(scheduler, changes),
        kind,
        path,
        images,
        origin,
        bool(missing) or untold,
        features,
        correction,
        call,
    )


def _check(origin: PipelineFolder, images: int, features: int, pipelines: Sequence[str], network: str) -> None:
    """Refuses what is not of the family, from the configurations alone."""
    if origin.pipeline not in pipelines:
        raise RecipeError(
            f"{origin.path} is a {origin.pipeline}; expected Stable Diffusion 1.x or 2.x ({', '.join(pipelines[:2])})"
        )
    for name in ("unet", "vae", "text_encoder", "tokenizer", "scheduler"):
        origin.component(name)
    unet, vae, text = origin.config("unet"), origin.config("vae"), origin.config("text_encoder")
    if unet.get("_class_name") != network or unet.get("addition_embed_type"):
        extra = unet.get("addition_embed_type")
        kind = f"{unet.get('_class_name')}{f' with {extra} embeddings, as SDXL has' if extra else ''}"
        raise RecipeError(f"{origin.path}/unet is a {kind}; expected the {network} of Stable Diffusion 1.x or 2.x")
    if vae.get("_class_name") != "AutoencoderKL":
        raise RecipeError(f"{origin.path}/vae is a {vae.get('_class_name')}; expected AutoencoderKL")
    c, found = int(vae.get("latent_channels", 4)), unet.get("in_channels", 4)
    if unet.get("out_channels", 4) != c:
        raise RecipeError(f"{origin.path}: the unet makes {unet.get('out_channels', 4)} channels, the vae has {c}")
    expected = [c * (1 + n) for n in range(images + 1)]
    if found not in expected:
        hint = {2 * c: "an edit model", 2 * c + 1: "an inpainting model"}.get(found, "a model for another task")
        words = " or ".join(map(str, expected))
        raise RecipeError(
            f"{origin.path}: the unet has {found} input channels ({hint}); a task that gives it {images} pictures needs {words}"
        )
    if (told := unet.get("time_cond_proj_dim")) not in (None, features):
        raise RecipeError(
            f"{origin.path}: the unet is told {told} numbers beside the noise level, but the task tells it {features}"
        )
    if (width := text.get("hidden_size", 512)) != (reads := unet.get("cross_attention_dim")):
        raise RecipeError(f"{origin.path}: the unet reads text states of width {reads}, the text encoder gives {width}")


def _load(origin: PipelineFolder, variant: str | None, network: str) -> tuple[Any, Any, Any, Any, Any]:
    import diffusers
    from transformers import CLIPTextModel, CLIPTokenizer

    weights = {"use_safetensors": True, "variant": variant}
    kind = str(origin.config("scheduler", "scheduler_config.json").get("_class_name"))
    if not hasattr(diffusers, kind):
        raise RecipeError(f"{origin.path}/scheduler is a {kind}, which this diffusers does not know")
    return (
        origin.load(getattr(diffusers, network), "unet", torch_dtype=torch.float32, **weights),
        origin.load(diffusers.AutoencoderKL, "vae", torch_dtype=torch.float32, **weights),
        origin.load(CLIPTextModel, "text_encoder", dtype=torch.float32, **weights),
        origin.load(CLIPTokenizer, "tokenizer"),
        origin.load(getattr(diffusers, kind), "scheduler"),
    )


def _sampling_scheduler(scheduler: Any, changes: dict[str, Any]) -> Any:
    """The checkpoint's own scheduler with the changes; DDIM where its class cannot hold them (zero terminal SNR)."""
    if not changes:
        return scheduler
    if changes.get("rescale_betas_zero_snr"):  # must also start at the last timestep (Lin et al. 2023, section 3.3)
        return build_scheduler("DDIMScheduler", scheduler.config, {**changes, "timestep_spacing": "trailing"})
    known = {key: value for key, value in changes.items() if key in scheduler.config}
    return type(scheduler).from_config(scheduler.config, **known)
