"""The trials of a comparison: one after the other, or side by side in processes that share the cores."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import make_folder, needs_disk, temporary
from ..data.others import with_random_texts
from ..jobs.asking import Asked, ask_all, open_benchmarks
from ..jobs.opening import encode, open_final, open_model, open_task
from ..jobs.suite import Suite
from ..jobs.suites import open_suite
from ..jobs.training import cache_folder, is_finished, open_data, signature, train_recipe
from ..metrics.evaluate import Evaluation
from ..recipe import Recipe, recipe_from

__all__ = ["asked_of", "made_by", "run_trials", "trial_folder"]

Trial = tuple[str, int]


def trial_folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / "arms" / arm / f"seed-{seed}"


def run_trials(recipe: Recipe, folder: Path, trials: Sequence[Trial], quiet: bool, say: Callable[[str], None]) -> None:
    """Trains every (arm, seed) that is not finished; what a trial raises ends the comparison, and the same command goes on.

    Arms that differ in inference alone are trained once.
    """
    words = {trial: f"arm {trial[0]}, seed {trial[1]} ({i} of {len(trials)})" for i, trial in enumerate(trials, 1)}
    same = _originals(recipe, trials)
    todo = [trial for trial in trials if trial not in same and not is_finished(trial_folder(folder, *trial))]
    if recipe.compare.workers == 1:
        _in_turn(recipe, folder, todo, quiet, lambda trial: say(words[trial]))
    else:
        _side_by_side(recipe, folder, todo, lambda trial: say(f"trained {words[trial]}"))
    for trial, original in same.items():
        if not is_finished(trial_folder(folder, *trial)):
            _copy(trial_folder(folder, *original), trial_folder(folder, *trial))
            say(f"{words[trial]}: trained as arm {original[0]}")


def _originals(recipe: Recipe, trials: Sequence[Trial]) -> dict[Trial, Trial]:
    """For each trial that an earlier one is trained like, that one."""
    first: dict[str, Trial] = {}
    same: dict[Trial, Trial] = {}
    for trial in trials:
        original = first.setdefault(signature(recipe.arm(*trial)), trial)
        if original != trial:
            same[trial] = original
    return same


def _copy(source: Path, target: Path) -> None:
    """A finished run without its checkpoints and what was made with it; whole or absent."""
    beside = temporary(target)
    shutil.rmtree(beside, ignore_errors=True)
    make_folder(target.parent)
    with needs_disk(target.parent):
        shutil.copytree(source, beside, ignore=shutil.ignore_patterns("made", "checkpoints", ".*"))
        shutil.rmtree(target, ignore_errors=True)  # of a run of the same settings that was not finished
        beside.rename(target)


def _in_turn(recipe: Recipe, folder: Path, todo: Sequence[Trial], quiet: bool, begin: Callable[[Trial], None]) -> None:
    if not todo:
        return
    first = recipe.arm(*todo[0])
    data = open_data(first, open_model(first))
    for trial in todo:
        begin(trial)
        arm = recipe.arm(*trial)
        shared = data if (arm.task, _encoders(arm)) == (first.task, _encoders(first)) else None
        train_recipe(arm, trial_folder(folder, *trial), shared, quiet)


def _side_by_side(recipe: Recipe, folder: Path, todo: Sequence[Trial], end: Callable[[Trial], None]) -> None:
    threads = max(1, (os.cpu_count() or 1) // recipe.compare.workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(recipe.compare.workers, context, _begin, (threads, os.getpid())) as pool:
        table, place = recipe.table(), str(recipe.folder)
        running = {t: pool.submit(_train, table, place, str(trial_folder(folder, *t)), *t) for t in todo}
        try:
            for trial, future in running.items():
                future.result()
                end(trial)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _encoders(recipe: Recipe) -> dict[str, Any]:
    """What of [model] decides the encoders."""
    return {key: value for key, value in recipe.model.items() if key != "train"}


def _begin(threads: int, parent: int) -> None:
    """A worker's start: its share of the cores, and a watch that asks it to stop, with a checkpoint, once its parent is gone."""
    torch.set_num_threads(threads)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def made_by(recipe: Recipe, folder: Path, suite: Suite, shuffled: bool = False) -> Tensor:
    """The suite through a trial's finished model, encoded by that model's own encoders; made once and then read from disk."""
    model, task = open_final(folder, recipe)
    rows = with_random_texts(suite.rows) if "random" in task.needs.texts else suite.rows
    encoded = encode(recipe, task, model, rows, cache_folder(recipe))
    return dataclasses.replace(suite, encoded=encoded).made(model, task, recipe, folder / "made", shuffled)


def asked_of(recipe: Recipe, folder: Path, asked: Sequence[Asked]) -> Evaluation:
    """A trial's answers to the benchmarks; asked once and then read from disk."""
    if not asked:
        return Evaluation({}, {}, {}, {}, {})
    return ask_all(recipe, open_final(folder, recipe)[0], asked, folder / "made")


def _train(table: dict[str, Any], place: str, folder: str, name: str, seed: int) -> None:
    """One trial with what it makes of the suite, in a process of its own."""
    recipe = recipe_from(table, Path(place)).arm(name, seed)
    data = open_data(recipe, open_model(recipe))
    train_recipe(recipe, Path(folder), data, quiet=True)
    made_by(recipe, Path(folder), open_suite(recipe, open_task(recipe), data.rows.test, data.test))
    asked_of(recipe, Path(folder), open_benchmarks(recipe))
