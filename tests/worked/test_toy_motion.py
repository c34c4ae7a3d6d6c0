"""Moving toy scenes: reflection by hand, true flow and what stays visible, captions of motion, pairs of frames and their law."""

import json
import math
import re
from collections.abc import Sequence
from typing import Literal

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import reader
from relatum.data.toy import (
    COLORS,
    DIRECTIONS,
    HELD_OUT,
    SHAPES,
    Ground,
    MovingScene,
    Object,
    Scene,
    Stream,
    ToyScenes,
    ToyVideos,
    direction_of,
    draw_motion,
    film,
    flow,
    frames,
    motion_caption,
    motion_negatives,
    motion_of_row,
    read_scene,
    render,
    scene_accuracy,
    scene_of_row,
    speed_of,
    true_flows,
    velocity_of,
    visible,
)

STAR = Object("star", "blue", "large", 0.5, 0.3)
RING = Object("ring", "red", "small", 0.25, 0.7)
MOVING = MovingScene(Scene((STAR, RING), Ground("beige", "dots")), ((0.3, -0.1), (0.0, 0.0)))


def drawn(count: int, directions: int = 8, objects: int = 3) -> list[MovingScene]:
    rows = ToyScenes(count=count, seed=5, max_objects=objects).rows()
    return [draw_motion(Stream(i), scene_of_row(row), directions) for i, row in enumerate(rows)]


def test_reflection_by_hand() -> None:
    """A large object turns at 0.24 and 0.76, a way of 0.52.

    x starts at 0.5 with 0.3 a second: 0.76 after 0.26/0.3 s; at 1 s it has gone 0.3, 0.04 of it back: 0.72, leftwards. At 3 s it
    has gone 0.9 = 0.26 + 0.52 + 0.12: 0.24 + 0.12 = 0.36, rightwards again. y starts at 0.3 with -0.1: 0.24 after 0.6 s exactly,
    where it has turned; at 1 s 0.24 + 0.04 = 0.28, at 3 s 0.24 + 0.24 = 0.48, downwards. Backwards: at -1 s, x = 0.2 without the
    wall, 0.04 beyond 0.24: 0.28, and it comes towards that wall: leftwards.
    """
    for seconds, place, velocity in (
        (0, (0.5, 0.3), (0.3, -0.1)),
        (0.6, (0.68, 0.24), (0.3, 0.1)),
        (1, (0.72, 0.28), (-0.3, 0.1)),
        (3, (0.36, 0.48), (0.3, 0.1)),
        (-1, (0.28, 0.4), (-0.3, -0.1)),
    ):
        later = MOVING.after(seconds)
        assert (later.start.objects[0].x, later.start.objects[0].y) == place
        assert later.velocities == (velocity, (0.0, 0.0))
        assert later.start.objects[1] == RING
        assert later.start == MOVING.at(seconds)


def test_time_is_one() -> None:
    """Steps of 0.2 s lead to where one long step leads, over many bounces; nothing leaves the image; facts survive JSON."""
    for moving in drawn(30):
        stepped = moving
        for step in range(1, 41):
            stepped = stepped.after(0.2)
            scene = moving.at(step * 0.2)
            for thing, other in zip(scene.objects, stepped.start.objects, strict=True):
                assert (thing.x, thing.y) == pytest.approx((other.x, other.y), abs=1e-7)
                assert max(abs(thing.x - 0.5), abs(thing.y - 0.5)) <= 0.5 - 1.2 * thing.radius + 1e-9
        assert MovingScene.of(json.loads(json.dumps(moving.facts()))) == moving
        assert moving.at(3 * 0.2).digest() == moving.at(0.6).digest()
    digests = {moving.digest() for moving in drawn(30)}
    assert len(digests) == 30


def test_a_start_at_the_wall_is_a_turn() -> None:
    """At 0.76 and moving right means: has just turned. After no time at all it moves left."""
    at_wall = MovingScene(Scene((Object("star", "red", "large", 0.76, 0.24),), Ground("white")), ((0.3, 0.1),))
    assert at_wall.after(0).velocities == ((-0.3, 0.1),)
    assert at_wall.after(0).start == at_wall.start


