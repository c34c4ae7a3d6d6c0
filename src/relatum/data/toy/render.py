"""Scenes as pixels. Coverage is counted on a grid of 4 x 4 points a pixel with additions, products and comparisons alone,

so that the same scene gives the same bits on every machine.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from .scene import COLORS, GROUND_COLORS, Ground, Object, Scene

__all__ = ["changed", "coverage", "ground_pixels", "render", "rgb"]

_POINTS = 4  # a side of a pixel


def rgb(color: tuple[int, int, int]) -> NDArray[np.float32]:
    """8-bit RGB in [-1, 1], shape (3, 1, 1)."""
    return (np.asarray(color, np.float32) / np.float32(127.5) - 1).reshape(3, 1, 1)


def render(scene: Scene, size: int = 64) -> Float[Tensor, "3 {size} {size}"]:
    """The scene's pixels in [-1, 1], antialiased."""
    pixels = ground_pixels(scene.ground, size).copy()
    for thing in scene.objects:
        top, left, alpha = coverage(thing, size)
        rows, columns = slice(top, top + alpha.shape[0]), slice(left, left + alpha.shape[1])
        pixels[:, rows, columns] = pixels[:, rows, columns] * (1 - alpha) + rgb(COLORS[thing.color]) * alpha
    return torch.from_numpy(pixels)


def changed(source: Scene, target: Scene, size: int = 64) -> Float[Tensor, "1 {size} {size}"]:
    """1 where the renderings of the two scenes may differ, else 0.

    These are the pixels touched by an object that only one of the scenes has and, if the grounds differ, all that are not wholly
    covered by an object that both have.
    """
    shared = [o for o in source.objects if o in target.objects]
    if source.ground == target.ground:
        mask = np.zeros((size, size), np.float32)
    else:
        mask = np.ones((size, size), np.float32)
        for thing in shared:
            top, left, alpha = coverage(thing, size)
            mask[top : top + alpha.shape[0], left : left + alpha.shape[1]][alpha == 1] = 0
    for thing in (*source.objects, *target.objects):
        if thing not in shared:
            top, left, alpha = coverage(thing, size)
            mask[top : top + alpha.shape[0], left : left + alpha.shape[1]][alpha > 0] = 1
    return torch.from_numpy(mask[None])


def coverage(thing: Object, size: int) -> tuple[int, int, NDArray[np.float32]]:
    """(top, left, alpha): the share of each pixel that the object covers, on the part of the image around it."""
    reach = 1.3 * thing.radius
    top, left = (max(0, math.floor((at - reach) * size)) for at in (thing.y, thing.x))
    bottom, right = (min(size, math.ceil((at + reach) * size)) for at in (thing.y, thing.x))
    v = (_grid(top, bottom, size) - thing.y) / thing.radius
    u = (_grid(left, right, size) - thing.x) / thing.radius
    inside = _inside(thing.shape, u[None, :], v[:, None])
    counts = inside.reshape(bottom - top, _POINTS, right - left, _POINTS).sum((1, 3), dtype=np.int32)
    return top, left, counts.astype(np.float32) / np.float32(_POINTS * _POINTS)


def _grid(first: int, last: int, size: int) -> NDArray[np.float64]:
    """The sampling points of pixels first..last along one side."""
    return (np.arange(first * _POINTS, last * _POINTS) + 0.5) / (_POINTS * size)


# Edges of regular polygons as outward normals: sine and cosine written out, so that no mathematical library decides a bit.
_TRIANGLE = ((0.0, 1.0), (0.8660254, -0.5), (-0.8660254, -0.5))
_STAR = ((0.0, -1.0), (0.9510565, -0.3090170), (0.5877853, 0.8090170), (-0.5877853, 0.8090170), (-0.9510565, -0.3090170))


def _inside(shape: str, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which points (u right, v down, in radii from the center) belong to the shape."""
    match shape:
        case "circle":
            return u * u + v * v <= 1.0
        case "ring":
            squared = u * u + v * v
            return (squared <= 1.1) & (squared >= 0.3)
        case "square":
            return (abs(u) <= 0.88) & (abs(v) <= 0.88)
        case "cross":
            return ((abs(u) <= 0.36) & (abs(v) <= 1.1)) | ((abs(u) <= 1.1) & (abs(v) <= 0.36))
        case "triangle":
            return np.logical_and.reduce([a * u + b * v <= 0.6 for a, b in _TRIANGLE])
        case "star":  # a pentagram: the points on the inner side of at least four of its five lines
            return np.sum([a * u + b * v <= 0.37 for a, b in _STAR], axis=0) >= 4
    raise ValueError(f"no shape {shape!r}")


@lru_cache(maxsize=256)
def ground_pixels(ground: Ground, size: int) -> NDArray[np.float32]:
    """(3, size, size) in [-1, 1], read-only."""
    first, second = (rgb(tone) for tone in GROUND_COLORS[ground.color])
    share = _share(ground.texture, size)
    pixels = np.ascontiguousarray(first * (1 - share) + second * share, np.float32)
    pixels.setflags(write=False)
    return pixels


@lru_cache(maxsize=32)
def _share(texture: str, size: int) -> NDArray[np.float32]:
    """(size, size): how much of each pixel has the ground's second tone."""
    x = _grid(0, size, size)
    u, v = x[None, :], x[:, None]
    match texture:
        case "plain":
            points = np.zeros((len(x), len(x)))
        case "stripes":
            points = ((u + v) * 4 % 1 < 0.5).astype(np.float64)
        case "checks":
            points = ((np.floor(u * 8) + np.floor(v * 8)) % 2).astype(np.float64)
        case "dots":
            points = ((u * 4 % 1 - 0.5) ** 2 + (v * 4 % 1 - 0.5) ** 2 < 0.075).astype(np.float64)
        case "gradient":
            points = np.broadcast_to(v, (len(x), len(x)))
        case _:
            raise ValueError(f"no texture {texture!r}")
    share = points.reshape(size, _POINTS, size, _POINTS).mean((1, 3))
    return np.asarray(share, np.float32)
