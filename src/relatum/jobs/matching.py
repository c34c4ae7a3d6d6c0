"""Questions put to a scorer one by one: each answer is stored as soon as it is known, and none is asked twice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..data.benchmarks.item import Ask, Item
from ..data.refs import brief
from ..data.rows import ImageRef
from ..engine.match import Scorer, every_pair
from ..metrics.matching import UNTAGGED, Judged, judge, recall, summary
from .stored import DELETE, Lines, Stored

__all__ = ["ItemResult", "chance", "item_key", "match_items", "recalls_of", "repeated", "run_key", "table_of"]

IMAGES, TEXTS = 32, 512  # the block of pairs that is scored at once: bounds what is held in memory
FEW = 5  # candidates: no R@k of so many
DRAWS = 4000  # of a guess, where its chance has no plain formula


@dataclass(frozen=True)
class ItemResult(Stored):
    """One item's answer. errors: -score(x, w) by image, then text. null: -score(x, ∅) by image, where images are ranked and the
    scorer has one. right, ties, questions: by ask, see `metrics.matching.Judged`. chance: what `right` of a guess is on average.

    evaluations: network passes that it took. key: of item, weights and settings.
    """

    id: str
    tag: str
    group: str
    errors: list[list[float]]
    null: list[float] | None
    right: dict[str, float] = field(default_factory=dict)
    ties: dict[str, int] = field(default_factory=dict)
    questions: dict[str, int] = field(default_factory=dict)
    chance: dict[str, float] = field(default_factory=dict)
    evaluations: int = 0
    key: str = ""

    @property
    def judged(self) -> Judged:
        return Judged(self.right, self.ties, self.questions)


def match_items(
    scorer: Scorer,
    items: Sequence[Item],
    size: int,
    asks: Sequence[Ask],
    strict: bool,
    *,
    store: Path | None = None,
    about: str = "",
    null: bool | None = None,
    report: Callable[[ItemResult], None] | None = None,
) -> list[ItemResult]:
    """Every item's result, in the items' order.

    size: edge in pixels to which images are cropped and resized. asks, strict: as a `Benchmark` has them; no asks: scores alone.
    null: whether the empty text is scored; by default where images are ranked. store: a file of JSON lines that grows with every
    item; the same call goes on from it and scores only what it lacks. about: names the items, so that two benchmarks do not
    share a store. report: called with every result. DataError: no items, two of one id, an image that cannot be read, a score that
    is not finite. RecipeError: the store holds another scorer's or setting's results.
    """
    if not items:
        raise DataError("match: no items; the benchmark is empty, or all of it was skipped")
    twice = {item.id for item in items}
    if len(twice) < len(items):
        ids = [item.id for item in items]
        raise DataError(f"match: two items have the id {brief(next(i for i in ids if ids.count(i) > 1))!r}")
    subtract = bool({"image", "group"} & {*asks}) if null is None else null
    run = run_key(scorer, "items", about, size, *sorted(asks), strict, subtract) if store is not None else ""
    with Lines(store, run, ItemResult) as kept:
        results = []
        for item in items:
            key = item_key(item, run) if run else ""
            if (known := kept.find(item.id, key)) is not None:
                result = _again(known, item, asks, strict, store)
            else:
                before = getattr(scorer, "evaluations", 0)
                scores, empty = _scores(scorer, item, size, subtract)
                result = _result(item, scores, empty, asks, strict, getattr(scorer, "evaluations", 0) - before, key)
                kept.add(result)
            if report is not None:
                report(result)
            results.append(result)
        kept.finish(results)
    return results


def _again(known: ItemResult, item: Item, asks: Sequence[Ask], strict: bool, store: Path | None) -> ItemResult:
    """What is stored of an item, judged anew. DataError if it has not a number for each image and text."""
    images, empty = len(item.images), known.errors if known.null is None else known.null
    if {len(known.errors), len(empty)} != {images} or {len(row) for row in known.errors} != {len(item.texts)}:
        raise DataError(f"{store}: the result of {brief(item.id)} lacks images or texts; {DELETE}")
    null = None if known.null is None else -np.array(known.null)
    return _result(item, -np.array(known.errors), null, asks, strict, known.evaluations, known.key)


def _result(
    item: Item, scores: np.ndarray, null: np.ndarray | None, asks: Sequence[Ask], strict: bool, spent: int, key: str
) -> ItemResult:
    try:
        judged = judge(scores, null, item.matches, asks, strict) if asks else Judged({}, {}, {})
    except DataError as error:
        raise DataError(f"match: item {brief(item.id)}: {error}") from error
    if not np.isfinite(scores).all():
        raise DataError(f"match: item {brief(item.id)}: a score is not finite; a model that scores so cannot be judged")
    guess = {ask: chance(scores.shape, item.matches, ask, strict) for ask in asks}
    empty = None if null is None else (-null).tolist()
    return ItemResult(
        item.id, item.tag, item.group, (-scores).tolist(), empty, judged.right, judged.ties, judged.questions, guess, spent, key
    )


def _scores(scorer: Scorer, item: Item, size: int, subtract: bool) -> tuple[np.ndarray, np.ndarray | None]:
    """(images, texts) and (images,), float64, block by block."""
    scores, null = np.zeros((len(item.images), len(item.texts))), []
    for start in range(0, len(item.images), IMAGES):
        pixels = torch.stack([_pixels(ref, size, item) for ref in item.images[start : start + IMAGES]])
        for first in range(0, len(item.texts), TEXTS):
            texts = item.texts[first : first + TEXTS]
            values = scorer(pixels, texts, every_pair(len(pixels), len(texts))).double().reshape(len(pixels), len(texts))
            scores[start : start + len(pixels), first : first + len(texts)] = values.cpu().numpy()
        if subtract and (values := scorer.null(pixels)) is not None:
            null.append(values.double().cpu().numpy())
    return scores, np.concatenate(null) if null else None


def _pixels(ref: ImageRef, size: int, item: Item) -> torch.Tensor:
    try:
        return ref.pixels(size)
    except DataError as error:
        raise DataError(f"match: item {brief(item.id)}: {error}") from error


def chance(shape: tuple[int, ...], matches: Sequence[tuple[int, int]], ask: str, strict: bool) -> float:
    """What `right` of a scorer that guesses is on average, for an item of (images, texts).

    >>> round(chance((2, 2), [(0, 0), (1, 1)], "text", True), 4), round(chance((1, 5), [(0, 0)], "text", False), 4)
    (0.25, 0.2)
    """
    if ask == "group":
        return _guessed(tuple(shape), tuple(map(tuple, matches)), strict)
    side = 0 if ask == "text" else 1
    asked = {pair[side] for pair in matches}
    shares = np.array([sum(pair[side] == one for pair in {*matches}) / shape[1 - side] for one in asked])
    return float(shares.prod() if strict else shares.mean())


@lru_cache(maxsize=256)
def _guessed(shape: tuple[int, ...], matches: tuple[Any, ...], strict: bool) -> float:
    """Winoground's 2 x 2 has 1/6 (Thrush et al. 2022); else the mean of many guesses."""
    if shape == (2, 2) and {*matches} in ({(0, 0), (1, 1)}, {(0, 1), (1, 0)}) and strict:
        return 1 / 6
    guesses = np.random.default_rng(0).normal(size=(DRAWS, *shape))
    return float(np.mean([judge(guess, None, matches, ["group"], strict).right["group"] for guess in guesses]))


