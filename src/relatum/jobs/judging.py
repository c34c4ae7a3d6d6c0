"""`relatum evaluate`: the metrics of a finished run, or of folders of images or videos from any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..core.errors import DataError, RecipeError
from ..metrics.evaluate import Evaluation, build_metrics, extractors_of
from ..metrics.evaluate_folder import evaluate
from ..metrics.evaluate_videos import OnBadFile, evaluate_videos
from ..metrics.folders import kind_of
from ..recipe import Recipe
from .asking import ask_all, joined, open_benchmarks
from .opening import device, encode, open_final, open_rows
from .suite import evaluate_made, metric_tables
from .suites import open_suite
from .training import cache_folder, finished, run_folder, signature, write_run_card

__all__ = ["evaluate_folders", "evaluate_run", "lines_of"]


def evaluate_run(recipe: Recipe) -> tuple[Evaluation, list[str]]:
    """Puts the held-out rows through the recipe's finished run, and puts the numbers on its card. Second: what was not measured."""
    folder = run_folder(recipe)
    result = finished(folder, signature(recipe))
    model, task = open_final(folder, recipe)
    rows = open_rows(recipe)
    suite = open_suite(recipe, task, rows.test, encode(recipe, task, model, rows.test, cache_folder(recipe)))
    made = suite.made(model, task, recipe, folder / "made")
    extractors = extractors_of(build_metrics(metric_tables(recipe)), str(device()))
    evaluation, lacking = evaluate_made(recipe, suite, made, extractors)
    if asked := open_benchmarks(recipe):
        evaluation = joined(evaluation, ask_all(recipe, model, asked, folder / "made"))
    write_run_card(recipe, folder, result, evaluation.estimates)
    return evaluation, list(lacking.values())


def evaluate_folders(
    generated: Path,
    folders: Mapping[str, Path | None],
    captions: Path | None,
    *,
    extractor: str,
    clip: str,
    paired: bool,
    size: int | None = None,
    frames: int | None = None,
    on_bad_file: OnBadFile | None = None,
) -> Evaluation:
    """Metrics of a folder of pictures against folders of targets, sources and masks, or of videos against targets.

    Files pair by stem. RecipeError for what does not go with what the folder holds.
    """
    texts = None if captions is None else _captions(captions)
    given = {side: folder for side, folder in folders.items() if folder is not None}
    shared: dict[str, Any] = {"extractor": extractor, "clip": clip, "paired": paired, "size": size, "device": str(device())}
    if kind_of(generated, "generated") == "videos":
        surplus = sorted(given.keys() - {"target"})
        if surplus:
            raise RecipeError(f"{generated} holds videos, which take no --{surplus[0]}: frame 0 is the frame that was given")
        return evaluate_videos(generated, given.get("target"), texts, frames=frames, on_bad_file=on_bad_file or "stop", **shared)
    for option, value in (("--frames", frames), ("--on-bad-file", on_bad_file)):
        if value is not None:
            raise RecipeError(f"{option} is for videos; {generated} holds images")
    return evaluate(generated, captions=texts, **given, **shared)


def _captions(path: Path) -> dict[str, str]:
    """Captions by file stem, from a JSON object or lines of {"file_name", "text"}. DataError names the line or the stem."""
    wanted = 'expected {stem: caption} in .json, or {"file_name", "text"} a line'
    try:
        text = path.read_text(encoding="utf-8-sig")
        if path.suffix == ".json":
            table = json.loads(text, object_pairs_hook=list)
            if not isinstance(table, list) or not all(isinstance(pair, tuple) for pair in table):
                raise ValueError("it is no table")
            pairs = table
        else:
            rows = [json.loads(line) for line in text.split("\n") if line.strip()]
            pairs = [(Path(row["file_name"]).stem, row["text"]) for row in rows]
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); {wanted}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: {wanted} ({error})") from error
    captions: dict[str, str] = {}
    for stem, words in pairs:
        if not isinstance(words, str) or not _encodable(stem + words):
            raise DataError(f"{path}: the caption of {stem!a} is no text: {words!a}; write it as a string")
        if stem in captions:
            raise DataError(f"{path}: two captions for {stem!r}; keep one")
        captions[stem] = words
    return captions


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def lines_of(evaluation: Evaluation) -> list[str]:
    """One line a metric: honest name, value, standard error, n. Then the notes."""
    out = []
    for name, estimate in evaluation.estimates.items():
        error = "" if estimate.stderr is None else f" ± {estimate.stderr:.4g}"
        note = f" ({estimate.note})" if estimate.note else ""
        label = evaluation.labels[name]
        shown = label if label.split("[")[0] in name else f"{name} {label}"
        out.append(f"{shown:<44} {estimate.value:.4f}{error}  n={estimate.n}{note}")
    return [*out, *(f"note: {note}" for note in evaluation.notes)]
