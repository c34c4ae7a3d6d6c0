"""`relatum compare`: every arm for every seed, then one report. What is done is not done again."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from ..core.errors import DataError, RecipeError
from ..core.load import near
from ..core.toml import flattened
from ..engine.journal import environment
from ..engine.match import ClipScorer
from ..engine.train import Result
from ..jobs.asking import ask_all, joined, open_benchmarks
from ..jobs.checking import check_settings
from ..jobs.opening import Sides, device, open_final, open_model, open_task
from ..jobs.suite import Suite, evaluate_made, metric_tables, not_measurable
from ..jobs.suites import open_suite
from ..jobs.training import finished, open_data, run_folder, signature, write_run_card
from ..metrics.evaluate import Evaluation, build_metrics, extractors_of
from ..models.families.stable_diffusion import StableDiffusion
from ..pretrained import open_extractor
from ..recipe import Recipe
from .assemble import assemble
from .curves import history_of
from .divergence import shown_seed
from .monitoring import seen_of
from .outcomes import Outcomes
from .report import write_report
from .trials import asked_of, made_by, run_trials, trial_folder

__all__ = ["check_arms", "compare", "differences_of"]

SHARED = ("seed", "data", "plugins", "evaluate", "match", "compare", "name", "output_dir", "cache_dir")
"""What an arm can never change: it would be another comparison."""

UNTRAINED = "before training"

BUDGET = (
    "sample",
    "rollout.steps",
    "rollout.offset",
    "rollout.noise",
    "train.max_train_steps",
    "train.train_batch_size",
    "train.gradient_accumulation_steps",
    "train.learning_rate",
    "train.lr_scheduler",
    "train.lr_warmup_steps",
    "train.mixed_precision",
)
"""What arms must not differ in unless `compare.may_differ` names it: else their difference is not the objective's."""


@dataclass(frozen=True)
class Trial:
    """One arm trained with one seed. made: what the report shows of its results."""

    result: Result
    evaluation: Evaluation
    made: Tensor


def differences_of(recipe: Recipe, arm: str) -> dict[str, str]:
    """The settings that an arm changes, flat ("train.use_ema": "true"). RecipeError for one of the budget's."""
    said, allowed = flattened(recipe.arms[arm]), recipe.compare.may_differ
    for key in said:
        if any(_within(key, section) for section in SHARED):
            raise RecipeError(f"arms.{arm}.{key}: an arm cannot change it; move it to the base recipe")
        budget = next((b for b in BUDGET if _within(key, b)), None)
        if budget and not any(_within(key, one) for one in allowed):
            raise RecipeError(
                f"arms.{arm}.{key}: arms are compared at equal {budget}; move it to the base recipe, "
                f'or say compare.may_differ = ["{key}"]'
            )
    return {key: json.dumps(value) for key, value in said.items()}


