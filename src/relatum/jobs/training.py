"""`relatum train`: a recipe in, a run folder out."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from ..atomic import make_folder, write_text
from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.load import load
from ..core.toml import digest
from ..engine.card import Card, CardMetric, write_card
from ..engine.checkpoint import latest, read_state
from ..engine.journal import write_environment
from ..engine.lock import locked
from ..engine.snapshot import require_finite
from ..engine.train import Job, Result, train
from ..models.correction import Correction
from ..models.families.stable_diffusion import StableDiffusion
from ..models.trainable import save_lora
from ..recipe import Recipe
from .asking import add_answers, ask_all, open_benchmarks
from .checking import check_settings
from .opening import Model, Opened, Sides, encode, open_model, open_rows, open_task, require_columns, step_of
from .pretraining import ENCODERS, encoder_job
from .showing import show_run

__all__ = [
    "cache_folder",
    "finished",
    "is_finished",
    "open_data",
    "run_folder",
    "signature",
    "train_recipe",
    "write_run_card",
]

DONE = "done.json"


def run_folder(recipe: Recipe) -> Path:
    """Where a run goes: `output_dir`, else runs/NAME under the working directory."""
    return Path(recipe.output_dir) if recipe.output_dir else Path("runs") / recipe.name


def cache_folder(recipe: Recipe) -> Path:
    return Path(recipe.cache_dir) if recipe.cache_dir else Path("runs") / "cache"


def signature(recipe: Recipe) -> str:
    """Hash of every setting that the weights depend on; two runs of one signature end in the same weights on a CPU."""
    table = recipe.table()
    free = {"checkpoints_total_limit", "validation_steps", "validation_rows", "sample_rows", "logging_steps", "balance_steps"}
    free |= {"monitor_steps", "monitor_attention", "report_to"}
    free |= set() if "rollback" in recipe.train.undoes else {"checkpointing_steps"}  # a rollback goes to one
    steps = {k: v for k, v in table["train"].items() if k not in free}
    plugins = [(recipe.folder / plugin).read_text(encoding="utf-8") for plugin in recipe.plugins]
    return digest({**{k: table[k] for k in ("data", "model", "task", "objectives", "seed")}, "train": steps, "plugins": plugins})


def open_data(recipe: Recipe, opened: Opened, progress: Any = None) -> Sides:
    """Reads and encodes both sides; what is cached already costs a hash a row."""
    rows = open_rows(recipe)
    if recipe.data.on_bad_row == "stop":
        require_columns(opened.task, rows)
    cache = cache_folder(recipe)
    return Sides(rows, *(encode(recipe, opened.task, opened.model, side, cache, progress) for side in (rows.train, rows.test)))


def train_recipe(recipe: Recipe, folder: Path | None = None, data: Sides | None = None, quiet: bool = False) -> Result:
    """Trains, resumes, or finds finished what the recipe says. RecipeError where the folder holds a run of other settings.

    DataError where another process trains in the folder; Diverged where the weights are not finite: then there is no `final`.
    """
    folder = folder or run_folder(recipe)
    check_settings(recipe)
    mine = signature(recipe)
    if is_finished(folder):
        return finished(folder, mine)
    with _alone(folder):
        return _train(recipe, folder, data, mine, quiet)


def _train(recipe: Recipe, folder: Path, data: Sides | None, mine: str, quiet: bool) -> Result:
    begun = latest(folder)
    if begun is not None and read_state(begun).recipe_hash != mine:  # before the folder's recipe is written over
        raise RecipeError(f"{begun} was written with other settings; give another output_dir, or delete the folder to start again")
    torch.manual_seed(key_of(recipe.seed, "init"))
    if recipe.model.get("kind") in ENCODERS:
        rows = open_rows(recipe)
        job = encoder_job(recipe, open_task(recipe), rows.train, rows.test, step_of(recipe), folder, mine)
    else:
        job = _diffusion_job(recipe, folder, data, mine, quiet)
    if _first_process():
        _write_head(recipe, folder)
    result = train(dataclasses.replace(job, save=_finite(job.parts.network, job.save)))
    if _first_process():
        write_run_card(recipe, folder, result)
        write_text(folder / DONE, json.dumps({**dataclasses.asdict(result), "signature": mine}, indent=2) + "\n")
    return result


def _diffusion_job(recipe: Recipe, folder: Path, data: Sides | None, mine: str, quiet: bool) -> Job:
    opened = open_model(recipe)
    shared = data or open_data(recipe, opened)
    if shared.skipped and not quiet:
        print(f"{len(shared.skipped)} rows skipped; the first: {shared.skipped[0]}", file=sys.stderr)  # noqa: T201

    asked = open_benchmarks(recipe, recipe.match.watch, recipe.match.watch_items)

    def show(what: str, step: int) -> None:
        with _as_saved(opened) as saved:
            show_run(recipe, saved, shared, folder, what, step)
            if what == "samples" and asked and isinstance(saved.model, StableDiffusion):
                add_answers(folder, step, ask_all(recipe, saved.model, asked))

    def save(place: Path) -> None:
        corrected(opened).save_pipeline(place)
        if opened.trained.without_adapters is not None:
            save_lora(opened.model.unet, place)

    return Job(
        parts=opened.parts,
        step=step_of(recipe),
        rows=shared.train,
        held_out=shared.test,
        settings=recipe.train,
        seed=recipe.seed,
        folder=folder,
        save=save,
        signature=mine,
        levels=opened.parts.path.bins,
        show=show,
        quiet=quiet,
    )


def corrected(opened: Opened) -> Model:
    """The model with the correction that its objectives ask for, to be saved with it; it is not attached."""
    terms = [term.objective for term in opened.blend.terms.values() if hasattr(term.objective, "correction")]
    found = [one for term in terms if (one := term.correction()) is not None]  # type: ignore[attr-defined]
    if not found or not isinstance(opened.model, StableDiffusion):
        return opened.model
    return dataclasses.replace(opened.model, correction=Correction(*found[0]))


@contextmanager
def _as_saved(opened: Opened) -> Iterator[Opened]:
    """The model as its finished form will answer: corrected."""
    model = corrected(opened)
    fresh = model.correction is not opened.model.correction
    if model.correction is None or not fresh or not isinstance(model, StableDiffusion):
        yield opened
        return
    handle = model.correction.attach(model.unet, model.kind, model.path)
    try:
        yield dataclasses.replace(opened, model=model)
    finally:
        handle.remove()


def _finite(network: torch.nn.Module, save: Callable[[Path], None]) -> Callable[[Path], None]:
    """`save`, refused where a weight is not finite."""

    def checked(place: Path) -> None:
        require_finite(network, str(place))
        save(place)

    return checked


def _alone(folder: Path) -> AbstractContextManager[None]:
    return locked(folder) if _first_process() else nullcontext()  # the others belong to the first


def _first_process() -> bool:
    return int(os.environ.get("RANK", "0")) == 0  # the process group may not be up yet, or be gone


def is_finished(folder: Path) -> bool:
    """Whether a run ended here, with whatever settings; `finished` checks those."""
    return (folder / DONE).is_file() and (folder / "final").is_dir()


def finished(folder: Path, signature: str) -> Result:
    """How the finished run in this folder ended; DataError where there is none, RecipeError where it had other settings."""
    done = folder / DONE
    try:
        table = json.loads(done.read_text(encoding="utf-8"))
        if not isinstance(table, dict) or "signature" not in table:
            raise ValueError("it has no signature")
        theirs = table.pop("signature")
        result = load(Result, table, "")
    except FileNotFoundError:
        raise DataError(f"{folder}: no finished run ({DONE} is missing); run relatum train") from None
    except (OSError, ValueError, RecursionError) as error:
        words = f"delete {done}; relatum train then goes on from its last checkpoint"
        raise DataError(f"{done}: not the end of a run ({error}); {words}") from error
    if theirs != signature:
        raise RecipeError(f"{folder} holds a finished run of other settings; give another output_dir or delete it")
    return result


def write_run_card(recipe: Recipe, folder: Path, result: Result, metrics: Mapping[str, Any] | None = None) -> None:
    """README.md of the run folder; metrics: estimates by name."""
    table = recipe.table()
    rows = [
        CardMetric(
            name,
            e.value,
            None if e.stderr is None else e.value - 1.96 * e.stderr,
            None if e.stderr is None else e.value + 1.96 * e.stderr,
            e.n,
        )
        for name, e in (metrics or {}).items()
    ]
    card = Card(
        name=recipe.name,
        task=str(recipe.task.get("kind")),
        base_model=str(recipe.model.get("pretrained_model_name_or_path", recipe.model.get("kind"))),
        data=json.dumps({k: v for k, v in recipe.data.train.items() if k not in ("path", "paths")}),
        objectives=table["objectives"],
        settings=table["train"],
        metrics=rows,
        warnings=result.warnings,
        samples_seen=result.samples_seen,
    )
    write_card(folder, card)


def _write_head(recipe: Recipe, folder: Path) -> None:
    """What a run folder says before its first step."""
    import tomli_w

    make_folder(folder)
    resolved = {**recipe.table(), "plugins": [str((recipe.folder / plugin).resolve()) for plugin in recipe.plugins]}
    write_text(folder / "recipe.resolved.toml", tomli_w.dumps(resolved))
    if recipe.source:
        write_text(folder / "recipe.toml", recipe.source)
    write_environment(folder)
