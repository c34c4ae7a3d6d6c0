"""Sentences about scenes: names of things, captions that are true, and captions that are false by construction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count as counted

from ...core.draws import key_of
from .motion import DIRECTIONS, SPEEDS, MovingScene, Velocity, direction_of, speed_of, velocity_of
from .scene import COLORS, PLACES, Ground, Object, Scene, Stream

__all__ = [
    "AT",
    "FALSE_KINDS",
    "RELATIONS",
    "a",
    "caption",
    "exchanged_colors",
    "exchanged_places",
    "false_scenes",
    "ground_words",
    "holds",
    "motion_caption",
    "motion_negatives",
    "name",
    "negatives",
    "place_of",
    "plain_wording",
    "reference",
    "relation",
]

RELATIONS = ("left of", "right of", "above", "below")
FALSE_KINDS = ("attributes", "relation", "color")
AT = {place: f"{'in' if ' ' in place or place == 'center' else 'at'} the {place}" for place in PLACES} | {
    "left": "on the left",
    "right": "on the right",
}
_ADJECTIVES = {"plain": "", "stripes": " striped", "checks": " checkered", "dots": " dotted", "gradient": " shaded"}
_OPENINGS = ("", "", "", "a picture of ", "there is ", "an image with ")


def a(noun: str) -> str:
    """The noun with its indefinite article."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def name(thing: Object, sized: bool = False) -> str:
    """ "red circle" or "small red circle"."""
    return f"{thing.size} {thing.color} {thing.shape}" if sized else f"{thing.color} {thing.shape}"


def reference(thing: Object, scene: Scene, stream: Stream) -> str:
    """What only this object of the scene is called: "the red circle", or "the circle" where there is one."""
    alone = sum(o.shape == thing.shape for o in scene.objects) == 1
    return f"the {thing.shape}" if alone and stream.chance(0.5) else f"the {name(thing)}"


