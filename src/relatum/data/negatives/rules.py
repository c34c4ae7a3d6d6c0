"""Wrong captions of a caption, each by a named rule; the same for the same caption, rule and key."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice, pairwise

from ...core.draws import key_of
from . import orders, swaps, wording  # noqa: F401  they register their rules
from .phrases import meaning
from .registry import Rule, find_rule
from .sentence import Sentence, normal, read_sentence
from .tagging import Tagger, open_tagger

__all__ = ["ORDER_RULES", "RULES", "Negative", "Perturbed", "Refused", "perturb"]

ORDER_RULES = (  # COCO-Order of ARO
    "shuffle_nouns_adjectives",
    "shuffle_all_but_nouns_adjectives",
    "shuffle_within_trigrams",
    "shuffle_trigrams",
)
# Hardest first: what still is a fluent sentence about the same things, then what says something else of them, then word salad.
RULES = ("swap_attributes", "swap_relation", "swap_nouns", "shuffle_nouns_adjectives", "quantity", "negation", *ORDER_RULES[1:])
TRIED = 64  # candidates of one rule that are looked at, of captions that have more


@dataclass(frozen=True)
class Negative:
    """A wrong caption and the rule that made it."""

    text: str
    rule: str


@dataclass(frozen=True)
class Refused:
    """A negative that was not given, or a rule that had nothing to change, and why."""

    rule: str
    reason: str


@dataclass(frozen=True)
class Perturbed:
    """negatives: in the order of the rules asked for, each rule's best first; no two are the same after normalization."""

    negatives: tuple[Negative, ...]
    refused: tuple[Refused, ...]


def perturb(caption: str, rules: Sequence[str] = RULES, key: int = 0, tagger: Tagger | None = None) -> Perturbed:
    """Wrong captions. Deterministic in caption, rule and key. tagger: default textblob where installed, else plain rules.

    Refused, with a reason: what equals the caption or another negative after normalization (case, white space, punctuation, a and
    an), what says a word twice in a row, and what says the same by symmetry (things joined by "and" exchanged). RecipeError for a
    rule that does not exist.

    >>> from relatum.data.negatives.tagging import RuleTagger
    >>> perturb("a red circle and a blue square", ["swap_attributes"], tagger=RuleTagger()).negatives[0].text
    'a blue circle and a red square'
    """
    found = [find_rule(name) for name in rules]
    sentence = read_sentence(caption, tagger or open_tagger())
    address = caption.encode(errors="backslashreplace").decode()  # half of a surrogate pair has no bytes
    seen, said = {normal(caption)}, meaning(sentence)
    negatives: list[Negative] = []
    refused: list[Refused] = []
    for rule in found:
        made, reasons = _apply(rule, sentence, random.Random(key_of(address, rule.name, key)), seen, said)
        negatives += [Negative(text, rule.name) for text in made]
        refused += [Refused(rule.name, reason) for reason in reasons]
    return Perturbed(tuple(negatives), tuple(refused))


def _apply(
    rule: Rule, sentence: Sentence, draw: random.Random, seen: set[tuple[str, ...]], said: tuple[object, ...]
) -> tuple[list[str], list[str]]:
    """Texts that a rule gives, at most `rule.most`, and the reasons of what was refused. Adds to `seen`."""
    if not sentence.words:
        return [], ["the caption has no words"]
    caption, made, reasons, spare = normal(sentence.text), [], [], ""
    bag = sorted(caption)
    for wrong in islice(rule.function(sentence, draw), TRIED):
        text = wrong.text
        plain = normal(text)
        if plain == caption:
            reasons.append("equals the caption")
        elif plain in seen:
            reasons.append("equals another negative")
        elif sorted(plain) == bag and meaning(wrong) == said:
            reasons.append("says the same by symmetry")
        elif _stutters(plain) and not _stutters(caption):
            reasons.append("says a word twice in a row")
            spare = spare or text
        else:
            made.append(text)
            seen.add(plain)
        if len(made) == rule.most:
            break
    if spare and not made and rule.most == 1:  # of a long caption every order drawn may do so
        made.append(spare)
        seen.add(normal(spare))
    if not made and not reasons:
        reasons = [rule.lacking]
    if rule.most == 1:
        reasons = [] if made else reasons[:1]
    return made, reasons


def _stutters(words: tuple[str, ...]) -> bool:
    return any(word == following for word, following in pairwise(words))