def _within(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def compare(recipe: Recipe, folder: Path | None = None, quiet: bool = False, say: Callable[[str], None] = print) -> Path:
    """Trains, edits, evaluates and reports; gives the path of report.html.

    Arms differ only in what [arms.NAME] says; all see the same rows, noise and levels in the same order, and edit the same held-out
    rows from the same noise. Interrupted, the same command goes on. RecipeError for unequal budgets or fewer than two arms.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise RecipeError(
            "compare runs one process a trial; start it without accelerate launch (compare.workers runs trials side by side)"
        )
    check_settings(recipe)  # of all arms: not only when their turn comes
    baseline, changes = check_arms(recipe)
    order = list(changes)
    folder = folder or run_folder(recipe)
    started = time.perf_counter()
    session = _Session(recipe, folder, quiet, say)
    trials = [(name, seed) for seed in recipe.compare.seeds for name in order]
    divergences = run_trials(recipe, folder, trials, quiet, say)
    session.shown = shown_seed(order, recipe.compare.seeds, divergences)
    lost = {(found.arm, found.seed) for found in divergences}
    for name, seed in (trial for trial in trials if trial not in lost):
        session.trials[name, seed] = session.trial(name, seed)
    say("controls and statistics")
    outcomes = Outcomes(
        recipe=recipe,
        arms=changes,
        evaluations={key: trial.evaluation for key, trial in session.trials.items()},
        results={key: trial.result for key, trial in session.trials.items()},
        made={key: trial.made for key, trial in session.trials.items()},
        controls=session.controls(baseline),
        divergences=divergences,
        suite=session.suite,
        skipped=[*session.data.skipped, *(reason for one in session.asked for reason in one.benchmark.skipped)],
        not_measured=list(session.not_measured.values()),
        environment=environment(),
        seconds=time.perf_counter() - started,
        histories={trial: history_of(trial_folder(folder, *trial)) for trial in trials},
        seen={trial: seen_of(trial_folder(folder, *trial)) for trial in trials},
    )
    report = assemble(outcomes)
    return write_report(report, folder)


def check_arms(recipe: Recipe) -> tuple[str, dict[str, dict[str, str]]]:
    """The baseline's name, and what each arm changes, the baseline first. RecipeError for what cannot be compared."""
    if len(recipe.arms) < 2:
        raise RecipeError("arms: a comparison needs two or more, for example [arms.mse] and [arms.contrast]")
    baseline = recipe.compare.baseline or next(iter(recipe.arms))
    if baseline not in recipe.arms:
        raise RecipeError(f"compare.baseline: no arm {baseline!r}{near(baseline, recipe.arms)}")
    if len(set(recipe.compare.seeds)) < len(recipe.compare.seeds) or not recipe.compare.seeds:
        raise RecipeError(f"compare.seeds: expected different seeds, found {list(recipe.compare.seeds)}")
    for key in recipe.compare.may_differ:
        if not any(_within(key, b) or _within(b, key) for b in BUDGET):
            raise RecipeError(f"compare.may_differ: {key!r} is not part of the budget{near(key, BUDGET)}")
    order = [baseline, *(name for name in recipe.arms if name != baseline)]
    return baseline, {name: differences_of(recipe, name) for name in order}


class _Session:
    """What the trials of one comparison share: encoded data, the suite, extractors."""

    def __init__(self, recipe: Recipe, folder: Path, quiet: bool, say: Callable[[str], None]) -> None:
        self.recipe, self.folder, self.quiet, self.say = recipe, folder, quiet, say
        first = recipe.arm(next(iter(recipe.arms)), recipe.compare.seeds[0])
        self.data: Sides = open_data(first, open_model(first))
        self._same_rows(first)
        self.suite: Suite = open_suite(recipe, open_task(first), self.data.rows.test, self.data.test)
        self.extractors = extractors_of(build_metrics(metric_tables(recipe)), str(device()))
        headline = recipe.compare.headline
        if problem := not_measurable(recipe, self.suite).get(headline.split(".")[0]):
            raise RecipeError(f"compare.headline: {problem}; choose a metric that these rows allow")
        self.asked = open_benchmarks(recipe)
        self.trials: dict[tuple[str, int], Trial] = {}
        self.shown = recipe.compare.seeds[0]
        self.not_measured: dict[str, str] = {}

    def _same_rows(self, first: Recipe) -> None:
        """DataError unless every arm can read the rows that the first reads: else one would be trained on fewer."""
        seen = [(first.task, first.model)]
        for name in self.recipe.arms:
            arm = self.recipe.arm(name, first.seed)
            if (arm.task, arm.model) in seen:
                continue
            seen.append((arm.task, arm.model))
            data = open_data(arm, open_model(arm))
            for side in ("train", "test"):
                ours, theirs = (set(getattr(d, side).ids) for d in (self.data, data))
                if ours != theirs:
                    lost = sorted(ours ^ theirs)
                    raise DataError(
                        f"arms.{name}: {len(lost)} rows of data.{side} can be read by some arms only, first {lost[0]!r}; "
                        "leave those rows out, so that all arms see the same"
                    )

    def trial(self, name: str, seed: int) -> Trial:
        """What a finished trial makes of the suite, and the metrics of it."""
        recipe, folder = self.recipe.arm(name, seed), trial_folder(self.folder, name, seed)
        result = finished(folder, signature(recipe))
        made = made_by(recipe, folder, self.suite)
        evaluation = joined(self._evaluate(made), asked_of(recipe, folder, self.asked))
        write_run_card(recipe, folder, result, evaluation.estimates)
        shown = self.recipe.compare.grid_rows if seed == self.shown else 0
        return Trial(result, evaluation, made[:shown].clone())

    def controls(self, baseline: str) -> dict[str, Evaluation]:
        """Results that no arm made, measured alike: what copying, guessing and a perfect model behind this codec would get.

        Guessing is the baseline's; where that diverged with every seed, there is none.
        """
        seed = next((seed for name, seed in self.trials if name == baseline), None)
        first = self.recipe.arm(baseline, self.recipe.compare.seeds[0] if seed is None else seed)
        if seed is None:
            made = self.suite.controls(open_model(first).model.codec)
        else:
            folder = trial_folder(self.folder, baseline, seed)
            made = self.suite.controls(open_final(folder, first)[0].codec)
            made[self.suite.guessing] = made_by(first, folder, self.suite, shuffled=True)
        found = {name: self._evaluate(results) for name, results in made.items()}
        return found | self._untrained(first) if self.asked else found

    def _untrained(self, first: Recipe) -> dict[str, Evaluation]:
        """The base as it was before any training, and what a CLIP makes of the same questions."""
        model = open_model(first).model
        found: dict[str, Evaluation] = {}
        if isinstance(model, StableDiffusion) and not model.widened:
            made = self.suite.made(model, open_task(first), first, self.folder / "made")
            found[UNTRAINED] = joined(self._evaluate(made), ask_all(first, model, self.asked, self.folder / "made"))
        clip = ClipScorer(open_extractor(first.evaluate.clip, str(device())))
        return found | {"CLIP": ask_all(first, clip, self.asked, self.folder / "made")}

    def _evaluate(self, made: Tensor) -> Evaluation:
        evaluation, lacking = evaluate_made(self.recipe, self.suite, made, self.extractors)
        self.not_measured.update(lacking)
        return evaluation
