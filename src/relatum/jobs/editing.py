"""Held-out rows through a trained model, and the metrics of what comes out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import make_folder, write_text
from ..core.draws import key_of
from ..core.errors import DataError
from ..core.fingerprint import fingerprint_of
from ..core.registry import metric as metrics
from ..core.shapes import Pixels
from ..data.rows import Row
from ..engine.encoded import EncodedRows
from ..engine.sample import generate
from ..imaging import decode, save_png
from ..metrics.base import Samples
from ..metrics.evaluate import Evaluation, Evaluator, build_metrics
from ..models.families.stable_diffusion import StableDiffusion
from ..recipe import Recipe
from ..tasks.base import Task

__all__ = ["Suite", "edited", "evaluate_pixels", "metric_tables", "not_measurable", "open_suite"]

NOISE = key_of("evaluation noise")


@dataclass(frozen=True)
class Suite:
    """The held-out rows of an evaluation: the same for every arm and seed. encoded: their latents and text states."""

    rows: Sequence[Row]
    encoded: EncodedRows
    size: int
    resolved: str

    def pixels(self, name: str) -> Pixels | None:
        """(n 3 h w) of one image column; None where some row lacks it."""
        if not all(name in row.images for row in self.rows):
            return None
        return torch.stack([row.images[name].pixels(self.size) for row in self.rows])


def open_suite(recipe: Recipe, rows: Sequence[Row], encoded: EncodedRows) -> Suite:
    """The first `evaluate.rows` held-out rows that could be encoded."""
    by_id = {row.id: row for row in rows}
    chosen = [by_id[name] for name in encoded.ids[: recipe.evaluate.rows]]
    about = json.dumps(
        [[row.id, *(row.images[k].digest() for k in sorted(row.images)), *sorted(row.texts.items())] for row in chosen]
    )
    return Suite(chosen, encoded, recipe.data.resolution, hashlib.sha256(about.encode()).hexdigest()[:16])


def edited(model: StableDiffusion, task: Task, recipe: Recipe, suite: Suite, folder: Path, shuffled: bool = False) -> Pixels:
    """What the model makes of the suite, (n 3 h w): PNG files in `folder`, made once for these weights, rows and sampler.

    shuffled: every row gets the next row's text, as a control for guessing. The noise of a row is the same for every model.
    """
    weights = fingerprint_of({}, model.unet)
    about = [weights, model.codec.fingerprint, model.text.fingerprint, suite.resolved, suite.size, recipe.data.cache_dtype]
    about += [dataclasses.asdict(recipe.sample), shuffled]
    place = folder / hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]
    index = place / "index.jsonl"
    names = [f"{i:06d}.png" for i in range(len(suite.rows))]
    if not index.is_file():
        pixels = _generate(model, task, recipe, suite, shuffled)
        make_folder(place)
        for name, picture in zip(names, pixels, strict=True):
            save_png(place / name, picture)
        lines = (json.dumps({"file_name": n, "id": row.id, **row.texts}) for n, row in zip(names, suite.rows, strict=True))
        write_text(index, "\n".join(lines) + "\n")  # last: a folder without it is not whole
    return torch.stack([_kept(place, name, suite.size) for name in names])


def _kept(place: Path, name: str, size: int) -> Tensor:
    """A picture that was made before, (3 size size)."""
    try:
        picture = decode(place / name, str(place / name))
    except DataError as error:
        raise DataError(f"{error}; delete {place}, it is made again") from error
    if picture.shape[1:] != (size, size):
        found = f"{picture.shape[1]} x {picture.shape[2]} pixels, expected {size} x {size}"
        raise DataError(f"{place / name}: {found}; delete {place}, it is made again")
    return picture


def _generate(model: StableDiffusion, task: Task, recipe: Recipe, suite: Suite, shuffled: bool) -> Pixels:
    text, parts, size = task.needs.texts[0], [], recipe.evaluate.batch_size
    for start in range(0, len(suite.rows), size):
        indices = list(range(start, min(start + size, len(suite.rows))))
        batch = suite.encoded.batch(indices)
        words = suite.encoded.batch([(i + 1) % len(suite.rows) for i in indices]) if shuffled else batch
        image = model.codec.source(batch.moments["source"]) if task.image_channels else None
        parts.append(
            generate(
                model,
                recipe.sample,
                seed=NOISE,
                ids=batch.ids,
                tokens=words.tokens[text],
                size=suite.size,
                image=image,
                batch=size,
            )
        )
    return torch.cat(parts)


def metric_tables(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """Settings of every metric of the recipe, with the section's extractors and prompt filled in."""
    tables = {}
    for name in recipe.evaluate.metrics:
        table = dict(recipe.evaluate.settings.get(name, {}))
        fields = {f.name for f in dataclasses.fields(metrics.find(table.get("kind", name), f"evaluate.{name}"))}
        if "extractor" in fields:
            table.setdefault("extractor", recipe.evaluate.clip if name.startswith("clip") else recipe.evaluate.features)
        if "text" in fields:
            table.setdefault("text", recipe.evaluate.prompt)
        if name == "safety_rate" and recipe.evaluate.safety_checker:
            table.setdefault("checker_path", recipe.evaluate.safety_checker)
        tables[name] = table
    return tables


