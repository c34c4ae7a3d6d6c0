"""Questions put to a scorer one by one: each answer is stored as soon as it is known, and none is asked twice."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..atomic import make_folder, needs_disk, write_text
from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..data.benchmarks.item import Ask, Item
from ..data.rows import ImageRef
from ..engine.match import Scorer, every_pair
from ..metrics.matching import Judged, judge, summary

__all__ = ["ItemResult", "chance", "match_items", "repeated", "table_of"]

IMAGES, TEXTS = 32, 512  # the block of pairs that is scored at once: bounds what is held in memory
START = '{"run": "'  # of a line
DRAWS = 4000  # of a guess, where its chance has no plain formula


@dataclass(frozen=True)
class ItemResult:
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
    null: bool | None = None,
    report: Callable[[ItemResult], None] | None = None,
) -> list[ItemResult]:
    """Every item's result, in the items' order.

    size: edge in pixels to which images are cropped and resized. asks, strict: as a `Benchmark` has them; no asks: scores alone.
    null: whether the empty text is scored; by default where images are ranked. store: a file of JSON lines that grows with every
    item; the same call goes on from it and scores only what it lacks. report: called with every result. DataError: no items, two of
    one id, an image that cannot be read, a score that is not finite. RecipeError: the store holds another scorer's or setting's.
    """
    if not items:
        raise DataError("match: no items; the benchmark is empty, or all of it was skipped")
    twice = {item.id for item in items}
    if len(twice) < len(items):
        ids = [item.id for item in items]
        raise DataError(f"match: two items have the id {next(i for i in ids if ids.count(i) > 1)!r}")
    subtract = bool({"image", "group"} & {*asks}) if null is None else null
    with _Store(store, _run_key(scorer, size, asks, strict, subtract) if store is not None else "") as kept:
        results = []
        for item in items:
            key = kept.key_of(item)
            if (known := kept.find(item.id, key)) is None:
                known = _result(scorer, item, size, asks, strict, subtract, key)
                kept.add(known)
            if report is not None:
                report(known)
            results.append(known)
        kept.finish(results)
    return results


def _result(scorer: Scorer, item: Item, size: int, asks: Sequence[Ask], strict: bool, subtract: bool, key: str) -> ItemResult:
    before = getattr(scorer, "evaluations", 0)
    scores, null = _scores(scorer, item, size, subtract)
    try:
        judged = judge(scores, null, item.matches, asks, strict) if asks else Judged({}, {}, {})
    except DataError as error:
        raise DataError(f"match: item {item.id}: {error}") from error
    if not np.isfinite(scores).all():
        raise DataError(f"match: item {item.id}: a score is not finite; a model that scores so cannot be judged")
    guess = {ask: chance(scores.shape, item.matches, ask, strict) for ask in asks}
    spent = getattr(scorer, "evaluations", 0) - before
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
        raise DataError(f"match: item {item.id}: {error}") from error


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
        some = [result for result in results if row.tag in ("", result.tag) and row.ask in result.right]
        guess = sum(r.chance[row.ask] * r.questions[row.ask] for r in some) / row.questions
        interval = f"{row.low:.3f} to {row.high:.3f}"
        lines.append(
            f"{row.ask:<7}{row.tag or 'all':<24}{row.value:>7.3f}  {interval:<17}{guess:>7.3f}{row.questions:>11}{row.ties:>6}"
        )
    spent = sum(result.evaluations for result in results)
    return [*lines, f"{len(results)} items, {spent} network evaluations"]


def _run_key(scorer: Scorer, size: int, asks: Sequence[str], strict: bool, subtract: bool) -> str:
    mark = getattr(scorer, "fingerprint", None)
    if mark is None:
        raise RecipeError(
            f"match: {type(scorer).__name__} has no fingerprint, so its results cannot be stored; leave the store out"
        )
    return f"{key_of('match', mark, size, *sorted(asks), strict, subtract):016x}"


class _Store:
    """Results by item id in a file of JSON lines. A line that was cut off is dropped, and its item asked again."""

    def __init__(self, path: Path | None, run: str) -> None:
        self.path, self.run, self._file = path, run, None
        self.known = {} if path is None else _read(path, run)
        if path is not None:
            make_folder(path.parent)
            write_text(path, "".join(_line(run, result) for result in self.known.values()))
            self._file = path.open("a", encoding="utf-8")

    def key_of(self, item: Item) -> str:
        """Of all that an answer depends on; empty where nothing is stored."""
        if self.path is None:
            return ""
        content = [ref.digest() for ref in item.images]
        words = [len(content), *content, len(item.texts), *item.texts, *sorted(item.matches), item.tag, item.group]
        return f"{key_of(self.run, item.id, *words):016x}"

    def find(self, name: str, key: str) -> ItemResult | None:
        known = self.known.get(name)
        return known if known is not None and known.key == key else None

    def add(self, result: ItemResult) -> None:
        """On the disk before the next one begins."""
        if self._file is not None and self.path is not None:
            with needs_disk(self.path.parent):
                self._file.write(_line(self.run, result))
                self._file.flush()
                os.fsync(self._file.fileno())

    def finish(self, results: Sequence[ItemResult]) -> None:
        """These results in their order, then what the file knew of other items, such as those beyond a limit."""
        if self.path is not None:
            now = {result.id: result for result in results}
            rest = [result for name, result in self.known.items() if name not in now]
            write_text(self.path, "".join(_line(self.run, result) for result in (*results, *rest)))

    def __enter__(self) -> _Store:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _line(run: str, result: ItemResult) -> str:
    return json.dumps({"run": run, **asdict(result)}, allow_nan=False) + "\n"


def _read(path: Path, run: str) -> dict[str, ItemResult]:
    return {result.id: result for result in _stored(path, run)} if path.exists() else {}


def _stored(path: Path, run: str) -> Iterator[ItemResult]:
    wanted = {one.name for one in fields(ItemResult)} | {"run"}
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as results ({error}); choose another file") from error
    *whole, cut = lines  # what follows the last line's end was cut off
    if not cut.startswith(START[: len(cut)]):
        raise DataError(f"{path}:{len(lines)}: is no result of relatum match; choose another file")
    for number, line in enumerate(whole, 1):
        try:
            table = json.loads(line)
        except ValueError:
            table = None
        if not isinstance(table, dict) or table.keys() != wanted:
            raise DataError(f"{path}:{number}: is no result of relatum match; choose another file")
        if table.pop("run") != run:
            raise RecipeError(f"{path}:{number}: holds results of another model, benchmark or setting; choose another file")
        yield ItemResult(**table)
