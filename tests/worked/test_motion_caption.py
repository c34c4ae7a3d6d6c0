"""The metric of captions of motion, on clips made by hand: what is found, what moves, which way, how fast."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.data.toy import Ground, MovingScene, Object, Scene, frames, read_scene
from relatum.data.toy.clips import ToyClips
from relatum.metrics import Evaluator, Samples
from relatum.metrics.motion_caption import MotionCaption, initial_way

CROSS = Object("cross", "cyan", "large", 0.3, 0.3)
DISC = Object("circle", "red", "small", 0.7, 0.75)
MOVING = MovingScene(Scene((CROSS, DISC), Ground("black")), ((0.1, 0.0), (0.0, 0.0)))
TIMES = [0.2 * k for k in range(8)]


def shown(moving: MovingScene) -> Tensor:
    return frames(moving, TIMES, 32).transpose(0, 1)


def facts(moving: MovingScene = MOVING, **more: Any) -> dict[str, Any]:
    return {"scenes": [moving.at(t).facts() for t in TIMES], "motion": moving.facts(), "offset": 0.2, "source_time": 0.0, **more}


def numbers(video: Tensor, truth: dict[str, Any] | None = None, text: str = "", **settings: Any) -> dict[str, float]:
    metric: Any = MotionCaption(**settings)
    told = {"target": [text]} if text else {}
    samples = Samples(["a"], videos={"generated": video[None]}, facts=[truth or facts()], texts=told)
    Evaluator({"motion_caption": metric}, eye=read_scene).update(samples)
    return {"followed": metric.scores["a"]} | {name: values["a"] for name, values in metric.also.items()}


def moves(*velocities: tuple[float, float], scene: Scene = MOVING.start) -> Tensor:
    return shown(MovingScene(scene, velocities))


def test_a_clip_that_does_what_it_says() -> None:
    """The cross moves right by .1 sides a second, the disc stands: all that can be 1 is 1; its places need not be the true ones."""
    made = numbers(shown(MOVING), text="a slow cross moves right")
    wanted = {"followed": 1, "found": 1, "moved": 1, "direction": 1, "heading": 1, "still": 1, "spurious": 0}
    assert {name: made[name] for name in wanted} == wanted
    assert made["speed"] == pytest.approx(1, abs=0.05)
    elsewhere = Scene((replace(CROSS, x=0.4, y=0.7), replace(DISC, x=0.3, y=0.25)), Ground("white"))
    assert numbers(moves((0.1, 0.0), (0.0, 0.0), scene=elsewhere))["followed"] == 1


def test_speed_is_told_or_not_asked_for() -> None:
    """Three times as fast is 3; where the caption tells no speed there is none to compare with, nor without the frames' pace."""
    fast = moves((0.3, 0.0), (0.0, 0.0))
    assert numbers(fast, text="a slow cross moves right")["speed"] == pytest.approx(3, rel=0.05)
    assert math.isnan(numbers(fast, text="a cross moves right")["speed"])
    assert math.isnan(numbers(fast)["speed"])
    assert math.isnan(numbers(fast, facts(offset=0.0), "a fast cross")["speed"])


def test_a_still_clip() -> None:
    """Nothing moves: the disc alone is right, 1 of 2. Of what should move none does, so no heading."""
    made = numbers(moves((0.0, 0.0), (0.0, 0.0)))
    assert (made["followed"], made["found"], made["moved"], made["direction"], made["still"]) == (0.5, 1, 0, 0, 1)
    assert math.isnan(made["heading"])


@pytest.mark.parametrize(("velocity", "right"), [((-0.1, 0.0), 0), ((0.0, 0.1), 0), ((0.1, 0.08), 1), ((0.08, 0.1), 0)])
def test_the_way_within_45_degrees(velocity: tuple[float, float], right: int) -> None:
    """Told right: left and down are wrong; 39 degrees below is right, 51 is not."""
    made = numbers(moves(velocity, (0.0, 0.0)))
    assert (made["moved"], made["direction"], made["heading"], made["followed"]) == (1, right, right, (right + 1) / 2)
    assert numbers(moves(velocity, (0.0, 0.0)), angle=80)["direction"] == float(velocity[0] > 0)


def test_what_should_stand_still_and_moves() -> None:
    made = numbers(moves((0.1, 0.0), (0.0, -0.1)))
    assert (made["followed"], made["moved"], made["still"]) == (0.5, 1, 0)


def test_small_steps_are_none() -> None:
    """.02 sides a second are .028 in 1.4 s: below .04 it stands still, at `least` = .02 it moves."""
    creep = moves((0.02, 0.0), (0.0, 0.0))
    assert numbers(creep)["moved"] == 0
    assert numbers(creep, least=0.02)["moved"] == 1


def test_objects_must_be_seen_in_half_of_the_frames() -> None:
    """The cross is gone from frame 4 on: seen in 4 of 8, and right. From frame 3 on: found 3/8, moving right, but not followed."""
    full, alone = shown(MOVING), shown(MovingScene(replace(MOVING.start, objects=(DISC,)), ((0.0, 0.0),)))
    half = numbers(torch.cat([full[:, :4], alone[:, 4:]], 1))
    assert (half["found"], half["direction"], half["followed"]) == (0.75, 1, 1)
    less = numbers(torch.cat([full[:, :3], alone[:, 3:]], 1), least=0.03)  # two steps of .02
    assert (less["found"], less["direction"], less["followed"]) == ((3 / 8 + 1) / 2, 1, 0.5)
    two = numbers(torch.cat([full[:, :2], alone[:, 2:]], 1))
    assert (two["direction"], two["moved"], two["followed"]) == (0, 0, 0.5)


