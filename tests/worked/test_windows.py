"""Whole clips from videos: which frames, where they begin, what is not compared, and what is said of videos that give none."""

from __future__ import annotations

import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch

from relatum.core.errors import DataError, RecipeError
from relatum.data import footage
from relatum.data.clip_reader import ClipReader
from relatum.data.curated import Curated
from relatum.data.rows import ClipRef, Row
from relatum.data.video_readers import FrameFolders, Videos
from relatum.data.windows import WindowLaw, draw_windows, find_places, repeats
from relatum.engine.cache import encode_rows
from relatum.imaging import fit
from relatum.models.codec import Moments
from relatum.tasks.base import Needs
from support.clips import captioned, scene, tick
from support.films import bars, cut_short, film
from support.manifests import kept
from support.pictures import png


def windows(
    times: list[float], law: WindowLaw, shots: list[tuple[int, int]] | None = None, video: str = "v"
) -> list[tuple[int, ...]]:
    shots = shots if shots is not None else [(0, len(times))]
    return [window.frames for window in draw_windows(times, shots, find_places(times, shots, (), law).starts, law, video)]


def every(count: int, gap: float) -> list[float]:
    return [round(i * gap, 6) for i in range(count)]


def ticks(row: Row) -> list[int]:
    """Which ticks the clip of the row shows."""
    levels = row.clips["target"].shot(8).frames.mean((2, 3)) * 127.5 + 127.5
    return [10 * round((red - 30) / 20) + round((blue - 30) / 20) for red, _, blue in levels.tolist()]


def listed(rows: list[Row]) -> list[tuple[Any, ...]]:
    return [(row.id, row.texts["target"], row.facts, row.clips["target"].digest()) for row in rows]


# --- the law


def test_the_nearest_frames_to_equal_distances_are_taken() -> None:
    """25 frames a second, every .1 s: 2.5 frames apart, and of two that are as near the earlier: 0, 2, 5, 7. The last of 13 frames,
    at .48 s, counts for half a gap, to .50: starts 0 to 5, the span being .3 s. From 5: .2, .3, .4, .5 s are 5, 7, 10, 12."""
    law = WindowLaw(4, 0.1, per_video=9)
    found = windows(every(13, 0.04), law)
    assert found[0] == (0, 2, 5, 7)
    assert found[-1] == (5, 7, 10, 12)
    assert [frames[0] for frames in found] == [0, 1, 2, 3, 4, 5]


def test_a_clock_that_rounds_takes_no_frame_away() -> None:
    """30 frames a second in milliseconds: 0, 33, 67, 100; asked for every 1/30 s, four frames make one clip."""
    assert windows([0.0, 0.033, 0.067, 0.1], WindowLaw(4, 1 / 30)) == [(0, 1, 2, 3)]


def test_starts_are_spread_and_more_of_them_change_none() -> None:
    """Of 97 starts eight lie at least 7 apart (the golden ratio leaves no gap under .618^5 of 97, 8.7, and places are rounded down)
    and reach within 16 of both ends. Twenty hold the same eight."""
    times = every(100, 0.04)
    few, many = (windows(times, WindowLaw(4, 0.04, per_video=n)) for n in (8, 20))
    starts = [frames[0] for frames in few]
    assert min(b - a for a, b in pairwise(starts)) >= 7
    assert starts[0] < 17
    assert starts[-1] > 79
    assert set(few) < set(many)
    assert windows(times, WindowLaw(4, 0.04), video="w") != few
    assert windows(times, WindowLaw(4, 0.04, seed=1)) != few
    assert len(set(windows(times, WindowLaw(4, 0.04, per_video=500)))) == 97


