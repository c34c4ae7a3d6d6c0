"""Noun phrases of a tagged caption, and what it says apart from orders that mean nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from .sentence import Sentence
from .words import COLORS, SIZES, VAGUE, vocabulary

__all__ = ["Phrase", "attribute_kind", "between", "meaning", "noun_phrases"]

DETERMINERS = ("DT", "PRP$", "CD", "PDT")
BE = vocabulary("is are was were be being been")
HOLDING = vocabulary(
    """
    group groups bunch lot lots couple pair pairs herd herds flock crowd bowl plate cup bottle slice slices piece pieces variety
    number row rows stack pile box basket set kind type team line vase few assortment series bit dozens hundreds container tray bag
    """
)
_POSTURES = vocabulary(
    """
    standing sitting laying lying parked placed resting posing seated stands sits lies lays stand sit lie lay stood sat
    """
)
SYMMETRIC = frozenset(
    (
        *(("next", "to"), ("beside",), ("near",), ("near", "to"), ("close", "to"), ("close", "by"), ("alongside",)),
        *(("adjacent", "to"), ("across", "from"), ("opposite",), ("far", "from"), ("by",), ("with",), ("apart", "from")),
        ("side", "by", "side", "with"),
    )
)


@dataclass(frozen=True)
class Phrase:
    """Words [begin, end): determiners, adjectives, nouns; a group and what is in it ("a pair of old shoes") are one phrase.

    first: where determiners end. nouns: the last is the head. attributes: adjectives that say how it looks, also after "is".
    """

    begin: int
    end: int
    first: int
    nouns: tuple[int, ...]
    attributes: tuple[int, ...]

    @property
    def head(self) -> int:
        return self.nouns[-1]


def noun_phrases(sentence: Sentence, bare: bool = False) -> list[Phrase]:
    """From left to right; none overlaps another. bare: also colors without a noun ("a girl in blue", "one red and one blue")."""
    found: list[Phrase] = []
    i = 0
    while i < len(sentence.words):
        phrase = _phrase(sentence, i, bare)
        group = found[-1] if found else None
        if phrase is not None and group is not None and phrase.begin == group.end + 1 and phrase.nouns and _holds(sentence, group):
            found[-1] = replace(phrase, begin=group.begin, first=group.first, attributes=(*group.attributes, *phrase.attributes))
        elif phrase is not None:
            found.append(phrase)
        i = phrase.end if phrase is not None else i + 1
    return found


def _holds(sentence: Sentence, group: Phrase) -> bool:
    of = (
        group.nouns
        and group.end < len(sentence.words)
        and sentence.words[group.end].lower() == "of"
        and _close(sentence, group.end)
        and _close(sentence, group.end + 1)
    )
    return bool(of) and sentence.words[group.head].lower() in HOLDING


def between(sentence: Sentence, first: Phrase, second: Phrase) -> tuple[str, ...]:
    """The words from one phrase to the next, in lower case; punctuation is a word ","."""
    words = [word.lower() for word in sentence.words[first.end : second.begin]]
    marks = [gap for gap in sentence.gaps[first.end : second.begin + 1] if gap.strip()]
    return (*([","] if marks else []), *words)


def meaning(sentence: Sentence) -> tuple[object, ...]:
    """What is the same for captions that differ only in the order of adjectives before one noun, of things joined by "and" or a
    comma, or of the two sides of a symmetric relation ("next to")."""
    phrases = noun_phrases(sentence, bare=True)
    units: list[tuple[object, ...]] = []  # phrases that are listed, then what leads on
    out: list[object] = [tuple(word.lower() for word in sentence.words[: phrases[0].begin])] if phrases else []
    listed: list[tuple[object, ...]] = []
    sides: list[object] = []
    relation: tuple[str, ...] = ()
    for i, phrase in enumerate(phrases):
        following = phrases[i + 1] if i + 1 < len(phrases) else None
        plain = _plain_phrase(sentence, phrase, following)
        shares = listed and not plain[0] and not plain[1]  # "white cabinets and tops": the tops are white too
        listed.append((*listed[-1][:2], plain[2]) if shares else plain)
        joint = between(sentence, phrase, following) if following else None
        if joint is not None and set(joint) <= {",", "and"}:
            continue
        sides.append(tuple(sorted(listed, key=repr)))
        listed = []
        bare = tuple(word for word in joint or () if word not in BE and word not in _POSTURES)
        if joint is not None and bare in SYMMETRIC and (not relation or bare == relation):
            relation = bare
            continue
        units.append((relation, tuple(sorted(sides, key=repr))))
        sides, relation = [], ()
        out += [units[-1], joint if joint is not None else tuple(_unordered(sentence, phrase.end))]
    return tuple(out) if phrases else tuple(_unordered(sentence, 0))


def attribute_kind(word: str) -> str:
    """ "color", "size" or "other"."""
    return "color" if word.lower() in COLORS else "size" if word.lower() in SIZES else "other"


def _phrase(sentence: Sentence, i: int, bare: bool) -> Phrase | None:
    tags, words, begin = sentence.tags, sentence.words, i
    while i < len(tags) and tags[i] in DETERMINERS and (i == begin or _close(sentence, i)):
        i += 1
    first, adjectives = i, []
    while i < len(tags) and (i == begin or _close(sentence, i) or ("," in sentence.gaps[i] and adjectives)):
        following = tags[i + 1] if i + 1 < len(tags) else ""
        if tags[i][:2] == "JJ":
            adjectives.append(i)
        elif not (
            (tags[i] == "RB" and following[:2] == "JJ")
            or (words[i].lower() in ("and", "&") and adjectives and following[:2] == "JJ" and _close(sentence, i + 1))
        ):
            break
        i += 1
    nouns = []
    while i < len(tags) and tags[i][:2] == "NN" and (i == begin or _close(sentence, i)):
        nouns.append(i)
        i += 1
    if not nouns and not (bare and any(attribute_kind(words[at]) == "color" for at in adjectives)):
        return None
    attributes = [at for at in adjectives if words[at].lower() not in VAGUE]
    return Phrase(begin, i, first, tuple(nouns), (*attributes, *(_said(sentence, i) if nouns else ())))


def _said(sentence: Sentence, i: int) -> Iterator[int]:
    """Adjectives after "is" that end there: "the cat is black and white"."""
    words, tags = sentence.words, sentence.tags
    if i >= len(words) or words[i].lower() not in BE or sentence.gaps[i].strip():
        return
    i += 1
    found = []
    while i < len(words) and (tags[i][:2] == "JJ" or tags[i] == "RB" or (found and words[i].lower() == "and")):
        found += [i] if tags[i][:2] == "JJ" and words[i].lower() not in VAGUE else []
        i += 1
    if i == len(words) or tags[i][:2] != "NN":
        yield from found


def _close(sentence: Sentence, i: int) -> bool:
    return sentence.gaps[i].isspace()


def _plain_phrase(sentence: Sentence, phrase: Phrase, following: Phrase | None) -> tuple[object, ...]:
    """Determiners, adjectives without their order, nouns: of the next phrase, where it has none ("a white and a black bicycle")."""

    described = _low(sentence, phrase.first, phrase.nouns[0] if phrase.nouns else phrase.end)
    owner = phrase if phrase.nouns or following is None else following
    nouns = _low(sentence, owner.nouns[0], owner.end) if owner.nouns else ()
    return _low(sentence, phrase.begin, phrase.first), described if "of" in described else tuple(sorted(described)), nouns


def _low(sentence: Sentence, begin: int, end: int) -> tuple[str, ...]:
    return tuple("a" if word.lower() == "an" else word.lower() for word in sentence.words[begin:end])


def _unordered(sentence: Sentence, begin: int) -> list[object]:
    """The rest of the words, adjectives joined by "and" without their order."""
    out: list[object] = []
    run: list[str] = []
    for word, tag in _rest(sentence, begin):
        if tag[:2] == "JJ" or (run and word == "and"):
            run.append(word)
        else:
            out += [tuple(sorted(run))] if run else []
            run = []
            out.append(word)
    return [*out, tuple(sorted(run))] if run else out


def _rest(sentence: Sentence, begin: int) -> Sequence[tuple[str, str]]:
    return [(w.lower(), t) for w, t in zip(sentence.words[begin:], sentence.tags[begin:], strict=True)]
