"""Metrics of rollouts from known truth, on rollouts made by hand: half-lives, direction, positions, errors at a step."""

import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.core.registry import metric
from relatum.data.toy import Ground, MovingScene, Object, Scene, frames, read_scene, render
from relatum.metrics import Evaluator, Samples
from relatum.metrics.oracle_video import FrameError, SceneHeld, frame_errors, steps_held

CROSS = Object("cross", "cyan", "large", 0.3, 0.25)
DISC = Object("circle", "red", "small", 0.7, 0.75)
MOVING = MovingScene(Scene((CROSS, DISC), Ground("black")), ((0.1, 0.0), (-0.3, 0.0)))
STEPS = 7  # generated frames
SCENES = [MOVING.at(0.2 * k) for k in range(STEPS + 1)]


def samples(shown: Sequence[Scene], name: str = "a", truth: Sequence[Scene] = SCENES) -> Samples:
    """One rollout that shows these scenes, frame 0 first."""
    video = torch.stack([render(scene, 32) for scene in shown], dim=1)[None]
    target = torch.stack([render(scene, 32) for scene in truth], dim=1)[None]
    return Samples([name], videos={"generated": video, "target": target}, facts=[{"scenes": [scene.facts() for scene in truth]}])


def held(given: Samples, **settings: Any) -> SceneHeld:
    made: Any = SceneHeld(**settings)
    Evaluator({"scene_held": made}, eye=read_scene).update(given)
    return made


def numbers(made: SceneHeld) -> dict[str, float]:
    return {"half_life": made.scores["a"]} | {name: values["a"] for name, values in made.also.items()}


def without(scene: Scene, *things: int) -> Scene:
    return replace(scene, objects=tuple(o for i, o in enumerate(scene.objects) if i not in things))


def test_steps_held_by_hand() -> None:
    """[1 | 1, .5, .4, 1]: two generated frames hold half or more before the third does not; what comes back does not count."""
    assert steps_held([1, 1, 0.5, 0.4, 1]) == 2
    assert steps_held([0, 1, 1]) == 2  # the given frame does not count
    assert steps_held([1, 0]) == 0
    assert steps_held([1]) == 0


def test_a_perfect_rollout() -> None:
    """All 7 frames hold both objects where they are: half-life 7, the length. Both move as they should."""
    made = held(samples(SCENES))
    found = numbers(made)
    assert (found["half_life"], found["survived"], found["attributes"], found["spurious"], found["direction"]) == (7, 1, 1, 0, 1)
    assert 0 < found["position"] < 0.01
    assert made.series["attributes"]["a"] == [1.0] * 8
    assert set(made.series) == {"attributes", "position", "spurious"}
    assert made.compute().value == 7


def test_objects_vanish() -> None:
    """One of two from step 3 on: half is left, so the scene is held to the end; attributes (2 + 5/2)/7.

    Both: half-life 2, attributes 2/7. Both at step 3 alone: 2 all the same, attributes 6/7.
    """
    one = numbers(held(samples([without(s, 1) if k >= 3 else s for k, s in enumerate(SCENES)])))
    assert (one["half_life"], one["survived"]) == (7, 1)
    assert one["attributes"] == pytest.approx(4.5 / 7)
    both = numbers(held(samples([without(s, 0, 1) if k >= 3 else s for k, s in enumerate(SCENES)])))
    assert (both["half_life"], both["survived"]) == (2, 0)
    assert both["attributes"] == pytest.approx(2 / 7)
    blink = numbers(held(samples([without(s, 0, 1) if k == 3 else s for k, s in enumerate(SCENES)])))
    assert (blink["half_life"], blink["attributes"]) == (2, pytest.approx(6 / 7))
    at_once = held(samples([s if k == 0 else without(s, 0, 1) for k, s in enumerate(SCENES)]))
    assert numbers(at_once)["half_life"] == 0
    assert math.isnan(numbers(at_once)["position"])
    assert at_once.series["attributes"]["a"] == [1.0] + [0.0] * 7
    assert numbers(at_once)["direction"] == 0  # not seen is not seen moving


