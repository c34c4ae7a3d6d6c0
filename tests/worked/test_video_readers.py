"""Readers of videos: the right frames under their times, one pass a video, an index that is reused, and files that are bad."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import reader
from relatum.data import footage
from relatum.data.frame_pairs import FramePairs
from relatum.data.rows import Row
from relatum.data.splits import split
from relatum.data.video_captions import MsrVtt, OpenSora, WebVid
from relatum.data.video_readers import FrameFolders, Videos
from relatum.engine.cache import encode_rows
from relatum.models.codec import Moments
from relatum.tasks.base import Needs
from support.films import cut_short, film, sound
from support.pictures import noise, png

EXAMPLES = Path(__file__).parents[2] / "examples"


def tick(index: int, size: int = 32) -> np.ndarray:
    """A plain frame that tells its number, 0 to 99: red 30 + 20 for each ten, blue 30 + 20 for each one."""
    frame = np.full((size, size, 3), 120, np.uint8)
    frame[..., 0], frame[..., 2] = 30 + 20 * (index // 10), 30 + 20 * (index % 10)
    return frame


def number(row: Row, name: str) -> int:
    """Which tick an image of the row shows."""
    red, _, blue = (row.images[name].pixels(8).mean((1, 2)) * 127.5 + 127.5).tolist()
    return 10 * round((red - 30) / 20) + round((blue - 30) / 20)


def scene(seed: int, count: int, size: int = 64) -> list[np.ndarray]:
    """A shot of its own colors: coarse noise that goes round by a pixel a frame, so that its histogram stays."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    picture = np.kron(coarse, np.ones((size // 8, size // 8, 1), np.uint8))
    return [np.roll(picture, i, axis=1) for i in range(count)]


