"""The Stable Video Diffusion family (Blattmann et al. 2023): a picture becomes a clip; EDM's levels, a temporal decoder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ...core.errors import DataError, RecipeError, ShapeError
from ...core.path import EDMPath
from ...core.prediction import Parametrization
from ...core.registry import family
from ...core.shapes import Tokens, Told
from ...pretrained.loading import quiet
from ..calls import Call
from ..codec import Codec
from ..correction import Correction
from ..denoiser import Denoiser
from ..folder import PipelineFolder, find_pipeline
from ..schedulers import build_scheduler
from ..trainable import Trainable, Trained, make_trainable
from ..vision import ImageTower

__all__ = ["SAMPLERS", "StableVideoDiffusion", "StableVideoDiffusionSettings", "call_told", "is_video_diffusion"]
__all__ += ["open_stable_video_diffusion"]

PIPELINE = "StableVideoDiffusionPipeline"
SAMPLERS = ("EulerDiscreteScheduler", "EDMEulerScheduler", "EDMDPMSolverMultistepScheduler")  # those that tell ln(sigma) / 4
TEMPORAL = "temporal|time_pos_embed|time_mixer"  # temporal_res_block, temporal_transformer_blocks and what mixes them in
CLASSES = {"unet": "UNetSpatioTemporalConditionModel", "vae": "AutoencoderKLTemporalDecoder"}
FEATURES = 3  # frames a second less one, motion bucket, noise on the picture


def call_told(network: nn.Module, sample: Tensor, time: Tensor, tokens: Tokens, told: Told | None) -> Tensor:
    """UNetSpatioTemporalConditionModel: clips (b 2c t h w), the noisy frames and the picture's; tokens (b 1 d) of the picture.

    told: (b 3), frames a second less one, motion bucket, strength of the noise on the picture.
    """
    if told is None or told.shape[-1] != FEATURES:
        found = "nothing" if told is None else f"{told.shape[-1]} numbers"
        raise ShapeError(f"a Stable Video Diffusion is told {FEATURES} numbers (fps - 1, motion bucket, noise), found {found}")
    if time.ndim > 1:
        raise ShapeError("a Stable Video Diffusion knows one noise level a clip, found one a frame")
    frames = sample.transpose(1, 2)
    return network(frames, time, encoder_hidden_states=tokens, added_time_ids=told, return_dict=False)[0].transpose(1, 2)


@dataclass(frozen=True)
class StableVideoDiffusion:
    """An opened model. tower: of the picture that it continues. scheduler: for sampling, saved with it. origin: its folder.

    path: the noise levels of training; the network predicts v in variance-preserving units (see `EDMPath`). It takes no text.
    """

    unet: nn.Module
    codec: Codec
    tower: ImageTower
    scheduler: Any
    path: EDMPath
    origin: PipelineFolder
    call: Call = call_told
    kind: ClassVar[Parametrization] = Parametrization.V
    images: ClassVar[int] = 1
    features: ClassVar[int] = FEATURES
    text: ClassVar[None] = None
    widened: ClassVar[bool] = False
    correction: ClassVar[Correction | None] = None

    def denoiser(
        self, without_adapters: Callable[[], AbstractContextManager[None]] | None = None, reference: nn.Module | None = None
    ) -> Denoiser:
        """The network with its meaning, as the engine asks it."""
        return Denoiser(self.unet, self.kind, without_adapters, reference, self.call)

    def sampler(self, name: str = "", options: Mapping[str, Any] | None = None) -> Any:
        """A fresh sampling scheduler by class name, one of `SAMPLERS`, on this model's levels; "" is the model's own class.

        EDM's own schedulers are given unit data, which is what the network was trained on.
        """
        name = name or type(self.scheduler).__name__
        unit = {"sigma_data": 1.0} if name.startswith("EDM") else {}
        for key in {*(options or {})} & {"prediction_type", "timestep_type", "sigma_data"}:
            raise RecipeError(f"{name}.{key}: is the network's own, it cannot be chosen; leave it out")
        return build_scheduler(name, self.scheduler.config, {**unit, **(options or {})}, SAMPLERS)

    def latent_shape(self, size: int | tuple[int, int]) -> tuple[int, int, int]:
        """(c, h, w) of the latents of a frame of `size` pixels, or of (height, width)."""
        height, width = (size, size) if isinstance(size, int) else size
        return self.codec.channels, height // self.codec.factor, width // self.codec.factor

    def to(self, device: torch.device | str) -> StableVideoDiffusion:
        """Moves all networks; returns itself."""
        self.unet.to(device)
        self.codec.to(device)
        self.tower.to(device)
        return self

    def save_pipeline(self, folder: Path, dtype: torch.dtype | None = None) -> None:
        """Writes a whole pipeline that stock diffusers loads; see `relatum.models.saving_video`."""
        from ..saving_video import save_video_pipeline

        save_video_pipeline(self, folder, dtype)


def is_video_diffusion(origin: PipelineFolder) -> bool:
    """Whether a pipeline folder is of this family."""
    return origin.pipeline == PIPELINE


def open_stable_video_diffusion(
    path_or_id: str,
    *,
    path: EDMPath | None = None,
    revision: str | None = None,
    variant: str | None = None,
    offline: bool = False,
) -> StableVideoDiffusion:
    """Opens a checkpoint by folder or hub id, in float32, from safetensors only.

    RecipeError: another architecture, another parametrization, parts that do not fit each other. DataError: a missing or
    unreadable part.
    """
    import diffusers
    from transformers import CLIPVisionModelWithProjection

    origin = find_pipeline(path_or_id, revision, variant, offline)
    _check(origin)
    processor = origin.config("feature_extractor", "preprocessor_config.json")
    weights = {"use_safetensors": True, "variant": variant}
    with quiet():
        unet = origin.load(diffusers.UNetSpatioTemporalConditionModel, "unet", torch_dtype=torch.float32, **weights)
        vae = origin.load(diffusers.AutoencoderKLTemporalDecoder, "vae", torch_dtype=torch.float32, **weights)
        encoder, info = origin.load(
            CLIPVisionModelWithProjection, "image_encoder", dtype=torch.float32, output_loading_info=True, **weights
        )
        scheduler = origin.load(diffusers.EulerDiscreteScheduler, "scheduler")
    if lacking := sorted(set(info["missing_keys"])):
        raise DataError(f"{origin.path}/image_encoder: its safetensors lack {len(lacking)} weights ({lacking[0]}, ...)")
    return StableVideoDiffusion(unet, Codec(vae), ImageTower(encoder, processor), scheduler, path or EDMPath(), origin)


def _check(origin: PipelineFolder) -> None:
    """Refuses what is not of the family, from the configurations alone."""
    if origin.pipeline != PIPELINE:
        raise RecipeError(f"{origin.path} is a {origin.pipeline}; expected a Stable Video Diffusion ({PIPELINE})")
    for name in ("unet", "vae", "image_encoder", "feature_extractor", "scheduler"):
        origin.component(name)
    for name, wanted in CLASSES.items():
        if (found := origin.config(name).get("_class_name")) != wanted:
            raise RecipeError(f"{origin.path}/{name} is a {found}; expected {wanted}")
    unet, vae, tower = (origin.config(name) for name in ("unet", "vae", "image_encoder"))
    c = int(vae.get("latent_channels", 4))
    if (found := (unet.get("in_channels", 8), unet.get("out_channels", 4))) != (2 * c, c):
        raise RecipeError(
            f"{origin.path}: the unet takes {found[0]} channels and makes {found[1]}; with a vae of {c} it must take {2 * c}, the "
            f"noisy frame and the picture, and make {c}"
        )
    reads = unet.get("cross_attention_dim", 1024)
    width = tower.get("projection_dim", 512)
    if {*(reads if isinstance(reads, list) else [reads])} != {width}:
        raise RecipeError(f"{origin.path}: the unet reads states of width {reads}, the image encoder gives {width}")
    each, told = unet.get("addition_time_embed_dim", 256), unet.get("projection_class_embeddings_input_dim", 768)
    if told != FEATURES * each:
        raise RecipeError(
            f"{origin.path}: the unet is told {told / each:g} numbers beside the noise level, expected {FEATURES}: frames a "
            "second, motion bucket and noise"
        )
    scheduler = origin.config("scheduler", "scheduler_config.json")
    wanted = {"_class_name": "EulerDiscreteScheduler", "prediction_type": "v_prediction", "timestep_type": "continuous"}
    for key, value in wanted.items():
        if scheduler.get(key) != value:
            raise RecipeError(
                f"{origin.path}/scheduler: {key.strip('_')} is {scheduler.get(key)!r}, expected {value!r}: Stable Video Diffusion "
                "predicts v and is told ln(sigma) / 4"
            )


@family("stable_video_diffusion")
@dataclass(frozen=True)
class StableVideoDiffusionSettings:
    """A Stable Video Diffusion by folder or hub id, for the task "animation".

    noise_mean, noise_std: of the logarithm of the noise levels in training (see `EDMPath`); 1.0 and 1.6 are those of image to
    video at 576 x 1024 (Blattmann et al. 2023, appendix D). train: which weights; the temporal layers by default.
    """

    pretrained_model_name_or_path: str
    revision: str | None = None
    variant: str | None = None
    offline: bool = False
    noise_mean: float = 0.7
    noise_std: float = 1.6
    train: Trainable = field(default_factory=lambda: Trainable("partial", pattern=TEMPORAL))

    def __post_init__(self) -> None:
        EDMPath(self.noise_mean, self.noise_std)
        if self.train.kind == "lora":
            raise RecipeError(
                'model.train.kind: a Stable Video Diffusion is trained "full" or "partial"; its network takes no LoRA'
            )

    def open(self, images: int, features: int, seed: int) -> tuple[StableVideoDiffusion, Trained]:
        """The model with its trainable part chosen. RecipeError where the task does not give one picture and tell three numbers."""
        if (images, features) != (1, FEATURES):
            raise RecipeError('model: a Stable Video Diffusion is trained on task "animation"')
        model = open_stable_video_diffusion(
            self.pretrained_model_name_or_path,
            path=EDMPath(self.noise_mean, self.noise_std),
            revision=self.revision,
            variant=self.variant,
            offline=self.offline,
        )
        return model, make_trainable(model.unet, self.train, seed=seed)
