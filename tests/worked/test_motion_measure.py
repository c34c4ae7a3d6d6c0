"""Motion of clips in short sides per second, against motion that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from relatum.core.errors import RecipeError
from relatum.curation.base import Video
from relatum.curation.passing import watch
from relatum.curation.stages.motion import Field, Motion
from relatum.video.timeline import read_timeline
from support.films import film
from support.passes import clip, facts, frames, shifted, texture, watched

H, W = 128, 200


def noise(seed: int, level: float, shape: tuple[int, int] = (H, W)) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, level, shape)


def test_speed_is_short_sides_per_second_over_the_true_time() -> None:
    """A pan of 16 pixels a second of 128 is .125 short sides per second. 2 pictures a second of irregular times: 0, .5, 1.25, 1.5;
    the shifts are 8, 12 and 4 pixels. All of it is the camera's.
    """
    base, times = texture(0, H, W), [0.0, 0.5, 1.25, 1.5]
    found = facts(Motion(), [shifted(base, 16 * t, 3 * t) for t in times], times)
    speed = float(np.hypot(16, 3)) / 128
    assert [found[name] for name in ("mean", "median", "camera")] == pytest.approx([speed] * 3, rel=0.05)
    assert found["object"] < 0.1 * speed
    assert found["still"] == pytest.approx(0, abs=0.01)


def test_size_and_rate_do_not_matter() -> None:
    """The same pan in a picture three times as large, and at 12 instead of 25 frames a second."""
    base = texture(1, H, W)
    large = cv2.resize(base, (3 * W, 3 * H), interpolation=cv2.INTER_CUBIC)
    at_12 = [k / 12 for k in range(25)]
    plain = facts(Motion(), [shifted(base, 0.4 * k) for k in range(51)])
    for found in (
        facts(Motion(), [shifted(large, 1.2 * k) for k in range(51)]),
        facts(Motion(), [shifted(base, 10 * t) for t in at_12], at_12),
    ):
        assert found["mean"] == pytest.approx(plain["mean"], rel=0.05)
    assert plain["mean"] == pytest.approx(10 / 128, rel=0.05)


def block(share: float, speed: float, second: float, back: np.ndarray) -> np.ndarray:
    """A textured block of `share` of the area around the middle, at `speed` pixels per second over `back`."""
    h, w = round(H * share**0.5), round(W * share**0.5)
    x, y = round((W - w) / 2 + speed * (second - 0.5)), (H - h) // 2
    made = back.copy()
    made[y : y + h, x : x + w] = texture(9, h, w, 50)
    return made


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_what_moves_in_front_is_the_object(share: float) -> None:
    """16 pixels a second over a still background: the mean is share x .125, and the camera stands, however much moves."""
    back = texture(2, H, W)
    found = facts(Motion(), [block(share, 16, t, back) for t in (0.0, 0.5, 1.0)], [0.0, 0.5, 1.0])
    assert found["camera"] < 0.003
    assert found["object"] == pytest.approx(share * 0.125, rel=0.4)
    assert found["mean"] == pytest.approx(found["object"], rel=0.05)
    assert found["still"] == pytest.approx(1 - share, abs=0.2)


def test_a_camera_that_follows_is_the_camera() -> None:
    """The block stands in the frame and the background passes at 16 pixels a second: camera .125, object .2 x .125."""
    back = texture(3, H, W)
    found = facts(Motion(), [block(0.2, 0, t, shifted(back, 16 * t)) for t in (0.0, 0.5, 1.0)], [0.0, 0.5, 1.0])
    assert found["camera"] == pytest.approx(0.125, rel=0.05)
    assert found["object"] == pytest.approx(0.2 * 0.125, rel=0.3)


def test_zoom_is_the_camera() -> None:
    """10 % in half a second: a pixel that is r from the middle moves by .2 r a second; what leaves the frame reads a bit less."""
    back = texture(4, H, W)
    zoomed = cv2.warpAffine(back, cv2.getRotationMatrix2D(((W - 1) / 2, (H - 1) / 2), 0, 1.1), (W, H), flags=cv2.INTER_CUBIC)
    y, x = np.mgrid[:H, :W]
    far = np.hypot(x - (W - 1) / 2, y - (H - 1) / 2).mean()
    found = facts(Motion(), [back, zoomed], [0.0, 0.5])
    assert found["camera"] == pytest.approx(far * 0.2 / 128, rel=0.1)
    assert found["object"] < 0.15 * found["camera"]


@pytest.mark.parametrize("level", [1.0, 4.0])
def test_noise_on_a_bare_wall_is_no_motion(level: float) -> None:
    """DIS alone makes .05 to .1 short sides per second of it."""
    wall = np.tile(np.linspace(40, 90, W), (H, 1))
    found = facts(Motion(), [wall + noise(k, level) for k in range(3)], [0.0, 0.5, 1.0])
    assert found["mean"] < 0.004
    pictures = [np.clip(np.round(wall + noise(k, level)), 0, 255).astype(np.uint8) for k in range(2)]
    dis: Any = Field().dis
    assert np.hypot(*np.moveaxis(dis.calc(*pictures, None), -1, 0)).mean() / 64 > 0.03


def test_light_that_changes_is_no_motion() -> None:
    back = texture(5, H, W)
    found = facts(Motion(), [back * light + noise(k, 1) for k, light in enumerate((1.0, 0.7, 1.1))], [0.0, 0.5, 1.0])
    assert found["mean"] < 0.003


def test_trembling_is_fast_between_adjacent_frames_alone() -> None:
    """2 pixels to and fro at 24 frames a second: every sample (12 frames apart) is at the same place; the next frame is 2 pixels
    off in 1 / 24 s: 2 x 24 / 128 = .375 short sides per second.
    """
    base, times = texture(6, H, W), [k / 24 for k in range(49)]
    found = facts(Motion(), [shifted(base, 2 * (k % 2)) for k in range(49)], times)
    assert found["mean"] < 0.002
    assert [found["adjacent_p50"], found["adjacent_p95"]] == pytest.approx([0.375, 0.375], rel=0.05)
    off = facts(Motion(adjacent=0), [shifted(base, 2 * (k % 2)) for k in range(25)], times)
    assert off["adjacent_p50"] is None


def test_a_lost_frame_makes_no_adjacent_pair() -> None:
    base = texture(6, H, W)
    shown = [frame for frame in frames([shifted(base, k) for k in range(14)]) if frame.index != 1]
    track = watched(Motion(), shown)
    assert track["adjacent"].sum() == 0
    assert track["sampled"].sum() == 1


def test_pairs_across_a_clip_s_ends_do_not_count() -> None:
    """A cut at 1 s between a still picture and another that pans: the pair from .5 to 1 s is in neither clip. In (.5, 1) there is
    no pair of samples.
    """
    still, moving = texture(7, H, W), texture(8, H, W)
    times = [k / 4 for k in range(9)]
    track = watched(Motion(), frames([still] * 4 + [shifted(moving, 4 * k) for k in range(5)], times))
    assert Motion().facts(track, clip(0, 1))["mean"] == pytest.approx(0, abs=1e-4)
    assert Motion().facts(track, clip(1, 2.25))["mean"] == pytest.approx(16 / 128, rel=0.05)
    assert Motion().facts(track, clip(0, 2.25))["mean"] > 0.06
    assert Motion().facts(track, clip(0.6, 0.99)) == dict.fromkeys(Motion.writes)


@pytest.mark.parametrize("size", [(8, 8), (16, 20), (9, 150), (17, 33), (160, 9)])
def test_tiny_frames_have_motion_too(size: tuple[int, int]) -> None:
    """A pixel in half a second."""
    base = texture(2, 160, 192)[: size[0], : size[1] + 1]
    found = facts(Motion(), [base[:, 1:], base[:, :-1]], [0.0, 0.5])
    assert 0.2 / min(size) < found["mean"] < 5 / min(size)


def test_tinier_frames_have_none() -> None:
    for size in ((1, 1), (7, 300), (300, 1)):
        assert facts(Motion(), [np.full(size, k * 90) for k in range(3)], [0.0, 0.5, 1.0]) == dict.fromkeys(Motion.writes)


@pytest.mark.parametrize("settings", [{"fps": 0}, {"fps": float("nan")}, {"adjacent": -1}, {"short": 32}])
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="motion: expected"):
        Motion(**settings)


@pytest.mark.parametrize("crf", ["18", "40"])
def test_the_default_floor_lies_between_a_noisy_static_clip_and_a_slow_pan(tmp_path: Path, crf: str) -> None:
    """H.264 at a high and at a very low rate: static .005 > mean, a pan of .02 short sides per second reads above .01."""
    base = texture(9, 180, 320)
    base[:90] = np.linspace(120, 160, 320)  # a sky without texture
    found = []
    for speed in (0.0, 0.02):
        pictures = [shifted(base, speed * 180 * k / 25) + noise(k, 4, (180, 320)) for k in range(51)]
        colors = [np.repeat(np.clip(p, 0, 255).astype(np.uint8)[..., None], 3, 2) for p in pictures]
        path = film(tmp_path / f"{speed}.mp4", colors, options={"crf": crf, "preset": "veryfast"}, gop=100, b_frames=2)
        track = watch(Video("0" * 64, read_timeline(path)), {"motion": Motion()}).tracks["motion"]
        found.append(Motion().facts(track, clip())["mean"])
    assert found[0] < 0.002
    assert 0.007 < found[1] < 0.025


def test_true_flow_of_real_pairs(shared_data: Path) -> None:
    """FlyingChairs: the order of five pairs by their true mean speed, and the mean over all."""
    true, read = [], []
    for path in sorted((shared_data / "flow_gt" / "dev").glob("*.npz")):
        with np.load(path) as pair:
            flow = pair["flow"].astype(np.float64)
            flow = np.moveaxis(flow, 0, -1) if flow.shape[0] == 2 else flow
            images = [cv2.cvtColor(pair[name], cv2.COLOR_RGB2GRAY) for name in ("img0", "img1")]
        true.append(np.hypot(flow[..., 0], flow[..., 1]).mean() / min(flow.shape[:2]))
        read.append(facts(Motion(), images, [0.0, 1.0])["mean"])
    if not true:
        pytest.skip("no flow_gt/dev")
    rank = [np.argsort(np.argsort(x)) for x in (true, read)]
    assert np.corrcoef(*rank)[0, 1] >= 0.8
    assert np.mean(read) == pytest.approx(np.mean(true), rel=0.2)
