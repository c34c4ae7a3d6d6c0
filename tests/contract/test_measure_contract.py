"""Every measure of a curation, also one added tomorrow, keeps this contract. Measures are found by their registration."""

from __future__ import annotations

import dataclasses
import functools
import json
import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pytest

import relatum.curation.stages  # noqa: F401  registers them
from relatum.core.errors import RecipeError
from relatum.core.registry import stage
from relatum.curation.base import Clip, Facts, Measure, Track
from relatum.video.frame import Frame
from relatum.video.turn import Turn
from support.passes import clip, frames, shifted, texture, video, watched
from support.settings import alternatives

NAMES = sorted(name for name, cls in stage.classes.items() if hasattr(cls, "watch") and hasattr(cls, "facts"))
RATE = 12
TIMES = tuple(k / RATE for k in range(8 * RATE))
OTHER: dict[tuple[str, str], list[Any]] = {("cuts", "detectors"): [("hash",)], ("cuts", "rates"): [(2.0,)]}  # no numbers


def between(start: float, end: float) -> Clip:
    first, stop = (sum(time < second - 1e-6 for time in TIMES) for second in (start, end))
    return dataclasses.replace(clip(start, end), first=first, stop=stop)


CLIPS = [between(*ends) for ends in ((0, 8), (0, 2), (1.4, 3.6), (4, 5.9), (5.5, 8))]


