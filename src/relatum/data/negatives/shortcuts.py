"""What gives negatives away without an image (Hsieh et al. 2023, SugarCrepe): length, articles, how probable its words are."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ...core.draws import key_of
from .sentence import normal

__all__ = ["Shortcut", "shortcuts"]

ARTICLES = ("a", "the")
_BIGRAM, _UNIGRAM, _ANY = 0.7, 0.25, 0.05  # weights of the interpolation


@dataclass(frozen=True)
class Shortcut:
    """Of the pairs of one rule: how often a scorer that sees only text picks the caption; a tie counts a half, chance is 1/2.
    Below it where the negatives are themselves captions of the set, in other words: the scorer has seen those.

    bigram, unigram: the more probable (mean log-probability a word) under the captions of other folds. shorter: fewer words.
    words: mean length of the negative less the caption's. articles: share of negatives with an article where none can stand
    (before another or at the end); the captions' own share is in captions_articles.
    """

    rule: str
    pairs: int
    bigram: float
    unigram: float
    shorter: float
    words: float
    articles: float
    captions_articles: float
    captions: int


def shortcuts(pairs: Sequence[tuple[str, str, str]], folds: int = 5) -> list[Shortcut]:
    """Of (caption, negative, rule): all together as rule "all", then by rule. Captions of the same words share a fold, so that
    neither a caption nor another order of it is judged by counts that saw it."""
    captions = list(dict.fromkeys(normal(caption) for caption, _, _ in pairs))
    fold = {caption: key_of(*sorted(caption)) % folds for caption in captions}
    models = [_Words(c for c in captions if fold[c] != i) for i in range(folds)]
    by_rule: dict[str, list[tuple[tuple[str, ...], tuple[float, ...]]]] = {"all": []} if pairs else {}
    for text, wrong, rule in pairs:
        caption = normal(text)
        numbers = caption, _judge(caption, normal(wrong), models[fold[caption]])
        by_rule["all"].append(numbers)
        by_rule.setdefault(rule, []).append(numbers)
    return [_shortcut(rule, rows) for rule, rows in by_rule.items()]


def _shortcut(rule: str, rows: Sequence[tuple[tuple[str, ...], tuple[float, ...]]]) -> Shortcut:
    means = (sum(column) / len(rows) for column in zip(*(numbers for _, numbers in rows), strict=True))
    return Shortcut(rule, len(rows), *means, captions=len({caption for caption, _ in rows}))


def _judge(caption: tuple[str, ...], wrong: tuple[str, ...], model: _Words) -> tuple[float, ...]:
    def pick(true: float, false: float) -> float:
        return 0.5 if math.isclose(true, false, rel_tol=1e-12) else float(true > false)

    bigram = pick(model.bigram(caption), model.bigram(wrong))
    unigram = pick(model.unigram(caption), model.unigram(wrong))
    longer = len(wrong) - len(caption)
    return bigram, unigram, pick(longer, 0), float(longer), float(_broken(wrong)), float(_broken(caption))


def _broken(words: Sequence[str]) -> bool:
    after = [*words[1:], "a"]
    return any(word in ARTICLES and following in ARTICLES for word, following in zip(words, after, strict=True))


class _Words:
    """Interpolated bigrams; a word never seen has the probability of one in a vocabulary with room for it."""

    def __init__(self, captions: Iterable[tuple[str, ...]]) -> None:
        self.ones: Counter[str] = Counter()
        self.twos: Counter[tuple[str, str]] = Counter()
        self.first: Counter[str] = Counter()
        for caption in captions:
            marked = ("", *caption, "")
            self.ones.update(marked[1:])
            self.first.update(marked[:-1])
            self.twos.update(pairwise(marked))
        self.total = max(1, sum(self.ones.values()))
        self.any = _ANY / (len(self.ones) + 1)

    def bigram(self, caption: tuple[str, ...]) -> float:
        marked = ("", *caption, "")
        return sum(map(self._two, marked, marked[1:])) / (len(caption) + 1)

    def unigram(self, caption: tuple[str, ...]) -> float:
        total = math.fsum(math.log((1 - _ANY) * self.ones[word] / self.total + self.any) for word in caption)
        return total / max(1, len(caption))

    def _two(self, before: str, word: str) -> float:
        seen = self.first[before]
        two = _BIGRAM * self.twos[before, word] / seen if seen else 0.0
        return math.log(two + _UNIGRAM * self.ones[word] / self.total + self.any)
