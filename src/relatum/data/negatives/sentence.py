"""A caption as words, their tags, and what stands between them, so that moving words leaves punctuation, case and spaces tidy."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from .tagging import Tagger
from .words import article

__all__ = ["Sentence", "normal", "read_sentence"]

_CHUNK = re.compile(r"<[^<>]*>|&#?\w+;|(?:(?<=\d)[,:./](?=\d)|[^\s,;:!?…\"“”„«»()\[\]{}<>/|*=+~#@^。，、！？])+")
_END = re.compile(r"[.!?](?:[\"”')\]]*)\s")
_POSSESSIVE = re.compile(r"(?<=\w)['’]s$", re.IGNORECASE)


@dataclass(frozen=True)
class Sentence:
    """Words, one tag each, and gaps: what stands before each word, and last what stands after them all.

    words: in the case they have inside a sentence. capitals: whether a beginning is written with a capital.
    """

    words: tuple[str, ...]
    tags: tuple[str, ...]
    gaps: tuple[str, ...]
    capitals: bool = False
    original: tuple[tuple[str, str], ...] = ()  # an article and the word after it, as its author wrote them

    def permute(self, order: Sequence[int]) -> Sentence:
        """Words and tags in another order; the gaps stay."""
        return replace(self, words=tuple(self.words[i] for i in order), tags=tuple(self.tags[i] for i in order))

    def put(self, begin: int, end: int, words: Sequence[str], tags: Sequence[str] | None = None) -> Sentence:
        """Other words in the place of [begin, end); none deletes it. Tags default to the replaced ones, then "NN"."""
        kept = (*self.tags[begin:end], *["NN"] * len(words))[: len(words)]
        if words:
            gaps = (*self.gaps[: begin + 1], *[" "] * (len(words) - 1), *self.gaps[end:])
            if begin == end:  # an insertion needs a space of its own
                gaps = (*self.gaps[: begin + 1], *[" "] * len(words), *self.gaps[end + 1 :])
        else:
            gaps = (*self.gaps[:begin], self.gaps[begin] if begin == 0 else self.gaps[end], *self.gaps[end + 1 :])
        return replace(
            self,
            words=(*self.words[:begin], *words, *self.words[end:]),
            tags=(*self.tags[:begin], *(tags or kept), *self.tags[end:]),
            gaps=gaps,
        )

    def exchange(self, first: tuple[int, int], second: tuple[int, int]) -> Sentence:
        """Two spans of words, the first before the second, each in the other's place; gaps inside a span move with it."""
        (a, b), (c, d) = first, second
        order = (*range(a), *range(c, d), *range(b, c), *range(a, b), *range(d, len(self.words)))
        g = self.gaps
        gaps = (*g[: a + 1], *g[c + 1 : d], *g[b : c + 1], *g[a + 1 : b], *g[d:])
        return replace(self.permute(order), gaps=gaps)

    def joined(self) -> Sentence:
        """With "'s" as the end of its word, for orders in which it moves along."""
        words, gaps = list(self.words), list(self.gaps)
        for i, gap in enumerate(gaps[1:]):
            if gap[:2] in ("'s", "’s"):
                words[i], gaps[i + 1] = words[i] + gap[:2], gap[2:]
        return replace(self, words=tuple(words), gaps=tuple(gaps))

    @property
    def text(self) -> str:
        """The caption. a and an follow the sound of a new word; what the author wrote stays."""
        words = list(self.words)
        for i, (word, following) in enumerate(pairwise(words)):
            if word.lower() in ("a", "an") and self.gaps[i + 1].isspace() and (word, following) not in self.original:
                words[i] = _like(article(following), word)
        if self.capitals:
            for i, word in enumerate(words):
                if i == 0 or _END.search(self.gaps[i]):
                    words[i] = _raised(word)
        return "".join(part for pair in zip(self.gaps, (*words, ""), strict=True) for part in pair)


def read_sentence(caption: str, tagger: Tagger) -> Sentence:
    """Splits at white space and punctuation ("dog's" is "dog"; mark-up and emoji are no words) and tags. Any text will do."""
    words, gaps, end = [], [], 0
    for begin, stop in _spans(caption):
        words.append(caption[begin:stop])
        gaps.append(caption[end:begin])
        end = stop
    gaps.append(caption[end:])
    starts = [i for i in range(len(words)) if i == 0 or _END.search(gaps[i])]
    capitals = bool(words) and words[0][0].isupper()
    titled = sum(word[0].isupper() for word in words) > max(1, 0.6 * len(words))
    for i in starts:
        if not titled and _ordinary(words[i]) and not (i + 1 < len(words) and _name(words[i + 1])):
            words[i] = _lowered(words[i])
    tags = _tags(words, gaps, tagger)
    pairs = tuple((w, f) for w, f in pairwise(words) if w.lower() in ("a", "an"))
    return Sentence(tuple(words), tuple(tags), tuple(gaps), capitals, pairs)


def normal(text: str) -> tuple[str, ...]:
    """The words without case, white space and punctuation, a and an alike: what makes two captions the same."""
    text = unicodedata.normalize("NFKC", text)
    words = (text[begin:stop].casefold() for begin, stop in _spans(text))
    return tuple("a" if word == "an" else word for word in words)


def _spans(text: str) -> list[tuple[int, int]]:
    spans = []
    for match in _CHUNK.finditer(text):
        begin, end = match.span()
        if text[begin] in "<&" and end - begin > 1:
            continue  # mark-up
        while begin < end and not _letter(text[begin]):
            begin += 1
        while begin < end and not _letter(text[end - 1], inside=True):
            end -= 1
        if possessive := _POSSESSIVE.search(text, begin, end):
            end = possessive.start()
        if begin < end:
            spans.append((begin, end))
    return spans


def _letter(character: str, inside: bool = False) -> bool:
    """A letter or digit; inside a word also the marks that scripts put on letters, but not those that color emoji."""
    kind = unicodedata.category(character)
    return kind[0] in "LN" or (inside and kind[0] == "M" and character != "\ufe0f")


def _raised(word: str) -> str:
    """With a capital, where its first letter has one ("ß" has two)."""
    first = word[0].upper()
    return first + word[1:] if len(first) == 1 else word


def _lowered(word: str) -> str:
    """Without its capital, unless that would not come back (the dotted one of Turkish)."""
    low = word[0].lower() + word[1:]
    return low if _raised(low) == word else word


def _ordinary(word: str) -> bool:
    """Written with a capital because it begins a sentence, as far as its letters tell."""
    return word == "A" or (len(word) > 1 and word[0].isupper() and word[1:].islower())


def _name(word: str) -> bool:
    return word[0].isupper() and word[1:].islower() and len(word) > 1


def _tags(words: Sequence[str], gaps: Sequence[str], tagger: Tagger) -> list[str]:
    """Tags of the words, which the tagger sees with the punctuation between them."""
    seen, places = [], []
    for word, gap in zip(words, gaps, strict=False):
        mark = next((c for c in gap if c in ",.;:!?"), "")
        seen += ["'s"] if gap[:2] in ("'s", "’s") else []
        seen += [mark] if mark and seen else []
        places.append(len(seen))
        seen.append(word)
    tags = tagger(seen) if seen else []
    return [tags[place] for place in places]


def _like(word: str, sample: str) -> str:
    """`word` with a capital where the sample has one."""
    return word.capitalize() if sample[0].isupper() else word
