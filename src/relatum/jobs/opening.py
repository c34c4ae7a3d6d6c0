"""From a recipe's tables to rows, models and batches."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.load import near
from ..core.path import DiscretePath
from ..core.path import Path as NoisePath
from ..core.registry import family, reader, task
from ..data.columns import require
from ..data.negatives.rows import with_negatives
from ..data.others import with_random_texts
from ..data.rows import Row
from ..data.splits import split
from ..engine.cache import encode_rows
from ..engine.encoded import EncodedRows
from ..engine.step import DiffusionParts, StepFunction
from ..models.calls import check_frames
from ..models.families.opening import open_pipeline
from ..models.families.stable_diffusion import StableDiffusion
from ..models.families.stable_video_diffusion import StableVideoDiffusion
from ..models.trainable import Trained
from ..objectives.blend import Blend, read_blend
from ..recipe import Recipe
from ..tasks.base import Task

__all__ = [
    "Model",
    "Opened",
    "Rows",
    "Sides",
    "model_table",
    "register_all",
    "encode",
    "open_model",
    "open_rows",
    "open_task",
    "require_columns",
    "step_of",
]

Model = StableDiffusion | StableVideoDiffusion


@dataclass(frozen=True)
class Rows:
    """Training and held-out rows, and the reasons of those left out."""

    train: Sequence[Row]
    test: Sequence[Row]
    skipped: list[str]


@dataclass(frozen=True)
class Sides:
    """Rows and their encodings, which all arms of a comparison share."""

    rows: Rows
    train: EncodedRows
    test: EncodedRows

    @property
    def skipped(self) -> list[str]:
        """Why rows were left out, at listing or at encoding."""
        return [*self.rows.skipped, *self.train.skipped, *self.test.skipped]


@dataclass(frozen=True)
class Opened:
    """A recipe's model, ready to train. parts: what the step function gets."""

    model: Model
    trained: Trained
    task: Task
    blend: Blend
    parts: DiffusionParts


def register_all() -> None:
    """Import every file that registers something."""
    for name in ("data", "objectives", "tasks", "metrics", "models.families"):
        importlib.import_module(f"relatum.{name}")


def open_rows(recipe: Recipe) -> Rows:
    """Both sides of the data, with the wrong captions and pictures that recipe and task want. DataError for an empty side."""
    rows = _listed(recipe)
    if recipe.data.negatives is not None:
        train, test = (with_negatives(side, recipe.data.negatives) for side in (rows.train, rows.test))
        rows = Rows(train.rows, test.rows, [*rows.skipped, *train.skipped, *test.skipped])
        if not train.rows or not test.rows:
            raise DataError(f"data.negatives: one side has no row left; the first: {[*train.skipped, *test.skipped][0]}")
    if "random" not in open_task(recipe).needs.texts:
        return rows
    return Rows(with_random_texts(rows.train), with_random_texts(rows.test), rows.skipped)


def _listed(recipe: Recipe) -> Rows:
    """Both sides as they are read; a split by group where the recipe names no test reader."""
    register_all()
    source = reader.build(_with_policy(recipe, recipe.data.train, "data.train"), "data.train")
    rows = source.rows()
    if recipe.data.test is None:
        share = recipe.data.held_out
        train, test = split(rows, int(share) if share >= 1 else share, recipe.data.split_seed)
        return Rows(train, test, source.skipped)
    other = reader.build(_with_policy(recipe, recipe.data.test, "data.test"), "data.test")
    test = other.rows()
    for name, side in (("train", rows), ("test", test)):
        if not len(side):
            raise DataError(f"data.{name}: no rows ({len(source.skipped) + len(other.skipped)} skipped)")
    _check_groups(rows, test)
    return Rows(rows, test, source.skipped + other.skipped)


def _with_policy(recipe: Recipe, table: dict[str, Any], where: str) -> dict[str, Any]:
    """The reader's table with the section's `on_bad_row`, and a place in the cache for its index, where the reader has them."""
    kind = reader.find(table.get("kind"), f"{where}.kind")
    cache = Path(recipe.cache_dir) if recipe.cache_dir else Path("runs") / "cache"
    own = {"on_bad_row": recipe.data.on_bad_row, "index_folder": str(cache / "videos")}
    known = getattr(kind, "__dataclass_fields__", {})
    return {**{name: value for name, value in own.items() if name in known}, **_paths(recipe.folder, table)}


