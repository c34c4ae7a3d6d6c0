"""The oracle's eye: reads ground and objects of a toy scene back from pixels, sharp or somewhat blurred, at 32 px and above.

The ground is the nearest of the finitely many; what differs from it is cut into pieces of one color, and each piece is compared
with renderings of every shape and size at its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from ...core.errors import ShapeError
from .grammar import RELATIONS, holds
from .render import coverage, ground_pixels, rgb
from .scene import COLORS, SHAPES, SIZES, Ground, Object, Scene, grounds_of

__all__ = ["SceneAccuracy", "SeenObject", "read_ground", "read_scene", "scene_accuracy"]

_Image = NDArray[np.float32]
_Region = NDArray[np.bool_]

_NAMES = tuple(COLORS)
_PALETTE = np.stack([rgb(COLORS[name])[:, 0, 0] for name in _NAMES])  # (colors, 3)
_BLUR = 1 / 50  # standard deviation of the blur of images before shapes are compared, in sides of the image
_BLURS = (_BLUR, 2 * _BLUR)  # those of the templates: of a sharp image, and of one that was blurred before
_GRAIN = 4  # positions a pixel and axis at which templates are kept
_LEAST = 0.25  # smallest piece taken for an object, as a share of the area of a small circle
_DOUBT = 0.8  # below this fit a piece may be two objects of one color that touch


@dataclass(frozen=True)
class SeenObject:
    """An object that was read. (x, y): its center in sides of the image. fit in [0, 1]: how well the shape explains the pixels
    (shared over joint coverage); 0.9 and more on clean renderings, lower on deformed objects."""

    shape: str
    color: str
    x: float
    y: float
    size: str
    fit: float = 1.0

    @property
    def pair(self) -> tuple[str, str]:
        """(shape, color)."""
        return self.shape, self.color


@dataclass(frozen=True)
class SceneAccuracy:
    """How a reading agrees with a true scene, in [0, 1]. A share of nothing is 1.

    attributes: of the true objects, those found with the right shape and color. relations: of the pairwise relations (left of,
    right of, above, below) that hold in the truth, those that hold in the reading. spurious: objects read beyond the true ones.
    """

    attributes: float
    relations: float
    spurious: int

    @property
    def exact(self) -> bool:
        """Whether the reading has the true objects and no others."""
        return self.attributes == 1 and self.spurious == 0


def read_ground(pixels: Float[Tensor, "3 h w"]) -> Ground:
    """The ground whose rendering lies nearest, by the distance in color, cut off where objects are."""
    return _read_ground(_array(pixels))


def read_scene(pixels: Float[Tensor, "3 h w"]) -> list[SeenObject]:
    """The objects of a square image in [-1, 1], 32 px or more, in reading order. Raises ShapeError.

    >>> from .render import render
    >>> scene = Scene((Object("star", "red", "large", 0.4, 0.6),), Ground("white"))
    >>> [(seen.shape, seen.color, seen.size) for seen in read_scene(render(scene, 32))]
    [('star', 'red', 'large')]
    """
    image = _array(pixels)
    size = image.shape[-1]
    cover, label = _mixtures(image, ground_pixels(_read_ground(image), size))
    pieces = _pieces(cover, label)
    solid = np.logical_or.reduce([piece for piece, _ in pieces]) if pieces else np.zeros((size, size), np.bool_)
    seen = [thing for piece, color in pieces for thing in _recognize(piece, color, cover, solid)]
    return sorted(seen, key=lambda o: (round(o.y * 8), o.x))


def scene_accuracy(seen: Sequence[SeenObject], truth: Scene) -> SceneAccuracy:
    """Compare a reading with the truth. Objects are matched by shape and color, wherever they are."""
    found: dict[Object, SeenObject] = {}
    left = list(seen)
    for thing in truth.objects:
        near = [o for o in left if o.pair == thing.pair]
        if near:
            found[thing] = min(near, key=lambda o: (o.x - thing.x) ** 2 + (o.y - thing.y) ** 2)
            left.remove(found[thing])
    stated = [(p, word, q) for p in truth.objects for q in truth.objects if p != q for word in RELATIONS if holds(p, word, q)]
    right = [p in found and q in found and _stands(found[p], word, found[q]) for p, word, q in stated]
    return SceneAccuracy(_share(len(found), len(truth.objects)), _share(sum(right), len(right)), len(left))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _stands(first: SeenObject, word: str, second: SeenObject) -> bool:
    """Whether the relation holds at all; `holds` with its margin is for statements, not for what was drawn after them."""
    dx, dy = second.x - first.x, second.y - first.y
    return {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[word] > 0.03


def _array(pixels: Tensor) -> _Image:
    _, height, width = pixels.shape
    if height != width or height < 32:
        raise ShapeError(f"a scene is read from square images of at least 32 px, found {height} x {width}; resize first")
    return pixels.detach().float().cpu().numpy()


def _read_ground(image: _Image) -> Ground:
    grounds, known = _grounds(image.shape[-1])
    distance = np.abs(known - image).sum(1).clip(max=0.3).mean((1, 2))
    return grounds[int(distance.argmin())]


@lru_cache(maxsize=4)
def _grounds(size: int) -> tuple[tuple[Ground, ...], _Image]:
    grounds = grounds_of("both")
    return grounds, np.stack([ground_pixels(g, size) for g in grounds])


def _mixtures(image: _Image, ground: _Image) -> tuple[_Image, NDArray[np.intp]]:
    """(cover, label): cover (colors, h, w) is each color's share in a pixel if it were a mixture of that color and the ground;

    label (h, w) is the color for which that is nearest to the truth. Mixing, not nearness: a red edge on white is not pink.
    """
    from_ground = _PALETTE[:, :, None, None] - ground  # (colors, 3, h, w)
    difference = image - ground
    cover = ((from_ground * difference).sum(1) / (from_ground**2).sum(1)).clip(0, 1)
    residual = ((difference - cover[:, None] * from_ground) ** 2).sum(1)
    return cover, residual.argmin(0)


def _pieces(cover: _Image, label: NDArray[np.intp]) -> list[tuple[_Region, int]]:
    """Connected regions that are not ground, each with its color's number. A region of several colors is cut along them."""
    least = _least(label.shape[0])
    strength = np.take_along_axis(cover, label[None], 0)[0]
    regions, count = _connected(strength > 0.5)
    pieces = []
    for number in range(1, count + 1):
        region = regions == number
        votes = np.bincount(label[region], weights=strength[region] ** 4, minlength=len(_NAMES))
        colors = [int(c) for c in np.flatnonzero(votes >= 0.15 * votes.sum())]
        seeds = np.stack([region & (label == c) for c in colors])
        nearest = np.stack([_depth(~seed) for seed in seeds]).argmin(0)
        pieces += [(region & (nearest == i), c) for i, c in enumerate(colors)]
    return [(piece, color) for piece, color in pieces if piece.sum() >= least]


