"""Dissolves and fades against motion, on drawn pictures of several textures, lengths and speeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import av
import cv2
import numpy as np
import pytest

from relatum.video import likeness
from relatum.video.cuts import decide
from relatum.video.dissolve import mixture
from relatum.video.finder import CutFinder
from relatum.video.frame import Frame
from relatum.video.turn import Turn

HEIGHT, WIDTH = 72, 128
Scene = Callable[[float], np.ndarray]


def picture(random: np.random.Generator) -> np.ndarray:
    """(2 h, 2 w) float32: blurred noise of one or several grains, half of the time with disks on it."""
    total = np.zeros((2 * HEIGHT, 2 * WIDTH))
    for grain in [(2,), (3, 9, 25), (6, 20)][random.integers(3)]:
        field = cv2.GaussianBlur(random.normal(size=total.shape), (0, 0), grain)
        total += field / field.std()
    made = np.clip(random.uniform(80, 170) + random.uniform(20, 50) * total / total.std(), 0, 255).astype(np.float32)
    for _ in range(random.integers(1, 6) if random.random() < 0.5 else 0):
        place = (int(random.integers(2 * WIDTH)), int(random.integers(2 * HEIGHT)))
        cv2.circle(made, place, int(random.integers(8, 40)), float(random.uniform(0, 255)), -1)
    return made


def view(whole: np.ndarray, x: float, y: float, zoom: float = 1.0) -> np.ndarray:
    matrix = np.array([[1 / zoom, 0, WIDTH + x - WIDTH / 2 / zoom], [0, 1 / zoom, HEIGHT + y - HEIGHT / 2 / zoom]], np.float32)
    how: Any = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(whole, matrix, (WIDTH, HEIGHT), flags=how, borderMode=cv2.BORDER_REFLECT)


def panned(random: np.random.Generator, least: float, most: float) -> Scene:
    """At `least` to `most` pixels a second in any direction; at 3 s in the middle."""
    whole, angle, speed = picture(random), random.uniform(0, 2 * np.pi), random.uniform(least, most)
    return lambda t: view(whole, speed * (t - 3) * np.cos(angle), speed * (t - 3) * np.sin(angle))


def dissolved(random: np.random.Generator, seconds: float, black: str) -> Scene:
    """Around 3 s, of scenes that move up to 4 pixels a second; black: "before", "after" or neither."""
    first, second = panned(random, 0, 4), panned(random, 0, 4)
    share = lambda t: float(np.clip((t - 3) / seconds + 0.5, 0, 1))  # noqa: E731
    return lambda t: (black != "before") * (1 - share(t)) * first(t) + (black != "after") * share(t) * second(t)


def zoomed(random: np.random.Generator) -> Scene:
    whole, rate = picture(random), random.uniform(-0.6, 0.6)
    return lambda t: view(whole, 0, 0, float(np.exp(rate * (t - 3))))


def passed(random: np.random.Generator) -> Scene:
    """A box of another texture or of one gray crosses a still picture in the middle of the time."""
    ground, texture = view(picture(random), 0, 0), view(picture(random), 0, 0)
    gray = random.uniform(0, 255) if random.random() < 0.5 else None
    width, height, speed, top = (random.integers(20, 90), random.integers(20, 60), random.uniform(30, 160), random.integers(62))

    def at(t: float) -> np.ndarray:
        made, left = ground.copy(), int(speed * (t - 3) + (WIDTH - width) / 2)
        start, stop = max(left, 0), min(left + width, WIDTH)
        if start < stop:
            made[top : top + height, start:stop] = texture[top : top + height, start - left : stop - left] if gray is None else gray
        return made

    return at


def spans(random: np.random.Generator, shown: Scene) -> tuple[tuple[float, float], ...]:
    """Gradual changes that are found in seconds 1 to 5, 16 frames a second, with noise of 1.5 levels."""
    finder = CutFinder()
    for index, t in enumerate(np.arange(1.0, 5.0, 1 / 16)):
        gray = np.clip(shown(float(t)) + 1.5 * random.normal(size=(HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
        finder.see(Frame(index, float(t), av.VideoFrame.from_ndarray(gray, format="gray"), Turn()))
    return decide(finder.track()).gradual


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("black", ["", "before", "after"])
def test_dissolves_and_fades_are_seen(seconds: float, black: str) -> None:
    random = np.random.default_rng([int(10 * seconds), len(black)])
    found = [spans(random, dissolved(random, seconds, black)) for _ in range(5)]
    assert sum(any(begin <= 3 + seconds / 2 and end >= 3 - seconds / 2 for begin, end in one) for one in found) == 5


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_motion_is_not(kind: int) -> None:
    random = np.random.default_rng(kind)
    make = (lambda: panned(random, 10, 80), lambda: zoomed(random), lambda: passed(random))[kind]
    assert sum(bool(spans(random, make())) for _ in range(20)) <= 1


@pytest.mark.parametrize("rate", [0.3, 1.0])
def test_light_that_changes_is_not(rate: float) -> None:
    random = np.random.default_rng(int(10 * rate))
    for _ in range(5):
        still = panned(random, 0, 8)
        assert spans(random, lambda t: still(t) * (0.7 + 0.3 * np.sin(2 * np.pi * rate * t))) == ()  # noqa: B023


def test_a_mix_by_hand() -> None:
    """Noise a and b, and their mean: no error save rounding. a is no mix of a and b; a at half its contrast is lit otherwise."""
    random = np.random.default_rng(0)
    a, b = (cv2.GaussianBlur(random.integers(0, 256, (HEIGHT, WIDTH), np.uint8), (0, 0), 1.0) for _ in range(2))
    assert mixture(a, (a // 2 + b // 2).astype(np.uint8), b) < 0.01
    assert mixture(a, a, b) == mixture(a, b, b) == mixture(a, a, a) == float("inf")
    assert mixture(a, (64 + a // 2).astype(np.uint8), np.full_like(a, 128)) > 0.9


def test_what_was_looked_at_before_does_not_matter() -> None:
    """OpenCV's flow keeps the scales that a small picture made it take: after one, larger pictures had other flow."""
    random = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(random.integers(0, 256, (72, 128), np.uint8), (0, 0), 3)
    moved_on = np.roll(smooth, 5, 1)
    likeness._flow.cache_clear()
    before = likeness.moved(smooth, smooth, moved_on)
    small = random.integers(0, 256, (24, 24), np.uint8)
    likeness.moved(small, small, np.roll(small, 1, 1))
    np.testing.assert_array_equal(likeness.moved(smooth, smooth, moved_on), before)
