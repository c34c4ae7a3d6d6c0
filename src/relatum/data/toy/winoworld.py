"""Questions of the toy world: two scenes and two captions, where one word, or the order of the words, tells which belong together.

Each caption is true of its own scene and false of the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count as counted
from typing import Literal, get_args

from ...core.draws import key_of
from .grammar import caption, exchanged_colors, exchanged_places, plain_wording
from .scene import HELD_OUT, Ground, Layout, Scene, Stream, draw_scene, lies_free

__all__ = ["QUESTIONS", "Question", "QuestionKind", "draw_question"]

QuestionKind = Literal["binding", "relation", "order"]
QUESTIONS: tuple[QuestionKind, ...] = get_args(QuestionKind)


@dataclass(frozen=True)
class Question:
    """captions[i] is true of scenes[i] and false of the other; both have the same wording."""

    kind: QuestionKind
    scenes: tuple[Scene, Scene]
    captions: tuple[str, str]


def draw_question(
    key: int,
    kind: QuestionKind,
    grounds: Sequence[Ground],
    pairs: Sequence[tuple[str, str]],
    held_out: bool,
    layout: Layout = "free",
) -> Question:
    """A question of two objects that differ in shape and color, all of `pairs`; with held_out a scene shows a pair of HELD_OUT.

    "binding": the objects have exchanged their colors. "relation", "order": their places; the captions differ in the relation's
    word, or in which of the two is named first.

    >>> from .scene import grounds_of, pairs_of
    >>> print(*draw_question(4, "order", grounds_of("plain"), pairs_of(False), False).captions, sep="\n")
    """
    stream, wording = Stream(key), key_of(key, "caption")
    wording = plain_wording(wording) if layout == "sides" else wording
    for _ in counted():
        scene = draw_scene(stream, 2, grounds, pairs, layout)
        first, second = scene.objects
        if first.shape == second.shape or first.color == second.color:
            continue
        a, b = exchanged_colors(first, second) if kind == "binding" else exchanged_places(first, second)
        other = replace(scene, objects=(b, a) if kind == "order" else (a, b))
        shown = [thing.pair for thing in (*scene.objects, *other.objects)]
        if lies_free(other.objects) and set(shown) <= set(pairs) and (not held_out or HELD_OUT.intersection(shown)):
            captions = caption(scene, wording, related=True), caption(other, wording, related=True)
            return Question(kind, (scene, other), captions)
    raise AssertionError("unreachable")
