"""Frames as measures see them: ranges, matrices, turns and formats, against numbers by hand and against swscale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from relatum.video.decode import Reader, read_timeline
from relatum.video.frame import Frame
from relatum.video.turn import Turn
from support.films import bars, film


def picture(format: str, pixels: np.ndarray | None = None, width: int = 62, height: int = 50) -> Any:
    """A PyAV frame of smooth colors."""
    if pixels is None:
        y, x = np.mgrid[:height, :width] / 50
        pixels = np.stack([40 + 120 * x, 200 - 100 * y, 128 + 90 * np.sin(2 * x + y)], -1).clip(0, 255).astype(np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=format)


def flat(y: int, u: int, v: int, range: int, space: int) -> Frame:
    """16 x 12 pixels of one color as stored."""
    made = av.VideoFrame(16, 12, "yuv420p")
    for plane, value in zip(made.planes, (y, u, v), strict=True):
        plane.update(bytes([value]) * (plane.line_size * plane.height))
    made.color_range, made.colorspace = range, space
    return Frame(0, 0.0, made, Turn())


def test_ranges_and_matrices_by_hand() -> None:
    """In video range 16 is black, 235 white, 10 below black; 126 is (126 - 16) 255 / 219 = 128.1. In full range 126 is 126.

    y 63, v 240 in video range. BT.709 (1): red = 255 (63 - 16) / 219 + 2 (1 - .2126) 255 / 224 (240 - 128) = 54.7 + 200.8 = 255.5;
    green = 54.7 - .2126 / .7152 x 200.8 = -5; blue 54.7. BT.601 (5): red = 54.7 + 1.402 x 127.5 = 233.5, green negative too. In
    full range red = 63 + 1.402 x 112 = 220.
    """
    assert [flat(y, 128, 128, 1, 1).luma(12)[3, 5] for y in (10, 16, 126, 235, 250)] == [0, 0, 128, 255, 255]
    assert flat(126, 128, 128, 2, 1).luma(12)[0, 0] == 126
    assert flat(63, 128, 240, 1, 1).bgr(12)[3, 5].tolist() == pytest.approx([55, 0, 255], abs=1)
    assert flat(63, 128, 240, 1, 5).bgr(12)[3, 5].tolist() == pytest.approx([55, 0, 233], abs=1)
    assert flat(63, 128, 240, 2, 5).bgr(12)[3, 5].tolist() == pytest.approx([63, 0, 220], abs=1)


FORMATS = """yuv420p yuvj420p yuv422p yuv444p yuv411p yuva420p yuv420p10le yuv422p12le yuv420p10be nv12 yuyv422
    rgb24 bgra gbrp gbrp10le rgb48le rgb8 gray gray10le"""


@pytest.mark.parametrize("format", FORMATS.split())
@pytest.mark.parametrize("short", [25, 50, 99])
def test_formats_are_those_of_swscale(format: str, short: int) -> None:
    made = picture(format)
    frame = Frame(3, 0.5, made, Turn())
    width = 31 if short == 25 else 62
    height = min(short, 50)
    wanted = made.to_ndarray(format="bgr24", width=width, height=height, interpolation="AREA").astype(int)
    assert frame.bgr(short).shape == wanted.shape
    assert np.abs(frame.bgr(short) - wanted)[2:-2, 2:-2].mean() < 2.5
    weights = np.array([0.114, 0.587, 0.299])
    assert frame.luma(short).shape == (height, width)
    assert np.abs(frame.luma(short) - wanted @ weights)[2:-2, 2:-2].mean() < 2.5


def test_areas_are_averaged_once_for_all() -> None:
    """Columns of 0 and 200 become 100 at half and quarter size; the same array for whoever asks, which nobody can write to."""
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:, ::2] = 200
    frame = Frame(0, 0.0, picture("yuvj420p", pixels), Turn())
    assert frame.luma(12)[4, 5] == pytest.approx(100, abs=1)
    assert frame.luma(24)[4, 5] == pytest.approx(100, abs=1)
    assert frame.luma(24) is frame.luma(24)
    with pytest.raises(ValueError, match="read-only"):
        frame.luma(24)[0, 0] = 3


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 40), (3, 2), (2, 97), (33, 35)])
def test_odd_sizes(width: int, height: int) -> None:
    frame = Frame(0, 0.0, picture("yuv420p", np.full((height, width, 3), 90, np.uint8)), Turn())
    for short in (1, 2, 20, 500):
        least = min(short, width, height)
        assert min(frame.luma(short).shape) == least
        assert frame.bgr(short).shape[:2] == frame.luma(short).shape
        assert np.abs(frame.bgr(short).astype(int) - 90).max() <= 2


@pytest.mark.parametrize("angle", [0, 90, 180, 270])
def test_frames_are_upright(tmp_path: Path, angle: int) -> None:
    """The same as the reader's own RGB, which has the red corner where it belongs."""
    timeline = read_timeline(film(tmp_path / "a.mp4", [bars(i) for i in range(3)], turn=angle))
    with Reader(timeline) as reader:
        for index, decoded in reader.frames():
            frame = reader.frame(index, decoded)
            assert (frame.width, frame.height, frame.seconds) == (timeline.width, timeline.height, timeline.times[index])
            wanted = reader.rgb(decoded, 24)[..., ::-1].astype(int)
            assert frame.bgr(24).shape == wanted.shape
            assert np.abs(frame.bgr(24) - wanted).mean() < 4


def test_a_frame_of_another_size_is_scaled_to_the_videos() -> None:
    frame = Frame(0, 0.0, picture("yuv420p", width=124, height=100), Turn(transpose=True), (50, 62))
    assert (frame.width, frame.height) == (50, 62)
    assert frame.luma(25).shape == frame.bgr(25).shape[:2] == (31, 25)
