"""From a recipe's tables to rows, models and batches."""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.registry import family, reader, task
from ..core.registry import objective as objectives
from ..data.columns import require
from ..data.rows import Row
from ..data.splits import split
from ..engine.cache import encode_rows
from ..engine.encoded import EncodedRows
from ..engine.step import DiffusionParts, StepFunction
from ..models.families.stable_diffusion import StableDiffusion
from ..models.trainable import Trained
from ..objectives.blend import Blend, read_blend
from ..recipe import Recipe
from ..tasks.base import Task

__all__ = [
    "Opened",
    "check_recipe",
    "check_settings",
    "encode",
    "open_model",
    "open_rows",
    "open_task",
    "require_columns",
    "step_of",
]


@dataclass(frozen=True)
class Rows:
    """Training and held-out rows, and the reasons of those left out."""

    train: Sequence[Row]
    test: Sequence[Row]
    skipped: list[str]


@dataclass(frozen=True)
class Opened:
    """A recipe's model, ready to train. parts: what the step function gets."""

    model: StableDiffusion
    trained: Trained
    task: Task
    blend: Blend
    parts: DiffusionParts


def _registered() -> None:
    """Import every file that registers something."""
    for name in ("data", "objectives", "tasks", "metrics", "models.families.settings", "models.families.fresh"):
        importlib.import_module(f"relatum.{name}")


def open_rows(recipe: Recipe) -> Rows:
    """Both sides of the data; a split by group where the recipe names no test reader. DataError for an empty side."""
    _registered()
    source = reader.build(_with_policy(recipe, recipe.data.train), "data.train")
    rows = source.rows()
    if recipe.data.test is None:
        share = recipe.data.held_out
        train, test = split(rows, int(share) if share >= 1 else share, recipe.data.split_seed)
        return Rows(train, test, source.skipped)
    other = reader.build(_with_policy(recipe, recipe.data.test), "data.test")
    test = other.rows()
    for name, side in (("train", rows), ("test", test)):
        if not len(side):
            raise DataError(f"data.{name}: no rows ({len(source.skipped) + len(other.skipped)} skipped)")
    _check_groups(rows, test)
    return Rows(rows, test, source.skipped + other.skipped)


def _with_policy(recipe: Recipe, table: dict[str, Any]) -> dict[str, Any]:
    """The reader's table with the section's `on_bad_row`, where the reader has one."""
    kind = reader.find(table.get("kind"), "data.train.kind")
    if "on_bad_row" in getattr(kind, "__dataclass_fields__", {}):
        return {"on_bad_row": recipe.data.on_bad_row, **_paths(recipe.folder, table)}
    return table


def _paths(folder: Path, table: dict[str, Any]) -> dict[str, Any]:
    """Relative paths of a reader are relative to the recipe's folder."""
    path = table.get("path")
    if isinstance(path, str):
        return {**table, "path": str(folder / path)}
    if isinstance(path, list):
        return {**table, "path": [str(folder / str(one)) for one in path]}
    return table


def _check_groups(train: Sequence[Row], test: Sequence[Row]) -> None:
    """A few rows of each side are enough to notice that the same file was given twice."""
    head = {row.group for row in train[: 2 * len(test)]}
    both = [row.group for row in test[:256] if row.group in head]
    if both:
        raise DataError(f"data.test shares the group {both[0]!r} with data.train; held-out rows must be of other sources")


def open_task(recipe: Recipe) -> Task:
    _registered()
    return task.build(recipe.task, "task")


def open_model(recipe: Recipe) -> Opened:
    """The checkpoint with its trainable part, its task and its objectives."""
    _registered()
    job = open_task(recipe)
    blend = read_blend(recipe.objectives)
    settings: Any = family.build(_model_table(recipe), "model")
    model, trained = settings.open("edit" if job.image_channels else "image", key_of(recipe.seed, "adapters"))
    if any(ask.model == "reference" for ask in blend.asks) and trained.without_adapters is None:
        raise RecipeError('objectives: a term asks the reference model, which exists only for [model.train] kind = "lora"')
    model.to(device())
    if recipe.train.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()  # type: ignore[operator]
    parts = DiffusionParts(model.denoiser(trained.without_adapters), model.kind, model.path, job, blend, model.codec)
    return Opened(model, trained, job, blend, parts)


def device() -> torch.device:
    """This process's GPU where there is one, as accelerate counts them."""
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0))) if torch.cuda.is_available() else torch.device("cpu")


def _model_table(recipe: Recipe) -> dict[str, Any]:
    """A relative path of the checkpoint is relative to the recipe's folder where something is there, else a hub id."""
    table = {"kind": "stable_diffusion", **recipe.model}
    name = table.get("pretrained_model_name_or_path")
    if isinstance(name, str) and (recipe.folder / name).exists():
        table["pretrained_model_name_or_path"] = str(recipe.folder / name)
    return table


def encode(recipe: Recipe, opened: Opened, rows: Sequence[Row], cache: Path, progress: Any = None) -> EncodedRows:
    """The rows as cached latents and text states."""
    return encode_rows(
        rows,
        opened.task.needs,
        recipe.data.resolution,
        opened.model.codec,
        opened.model.text,
        cache,
        dtype=recipe.data.cache_dtype,
        progress=progress,
        on_bad_row=recipe.data.on_bad_row,
    )


def step_of(recipe: Recipe) -> StepFunction:
    """The step function that [train] names."""
    module, colon, name = recipe.train.step.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise RecipeError(f"train.step: {recipe.train.step!r} is not module:function ({error})") from error
    if not colon:
        raise RecipeError(f"train.step: expected module:function, found {recipe.train.step!r}")
    return function


def check_settings(recipe: Recipe) -> None:
    """RecipeError for a section, of the recipe or of one of its arms, that cannot be built; opens no weights, no rows."""
    from ..metrics.evaluate import build_metrics
    from .editing import metric_tables

    _registered()
    for part in (recipe, *(recipe.arm(name, recipe.seed) for name in recipe.arms)):
        read_blend(part.objectives)
        open_task(part)
        family.build(_model_table(part), "model")
        step_of(part)
    build_metrics(metric_tables(recipe))


def check_recipe(recipe: Recipe) -> list[str]:
    """`check_settings`, and the rows. What is worth saying, a line each."""
    check_settings(recipe)
    job = open_task(recipe)
    rows = open_rows(recipe)
    lines = [f"{len(rows.train)} training rows, {len(rows.test)} held out, {len(rows.skipped)} skipped"]
    lines += [f"skipped: {reason}" for reason in rows.skipped[:20]]
    if recipe.data.on_bad_row == "stop":
        require_columns(job, rows)
    lines += [f"objectives known: {', '.join(sorted(objectives.classes))}"]
    return lines


def require_columns(job: Task, rows: Rows) -> None:
    """DataError if the first rows lack what the task needs; every row is looked at when it is encoded."""
    require([*rows.train[:16], *rows.test[:16]], job.needs.images, job.needs.texts)