def test_all_clips_lie_back_to_back() -> None:
    """Shots of frames 0-10 and 13-24 at 25 a second, four frames every .08 s: 0-6, then from 8 on nothing fits, then 13-19; 21 does
    not fit. Every .04 s: 0-3, 4-7, then 13-16, 17-20, 21-24."""
    times, shots = every(25, 0.04), [(0, 11), (13, 25)]
    assert windows(times, WindowLaw(4, 0.08, per_video=0), shots) == [(0, 2, 4, 6), (13, 15, 17, 19)]
    found = windows(times, WindowLaw(4, 0.04, per_video=0), shots)
    assert [frames[0] for frames in found] == [0, 4, 13, 17, 21]
    assert all(b - a == 1 for frames in found for a, b in pairwise(frames))


def test_variable_rates_are_seconds_too() -> None:
    """Frames at 0, .1, .2, .5, .6 and .7 s, every .1 s: to .2, .3 and .4 nearest are .2, .2 and .5: one is shown twice, and the
    window from .2 is none where that is not wanted."""
    times = [0.0, 0.1, 0.2, 0.5, 0.6, 0.7]
    assert windows(times, WindowLaw(3, 0.1)) == [(0, 1, 2), (1, 2, 2), (2, 2, 3), (3, 4, 5)]
    assert windows(times, WindowLaw(3, 0.1, on_repeat="split")) == [(0, 1, 2), (3, 4, 5)]
    assert windows([0.0], WindowLaw(3, 0.1)) == []
    assert windows([0.0, 1.0], WindowLaw(3, 0.1)) == []  # it would show one frame only


def test_repeats_by_hand() -> None:
    """12 pictures a second shown as 24; a decoder that sticks for four; what is still, comes to rest or is a pause is none."""
    assert repeats([6.0, 0.2, 5.0, 0.3, 7.0]) == [False, True, False, True, False]  # .3 <= a fifth of 5
    assert repeats([6.0, 0.2, 5.0, 1.1, 7.0]) == [False, True, False, False, False]  # 1.1 > 1
    assert repeats([4.0, 0.1, 0.0, 0.3, 0.0, 20.0]) == [False, True, True, True, True, False]
    assert repeats([0.0, 0.1, 0.0, 0.2]) == [False] * 4
    assert repeats([0.0, 5.0, 4.0, 0.1, 0.1]) == [True, False, False, True, True]  # two at an end
    assert repeats([0.0, 0.0, 0.0, 5.0, 4.0, 0.1, 0.1, 0.1]) == [False] * 8  # three: who knows
    assert repeats([4.0, 3.0, 1.0, 0.3, 0.0, 0.0, 0.3, 1.0, 3.0]) == [False] * 9  # .3 is no full step: the median is 1
    assert repeats([]) == []


# --- of files


def test_frames_equal_those_decoded_by_hand(tmp_path: Path) -> None:
    """A video turned by 90 degrees, with B-frames: frames 3, 6, 9 and 12 of PyAV's own order, turned by numpy, cropped, resized."""
    captioned(tmp_path / "a.mp4", [bars(i, 40, 64) for i in range(14)], b_frames=2, turn=90)
    row = next(
        row for row in Videos(tmp_path, cuts=False, frames=4, stride=0.12, per_video=5).rows() if row.facts["source_time"] == 0.12
    )
    with av.open(str(tmp_path / "a.mp4")) as container:
        pictures = [np.rot90(frame.to_ndarray(format="rgb24")).copy() for frame in container.decode(video=0)]
    expected = torch.stack([fit(torch.from_numpy(pictures[i]).permute(2, 0, 1).float() / 127.5 - 1, 16) for i in (3, 6, 9, 12)])
    clip = row.clips["target"]
    assert isinstance(clip, ClipRef)
    assert clip.frames == 4
    frames, joined = clip.shot(16)
    assert (frames - expected).abs().max() <= 1.01 / 127.5  # one level: rounding after resizing
    assert joined.tolist() == [True] * 3
    assert row.texts == {"target": "a caption"}
    assert row.images == {}
    assert row.facts == {"offset": 0.12, "spacing": 0.12, "video": "a.mp4", "source_time": 0.12}