def captioned(path: Path, frames: list[np.ndarray], caption: str = "a caption", **settings: Any) -> Path:
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return film(path, frames, **settings)


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The first arguments of all calls of a function that footage uses."""
    calls: list[Any] = []
    real = getattr(footage, name)

    def count(first: Any, *rest: Any) -> Any:
        calls.append(first)
        return real(first, *rest)

    monkeypatch.setattr(footage, name, count)
    return calls


def pairs(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [(row.id, row.facts["source_time"], row.facts["offset"], row.texts["instruction"]) for row in rows]


# ---- rows


def test_frames_are_those_of_their_times(tmp_path: Path) -> None:
    """At 25 frames/s a frame at t shows tick 25 t; past and future lie at their distances. All facts are there."""
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(100)], "one\n\n two \n")
    reading = Videos(tmp_path, cuts=False, past=2, spacing=0.2, future=2, per_video=6, sd=0.4)
    rows = reading.rows()
    assert reading.skipped == []
    assert [row.id for row in rows] == [f"a.mp4:{i}" for i in range(6)]
    for row in rows:
        at, offset = (round(25 * row.facts[name]) for name in ("source_time", "offset"))
        assert sorted(row.images) == ["future.2", "past.2", "source", "target"]
        found = [number(row, name) for name in ("past.2", "source", "target", "future.2")]
        assert found == [at - 5, at, at + offset, at + 2 * offset]
        assert (row.group, row.facts["video"], row.facts["spacing"]) == ("a.mp4", "a.mp4", 0.2)
        assert row.texts["instruction"] == row.texts["target"]
    assert {row.texts["target"] for row in rows} == {"one", "two"}
    again = pickle.loads(pickle.dumps(rows[0]))
    assert torch.equal(again.images["target"].pixels(8), rows[0].images["target"].pixels(8))


def test_a_variable_rate_gives_the_pairs_and_frames_of_its_constant_twin(tmp_path: Path) -> None:
    """The twin lacks frames between grid times, two of three at first and none later; frames at multiples of .2 s are in both."""
    kept = [i for i in range(100) if i % 5 == 0 or i > 60 or i % 3 == 0]
    for name, of in (("constant", range(100)), ("variable", kept)):
        (tmp_path / name).mkdir()
        captioned(tmp_path / name / "a.mp4", [tick(i) for i in of], times=[40 * i for i in of])
    constant, variable = (Videos(tmp_path / name, cuts=False, per_video=12, sd=0.6).rows() for name in ("constant", "variable"))
    assert pairs(variable) == pairs(constant)
    shown = [[(number(row, "source"), number(row, "target")) for row in rows] for rows in (constant, variable)]
    assert shown[0] == shown[1]
    assert all(index % 5 == 0 for both in shown[0] for index in both)


def test_no_pair_crosses_a_cut(tmp_path: Path) -> None:
    """Three shots of 1.6, 1.2 and 2 s: all frames of a row lie between the same cuts, and every shot is drawn from."""
    captioned(tmp_path / "a.mp4", scene(1, 40) + scene(2, 30) + scene(3, 50))
    rows = Videos(tmp_path, past=2, future=2, sd=0.4, per_video=30).rows()
    shots = set()
    for row in rows:
        at, offset = row.facts["source_time"], row.facts["offset"]
        inside = {int(at + j * offset >= 1.6 - 1e-6) + int(at + j * offset >= 2.8 - 1e-6) for j in (-1, 0, 1, 2)}
        assert len(inside) == 1
        shots |= inside
    assert shots == {0, 1, 2}
    crossing = Videos(tmp_path, cuts=False, past=2, future=2, sd=0.4, per_video=30).rows()
    ends = [
        (row.facts["source_time"] - row.facts["offset"], row.facts["source_time"] + 2 * row.facts["offset"]) for row in crossing
    ]
    assert any(start < 1.6 <= end for start, end in ends)


def test_rows_of_a_video_do_not_depend_on_the_others(tmp_path: Path) -> None:
    for name, start in (("b.mp4", 0), ("d.mp4", 3)):
        captioned(tmp_path / name, [tick(i + start) for i in range(60)], "x\ny\nz")
    before = Videos(tmp_path, cuts=False).rows()
    captioned(tmp_path / "a.mp4", [tick(i + 5) for i in range(50)])
    (tmp_path / "c.mp4").write_bytes(b"")
    (tmp_path / "c.txt").write_text("c", encoding="utf-8")
    after = Videos(tmp_path, cuts=False, on_bad_row="skip").rows()
    assert pairs([row for row in after if row.group in ("b.mp4", "d.mp4")]) == pairs(before)
    assert len(after) == 24
    train, test = split(after, 8, 0)
    assert {row.group for row in train}.isdisjoint(row.group for row in test)


def test_two_readers_of_one_folder_take_a_side_each(tmp_path: Path) -> None:
    """The sides of `split` with a share: together all clips, none on both, each with its own law."""
    for at in range(8):
        captioned(tmp_path / f"{at}.mp4", [tick(i + at) for i in range(40)])
    whole = Videos(tmp_path, cuts=False, per_video=2).rows()
    train, test = split(whole, 0.4, 0)
    of = Videos(tmp_path, cuts=False, per_video=2, part="train", held_out=0.4)
    assert pairs(of.rows()) == pairs(train)
    other = Videos(tmp_path, cuts=False, per_video=1, part="test", held_out=0.4, law="next", future=3)
    assert {row.group for row in other.rows()} == {row.group for row in test} != {row.group for row in whole}
    assert {row.facts["offset"] for row in other.rows()} == {0.2}


def test_one_content_is_one_group(tmp_path: Path) -> None:
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(60)])
    (tmp_path / "b.mp4").write_bytes((tmp_path / "a.mp4").read_bytes())
    (tmp_path / "b.txt").write_text("other words", encoding="utf-8")
    reading = Videos(tmp_path, cuts=False, per_video=2)
    assert [(row.id, row.group) for row in reading.rows()] == [(f"{n}.mp4:{i}", "a.mp4") for n in "ab" for i in range(2)]
    assert len(reading.skipped) == 1
    assert "b.mp4: the same content as a.mp4" in reading.skipped[0]


def test_a_short_video_says_how_many_pairs_it_has(tmp_path: Path) -> None:
    """16 frames are .6 s from first to last: 4 valid frames, 3 + 2 + 1 pairs."""
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(16)])
    captioned(tmp_path / "b.mp4", [tick(i) for i in range(60)])
    reading = Videos(tmp_path, cuts=False)
    assert [sum(row.group == name for row in reading.rows()) for name in ("a.mp4", "b.mp4")] == [6, 8]
    assert reading.skipped == [f"{tmp_path / 'a.mp4'}: 6 of 8 pairs; there are no more different ones"]


def test_long_videos_are_left_out_and_listed(tmp_path: Path) -> None:
    """Shown at .2 s a frame, 150 frames last 30 s and are taken; 151 are not, whatever on_bad_row says."""
    captioned(tmp_path / "a.mp4", [tick(i % 100) for i in range(151)], times=[200 * i for i in range(151)])
    captioned(tmp_path / "b.mp4", [tick(i % 90) for i in range(150)], times=[200 * i for i in range(150)])
    reading = Videos(tmp_path, cuts=False)
    assert {row.group for row in reading.rows()} == {"b.mp4"}
    assert reading.skipped == [f"{tmp_path / 'a.mp4'}: lasts 30.20 s; clips over max_seconds = 30 are left out"]
    assert {row.group for row in Videos(tmp_path, cuts=False, max_seconds=0.0).rows()} == {"a.mp4", "b.mp4"}


# ---- decoding and the index


class Codec:
    factor, fingerprint = 4, "codec"

    def encode(self, pixels: torch.Tensor) -> Moments:
        return Moments(pixels[:, :2, ::4, ::4], pixels[:, :2, ::4, ::4])


class Words:
    fingerprint, null = "words", torch.zeros(1, 3, 5)

    def encode(self, texts: list[str]) -> torch.Tensor:
        return torch.zeros(len(texts), 3, 5)


def test_one_pass_a_video_and_none_from_a_full_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three videos of 8 pairs in batches of 5, which straddle videos: three passes. Again, with both caches full: none."""
    data = tmp_path / "data"
    data.mkdir()
    for at, name in enumerate("abc"):
        captioned(data / f"{name}.mp4", [tick(i + at) for i in range(80)])
    needs = Needs(images=("source", "target"), texts=("instruction",))

    def encode() -> Any:
        rows = Videos(data, cuts=False, index_folder=str(tmp_path / "index")).rows()
        return encode_rows(rows, needs, 8, Codec(), Words(), tmp_path / "cache", batch_size=5)  # type: ignore[arg-type]

    passes = counted(monkeypatch, "frames_at")
    assert len(encode()) == 24
    assert [timeline.path.name for timeline in passes] == ["a.mp4", "b.mp4", "c.mp4"]

    def fail(*_: object) -> None:
        raise AssertionError("nothing may be decoded")

    monkeypatch.setattr(footage, "frames_at", fail)
    monkeypatch.setattr(footage, "read_timeline", fail)
    assert len(encode()) == 24