def test_exchanged_colors_are_other_objects() -> None:
    """From step 5 on the cross is red and the disc cyan: no true object is seen and two spurious ones are, in 3 of 7 frames."""

    def exchanged(scene: Scene) -> Scene:
        cross, disc = scene.objects
        return replace(scene, objects=(replace(cross, color="red"), replace(disc, color="cyan")))

    found = numbers(held(samples([exchanged(s) if k >= 5 else s for k, s in enumerate(SCENES)])))
    assert (found["half_life"], found["survived"]) == (4, 0)
    assert found["attributes"] == pytest.approx(4 / 7)
    assert found["spurious"] == pytest.approx(2 * 3 / 7)


def test_a_frozen_rollout() -> None:
    """The first frame repeated holds the scene and shows no motion: 0 of 2 move.

    At step k it lags behind by 0.02 k and 0.06 k, 0.04 k on average; the disc turns at 0.18, which it would reach after
    (0.7 - 0.18)/0.06 = 8.67 steps. The mean of 0.04 k over k = 1 to 7 is 0.16.
    """
    made = held(samples([SCENES[0]] * 8))
    found = numbers(made)
    assert (found["half_life"], found["direction"], found["attributes"]) == (7, 0, 1)
    assert found["position"] == pytest.approx(0.16, abs=0.01)
    assert made.series["position"]["a"][5] == pytest.approx(0.2, abs=0.01)


@pytest.mark.parametrize(("velocity", "follows"), [
    ((-0.16, 0.0), 1.0),  # 53 % of the way
    ((-0.14, 0.0), 0.0),  # 47 %
    ((-0.3, 0.28), 1.0),  # 43 degrees to the side
    ((-0.3, 0.32), 0.0),  # 47 degrees
    ((0.1, 0.0), 0.0),
])  # fmt: skip
def test_direction_by_hand(velocity: tuple[float, float], follows: float) -> None:
    """A single disc that truly moves 0.06 left a step, from (0.7, 0.3); after 4 steps 0.24. Shown with other velocities."""
    scene = Scene((replace(DISC, x=0.7, y=0.3),), Ground("black"))
    truth = [MovingScene(scene, ((-0.3, 0.0),)).at(0.2 * k) for k in range(6)]
    shown = [MovingScene(scene, (velocity,)).at(0.2 * k) for k in range(6)]
    assert numbers(held(samples(shown, truth=truth)))["direction"] == follows


def test_direction_before_the_turn() -> None:
    """The disc at 0.25 moves 0.06 left a step and turns at 0.18, in its second step: judged after the first alone, whatever `lead`.

    A rollout that goes 0.048 to the left, 80 %, and stays there is right, though at step 4 the truth is far to the right. What
    rests has no direction.
    """
    scene = Scene((replace(DISC, x=0.25), CROSS), Ground("black"))
    moving = MovingScene(scene, ((-0.3, 0.0), (0.0, 0.0)))
    truth = [moving.at(0.2 * k) for k in range(6)]
    assert [s.objects[0].x for s in truth[:3]] == pytest.approx([0.25, 0.19, 0.23])
    shown = [replace(scene, objects=(replace(scene.objects[0], x=0.25 if k == 0 else 0.202), CROSS)) for k in range(6)]
    for lead in (1, 2, 4):
        assert numbers(held(samples(shown, truth=truth), lead=lead))["direction"] == 1
    still = [scene] * 6
    assert math.isnan(numbers(held(samples(still, truth=still)))["direction"])


def test_every_other_frame() -> None:
    """Frames 0, 2, 4, 6 are read. All is lost at frame 3: frame 4 is the first that shows it, frame 2 the last known to hold: 2.

    Lost at frame 7, which is not read: it survives with 7. Read at 0 alone it is undefined.
    """
    lost = samples([without(s, 0, 1) if k >= 3 else s for k, s in enumerate(SCENES)])
    made = held(lost, every=2)
    assert numbers(made)["half_life"] == 2
    assert numbers(made)["attributes"] == pytest.approx(1 / 3)
    series = made.series["attributes"]["a"]
    assert series[::2] == [1, 1, 0, 0]
    assert all(math.isnan(value) for value in series[1::2])
    late = samples([without(s, 0, 1) if k >= 7 else s for k, s in enumerate(SCENES)])
    assert numbers(held(late, every=2))["half_life"] == 7
    assert math.isnan(numbers(held(late, every=8))["half_life"])


