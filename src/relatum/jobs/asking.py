"""The benchmarks of a recipe's [match], put to a model: which caption, which picture its own error says belong together."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_text
from ..core.errors import DataError, RecipeError
from ..core.registry import benchmark as benchmarks
from ..data.benchmarks.item import ASKS, Ask, Benchmark, Item
from ..engine.match import DiffusionScorer, Scorer
from ..metrics.base import mean_of
from ..metrics.evaluate import Evaluation
from ..metrics.matching import judge
from ..models.families.stable_diffusion import StableDiffusion
from ..recipe import Recipe
from .matching import ItemResult, match_items, run_key

__all__ = ["Answers", "Asked", "add_answers", "answers_of", "ask_all", "asked_metrics", "joined", "open_benchmarks", "questions"]


ANSWERS = "matching.jsonl"  # of a run folder


@dataclass(frozen=True)
class Asked:
    """A benchmark of a recipe: its name there, how it is judged, and its items."""

    name: str
    benchmark: Benchmark
    items: Sequence[Item]


def asked_metrics(recipe: Recipe) -> list[str]:
    """The numbers that the benchmarks give: "NAME.text", "NAME.image", "NAME.group", as far as each asks for them."""
    return [f"{name}.{ask}" for name, built in _built(recipe) for ask in built.asks]


def open_benchmarks(recipe: Recipe, only: Sequence[str] | None = None, limit: int | None = None) -> list[Asked]:
    """The recipe's benchmarks with their items. only: of these names. DataError for one without items."""
    found = []
    for name, built in _built(recipe):
        if only is None or name in only:
            items = list(built.items())[:limit]
            if not items:
                raise DataError(f"match.benchmarks.{name}: no items; {'; '.join(built.skipped[:1]) or 'it is empty'}")
            found.append(Asked(name, built, items))
    return found


def _built(recipe: Recipe) -> Iterator[tuple[str, Any]]:
    importlib.import_module("relatum.data.benchmarks")
    for name, table in recipe.match.benchmarks.items():
        where = f"match.benchmarks.{name}"
        if not isinstance(table, Mapping):
            raise RecipeError(f"{where}: expected a table with kind, found {table!r}")
        own = {key: str(recipe.folder / table[key]) for key in ("path", "images", "cache") if isinstance(table.get(key), str)}
        yield name, benchmarks.build({**table, **{key: path for key, path in own.items() if table[key]}}, where)


def ask_all(recipe: Recipe, model: StableDiffusion | Scorer, asked: Sequence[Asked], folder: Path | None = None) -> Evaluation:
    """Every benchmark's numbers. folder: where answers are kept; what is there already is not computed again.

    A metric's scores are by question: a whole item where ties count as wrong, else one picture or caption that looks for its own.
    """
    scorer: Any = DiffusionScorer(model, recipe.match.scoring) if isinstance(model, StableDiffusion) else model
    result = Evaluation({}, {}, {}, {}, {})
    for one in asked:
        kind, size = one.benchmark, recipe.data.resolution
        store = None if folder is None else folder / f"match-{one.name}-{run_key(scorer, type(kind).__name__, size)}.jsonl"
        answers = match_items(scorer, one.items, size, kind.asks, kind.strict, store=store)
        for ask in kind.asks:
            name, rows = f"{one.name}.{ask}", [*questions(one.items, answers, ask, kind.strict)]
            _add(result, name, rows)
            result.directions[name] = "higher"
            tags = dict.fromkeys(tag for *_, tag in rows)
            for tag in tags if len(tags) > 1 else ():
                _add(result, f"{name}.{tag}", [row for row in rows if row[-1] == tag])
    return result


Answers = dict[int, dict[str, float]]
"""What watched benchmarks said, by the updates made so far."""


def add_answers(folder: Path, step: int, found: Evaluation) -> None:
    """Writes a line of matching.jsonl; lines of this step and later ones are of a run that was cut off, and go."""
    kept = [line for at, line in _answer_lines(folder) if at < step]
    values = {name: {"mean": e.value, "stderr": e.stderr, "n": e.n} for name, e in found.estimates.items()}
    write_text(folder / ANSWERS, "\n".join([*kept, json.dumps({"step": step, **values})]) + "\n")


def answers_of(folder: Path) -> Answers:
    """A run's matching.jsonl. DataError names a line that is none of it."""
    return {at: {k: float(v["mean"]) for k, v in json.loads(line).items() if k != "step"} for at, line in _answer_lines(folder)}


def _answer_lines(folder: Path) -> Iterator[tuple[int, str]]:
    path = folder / ANSWERS
    for number, line in enumerate(path.read_bytes().split(b"\n") if path.is_file() else [], 1):
        if line.strip():
            try:
                table = json.loads(line)
                if not all(key == "step" or isinstance(value["mean"], int | float) for key, value in table.items()):
                    raise ValueError("a mean is no number")
                yield int(table["step"]), line.decode()
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise DataError(f"{path}:{number}: not an answer of a validation ({error}); delete the line") from error


def _add(result: Evaluation, name: str, rows: Sequence[tuple[str, float, str, str]]) -> None:
    """Scores, groups and mean of (id, right, group, tag) rows; without a direction they only describe."""
    result.scores[name] = {question: right for question, right, _, _ in rows}
    result.groups[name] = {question: group for question, _, group, _ in rows}
    result.estimates[name] = mean_of(result.scores[name])
    result.labels[name], result.fingerprints[name] = name, ""


def questions(
    items: Sequence[Item], answers: Sequence[ItemResult], ask: Ask, strict: bool
) -> Iterator[tuple[str, float, str, str]]:
    """(id, right, group, tag) of every question of these items."""
    assert ask in ASKS
    for item, answer in zip(items, answers, strict=True):
        group = item.group or item.id
        if strict:
            yield item.id, answer.right[ask], group, item.tag
            continue
        scores = -np.array(answer.errors)
        null = None if answer.null is None else -np.array(answer.null)
        side = 0 if ask == "text" else 1
        for one in sorted({pair[side] for pair in item.matches}):
            if ask == "text":
                table, empty, found = scores[one : one + 1], None, [(0, t) for i, t in item.matches if i == one]
            else:
                table, empty, found = scores[:, one : one + 1], null, [(i, 0) for i, t in item.matches if t == one]
            right = judge(table, empty, found, [ask], strict=False).right[ask]
            yield f"{item.id}:{ask}-{one}", right, group, item.tag


def joined(first: Evaluation, second: Evaluation) -> Evaluation:
    """Both evaluations as one."""
    names = ("estimates", "scores", "labels", "fingerprints", "directions", "groups")
    return replace(first, **{name: {**getattr(first, name), **getattr(second, name)} for name in names})
