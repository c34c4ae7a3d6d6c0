"""`relatum train` for representations: a CLIP judged by a diffusion model, a probe on a UNet's features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..core.draws import key_of
from ..core.errors import RecipeError
from ..data.rows import Row
from ..engine.distill import DistillParts
from ..engine.encoded import RawRows
from ..engine.job import Batches
from ..engine.probe import ProbeParts, open_probe
from ..engine.train import Job
from ..models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from ..models.families.tuned import ClipSettings, DrawingClip, ProbedSettings
from ..models.probe import Probe, Probed, ProbeSettings, new_probe, save_probe
from ..models.trainable import make_trainable, save_lora
from ..recipe import Recipe
from ..tasks.base import Task
from .opening import device, encode

__all__ = ["TUNED", "tuned_job"]

FITTED = 512  # pictures that the map to latents is fitted to
TUNED = ("clip", "probe")  # kinds of [model] that this file trains


def tuned_job(
    recipe: Recipe,
    settings: ClipSettings | ProbedSettings,
    task: Task,
    train: Sequence[Row],
    test: Sequence[Row],
    step: Any,
    folder: Path,
    signature: str,
) -> Job:
    """The job of a recipe whose [model] is `settings`. RecipeError for a task that gives the network pictures."""
    if task.images or task.features:
        raise RecipeError(
            f'task: kind {recipe.task.get("kind")!r} gives pictures; a {recipe.model["kind"]} model takes kind = "image"'
        )
    make = _clip if isinstance(settings, ClipSettings) else _probe
    parts, save, (rows, held_out) = make(recipe, settings, task, (train, test))  # type: ignore[arg-type]
    return Job(parts, step, rows, held_out, recipe.train, recipe.seed, folder, save, signature)


Made = tuple[Any, Callable[[Path], None], list[Batches]]


def _clip(recipe: Recipe, settings: ClipSettings, task: Task, sides: Sequence[Sequence[Row]]) -> Made:
    opened = settings.build(recipe.folder)
    make_trainable(opened.clip, settings.train)
    teacher = shape = None
    if settings.weight:
        teacher = open_stable_diffusion(_place(recipe, settings.diffusion), 0).to(device())
        teacher.unet.eval().requires_grad_(False)
        shape = teacher.latent_shape(recipe.data.resolution)
    rows: list[Batches] = [RawRows(side, task.needs, recipe.data.resolution, on_bad_row=recipe.data.on_bad_row) for side in sides]
    network = DrawingClip(opened, shape).to(device())
    if teacher is not None and settings.map == "fitted":
        network.fit(_drawn(rows[0], teacher, task.needs.images[0]))
    parts = DistillParts(network, opened.tokenizer, teacher, settings.weight, settings.caption, task.needs.texts[0])
    return parts, opened.save, rows


def _drawn(rows: Batches, teacher: StableDiffusion, name: str, count: int = 64) -> Iterator[tuple[Tensor, Tensor]]:
    """The first FITTED pictures, `count` at a time, and the teacher's latents of them."""
    for start in range(0, min(FITTED, len(rows)), count):
        pixels = rows.batch(range(start, min(start + count, FITTED, len(rows)))).pixels[name].to(device())
        yield pixels, teacher.codec.latents(teacher.codec.encode(pixels), None)


def _probe(recipe: Recipe, settings: ProbedSettings, task: Task, sides: Sequence[Sequence[Row]]) -> Made:
    origin = _place(recipe, settings.pretrained_model_name_or_path)
    model = open_stable_diffusion(origin, 0).to(device())
    tuned = settings.train is not None
    probe = _begin(recipe, settings, model)
    if settings.train is None:
        model.unet.eval().requires_grad_(False)
    else:
        make_trainable(model.unet, settings.train, seed=key_of(recipe.seed, "adapters"))
    if not settings.matching:
        probe.requires_grad_(False)
    parts = ProbeParts(
        Probed(model.denoiser(), probe, tuned),
        probe.settings,
        model.kind,
        model.path,
        model.codec,
        settings.matching,
        settings.denoising,
        settings.rolls,
        getattr(task, "conditioning_dropout_prob", 0.0),
    )

    def save(folder: Path) -> None:
        if tuned:
            model.save_pipeline(folder)
            if settings.train is not None and settings.train.kind == "lora":
                save_lora(model.unet, folder)
        if settings.matching:
            save_probe(
                probe, folder / "probe", model="" if tuned else str(Path(origin).resolve()) if Path(origin).exists() else origin
            )

    cache = Path(recipe.cache_dir) if recipe.cache_dir else Path("runs") / "cache"
    return parts, save, [encode(recipe, task, model, side, cache) for side in sides]


def _begin(recipe: Recipe, settings: ProbedSettings, model: StableDiffusion) -> Probe:
    """A fresh probe, or the one that the recipe goes on with."""
    null = model.text.null
    if not settings.begin:
        return new_probe(model.unet, settings.probe, null).to(device())
    probe = open_probe(Path(_place(recipe, settings.begin)))[0].to(device()).train().requires_grad_(True)
    if settings.probe not in (ProbeSettings(), probe.settings):
        raise RecipeError(f"model.probe: {settings.begin} was made with {probe.settings}; leave [model.probe] out to go on with it")
    if probe.text_width != null.shape[2]:
        raise RecipeError(f"model.begin: a probe for text states of width {probe.text_width}, the model's have {null.shape[2]}")
    return probe


def _place(recipe: Recipe, name: str) -> str:
    """A relative path is relative to the recipe's folder where something is there."""
    return str(recipe.folder / name) if (recipe.folder / name).exists() else name
