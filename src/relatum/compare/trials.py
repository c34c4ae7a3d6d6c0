"""The trials of a comparison: one after the other, or side by side in processes that share the cores."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import make_folder, needs_disk, temporary
from ..core.errors import Diverged
from ..data.others import with_random_texts
from ..jobs.asking import Asked, ask_all, open_benchmarks
from ..jobs.opening import encode, open_final, open_model, open_task
from ..jobs.suite import Suite
from ..jobs.suites import open_suite
from ..jobs.training import cache_folder, is_finished, open_data, signature, train_recipe
from ..metrics.evaluate import Evaluation
from ..recipe import Recipe, recipe_from
from .divergence import Divergence, divergence_of, write_divergence

__all__ = ["asked_of", "made_by", "run_trials", "trial_folder"]

Trial = tuple[str, int]


def trial_folder(folder: Path, arm: str, seed: int) -> Path:
    return folder / "arms" / arm / f"seed-{seed}"


def run_trials(recipe: Recipe, folder: Path, trials: Sequence[Trial], quiet: bool, say: Callable[[str], None]) -> list[Divergence]:
    """Trains every (arm, seed) that has not ended; gives those that diverged, which is an end like any other.

    What else a trial raises ends the comparison; the same command goes on. Arms that differ in inference alone are trained once.
    """
    words = {trial: f"arm {trial[0]}, seed {trial[1]} ({i} of {len(trials)})" for i, trial in enumerate(trials, 1)}
    signatures = {trial: signature(recipe.arm(*trial)) for trial in trials}
    same = _originals(signatures)

    def diverged(trial: Trial) -> Divergence | None:
        return divergence_of(trial_folder(folder, *trial), *trial, signatures[trial], folder)

    def ended(trial: Trial) -> bool:
        return is_finished(trial_folder(folder, *trial)) or diverged(trial) is not None

    def end(trial: Trial, trained: str = "") -> None:
        found = diverged(trial)
        if found is not None:
            at = "" if found.update is None else f" at update {found.update}"
            say(f"{words[trial]}: diverged{at}; the other trials go on")
        elif trained:
            say(f"{trained} {words[trial]}")

    todo = [trial for trial in trials if trial not in same and not ended(trial)]
    if recipe.compare.workers == 1:
        _in_turn(recipe, folder, todo, quiet, lambda trial: say(words[trial]), end)
    else:
        _side_by_side(recipe, folder, todo, lambda trial: end(trial, "trained"))
    for trial, original in same.items():
        if not ended(trial):
            _copy(trial_folder(folder, *original), trial_folder(folder, *trial))
            say(f"{words[trial]}: trained as arm {original[0]}")
    finished = [trial for trial in trials if is_finished(trial_folder(folder, *trial))]
    return [found for trial in trials if trial not in finished and (found := diverged(trial)) is not None]


def _originals(signatures: Mapping[Trial, str]) -> dict[Trial, Trial]:
    """For each trial that an earlier one is trained like, that one."""
    first: dict[str, Trial] = {}
    same: dict[Trial, Trial] = {}
    for trial, mine in signatures.items():
        original = first.setdefault(mine, trial)
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


def _in_turn(
    recipe: Recipe, folder: Path, todo: Sequence[Trial], quiet: bool, begin: Callable[[Trial], None], end: Callable[[Trial], None]
) -> None:
    if not todo:
        return
    first = recipe.arm(*todo[0])
    data = open_data(first, open_model(first))
    for trial in todo:
        begin(trial)
        arm = recipe.arm(*trial)
        shared = data if (arm.task, _encoders(arm)) == (first.task, _encoders(first)) else None
        _trained(arm, trial_folder(folder, *trial), shared, quiet)
        end(trial)


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


def _trained(recipe: Recipe, folder: Path, data: Any, quiet: bool) -> bool:
    """Whether the trial's training came to its end; where it diverged, its folder says so."""
    try:
        train_recipe(recipe, folder, data, quiet)
    except Diverged as error:
        write_divergence(folder, error, signature(recipe))
        return False
    return True


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
    if not _trained(recipe, Path(folder), data, quiet=True):
        return
    made_by(recipe, Path(folder), open_suite(recipe, open_task(recipe), data.rows.test, data.test))
    asked_of(recipe, Path(folder), open_benchmarks(recipe))
