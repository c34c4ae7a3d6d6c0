"""Hashes that survive what files go through, and tell scenes apart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from relatum.core.errors import RecipeError
from relatum.curation.base import Video
from relatum.curation.passing import watch
from relatum.curation.stages.hash import Hash, dhash
from relatum.video.timeline import read_timeline
from support.films import film
from support.passes import clip, facts, frames, texture, watched

SCENES = [texture(seed, 180, 320) for seed in range(12)]


def bits(picture: np.ndarray) -> int:
    found = facts(Hash(), [picture])["dhash"]
    assert isinstance(found, list)
    return int(str(found[0]), 16)


def apart(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def test_bits_by_hand() -> None:
    """9 x 8 pixels are what is compared. Row 0 rises by 10 a pixel: 8 ones, ff. Row 1 falls: 00. Row 2 rises at its first and last
    step: 10000001, 81. Row 3 rises by one level, which is none: 00. The others are plain. Steps: 8 + 8 + 2.
    """
    picture = np.full((8, 9), 100, np.uint8)
    picture[0], picture[1] = np.arange(9) * 10, 90 - np.arange(9) * 10
    picture[2] = [50] + [70] * 7 + [90]
    picture[3] = 100 + np.arange(9)
    assert dhash(picture) == (0xFF00810000000000, 18)
    assert facts(Hash(), [picture])["dhash"] == ["ff00810000000000"] * 3
    assert facts(Hash(least=19), [picture])["dhash"] == ["0" * 16] * 3


def test_first_middle_and_last_of_the_clip() -> None:
    """Four samples a second, a scene each: in [.5, 1.75) they are those at .5, 1 (nearest to 1.125; 1.25 is as near) and 1.5."""
    times = [k / 8 for k in range(24)]
    track = watched(Hash(), frames([SCENES[k // 2] for k in range(24)], times))
    assert track["time"].tolist() == [k / 4 for k in range(12)]
    found = Hash().facts(track, clip(0.5, 1.75))["dhash"]
    assert found == [f"{bits(SCENES[k]):016x}" for k in (2, 4, 6)]
    assert Hash().facts(track, clip(0.51, 0.6))["dhash"] is None


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "half the size": lambda p: cv2.resize(p, (160, 90), interpolation=cv2.INTER_AREA),
    "twice the size": lambda p: cv2.resize(p, (640, 360), interpolation=cv2.INTER_CUBIC),
    "an odd size": lambda p: cv2.resize(p, (213, 121), interpolation=cv2.INTER_AREA),
    "darker": lambda p: p * 0.9,
    "brighter": lambda p: p + 12,
    "gamma": lambda p: 255 * (p.clip(0, 255) / 255) ** 0.85,
    "sensor noise": lambda p: p + np.random.default_rng(0).normal(0, 8, p.shape),
    "cropped by 2 %": lambda p: p[2:-2, 3:-3],
}


@pytest.mark.parametrize("change", CHANGES)
def test_what_files_go_through(change: str) -> None:
    distances = [apart(bits(scene), bits(CHANGES[change](scene))) for scene in SCENES]
    assert max(distances) <= 6


def test_encoding_again(tmp_path: Path) -> None:
    colors = [np.repeat(np.clip(scene, 0, 255).astype(np.uint8)[..., None], 3, 2) for scene in SCENES]
    path = film(tmp_path / "film.mp4", colors, [250 * k for k in range(12)], options={"crf": "38"}, gop=1)
    track = watch(Video("0" * 64, read_timeline(path)), {"hash": Hash()}).tracks["hash"]
    assert max(apart(int(a), bits(b)) for a, b in zip(track["dhash"], SCENES, strict=True)) <= 6


def test_other_scenes_are_far() -> None:
    distances = [apart(bits(a), bits(b)) for i, a in enumerate(SCENES) for b in SCENES[:i]]
    assert min(distances) >= 13
    assert np.mean(distances) == pytest.approx(32, abs=3)


def test_plain_pictures_have_no_hash() -> None:
    """Black, a noisy wall, and a line of text on black: two of these are no twins for being plain."""
    title = np.zeros((180, 320), np.uint8)
    cv2.putText(title, "the end", (120, 100), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255.0, 2)
    wall = 90 + np.random.default_rng(0).normal(0, 8, (180, 320))
    for plain in (np.zeros((180, 320)), wall, title, np.full((1, 1), 255)):
        assert bits(plain) == 0


@pytest.mark.parametrize("settings", [{"fps": -1}, {"least": 65}])
def test_settings_that_cannot_work(settings: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match="hash: expected"):
        Hash(**settings)