def evaluate_pixels(
    recipe: Recipe, suite: Suite, generated: Pixels, extractors: Mapping[str, Any]
) -> tuple[Evaluation, dict[str, str]]:
    """All metrics of one set of pictures for the suite, and for each metric that the data does not allow, why."""
    if len(generated) != len(suite.rows):
        raise DataError(f"{len(generated)} pictures for {len(suite.rows)} rows")
    missing = not_measurable(recipe, suite)
    built = build_metrics(metric_tables(recipe))
    usable = {name: metric for name, metric in built.items() if name not in missing}
    eye = None
    if _known_scenes(suite):
        from ..data.toy.reading import read_scene

        eye = read_scene
    evaluator = Evaluator(usable, extractors, eye=eye)
    for samples in _batches(suite, generated, recipe.evaluate.batch_size):
        evaluator.update(samples)
    return evaluator.compute(), missing


def not_measurable(recipe: Recipe, suite: Suite) -> dict[str, str]:
    """Why, of each metric that the rows do not allow: a recipe may ask for more than a data set has, and the report says so."""
    rows = suite.rows[:1]
    blank = torch.zeros(len(rows), 3, suite.size, suite.size)
    first = next(_batches(dataclasses.replace(suite, rows=rows), blank, 1))
    reasons = {}
    for name, metric in build_metrics(metric_tables(recipe)).items():
        lacking = _lacks(metric.needs, first)
        if not lacking and getattr(metric, "eye", True) is None and not _known_scenes(suite):
            lacking = "facts of a known scene (scene_target)"
        if lacking:
            reasons[name] = f"{name}: the rows have no {lacking}"
    return reasons


def _known_scenes(suite: Suite) -> bool:
    return all("scene_target" in row.facts for row in suite.rows)


def _lacks(needs: frozenset[str], samples: Samples) -> str:
    """What a metric needs that these samples can never give; features come from pixels and texts."""
    lacking = []
    for need in sorted(needs):
        kind, _, name = need.partition(":")
        if kind == "features":
            text = ":text:" in name
            kind, name = ("texts" if text else "pixels"), name.rpartition(":")[2]
        there = bool(samples.facts and samples.facts[0]) if kind == "facts" else name in getattr(samples, kind)
        if not there:
            lacking.append(f"{kind} {name}".strip())
    return ", ".join(dict.fromkeys(lacking))


def _batches(suite: Suite, generated: Tensor, size: int) -> Iterator[Samples]:
    columns = [name for name in ("source", "target") if all(name in row.images for row in suite.rows)]
    texts = [name for name in ("instruction", "source", "target") if all(name in row.texts for row in suite.rows)]
    masked = all("changed" in row.masks for row in suite.rows)
    for start in range(0, len(suite.rows), size):
        rows = suite.rows[start : start + size]
        pixels = {name: torch.stack([row.images[name].pixels(suite.size) for row in rows]) for name in columns}
        masks = {"changed": torch.stack([row.masks["changed"].mask(suite.size) for row in rows])} if masked else {}
        yield Samples(
            [row.id for row in rows],
            {"generated": generated[start : start + size], **pixels},
            masks,
            {name: [row.texts[name] for row in rows] for name in texts},
            facts=[row.facts for row in rows],
        )