def test_listing_twice_gives_the_same_and_an_edit_another_digest(tmp_path: Path) -> None:
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(30)], "x\ny\nz")
    reading = Videos(tmp_path, cuts=False, frames=4, stride=0.08, per_video=6)
    before = listed(reading.rows())
    assert listed(reading.rows()) == before
    assert {text for _, text, _, _ in before} <= {"x", "y", "z"}
    assert len({digest for *_, digest in before}) == 6
    film(tmp_path / "a.mp4", [tick(i + 1) for i in range(30)])
    after = listed(reading.rows())
    assert [row[:3] for row in after] == [row[:3] for row in before]
    assert not {row[3] for row in after} & {row[3] for row in before}


def test_a_long_video_is_decoded_part_by_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for ten frames of 8 pixels, 25 that are wanted take three passes, and show what they show at once."""
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(25)])
    asked: list[int] = []
    decode = footage.frames_at
    monkeypatch.setattr(footage, "frames_at", lambda line, indices, size: asked.append(len(indices)) or decode(line, indices, size))
    monkeypatch.setattr(footage, "BYTES", 10 * 3 * 8 * 8)
    rows = Videos(tmp_path, cuts=False, frames=5, stride=0.04, per_video=0).rows()
    assert [ticks(row) for row in rows] == [list(range(i, i + 5)) for i in range(0, 25, 5)]
    assert asked == [10, 10, 5]


def test_cuts_split_mask_or_stop(tmp_path: Path) -> None:
    """Frames 0-19 and 20-39 are two shots; 19 and 20, beside the cut, belong to neither. Masked, a clip over frames 17-24 is not
    joined at the steps 18-19, 19-20 and 20-21, its steps 1, 2 and 3. It is one of the nine that begin at 12 to 20."""
    captioned(tmp_path / "a.mp4", [*scene(1, 20), *scene(2, 20)])

    def reading(**settings: Any) -> Videos:
        return Videos(tmp_path, frames=8, stride=0.04, per_video=40, index_folder=str(tmp_path / "index"), **settings)

    split = reading().rows()
    starts = [round(25 * row.facts["source_time"]) for row in split]
    assert starts == [*range(12), *range(21, 33)]
    assert all(row.clips["target"].shot(8).joined.all() for row in split)
    masked = reading(on_cut="mask")
    rows = masked.rows()
    assert len(rows) == 33
    assert "9 of 33 clips cross a cut; frames are not compared across it" in masked.skipped[-1]
    row = next(row for row in rows if round(25 * row.facts["source_time"]) == 17)
    assert row.clips["target"].shot(16).joined.tolist() == [True, False, False, False, True, True, True]
    with pytest.raises(DataError, match=r"a\.mp4: holds a cut near 0\.76 s, and on_cut is 'stop'; cut the file there"):
        reading(on_cut="stop").rows()


def test_too_low_a_rate_is_masked_or_refused(tmp_path: Path) -> None:
    """12.5 frames a second asked for every .04 s: frames 0, 0, 1, 1, 2, the steps 0-1 and 2-3 show one frame twice."""
    captioned(tmp_path / "a.mp4", [tick(3 * i) for i in range(12)], times=[80 * i for i in range(12)])
    captioned(tmp_path / "b.mp4", [tick(i) for i in range(24)])
    masked = Videos(tmp_path, cuts=False, frames=5, stride=0.04, per_video=1)
    rows = masked.rows()
    assert len(rows) == 2
    assert rows[0].clips["target"].shot(8).joined.tolist() == [False, True, False, True]
    assert rows[1].clips["target"].shot(8).joined.tolist() == [True] * 4
    assert "a.mp4: 2 of 4 steps of its clips show a frame twice (12.5 frames/s, stride = 0.04 s)" in masked.skipped[0]
    for how in ("split", "stop"):
        reading = Videos(tmp_path, cuts=False, frames=5, stride=0.04, per_video=1, on_repeat=how, on_bad_row="skip")
        assert [row.facts["video"] for row in reading.rows()] == ["b.mp4"]
        words = "they lie up to 0.08 s apart, so that clips with stride = 0.04 s show some twice"
        assert f"a.mp4: has too few frames: {words}, and on_repeat is {how!r}" in reading.skipped[0]


def test_pictures_shown_twice_by_the_file_are_not_compared(tmp_path: Path) -> None:
    """Every picture is in the file twice, as 12 a second shown as 24: steps between twins are masked. A still is not."""
    captioned(tmp_path / "a.mp4", [bars(i // 2) for i in range(16)])
    captioned(tmp_path / "b.mp4", [bars(3)] * 16)
    twice, still = (
        row.clips["target"].shot(16).joined.tolist() for row in Videos(tmp_path, cuts=False, frames=16, stride=0.04).rows()
    )
    assert twice == [i % 2 == 1 for i in range(15)]
    assert still == [True] * 15


# --- folders of images, and what a curation kept


def test_folders_of_images(tmp_path: Path) -> None:
    """Eight images a second, some of another size, one file no image: each is cropped by itself, and that is said."""
    clip = tmp_path / "data" / "walk"
    clip.mkdir(parents=True)
    for i in range(12):
        (clip / f"{i}.png").write_bytes(png(tick(i, 16 if i < 10 else 24)))
    (clip / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "data" / "walk.txt").write_text("someone walks", encoding="utf-8")
    reading = FrameFolders(tmp_path / "data", rate=8.0, frames=3, stride=0.25, per_video=0)
    rows = reading.rows()
    assert [ticks(row) for row in rows] == [[0, 2, 4], [6, 8, 10]]
    assert [row.texts["target"] for row in rows] == ["someone walks"] * 2
    assert reading.skipped == [f"{clip}: images of 2 sizes: 16 x 16 (10), 24 x 24 (2); each is cropped by itself"]
    (clip / "8.png").write_bytes(b"no image")
    assert len(reading.rows()) == 2
    with pytest.raises(DataError, match=r"8\.png"):
        reading.rows()[1].clips["target"].shot(8)


def test_clips_of_a_curation_lie_in_what_was_kept(tmp_path: Path) -> None:
    """Of 60 frames 5-24 and 40-59 are kept: clips of five frames every .08 s span nine frames, two of each back to back."""
    path = film(tmp_path / "long.mp4", [tick(i) for i in range(60)])
    run = kept(tmp_path / "run", [(path, [(5, 25), (40, 60)])], captions=[("image", "it counts", 1.0)])
    rows = Curated(run, frames=5, stride=0.08, per_video=0).rows()
    assert [ticks(row)[0] for row in rows] == [5, 15, 40, 50]
    assert ticks(rows[3]) == [50, 52, 54, 56, 58]
    assert {row.texts["target"] for row in rows} == {"it counts"}
    with pytest.raises(RecipeError, match="what was kept holds no cuts"):
        Curated(run, frames=5, stride=0.08, on_cut="mask")


# --- what is wrong


def test_videos_that_give_no_clip_are_named(tmp_path: Path) -> None:
    captioned(tmp_path / "short.mp4", [tick(i) for i in range(9)])
    captioned(tmp_path / "good.mp4", [tick(i) for i in range(40)], "a caption of several")
    captioned(tmp_path / "one.mp4", [tick(5)])
    captioned(tmp_path / "twin.mp4", [tick(i + 3) for i in range(40)], "a caption of several")
    film(tmp_path / "silent.mp4", [tick(i) for i in range(40)])
    cut_short(Path(shutil.copy(tmp_path / "good.mp4", tmp_path / "torn.mp4")), 0.5)
    shutil.copy(tmp_path / "good.txt", tmp_path / "torn.txt")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "empty.txt").write_text("nothing", encoding="utf-8")
    reading = Videos(tmp_path, cuts=False, frames=8, stride=0.08, per_video=2, on_bad_row="skip")
    rows = reading.rows()
    assert {row.group for row in rows} == {"good.mp4", "twin.mp4"}
    said = {Path(line.split(":")[0]).name: line for line in reading.skipped}
    assert set(said) == {
        "short.mp4",
        "one.mp4",
        "silent.mp4",
        "torn.mp4",
        "empty.mp4",
        "2 videos share one caption, 'a caption of several'; nothing is left out",
    }
    short = "8 frames every 0.08 s span 0.56 s; the video has 9 frames in 0.36 s, 1 shot, the longest of 0.32 s (9 frames)"
    assert f"no clip fits: {short}; leave it out, or lower frames or stride" in said["short.mp4"]
    assert "the video has 1 frame in" in said["one.mp4"]
    assert "no caption" in said["silent.mp4"]
    with pytest.raises(DataError, match=r"empty\.mp4.*is empty"):
        Videos(tmp_path, cuts=False, frames=8, stride=0.08).rows()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"frames": 8}, "stride is 0.0, expected the seconds between two frames"),
        ({"frames": 1, "stride": 0.1}, "frames is 1, expected 2 to 1024"),
        ({"stride": 0.1}, "stride = 0.1 is a setting of clips; say how many frames"),
        ({"on_cut": "mask"}, "on_cut = 'mask' is a setting of clips"),
        ({"frames": 8, "stride": 0.1, "sd": 1.0}, "sd = 1.0 is a setting of pairs of frames, and frames = 8 asks for clips"),
        ({"frames": 8, "stride": 0.1, "law": "next"}, "law = 'next' is a setting of pairs"),
        ({"frames": 8, "stride": 0.1, "per_video": -1}, "per_video is -1"),
        ({"frames": 8, "stride": 0.1, "max_seconds": -1.0}, "max_seconds is -1.0"),
        ({"per_video": 0}, "per_video is 0, expected 1 or more"),
        ({"frames": 8, "stride": 0.1, "on_cut": "mask", "cuts": False}, "needs to know the cuts"),
    ],
)
def test_settings_that_mean_nothing_are_refused(tmp_path: Path, settings: dict[str, Any], words: str) -> None:
    assert issubclass(Videos, ClipReader)
    with pytest.raises(RecipeError, match=words):
        Videos(tmp_path, **settings)


def test_folders_have_no_cuts_to_be_told_about(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="each folder is taken as one shot"):
        FrameFolders(tmp_path, frames=8, stride=0.1, on_cut="stop")


# --- encoded


class Means:
    """A codec whose latents are the means of 8 x 8 cells."""

    fingerprint, factor = "means", 8

    def encode(self, pixels: torch.Tensor) -> Moments:
        cells = torch.nn.functional.avg_pool2d(pixels, 8)
        return Moments(cells, torch.zeros_like(cells))


def test_clips_of_two_lengths_are_one_error_or_left_out(tmp_path: Path) -> None:
    """Those of the first row's length stay, each with what its frames are and which of them belong together."""
    captioned(tmp_path / "a.mp4", [tick(i) for i in range(12)])
    three, two = (Videos(tmp_path, cuts=False, frames=n, stride=0.04, per_video=0).rows() for n in (3, 2))
    needs = Needs(clips=("target",))
    rows = [replace(row, id=f"{i}", where=f"row {i}") for i, row in enumerate([three[0], two[5], three[2]])]
    with pytest.raises(
        DataError, match=r"row 1: the clip 'target' has 2 frames, that of row 0 3; all clips of a data set have the"
    ):
        encode_rows(rows, needs, 16, Means(), None, tmp_path / "cache")
    encoded = encode_rows(rows, needs, 16, Means(), None, tmp_path / "cache", on_bad_row="skip")
    assert encoded.ids == ["0", "2"]
    assert len(encoded.skipped) == 1
    batch = encoded.batch([0, 1])
    assert batch.moments["target"].mean.shape == (2, 3, 3, 2, 2)
    assert torch.equal(batch.joined["target"], torch.ones(2, 2, dtype=torch.bool))
    pairs = Videos(tmp_path, cuts=False, per_video=1, sd=0.1).rows()
    with pytest.raises(DataError, match=r"no clip 'target'.*found: none; readers of videos give clips where they are told frames"):
        encode_rows(pairs, needs, 16, Means(), None, tmp_path / "cache")