def test_several_rollouts_and_their_mean() -> None:
    """Half-lives 7 and 2: mean 4.5, standard error 5/√2/√2 = 2.5. Merged or in one, twice or once."""
    lost = samples([without(s, 0, 1) if k >= 3 else s for k, s in enumerate(SCENES)], "b")
    one, other = held(samples(SCENES)), held(lost)
    one.merge(other)
    one.merge(other)
    assert (one.compute().value, one.compute().stderr, one.compute().n) == (4.5, pytest.approx(2.5), 2)
    assert one.series["attributes"]["b"] == [1, 1, 1, 0, 0, 0, 0, 0]


def test_what_is_missing_is_said() -> None:
    with pytest.raises(RecipeError, match="has no eye"):
        SceneHeld().update(samples(SCENES))
    with pytest.raises(ShapeError, match=re.escape("a: 8 frames and 5 true scenes; roll out fewer steps or raise `future`")):
        held(replace(samples(SCENES), facts=[{"scenes": [s.facts() for s in SCENES[:5]]}]))
    with pytest.raises(DataError, match=re.escape('needs facts["scenes"], one scene a frame; found scene_target')):
        held(replace(samples(SCENES), facts=[{"scene_target": SCENES[1].facts()}]))
    with pytest.raises(DataError, match="videos:generated"):
        held(Samples(["a"], facts=[{"scenes": []}]))
    for settings in ({"kind": "scene_held", "every": 0}, {"kind": "scene_held", "lead": 0}, {"kind": "frame_error", "step": 0}):
        with pytest.raises(RecipeError, match="found 0, expected at least 1"):
            metric.build(settings, "evaluate.x")


def ramp(count: int) -> Tensor:
    """Frame k is 0.1 k too bright everywhere."""
    return (0.1 * torch.arange(count)).reshape(1, 1, count, 1, 1).expand(1, 3, count, 4, 6)


def test_frame_error_by_hand() -> None:
    """Frame k is off by 0.1 k: error 0.01 k². At step 2 0.04, PSNR 10 log10(4/0.04) = 20 dB; mean of steps 1 to 3: 0.14/3."""
    truth = torch.linspace(-0.5, 0.5, 3 * 4 * 6).reshape(1, 3, 1, 4, 6).expand(1, 3, 4, 4, 6)
    made = FrameError(step=2)
    made.update(Samples(["a"], videos={"generated": truth + ramp(4), "target": truth}))
    assert made.scores["a"] == pytest.approx(0.04, rel=1e-5)
    assert made.also["psnr"]["a"] == pytest.approx(20, abs=1e-4)
    assert made.also["mean"]["a"] == pytest.approx(0.14 / 3, rel=1e-5)
    assert made.series["error"]["a"] == pytest.approx([0, 0.01, 0.04, 0.09], abs=1e-7)


def test_frame_error_of_a_copy_and_of_short_rollouts() -> None:
    """Equal frames: error 0, 100 dB. A rollout of 7 steps has no step 8: undefined and counted, with its mean all the same."""
    videos = {"generated": frames(MOVING, [0.2 * k for k in range(9)], 32).transpose(0, 1)[None]}
    videos["target"] = videos["generated"].clone()
    made = FrameError()
    made.update(Samples(["a"], videos=videos))
    assert (made.scores["a"], made.also["psnr"]["a"]) == (0, 100)
    made.update(Samples(["b"], videos={name: video[:, :, :8] for name, video in videos.items()}))
    assert math.isnan(made.scores["b"])
    assert made.also["mean"]["b"] == 0
    assert (made.compute().n, made.compute().note) == (1, "1 of 2 undefined")


def test_frame_errors_of_unlike_videos_are_refused() -> None:
    with pytest.raises(ShapeError, match=re.escape("shape (1, 3, 4, 4, 6) and the true ones (1, 3, 5, 4, 6)")):
        frame_errors(ramp(4), ramp(5))
    with pytest.raises(DataError, match="true videos hold NaN"):
        frame_errors(ramp(4), ramp(4) * torch.nan)
