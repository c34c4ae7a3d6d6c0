"""The four COCO-Order rules of ARO (Yuksekgonul et al. 2023, section 2.3): the caption's own words in another order.

Where we differ: punctuation stays in its place, a and an follow the next word, the words of compound relations ("next to", "on top
of") are no adjectives or nouns, and an order that changes nothing is drawn again.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from .registry import register
from .sentence import Sentence

__all__ = ["shuffle_all_but_nouns_adjectives", "shuffle_nouns_adjectives", "shuffle_trigrams", "shuffle_within_trigrams"]

TRIES = 10
_NOTHING = "fewer than two different words to shuffle"


@register("shuffle_nouns_adjectives", lacking=_NOTHING, most=1)
def shuffle_nouns_adjectives(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """Nouns permuted among nouns, adjectives among adjectives."""
    classes = [[i for i, tag in enumerate(sentence.tags) if tag[:2] == kind] for kind in ("NN", "JJ")]
    yield from _shuffled(sentence, classes, draw)


@register("shuffle_all_but_nouns_adjectives", lacking=_NOTHING, most=1)
def shuffle_all_but_nouns_adjectives(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """All other words permuted."""
    yield from _shuffled(sentence.joined(), [[i for i, tag in enumerate(sentence.tags) if tag[:2] not in ("NN", "JJ")]], draw)


@register("shuffle_within_trigrams", lacking=_NOTHING, most=1)
def shuffle_within_trigrams(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """Words permuted inside each group of three."""
    yield from _shuffled(sentence.joined(), _trigrams(sentence), draw)


@register("shuffle_trigrams", lacking="three words or fewer", most=1)
def shuffle_trigrams(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """Groups of three words permuted, each whole."""
    sentence, groups = sentence.joined(), _trigrams(sentence)
    for _ in range(TRIES if len(groups) > 1 else 0):
        yield sentence.permute([i for group in draw.sample(groups, len(groups)) for i in group])


def _trigrams(sentence: Sentence) -> list[list[int]]:
    return [list(range(i, min(i + 3, len(sentence.words)))) for i in range(0, len(sentence.words), 3)]


def _shuffled(sentence: Sentence, classes: Sequence[Sequence[int]], draw: random.Random) -> Iterator[Sentence]:
    """Words permuted within each class of places, `TRIES` times; nothing where no class has two different words."""
    classes = [places for places in classes if len({sentence.words[i].lower() for i in places}) > 1]
    for _ in range(TRIES if classes else 0):
        order = list(range(len(sentence.words)))
        for places in classes:
            for place, taken in zip(places, draw.sample(places, len(places)), strict=True):
                order[place] = taken
        yield sentence.permute(order)
