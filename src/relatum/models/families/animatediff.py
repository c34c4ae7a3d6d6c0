"""The AnimateDiff family (Guo et al. 2023): a Stable Diffusion whose UNet has motion modules between its frames."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...core.errors import RecipeError
from ...core.registry import family
from ..bundled import resolve
from ..calls import call_motion
from ..folder import PipelineFolder, find_pipeline
from ..motion import MotionSize, beta_schedule_of, fresh_motion, open_motion, with_motion
from ..stabilisers import Stabilize, attach_stabilizers, stabilize
from ..trainable import Trainable, Trained, make_trainable
from .stable_diffusion import StableDiffusion, open_folder

__all__ = ["DOWN_MID", "MOTION", "MOTION_PIPELINES", "AnimateDiffSettings", "open_animatediff"]

MOTION_PIPELINES = ("AnimateDiffPipeline", "AnimateDiffVideoToVideoPipeline")

# Patterns of `Trainable`: all motion modules; those of the down blocks and the middle alone, which is stable for longer.
MOTION = "motion_modules"
DOWN_MID = r"^(down_blocks|mid_block)\..*motion_modules"


def open_animatediff(
    path_or_id: str,
    images: int,
    *,
    features: int = 0,
    adapter: str = "",
    size: MotionSize | None = None,
    seed: int = 0,
    revision: str | None = None,
    variant: str | None = None,
    offline: bool = False,
    prediction_type: str | None = None,
    rescale_betas_zero_snr: bool | None = None,
    beta_schedule: str | None = None,
) -> StableDiffusion:
    """A Stable Diffusion by folder, bundled name or hub id with motion modules: those of `adapter`, or fresh ones of `size`.

    An AnimateDiff pipeline that was saved before has its own; naming others is a RecipeError. images, features and the schedule's
    overrides: as in `open_stable_diffusion`; the base is widened first. A schedule that saved modules were not trained on is noted.
    """
    origin = find_pipeline(path_or_id, revision, variant, offline)
    changes = {
        "prediction_type": prediction_type,
        "rescale_betas_zero_snr": rescale_betas_zero_snr,
        "beta_schedule": beta_schedule,
    }
    if adapter and size is not None:
        raise RecipeError(f"model: motion says how large fresh modules are, but {adapter} has its own size; leave one of them out")
    if origin.pipeline in MOTION_PIPELINES:
        if adapter or size is not None:
            what = "motion_adapter" if adapter else "motion"
            raise RecipeError(f"model: {origin.path} has motion modules; leave {what} out, or name the Stable Diffusion below it")
        _check_expressible(origin)
        found = open_folder(origin, images, features, variant, changes, MOTION_PIPELINES, "UNetMotionModel", call_motion)
        attach_stabilizers(found.unet, origin.path)
        return found
    base = open_folder(origin, images, features, variant, changes)
    if not adapter:
        return with_motion(base, fresh_motion(base.unet, size or MotionSize(), seed))
    note = None if beta_schedule else _schedule_note(adapter, str(base.scheduler.config.beta_schedule))
    return with_motion(base, open_motion(adapter, offline), adapter, (note,) if note else ())


def _check_expressible(origin: PipelineFolder) -> None:
    """RecipeError for a motion network whose modules no MotionAdapter can hold, so that it could not be saved again."""
    config = origin.config("unet")
    for key in ("reverse_temporal_transformer_layers_per_block", "reverse_motion_num_attention_heads"):
        if config.get(key) is not None:
            raise RecipeError(f"{origin.path}/unet: {key} is {config[key]}; a MotionAdapter has no such setting")


def _schedule_note(adapter: str, schedule: str) -> str | None:
    """A line where the modules learned on another beta schedule: their folder's, or linear, as AnimateDiff's published ones."""
    known = beta_schedule_of(adapter)
    theirs = known or "linear"
    if theirs == schedule:
        return None
    why = f"were trained on {theirs}" if known else "do not say theirs, and AnimateDiff's published ones have linear"
    return (
        f"model: the base's beta_schedule is {schedule}; the motion modules of {adapter} {why}. "
        f'Set model.beta_schedule: "{theirs}" to use them as they are, "{schedule}" to train them to the base'
    )


@family("animatediff")
@dataclass(frozen=True)
class AnimateDiffSettings:
    """A Stable Diffusion 1.x or 2.x with motion modules.

    pretrained_model_name_or_path: a Stable Diffusion, or an AnimateDiff pipeline saved before. motion_adapter: folder or hub id of
    trained motion modules; "" for fresh ones of the size `motion`. beta_schedule, prediction_type, rescale_betas_zero_snr: override
    the base's schedule. offline: never ask the hub.
    train: the motion modules by default, all of them. Others: { kind = "partial", pattern = "motion_modules|down_blocks.*attn2" }
    adds parts of the image's network, { kind = "lora", pattern = "attentions" } is LoRA on the image's layers alone,
    { kind = "full" } everything. Where a given picture widened the network, its first layer is trained too.
    stabilize: against attention that collapses in training, see `Stabilize`.
    """

    pretrained_model_name_or_path: str = "relatum:toy"
    motion_adapter: str = ""
    motion: MotionSize | None = None
    revision: str | None = None
    variant: str | None = None
    offline: bool = False
    prediction_type: Literal["epsilon", "v_prediction", "sample"] | None = None
    rescale_betas_zero_snr: bool | None = None
    beta_schedule: Literal["linear", "scaled_linear"] | None = None
    train: Trainable = field(default_factory=lambda: Trainable("partial", pattern=MOTION))
    stabilize: Stabilize = field(default_factory=Stabilize)

    def __post_init__(self) -> None:
        if self.stabilize.any and self.train.kind == "lora":
            raise RecipeError(
                'model.stabilize has weights of its own, which LoRA would not train; use train.kind "partial" or "full"'
            )

    def open(self, images: int, features: int, seed: int) -> tuple[StableDiffusion, Trained]:
        """The model with its trainable part chosen; `seed` draws fresh motion modules and adapters."""
        model = open_animatediff(
            self.pretrained_model_name_or_path,
            images,
            features=features,
            adapter=self.motion_adapter,
            size=self.motion,
            seed=seed,
            revision=self.revision,
            variant=self.variant,
            offline=self.offline,
            prediction_type=self.prediction_type,
            rescale_betas_zero_snr=self.rescale_betas_zero_snr,
            beta_schedule=self.beta_schedule,
        )
        learned = bool(self.motion_adapter) or model.origin.pipeline in MOTION_PIPELINES
        stabilize(model.unet, self.stabilize, pretrained=learned)
        trained = make_trainable(model.unet, self.train, seed=seed, widened=model.widened)
        last = [weight for name, weight in model.unet.named_parameters() if MOTION in name and "proj_out" in name]
        if not any(bool(weight.any()) or weight.requires_grad for weight in last):
            raise RecipeError(
                "model.train leaves the last layers of fresh motion modules as they are, zero: no frame would ever see another; "
                'train them (pattern = "motion_modules"), or name a motion_adapter'
            )
        return model, trained

    def notes(self) -> list[str]:
        """What is worth saying before any weight is opened; of local folders alone."""
        place = Path(resolve(self.pretrained_model_name_or_path)).expanduser()
        if not self.motion_adapter or self.beta_schedule or not (place / "model_index.json").is_file():
            return []
        config = find_pipeline(str(place)).config("scheduler", "scheduler_config.json")
        note = _schedule_note(self.motion_adapter, str(config.get("beta_schedule", "linear")))
        return [note] if note else []
