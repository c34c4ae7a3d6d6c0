"""Rules that bind wrongly: attributes, things and relations of a caption exchanged."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations, pairwise, product

from .phrases import Phrase, attribute_kind, between, noun_phrases
from .registry import register
from .sentence import Sentence
from .words import GROUPS, MASS, agree, plural, singular, vocabulary

__all__ = ["swap_attributes", "swap_nouns", "swap_relation"]


@register("swap_attributes", lacking="fewer than two things with an attribute each")
def swap_attributes(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """The adjectives of two noun phrases exchanged, like kinds (two colors) first; then whole groups of adjectives.

    "A room with blue walls and a white sink" gives "A room with white walls and a blue sink".
    """
    pairs = []
    phrases = [(p, _group(sentence, p)) for p in noun_phrases(sentence, bare=True)]
    kinds = {i: attribute_kind(sentence.words[i]) for p, _ in phrases for i in p.attributes}
    for (p, a), (q, b) in combinations(phrases, 2):
        for i, j in product(p.attributes, q.attributes):
            # what is called by its color alone takes a color
            if i < j and ((p.nouns and q.nouns) or kinds[i] == kinds[j] == "color"):
                pairs.append((kinds[i] != kinds[j], kinds[i] == "other", draw.random(), (i, i + 1), (j, j + 1), p, q))
        if a and b and p.nouns and q.nouns and a[1] <= b[0] and (len(p.attributes) > 1 or len(q.attributes) > 1):
            pairs.append((False, True, draw.random(), a, b, p, q))
    for *_, first, second, p, q in sorted(pairs, key=lambda pair: pair[:3]):
        if not _doubles(sentence, p, first, second) and not _doubles(sentence, q, second, first):
            yield sentence.exchange(first, second)


def _doubles(sentence: Sentence, phrase: Phrase, out: tuple[int, int], into: tuple[int, int]) -> bool:
    """Whether the phrase, given other attributes for its own, says one twice ("a small small ring")."""
    kept = {sentence.words[i].lower() for i in phrase.attributes if not out[0] <= i < out[1]}
    return any(word.lower() in kept for word in sentence.words[into[0] : into[1]])


def _group(sentence: Sentence, phrase: Phrase) -> tuple[int, int] | None:
    """The span of the attributes before the noun, where they stand together."""
    end = phrase.nouns[0] if phrase.nouns else phrase.end
    inside = [i for i in phrase.attributes if phrase.first <= i < end]
    joined = inside and all(sentence.tags[i][:2] in ("JJ", "CC") for i in range(inside[0], inside[-1] + 1))
    return (inside[0], inside[-1] + 1) if joined else None


@register("swap_nouns", lacking="fewer than two nouns")
def swap_nouns(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """What two noun phrases speak of exchanged, attributes left behind, each in the number of its new place; then the whole
    phrases; then other single nouns ("kitchen" of "kitchen sink")."""
    whole, single, pairs = [], [], []
    phrases = [(n, p, _things(sentence, p)) for n, p in enumerate(noun_phrases(sentence)) if not _uncounted(sentence, p)]
    for (a, p, some), (b, q, others) in combinations(phrases, 2):
        pairs.append((draw.random(), (p.nouns[0], p.end), (q.nouns[0], q.end)))
        if b > a + 1 and (p.nouns[0] > p.begin or q.nouns[0] > q.begin) and not _owns(sentence, q):
            whole.append((draw.random(), p, q))
        if len(p.nouns) + len(q.nouns) > 2:
            single += [(draw.random(), (i, i + 1), (j, j + 1)) for i, j in product(some, others)]
    yield from (_renumbered(sentence, a, b) for _, a, b in sorted(pairs))
    yield from (_exchanged(sentence, p, q) for _, p, q in sorted(whole, key=lambda pair: pair[0]))
    yield from (_renumbered(sentence, a, b) for _, a, b in sorted(single))


def _renumbered(sentence: Sentence, first: tuple[int, int], second: tuple[int, int]) -> Sentence:
    """Two spans exchanged, their last nouns each in the number of the other."""
    swapped, tags = sentence.exchange(first, second), sentence.tags
    ends = first[1] - 1, second[1] - 1
    if {tags[end] for end in ends} == {"NN", "NNS"}:
        moved = first[0] + second[1] - second[0] - 1  # the second's end in the first's place
        for place, tag in ((moved, tags[ends[0]]), (ends[1], tags[ends[1]])):
            word = swapped.words[place]
            if word.lower() not in MASS:
                swapped = swapped.put(place, place + 1, [plural(word) if tag == "NNS" else singular(word)], [tag])
    return swapped


def _things(sentence: Sentence, phrase: Phrase) -> list[int]:
    return [i for i in phrase.nouns if sentence.words[i].lower() not in GROUPS]


# A relation by the one that takes its place. The longest that fits is read.
_PAIRS = (
    "to the left of|to the right of",
    "on the left of|on the right of",
    "on the left side|on the right side",
    "on the left|on the right",
    "at the left|at the right",
    "left of|right of",
    "left side|right side",
    "left hand|right hand",
    "in front of|behind",
    "above|below",
    "on top of|under",
    "inside of|outside of",
    "inside|outside",
    "into|out of",
    "in the foreground|in the background",
    "on the top of|on the bottom of",
    "at the top|at the bottom",
    "before|after",
    "upstairs|downstairs",
    "indoors|outdoors",
    "next to|far from",
)
_OPPOSITES: dict[tuple[str, ...], str] = {
    **{tuple(pair.split("|")[i].split()): pair.split("|")[1 - i] for pair in _PAIRS for i in (0, 1)},
    ("in", "back", "of"): "in front of",
    ("beneath",): "above",
    ("underneath",): "on top of",
    ("under",): "on top of",
    ("over",): "under",
    ("atop",): "under",
    ("near",): "far from",
    ("beside",): "far from",
}
_NO_SURFACE = vocabulary(
    """
    day night morning evening afternoon way phone cellphone telephone display side trip weekend vacation break background
    foreground air left right front back top bottom sunny weekday holiday occasion tv television
    """
)
_BARE = frozenset(("before", "after", "inside", "outside", "over", "near"))  # relations only where a thing follows


@register("swap_relation", lacking="no relation with an opposite, and no two things around a relation")
def swap_relation(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """A spatial relation by its opposite (left and right, above and below, in front of and behind, on and under, ...), then the
    two noun phrases around a relation exchanged. Verbs agree with their new subject."""
    phrases = noun_phrases(sentence)
    yield from _opposites(sentence, phrases)
    pairs = list(pairwise(phrases))
    for p, q in draw.sample(pairs, len(pairs)):
        joint, tags = between(sentence, p, q), sentence.tags[p.end : q.begin]
        relates = any(tag == "IN" or tag[:2] == "VB" for tag in tags) and not {",", "and", "or", "but"} & set(joint)
        if relates and joint != ("of",) and not _owns(sentence, q) and not _uncounted(sentence, p) and not _uncounted(sentence, q):
            yield _exchanged(sentence, p, q)


def _opposites(sentence: Sentence, phrases: list[Phrase]) -> Iterator[Sentence]:
    low, starts, i = [word.lower() for word in sentence.words], {p.begin: p for p in phrases}, 0
    while i < len(low):
        fits = [one for one in _OPPOSITES if tuple(low[i : i + len(one)]) == one and _close(sentence, i, len(one))]
        best = max(fits, key=len, default=())
        thing = starts.get(i + len(best)) if best else None
        if best and (thing is not None or best[0] not in _BARE) and not (best == ("over",) and _number(sentence, i + 1)):
            yield sentence.put(i, i + len(best), _OPPOSITES[best].split(), ["IN"] * len(_OPPOSITES[best].split()))
        elif low[i] == "on" and (thing := starts.get(i + 1)) is not None and low[thing.head] not in _NO_SURFACE:
            following = low[thing.end] if thing.end < len(low) else ""
            if following != "of" or low[thing.head] not in GROUPS:
                yield sentence.put(i, i + 1, ["under"], ["IN"])
        i += max(1, len(best))


def _close(sentence: Sentence, i: int, count: int) -> bool:
    return all(gap.isspace() for gap in sentence.gaps[i + 1 : i + count])


def _number(sentence: Sentence, i: int) -> bool:
    return i < len(sentence.tags) and sentence.tags[i] == "CD"


def _uncounted(sentence: Sentence, phrase: Phrase) -> bool:
    return sentence.words[phrase.head].lower() in GROUPS


def _owns(sentence: Sentence, phrase: Phrase) -> bool:
    return sentence.gaps[phrase.end][:2] in ("'s", "’s")


def _exchanged(sentence: Sentence, p: Phrase, q: Phrase) -> Sentence:
    many = [sentence.tags[phrase.head] in ("NNS", "NNPS") for phrase in (p, q)]
    swapped = sentence.exchange((p.begin, p.end), (q.begin, q.end))
    verb = p.begin + q.end - q.begin  # the first word between them, where the other phrase is now before it
    if many[0] != many[1] and q.begin > p.end and sentence.tags[p.end] in ("VBZ", "VBP", "VBD"):
        swapped = swapped.put(verb, verb + 1, [agree(swapped.words[verb], many[1])])
    return swapped