def holds(first: Object, word: str, second: Object) -> bool:
    """Whether "first {word} second" is clearly true: by at least a tenth of the image's side."""
    dx, dy = second.x - first.x, second.y - first.y
    return {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[word] >= 0.1


def relation(first: Object, second: Object) -> str:
    """The relation along the axis on which the two objects are further apart. It always holds where objects do not overlap."""
    dx, dy = second.x - first.x, second.y - first.y
    if abs(dx) >= abs(dy):
        return "left of" if dx > 0 else "right of"
    return "above" if dy > 0 else "below"


def place_of(thing: Object) -> str:
    """The nearest of the nine named places."""
    return min(PLACES, key=lambda p: (thing.x - PLACES[p][0]) ** 2 + (thing.y - PLACES[p][1]) ** 2)


def ground_words(ground: Ground) -> str:
    """The ground in a caption: "a dark gray ground", "a beige dotted ground"."""
    return a(f"{ground.color}{_ADJECTIVES[ground.texture]} ground")


def caption(scene: Scene, key: int, related: bool = False) -> str:
    """A true sentence that names every object and the ground. `key` decides its wording, the same for all scenes.

    With `related` and two or more objects it says how the first two stand to each other.

    >>> scene = Scene((Object("ring", "red", "small", 0.3, 0.5), Object("star", "pink", "small", 0.7, 0.5)), Ground("white"))
    >>> caption(scene, 3, related=True)
    'a small red ring left of a small pink star on a white ground'
    """
    stream = Stream(key)
    opening, objects = _begin(stream, scene)
    sized = stream.chance(0.5)
    names = [a(name(thing, sized)) for thing in objects]
    style = "related" if related or stream.chance(0.5) else stream.choice(("placed", "listed"))
    return f"{opening}{_things(objects, names, style)} on {ground_words(scene.ground)}"


def plain_wording(key: int) -> int:
    """The first key after `key` whose captions open with the first object and tell no sizes."""
    for attempt in counted():
        wording = key_of(key, "plain", attempt)
        stream = Stream(wording)
        opening, _ = stream.choice(_OPENINGS), stream.chance(0.5)
        if not opening and not stream.chance(0.5):
            return wording
    raise AssertionError("unreachable")


def _begin(stream: Stream, scene: Scene) -> tuple[str, tuple[Object, ...]]:
    """A caption's opening and the order in which it names the objects."""
    return stream.choice(_OPENINGS), scene.objects[::-1] if stream.chance(0.5) else scene.objects


def _things(objects: Sequence[Object], names: Sequence[str], style: str) -> str:
    if not names:
        return "nothing"
    if style == "related" and len(names) > 1:
        return " and ".join([f"{names[0]} {relation(objects[0], objects[1])} {names[1]}", *names[2:]])
    if style == "placed":
        names = [f"{words} {AT[place_of(thing)]}" for words, thing in zip(names, objects, strict=True)]
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else names[0]


def negatives(scene: Scene, key: int) -> dict[str, str]:
    """Captions in the wording of `caption(scene, key, related=True)` that are false of the scene, by what is wrong with them:

    those of its `false_scenes`.
    """
    return {wrong: caption(other, key, related=True) for wrong, other in false_scenes(scene, key).items()}


def false_scenes(scene: Scene, key: int) -> dict[str, Scene]:
    """Scenes of which `caption(scene, key, related=True)` is false, by what differs. Nobody asked whether their objects lie free.

    "color": one object has a color that no object of its shape has. "attributes": two objects have exchanged their colors.
    "relation": two objects have exchanged their places. The last two need two objects, "attributes" of different shape and color.
    """
    stream = Stream(key ^ 0x5EED)
    false: dict[str, Scene] = {}
    if scene.objects:
        at = int(stream.uniform() * len(scene.objects))
        thing = scene.objects[at]
        taken = {o.color for o in scene.objects if o.shape == thing.shape}
        wrong = replace(thing, color=stream.choice([c for c in COLORS if c not in taken]))
        false["color"] = replace(scene, objects=(*scene.objects[:at], wrong, *scene.objects[at + 1 :]))
    for first, second in _pairs(scene):
        if first.shape != second.shape and first.color != second.color:
            false["attributes"] = _with(scene, *exchanged_colors(first, second), first, second)
            break
    if len(scene.objects) > 1:
        first, second = _spoken(scene, key)
        false["relation"] = _with(scene, *exchanged_places(first, second), first, second)
    return false


def exchanged_colors(first: Object, second: Object) -> tuple[Object, Object]:
    """Both objects, each with the other's color."""
    return replace(first, color=second.color), replace(second, color=first.color)


def exchanged_places(first: Object, second: Object) -> tuple[Object, Object]:
    """Both objects, each at the other's place."""
    return replace(first, x=second.x, y=second.y), replace(second, x=first.x, y=first.y)


def _pairs(scene: Scene) -> list[tuple[Object, Object]]:
    return [(o, p) for i, o in enumerate(scene.objects) for p in scene.objects[i + 1 :]]


def _spoken(scene: Scene, key: int) -> tuple[Object, Object]:
    """The two objects whose relation `caption(scene, key, related=True)` states."""
    _, objects = _begin(Stream(key), scene)
    return objects[0], objects[1]


def _with(scene: Scene, new_first: Object, new_second: Object, first: Object, second: Object) -> Scene:
    exchange = {first: new_first, second: new_second}
    return replace(scene, objects=tuple(exchange.get(o, o) for o in scene.objects))


def motion_caption(moving: MovingScene, key: int, paced: bool = False) -> str:
    """A true sentence that names every object, how it moves at time 0 (it may bounce later), and the ground.

    `key` decides the wording, the same for all scenes: whether speeds and sizes are told, and the order. With `paced` speeds are.
    Of two objects not both are told, of three neither is, so that two fit into the 32 tokens of the bundled text encoder.

    >>> scene = Scene((Object("ring", "red", "small", 0.3, 0.5), Object("star", "pink", "small", 0.7, 0.5)), Ground("white"))
    >>> motion_caption(MovingScene(scene, ((-0.1, 0.0), (0.0, 0.0))), 2, paced=True)
    'a slow red ring moves left and a pink star stands still on a white ground'
    """
    stream = Stream(key)
    _, objects = _begin(stream, moving.start)
    told = (stream.chance(0.5) and len(objects) < 3) or paced
    sized = stream.chance(0.5) and len(objects) < (2 if told else 3)
    velocities = dict(zip(moving.start.objects, moving.velocities, strict=True))
    parts = [_moves(thing, velocities[thing], sized, told) for thing in objects]
    return f"{_things(objects, parts, 'listed')} on {ground_words(moving.start.ground)}"


def _moves(thing: Object, velocity: Velocity, sized: bool, paced: bool) -> str:
    """ "a slow small red circle moves up left"."""
    direction = direction_of(velocity)
    pace = f"{speed_of(velocity)} " if paced and direction else ""
    return f"{a(f'{pace}{name(thing, sized)}')} {f'moves {direction}' if direction else 'stands still'}"


def motion_negatives(moving: MovingScene, key: int) -> dict[str, str]:
    """Captions in the wording of `motion_caption(moving, key, paced=True)` that are false of the motion alone, by what is wrong.

    "direction": one object moves another way, across or back; of the first four directions where its own is one of them.
    "speed": one object is fast instead of slow or the other way round. "mover": two objects whose motions have different words have
    exchanged them.
    """
    stream = Stream(key ^ 0x5EED)
    velocities = moving.velocities
    words = [(direction_of(v), speed_of(v)) for v in velocities]
    false: dict[str, tuple[Velocity, ...]] = {}
    movers = [i for i, (direction, _) in enumerate(words) if direction]
    if movers:
        at = stream.choice(movers)
        direction, speed = words[at]
        others = list(DIRECTIONS)[: 4 if direction in list(DIRECTIONS)[:4] else 8]
        x, y = DIRECTIONS[direction]
        turned = velocity_of(stream.choice([d for d in others if DIRECTIONS[d][0] * x + DIRECTIONS[d][1] * y < 0.1]), speed)
        paced = velocity_of(direction, next(s for s in SPEEDS if s != speed))
        false["direction"] = (*velocities[:at], turned, *velocities[at + 1 :])
        false["speed"] = (*velocities[:at], paced, *velocities[at + 1 :])
    unlike = [(i, j) for j in range(len(words)) for i in range(j) if words[i] != words[j]]
    if unlike:
        i, j = unlike[0]
        exchanged = {i: velocities[j], j: velocities[i]}
        false["mover"] = tuple(exchanged.get(k, v) for k, v in enumerate(velocities))
    return {wrong: motion_caption(replace(moving, velocities=other), key, paced=True) for wrong, other in false.items()}