def test_wrong_motion_is_refused() -> None:
    with pytest.raises(DataError, match=r"2 objects has 1 velocities"):
        MovingScene(MOVING.start, ((0.1, 0.0),))
    with pytest.raises(DataError, match=r"blue star starts at \(0.9, 0.3\); a large one that moves needs 0.24 to 0.76"):
        MovingScene(Scene((Object("star", "blue", "large", 0.9, 0.3),), Ground("white")), ((0.0, 0.0),))
    with pytest.raises(DataError, match="finite"):
        MovingScene(Scene((STAR,), Ground("white")), ((math.nan, 0.0),))
    with pytest.raises(DataError, match="no frame"):
        film([MOVING], 0.1, 4)


def test_film_has_cuts() -> None:
    """Two shots of 0.8 s at 5 frames/s: 4 + 4 frames, each from its own time 0."""
    other = MovingScene(Scene((RING,), Ground("black")), ((0.1, 0.0),))
    video = film([MOVING, other], 0.8, 5, 32)
    assert video.shape == (8, 3, 32, 32)
    assert torch.equal(video[3], render(MOVING.at(0.6), 32))
    assert torch.equal(video[4:], frames(other, [0, 0.2, 0.4, 0.6], 32))


def test_flow_by_hand() -> None:
    """In 0.5 s the star moves 0.15 right and 0.05 up: 9.6 and -3.2 pixels of 64, wherever it covers at least half of a pixel.

    From 0.6 to 1 s it goes from x 0.68 to 0.72 (by way of the wall) and from y 0.24 to 0.28: 2.56 pixels each.
    """
    found = flow(MOVING, 0, 0.5, 64)
    star = (render(Scene((STAR,), Ground("white")), 64) != render(Scene((), Ground("white")), 64)).any(0)
    assert found[:, 19, 32].tolist() == pytest.approx([9.6, -3.2], abs=1e-5)
    assert not found[:, ~star].any()
    assert 0.75 * star.sum() < (found[0] > 0).sum() <= star.sum()
    assert flow(MOVING, 0.6, 1, 64)[:, 15, 44].tolist() == pytest.approx([2.56, 2.56], abs=1e-5)
    assert found[:, 45, 16].tolist() == [0, 0]  # the ring stands still


def read_at(image: Tensor, shift: Tensor) -> Tensor:
    """image (3 h w) at every pixel plus its shift (2 h w), bilinearly; an independent reading of the flow's convention."""
    size = image.shape[-1]
    rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    y, x = (rows + shift[1].double()), (columns + shift[0].double())
    grid = torch.stack([(x * 2 + 1) / size - 1, (y * 2 + 1) / size - 1], dim=-1)[None]
    return torch.nn.functional.grid_sample(image.double()[None], grid, mode="bilinear", align_corners=False)[0].float()


def test_warping_back_gives_the_first_frame() -> None:
    """Inside `visible`, of any motion, also where objects pass over each other and bounce, on any ground; and not outside."""
    seen = wrong = 0
    for moving in drawn(40):
        for t0, t1 in ((0.0, 0.2), (1.0, 1.4), (2.2, 2.0)):
            mask = visible(moving, t0, t1, 48)[0] > 0
            error = (read_at(render(moving.at(t1), 48), flow(moving, t0, t1, 48)) - render(moving.at(t0), 48)).abs().amax(0)
            assert error[mask].max() < 2e-3  # of 2; grid_sample's own rounding of places to float
            assert mask.float().mean() > 0.5
            seen, wrong = seen + mask.sum().item(), wrong + (error[~mask] > 0.1).sum().item()
    assert wrong > 0.02 * seen  # what the mask leaves out would be wrong


