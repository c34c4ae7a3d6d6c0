"""Time stamps, seeking and frames of video files, whole and broken: numbers by hand, pixels against what was drawn."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from relatum.core.errors import DataError, ShapeError
from relatum.imaging import fit, to_uint8
from relatum.video.decode import Limits, Reader, Timeline, frames_at, iterate, read_timeline
from relatum.video.timeline import _Stamps
from relatum.video.turn import Turn
from support.films import bars, cut_short, film, sound

FRAMES = [bars(i) for i in range(60)]


def off(pixels: np.ndarray, index: int) -> float:
    """Mean distance in levels from the frame as it was drawn; neighbors are 7 levels apart."""
    return float(np.abs(pixels.astype(int) - bars(index, *pixels.shape[:2])).mean())


def channels_last(image: torch.Tensor) -> np.ndarray:
    return image.permute(1, 2, 0).numpy()


def test_variable_rate_has_the_times_of_its_constant_twin(tmp_path: Path) -> None:
    """Frames 0 1 3 4 10 11 of 25 a second: .44 s from first to last, so 5 gaps / .44 s = 11.3636 frames/s; median gap 40 ms."""
    shown = [0, 1, 3, 4, 10, 11]
    constant = read_timeline(film(tmp_path / "c.mp4", FRAMES[:12]))
    variable = read_timeline(film(tmp_path / "v.mp4", [FRAMES[i] for i in shown], [40 * i for i in shown]))
    assert variable.times == tuple(constant.times[i] for i in shown) == (0.0, 0.04, 0.12, 0.16, 0.4, 0.44)
    assert (variable.variable, constant.variable) == (True, False)
    assert variable.rate == pytest.approx(5 / 0.44)
    assert (variable.duration, constant.duration) == pytest.approx((0.48, 0.48))
    for at, (index, seconds, pixels) in enumerate(iterate(variable)):
        assert (index, seconds) == (at, 0.04 * shown[at])
        assert off(pixels, shown[at]) < 3


def test_the_rounding_of_a_files_clock_is_no_variable_rate(tmp_path: Path) -> None:
    """30 frames/s in whole milliseconds: gaps of 33 and 34. Stamps that begin at 1 s are counted from there."""
    timeline = read_timeline(film(tmp_path / "a.mkv", FRAMES[:7], [1000 + round(1000 * i / 30) for i in range(7)]))
    assert timeline.times == (0.0, 0.033, 0.067, 0.1, 0.133, 0.167, 0.2)
    assert timeline.stamps[0] == 1000
    assert not timeline.variable
    assert timeline.notes == ()


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.avi"])
@pytest.mark.parametrize(
    ("gop", "b_frames", "settings"), [(1, 0, ""), (2, 2, ""), (3, 2, "open-gop=1"), (12, 3, "open-gop=1"), (250, 3, "")]
)
def test_any_frames_are_those_of_a_sequential_pass(tmp_path: Path, name: str, gop: int, b_frames: int, settings: str) -> None:
    options = {"x264-params": settings} if settings else {}
    timeline = read_timeline(film(tmp_path / name, FRAMES, gop=gop, b_frames=b_frames, options=options))
    assert timeline.times == pytest.approx([0.04 * i for i in range(60)])
    assert timeline.duration == pytest.approx(2.4)
    passed = {index: pixels for index, _, pixels in iterate(timeline)}
    assert list(passed) == list(range(60))
    assert max(off(pixels, index) for index, pixels in passed.items()) < 3
    generator = np.random.default_rng(gop)
    for wanted in ([59, 58, 3, 3], generator.permutation(60)[:8].tolist()):
        got = frames_at(timeline, wanted)
        assert sorted(got) == sorted(set(wanted))
        assert all(np.array_equal(channels_last(got[index]), passed[index]) for index in got)


def test_seeks_only_past_a_keyframe_that_spares_decoding(tmp_path: Path) -> None:
    timeline = read_timeline(film(tmp_path / "a.mp4", FRAMES, gop=12))
    assert timeline.keyframes == (0, 12, 24, 36, 48)
    with Reader(timeline) as reader:
        for index, sought in ((5, False), (11, False), (13, False), (30, True)):  # from 11 to key 12 is no jump, 13 to 24 is
            assert reader.at(index) is not None
            assert reader.sought is sought
    assert [timeline.keyframe_before(i) for i in (0, 11, 12, 59)] == [0, 0, 12, 48]


def test_an_edit_list_cuts_the_beginning_off(tmp_path: Path) -> None:
    """Stamps from -200 ms on: an mp4 hides the 5 frames before 0, so the first is frame 5 and the keyframe 12 is number 7."""
    timeline = read_timeline(film(tmp_path / "a.mp4", FRAMES[:20], [40 * i - 200 for i in range(20)]))
    assert timeline.times == pytest.approx([0.04 * i for i in range(15)])
    assert timeline.keyframes == (7,)
    assert all(off(pixels, index + 5) < 3 for index, _, pixels in iterate(timeline))
    assert off(channels_last(frames_at(timeline, [9])[9]), 14) < 3


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_seeking_does_not_fall_back_to_the_beginning(tmp_path: Path, name: str) -> None:
    """Of 60 frames only those from the keyframe at 36 are decoded, where a container finds it by decoding time too."""
    with Reader(read_timeline(film(tmp_path / name, FRAMES, gop=12, b_frames=2))) as reader:
        assert reader.at(40) is not None
        assert (reader.sought, reader.seeks) == (True, True)
        assert next(index for index, _ in reader.frames()) == 41


def test_sizes_and_the_crop_of_images(tmp_path: Path) -> None:
    timeline = read_timeline(film(tmp_path / "a.mp4", FRAMES[:3]))
    full = frames_at(timeline, [2])[2]
    assert (full.dtype, tuple(full.shape)) == (torch.uint8, (3, 48, 64))
    small = frames_at(timeline, [2], size=20)[2]
    assert np.array_equal(channels_last(small), to_uint8(fit(full.float() / 127.5 - 1, 20)))
    assert [pixels.shape for _, _, pixels in iterate(timeline, 12)] == [(12, 16, 3)] * 3
    assert next(iterate(timeline, 400))[2].shape == (48, 64, 3)
    assert frames_at(timeline, []) == {}
    with pytest.raises(IndexError, match="has frames 0 to 2; asked for 1 to 3"):
        frames_at(timeline, [3, 1])
    with pytest.raises(ShapeError, match="size_short of 1 or more"):
        list(iterate(timeline, 0))


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_turned_videos_stand_upright(tmp_path: Path, turn: int) -> None:
    """A quarter counterclockwise takes the red corner from top left to bottom left, and 64 x 48 to 48 x 64."""
    plain = frames_at(read_timeline(film(tmp_path / "a.mp4", FRAMES[:2])), [1])[1]
    timeline = read_timeline(film(tmp_path / "b.mp4", FRAMES[:2], turn=turn))
    assert timeline.rotation % 360 == turn
    assert (timeline.width, timeline.height) == ((64, 48) if turn == 180 else (48, 64))
    assert torch.equal(frames_at(timeline, [1])[1], torch.rot90(plain, turn // 90, (1, 2)))
    if turn == 90:
        red, green, _ = frames_at(timeline, [0])[0][:, -3, 3]
        assert red > 180
        assert green < 60
    assert next(iterate(timeline, 12))[2].shape == ((12, 16, 3) if turn == 180 else (16, 12, 3))


def test_a_turn_by_hand() -> None:
    """(0 1 2 / 3 4 5), transposed (0 3 / 1 4 / 2 5), rows flipped (2 5 / 1 4 / 0 3): a quarter counterclockwise."""
    pixels = np.arange(6).reshape(2, 3)
    assert Turn(transpose=True, rows=True).apply(pixels).tolist() == [[2, 5], [1, 4], [0, 3]]
    assert Turn(columns=True).apply(pixels).tolist() == [[2, 1, 0], [5, 4, 3]]


def test_odd_sizes_and_ten_bits(tmp_path: Path) -> None:
    drawn = [bars(i, 47, 63) for i in range(3)]
    odd = read_timeline(film(tmp_path / "odd.mkv", drawn, codec="ffv1", pix_fmt="bgr0"))
    assert (odd.width, odd.height) == (63, 47)
    assert all(np.array_equal(pixels, drawn[i]) for i, _, pixels in iterate(odd))  # lossless
    padded = read_timeline(film(tmp_path / "odd.avi", drawn, codec="mpeg4", options={"b": "4000000"}))
    assert [pixels.shape for _, _, pixels in iterate(padded)] == [(47, 63, 3)] * 3
    ten = read_timeline(film(tmp_path / "ten.mkv", FRAMES[:3], pix_fmt="yuv420p10le"))
    assert all(pixels.dtype == np.uint8 and off(pixels, i) < 3 for i, _, pixels in iterate(ten))


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
def test_hdr_is_refused(tmp_path: Path, transfer: int, name: str) -> None:
    path = film(tmp_path / "a.mkv", FRAMES[:3], pix_fmt="yuv420p10le", transfer=transfer)
    with pytest.raises(DataError, match=rf"a\.mkv: is HDR with the transfer {name}.*convert it to SDR"):
        read_timeline(path)


def test_files_that_were_cut_short(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mp4: cannot be opened as mp4 .*moov.*cut short"):
        read_timeline(cut_short(film(tmp_path / "a.mp4", FRAMES), 0.6))
    index_first = film(tmp_path / "b.mp4", FRAMES, container_options={"movflags": "faststart"})
    for path in (cut_short(index_first, 0.6), cut_short(film(tmp_path / "a.mkv", FRAMES), 0.6)):
        timeline = read_timeline(path)
        assert 20 <= len(timeline.times) <= 40
        assert timeline.duration == pytest.approx(0.04 * len(timeline.times))
        there = list(iterate(timeline))
        assert len(there) >= len(timeline.times) - 1
        assert max(off(pixels, index) for index, _, pixels in there) < 3
    assert read_timeline(tmp_path / "b.mp4").notes == ("1 damaged packet",)


def damaged(path: Path) -> Path:
    """25 bytes inverted in the pictures of 200 frames, B-frames among them, a keyframe every 20."""
    film(path, [bars(i) for i in range(200)], gop=20, b_frames=2)
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat") + 4
    end = begin - 8 + int.from_bytes(data[begin - 8 : begin - 4], "big")
    for place in np.random.default_rng(0).integers(begin + 2000, end, 25):
        data[place] ^= 0xFF
    path.write_bytes(data)
    return path


def test_damaged_frames_and_what_leans_on_them_are_left_out(tmp_path: Path) -> None:
    timeline = read_timeline(damaged(tmp_path / "a.mp4"))
    assert len(timeline.times) == 200
    sound_frames = {index: pixels for index, _, pixels in iterate(timeline)}
    everything = {index: pixels for index, _, pixels in iterate(timeline, damaged=True)}
    assert 40 < len(sound_frames) < 160
    assert len(everything) > 190
    assert max(off(pixels, index) for index, pixels in sound_frames.items()) < 4
    assert sum(off(pixels, index) > 8 for index, pixels in everything.items()) > 50  # what would have been trained on
    wanted = list(range(0, 200, 3))
    got = frames_at(timeline, wanted)
    assert set(got) == set(wanted) & set(sound_frames)
    assert all(np.array_equal(channels_last(got[index]), sound_frames[index]) for index in got)


def test_nothing_decodes(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", FRAMES[:5])
    data = bytearray(path.read_bytes())
    begin = data.find(b"mdat") + 4
    end = begin - 8 + int.from_bytes(data[begin - 8 : begin - 4], "big")
    data[begin:end] = bytes(end - begin)
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"a\.mp4: no frame can be decoded"):
        read_timeline(path)


def packet(pts: int | None, key: bool = False) -> Any:
    return SimpleNamespace(pts=pts, dts=None, is_keyframe=key, is_corrupt=False, duration=1)


def test_stamps_by_hand() -> None:
    """In decoding order: I0 P3 B1 B2, I6 with B4 B5 that lead it, one without a stamp, 6 again, then back to I2 3 (left out), 7."""
    stamps = _Stamps(reorders=True)
    for one in [packet(0, True), packet(3), packet(1), packet(2), packet(6, True), packet(4), packet(5), packet(None), packet(6)]:
        stamps.add(one)
    assert stamps.kept == [0, 1, 2, 3, 4, 5, 6]
    assert stamps.keys == [0, 6]
    assert stamps.notes(Fraction(1)) == [
        "1 packet without a time stamp, left out",
        "1 packet with the time stamp of another, left out",
    ]
    for one in [packet(2, True), packet(3), packet(7)]:
        stamps.add(one)
    assert stamps.kept == [0, 1, 2, 3, 4, 5, 6, 7]
    assert stamps.notes(Fraction(1))[-1] == "time stamps jump back at 6.00 s; 2 packets behind the jump left out"
    assert stamps.jumps == [6]


def test_stamps_without_reordering_may_not_go_back_at_all() -> None:
    stamps = _Stamps(reorders=False)
    for one in [packet(0, True), packet(2), packet(4), packet(3), packet(5)]:
        stamps.add(one)
    assert (stamps.kept, stamps.behind, stamps.jumps) == ([0, 2, 4, 5], 1, [4])


def test_time_stamps_that_jump_back(tmp_path: Path) -> None:
    """A transport stream with itself behind it: the second part says the same times, so its 20 frames are left out."""
    path = film(tmp_path / "a.ts", FRAMES[:20], gop=5)
    path.write_bytes(path.read_bytes() * 2)
    timeline = read_timeline(path)
    assert timeline.times == pytest.approx([0.04 * i for i in range(20)])
    assert "time stamps jump back at 0.76 s; 20 packets behind the jump left out" in timeline.notes
    assert not timeline.seekable
    got = frames_at(timeline, [19, 2])
    assert [off(channels_last(got[i]), i) < 3 for i in (2, 19)] == [True, True]


def test_avi_with_b_frames_is_read_in_order(tmp_path: Path) -> None:
    timeline = read_timeline(film(tmp_path / "a.avi", FRAMES[:20], b_frames=2))
    assert timeline.notes == ("no presentation times (AVI); frames take the times of decoding in order",)
    assert not timeline.seekable


def test_a_single_frame(tmp_path: Path) -> None:
    timeline = read_timeline(film(tmp_path / "a.mp4", FRAMES[:1]))
    assert (timeline.times, timeline.keyframes, timeline.variable) == ((0.0,), (0,), False)
    assert (timeline.duration, timeline.rate) == pytest.approx((0.04, 25.0))


def test_wrong_names(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", FRAMES[:3])
    other = path.rename(tmp_path / "a.avi")
    timeline = read_timeline(other)
    assert timeline.notes == ("named .avi, but holds mov",)
    assert len(frames_at(timeline, [0, 1, 2])) == 3


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.mp4", b"this is no video " * 40),
        ("b.mp4", b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 4),
        ("c.m3u8", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.4,\nreal.mp4\n#EXT-X-ENDLIST\n"),
        ("d.mp4", b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.4,\nreal.mp4\n#EXT-X-ENDLIST\n"),
        ("e.mp4", b"ffconcat version 1.0\nfile real.mp4\n"),
        ("f.ffconcat", b"ffconcat version 1.0\nfile real.mp4\n"),
    ],
)
def test_text_images_and_playlists_are_refused(tmp_path: Path, name: str, data: bytes) -> None:
    film(tmp_path / "real.mp4", FRAMES[:3])
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=rf"{name}: is not a video in one of the containers mov, .*replace the file"):
        read_timeline(tmp_path / name)


def test_what_is_no_video_file(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to(tmp_path / "loop.mp4")
    for name, what in {
        "empty.mp4": r"is empty \(0 bytes\)",
        "pipe.mp4": "is not a regular file",
        "": "is not a regular file",
        "absent.mp4": "no such file",
        "loop.mp4": "cannot be opened",
        "n" * 300: "cannot be opened",
        "a\0b": "cannot be opened",
        "gone\n.mp4": r"gone\\n\.mp4': no such file",
    }.items():
        with pytest.raises(DataError, match=what) as caught:
            read_timeline(tmp_path / name)
        assert str(caught.value).isprintable()


def test_names_that_look_like_options_or_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    film(tmp_path / "a.mp4", FRAMES[:2])
    monkeypatch.chdir(tmp_path)
    for name in ("-i.mp4", "concat:a.mp4|a.mp4", "http:a.mp4", "%03d.mp4", "<b>\n&.mp4"):
        Path(name).write_bytes(Path("a.mp4").read_bytes())
        assert len(read_timeline(Path(name)).times) == 2
    with pytest.raises(DataError, match="no such file"):
        read_timeline(Path("concat:a.mp4"))
    Path("link.mp4").symlink_to("a.mp4")
    assert len(read_timeline(Path("link.mp4")).times) == 2


def test_sound_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.mp4: no video stream \(holds audio\)"):
        read_timeline(sound(tmp_path / "a.mp4"))
    with pytest.raises(DataError, match=r"b\.mp4: no video stream, only an attached picture"):
        read_timeline(sound(tmp_path / "b.mp4", picture=True))


def test_limits(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", FRAMES)
    with pytest.raises(DataError, match=r"64 x 48 = 0\.00307 megapixels a frame, the limit is 0\.003; .*max_megapixels"):
        read_timeline(path, Limits(max_megapixels=0.003))
    with pytest.raises(DataError, match=r"lasts 1\.04 s or longer, the limit is 1; .*max_seconds"):
        read_timeline(path, Limits(max_seconds=1))
    assert read_timeline(path, Limits(max_seconds=2.36)).duration == pytest.approx(2.4)
    with (tmp_path / "huge.mp4").open("wb") as huge:
        huge.truncate(9 * 2**30)  # sparse
    with pytest.raises(DataError, match=r"has 9,663,676,416 bytes, the limit is 8,589,934,592"):
        read_timeline(tmp_path / "huge.mp4")


def test_a_timeline_can_be_written_by_hand() -> None:
    timeline = Timeline(Path("x"), (0.0, 0.1), (0,), 8, 6, 0, 10.0, 0.2, False, ())
    assert timeline.keyframe_before(1) == 0


def test_real_clips(shared_data: Path) -> None:
    """Lengths and sizes as their list says (the first of two streams where there are two), and frames by seeking as in order."""
    folder = shared_data / "videos" / "dev"
    if not folder.is_dir():
        pytest.skip(f"no folder {folder}")
    for name, frames, size in (
        ("bikes.mp4", 250, (640, 272)),
        ("eye_makeup.avi", 164, (320, 240)),
        ("asl_eat.mkv", 47, (640, 480)),
    ):
        timeline = read_timeline(folder / name)
        assert (len(timeline.times), timeline.width, timeline.height) == (frames, *size)
        passed = {index: pixels[::8, ::8] for index, _, pixels in iterate(timeline)}
        assert list(passed) == list(range(frames))
        got = frames_at(timeline, [frames - 1, frames // 2, 7])
        assert all(np.array_equal(channels_last(got[index])[::8, ::8], passed[index]) for index in got)


def test_a_keyframe_where_the_decoder_cannot_start(shared_data: Path) -> None:
    """This 4:4:4 file decodes to garbage from its third keyframe (145) on; the frame asked for comes from the beginning instead."""
    path = shared_data / "videos" / "dev" / "cockatoo.mp4"
    if not path.is_file():
        pytest.skip(f"no file {path}")
    timeline = read_timeline(path)
    with Reader(timeline) as reader:
        assert reader.at(150) is None
    with Reader(timeline, seeks=False) as reader:
        expected = reader.rgb(reader.at(150))
    assert np.array_equal(channels_last(frames_at(timeline, [150])[150]), expected)
