"""A range of a video as an MP4 of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relatum.core.errors import DataError
from relatum.video.decode import frames_at, read_timeline
from relatum.video.excerpt import excerpt
from support.clips import tick
from support.films import film


def value(picture: Any) -> int:
    """Which tick a frame (3 h w) shows."""
    red, _, blue = picture.float().mean((1, 2)).tolist()
    return 10 * round((red - 30) / 20) + round((blue - 30) / 20)


@pytest.mark.parametrize("turn", [None, 90])
def test_every_frame_of_the_range_and_no_other_under_its_time(tmp_path: Path, turn: float | None) -> None:
    """Frames 13-40 of 60 at uneven times, from between two keyframes, with B-frames, 51 x 33 pixels: one is added to odd edges."""
    frames = [tick(i, 51)[:33] for i in range(60)]
    times = [400 + 40 * i + i % 7 * 3 for i in range(60)]
    source = read_timeline(film(tmp_path / "a.mkv", frames, times, b_frames=2, pix_fmt="yuv444p", turn=turn))
    (tmp_path / "clip.mp4").write_bytes(excerpt(source, range(13, 41)))
    clip = read_timeline(tmp_path / "clip.mp4")
    assert clip.times == pytest.approx([(times[i] - times[13]) / 1000 for i in range(13, 41)], abs=2e-5)
    assert (clip.width, clip.height) == ((52, 34) if source.width == 51 else (34, 52))
    assert [value(picture) for _, picture in sorted(frames_at(clip, range(28)).items())] == list(range(13, 41))
    assert excerpt(source, range(13, 41)) == (tmp_path / "clip.mp4").read_bytes()
    (tmp_path / "few.mp4").write_bytes(excerpt(source, [20, 30, 55], size=16))
    few = read_timeline(tmp_path / "few.mp4")
    assert [value(picture) for _, picture in sorted(frames_at(few, range(3)).items())] == [20, 30, 55]
    assert min(few.width, few.height) == 16


def test_a_frame_that_does_not_decode_is_an_error(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", [tick(i) for i in range(40)], gop=40)
    source = read_timeline(path)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat")
    size = int.from_bytes(data[at - 4 : at], "big")
    data[at + size // 2 : at + 3 * size // 4] = bytes(3 * size // 4 - size // 2)
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match=r"a\.mp4 at .* s: the frame cannot be decoded"):
        excerpt(source, range(2, 40))
