"""A suite: held-out rows, what a trained model makes of them, and the metrics of what comes out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..atomic import make_folder, write_text
from ..core.draws import key_of
from ..core.errors import DataError
from ..core.fingerprint import fingerprint_of
from ..core.registry import metric as metrics
from ..data.rows import Row
from ..engine.encoded import EncodedRows
from ..imaging import decode, save_png
from ..metrics.base import Metric, Samples
from ..metrics.evaluate import Evaluation, Evaluator, build_metrics
from ..models.codec import Codec
from ..models.families.stable_diffusion import StableDiffusion
from ..recipe import Recipe
from ..tasks.base import Task

__all__ = ["NOISE", "Suite", "content_of", "evaluate_made", "metric_tables", "not_measurable"]

NOISE = key_of("evaluation noise")


@dataclass(frozen=True)
class Suite(ABC):
    """The held-out rows of an evaluation: the same for every arm and seed. encoded: their latents and text states.

    resolved: hash of what the rows hold. copying, guessing: names of the two controls that a report speaks of.
    """

    rows: Sequence[Row]
    encoded: EncodedRows
    size: int
    resolved: str
    copying: ClassVar[str]
    guessing: ClassVar[str]

    @abstractmethod
    def make(self, model: StableDiffusion, task: Task, recipe: Recipe, shuffled: bool) -> Iterator[Tensor]:
        """What the model makes of each row. shuffled: every row gets the next row's text, as a control for guessing."""

    @abstractmethod
    def about(self, recipe: Recipe) -> Any:
        """What of the recipe decides, beside weights and rows, what is made."""

    @abstractmethod
    def picture(self, made: Tensor) -> Tensor:
        """One row's result as one picture to keep, without loss in 8 bits; `restored` is its inverse."""

    @abstractmethod
    def restored(self, picture: Tensor) -> Tensor | None:
        """One row's result again; None where the picture has another size than this suite's."""

    @abstractmethod
    def samples(self, made: Tensor, batch: int) -> Iterator[Samples]:
        """The suite with these results, as the metrics take it."""

    @abstractmethod
    def controls(self, codec: Codec) -> dict[str, Tensor]:
        """Results that no arm made: what copying and a perfect model behind this codec would get."""

    def made(self, model: StableDiffusion, task: Task, recipe: Recipe, folder: Path, shuffled: bool = False) -> Tensor:
        """All results, (n ...): PNG files in `folder`, made once for these weights, rows and settings.

        The noise of a row is the same for every model.
        """
        weights = fingerprint_of({}, model.unet)
        about = [weights, model.codec.fingerprint, model.text.fingerprint, self.resolved, self.size, recipe.data.cache_dtype]
        about += [dataclasses.asdict(recipe.sample), shuffled, self.about(recipe)]
        about += [] if model.correction is None else [model.correction.words]
        place = folder / hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]
        index = place / "index.jsonl"
        names = [f"{i:06d}.png" for i in range(len(self.rows))]
        if not index.is_file():
            make_folder(place)
            for name, result in zip(names, self.make(model, task, recipe, shuffled), strict=True):
                save_png(place / name, self.picture(result))
            lines = (json.dumps({"file_name": n, "id": row.id, **row.texts}) for n, row in zip(names, self.rows, strict=True))
            write_text(index, "\n".join(lines) + "\n")  # last: a folder without it is not whole
        return torch.stack([self._kept(place, name) for name in names])

    def _kept(self, place: Path, name: str) -> Tensor:
        """A result that was made before."""
        try:
            picture = decode(place / name, str(place / name))
        except DataError as error:
            raise DataError(f"{error}; delete {place}, it is made again") from error
        result = self.restored(picture)
        if result is None:
            found = f"{picture.shape[1]} x {picture.shape[2]} pixels, not what this suite's pictures have"
            raise DataError(f"{place / name}: {found}; delete {place}, it is made again")
        return result

    @property
    def known_scenes(self) -> bool:
        """Whether every row's truth is known, as the toy world's is."""
        return all("scene_target" in row.facts or "scenes" in row.facts for row in self.rows)

    def columns(self, names: Sequence[str]) -> list[str]:
        """Those of these images that every row has."""
        return [name for name in names if all(name in row.images for row in self.rows)]

    def pace(self, recipe: Recipe) -> float | None:
        """Frames a second of what is made; None of pictures, and where nothing tells."""
        return None

    def rate(self, told: Sequence[float | None] = ()) -> float | None:
        """1 / seconds between frames: those `told`, else the rows' `offset` where they agree to 1 %."""
        every = told or [row.facts.get("offset") for row in self.rows]
        known = [float(seconds) for seconds in every if seconds]
        alike = len(known) == len(every) > 0 and max(known) <= 1.01 * min(known)
        return len(known) / sum(known) if alike else None

    def texts(self, rows: Sequence[Row]) -> dict[str, list[str]]:
        """Texts that every row of the suite has, for these rows."""
        names = [name for name in ("instruction", "source", "target") if all(name in row.texts for row in self.rows)]
        return {name: [row.texts[name] for row in rows] for name in names}