def test_whole_pixels_move_exactly() -> None:
    """By (3, -2) pixels of 40 in 0.25 s, above a striped ground: indexing frame t1 gives frame t0 bit by bit, without an eye for
    rounding. A square of radius 0.2 covers the pixels -7.04 to 7.04 around its center: 13 or 14 whole ones a side."""
    thing = Object("square", "red", "large", 0.5125, 0.4875)
    moving = MovingScene(Scene((thing,), Ground("slate", "stripes")), ((3 / 40 / 0.25, -2 / 40 / 0.25),))
    before, after = frames(moving, [0, 0.25], 40)
    mask = visible(moving, 0, 0.25, 40)[0] > 0
    inside = mask & (flow(moving, 0, 0.25, 40)[0] != 0)
    assert flow(moving, 0, 0.25, 40)[:, 20, 20].tolist() == pytest.approx([3, -2], abs=1e-5)
    assert inside.sum() == 13 * 13
    rows, columns = inside.nonzero(as_tuple=True)
    assert torch.equal(before[:, rows, columns], after[:, rows - 2, columns + 3])
    assert torch.equal(before[:, mask & ~inside], after[:, mask & ~inside])


def test_what_is_covered_is_not_visible() -> None:
    """The ring, later and so above, moves over the resting star: the star's middle is seen at 0 s and hidden at 1 s, and the other
    way round the ring is never hidden."""
    star, ring = Object("star", "blue", "large", 0.5, 0.5), Object("circle", "red", "small", 0.2, 0.5)
    moving = MovingScene(Scene((star, ring), Ground("white")), ((0.0, 0.0), (0.3, 0.0)))
    assert visible(moving, 0, 0.1, 64)[0, 32, 32] == 1
    assert visible(moving, 0, 1, 64)[0, 32, 32] == 0
    assert visible(moving, 0, 1, 64)[0, 32, 13] == 1
    assert visible(moving, 1, 0, 64)[0, 32, 32] == 1  # there it is the circle, seen again at 0 s where it came from
    assert visible(moving, 1, 0, 64)[0, 32, 13] == 0  # ground that the circle covered at 0 s
    below = MovingScene(Scene((ring, star), Ground("white")), ((0.3, 0.0), (0.0, 0.0)))
    assert visible(below, 0, 1, 64)[0, 32, 13] == 0
    assert visible(below, 0, 1, 64)[0, 32, 32] == 1


NAME = rf"an? (?:(slow|fast) )?(?:(small|large) )?({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
THING = rf"{NAME} (?:moves ((?:up|down|left|right| )+?)|stands still)"


def is_true(text: str, moving: MovingScene) -> bool:
    """An independent reading: every object is named once, and all words about its size, pace and direction hold."""
    found = re.findall(rf"{THING}(?=,| and| on)", text)
    velocities = {o.pair: (o, v) for o, v in zip(moving.start.objects, moving.velocities, strict=True)}
    if sorted((shape, color) for _, _, color, shape, _ in found) != sorted(velocities):
        return False
    for pace, size, color, shape, direction in found:
        thing, (vx, vy) = velocities[shape, color]
        words = [word for word, there in (("up", vy < 0), ("down", vy > 0), ("left", vx < 0), ("right", vx > 0)) if there]
        speed = math.hypot(vx, vy)
        if direction != " ".join(words) or size not in ("", thing.size) or (pace and (pace == "fast") != (speed > 0.2)):
            return False
    return moving.start.ground.color in text


def test_captions_are_true_and_negatives_false() -> None:
    kinds: dict[str, int] = {}
    for directions in (4, 8):
        for i, moving in enumerate(drawn(60, directions)):
            for seconds in (0, 3.3):
                later = moving.after(seconds)
                assert is_true(motion_caption(later, i), later), motion_caption(later, i)
                assert is_true(motion_caption(later, i, paced=True), later)
                for wrong, text in motion_negatives(later, i).items():
                    kinds[wrong] = kinds.get(wrong, 0) + 1
                    assert not is_true(text, later), (wrong, text)
                    assert sorted(re.findall("|".join((*COLORS, *SHAPES)), text)) == sorted(
                        re.findall("|".join((*COLORS, *SHAPES)), motion_caption(later, i, paced=True))
                    )
    assert kinds["direction"] == kinds["speed"] == 240
    assert kinds["mover"] > 100


