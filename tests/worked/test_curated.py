"""Rows of frame pairs drawn from what a curation kept, out of the original videos; and runs that cannot be read."""

from __future__ import annotations

import shutil
import tarfile
from collections import Counter
from pathlib import Path

import pytest

from relatum.core.errors import DataError
from relatum.data.curated import Curated
from relatum.data.rows import Row
from relatum.data.splits import split
from support.clips import number, pairs, tick
from support.films import film
from support.manifests import clip_of, kept, table


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Frames that tell their number, 25 a second; that of "late" have other times and a clock that begins elsewhere."""
    folder = tmp_path_factory.mktemp("videos")
    times = [400 + 40 * i + (i % 3) for i in range(70)]
    return {
        "long": film(folder / "long.mp4", [tick(i) for i in range(100)]),
        "short": film(folder / "short.mp4", [tick(i, 48) for i in range(50)]),
        "late": film(folder / "late.mkv", [tick(i, 40) for i in range(70)], times=times),
    }


def reach(row: Row) -> set[int]:
    return {number(row, name) for name in row.images}


def test_pairs_lie_within_kept_clips_under_their_times(tmp_path: Path, videos: dict[str, Path]) -> None:
    """Frames 10-39 and 60-94 of 100 are kept, 40-59 are a clip that was dropped: no frame of a row is any other one, all clips are
    drawn from, and what a row shows is what its times say at 25 frames/s."""
    long = videos["long"]
    run = kept(tmp_path, [(long, [(10, 40), (40, 60), (60, 95)])], dropped=[clip_of(long, 40, 60)])
    rows = Curated(run, past=2, spacing=0.2, sd=0.4, per_video=20).rows()
    assert len(rows) == 20
    sides = Counter()
    for row in rows:
        at, offset = (round(25 * row.facts[name]) for name in ("source_time", "offset"))
        assert [number(row, name) for name in ("past.2", "source", "target")] == [at - 5, at, at + offset]
        low, high = (10, 39) if at < 40 else (60, 94)
        assert all(low <= frame <= high for frame in reach(row))
        sides[low] += 1
        assert row.facts["spacing"] == 0.2
    assert set(sides) == {10, 60}


def test_every_video_has_the_same_quota_however_many_clips_it_gave(tmp_path: Path, videos: dict[str, Path]) -> None:
    """Five clips of one video, one of another: six pairs of each; the group is the video, or the one that the inputs named."""
    ranges = [(i, i + 18) for i in range(0, 100, 20)]
    films = [(videos["long"], ranges), (videos["short"], [(0, 50)]), (videos["late"], [(5, 66)])]
    run = kept(tmp_path, films, groups={videos["short"]: "pair", videos["late"]: "pair"})
    reading = Curated(run, per_video=6, sd=0.4)
    rows = reading.rows()
    assert reading.skipped == []
    assert sorted(Counter(row.facts["video"] for row in rows).values()) == [6, 6, 6]
    assert sorted(Counter(row.group for row in rows).values()) == [6, 12]
    assert len({row.facts["video"] for row in rows if row.group == "pair"}) == 2
    train, test = split(rows, 6, seed=0)
    assert not {row.group for row in train} & {row.group for row in test}
    sides = [Curated(run, part=part, held_out=0.5, per_video=6, sd=0.4).rows() for part in ("train", "test")]
    assert sorted(row.id for side in sides for row in side) == sorted(row.id for row in rows)
    assert not {row.group for row in sides[0]} & {row.group for row in sides[1]}


def test_a_target_is_redrawn_and_never_clamped(tmp_path: Path, videos: dict[str, Path]) -> None:
    """In a clip of 21 frames, grid times 0, .2, .4, .6 and .8 s, with sd far beyond it: offsets are those that fit, and the last
    frame is no more often a target than by the law. Of the ten pairs (source, steps) each is taken once: 4 lead to the last."""
    rows = Curated(kept(tmp_path, [(videos["long"], [(0, 21)])]), sd=3.0, per_video=50).rows()
    assert len(rows) == 10
    ends = Counter(round(5 * (row.facts["source_time"] + row.facts["offset"])) for row in rows)
    assert ends == {1: 1, 2: 2, 3: 3, 4: 4}


def test_captions_are_drawn_by_their_weights(tmp_path: Path, videos: dict[str, Path]) -> None:
    """Weights .5, .25, .25 and 0 over 300 draws: 150 ± 4 * 8.7 and 75 ± 4 * 7.5 of them. One caption of weight 0 is never drawn."""
    said = [("image", "one", 0.5), ("video", "two", 0.25), ("merged", "three", 0.25), ("title", "never", 0.0)]
    run = kept(tmp_path, [(videos["long"], [(0, 50), (50, 100)])], captions=said)
    rows = Curated(run, law="uniform", horizon=1.8, grid=0.04, per_video=300).rows()
    found = Counter(row.texts["instruction"] for row in rows)
    assert set(found) == {"one", "two", "three"}
    assert abs(found["one"] - 150) < 35
    assert abs(found["two"] - 75) < 30
    assert all(row.texts["instruction"] == row.texts["target"] for row in rows)
    again = Curated(run, law="uniform", horizon=1.8, grid=0.04, per_video=20).rows()
    assert pairs(again) == pairs(rows[:20])


def test_a_clip_without_a_caption_is_an_error_or_left_out(tmp_path: Path, videos: dict[str, Path]) -> None:
    run = kept(tmp_path, [(videos["long"], [(0, 40), (60, 100)])])
    said = [{"clip_id": clip_of(videos["long"], 0, 40), "kind": "title", "text": "a title", "weight": None}]
    table(run / "captions.parquet", said)
    with pytest.raises(DataError, match=r"long\.mp4: the clip from 2\.40 to 4\.00 s has no caption"):
        Curated(run).rows()
    reading = Curated(run, on_bad_row="skip", per_video=5, sd=0.3)
    assert all(max(reach(row)) < 40 for row in reading.rows())
    assert reading.skipped == ["long.mp4: the clip from 2.40 to 4.00 s has no caption"]


def test_videos_that_changed_or_are_gone_are_named(tmp_path: Path, videos: dict[str, Path]) -> None:
    here = {name: Path(shutil.copy(path, tmp_path / path.name)) for name, path in videos.items()}
    run = kept(tmp_path / "run", [(path, [(0, 40)]) for path in here.values()])
    shutil.copy(videos["short"], here["long"])
    here["late"].unlink()
    reading = Curated(run, on_bad_row="skip", per_video=3, sd=0.3)
    assert len(reading.rows()) == 3
    assert len(reading.skipped) == 2
    assert any("long.mp4: was changed after it was curated" in line for line in reading.skipped)
    assert any("late.mkv" in line and "No such file" in line for line in reading.skipped)
    with pytest.raises(DataError, match=r"late\.mkv|long\.mp4"):
        Curated(run).rows()


def test_a_video_in_a_tar_is_read_from_a_copy(tmp_path: Path, videos: dict[str, Path]) -> None:
    """The same rows as from the file itself; a twin that is still there stands in for a source that is gone."""
    run = kept(tmp_path / "run", [(videos["short"], [(0, 40)])])
    plain = Curated(run, per_video=4, sd=0.3).rows()
    with tarfile.open(tmp_path / "videos.tar", "w") as tar:
        tar.add(videos["long"], "a.mp4")
        tar.add(videos["short"], "b.mp4")
    with tarfile.open(tmp_path / "videos.tar") as tar:
        member = tar.getmember("b.mp4")
    from pyarrow import parquet

    source = parquet.read_table(run / "sources.parquet").to_pylist()[0]
    place = {"path": str(tmp_path / "videos.tar"), "offset": member.offset_data, "size": member.size}
    table(run / "sources.parquet", [{**source, "path": "gone.mp4"}, {**source, **place, "uri": "videos.tar:b.mp4"}])
    with pytest.raises(DataError, match=r"short\.mp4: lies in a tar; name an index_folder"):
        Curated(run).rows()
    rows = Curated(run, per_video=4, sd=0.3, index_folder=str(tmp_path / "index")).rows()
    assert pairs(rows) == pairs(plain)
    assert [reach(row) for row in rows] == [reach(row) for row in plain]


def test_runs_that_are_not_finished_say_so(tmp_path: Path, videos: dict[str, Path]) -> None:
    run = kept(tmp_path / "run", [(videos["short"], [(0, 20), (25, 45)])])
    (run / "decisions.parquet").rename(tmp_path / "kept-aside")
    with pytest.raises(DataError, match=r"decisions\.parquet: no such table; the curation was not finished"):
        Curated(run).rows()
    one = {"clip_id": clip_of(videos["short"], 0, 20), "keep": True}
    table(run / "decisions.parquet", [one])
    with pytest.raises(DataError, match="1 of 2 clips have no decision"):
        Curated(run).rows()
    table(run / "decisions.parquet", [{**one, "keep": False}, {"clip_id": clip_of(videos["short"], 25, 45), "keep": False}])
    with pytest.raises(DataError, match="no clip is kept"):
        Curated(run).rows()
    (run / "clips.parquet").write_bytes((tmp_path / "kept-aside").read_bytes()[:-9])
    with pytest.raises(DataError, match=r"clips\.parquet: cannot be read"):
        Curated(run).rows()
    with pytest.raises(DataError, match=r"holds no clips\.parquet"):
        Curated(tmp_path).rows()