def content_of(rows: Sequence[Row]) -> str:
    """Hash of all that the rows hold."""
    about = []
    for row in rows:
        refs = (*(row.images[name] for name in sorted(row.images)), *(row.clips[name] for name in sorted(row.clips)))
        about.append([row.id, *(ref.digest() for ref in refs), *sorted(row.texts.items())])
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def metric_tables(recipe: Recipe, pace: float | None = None) -> dict[str, dict[str, Any]]:
    """Settings of every metric of the recipe, with the section's extractors, prompt and step filled in, and the frames a second
    (pace) where they are known."""
    tables = {}
    shared = {"text": recipe.evaluate.prompt, "step": recipe.evaluate.step} | ({} if pace is None else {"fps": pace})
    for name in recipe.evaluate.metrics:
        table = dict(recipe.evaluate.settings.get(name, {}))
        fields = {f.name for f in dataclasses.fields(metrics.find(table.get("kind", name), f"evaluate.{name}"))}
        if "extractor" in fields:
            table.setdefault("extractor", recipe.evaluate.clip if name.startswith("clip") else recipe.evaluate.features)
        if "clip" in fields:
            table.setdefault("clip", recipe.evaluate.clip)
        for field, value in shared.items():
            if field in fields:
                table.setdefault(field, value)
        if name == "safety_rate" and recipe.evaluate.safety_checker:
            table.setdefault("checker_path", recipe.evaluate.safety_checker)
        tables[name] = table
    return tables


def evaluate_made(recipe: Recipe, suite: Suite, made: Tensor, extractors: Mapping[str, Any]) -> tuple[Evaluation, dict[str, str]]:
    """All metrics of one set of results for the suite, and for each metric that the data does not allow, why."""
    if len(made) != len(suite.rows):
        raise DataError(f"{len(made)} results for {len(suite.rows)} rows")
    missing = not_measurable(recipe, suite)
    built = build_metrics(metric_tables(recipe, suite.pace(recipe)))
    usable = {name: metric for name, metric in built.items() if name not in missing}
    eye = None
    if suite.known_scenes:
        from ..data.toy.reading import read_scene

        eye = read_scene
    evaluator = Evaluator(usable, extractors, eye=eye)
    for samples in suite.samples(made, recipe.evaluate.batch_size):
        evaluator.update(samples)
    return evaluator.compute(), missing


def not_measurable(recipe: Recipe, suite: Suite) -> dict[str, str]:
    """Why, of each metric that the rows do not allow: a recipe may ask for more than a data set has, and the report says so."""
    first = next(suite.samples(torch.zeros(()), 1))
    reasons = {}
    for name, metric in build_metrics(metric_tables(recipe, suite.pace(recipe))).items():
        lacking = _lacks(metric, first)
        if not lacking and getattr(metric, "eye", True) is None and not suite.known_scenes:
            lacking = "facts of a known scene (scene_target, scenes)"
        if lacking:
            reasons[name] = f"{name}: the rows have no {lacking}"
    return reasons


def _lacks(metric: Metric, samples: Samples) -> str:
    """What a metric needs that these samples can never give; features come from pixels, videos and texts."""
    lacking, least = [], getattr(metric, "least_frames", 1)
    if getattr(metric, "continues", False) and not samples.given:
        return "given frame: clips are made whole, and it asks how a video goes on from its first frame"
    for need in sorted(metric.needs):
        kind, _, name = need.partition(":")
        if kind == "features":
            kind = "texts" if ":text:" in name else "videos" if ":clips:" in name or ":frames:" in name else "pixels"
            name = name.rpartition(":")[2]
        if kind == "videos" and name in samples.videos and samples.videos[name].shape[2] < least:
            lacking.append(f"{kind} {name} of {least} frames")
        there = bool(samples.facts and samples.facts[0]) if kind == "facts" else name in getattr(samples, kind)
        if not there:
            lacking.append(f"{kind} {name}".strip())
    return ", ".join(dict.fromkeys(lacking))
