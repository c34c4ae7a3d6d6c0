"""`relatum evaluate`: the metrics of a finished run, or of folders of images from any model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..core.errors import DataError
from ..metrics.evaluate import Evaluation, build_metrics, extractors_of
from ..metrics.evaluate_folder import evaluate
from ..recipe import Recipe
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
    write_run_card(recipe, folder, result, evaluation.estimates)
    return evaluation, list(lacking.values())


def evaluate_folders(
    generated: Path, folders: Mapping[str, Path | None], captions: Path | None, *, extractor: str, clip: str, paired: bool
) -> Evaluation:
    """Metrics of a folder of pictures against folders of targets, sources and masks; files pair by stem."""
    texts = None if captions is None else _captions(captions)
    return evaluate(
        generated,
        target=folders.get("target"),
        source=folders.get("source"),
        masks=folders.get("masks"),
        captions=texts,
        extractor=extractor,
        clip=clip,
        paired=paired,
        device=str(device()),
    )


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
    """One line a metric: honest name, value, standard error, n."""
    out = []
    for name, estimate in evaluation.estimates.items():
        error = "" if estimate.stderr is None else f" ± {estimate.stderr:.4g}"
        note = f" ({estimate.note})" if estimate.note else ""
        label = evaluation.labels[name]
        shown = label if label.split("[")[0] in name else f"{name} {label}"
        out.append(f"{shown:<44} {estimate.value:.4f}{error}  n={estimate.n}{note}")
    return out