def test_negatives_by_hand() -> None:
    """The star moves fast to the right, the ring stands: false are another direction, a slow star, and the ring moving instead."""
    moving = MovingScene(MOVING.start, ((0.3, 0.0), (0.0, 0.0)))
    key = next(k for k in range(100) if motion_caption(moving, k).startswith("a fast blue star"))
    tail = "a red ring stands still on a beige dotted ground"
    assert motion_caption(moving, key) == f"a fast blue star moves right and {tail}"
    false = motion_negatives(moving, key)
    assert re.fullmatch(f"a fast blue star moves (left|up|down) and {tail}", false["direction"])
    assert false["speed"] == f"a slow blue star moves right and {tail}"
    assert false["mover"] == "a blue star stands still and a fast red ring moves right on a beige dotted ground"
    alone = MovingScene(Scene((RING,), Ground("white")), ((0.0, 0.0),))
    assert motion_negatives(alone, 0) == {}


def test_words_of_velocities() -> None:
    for direction in DIRECTIONS:
        for speed in ("slow", "fast"):
            assert direction_of(velocity_of(direction, speed)) == direction
            assert speed_of(velocity_of(direction, speed)) == speed
    assert (direction_of((0.0, 0.0)), speed_of((0.0, 0.0))) == ("", "")
    assert direction_of((0.3, 0.1)) == "right"  # 18.4 degrees below; from 22.5 on it is "down right"
    assert direction_of((0.3, 0.13)) == "down right"
    assert {direction_of(v) for m in drawn(30, 4) for v in m.velocities} == {"", "left", "right", "up", "down"}
    assert {direction_of(v) for m in drawn(60, 8) for v in m.velocities} == {"", *DIRECTIONS}


def test_row_golden_and_independent_of_the_others() -> None:
    row = ToyVideos(split="test", count=18, past=3, future=4).rows()[17]
    assert row == ToyVideos(split="test", count=3_000_000, past=3, future=4).rows()[17]
    assert (row.id, row.group) == ("toy_videos-test-0-17-0", "toy_videos-test-0-17")
    assert sorted(row.images) == ["future.2", "future.3", "future.4", "past.2", "past.3", "source", "target"]
    assert row.texts["target"] == row.texts["instruction"] == "a blue cross moves down on a black checkered ground"
    assert ToyVideos(split="test", seed=1, count=18).rows()[17].facts["motion"] != row.facts["motion"]
    assert ToyVideos(count=18).rows()[17].facts["motion"] != row.facts["motion"]


@pytest.mark.parametrize("law", ["next", "half_normal"])
def test_rows_show_the_motion(law: Literal["next", "half_normal"]) -> None:
    """Every image is the scene at its time, the facts know it, and the caption is true at the source's time."""
    for row in ToyVideos(count=40, past=3, future=3, per_video=4, law=law, sd=0.7, directions=8).rows():
        moving, facts = MovingScene.of(row.facts["motion"]), row.facts
        time, offset = facts["source_time"], facts["offset"]
        assert time >= 0.4 - 1e-9
        assert offset == pytest.approx(0.2) if law == "next" else offset >= 0.2
        times = {"source": time, "past.2": time - 0.2, "past.3": time - 0.4}
        times |= {"target": time + offset, "future.2": time + 2 * offset, "future.3": time + 3 * offset}
        assert set(times) == set(row.images)
        for role, seconds in times.items():
            assert torch.equal(row.images[role].pixels(32), render(moving.at(round(seconds, 9)), 32)), role
        shown = [row.images[role].digest() for role in ("source", "target", "future.2", "future.3")]
        assert [Scene.of(scene).digest() for scene in facts["scenes"]] == shown
        assert scene_of_row(row).digest() == shown[1]
        assert is_true(row.texts["target"], moving.after(time))
        assert motion_of_row(row) == moving.after(time)
        flows = true_flows(row, 32)
        assert flows.shape == (2, 3, 32, 32)
        assert torch.equal(flows[:, 1], flow(moving.after(time), offset, 2 * offset, 32))