def repeated(items: Sequence[Item]) -> list[str]:
    """A line for each item that has one text or image twice: such candidates always tie."""
    lines = []
    for item in items:
        if len({*item.texts}) < len(item.texts):
            lines.append(f"{item.id}: {len(item.texts) - len({*item.texts})} of its texts are another's equal")
        digests = [ref.digest() for ref in item.images] if len(item.images) > 1 else []
        if len({*digests}) < len(digests):
            lines.append(f"{item.id}: {len(digests) - len({*digests})} of its images are another's equal")
    return lines


def table_of(results: Sequence[ItemResult]) -> list[str]:
    """Accuracy by ask and tag with Wilson's interval, chance, questions and ties; then what it took."""
    lines = [f"{'ask':<7}{'tag':<24}{'right':>7}  {'95 % interval':<17}{'chance':>7}{'questions':>11}{'ties':>6}"]
    for row in summary([(result.tag, result.judged) for result in results]):
        some = [result for result in results if row.tag in ("", result.tag or UNTAGGED) and row.ask in result.right]
        guess = sum(r.chance[row.ask] * r.questions[row.ask] for r in some) / row.questions
        interval, tag = f"{row.low:.3f} to {row.high:.3f}", brief(row.tag, 60) or "all"
        lines.append(f"{row.ask:<7}{tag:<24}{row.value:>7.3f}  {interval:<17}{guess:>7.3f}{row.questions:>11}{row.ties:>6}")
    spent = sum(result.evaluations for result in results)
    return [*lines, f"{len(results)} items, {spent} network evaluations"]


def recalls_of(items: Sequence[Item], results: Sequence[ItemResult], asks: Sequence[Ask]) -> list[str]:
    """R@1, R@5, R@10 by ask, over the questions that have more than 5 candidates; a line for each ask that has such."""
    lines = []
    for ask in asks:
        found, most = [], 0
        for item, result in zip(items, results, strict=True):
            candidates = len(item.texts if ask == "text" else item.images)
            if candidates > FEW:
                null = None if result.null is None else -np.array(result.null)
                found.append((result.questions[ask], recall(-np.array(result.errors), null, item.matches, ask)))
                most = max(most, candidates)
        n = sum(questions for questions, _ in found)
        ranks = [k for k in (found[0][1] if found else ()) if k < most]
        shares = "  ".join(f"R@{k} {sum(questions * of[k] for questions, of in found) / n:.3f}" for k in ranks)
        lines += [f"{ask:<7}{shares}  ({n} questions of up to {most} candidates)"] if found else []
    return lines


def run_key(scorer: Scorer, *words: object) -> str:
    """Of weights and settings. RecipeError for a scorer that does not say which it has."""
    mark = getattr(scorer, "fingerprint", None)
    if mark is None:
        raise RecipeError(
            f"match: {type(scorer).__name__} has no fingerprint, so its results cannot be stored; leave the store out"
        )
    return f"{key_of('match', mark, *words):016x}"


def item_key(item: Item, run: str) -> str:
    """Of all that an answer depends on: the run, and the item's content."""
    content = [ref.digest() for ref in item.images]
    words = [len(content), *content, len(item.texts), *item.texts, *sorted(item.matches), item.tag, item.group]
    return f"{key_of(run, item.id, *words):016x}"