def test_the_index_is_reused_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two videos are looked at once; a changed one again; a moved one and a damaged entry cost what they must."""
    data, index = tmp_path / "data", tmp_path / "index"
    data.mkdir()
    for name, seed in (("a", 1), ("b", 2)):
        captioned(data / f"{name}.mp4", scene(seed, 30))
    times, cuts = counted(monkeypatch, "read_timeline"), counted(monkeypatch, "find_cuts")

    def names() -> tuple[list[str], list[str]]:
        found = [path.name for path in times], [timeline.path.name for timeline in cuts]
        times.clear()
        cuts.clear()
        return found

    reading = Videos(data, per_video=3, index_folder=str(index))
    first = pairs(reading.rows())
    assert names() == (["a.mp4", "b.mp4"], ["a.mp4", "b.mp4"])
    assert pairs(reading.rows()) == first
    assert names() == ([], [])
    captioned(data / "b.mp4", scene(3, 40))
    assert pairs(reading.rows())[:3] == first[:3]
    assert names() == (["b.mp4"], ["b.mp4"])
    (data / "a.mp4").rename(data / "moved.mp4")
    (data / "a.txt").rename(data / "moved.txt")
    assert reading.rows()[-1].images["source"].pixels(8).isfinite().all()
    assert names() == ([], [])
    for file in index.iterdir():
        file.write_text("{", encoding="utf-8")
    reading.rows()
    assert names() == (["b.mp4", "moved.mp4"], ["b.mp4", "moved.mp4"])
    Videos(data, per_video=3).rows()
    assert len(names()[0]) == 2


def test_a_frame_is_known_by_content_and_time(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        captioned(tmp_path / folder / f"{folder}.mp4", [tick(i) for i in range(60)])
    one, two = (Videos(tmp_path / name, cuts=False, law="next", per_video=30).rows() for name in ("one", "two"))
    known = {row.facts["source_time"]: row.images["source"].digest() for row in one}
    assert len(set(known.values())) == len(known) > 8
    assert all(known[row.facts["source_time"]] == row.images["source"].digest() for row in two)
    chained = {row.facts["source_time"] + 0.2: row.images["target"].digest() for row in one}
    assert any(digest == known.get(round(time, 6)) for time, digest in chained.items())


# ---- files that are bad


def bad_files() -> Iterator[tuple[str, Callable[[Path], object], str]]:
    frames = scene(2, 60)
    yield "empty.mp4", lambda path: path.write_bytes(b""), "is empty"
    yield "words.mp4", lambda path: path.write_text("not a video, but long enough to be looked at twice " * 9), "is not a video"
    yield "cut.mp4", lambda path: cut_short(film(path, frames), 0.6), "moov"
    yield "sound.mp4", sound, "no video stream"
    yield "cover.mp4", lambda path: sound(path, picture=True), "only an attached picture"
    yield "single.mp4", lambda path: film(path, frames[:1]), "no pair fits: 1 valid frames"
    yield "brief.mp4", lambda path: film(path, frames[:5]), "no pair fits"
    yield "hdr.mp4", lambda path: film(path, frames, transfer=16), "HDR"


@pytest.mark.parametrize(("name", "make", "reason"), [*bad_files()], ids=lambda value: value if isinstance(value, str) else "")
def test_a_bad_file_stops_or_is_named(tmp_path: Path, name: str, make: Callable[[Path], object], reason: str) -> None:
    captioned(tmp_path / "good.mp4", scene(1, 60))
    make(tmp_path / name)
    (tmp_path / name).with_suffix(".txt").write_text("words", encoding="utf-8")
    with pytest.raises(DataError, match=reason) as caught:
        Videos(tmp_path).rows()
    assert name in str(caught.value)
    reading = Videos(tmp_path, on_bad_row="skip")
    assert {row.group for row in reading.rows()} == {"good.mp4"}
    assert len(reading.skipped) == 1
    assert name in reading.skipped[0]
    assert reason in reading.skipped[0]


def test_damaged_frames_are_counted_and_never_used(tmp_path: Path) -> None:
    """Zeros over a stretch of the file: some frames do not decode. The video is kept, its line says how many, every row decodes."""
    path = captioned(tmp_path / "a.mkv", scene(4, 100), gop=10)
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 3000] = bytes(3000)
    path.write_bytes(bytes(data))
    reading = Videos(tmp_path, per_video=40, sd=0.6)
    rows = reading.rows()
    assert len(rows) == 40
    assert any("a.mkv" in line and "cannot be decoded" in line for line in reading.skipped)
    assert all(image.pixels(8).isfinite().all() for row in rows for image in row.images.values())
    blind = Videos(tmp_path, cuts=False, per_video=80, grid=0.04, sd=0.6).rows()
    with pytest.raises(DataError, match=r"a\.mkv at .* s: the frame cannot be decoded"):
        [image.pixels(8) for row in blind for image in row.images.values()]


def test_odd_turned_and_renamed_files_are_taken(tmp_path: Path) -> None:
    captioned(tmp_path / "odd.mkv", [tick(i)[:31, :29] for i in range(60)], pix_fmt="yuv444p")
    captioned(tmp_path / "turned.mp4", [tick(i)[:20] for i in range(60)], turn=90)
    captioned(tmp_path / "mkv.mp4", [tick(i) for i in range(60)], container="matroska")
    captioned(tmp_path / "a <b>&\nname.MP4", [tick(i) for i in range(60)])
    reading = Videos(tmp_path, cuts=False, per_video=2)
    rows = reading.rows()
    assert [row.group for row in rows[::2]] == ["a <b>&\nname.MP4", "mkv.mp4", "odd.mkv", "turned.mp4"]
    assert all(round(25 * row.facts["source_time"]) == number(row, "source") for row in rows)
    assert [line.partition(": ")[2] for line in reading.skipped] == ["named .mp4, but holds matroska"]
    assert all("\n" not in line for line in [*reading.skipped, *(row.where for row in rows)])


def test_links_that_loop_or_leave(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    captioned(data / "a.mp4", [tick(i) for i in range(60)])
    (data / "loop").symlink_to(data)
    film(tmp_path / "outside.mp4", [tick(i) for i in range(60)])
    (data / "b.mp4").symlink_to(tmp_path / "outside.mp4")
    (data / "c.mp4").symlink_to(data / "c.mp4")
    for name in "bc":
        (data / f"{name}.txt").write_text("words", encoding="utf-8")
    reading = Videos(data, cuts=False, on_bad_row="skip")
    assert {row.group for row in reading.rows()} == {"a.mp4"}
    assert [any(word in line for word in ("leads out of", "b.mp4")) for line in reading.skipped][:1] == [True]
    assert len(reading.skipped) == 2


def test_a_listing_and_a_sidecar_say_what_they_lack(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", [tick(i) for i in range(60)])
    with pytest.raises(DataError, match=r"a\.mp4: no caption"):
        Videos(tmp_path, cuts=False).rows()
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"a\.txt is not UTF-8"):
        Videos(tmp_path, cuts=False).rows()
    lines = [
        {"file_name": "a.mp4", "text": ["x", " "]},
        {"file_name": "a.mp4", "text": "y"},
        {"file_name": "gone.mp4", "text": "z"},
        {"file_name": "../a.mp4", "text": "z"},
        {"file_name": 7, "text": "z"},
        {"file_name": "b.mp4", "text": [3]},
        {"file_name": "c.mp4", "text": "\ud800"},
        {"file_name": "d.mp4", "text": ""},
        {"file_name": "e\ud800.mp4", "text": "z"},
        {"file_name": "nul\0.mp4", "text": "z"},
        ["a.mp4"],
    ]
    text = "\n\n".join(map(json.dumps, lines)) + "\n{broken\n"
    (tmp_path / "metadata.jsonl").write_bytes(text.encode() + b'{"file_name": "\xff"}\n')
    reading = Videos(tmp_path, cuts=False, on_bad_row="skip")
    assert {row.texts["target"] for row in reading.rows()} == {"x", "y"}
    places = {int(line.split("metadata.jsonl:")[1].partition(" ")[0].rstrip(":")): line for line in reading.skipped}
    wanted = {5: "gone.mp4", 7: "leads out", 9: "file_name is int 7", 11: r"text[0] is int 3", 13: "not valid Unicode"}
    wanted |= {15: "no caption", 17: "not UTF-8", 19: "no file name", 21: "expected a JSON object, found list"}
    wanted |= {22: "is not JSON", 23: "is not UTF-8"}
    assert set(places) == set(wanted)
    assert all(reason in places[line] for line, reason in wanted.items())


def test_folders_without_videos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no metadata\.jsonl, and no videos"):
        Videos(tmp_path).rows()
    with pytest.raises(DataError, match="no such folder"):
        Videos(tmp_path / "gone").rows()
    with pytest.raises(DataError, match="no folders of images"):
        FrameFolders(tmp_path).rows()


def test_settings_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    table = {"kind": "videos", "path": str(tmp_path / "gone"), "law": "next", "offset": 0.5}
    with pytest.raises(RecipeError, match=r"offset is 0\.5 s, no whole multiple"):
        reader.build(table, "data.train")
    with pytest.raises(RecipeError, match="metadata"):
        reader.build({"kind": "msrvtt", "path": str(tmp_path)}, "data.train")
    with pytest.raises(RecipeError, match="rate"):
        reader.build({"kind": "frame_folders", "path": str(tmp_path), "rate": 0}, "data.train")


# ---- data sets of others


def msrvtt(tmp_path: Path, **changed: Any) -> MsrVtt:
    for at, name in enumerate(("video0", "video7")):
        if not (tmp_path / "clips" / f"{name}.mp4").exists():
            (tmp_path / "clips").mkdir(exist_ok=True)
            film(tmp_path / "clips" / f"{name}.mp4", [tick(i + at) for i in range(50)])
    extra = {"category": 9, "url": "https://example.org/v", "start time": 137.72, "end time": 149.44, "id": 0}
    table = {
        "info": {"year": "2016"},
        "videos": [{"video_id": "video0", "split": "train", **extra}, {"video_id": "video7", "split": "validate", **extra}],
        "sentences": [
            {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
            {"caption": "a <b>man</b>\nsings", "video_id": "video7", "sen_id": 1},
            {"caption": "in a car", "video_id": "video0", "sen_id": 2},
        ],
        **changed,
    }
    (tmp_path / "videodatainfo.json").write_text(json.dumps(table), encoding="utf-8")
    return MsrVtt(tmp_path, metadata="videodatainfo.json", folder="clips", cuts=False)


def test_msrvtt(tmp_path: Path) -> None:
    reading = msrvtt(tmp_path)
    rows = reading.rows()
    assert [row.id for row in rows] == [f"{name}:{i}" for name in ("video0", "video7") for i in range(8)]
    assert {row.texts["instruction"] for row in rows[:8]} == {"a car is shown", "in a car"}
    assert {row.texts["instruction"] for row in rows[8:]} == {"a <b>man</b>\nsings"}
    assert {row.group for row in rows} == {"video0", "video7"}
    reading.split = "validate"
    assert pairs(reading.rows()) == pairs(rows[8:])
    reading.split = "valid"
    with pytest.raises(DataError, match="did you mean 'validate'"):
        reading.rows()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"videos": "none"}, "videodatainfo.json: videos: expected a list, found str"),
        ({"sentences": None}, "sentences: expected a list, found NoneType"),
        ({"videos": [{"split": "train"}], "sentences": []}, r"videos\[0\]: video_id is None"),
        ({"videos": [5], "sentences": []}, r"videos\[0\]: found int"),
        ({"sentences": [{"caption": 5, "video_id": "video0"}]}, r"sentences\[0\]: caption is int 5, expected text"),
        ({"sentences": [{"caption": "x"}]}, r"sentences\[0\]: video_id is missing"),
        ({"sentences": ["x"]}, r"sentences\[0\]: found str"),
        ({"sentences": [{"caption": "x", "video_id": "video9"}]}, "video_id 'video9' is not among the videos"),
        ({"sentences": []}, r"videos\[0\] \(clips/video0\.mp4\): no caption"),
        (
            {"videos": [{"video_id": "video8"}], "sentences": [{"caption": "x", "video_id": "video8"}]},
            r"video8\.mp4\): no such file",
        ),
        ({"videos": [{"video_id": "../x"}], "sentences": [{"caption": "x", "video_id": "../x"}]}, "no such file|leads out"),
    ],
)
def test_msrvtt_errors_name_their_place(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        msrvtt(tmp_path, **changed).rows()


def test_msrvtt_files_that_are_not_json(tmp_path: Path) -> None:
    reading = msrvtt(tmp_path)
    for content, reason in ((b"{", "is not JSON"), (b"[]", "expected an object"), (b"\xff\xff", "is not UTF-8")):
        (tmp_path / "videodatainfo.json").write_bytes(content)
        with pytest.raises(DataError, match=reason):
            reading.rows()
    reading.metadata = "gone.json"
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        reading.rows()


def test_webvid(tmp_path: Path) -> None:
    """Files in their page's folder and beside the table; a missing one, a line with a field too few and one without a caption."""
    (tmp_path / "000001_000050").mkdir()
    film(tmp_path / "000001_000050" / "11.mp4", [tick(i) for i in range(50)])
    film(tmp_path / "12.mp4", [tick(i + 3) for i in range(50)])
    lines = ["videoid,contentUrl,duration,page_dir,name", '11,https://x,PT00H00M02S,000001_000050,"Aerial, of a city"']
    lines += ["12,https://x,PT00H00M02S,000001_000050,Two cats", "13,https://x,PT00H00M02S,000001_000050,Gone"]
    lines += ["14,https://x,PT00H00M02S,p", "12,https://x,PT00H00M02S,p,", "12,https://x,PT00H00M02S,p,Twice", ""]
    (tmp_path / "results.csv").write_text("\n".join(lines), encoding="utf-8")
    reading = WebVid(tmp_path, metadata="results.csv", cuts=False, on_bad_row="skip", per_video=2)
    rows = reading.rows()
    assert [(row.group, row.texts["target"]) for row in rows[::2]] == [("11", "Aerial, of a city"), ("12", "Two cats")]
    reasons = ["results.csv:4 (000001_000050/13.mp4): no such file", "results.csv:5: has 4 fields, the heading 5"]
    reasons += ["results.csv:6 (12.mp4): no caption", "results.csv:7 (12.mp4): 12 is listed by"]
    assert all(reason in line for reason, line in zip(reasons, reading.skipped, strict=True))
    (tmp_path / "results.csv").write_text("videoid,name\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.csv:1: expected one column 'page_dir', found the columns videoid, name"):
        reading.rows()
    (tmp_path / "results.csv").write_text('videoid,name,page_dir\n1,"x,2\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.csv:\d: is not CSV"):
        reading.rows()


def test_open_sora(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for at, name in enumerate("ab"):
        film(tmp_path / "clips" / f"{name}.mp4", [tick(i + at) for i in range(50)])
    lines = ["path,text,num_frames", "clips/a.mp4,first,50", f"{tmp_path}/clips/b.mp4,second,50", "/etc/hostname,third,1", ",x,1"]
    (tmp_path / "meta.csv").write_text("\n".join(lines), encoding="utf-8")
    reading = OpenSora(tmp_path, metadata="meta.csv", cuts=False, on_bad_row="skip", per_video=2)
    assert [row.texts["target"] for row in reading.rows()] == ["first", "first", "second", "second"]
    assert ["leads out of" in line or "path is empty" in line for line in reading.skipped] == [True, True]


def test_frames_as_folders_of_images(tmp_path: Path) -> None:
    """At 10 frames/s, named 0 to 39 without zeros: the frame at t is image 10 t; natural order, not 0, 1, 10, 11."""
    for clip, start in (("clip2", 0), ("clip10", 5)):
        (tmp_path / "set" / clip).mkdir(parents=True)
        (tmp_path / "set" / f"{clip}.txt").write_text(f"words of {clip}", encoding="utf-8")
        for i in range(40):
            (tmp_path / "set" / clip / f"{i}.png").write_bytes(png(tick(i + start)))
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    rows = FrameFolders(tmp_path, rate=10.0, per_video=5, sd=0.4).rows()
    assert [(row.group, row.texts["target"]) for row in rows[::5]] == [(f"set/{c}", f"words of {c}") for c in ("clip2", "clip10")]
    for row in rows:
        start = 0 if row.group == "set/clip2" else 5
        assert number(row, "source") == round(10 * row.facts["source_time"]) + start
        assert number(row, "target") - number(row, "source") == round(10 * row.facts["offset"])
    lines = [{"file_name": "set/clip2", "text": ["x"]}, {"file_name": "set/gone", "text": "y"}, {"file_name": "..", "text": "y"}]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    reading = FrameFolders(tmp_path, rate=10.0, on_bad_row="skip")
    assert {row.texts["target"] for row in reading.rows()} == {"x"}
    assert ["no such folder" in line or "leads out" in line for line in reading.skipped] == [True, True]


def test_pairs_that_are_drawn_already(tmp_path: Path) -> None:
    for name in "abcd":
        (tmp_path / f"{name}.png").write_bytes(png(noise(ord(name))))
    (tmp_path / "bad.png").write_bytes(b"x")
    lines: list[dict[str, Any]] = [
        {"source": "a.png", "target": "b.png", "text": "one", "offset": 0.4, "video": "v"},
        {"source": "c.png", "target": "d.png", "text": ["two", "three"]},
        {"source": "c.png", "target": "bad.png", "text": "x"},
        {"source": "c.png", "text": "x"},
        {"source": "c.png", "target": "d.png", "text": "x", "offset": -1},
        {"source": "c.png", "target": "d.png"},
    ]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    reading = FramePairs(tmp_path, offset=2.0, on_bad_row="skip")
    first, second = reading.rows()
    assert (first.group, first.facts["offset"], first.texts["instruction"], first.id) == ("v", 0.4, "one", "metadata.jsonl:1")
    assert second.facts["offset"] == second.facts["spacing"] == 2.0
    assert second.texts["target"] in ("two", "three")
    assert second.group == second.facts["video"] != "v"
    reasons = ["bad.png", "target is missing", "offset is -1", "no caption"]
    assert all(reason in line for reason, line in zip(reasons, reading.skipped, strict=True))
    with pytest.raises(DataError, match=r"metadata\.jsonl:4: target is missing"):
        FramePairs(tmp_path).rows()
    assert FramePairs(tmp_path, on_bad_row="skip").rows()[1].facts["offset"] == 1.0


# ---- real videos


def test_real_clips(shared_data: Path, tmp_path: Path) -> None:
    """Of three real clips, one with five cuts, no pair crosses a cut that people marked, and every frame decodes."""
    source = shared_data / "videos"
    if not (source / "clips_dev.jsonl").is_file():
        pytest.skip(f"no {source}")
    clips = [json.loads(line) for line in (source / "clips_dev.jsonl").read_text(encoding="utf-8").splitlines()]
    few = [clip for clip in clips if clip["file"] in ("dev/bikes.mp4", "dev/asl_eat.mkv", "dev/thanks_text.mp4")]
    (tmp_path / "data").mkdir()
    with (tmp_path / "data" / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for clip in few:
            name = Path(clip["file"]).name
            (tmp_path / "data" / name).write_bytes((source / "dev" / name).read_bytes())
            file.write(json.dumps({"file_name": name, "text": clip["caption"]}) + "\n")
    reading = Videos(tmp_path / "data", on_bad_row="skip", index_folder=str(tmp_path / "index"))
    rows = reading.rows()
    marked = {Path(clip["file"]).name: clip["hard_cut_times_s"] for clip in few}
    for row in rows:
        start = row.facts["source_time"]
        assert not any(start < cut - 0.05 < start + row.facts["offset"] - 0.05 for cut in marked[row.group])
    assert {row.group for row in rows} == set(marked)
    assert len(rows) == 8 * len(few)
    assert all(image.pixels(32).isfinite().all() for row in rows for image in row.images.values())


def test_real_pairs_through_the_example(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "msrvtt_pairs"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    command = [sys.executable, str(EXAMPLES / "prepare_msrvtt_pairs.py"), str(source), str(tmp_path / "out"), "--count", "50"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    rows = FramePairs(tmp_path / "out").rows()
    assert len(rows) == 50
    assert all(row.images[name].pixels(32).isfinite().all() for row in rows for name in ("source", "target"))
    assert all(0 < row.facts["offset"] <= 4.8 for row in rows)