@functools.cache
def film() -> tuple[np.ndarray, ...]:
    """Eight seconds in color: a fade from black to a wall with two shadows; a pan of a texture under bars, every other frame twice;
    a cut to a caption on a picture with noise; the same picture, still.
    """
    base, other = texture(0, 160, 224), texture(1, 160, 224)
    wall = np.full((160, 224), 90.0)
    wall[60:110, 20:60], wall[30:80, 120:170], wall[:, 200:] = 40, 140, 100
    caption = other.copy()
    for row, line in enumerate(("a caption of some length", "and what it says below")):
        drawn = cv2.putText(np.zeros((160, 224), np.uint8), line, (12, 110 + 25 * row), cv2.FONT_HERSHEY_SIMPLEX, 0.5, 255, 1)
        caption[drawn > 127] = 255
    made = []
    for k in range(8 * RATE):
        second = k / RATE
        if second < 2:
            picture = wall * min(second / 1.5, 1) + np.random.default_rng(k).normal(0, 0.3, wall.shape)
        elif second < 4:
            picture = shifted(base, 3 * (k // 2))
            picture[:20] = picture[-20:] = 0
        elif second < 6:
            picture = caption + np.random.default_rng(k).normal(0, 2, wall.shape)
            picture[:, : 10 * (k % 7)] += 6
        else:
            picture = caption
        made.append(np.clip(np.stack([picture, picture * 0.9, picture * 0.8], -1), 0, 255).astype(np.uint8))
    return tuple(made)


def shown(pictures: Sequence[np.ndarray] | None = None) -> list[Frame]:
    return list(frames(film() if pictures is None else pictures, TIMES))


def build(name: str, settings: dict[str, Any] | None = None) -> Measure:
    return stage.build({"kind": name, **(settings or {})}, f"measure.{name}")


@functools.cache
def whole(name: str) -> Track:
    return watched(build(name), shown())


def checked(measure: Measure, track: Track, where: Clip) -> Facts:
    """The facts, each finite or None, all of `writes` and only these."""
    found = measure.facts(track, where)
    assert set(found) == set(measure.writes)
    json.dumps(dict(found), allow_nan=False)
    for value in found.values():
        assert value is None or type(value) in (float, int, str, list), "of Python's own types"
        assert not isinstance(value, list) or len({type(part) for part in value}) <= 1
    return found


def same(a: Track, b: Track) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)


def test_those_of_the_specification_are_registered() -> None:
    assert {"motion", "picture", "frozen", "hash"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_tracks_are_numbers_over_time(name: str) -> None:
    measure, track = build(name), whole(name)
    assert isinstance(measure, Measure)
    assert 0 <= measure.rate < math.inf
    assert measure.version >= 1
    assert set(measure.cheap) <= {setting.name for setting in dataclasses.fields(stage.classes[name])}
    assert len({len(values) for values in track.values()}) == 1
    time = track["time"]
    assert len(time) > 0
    assert np.all(np.diff(time) >= 0)
    assert np.all((time >= 0) & (time <= TIMES[-1] + 1e-6))
    assert np.all(track.get("since", time) <= time)
    assert not any(np.isinf(values).any() for values in track.values() if values.dtype.kind == "f")


@pytest.mark.parametrize("name", NAMES)
def test_the_same_video_gives_the_same_track(name: str) -> None:
    """Also where a second video is watched at the same time, and facts change nothing."""
    measure = build(name)
    before = {key: values.copy() for key, values in whole(name).items()}
    facts = [measure.facts(whole(name), where) for where in CLIPS]
    assert same(whole(name), before)
    first, second = (measure.watch(video(TIMES, 224, 160)) for _ in range(2))
    flipped, next_due = shown([picture[::-1] for picture in film()]), 0.0
    for frame, other in zip(shown(), flipped, strict=True):
        if not measure.rate or frame.seconds >= next_due - 1e-6:
            first.see(frame)
            second.see(other)
            next_due = (np.floor(frame.seconds * measure.rate + 1e-6) + 1) / measure.rate if measure.rate else 0.0
    track = first.track()
    assert same(track, before)
    assert repr([build(name).facts(track, where) for where in CLIPS]) == repr(facts)


@pytest.mark.parametrize("name", NAMES)
def test_facts_are_what_is_written(name: str) -> None:
    measure = build(name)
    found = [checked(measure, whole(name), where) for where in CLIPS]
    assert all(value is not None for value in found[0].values()), "of a clip of eight seconds everything can be told"
    checked(measure, whole(name), clip(7.99, 8))
    checked(measure, whole(name), clip(100, 101))


@pytest.mark.parametrize("name", NAMES)
def test_what_comes_after_a_clip_does_not_matter(name: str) -> None:
    measure = build(name)
    for where in CLIPS[1:4]:
        other = [p if t < where.end else 255 - p for p, t in zip(film(), TIMES, strict=True)]
        expected = repr(measure.facts(whole(name), where))
        assert repr(measure.facts(watched(measure, shown(other)), where)) == expected


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_changes_something(name: str) -> None:
    """A cheap one the facts, of the same track; any other one the track."""
    cls = stage.classes[name]
    plain = build(name)
    before = repr([plain.facts(whole(name), where) for where in CLIPS])
    for setting in dataclasses.fields(cls):
        if not setting.init:
            continue
        changed = False
        for value in OTHER.get((name, setting.name)) or alternatives(cls, setting.name, getattr(plain, setting.name)):
            try:
                measure = build(name, {setting.name: value})
            except RecipeError:
                continue
            if setting.name in measure.cheap:
                changed = repr([measure.facts(whole(name), where) for where in CLIPS]) != before
                assert measure.rate == plain.rate, f"{name}.{setting.name} is cheap, but changes which frames are seen"
            else:
                changed = not same(watched(measure, shown()), whole(name))
            if changed:
                break
        assert changed, f"{name}.{setting.name}"


@pytest.mark.parametrize("name", NAMES)
def test_a_video_without_frames_has_an_empty_track(name: str) -> None:
    measure = build(name)
    track = watched(measure, [])
    assert track.keys() == whole(name).keys()
    assert all(len(values) == 0 for values in track.values())
    assert {k: v.dtype for k, v in track.items()} == {k: v.dtype for k, v in whole(name).items()}
    checked(measure, track, clip())


@pytest.mark.parametrize("size", [(1, 1), (1, 50), (50, 1), (2, 3), (15, 17), (33, 241)])
@pytest.mark.parametrize("name", NAMES)
def test_odd_sizes_are_measured_too(name: str, size: tuple[int, int]) -> None:
    measure = build(name)
    pictures = [np.roll(film()[30], 3 * k, 1)[: size[0], : size[1]] for k in range(25)]
    turned = list(frames(pictures, TIMES, Turn(transpose=True, rows=True)))
    for frame_list in (list(frames(pictures, TIMES)), turned):
        checked(measure, watched(measure, frame_list), clip())


@pytest.mark.parametrize("name", NAMES)
def test_one_frame_and_a_change_of_size_do_no_harm(name: str) -> None:
    measure = build(name)
    checked(measure, watched(measure, shown()[:1]), clip())
    changing = [p if k < 30 else p[: 90 + k // 10 * 4, :100] for k, p in enumerate(film())]
    checked(measure, watched(measure, shown(changing)), clip())


@pytest.mark.parametrize("name", NAMES)
def test_pixels_are_left_as_they_are(name: str) -> None:
    """Frames are shared by all measures: what one of them sees, the others see too."""
    measure, seen = build(name), shown()[24:48]
    before = [(frame.luma(144).copy(), frame.bgr(144).copy()) for frame in seen]
    watched(measure, seen)
    for frame, (luma, bgr) in zip(seen, before, strict=True):
        assert np.array_equal(frame.luma(144), luma)
        assert np.array_equal(frame.bgr(144), bgr)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="no setting 'colour'"):
        stage.build({"kind": name, "colour": 1}, "measure.x")
