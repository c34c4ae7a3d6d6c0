"""What a sentence in the toy world's words claims, and whether a scene bears it out: the grammar read backwards."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

from .grammar import AT, RELATIONS, ground_words, holds, place_of
from .scene import COLORS, SHAPES, SIZES, Object, Scene, grounds_of

__all__ = ["Claim", "claim_of", "is_true"]

_GROUNDS = {ground_words(ground): ground for ground in grounds_of("both")}
_PLACES = {words: place for place, words in AT.items()}
_AT = "|".join(sorted(_PLACES, key=len, reverse=True))
_THING = re.compile(rf"an? (?:({'|'.join(SIZES)}) )?({'|'.join(COLORS)}) ({'|'.join(SHAPES)})(?: ({_AT}))?")
_JOINT = re.compile(rf" ({'|'.join(RELATIONS)}) |, | and ")
_OPENING = re.compile(r"(?:a picture of |there is |an image with )?")
_GROUND = re.compile(rf" on ({'|'.join(_GROUNDS)})")


@dataclass(frozen=True)
class Claim:
    """things: (size or "", color, shape, place or "") in the order told. relations: (i, word, j) by number. ground: words."""

    things: tuple[tuple[str, str, str, str], ...]
    relations: tuple[tuple[int, str, int], ...]
    ground: str


def claim_of(sentence: str) -> Claim | None:
    """What the sentence claims; None unless it is, from end to end, one of `grammar.caption`'s.

    >>> claim_of("a picture of a red ring left of a small pink star on a white ground").relations
    ((0, 'left of', 1),)
    >>> claim_of("a ring red left of a small pink star on a white ground") is None
    True
    """
    opening = _OPENING.match(sentence)
    at = opening.end() if opening else 0
    things: list[tuple[str, str, str, str]] = []
    relations: list[tuple[int, str, int]] = []
    while found := _THING.match(sentence, at):
        things.append((found[1] or "", found[2], found[3], _PLACES.get(found[4] or "", "")))
        at = found.end()
        joint = _JOINT.match(sentence, at)
        if joint is None:
            ground = _GROUND.fullmatch(sentence, at)
            return Claim(tuple(things), tuple(relations), ground[1]) if ground else None
        if joint[1]:
            relations.append((len(things) - 1, joint[1], len(things)))
        at = joint.end()
    return None


def is_true(sentence: str, scene: Scene) -> bool | None:
    """Whether the scene bears the sentence out: its ground, and different objects as it names them. None: it claims nothing.

    A sentence that leaves objects out is true.
    """
    claim = claim_of(sentence)
    if claim is None:
        return None
    if _GROUNDS[claim.ground] != scene.ground:
        return False
    return any(_fits(claim, things) for things in permutations(scene.objects, len(claim.things)))


def _fits(claim: Claim, things: Sequence[Object]) -> bool:
    named = all(
        (thing.color, thing.shape) == (color, shape) and size in ("", thing.size) and place in ("", place_of(thing))
        for (size, color, shape, place), thing in zip(claim.things, things, strict=True)
    )
    return named and all(holds(things[i], word, things[j]) for i, word, j in claim.relations)
