"""A recipe: everything that a run needs, in one TOML file, loaded strictly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from .core.errors import RecipeError
from .core.load import load, near
from .core.toml import check_folder_name, find_recipe, import_plugin, merged, read_table, without_none
from .data.negatives.rows import NegativeSettings
from .engine.match import Matching
from .engine.rollout import Rolling
from .engine.sample import Sampling
from .engine.settings import TrainSettings

__all__ = [
    "CompareSettings",
    "DataSettings",
    "EvaluateSettings",
    "MatchSettings",
    "Recipe",
    "read_recipe",
    "recipe_from",
    "shipped",
]


@dataclass(frozen=True)
class DataSettings:
    """[data]. `train` and `test` are reader tables (`kind`, settings); without `test`, `held_out` of the groups is set aside.

    resolution: edge of the square pictures, in pixels. held_out: share of the groups, or their number where it is 1 or more.
    on_bad_row: "skip" leaves unreadable rows out and counts them. negatives: wrong captions and pictures that rows are given.
    """

    train: dict[str, Any]
    resolution: int = 32
    test: dict[str, Any] | None = None
    held_out: float = 0.1
    split_seed: int = 0
    on_bad_row: Literal["stop", "skip"] = "stop"
    cache_dtype: Literal["float32", "float16"] = "float32"
    negatives: NegativeSettings | None = None

    def __post_init__(self) -> None:
        if not 8 <= self.resolution <= 4096:
            raise RecipeError(f"data.resolution is {self.resolution}, expected 8 to 4096 pixels")
        if not 0 < self.held_out < math.inf or (self.held_out >= 1 and self.held_out != int(self.held_out)):
            raise RecipeError(f"data.held_out is {self.held_out}, expected a share above 0 and below 1, or a whole number of rows")


@dataclass(frozen=True)
class EvaluateSettings:
    """[evaluate]. rows: held-out rows that are edited, or continued, and judged. metrics: by name; `settings.NAME` are a metric's
    own. step: the frame of a rollout that metrics of single pictures look at, and at which errors are compared.

    clip, features: extractors by name or path (a bundled name, a folder, or a hub id). safety_checker: path or hub id; "" for none.
    """

    rows: int = 128
    batch_size: int = 32
    step: int = 1
    metrics: tuple[str, ...] = ("fd", "kd", "clip_sim", "clip_dir", "coherence", "psnr", "ssim", "edit_accuracy", "preservation")
    settings: dict[str, dict[str, Any]] = field(default_factory=dict)
    clip: str = "clip"
    features: str = "tinyconv"
    safety_checker: str = ""
    prompt: Literal["target", "instruction", "source"] = "target"

    def __post_init__(self) -> None:
        for name in ("rows", "batch_size", "step"):
            if getattr(self, name) < 1:
                raise RecipeError(f"evaluate.{name} is {getattr(self, name)}, expected 1 or more")
        if not self.metrics:
            raise RecipeError('evaluate.metrics is empty; name at least one, for example "psnr"')


@dataclass(frozen=True)
class MatchSettings:
    """[match]. benchmarks: questions that every trained model is asked, by the name to print; tables of `kind` and its settings.

    scoring: how, see `Matching`. watch: those that are asked at every validation too, of at most `watch_items` items each; the
    answers are in the run's matching.jsonl.
    """

    benchmarks: dict[str, dict[str, Any]] = field(default_factory=dict)
    scoring: Matching = field(default_factory=Matching)
    watch: tuple[str, ...] = ()
    watch_items: int = 48

    def __post_init__(self) -> None:
        for name in self.watch:
            if name not in self.benchmarks:
                raise RecipeError(f"match.watch: {name!r} is not among match.benchmarks{near(name, self.benchmarks)}")
        if self.watch_items < 1:
            raise RecipeError(f"match.watch_items is {self.watch_items}, expected 1 or more")


@dataclass(frozen=True)
class CompareSettings:
    """[compare]. headline: the metric that decides, declared in advance. baseline: the arm that the others are set against.

    smallest_effect: by metric, what is too small to matter; makes "no worse" a verdict. grid_rows: held-out rows in the report.
    workers: trials that run side by side, each in a process with its share of the cores; on a CPU two half-width ones beat one.
    may_differ: settings such as "train.learning_rate" that arms may differ in although budgets must be equal.
    """

    baseline: str = ""
    headline: str = "edit_accuracy"
    seeds: tuple[int, ...] = (0, 1, 2)
    smallest_effect: dict[str, float] = field(default_factory=dict)
    workers: int = 1
    grid_rows: int = 8
    resamples: int = 2000
    may_differ: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, least in (("workers", 1), ("resamples", 2), ("grid_rows", 0)):
            if getattr(self, name) < least:
                raise RecipeError(f"compare.{name} is {getattr(self, name)}, expected {least} or more")
        for name, size in self.smallest_effect.items():
            if not 0 <= size < math.inf:
                raise RecipeError(f"compare.smallest_effect.{name} is {size}, expected a finite number, 0 or more")


@dataclass(frozen=True)
class Recipe:
    """One run, or with [arms] one comparison. Tables whose settings belong to a registered class stay tables until it is built.

    after: recipes whose runs this one stands on, files beside it or shipped names; those that have not ended are trained first.
    """

    name: str
    data: DataSettings
    model: dict[str, Any]
    task: dict[str, Any]
    train: TrainSettings = field(default_factory=TrainSettings)
    objectives: dict[str, dict[str, Any]] = field(default_factory=lambda: {"denoise": {"kind": "denoise"}})
    sample: Sampling = field(default_factory=Sampling)
    rollout: Rolling = field(default_factory=Rolling)
    evaluate: EvaluateSettings = field(default_factory=EvaluateSettings)
    match: MatchSettings = field(default_factory=MatchSettings)
    compare: CompareSettings = field(default_factory=CompareSettings)
    arms: dict[str, dict[str, Any]] = field(default_factory=dict)
    seed: int = 0
    plugins: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    output_dir: str = ""
    cache_dir: str = ""
    folder: Path = field(default=Path("."))
    source: str = ""

    def table(self) -> dict[str, Any]:
        """All settings as plain tables, defaults included: what recipe.resolved.toml holds."""
        plain = dataclasses.asdict(self)
        del plain["folder"], plain["source"]
        return without_none(plain)

    def arm(self, name: str, seed: int) -> Recipe:
        """The recipe of one arm: the base, what differs, and a training seed. RecipeError names an arm that does not exist."""
        if name not in self.arms:
            raise RecipeError(f"arms: no arm {name!r}{near(name, self.arms)}")
        base = {k: v for k, v in self.table().items() if k != "arms"}
        return recipe_from({**merged(base, self.arms[name]), "seed": seed}, self.folder, f"arms.{name}")


def shipped() -> dict[str, Path]:
    """The recipes that come with the package, by name."""
    folder = Path(str(resources.files("relatum") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def recipe_from(table: Mapping[str, Any], folder: Path, where: str = "") -> Recipe:
    """A recipe from plain tables; plug-ins are looked up beside `folder` and imported first."""
    for own in ("folder", "source"):
        if own in table:
            raise RecipeError(f"{own}: Recipe has no setting {own!r}")
    recipe = load(Recipe, {**table, "folder": folder}, where)
    _check_names(recipe)
    for plugin in recipe.plugins:
        import_plugin(folder / plugin)
    return recipe


def read_recipe(source: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe from a file, or a shipped one by name. overrides: "section.key=value", the value in TOML, a bare word a string.

    RecipeError names file and key of whatever does not fit.
    """
    path = find_recipe(source, shipped())
    table, text = read_table(path, overrides)
    try:
        return dataclasses.replace(recipe_from(table, path.resolve().parent), source=text)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def _check_names(recipe: Recipe) -> None:
    """Names become folders. RecipeError for one that would lead elsewhere, or that a file system cannot tell from another."""
    for where, name in (("name", recipe.name), *((f"arms.{name}", name) for name in recipe.arms)):
        check_folder_name(where, name)
    folded: dict[str, str] = {}
    for name in recipe.arms:
        other = folded.setdefault(name.casefold(), name)
        if other != name:
            raise RecipeError(f"arms: {other!r} and {name!r} differ only in case, so they may share a folder; rename one")
