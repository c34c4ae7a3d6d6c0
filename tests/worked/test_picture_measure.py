"""Exposure, sharpness and black bars of pictures that are made for it."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from relatum.core.errors import RecipeError
from relatum.curation.stages.picture import Picture, margins, sharpness
from support.passes import clip, facts, frames, texture, watched

H, W = 144, 256


def crop(*pictures: np.ndarray) -> list[float]:
    found = facts(Picture(), pictures, [float(k) for k in range(len(pictures))])["crop"]
    assert isinstance(found, list)
    return [float(x) for x in found]


def boxed(picture: np.ndarray, top: int = 0, bottom: int = 0, left: int = 0, right: int = 0, black: float = 0.0) -> np.ndarray:
    made = picture.copy()
    h, w = made.shape
    made[:top] = made[h - bottom :] = black
    made[:, :left] = made[:, w - right :] = black
    return made + np.random.default_rng(0).normal(0, 1.5, made.shape)


def test_exposure_by_hand() -> None:
    """A quarter each of 0, 15, 100 and 250: the mean is 365 / 4 / 255 = .358; half is dark, a quarter bright. Two frames: means."""
    quarters = np.repeat(np.array([[0, 15, 100, 250]]), 16, 0).repeat(8, 1)
    found = facts(Picture(), [quarters])
    assert [found[name] for name in ("luma", "dark", "bright")] == pytest.approx([365 / 4 / 255, 0.5, 0.25])
    both = facts(Picture(), [quarters, np.full((16, 32), 239)], [0.0, 1.0])
    assert [both[name] for name in ("luma", "dark", "bright")] == pytest.approx([(365 / 4 + 239) / 2 / 255, 0.25, 0.125])


def test_sharpness_of_a_step_by_hand() -> None:
    """A step of 90 levels has one difference, 90, along a row; after a box of 9 it is 9 of 10 each, so 80 is left at the step:
    (80 / 90)² = .79. A ramp of 10 levels a pixel is the same after the box, but for its ends. Nothing to see has no sharpness.
    """
    step = np.zeros((40, 40), np.uint8)
    step[:, 20:] = 90
    assert sharpness(step) == pytest.approx((80 / 90) ** 2)
    ramp = np.tile(np.clip(np.arange(40) * 10 - 100, 0, 200).astype(np.uint8), (40, 1))
    assert sharpness(ramp) < 0.15
    assert np.isnan(sharpness(np.full((40, 40), 7, np.uint8)))
    assert np.isnan(sharpness(np.zeros((1, 1), np.uint8)))


def test_sharpness_falls_with_blur_and_not_with_contrast_or_size() -> None:
    """Also blur in one direction alone, as a shaken camera makes it."""
    base = texture(0, 512, 640, power=1.0)
    values = [facts(Picture(), [cv2.GaussianBlur(base, (0, 0), s)])["sharpness"] for s in (0.1, 2, 4, 8)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 2 * values[-1]
    shaken = facts(Picture(), [cv2.blur(base, (25, 1))])["sharpness"]
    assert shaken < 0.6 * values[0]
    assert facts(Picture(), [128 + (base - 128) * 0.4])["sharpness"] == pytest.approx(values[0], abs=0.05)
    half = cv2.resize(base, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    assert facts(Picture(), [half])["sharpness"] == pytest.approx(values[0], abs=0.05)


def test_letterbox_and_pillarbox() -> None:
    """18 of 144 rows above and 20 below; 32 of 256 columns on either side: 1 - (106 / 144) (192 / 256) of the area."""
    base = texture(1, H, W)
    assert crop(boxed(base, top=18, bottom=20)) == pytest.approx([18 / H, 20 / H, 0, 0])
    found = facts(Picture(), [boxed(base, 18, 20, 32, 32), boxed(texture(2, H, W), 18, 20, 32, 32)], [0.0, 1.0])
    assert found["crop"] == pytest.approx([18 / H, 20 / H, 32 / W, 32 / W])
    assert found["bars"] == pytest.approx(1 - (106 / 144) * (192 / 256))
    assert facts(Picture(), [base])["bars"] == 0
    upright = boxed(base, left=85, right=86)
    assert crop(upright) == pytest.approx([0, 0, 85 / W, 86 / W]), "an upright video in a wide frame"


def test_bars_are_black_in_all_frames_and_lit_in_some() -> None:
    """One frame with a picture at the top ends the bar there; a fade from black makes it no wider, a dark moment hides none."""
    base = texture(1, H, W)
    film = [boxed(base * light, 18, 18) for light in (0.0, 0.15, 0.3, 1.0, 0.1)]
    assert crop(*film) == pytest.approx([18 / H, 18 / H, 0, 0])
    assert crop(*film, boxed(base, 0, 18)) == pytest.approx([0, 18 / H, 0, 0])


def test_subtitles_in_a_bar_leave_the_other() -> None:
    base = boxed(texture(1, H, W), 18, 18)
    base[132:138, 100:150:3] = 230
    assert crop(base) == pytest.approx([18 / H, 0, 0, 0])


@pytest.mark.parametrize("kind", ["night sky", "lamp", "vignette", "planet", "dusk", "black half"])
def test_dark_scenes_are_no_letterbox(kind: str) -> None:
    base, (y, x) = texture(3, H, W), np.mgrid[:H, :W] / [[[H]], [[W]]]
    scene = {
        "night sky": np.where(y > 0.6 + 0.15 * np.sin(17 * x) * np.cos(5 * x), base, 4),  # above roofs
        "lamp": np.where((abs(x - 0.6) < 0.02) & (y > 0.3), 220, 8),
        "vignette": base * np.clip(1.1 - 2.2 * np.hypot(x - 0.5, y - 0.5), 0, 1),
        "planet": np.where(np.hypot(1.8 * (x - 0.5), y - 0.5) < 0.35, base, 0),
        "dusk": 120 * np.clip(y - 0.2, 0, 1),  # a sky that goes from black to gray, the same along every row
        "black half": np.where(y > 0.5, base, 0),  # a straight edge; half a frame on one side is no bar
    }[kind]
    assert crop(scene + np.random.default_rng(0).normal(0, 1.5, (H, W))) == [0, 0, 0, 0]


def test_black_clips_have_no_bars_and_no_sharpness() -> None:
    found = facts(Picture(), [np.zeros((H, W))] * 3, [0.0, 1.0, 2.0])
    assert found == {"luma": 0.0, "dark": 1.0, "bright": 0.0, "sharpness": None, "bars": 0.0, "crop": [0.0] * 4}
    assert margins(np.zeros((1, 1), np.uint8)) == (None, [0.0] * 4)


def test_a_clip_without_samples_tells_nothing() -> None:
    track = watched(Picture(), frames([texture(0, H, W)] * 30))
    assert Picture().facts(track, clip(0.5, 0.9)) == dict.fromkeys(Picture.writes)


def test_settings_that_cannot_work() -> None:
    with pytest.raises(RecipeError, match="fps > 0"):
        Picture(fps=0)