def _paths(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Relative paths of a reader are relative to the recipe's folder."""
    path = table.get("path")
    if isinstance(path, str):
        return {**table, "path": str(folder / path)}
    if isinstance(path, list):
        return {**table, "path": [str(folder / str(one)) for one in path]}
    return table


def _check_groups(train: Sequence[Row], test: Sequence[Row]) -> None:
    """Every row where they are listed already; of rows that are made when asked for, enough to notice one file given twice."""
    head = {row.group for row in (train if isinstance(train, list) else train[: 2 * len(test)])}
    both = [row.group for row in (test if isinstance(test, list) else test[:256]) if row.group in head]
    if both:
        raise DataError(f"data.test shares the group {both[0]!r} with data.train; held-out rows must be of other sources")


def open_task(recipe: Recipe) -> Task:
    register_all()
    return task.build(recipe.task, "task")


def open_model(recipe: Recipe) -> Opened:
    """The checkpoint with its trainable part, its task and its objectives."""
    register_all()
    job = open_task(recipe)
    blend = read_blend(recipe.objectives)
    settings: Any = family.build(model_table(recipe), "model")
    if not hasattr(settings, "open"):
        raise RecipeError(f"model: kind {recipe.model['kind']!r} trains an encoder of a base; only relatum train takes it")
    if job.needs.looks and model_table(recipe)["kind"] != "stable_video_diffusion":
        kind = recipe.task.get("kind")
        raise RecipeError(f'model: task {kind!r} is for kind = "stable_video_diffusion", which has an image tower')
    model, trained = settings.open(job.images, job.features, key_of(recipe.seed, "adapters"))
    if model.correction is not None and any(hasattr(term.objective, "correction") for term in blend.terms.values()):
        raise RecipeError(
            f"objectives: {model.origin.path} was trained with delta_fm and is corrected for it already; start from its base"
        )
    layers = [name for name, module in model.unet.named_modules() if name and not isinstance(module, nn.ModuleList)]
    for name in blend.features:
        if name not in layers:
            raise RecipeError(f"objectives: the network has no layer {name!r} to listen to{near(name, layers)}")
    model.to(device())
    if recipe.train.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()  # type: ignore[operator]
    compared = trained.without_adapters is None and any(ask.model == "reference" for ask in blend.asks)
    frozen = copy.deepcopy(model.unet).eval().requires_grad_(False) if compared else None  # LoRA needs none: adapters off
    denoiser = model.denoiser(trained.without_adapters, frozen)
    denoiser.learned = blend.learned().to(device())
    path = shifted(model.path, recipe.train.noise_shift)
    return Opened(model, trained, job, blend, DiffusionParts(denoiser, model.kind, path, job, blend, model.codec))


def shifted(path: NoisePath, shift: float) -> NoisePath:
    """The path with more of its noisy levels drawn. RecipeError for one that has levels of its own."""
    if shift == 1:
        return path
    if not isinstance(path, DiscretePath):
        raise RecipeError(f"train.noise_shift: {type(path).__name__} draws levels of its own; leave it out")
    return dataclasses.replace(path, shift=shift)


def open_final(folder: Path, recipe: Recipe) -> tuple[StableDiffusion, Task]:
    """The finished model of a run folder, for sampling: no objectives, nothing trainable. RecipeError where it reads no text."""
    job = open_task(recipe)
    final = folder / "final"
    if not final.is_dir():
        raise DataError(f"{folder} holds no finished run; run: relatum train")
    model = open_pipeline(str(final.resolve()), job.images, features=job.features)
    if not isinstance(model, StableDiffusion):
        raise RecipeError(f"{folder}: no suite judges clips that are made of a picture alone; look at them: relatum animate")
    return model.to(device()), job


def device() -> torch.device:
    """This process's GPU where there is one, as accelerate counts them."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


def model_table(recipe: Recipe) -> dict[str, Any]:
    """Relative paths of checkpoint and motion adapter are relative to the recipe's folder where something is there, or hub ids."""
    table = {"kind": "stable_diffusion", **recipe.model}
    for key in ("pretrained_model_name_or_path", "motion_adapter"):
        name = table.get(key)
        if isinstance(name, str) and name and (recipe.folder / name).exists():
            table[key] = str(recipe.folder / name)
    return table


def encode(recipe: Recipe, job: Task, model: Model, rows: Sequence[Row], cache: Path, progress: Any = None) -> EncodedRows:
    """The rows as cached latents, text states and looks. RecipeError for clips that are too long for the model's motion modules."""
    if isinstance(model, StableDiffusion) and model.makes_clips and len(rows):
        for name in job.needs.clips:  # all are of one length, which the cache sees to
            if name in rows[0].clips:
                check_frames(model.unet, rows[0].clips[name].frames)
    return encode_rows(
        rows,
        job.needs,
        recipe.data.resolution,
        model.codec,
        model.text,
        cache,
        dtype=recipe.data.cache_dtype,
        progress=progress,
        on_bad_row=recipe.data.on_bad_row,
        tower=model.tower,
    )


def step_of(recipe: Recipe) -> StepFunction:
    """The step function that [train] names. RecipeError where it is no function of (parts, batch, draws, ranks, moment)."""
    module, colon, name = recipe.train.step.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # whatever a foreign module does at import, sys.exit included
        raise RecipeError(f"train.step: {recipe.train.step!r} is not module:function ({error})") from error
    if not colon:
        raise RecipeError(f"train.step: expected module:function, found {recipe.train.step!r}")
    try:
        inspect.signature(function).bind(*range(5))
    except (TypeError, ValueError) as error:  # not callable; other parameters; no signature
        raise RecipeError(
            f"train.step: {recipe.train.step!r} is no function of (parts, batch, draws, ranks, moment): {error}"
        ) from error
    return function


def require_columns(job: Task, rows: Rows) -> None:
    """DataError if the first rows lack what the task needs; every row is looked at when it is encoded."""
    require([*rows.train[:16], *rows.test[:16]], job.needs.images, job.needs.texts, clips=job.needs.clips)
