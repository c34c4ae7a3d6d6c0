"""From a recipe's tables to rows, models and batches."""

from __future__ import annotations

import copy
import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.load import near
from ..core.registry import family, reader, task
from ..core.registry import objective as objectives
from ..data.columns import require
from ..data.negatives.rows import with_negatives
from ..data.others import with_random_texts
from ..data.rows import Row
from ..data.splits import split
from ..engine.cache import encode_rows
from ..engine.encoded import EncodedRows
from ..engine.step import DiffusionParts, StepFunction
from ..models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from ..models.schedulers import check_sampler
from ..models.trainable import Trained
from ..objectives.blend import Blend, read_blend
from ..recipe import Recipe
from ..tasks.base import Task
from ..tasks.frames import Frames

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
    for name in (
        "data",
        "objectives",
        "tasks",
        "metrics",
        "models.families.settings",
        "models.families.fresh",
        "models.families.tuned",
    ):
        importlib.import_module(f"relatum.{name}")


def open_rows(recipe: Recipe) -> Rows:
    """Both sides of the data, with the wrong captions and pictures that recipe and task want. DataError for an empty side."""
    rows = _listed(recipe)
    if recipe.data.negatives is not None:
        train, test = (with_negatives(side, recipe.data.negatives) for side in (rows.train, rows.test))
        rows = Rows(train.rows, test.rows, [*rows.skipped, *train.skipped, *test.skipped])
        if not train.rows or not test.rows:
            raise DataError(f"data.negatives: no row of one side has a wrong caption; the first: {rows.skipped[-1]}")
    if "random" not in open_task(recipe).needs.texts:
        return rows
    return Rows(with_random_texts(rows.train), with_random_texts(rows.test), rows.skipped)


def _listed(recipe: Recipe) -> Rows:
    """Both sides as they are read; a split by group where the recipe names no test reader."""
    _registered()
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
    _registered()
    return task.build(recipe.task, "task")


def open_model(recipe: Recipe) -> Opened:
    """The checkpoint with its trainable part, its task and its objectives."""
    _registered()
    job = open_task(recipe)
    blend = read_blend(recipe.objectives)
    settings: Any = family.build(_model_table(recipe), "model")
    if not hasattr(settings, "open"):
        raise RecipeError(f"model: kind {recipe.model['kind']!r} trains an encoder of a base; only relatum train takes it")
    model, trained = settings.open(job.images, job.features, key_of(recipe.seed, "adapters"))
    if model.correction is not None and any(hasattr(term.objective, "correction") for term in blend.terms.values()):
        raise RecipeError(
            f"objectives: {model.origin.path} was trained with delta_fm and is corrected for it already; start from its base"
        )
    model.to(device())
    if recipe.train.gradient_checkpointing:
        model.unet.enable_gradient_checkpointing()  # type: ignore[operator]
    compared = trained.without_adapters is None and any(ask.model == "reference" for ask in blend.asks)
    frozen = copy.deepcopy(model.unet).eval().requires_grad_(False) if compared else None  # LoRA needs none: adapters off
    denoiser = model.denoiser(trained.without_adapters, frozen)
    denoiser.learned = blend.learned().to(device())
    return Opened(model, trained, job, blend, DiffusionParts(denoiser, model.kind, model.path, job, blend, model.codec))


def open_final(folder: Path, recipe: Recipe) -> tuple[StableDiffusion, Task]:
    """The finished model of a run folder, for sampling: no objectives, nothing trainable."""
    job = open_task(recipe)
    final = folder / "final"
    if not final.is_dir():
        raise DataError(f"{folder} holds no finished run; run: relatum train")
    return open_stable_diffusion(str(final.resolve()), job.images, features=job.features).to(device()), job


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


def encode(
    recipe: Recipe, job: Task, model: StableDiffusion, rows: Sequence[Row], cache: Path, progress: Any = None
) -> EncodedRows:
    """The rows as cached latents and text states."""
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


