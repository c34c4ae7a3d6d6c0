"""The oracle's eye: scenes read back from clean and from blurred, noisy pixels, and how a reading is scored."""

import pytest
import torch
from scipy import ndimage

from relatum.core.errors import ShapeError
from relatum.data.toy import (
    Ground,
    Object,
    Scene,
    SeenObject,
    ToyScenes,
    read_ground,
    read_scene,
    render,
    scene_accuracy,
    scene_of_row,
)


@pytest.mark.parametrize(("size", "blur", "noise", "least"), [(32, 0.0, 0.0, 0.98), (64, 0.0, 0.0, 0.98), (32, 1.0, 0.1, 0.97)])
def test_reads_scenes_back(size: int, blur: float, noise: float, least: float) -> None:
    """Share of scenes read without any fault of shape or color. blur: standard deviation in pixels; noise: in units of [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    exact = grounds = relations = 0.0
    rows = ToyScenes(count=100, seed=11, split="held_out_attributes").rows()
    for row in rows:
        scene = scene_of_row(row)
        pixels = torch.from_numpy(ndimage.gaussian_filter(render(scene, size).numpy(), (0, blur, blur)))
        pixels = (pixels + noise * torch.randn(pixels.shape, generator=generator)).clamp(-1, 1)
        accuracy = scene_accuracy(read_scene(pixels), scene)
        exact, relations = exact + accuracy.exact, relations + accuracy.relations
        grounds += read_ground(pixels) == scene.ground
    assert min(exact, relations, grounds) / len(rows) >= least


def test_reads_place_and_size() -> None:
    scene = Scene(
        (Object("cross", "cyan", "small", 0.3, 0.7), Object("ring", "pink", "large", 0.7, 0.3)), Ground("black", "stripes")
    )
    ring, cross = read_scene(render(scene, 32))
    assert (ring.pair, ring.size, cross.pair, cross.size) == (("ring", "pink"), "large", ("cross", "cyan"), "small")
    assert (ring.x, ring.y, cross.x, cross.y) == pytest.approx((0.7, 0.3, 0.3, 0.7), abs=0.01)
    assert min(ring.fit, cross.fit) > 0.9


def test_empty_and_touching() -> None:
    assert read_scene(render(Scene((), Ground("beige", "checks")), 32)) == []
    touching = Scene((Object("square", "red", "small", 0.3, 0.5), Object("circle", "red", "small", 0.59, 0.5)), Ground("white"))
    assert [o.pair for o in read_scene(render(touching, 64))] == [("square", "red"), ("circle", "red")]


def test_small_images_are_refused() -> None:
    with pytest.raises(ShapeError, match="found 16 x 16"):
        read_scene(torch.zeros(3, 16, 16))


def test_accuracy_by_hand() -> None:
    """Truth: A left of B, C below both and in the middle. A and C are found, B has the wrong color: 2 of 3 attributes, 1 spurious.

    Relations that hold by 0.1: A-B left and right (2); A-C left, above and their inverses (4); B-C right, above and inverses (4):
    10. Of A and C the reading has all 4, of the others none: 4/10. With C read above A, above and below are wrong: 2/10.
    """
    a, b, c = (
        Object("star", "red", "small", 0.2, 0.3),
        Object("ring", "blue", "small", 0.8, 0.3),
        Object("cross", "pink", "small", 0.5, 0.8),
    )
    truth = Scene((a, b, c), Ground("white"))
    seen = [
        SeenObject("star", "red", 0.25, 0.3, "small"),
        SeenObject("ring", "green", 0.8, 0.3, "small"),
        SeenObject("cross", "pink", 0.5, 0.7, "large"),
    ]
    accuracy = scene_accuracy(seen, truth)
    assert (accuracy.attributes, accuracy.relations, accuracy.spurious) == pytest.approx((2 / 3, 4 / 10, 1))
    assert not accuracy.exact
    seen[2] = SeenObject("cross", "pink", 0.5, 0.2, "large")
    assert scene_accuracy(seen, truth).relations == pytest.approx(2 / 10)
    assert scene_accuracy([], Scene((), Ground("white"))).exact
