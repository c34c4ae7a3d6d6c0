"""Frames of videos as rows show them: under their times, decoded in one pass, from an index that is reused; and bad files."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.errors import DataError
from relatum.data import footage
from relatum.data.video_readers import Videos
from relatum.engine.cache import encode_rows
from relatum.jobs.opening import open_rows
from relatum.models.codec import Moments
from relatum.recipe import recipe_from
from relatum.tasks.base import Needs
from relatum.video import cuts
from support.clips import captioned, number, pairs, scene, tick
from support.films import cut_short, film, sound


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[Any]:
    """The first arguments of all calls of a function that footage uses."""
    calls: list[Any] = []
    real = getattr(footage, name)

    def count(first: Any, *rest: Any) -> Any:
        calls.append(first)
        return real(first, *rest)

    monkeypatch.setattr(footage, name, count)
    return calls


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


def bad_files() -> Iterator[tuple[str, Callable[[Path], object], str]]:
    frames = scene(2, 60)
    yield "empty.mp4", lambda path: path.write_bytes(b""), "is empty"
    yield "words.mp4", lambda path: path.write_text("not a video, but long enough to be looked at twice " * 9), "is not a video"
    yield "cut.mp4", lambda path: cut_short(film(path, frames), 0.6), "moov"
    yield "sound.mp4", sound, "no video stream"
    yield "cover.mp4", lambda path: sound(path, picture=True), "only an attached picture"
    yield "single.mp4", lambda path: film(path, frames[:1]), "no pair fits: 1 valid frames"
    yield "brief.mp4", lambda path: film(path, frames[:5]), "no pair fits"
    yield "huge.mp4", huge, "9,663,676,416 bytes, the limit is"
    yield "hdr.mp4", lambda path: film(path, frames, transfer=16), "HDR"


def huge(path: Path) -> None:
    """A file with a hole, 9 GiB long, that takes no room."""
    with path.open("wb") as file:
        file.truncate(9 * 2**30)


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


def test_time_stamps_that_jump_back_are_noted(tmp_path: Path) -> None:
    """A transport stream with itself behind it says 0 to 2.36 s twice: the second time is left out and noted."""
    path = film(tmp_path / "a.ts", [tick(i) for i in range(60)])
    path.write_bytes(path.read_bytes() * 2)
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.ts", "text": "x"}), encoding="utf-8")
    reading = Videos(tmp_path, cuts=False)
    rows = reading.rows()
    assert [number(row, "target") for row in rows] == [round(25 * (row.facts["source_time"] + row.facts["offset"])) for row in rows]
    assert any("a.ts): time stamps jump back at 2.36 s; 60 packets" in line for line in reading.skipped)


def test_a_file_that_changes_after_listing_is_refused(tmp_path: Path) -> None:
    """Its latents would be stored under the old content."""
    path = captioned(tmp_path / "a.mp4", [tick(i) for i in range(60)])
    rows = Videos(tmp_path, cuts=False).rows()
    film(path, [tick(i + 20) for i in range(60)])
    with pytest.raises(DataError, match=r"a\.mp4: was changed after it was listed"):
        rows[0].images["source"].pixels(8)
    path.unlink()
    with pytest.raises(DataError, match=r"a\.mp4: cannot be read"):
        rows[0].images["source"].pixels(8)


def test_a_run_keeps_the_index_in_its_cache(tmp_path: Path) -> None:
    """A reader's path is relative to the recipe, the index lies in the cache; an index_folder of one's own stays."""
    data = tmp_path / "data"
    data.mkdir()
    for at in range(6):
        captioned(data / f"{at}.mp4", scene(at, 30))
    train = {"kind": "videos", "path": "data", "cuts": False}
    table: dict[str, Any] = {
        "name": "x",
        "data": {"train": train, "held_out": 0.5, "on_bad_row": "skip"},
        "model": {"pretrained_model_name_or_path": "relatum:toy-edit"},
        "task": {"kind": "frames"},
        "cache_dir": str(tmp_path / "cache"),
    }
    (data / "bad.mp4").write_bytes(b"")
    (data / "bad.txt").write_text("words", encoding="utf-8")
    found = open_rows(recipe_from(table, tmp_path, "x"))
    assert [("bad.mp4" in line) for line in found.skipped] == [True]
    assert len(list((tmp_path / "cache" / "videos").glob("*-times-*.json"))) == 6
    train["index_folder"] = str(tmp_path / "own")
    open_rows(recipe_from(table, tmp_path, "x"))
    assert len(list((tmp_path / "own").iterdir())) == 6


def test_every_constant_of_the_search_for_cuts_is_in_the_index_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is changed, cuts that were found otherwise are not taken from the index."""
    before = footage._settings()
    names = [(of, name) for of in footage.SEARCH for name in vars(of) if name.isupper() and name[0] != "_" and name != "DETECTORS"]
    assert {"TRIM", "MUCH", "BLANK", "WINDOW", "GRID"} <= {name for _, name in names}
    for of, name in names:
        with monkeypatch.context() as changed:
            changed.setattr(of, name, 0.123)
            assert footage._settings() != before
    monkeypatch.setattr(footage, "Rules", lambda: cuts.Rules(ratio=3))
    assert footage._settings() != before
    monkeypatch.undo()
    assert footage._settings() == before