def test_pairs_of_a_video_are_at_different_times() -> None:
    """Videos of 5 rows: sources at 5 of the 28 places that 6 s in steps of 0.2 s leave after two past frames."""
    rows = ToyVideos(count=50, per_video=5, past=3).rows()
    for video in range(10):
        group = rows[video * 5 : video * 5 + 5]
        assert {row.group for row in group} == {f"toy_videos-train-0-{video}"}
        assert len({row.id for row in group}) == len({row.facts["source_time"] for row in group}) == 5
        assert len({json.dumps(row.facts["motion"]) for row in group}) == 1
        assert all(0.4 <= row.facts["source_time"] <= 5.8 + 1e-9 for row in group)
    full = ToyVideos(count=28, per_video=28, past=3).rows()
    assert sorted(row.facts["source_time"] for row in full) == pytest.approx([0.2 * j for j in range(2, 30)])


def test_offsets_follow_their_law() -> None:
    """|N(0, 1 s)| on the grid of 0.5 s: one step holds all below 0.75 s, P = erf(0.75/√2) = 0.5467; two steps 0.75 to 1.25 s,
    erf(1.25/√2) - 0.5467 = 0.2420. Of 600 rows the standard errors are 0.0203 and 0.0175: within three of them."""
    rows = ToyVideos(count=600, law="half_normal", sd=1.0, step=0.5, max_objects=1, grounds="plain").rows()
    offsets = [row.facts["offset"] for row in rows]
    assert all(offset in (0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5) for offset in offsets)
    assert offsets.count(0.5) / 600 == pytest.approx(0.5467, abs=3 * 0.0203)
    assert offsets.count(1.0) / 600 == pytest.approx(0.2420, abs=3 * 0.0175)


def test_splits() -> None:
    pairs = {split: [scene_of_row(row).objects for row in ToyVideos(split=split, count=60).rows()] for split in SPLITS}
    assert all(any(o.pair in HELD_OUT for o in objects) for objects in pairs["held_out_attributes"])
    assert not any(o.pair in HELD_OUT for split in ("train", "test") for objects in pairs[split] for o in objects)
    groups = [{row.group for row in ToyVideos(split=split, count=60, per_video=3).rows()} for split in SPLITS]
    assert len(set.union(*groups)) == 60


SPLITS = ("train", "test", "held_out_attributes")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "dev"}, "split: found 'dev'"),
        ({"max_objects": 4}, "max_objects: found 4"),
        ({"past": 0}, "past: found 0, expected at least 1"),
        ({"step": 0.0}, "step: found 0.0"),
        ({"law": "uniform"}, "law: found 'uniform'"),
        ({"directions": 6}, "directions: found 6"),
        ({"seconds": 1.0, "past": 3, "per_video": 4}, "leave 3 times for the source after 2 frames of the past"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        reader.build({"kind": "toy_videos", **settings}, "data")


def test_captions_fit_the_bundled_text_encoder() -> None:
    """Of up to two objects, in all eight directions: no caption is longer than the 32 tokens it keeps."""
    from transformers import AutoTokenizer

    from relatum.models.bundled import resolve

    tokenizer = AutoTokenizer.from_pretrained(resolve("relatum:toy"), subfolder="tokenizer")
    texts = [row.texts["target"] for row in ToyVideos(count=200, directions=8).rows()]
    longest = max(len(ids) for ids in tokenizer(texts).input_ids)
    assert 25 < longest <= tokenizer.model_max_length == 32


def test_the_eye_reads_moving_scenes() -> None:
    """Share of frames read without fault, by whether objects lie free: overlaps hide what no eye can read."""
    free: list[bool] = []
    met: list[bool] = []
    for moving in drawn(25, objects=2):
        for seconds in (0.6, 1.8, 3.0):
            scene = moving.at(seconds)
            exact = scene_accuracy(read_scene(render(scene, 32)), scene).exact
            (met if overlap(scene.objects) else free).append(exact)
    assert sum(free) / len(free) >= 0.98
    assert sum(met) / len(met) < sum(free) / len(free)


def overlap(objects: Sequence[Object]) -> bool:
    return any(math.dist((o.x, o.y), (p.x, p.y)) < 1.1 * (o.radius + p.radius) for i, o in enumerate(objects) for p in objects[:i])
