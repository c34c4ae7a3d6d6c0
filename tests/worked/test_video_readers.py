"""Readers of videos: what a listing gives, which pairs, in which group, and what each data set's files say when they are wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import reader
from relatum.data.frame_pairs import FramePairs
from relatum.data.splits import split
from relatum.data.video_readers import FrameFolders, Videos
from support.clips import captioned, number, pairs, tick
from support.films import film
from support.pictures import noise, png

EXAMPLES = Path(__file__).parents[2] / "examples"


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


def test_pairs_that_are_too_rare_are_not_said_to_be_none(tmp_path: Path) -> None:
    """4 valid frames, 3 + 2 + 1 pairs of 1, 2 and 3 steps of .2 s; with sd = .1, 3 steps need |N| > .5 = 5 sd: 6 in ten million."""
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(16)])
    reading = Videos(tmp_path, cuts=False, sd=0.1)
    count = len(reading.rows())
    assert 3 <= count <= 5
    why = "6 different ones exist, but the law makes the others so rare that 1,000 draws gave none"
    assert reading.skipped == [f"{tmp_path / 'a.mp4'}: {count} of 8 pairs; {why}"]


def test_clips_of_one_recording_are_one_group(tmp_path: Path) -> None:
    """Four clips of two recordings and one that is all of its own; a copy joins its recording to the first one's."""
    lines: list[dict[str, Any]] = []
    for at, video in enumerate(["r", "s", "r", None]):
        film(tmp_path / f"{at}.mp4", [tick(i + at) for i in range(40)])
        lines.append({"file_name": f"{at}.mp4", "text": "x", "video": video})
    listing = tmp_path / "metadata.jsonl"
    listing.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    reading = Videos(tmp_path, cuts=False, per_video=1)
    assert [(row.facts["video"], row.group) for row in reading.rows()] == [
        ("0.mp4", "r"), ("1.mp4", "s"), ("2.mp4", "r"), ("3.mp4", "3.mp4"),
    ]  # fmt: skip
    assert reading.skipped == []
    for seed in range(12):
        sides = [Videos(tmp_path, cuts=False, per_video=1, part=part, held_out=0.5, split_seed=seed) for part in ("train", "test")]
        train, test = ({row.facts["video"] for row in side.rows()} for side in sides)
        assert train | test == {f"{at}.mp4" for at in range(4)}
        assert not train & test
        assert ("0.mp4" in test) == ("2.mp4" in test)
    (tmp_path / "4.mp4").write_bytes((tmp_path / "0.mp4").read_bytes())
    film(tmp_path / "5.mp4", [tick(i + 9) for i in range(40)])
    lines += [{"file_name": f"{at}.mp4", "text": "x", "video": "t"} for at in (4, 5)]
    lines += [{"file_name": "5.mp4", "text": "y", "video": "u"}, {"file_name": "3.mp4", "text": "y", "video": 7}]
    listing.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    reading.on_bad_row = "skip"
    assert [row.group for row in reading.rows()] == ["r", "s", "r", "3.mp4", "r", "r"]
    reasons = ["metadata.jsonl:8: video is int 7", "metadata.jsonl:7 (5.mp4): video is 'u', but", "the same content as r"]
    assert all(any(reason in line for line in reading.skipped) for reason in reasons)
    assert len(reading.skipped) == 4  # the copy, and what follows it into its group


def test_every_container_is_listed_and_captions_without_a_video_are_said(tmp_path: Path) -> None:
    for at, name in enumerate(["a.mp4", "b.ts", "c.flv", "d.MOV"]):
        captioned(tmp_path / name, [tick(i + at) for i in range(40)])
    reading = Videos(tmp_path, cuts=False, per_video=1)
    assert [row.group for row in reading.rows()] == ["a.mp4", "b.ts", "c.flv", "d.MOV"]
    assert reading.skipped == []
    (tmp_path / "gone.txt").write_text("a kite", encoding="utf-8")
    with pytest.raises(DataError, match=r"gone\.txt: captions without a video"):
        reading.rows()
    reading.on_bad_row = "skip"
    assert len(reading.rows()) == 4
    assert [line.partition(": ")[0] for line in reading.skipped] == [str(tmp_path / "gone.txt")]


def test_clips_of_a_listing_through_the_example(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    clips = []
    for at in range(3):
        film(tmp_path / "clips" / f"{at}.mp4", [tick(i + at) for i in range(40)])
        clips.append(json.dumps({"file": f"clips/{at}.mp4", "caption": "x", "from": at // 2}))
    (tmp_path / "list.jsonl").write_text("\n".join(clips), encoding="utf-8")
    for more, groups in (([], ["0.mp4", "1.mp4", "2.mp4"]), (["--group", "from"], ["0", "0", "1"])):
        command = [sys.executable, str(EXAMPLES / "prepare_clips.py"), str(tmp_path / "list.jsonl"), str(tmp_path / "out"), *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
        assert done.returncode == 0, done.stderr
        assert [row.group for row in Videos(tmp_path / "out", cuts=False, per_video=1).rows()] == groups


def test_long_videos_are_left_out_and_listed(tmp_path: Path) -> None:
    """Shown at .2 s a frame, 150 frames last 30 s and are taken; 151 are not, whatever on_bad_row says."""
    captioned(tmp_path / "a.mp4", [tick(i % 100) for i in range(151)], times=[200 * i for i in range(151)])
    captioned(tmp_path / "b.mp4", [tick(i % 90) for i in range(150)], times=[200 * i for i in range(150)])
    reading = Videos(tmp_path, cuts=False)
    assert {row.group for row in reading.rows()} == {"b.mp4"}
    assert reading.skipped == [f"{tmp_path / 'a.mp4'}: lasts 30.20 s; clips over max_seconds = 30 are left out"]
    assert {row.group for row in Videos(tmp_path, cuts=False, max_seconds=0.0).rows()} == {"a.mp4", "b.mp4"}


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
    wanted |= {15: "no caption", 17: "not valid Unicode", 19: "no file name", 21: "expected a JSON object, found list"}
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
