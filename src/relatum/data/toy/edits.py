"""Edits of the toy world: an instruction that, with the source scene, decides the target scene.

Objects are named by what only they are. Moved and added objects go to the exact middle of a named place, added ones have a stated
size, and a ground's words name one of the finitely many grounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

from .grammar import AT, a, name, reference
from .scene import COLORS, PLACES, SHAPES, SIZES, Ground, Object, Scene, Stream, fits

__all__ = ["KINDS", "Edit", "Kind", "draw_edit", "objects_needed"]

Kind = Literal["recolor", "reshape", "move", "add", "remove", "swap", "ground"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_WORDINGS = {
    "recolor": ("make {ref} {new}", "turn {ref} {new}", "paint {ref} {new}", "change the color of {ref} to {new}"),
    "reshape": ("turn {ref} into {new}", "change {ref} into {new}", "make {ref} {new}", "change the shape of {ref} to {new}"),
    "move": ("move {ref} to the {new}", "shift {ref} to the {new}", "put {ref} {at}", "place {ref} {at}"),
    "add": ("add {new} {at}", "put {new} {at}", "draw {new} {at}", "insert {new} {at}"),
    "remove": ("remove {ref}", "delete {ref}", "take away {ref}", "erase {ref}"),
    "swap": (
        "swap {ref} and {other}",
        "exchange {ref} and {other}",
        "swap the places of {ref} and {other}",
        "switch {ref} with {other}",
    ),
    "ground": ("change the ground to {new}", "make the ground {new}", "turn the ground into {new}", "put {them} on {new}"),
}


@dataclass(frozen=True)
class Edit:
    """One edit. before, after: the objects of source and target that it is about; empty for an edit of the ground."""

    kind: Kind
    instruction: str
    source: Scene
    target: Scene
    before: tuple[Object, ...] = ()
    after: tuple[Object, ...] = ()


def objects_needed(kind: Kind, most: int) -> tuple[int, int]:
    """The least and greatest number of objects in the source of an edit of this kind, if no scene has more than `most`."""
    low = 2 if kind in ("remove", "swap") else 1
    return low, most - 1 if kind == "add" else most


def draw_edit(
    stream: Stream, source: Scene, kind: Kind, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]
) -> Edit | None:
    """An edit of `source` whose target differs from it and holds only objects of `pairs`; None where this draw found none.

    >>> scene = Scene((Object("star", "red", "small", 0.3, 0.3),), Ground("white"))
    >>> draw_edit(Stream(1), scene, "remove", (), ()).target.objects
    ()
    """
    made = _MAKERS[kind](stream, source, grounds, pairs)
    if made is None:
        return None
    before, after, ground, new = made
    wording = stream.choice(_WORDINGS[kind])
    references = [reference(thing, source, stream) for thing in before]
    words = {"ref": references[0] if references else "", "other": references[-1] if references else "", "new": new}
    words["at"] = AT[_place(after[0])] if kind in ("move", "add") else ""
    words["them"] = "it" if len(source.objects) == 1 else "them"
    target = Scene(_exchange(source.objects, before, after), ground)
    return Edit(kind, wording.format(**words), source, target, before, after)


_Made = tuple[tuple[Object, ...], tuple[Object, ...], Ground, str] | None  # before, after, ground, the new thing's words


def _recolor(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    thing = stream.choice(source.objects)
    colors = [c for c in COLORS if _free((thing.shape, c), source, pairs)]
    if not colors:
        return None
    color = stream.choice(colors)
    return (thing,), (replace(thing, color=color),), source.ground, color


def _reshape(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    thing = stream.choice(source.objects)
    shapes = [s for s in SHAPES if _free((s, thing.color), source, pairs)]
    if not shapes:
        return None
    shape = stream.choice(shapes)
    return (thing,), (replace(thing, shape=shape),), source.ground, a(shape)


def _move(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    thing = stream.choice(source.objects)
    others = [o for o in source.objects if o != thing]
    moved = [replace(thing, x=x, y=y) for x, y in PLACES.values()]
    moved = [m for m in moved if max(abs(m.x - thing.x), abs(m.y - thing.y)) >= 0.2 and fits(m, others)]
    if not moved:
        return None
    new = stream.choice(moved)
    return (thing,), (new,), source.ground, _place(new)


def _add(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    free = [pair for pair in pairs if _free(pair, source, pairs)]
    shape, color = stream.choice(free)
    news = [Object(shape, color, size, x, y) for size in SIZES for x, y in PLACES.values()]
    news = [new for new in news if fits(new, source.objects)]
    if not news:
        return None
    new = stream.choice(news)
    return (), (new,), source.ground, a(name(new, sized=True))


def _remove(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    return (stream.choice(source.objects),), (), source.ground, ""


def _swap(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    first = stream.choice(source.objects)
    second = stream.choice([o for o in source.objects if o != first])
    others = [o for o in source.objects if o not in (first, second)]
    after = (replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y))
    if not all(fits(new, others) for new in after):
        return None
    return (first, second), after, source.ground, ""


def _ground(stream: Stream, source: Scene, grounds: Sequence[Ground], pairs: Sequence[tuple[str, str]]) -> _Made:
    ground = stream.choice([g for g in grounds if g != source.ground])
    words = {"plain": f"plain {ground.color}", "gradient": f"a {ground.color} gradient"}
    return (), (), ground, words.get(ground.texture, f"{ground.color} {ground.texture}")


_MAKERS = {
    "recolor": _recolor,
    "reshape": _reshape,
    "move": _move,
    "add": _add,
    "remove": _remove,
    "swap": _swap,
    "ground": _ground,
}


def _free(pair: tuple[str, str], source: Scene, pairs: Sequence[tuple[str, str]]) -> bool:
    return pair in pairs and all(o.pair != pair for o in source.objects)


def _place(thing: Object) -> str:
    """The place whose exact middle the object lies in."""
    return next(place for place, middle in PLACES.items() if middle == (thing.x, thing.y))


def _exchange(objects: tuple[Object, ...], before: tuple[Object, ...], after: tuple[Object, ...]) -> tuple[Object, ...]:
    """`objects` with those of `before` replaced by those of `after`, which are removed or put on top where the other has none."""
    if not before:
        return (*objects, *after)
    new = dict(zip(before, after, strict=False))
    return tuple(new.get(o, o) for o in objects if o not in before or o in new)
