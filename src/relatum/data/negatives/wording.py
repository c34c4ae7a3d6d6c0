"""Rules that change a word: negation and quantity."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import combinations

from .phrases import Phrase, noun_phrases
from .registry import register
from .sentence import Sentence
from .words import GROUPS, NUMBERS, agree, plural, singular

__all__ = ["negation", "quantity"]

_BE = ("is", "are", "was", "were")
_WHO = ("that", "which", "who")
_DENIED = {"isn't": "is", "aren't": "are", "wasn't": "was", "weren't": "were"}


@register("negation", lacking="nothing to deny: no is or are, no a or an, no with", most=4)
def negation(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """ "is" and "are" by "is not" (and back), "with" by "without" (and back), "a cat" by "no cat" where no preposition precedes."""
    low, made = [word.lower() for word in sentence.words], []
    for i, word in enumerate(low):
        following = low[i + 1] if i + 1 < len(low) else ""
        if word in _BE and following == "not":
            made.append(sentence.put(i + 1, i + 2, []))
        elif word in _BE and following and sentence.gaps[i + 1].isspace() and not (i and low[i - 1] == "there"):
            made.append(sentence.put(i, i + 1, [sentence.words[i], "not"], [sentence.tags[i], "RB"]))
        elif word in _DENIED:
            made.append(sentence.put(i, i + 1, [_DENIED[word]]))
        elif word == "with" and i and sentence.tags[i - 1] in ("VBN", "VBD", "VBG"):
            made.append(sentence.put(i - 1, i, ["not", sentence.words[i - 1]], ["RB", sentence.tags[i - 1]]))
        elif word in ("with", "without") and following:
            made.append(sentence.put(i, i + 1, ["without" if word == "with" else "with"]))
    for phrase in noun_phrases(sentence):
        if (
            low[phrase.begin] in ("a", "an", "some")
            and _free(sentence, phrase)
            and low[phrase.begin - 1 : phrase.begin] != ["with"]
        ):
            made.append(sentence.put(phrase.begin, phrase.begin + 1, ["no"]))
        elif low[phrase.begin] == "no":
            one = sentence.tags[phrase.head] == "NN"
            made.append(sentence.put(phrase.begin, phrase.begin + 1, ["a" if one else "some"]))
        elif phrase.begin == phrase.first == 0 and sentence.tags[phrase.head] == "NNS":
            made.append(sentence.put(0, 0, ["no"], ["DT"]))
    yield from draw.sample(made, len(made))


@register("quantity", lacking="no number and no countable thing", most=4)
def quantity(sentence: Sentence, draw: random.Random) -> Iterator[Sentence]:
    """The numbers of two things exchanged; then another number, at most two off: words to twelve, digits to twenty, "a" or "one" by
    "two" or "three". Nouns and verbs take the number of what they now count."""
    counted = [(phrase, at) for phrase in noun_phrases(sentence) if (at := _number_of(sentence, phrase)) is not None]
    pairs = [pair for pair in combinations(counted, 2) if len({_value(sentence.words[at]) for _, at in pair}) > 1]
    for (p, i), (q, j) in draw.sample(pairs, len(pairs)):
        later = _counted(sentence, q, j, sentence.words[i])  # words before it stay where they are
        yield _counted(later, p, i, sentence.words[j])
    for phrase, at in draw.sample(counted, len(counted)):
        word = sentence.words[at]
        count = _value(word) or 1
        if word.lower() in ("a", "an") and not _free(sentence, phrase):
            continue
        other = draw.choice((2, 3) if count == 1 else [n for n in (count - 2, count - 1, count + 1, count + 2) if n > 0])
        yield _counted(sentence, phrase, at, str(other) if word.isdigit() or other >= len(NUMBERS) else NUMBERS[other])


def _number_of(sentence: Sentence, phrase: Phrase) -> int | None:
    """Where a phrase says how many, if it says a number that can be changed."""
    for i in range(phrase.begin, phrase.first):
        if sentence.tags[i] == "CD":
            return i if _value(sentence.words[i]) is not None and _plain_number(sentence, i) else None
    owns = sentence.gaps[phrase.end][:2] in ("'s", "’s")
    countable = (
        sentence.tags[_counted_noun(sentence, phrase)] == "NN"
        and not owns
        and not any(sentence.words[i].lower() in GROUPS for i in (_counted_noun(sentence, phrase), phrase.first))
    )
    return phrase.begin if sentence.words[phrase.begin].lower() in ("a", "an") and countable else None


def _free(sentence: Sentence, phrase: Phrase) -> bool:
    """A thing that is counted for itself: no idiom ("a lot of"), and no place ("on a street")."""
    before = sentence.words[phrase.begin - 1].lower() if phrase.begin else ""
    placed = phrase.begin and sentence.tags[phrase.begin - 1] in ("IN", "TO") and before != "with"
    return not placed and not any(sentence.words[i].lower() in GROUPS for i in (_counted_noun(sentence, phrase), phrase.first))


def _value(word: str) -> int | None:
    if word.lower() in ("a", "an"):
        return 1
    if word.lower() in NUMBERS:
        return NUMBERS.index(word.lower())
    return int(word) if word.isascii() and word.isdigit() and 0 < int(word) <= 20 else None


def _plain_number(sentence: Sentence, i: int) -> bool:
    """Not "10 %", "# 3" or the like."""
    return not sentence.gaps[i + 1].strip() and not sentence.gaps[i].strip("\"'“”(,.;:!? \t\n")


def _counted(sentence: Sentence, phrase: Phrase, at: int, word: str) -> Sentence:
    """The phrase with another number, its noun and verb agreeing."""
    out = sentence.put(at, at + 1, [word], ["DT" if word.lower() in ("a", "an") else "CD"])
    head, many = _counted_noun(sentence, phrase), _value(word) != 1
    if sentence.tags[head] in ("NN", "NNS"):
        noun = out.words[head]
        out = out.put(head, head + 1, [plural(noun) if many else singular(noun)], ["NNS" if many else "NN"])
    was = sentence.tags[head] == "NNS"
    verb = _verb(out, phrase)
    if was != many and verb is not None:
        out = out.put(verb, verb + 1, [agree(out.words[verb], many)])
    before = phrase.begin - 1
    if was != many and before > 0 and out.words[before - 1].lower() == "there":
        out = out.put(before, before + 1, [agree(out.words[before], many)])
    return out


def _counted_noun(sentence: Sentence, phrase: Phrase) -> int:
    """The last noun, or the group's ("two pairs of shoes")."""
    for i in range(phrase.first, phrase.nouns[0]):
        if sentence.words[i].lower() == "of":
            return i - 1
    return phrase.head


def _verb(sentence: Sentence, phrase: Phrase) -> int | None:
    """The finite verb whose subject the phrase is: next to it, after "that", or, for the first phrase, the first that is no
    other's ("a man in red is playing")."""
    words, tags, i = sentence.words, sentence.tags, phrase.end
    relative = i + 1 < len(words) and words[i].lower() in _WHO
    if phrase.begin and tags[phrase.begin - 1] in ("IN", "CC", "TO") and not relative:
        return None
    i += relative
    for at in range(i, len(words) if phrase.begin == 0 else min(i + 1, len(words))):
        if words[at].lower() in _WHO or tags[at] == "CC" or (at > i and sentence.gaps[at].strip()):
            return None
        if tags[at] in ("VBZ", "VBP", "VBD"):
            return at
    return None