def check_settings(recipe: Recipe) -> None:
    """RecipeError for a section, of the recipe or of one of its arms, that cannot be built; opens no weights, no rows."""
    from ..metrics.evaluate import build_metrics
    from .suite import metric_tables

    _registered()
    for part in (recipe, *(recipe.arm(name, recipe.seed) for name in recipe.arms)):
        read_blend(part.objectives)
        open_task(part)
        family.build(_model_table(part), "model")
        step_of(part)
        _check_frames(part)
        check_sampler(part.sample.scheduler, part.sample.scheduler_options, part.sample.num_inference_steps)
    _check_anchors(recipe)
    metrics = build_metrics(metric_tables(recipe))
    for name in {*recipe.evaluate.settings} - {*recipe.evaluate.metrics}:
        raise RecipeError(f"evaluate.settings.{name}: not among evaluate.metrics{near(name, recipe.evaluate.metrics)}")
    if recipe.arms:
        _check_judged(recipe, metrics)
    if recipe.evaluate.safety_checker and "safety_rate" not in metrics:
        raise RecipeError('evaluate.safety_checker: nothing uses it; add "safety_rate" to evaluate.metrics')


def _check_frames(recipe: Recipe) -> None:
    """RecipeError for settings of rollouts that would be ignored, or that the task's noise does not allow."""
    job, own = open_task(recipe), recipe.train.step.endswith(":own_frames_step")
    if not isinstance(job, Frames):
        return
    job.sampling_levels(recipe.rollout.given_noise, 1)
    if recipe.rollout.offset is not None and not job.time_offset:
        raise RecipeError("rollout.offset: the network is not told it; set task.time_offset = true, or leave it out")
    if recipe.evaluate.step > recipe.rollout.steps:
        raise RecipeError(f"evaluate.step is {recipe.evaluate.step}, but rollouts have {recipe.rollout.steps} steps")
    if bool(job.own_frames) != own:
        step = "relatum.engine.own_frames:own_frames_step"
        raise RecipeError(f'task.own_frames is {job.own_frames} and train.step is {recipe.train.step!r}; it takes step = "{step}"')


def _check_judged(recipe: Recipe, metrics: Mapping[str, Any]) -> None:
    """RecipeError for a headline, or a smallest effect, of a number that is not measured or has no better side or spread."""
    from ..metrics.base import MeanMetric
    from ..metrics.sets import FeatureSets
    from .asking import asked_metrics

    asked = asked_metrics(recipe)
    for name in (recipe.compare.headline, *recipe.compare.smallest_effect):
        root, dot, what = name.partition(".")
        if name in asked:
            continue
        if root not in metrics:
            words = "is not among evaluate.metrics" + (", nor asked by match.benchmarks" if asked else "")
            raise RecipeError(f"compare: {name!r} {words}{near(name, [*metrics, *asked])}")
        judged = getattr(metrics[root], "also_better", {})
        if dot and what not in judged:
            able = ", ".join((root, *(f"{root}.{one}" for one in judged)))
            raise RecipeError(f"compare: arms cannot be judged by {name!r}; they can by {able}")
    if recipe.compare.headline in asked:
        return
    chosen = metrics[recipe.compare.headline.partition(".")[0]]
    sets = isinstance(chosen, FeatureSets) and type(chosen).statistic is not FeatureSets.statistic
    if not sets and not isinstance(chosen, MeanMetric):
        raise RecipeError(
            f"compare.headline: {recipe.compare.headline!r} has no interval over rows, so it decides nothing; "
            "choose a metric of single rows, fd or kd"
        )


def _check_anchors(recipe: Recipe) -> None:
    """RecipeError for a term that compares with what the task does not offer."""
    for part in (recipe, *(recipe.arm(name, recipe.seed) for name in recipe.arms)):
        job = open_task(part)
        for name, term in read_blend(part.objectives).terms.items():
            for anchor in getattr(term.objective, "anchors_needed", ()):
                if anchor not in job.needs.images:
                    raise RecipeError(
                        f"objectives.{name}: needs anchor {anchor!r}, but task {part.task.get('kind')!r} has {job.needs.images}"
                    )
            for ask in term.objective.asks:
                if ask.view not in job.views:
                    hint = "; set task.negatives" if ask.view.startswith("negative") and hasattr(job, "negatives") else ""
                    words = f"asks for view {ask.view!r}, but task {part.task.get('kind')!r} offers {', '.join(job.views)}{hint}"
                    raise RecipeError(f"objectives.{name}: {words}")


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
