"""Part-of-speech tags (Penn Treebank) of a caption's words: textblob's lexicon and Brill rules, or plain rules that say so."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from ...core.errors import MissingExtra, RecipeError
from ...core.load import near
from .words import ADJECTIVES, CLOSED, COLORS, COMPOUND_RELATIONS, ING_NOUNS, SIZES, VERBS

__all__ = ["RuleTagger", "Tagger", "TextblobTagger", "open_tagger"]


@runtime_checkable
@runtime_checkable
class Tagger(Protocol):
    """name: what outputs say about where tags came from. A call gives one Penn tag a word; punctuation is a word of its own."""

    @property
    def name(self) -> str: ...

    def __call__(self, words: Sequence[str]) -> list[str]: ...


class TextblobTagger:
    """textblob's English lexicon and contextual rules (the tagger of `pattern`); needs no download. MissingExtra without it."""

    def __init__(self) -> None:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it leaves the files of its lexicon to be closed by the collector
                import textblob
                from textblob.en import lexicon, parser

                lexicon.context.apply(parser.find_tags(["a", "cat"]))
        except ImportError as error:
            raise MissingExtra("textblob", "text", "tagger textblob") from error
        self.name = f"textblob {getattr(textblob, '__version__', '') or _version('textblob')}"
        self._lexicon, self._parser = lexicon, parser

    def __call__(self, words: Sequence[str]) -> list[str]:
        if not words:
            return []
        tagged = self._lexicon.context.apply([list(pair) for pair in self._parser.find_tags(list(words))])
        return mend(words, [tag for _, tag in tagged])


class RuleTagger:
    """Closed-class words, a list of adjectives and verbs, suffixes; the rest are nouns. Worse than a library; its name says so."""

    name = "plain rules (install relatum[text] for textblob)"

    def __call__(self, words: Sequence[str]) -> list[str]:
        tags = [_guess(word, word.lower()) for word in words]
        return mend(words, tags)


def open_tagger(name: str = "auto") -> Tagger:
    """ "textblob" (MissingExtra without it), "rules", or "auto": textblob where it is installed, else rules."""
    kinds = ("auto", "rules", "textblob")
    if name not in kinds:
        raise RecipeError(f"tagger: no {name!r}{near(name, kinds)}")
    return _opened(name)


@functools.cache
def _opened(name: str) -> Tagger:
    if name == "rules":
        return RuleTagger()
    try:
        return TextblobTagger()
    except MissingExtra:
        if name == "textblob":
            raise
        return RuleTagger()


def mend(words: Sequence[str], tags: Sequence[str]) -> list[str]:
    """What general taggers get wrong in captions: colors and sizes, participles before nouns, verbs in -ing, compound relations."""
    low, tags = [word.lower() for word in words], list(tags)
    for i, word in enumerate(low):
        after = tags[i + 1] if i + 1 < len(low) else ""
        before = tags[i - 1] if i else ""
        if word in CLOSED and word not in ("like", "past", "her", "one", "that", "no"):
            tags[i] = CLOSED[word]
        elif word in COLORS or word in SIZES:
            tags[i] = "NN" if word == "orange" and before == "DT" and _fruit(low[i + 1 : i + 4], after) else "JJ"
        elif word.endswith("ing") and word not in ING_NOUNS:
            follows = after in ("DT", "IN", "PRP$", "TO", "PRP", "RB", "CC", "") or after in ",."
            inner = before in ("DT", "JJ", "PRP$") and after[:2] == "NN"
            tags[i] = "VBG" if follows and before not in ("DT", "JJ", "PRP$") else "JJ" if inner else tags[i]
        elif tags[i] in ("VBN", "VBD") and before in ("DT", "JJ", "PRP$", "CD", "CC", "RB") and after[:2] in ("NN", "JJ"):
            tags[i] = "JJ" if before != "CC" or word.endswith("ed") else tags[i]
        elif word in ("light", "dark", "bright", "pale") and low[i + 1 : i + 2] and low[i + 1] in COLORS:
            tags[i] = "JJ"
        elif tags[i] in ("VB", "VBP") and (
            before in ("DT", "JJ", "PRP$") or after == "VBZ" or (before == "CD" and after[:2] == "NN")
        ):
            tags[i] = "NN"
        elif tags[i] == "JJ" and before == "DT" and after in ("", ".", ",", "IN", "VBZ", "VBG") and word not in ADJECTIVES:
            tags[i] = "NN"  # "a sink"
        elif tags[i] == "VBZ" and before == "NN" and after in ("", ".") and word not in VERBS:
            tags[i] = "NNS"  # "railroad tracks."
        elif tags[i] == "NNS" and before == "NN" and after in ("DT", "PRP$") and not words[i - 1][0].isupper():
            tags[i] = "VBZ"  # "a man walks a dog"
        elif tags[i] == "VBZ" and before in ("DT", "JJ", "PRP$", "CD") and after not in ("DT", "PRP$"):
            tags[i] = "NNS"
    for i in range(len(low)):
        for compound in COMPOUND_RELATIONS:
            if tuple(low[i : i + len(compound)]) == compound:
                tags[i : i + len(compound)] = ["IN"] * len(compound)
                break
    return tags


def _fruit(following: Sequence[str], tag: str) -> bool:
    """Whether "an orange" is one, and not the color of what follows."""
    return tag[:2] not in ("NN", "JJ", "CD") and tag not in ("VBG", "VBN") and not set(following[1:]) & COLORS


def _guess(word: str, low: str) -> str:
    if low in CLOSED:
        return CLOSED[low]
    if not any(c.isalnum() for c in word):
        return "," if word == "," else "."
    if low.replace(",", "").replace(".", "").isdigit():
        return "CD"
    if low in ADJECTIVES:
        return "JJ"
    if low in VERBS:
        return "VBZ" if low.endswith("s") else "VBP"
    for ending, tag in _ENDINGS:
        if low.endswith(ending) and len(low) > len(ending) + 2:
            return tag
    return "NNS" if low.endswith("s") and not low.endswith(("ss", "us", "is")) else "NN"


_ENDINGS = (
    ("ly", "RB"),
    ("ing", "VBG"),
    ("ed", "VBN"),
    *((ending, "JJ") for ending in ("ful", "ous", "ive", "less", "able", "ible", "ical", "ish")),
)


def _version(package: str) -> str:
    import importlib.metadata

    return importlib.metadata.version(package)
