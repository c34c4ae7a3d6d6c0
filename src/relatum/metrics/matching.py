"""Image-text matching from scores alone: which image finds its text, which text its image, and how often that was a tie."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray

from ..core.errors import DataError
from .safety import wilson

__all__ = ["UNTAGGED", "Accuracy", "Judged", "judge", "recall", "summary"]

UNTAGGED = "no tag"  # name of the items without one, where others have one
Matches = Iterable[tuple[int, int]]
_Scores = NDArray[np.float64]


@dataclass(frozen=True)
class Judged:
    """One item, by ask. right: in [0, 1]. ties: questions whose best score a match shares with another. questions: how many
    `right` is the mean over; 1 where all of the item's must be right at once.
    """

    right: dict[str, float]
    ties: dict[str, int]
    questions: dict[str, int]


class Accuracy(NamedTuple):
    """A share of right answers with its 95 % interval by Wilson, which takes questions as independent. tag "": all items,
    UNTAGGED: those without one.
    """

    ask: str
    tag: str
    value: float
    low: float
    high: float
    questions: int
    ties: int


class _Question(NamedTuple):
    """By the score of the best match: how many score above it, how many just it, and how many of these match."""

    above: int
    tied: int
    matching: int

    @property
    def is_tie(self) -> bool:
        return self.above == 0 and self.tied > self.matching

    def within(self, k: int) -> float:
        """Chance that a match is among the first k, where equal scores come in random order."""
        free = min(k - self.above, self.tied)
        if free <= 0:
            return 0.0
        all_ways, without = math.comb(self.tied, free), math.comb(self.tied - self.matching, free)
        return (all_ways - without) / all_ways


def judge(
    scores: Float[Any, "images texts"],
    null: Float[Any, "images"] | None,
    matches: Matches,
    asks: Sequence[str],
    strict: bool,
) -> Judged:
    """What the scores (higher: better match) of one item's images and texts get right; matches: (image, text) that belong together.

    "text": each image that has a match looks for it among the texts, by score(x, w). "image": each text looks among the images, by
    score(x, w) - score(x, null) where null is given (Krojer et al. 2023, eq. 3). "group": both (Winoground, Thrush et al. 2022).
    strict: 1 if for each of them a match scores above all that do not belong, else 0. Otherwise the mean over them,
    a tie at the top counting for the share of matches in it. DataError for scores that are not finite or a question without answer.

    >>> judge(np.array([[3.0, 1.0], [2.0, 2.0]]), None, [(0, 0), (1, 1)], ["text"], strict=False).right
    {'text': 0.75}
    """
    if unknown := sorted(set(asks) - {"text", "image", "group"}):
        raise ValueError(f"asks: found {unknown[0]!r}, expected text, image or group")
    if "group" in asks and not strict:
        raise ValueError("asks: 'group' joins the two sides of a strict benchmark; leave it out or set strict")
    asked = {ask: _questions(scores, null, matches, ask) for ask in ("text", "image") if {ask, "group"} & set(asks)}
    if "group" in asks:
        asked["group"] = [*asked["text"], *asked["image"]]
    asked = {ask: asked[ask] for ask in asks}
    if strict:
        right = {ask: float(all(q.above == 0 and not q.is_tie for q in some)) for ask, some in asked.items()}
    else:
        right = {ask: sum(q.within(1) for q in some) / len(some) for ask, some in asked.items()}
    ties = {ask: sum(q.is_tie for q in some) for ask, some in asked.items()}
    return Judged(right, ties, {ask: 1 if strict else len(some) for ask, some in asked.items()})


def recall(
    scores: Float[Any, "images texts"],
    null: Float[Any, "images"] | None,
    matches: Matches,
    ask: str,
    at: Sequence[int] = (1, 5, 10),
) -> dict[int, float]:
    """R@k: the share of images (ask "text") or texts (ask "image") that have a match among their first k.

    Equal scores are taken as in random order, so that a constant scorer of n candidates gets k / n with one match each.
    """
    questions = _questions(scores, null, matches, ask)
    return {k: sum(q.within(k) for q in questions) / len(questions) for k in at}


def summary(items: Sequence[tuple[str, Judged]]) -> list[Accuracy]:
    """Accuracy by ask over (tag, judged) items: of all of them, then by tag in the order of their arrival."""
    rows = []
    if any(tag for tag, _ in items):
        items = [(tag or UNTAGGED, judged) for tag, judged in items]
    for ask in dict.fromkeys(ask for _, judged in items for ask in judged.right):
        for tag in dict.fromkeys(["", *(tag for tag, _ in items)]):
            rows.append(_accuracy(ask, tag, [judged for of, judged in items if tag in ("", of) and ask in judged.right]))
    return [row for row in rows if row.questions]


def _accuracy(ask: str, tag: str, items: Sequence[Judged]) -> Accuracy:
    n = sum(judged.questions[ask] for judged in items)
    if not n:
        return Accuracy(ask, tag, math.nan, math.nan, math.nan, 0, 0)
    right = sum(judged.right[ask] * judged.questions[ask] for judged in items)
    return Accuracy(ask, tag, right / n, *wilson(min(right, n), n), n, sum(judged.ties[ask] for judged in items))


def _questions(scores: Any, null: Any, matches: Matches, ask: str) -> list[_Question]:
    """One for each image (ask "text") or text (ask "image") that has a match."""
    table, belong = _checked(scores, null, matches)
    if ask == "image":
        table = (table if null is None else table - np.asarray(null, np.float64)[:, None]).T
        belong = belong.T
    return [_question(row, mask) for row, mask in zip(table, belong, strict=True) if mask.any()]


def _question(scores: _Scores, matching: NDArray[np.bool_]) -> _Question:
    best = scores[matching].max()
    tied = scores == best
    return _Question(int((scores > best).sum()), int(tied.sum()), int((tied & matching).sum()))


def _checked(scores: Any, null: Any, matches: Matches) -> tuple[_Scores, NDArray[np.bool_]]:
    table = np.asarray(scores, np.float64)
    for name, values in {
        "scores": table,
        "scores of the empty caption": np.asarray(() if null is None else null, np.float64),
    }.items():
        if not np.isfinite(values).all():
            at = tuple(int(i) for i in np.argwhere(~np.isfinite(values))[0])
            place = f"image {at[0]}" + (f", text {at[1]}" if len(at) > 1 else "")
            raise DataError(f"{name}: {place} is {values[at]}; a model that scores so cannot be judged")
    belong = np.zeros(table.shape, np.bool_)
    for image, text in matches:
        if not (0 <= image < table.shape[0] and 0 <= text < table.shape[1]):
            raise DataError(f"matches: ({image}, {text}) is not among {table.shape[0]} images and {table.shape[1]} texts")
        belong[image, text] = True
    if not belong.any():
        raise DataError("matches: none, so there is nothing to find")
    return table, belong
