"""The trials of a comparison: one after the other, or side by side in processes that share the cores."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..jobs.opening import encode, open_final, open_model, open_task
from ..jobs.suite import Suite
from ..jobs.suites import open_suite
from ..jobs.training import cache_folder, is_finished, open_data, train_recipe
from ..recipe import Recipe, recipe_from

__all__ = ["made_by", "run_trials", "trial_folder"]

Trial = tuple[str, int]


def trial_folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / "arms" / arm / f"seed-{seed}"


def run_trials(recipe: Recipe, folder: Path, trials: Sequence[Trial], quiet: bool, say: Callable[[str], None]) -> None:
    """Trains every (arm, seed) that is not finished; what a trial raises ends the comparison, and the same command goes on."""
    words = {trial: f"arm {trial[0]}, seed {trial[1]} ({i} of {len(trials)})" for i, trial in enumerate(trials, 1)}
    if recipe.compare.workers == 1:
        first = recipe.arm(*trials[0])
        data = open_data(first, open_model(first))
        for name, seed in trials:
            say(words[name, seed])
            arm = recipe.arm(name, seed)
            shared = data if (arm.task, _encoders(arm)) == (first.task, _encoders(first)) else None
            train_recipe(arm, trial_folder(folder, name, seed), shared, quiet)
        return
    threads = max(1, (os.cpu_count() or 1) // recipe.compare.workers)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(recipe.compare.workers, context, _begin, (threads, os.getpid())) as pool:
        table, place = recipe.table(), str(recipe.folder)
        todo = [t for t in trials if not is_finished(trial_folder(folder, *t))]
        running = {t: pool.submit(_train, table, place, str(trial_folder(folder, *t)), *t) for t in todo}
        try:
            for trial, future in running.items():
                future.result()
                say(f"trained {words[trial]}")
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
    encoded = encode(recipe, task, model, suite.rows, cache_folder(recipe))
    return dataclasses.replace(suite, encoded=encoded).made(model, task, recipe, folder / "made", shuffled)


def _train(table: dict[str, Any], place: str, folder: str, name: str, seed: int) -> None:
    """One trial with what it makes of the suite, in a process of its own."""
    recipe = recipe_from(table, Path(place)).arm(name, seed)
    data = open_data(recipe, open_model(recipe))
    train_recipe(recipe, Path(folder), data, quiet=True)
    made_by(recipe, Path(folder), open_suite(recipe, open_task(recipe), data.rows.test, data.test))