def _connected(mask: _Region) -> tuple[NDArray[np.integer], int]:
    """Numbers from 1 on for the connected regions of a mask, and how many there are."""
    found: Any = ndimage.label(mask)
    return found[0], int(found[1])


def _depth(mask: _Region) -> NDArray[np.float64]:
    """Each marked pixel's distance to the nearest unmarked one."""
    depth: Any = ndimage.distance_transform_edt(mask)
    return depth


def _least(size: int) -> float:
    return _LEAST * np.pi * (SIZES["small"] * size) ** 2


def _recognize(piece: _Region, color: int, cover: _Image, solid: _Region) -> list[SeenObject]:
    """The object that explains the piece, or two where that explains it better."""
    whole = _best(piece, color, cover[color], solid)
    if whole.fit >= _DOUBT:
        return [whole]
    parts = [_best(part, color, cover[color], solid) for part in _cut(piece)]
    return parts if parts and min(part.fit for part in parts) > whole.fit + 0.05 else [whole]


def _cut(piece: _Region) -> list[_Region]:
    """The piece cut at its waist: the parts that stay when its border is taken away, grown again. Empty where it has none."""
    depth = _depth(piece)
    for least in np.unique(depth)[1:]:
        parts, count = _connected(depth > least)
        sizes = np.bincount(parts.ravel(), minlength=1)[1:]
        kept = [i + 1 for i in range(count) if sizes[i] >= 4]
        if len(kept) > 1:
            nearest = np.stack([_depth(parts != k) for k in kept]).argmin(0)
            halves = [piece & (nearest == i) for i in range(len(kept))]
            return halves if all(half.sum() >= _least(piece.shape[0]) for half in halves) else []
    return []


def _best(piece: _Region, color: int, cover: _Image, solid: _Region) -> SeenObject:
    """The shape and size whose template lies best on the piece, and where."""
    size = piece.shape[0]
    around = (_depth(~piece) <= 2 * size / 32) & ~(solid & ~piece)
    weights = np.where(around & (cover > 0.1), cover, 0)
    total = weights.sum()
    y, x = (float((weights.sum(1 - axis) * (np.arange(size) + 0.5)).sum() / total) for axis in (0, 1))
    soft = ndimage.gaussian_filter(weights, _BLUR * size, mode="constant")
    patch = _patch(soft, int(y), int(x), _half(size))
    steps = tuple(min(int((at - int(at)) * _GRAIN), _GRAIN - 1) for at in (y, x))
    words, templates = _templates(size, *steps)
    fits = np.minimum(templates, patch).sum((1, 2)) / np.maximum(templates, patch).sum((1, 2))
    shape, size_word = words[int(fits.argmax())]
    return SeenObject(shape, _NAMES[color], x / size, y / size, size_word, float(fits.max()))


def _half(size: int) -> int:
    """Half the side of a patch that holds the largest object with its blur, in pixels."""
    return int(1.3 * max(SIZES.values()) * size) + 4


def _patch(image: NDArray[np.floating], row: int, column: int, half: int) -> NDArray[np.floating]:
    """The square of 2 * half + 1 pixels around (row, column), with 0 beyond the border."""
    return np.pad(image, half)[row : row + 2 * half + 1, column : column + 2 * half + 1]


@lru_cache(maxsize=64)
def _templates(size: int, row_step: int, column_step: int) -> tuple[list[tuple[str, str]], _Image]:
    """Patches of every shape and size, with the center at the given step of `_GRAIN` within the middle pixel."""
    words, patches = [], []
    middle = size // 2
    y, x = ((middle + (step + 0.5) / _GRAIN) / size for step in (row_step, column_step))
    for shape in SHAPES:
        for word in SIZES:
            top, left, alpha = coverage(Object(shape, _NAMES[0], word, x, y), size)
            canvas = np.zeros((size, size), np.float32)
            canvas[top : top + alpha.shape[0], left : left + alpha.shape[1]] = alpha
            for blur in _BLURS:
                words.append((shape, word))
                patches.append(_patch(ndimage.gaussian_filter(canvas, blur * size, mode="constant"), middle, middle, _half(size)))
    return words, np.stack(patches)