def test_others_are_spurious_and_count_for_nothing() -> None:
    """A blue disc in place of the red one: half is found; one object a frame that nobody named."""
    other = Scene((CROSS, replace(DISC, color="blue")), Ground("black"))
    made = numbers(moves((0.1, 0.0), (0.0, 0.0), scene=other))
    assert (made["followed"], made["found"], made["spurious"], made["still"]) == (0.5, 0.5, 1, 0)


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    shape: str = "cross"
    color: str = "cyan"


def test_of_two_alike_the_nearest_to_the_last_is_followed() -> None:
    """One cross stands at (.8, .8), the other goes right from (.2, .3): the first one read is followed, wherever it stands in
    later readings."""
    read = iter([[Dot(0.2 + 0.05 * k, 0.3), Dot(0.8, 0.8)][:: 1 if k % 2 == 0 else -1] for k in range(4)])
    metric = MotionCaption()
    metric.eye = lambda pixels: next(read)
    truth = facts(MovingScene(Scene((CROSS,), Ground("black")), ((0.1, 0.0),)))
    metric.update(Samples(["a"], videos={"generated": torch.zeros(1, 3, 4, 32, 32)}, facts=[truth]))
    assert metric.scores["a"] == 1
    assert metric.also["spurious"]["a"] == 1
    assert metric.series["found"]["a"] == [1.0] * 4


def path(xs: Sequence[float], first: int = 0) -> dict[int, tuple[float, float]]:
    return {first + k: (x, 0.4) for k, x in enumerate(xs)}


def test_the_way_until_it_turns() -> None:
    """Right by .06 a frame to .72, back from there: told by all frames. Turned within its second step: the same, from five frames.

    What is seen to go back alone goes back. A frame that is missing is no stop: .3, ., .42 is .06 a frame.
    """
    turned = initial_way(path([0.54, 0.60, 0.66, 0.72, 0.66, 0.60]))
    assert turned is not None
    assert turned.velocity == pytest.approx((0.06, 0))
    assert turned.reach == pytest.approx(0.18)
    early = initial_way(path([0.6, 0.66, 0.69, 0.63, 0.57, 0.51]))  # turns at .705, frame 1.75
    assert early is not None
    assert early.velocity[0] > 0.05
    back = initial_way(path([0.69, 0.66, 0.60, 0.54, 0.48]))
    assert back is not None
    assert back.velocity[0] < -0.05
    gap = initial_way({2: (0.3, 0.4), 4: (0.42, 0.4), 5: (0.48, 0.4)})
    assert gap is not None
    assert gap.velocity == pytest.approx((0.06, 0))
    assert initial_way(path([0.3, 0.4])) is None


def test_a_jitter_is_no_turn() -> None:
    """Steps of .02 with errors of .004, drawn once: straight, its slope by least squares."""
    errors = [0.003, -0.004, 0.002, 0.004, -0.001, -0.004, 0.003, 0.0]
    way = initial_way(path([0.3 + 0.02 * k + e for k, e in enumerate(errors)]))
    assert way is not None
    assert way.velocity[0] == pytest.approx(0.02, abs=0.001)


def test_toy_clips_follow_their_captions_and_not_those_of_others() -> None:
    """Twelve drawn clips, bounces included, are followed; played backwards, none is that does not turn."""
    rows = [*ToyClips(count=12, split="test", whole=False).rows()]
    clips = {row.id: row.clips["target"].shot(32).frames.transpose(0, 1) for row in rows}
    metric, others = MotionCaption(), MotionCaption()
    for made, shift in ((metric, 0), (others, 1)):
        made.eye = read_scene
        for i, row in enumerate(rows):
            video = clips[rows[(i + shift) % len(rows)].id]
            made.update(Samples([row.id], videos={"generated": video[None]}, facts=[row.facts]))
    assert metric.compute().value >= 11 / 12
    assert others.compute().value <= 2 / 12


def test_what_cannot_be_judged() -> None:
    """Other facts and counts are refused; of a rollout from a later time the caption's velocities are not known."""
    video = shown(MOVING)
    with pytest.raises(DataError, match=r"motion_caption needs facts of a moving scene \(scenes, motion\).*found offset"):
        numbers(video, {"offset": 0.2})
    with pytest.raises(ShapeError, match="2 objects and 1 velocities"):
        numbers(video, facts(motion={"velocities": [[0.1, 0.0]]}))
    with pytest.raises(RecipeError, match="no eye"):
        MotionCaption().update(Samples(["a"], videos={"generated": video[None]}, facts=[facts()]))
    late = numbers(video, facts(source_time=1.4))
    assert math.isnan(late["followed"])
    assert math.isnan(late["direction"])
    for settings, words in (({"least": 0.0}, "least: found 0.0"), ({"angle": 91.0}, "angle: found 91.0")):
        with pytest.raises(ValueError, match=words):
            MotionCaption(**settings)
