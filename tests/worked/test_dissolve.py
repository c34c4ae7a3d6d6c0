"""Dissolves and fades against motion, on drawn pictures of several textures, lengths and speeds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest

from relatum.video.dissolve import RATE, Recent, is_mix

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


def mixes(random: np.random.Generator, shown: Scene) -> bool:
    """As of a hit at 2.5 to 3.5 s, with noise of 1.5 levels."""
    recent = Recent()
    for t in np.arange(1.0, 5.0, 1 / RATE):
        gray = np.clip(shown(float(t)) + 1.5 * random.normal(size=(HEIGHT, WIDTH)), 0, 255).astype(np.uint8)
        recent.add(float(t), np.repeat(gray[..., None], 3, 2))
    return recent.mixes(2.0, 4.0)


@pytest.mark.parametrize("seconds", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("black", ["", "before", "after"])
def test_dissolves_and_fades_are_seen(seconds: float, black: str) -> None:
    random = np.random.default_rng([int(10 * seconds), len(black)])
    assert sum(mixes(random, dissolved(random, seconds, black)) for _ in range(5)) == 5


@pytest.mark.parametrize("kind", [0, 1, 2])
def test_motion_is_not(kind: int) -> None:
    random = np.random.default_rng(kind)
    make = (lambda: panned(random, 10, 80), lambda: zoomed(random), lambda: passed(random))[kind]
    assert sum(mixes(random, make()) for _ in range(20)) <= 1


def test_a_mix_by_hand() -> None:
    """A ramp and its mirror image: their mean is a mix, each of them is none, and so is the middle of two equal frames."""
    ramp = np.tile(np.linspace(20, 220, WIDTH), (HEIGHT, 1)).astype(np.uint8)
    other = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, ramp.shape).astype(np.uint8), (0, 0), 1.0)
    assert is_mix(ramp, (ramp // 2 + other // 2).astype(np.uint8), other)
    assert not is_mix(ramp, ramp, other)
    assert not is_mix(ramp, other, other)
    assert not is_mix(ramp, ramp, ramp)
