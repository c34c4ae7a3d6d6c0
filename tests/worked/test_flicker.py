"""Flicker along the flow: numbers worked by hand, noise that is carried along, what motion alone must not raise, and bad input."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from relatum.core.errors import DataError, ShapeError
from relatum.metrics import Samples, motion_flicker
from relatum.metrics.flicker import Flicker
from relatum.video.flow import backward_of, consistent, dis_flow, dis_flows, spline_power, warp


def levels(*values: float, size: int = 48) -> Tensor:
    """A gray video whose frames each have one 8-bit level."""
    return (torch.tensor(values) / 127.5 - 1).reshape(-1, 1, 1, 1).expand(-1, 1, size, size).clone()


TEXTURE = gaussian_filter(np.random.default_rng(0).normal(size=(3, 140, 140)), (0, 2, 2))
TEXTURE = 128 + 35 * TEXTURE / TEXTURE.std()


def sliding(
    speed: float, frames: int = 8, size: int = 64, noise: float = 0.0, channels: slice = slice(None)
) -> tuple[Tensor, Tensor]:
    """A texture that slides right by `speed` px a frame, with white noise of so many levels on every frame; and its true flow."""
    texture = torch.from_numpy(TEXTURE[channels]).float()
    picture = texture[None].expand(frames, -1, -1, -1).contiguous()
    shift = torch.zeros(frames, 2, *texture.shape[1:])
    shift[:, 0] = -speed * torch.arange(frames)[:, None, None]
    video = warp(picture, shift)[:, :, 30 : 30 + size, 50 : 50 + size]
    video = video + noise * torch.randn(video.shape, generator=torch.Generator().manual_seed(1))
    flow = torch.zeros(frames - 1, 2, size, size)
    flow[:, 0] = speed
    return video / 127.5 - 1, flow


def test_alternation_by_one_level() -> None:
    """[127, 129, 127]: I - (A + B)/2 = 129 - 127 = 2; sqrt(2/3 * 2²) = 1.63299. Steps +2 and -2: ρ = -4 / (2 * 2) = -1."""
    reading = motion_flicker(levels(127, 129, 127))
    assert reading.f == pytest.approx(math.sqrt(8 / 3), abs=1e-5)
    assert reading.rho == pytest.approx(-1, abs=1e-5)
    assert reading.frames == pytest.approx((math.nan, math.sqrt(8 / 3), math.nan), nan_ok=True, abs=1e-5)
    assert reading.coverage == 1
    assert reading.floor == 0
    # Its contrast is 0, which counts as 1: F / 1.
    assert reading.unsteadiness == pytest.approx(math.sqrt(8 / 3), abs=1e-5)


def test_uneven_levels() -> None:
    """[10, 13, 11, 12]: residuals 13 - 10.5 = 2.5 and 11 - 12.5 = -1.5; sqrt(2/3 * (6.25 + 2.25)/2) = 1.68325.
    Steps 3, -2 and -2, 1: ρ = (-6 - 2) / sqrt((9 + 4)(4 + 1)) = -0.99228."""
    reading = motion_flicker(levels(10, 13, 11, 12))
    assert reading.f == pytest.approx(1.68325, abs=1e-4)
    assert reading.rho == pytest.approx(-8 / math.sqrt(65), abs=1e-4)
    assert reading.frames[1:3] == pytest.approx((2.5 * math.sqrt(2 / 3), 1.5 * math.sqrt(2 / 3)), abs=1e-4)


def test_a_fade_is_no_flicker() -> None:
    """100, 102, 104, ...: every frame is the mean of its neighbors, and both steps are +2."""
    reading = motion_flicker(levels(*range(100, 116, 2)))
    assert reading.f == pytest.approx(0, abs=1e-4)
    assert reading.rho == pytest.approx(1, abs=1e-4)


def test_nothing_changes() -> None:
    reading = motion_flicker(levels(90, 90, 90))
    assert reading.f == pytest.approx(0, abs=1e-4)
    assert math.isnan(reading.rho)
    assert "undefined" in reading.note


def test_flicker_in_color_alone() -> None:
    """R + 4, B - 4 * 0.299/0.114 in every second frame leave Y alone. Residuals (±4, 0, ∓10.491): F² = 2/3 (16 + 110.07)/3."""
    video = levels(100, 100, 100, 100, 100).repeat(1, 3, 1, 1)
    video[1::2, 0] += 4 / 127.5
    video[1::2, 2] -= 4 * 0.299 / 0.114 / 127.5
    reading = motion_flicker(video)
    expected = math.sqrt(2 / 3 * (16 + (4 * 0.299 / 0.114) ** 2) / 3)
    assert reading.f == pytest.approx(expected, rel=1e-4)
    assert reading.f_chroma == pytest.approx(expected, rel=1e-4)
    assert reading.f_luma == pytest.approx(0, abs=1e-3)


def test_luma_of_gray_flicker_is_all_of_it() -> None:
    reading = motion_flicker(levels(127, 129, 127, 129).repeat(1, 3, 1, 1))
    assert (reading.f_luma, reading.f_chroma) == pytest.approx((reading.f, 0), abs=1e-5)


@pytest.mark.parametrize("known", [False, True], ids=["dis", "true"])
def test_white_noise_reads_its_sigma_at_any_speed(known: bool) -> None:
    """F of σ = 6 within 3 % for 0 to 4 px a frame in half-pixel steps, and flat; ρ -1/2; motion as made."""
    found = []
    for speed in np.arange(0, 4.5, 0.5):
        video, flow = sliding(float(speed), noise=6)
        reading = motion_flicker(video, flow if known else None)
        found.append(reading.f)
        assert reading.motion == pytest.approx(speed, abs=0.1)
        assert reading.rho == pytest.approx(-0.5, abs=0.1)
        assert reading.excess == pytest.approx(6, rel=0.03)
    assert found == pytest.approx([6.0] * len(found), rel=0.03)


@pytest.mark.parametrize(("sigma", "size"), [(2, 32), (5, 64)])
def test_noise_on_a_flat_ground_hides_no_motion(sigma: float, size: int) -> None:
    """Optical flow finds motion in grain, a few px a frame and nowhere consistent; there it is taken to be at rest."""
    noise = torch.randn(10, 3, size, size, generator=torch.Generator().manual_seed(2)) * sigma
    reading = motion_flicker((noise / 127.5).numpy())
    assert reading.f == pytest.approx(sigma, rel=0.03)
    assert reading.coverage > 0.95


@pytest.mark.parametrize("speed", [0.5, 1.0, 2.5, 4.0])
def test_motion_alone_is_no_flicker(speed: float) -> None:
    """Of a contrast of 35 levels, less than half a level is left, and the twin shows that it is error of the flow."""
    reading = motion_flicker(sliding(speed)[0])
    assert reading.f < 0.5
    assert reading.f < 2 * reading.floor
    assert reading.unsteadiness < 0.015
    assert motion_flicker(*sliding(speed)).f < 0.05


def test_unrelated_frames_are_wholly_unsteady() -> None:
    """Every frame another picture: few pixels can be followed, F says nothing, and the headline is near 1."""
    pictures = gaussian_filter(np.random.default_rng(3).normal(size=(8, 3, 64, 64)), (0, 0, 2, 2))
    reading = motion_flicker(pictures / np.abs(pictures).max())
    assert reading.coverage < 0.3
    assert math.isnan(reading.f)
    assert "needs 30%" in reading.note
    assert 0.75 < reading.unsteadiness < 1.25


def test_a_cut_is_not_much_flicker() -> None:
    """Something else appears and stays: lost pixels do not reverse. The same two pictures in turns do."""
    once = torch.cat([sliding(0, 4)[0], sliding(0, 4)[0].flip(-1)])
    turns = torch.stack([once[0], once[-1]] * 4)
    assert motion_flicker(once).unsteadiness < 0.5 * motion_flicker(turns).unsteadiness


def test_spectrum_along_trajectories() -> None:
    """Alternation has all power at 1/2 cycle a frame (the Hann window spreads it to the next bin); a slow sway at 1/16 none."""
    fast = motion_flicker(levels(*[100, 104] * 8), along=True)
    slow = motion_flicker(levels(*(100 + 4 * np.sin(2 * np.pi * np.arange(16) / 16))), along=True)
    assert fast.top_quarter > 0.95
    assert fast.centroid > 0.45
    assert slow.top_quarter < 0.01
    assert slow.centroid < 0.15


def test_true_flow_backward_is_found_from_forward() -> None:
    """Constant flow (1.5, -0.5) leads back by (-1.5, 0.5), and both agree wherever they stay in view."""
    flow = torch.tensor([1.5, -0.5]).reshape(1, 2, 1, 1).expand(4, 2, 20, 24).contiguous()
    back = backward_of(flow)
    assert torch.allclose(back, -flow)
    good, seen = consistent(flow, back)
    assert torch.equal(good, seen)
    assert int(good[0].sum()) == (24 - 2) * (20 - 1)  # x + 1.5 <= 23 leaves 22 columns, y - 0.5 >= 0 leaves 19 rows


def test_hidden_ground_is_not_followed() -> None:
    """A square moves right by 3 over a ground at rest: the 3 columns that it uncovers have no past."""
    flow = torch.zeros(3, 2, 30, 40)
    for k in range(3):
        flow[k, 0, 10:20, 8 + 3 * k : 18 + 3 * k] = 3
    back = backward_of(flow)
    good, _ = consistent(back, flow)
    assert not bool(good[0, 10:20, 8:11].any())
    assert bool(good[0, 10:20, 11:21].all())
    assert torch.allclose(back[0, 0, 10:20, 11:21], torch.tensor(-3.0))


def test_flow_of_small_frames() -> None:
    video, flow = sliding(1.0, frames=2, size=32)
    inner = dis_flow(video[0], video[1])[:, 6:-6, 6:-6]
    assert (inner - flow[0, :, 6:-6, 6:-6]).abs().mean() < 0.1
    assert torch.equal(dis_flow(video[0], video[1]), dis_flows(video)[0][0])


def test_splines_keep_what_lies_between_pixels() -> None:
    """A wave of 9 px read 0.3 px further is the wave; and white noise keeps the tabled share of its variance."""
    x = torch.arange(64.0).expand(64, 64)
    flow = torch.zeros(1, 2, 64, 64)
    flow[:, 0] = 0.3
    seen = warp(torch.sin(0.7 * x)[None, None], flow)[0, 0]
    assert (seen - torch.sin(0.7 * (x + 0.3)))[:, 8:-8].abs().max() < 2e-3
    noise = torch.randn(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    flow = torch.full((1, 2, 200, 200), 0.5)
    assert warp(noise, flow)[..., 9:-9, 9:-9].var().item() == pytest.approx(spline_power(flow)[0, 0, 0].item(), rel=0.03)
    assert spline_power(torch.full((1, 2, 1, 1), 3.0)).item() == pytest.approx(1)


def test_long_videos_in_pieces() -> None:
    """The same frames give the same number however they are cut into pieces: 40 alternations still read 1.633."""
    reading = motion_flicker(levels(*[127, 129] * 20))
    assert reading.f == pytest.approx(math.sqrt(8 / 3), abs=1e-4)
    assert len(reading.frames) == 40
    assert not any(math.isnan(f) for f in reading.frames[1:-1])


def test_metric_takes_the_true_flow_and_keeps_a_series() -> None:
    video, flow = sliding(1.5, frames=5, size=48, noise=4)
    samples = Samples(["a"], videos={"generated": video.movedim(1, 0)[None]}, flows={"target": flow.movedim(1, 0)[None]})
    made = Flicker(flow="true")
    assert made.needs == {"videos:generated", "flows:target"}
    made.update(samples)
    reading = motion_flicker(video, flow)
    assert made.scores["a"] == pytest.approx(reading.unsteadiness)
    assert made.also["f"]["a"] == pytest.approx(reading.f)
    assert made.series["f"]["a"] == pytest.approx(list(reading.frames), nan_ok=True)
    assert {"rho", "motion", "coverage", "contrast", "excess", "floor"} <= made.also.keys()


@pytest.mark.parametrize(
    ("video", "error", "words"),
    [
        (torch.zeros(2, 3, 32, 32), ShapeError, "frames >= 3"),
        (torch.zeros(5, 2, 32, 32), ShapeError, "channels 1 or 3"),
        (torch.zeros(1, 5, 3, 32, 32), ShapeError, "one video"),
        (torch.full((3, 3, 32, 32), math.nan), DataError, "NaN"),
        (torch.full((3, 3, 32, 32), 128.0), DataError, r"x / 127\.5 - 1"),
        (torch.zeros(3, 3, 32, 32, dtype=torch.uint8), DataError, "uint8"),
    ],
)
def test_bad_videos(video: Tensor, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        motion_flicker(video)


def test_bad_flows() -> None:
    video = levels(1, 2, 3)
    with pytest.raises(ShapeError, match=r"expected \(2, 2, 48, 48\)"):
        motion_flicker(video, torch.zeros(3, 2, 48, 48))
    with pytest.raises(DataError, match="NaN"):
        motion_flicker(video, torch.full((2, 2, 48, 48), math.nan))
    with pytest.raises(DataError, match="give both"):
        motion_flicker(video, backward=torch.zeros(2, 2, 48, 48))


def test_without_the_twin_all_else_stays() -> None:
    video = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(4)) * 2 - 1
    full, half = motion_flicker(video), motion_flicker(video, twin=False)
    assert math.isnan(half.floor)
    assert math.isnan(half.excess)
    assert (half.f, half.rho, half.fastest, half.unsteadiness) == (full.f, full.rho, full.fastest, full.unsteadiness)
    assert full.floor > 0
