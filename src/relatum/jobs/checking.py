"""Whether a recipe can be run at all: every section is built, what does not go together is refused before anything is opened."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..core.errors import RecipeError
from ..core.load import near
from ..core.registry import family
from ..core.registry import objective as objectives
from ..engine.sample_svd import Animating
from ..models.schedulers import check_sampler
from ..objectives.blend import read_blend
from ..recipe import Recipe
from ..tasks.animation import Animation
from ..tasks.frames import Frames
from .asking import asked_metrics, open_benchmarks
from .opening import model_table, open_rows, open_task, register_all, require_columns, step_of
from .pretraining import ENCODERS

__all__ = ["check_recipe", "check_settings"]


def check_settings(recipe: Recipe) -> None:
    """RecipeError for a section, of the recipe or of one of its arms, that cannot be built; opens no weights, no rows."""
    from ..metrics.evaluate import build_metrics
    from .suite import metric_tables

    register_all()
    for part in (recipe, *(recipe.arm(name, recipe.seed) for name in recipe.arms)):
        read_blend(part.objectives)
        open_task(part)
        family.build(model_table(part), "model")
        step_of(part)
        _check_frames(part)
        if isinstance(open_task(part), Animation):
            Animating.of(part.sample)
        check_sampler(part.sample.scheduler, part.sample.scheduler_options, part.sample.num_inference_steps)
    _check_terms(recipe)
    _check_match(recipe)
    metrics = build_metrics(metric_tables(recipe))
    for name in {*recipe.evaluate.settings} - {*recipe.evaluate.metrics}:
        raise RecipeError(f"evaluate.settings.{name}: not among evaluate.metrics{near(name, recipe.evaluate.metrics)}")
    if recipe.arms and open_task(recipe).needs.looks:
        raise RecipeError("arms: no suite judges clips that are made of a picture alone; train each, and look: relatum animate")
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
    from ..metrics.sets import Sets

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
    sets = isinstance(chosen, Sets) and type(chosen).statistic is not Sets.statistic
    if not sets and not isinstance(chosen, MeanMetric):
        raise RecipeError(
            f"compare.headline: {recipe.compare.headline!r} has no interval over rows, so it decides nothing; "
            "choose a metric of single rows, fd or kd"
        )


def _check_match(recipe: Recipe) -> None:
    """RecipeError for benchmarks that cannot be built, or that this model could not be asked."""
    known = {"fd", "kd", *recipe.evaluate.metrics}
    for name in recipe.match.benchmarks:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,60}", name):
            raise RecipeError(f"match.benchmarks: {ascii(name)[:80]} cannot name one; take letters, digits, - and _")
        if name in known:
            raise RecipeError(f"match.benchmarks.{name}: a metric has this name; choose another")
    asked_metrics(recipe)
    if not recipe.match.benchmarks:
        return
    if recipe.model.get("kind") in ENCODERS:
        raise RecipeError(f"match.benchmarks: kind {recipe.model['kind']!r} is no text-to-image model; leave them out")
    for part in (recipe, *(recipe.arm(name, recipe.seed) for name in recipe.arms)):
        job = open_task(part)
        if job.images or job.features:
            raise RecipeError(
                f"match.benchmarks: they take a text-to-image model, but task is {part.task.get('kind')!r}; leave them out"
            )


def _check_terms(recipe: Recipe) -> None:
    """RecipeError for a term that compares with what the task does not offer, or that this batch cannot hold."""
    for part in (recipe, *(recipe.arm(name, recipe.seed) for name in recipe.arms)):
        job, batch = open_task(part), part.train.train_batch_size
        given = part.data.negatives.count if part.data.negatives else None
        if given is not None and getattr(job, "negatives", 0) > given:
            raise RecipeError(f"task.negatives is {job.negatives}, but data.negatives.count makes {given}; raise it")  # type: ignore[attr-defined]
        for name, term in read_blend(part.objectives).terms.items():
            for anchor in getattr(term.objective, "anchors_needed", ()):
                if anchor not in job.needs.images:
                    raise RecipeError(
                        f"objectives.{name}: needs anchor {anchor!r}, but task {part.task.get('kind')!r} has {job.needs.images}"
                    )
            if getattr(term.objective, "needs_clips", False) and not job.needs.clips:
                raise RecipeError(f"objectives.{name}: compares frames of clips, but task {part.task.get('kind')!r} has none")
            if getattr(term.objective, "same_picture", False) and getattr(job, "negative_image", 0):
                raise RecipeError(f"objectives.{name}: compares captions of one picture; set task.negative_image = 0")
            if (check := getattr(term.objective, "check_batch", None)) is not None:
                check(batch, f"objectives.{name}")
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
    lines += _cautions(recipe)
    for one in open_benchmarks(recipe):
        lines.append(f"benchmark {one.name}: {len(one.items)} items, {len(one.benchmark.skipped)} skipped")
        lines += [f"skipped: {reason}" for reason in one.benchmark.skipped[:5]]
    lines += [f"objectives known: {', '.join(sorted(objectives.classes))}"]
    return lines


def _cautions(recipe: Recipe) -> list[str]:
    """What the objectives and models of the recipe, or of its arms, say of themselves."""
    parts = [(f"arms.{name}.", recipe.arm(name, recipe.seed)) for name in recipe.arms] or [("", recipe)]
    terms = [
        (f"{where}objectives.{name}", t.objective) for where, part in parts for name, t in read_blend(part.objectives).terms.items()
    ]
    models: list[tuple[str, Any]] = [(where, family.build(model_table(part), "model")) for where, part in parts]
    notes = [f"{where}{note}" for where, model in models for note in getattr(model, "notes", list)()]
    return [f"{where}: {caution}" for where, judge in terms if (caution := getattr(judge, "caution", ""))] + notes
