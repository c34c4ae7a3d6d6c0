"""Clips of a video: cuts, trims, lengths and what is left out, by hand on tracks; and on a film with everything in it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import relatum.curation.stages  # noqa: F401 - registers them
from relatum.core.errors import RecipeError
from relatum.core.registry import stage
from relatum.curation.base import Measure, Split, Track, Video
from relatum.curation.stages.cuts import Cuts
from relatum.curation.stages.shots import Divided, Fixed, Shots, Whole
from relatum.video.cuts import Rules
from relatum.video.reader import Reader
from relatum.video.timeline import Timeline, read_timeline
from support.films import film

NAMES = "unlike", "beside", "back", "mix", "mix_begin", "mix_end", "mix_unlike", "histogram_1"


def video(times: list[float], clock: int = 90000) -> Video:
    """With stamps that begin at 1000."""
    gap = times[-1] - times[-2]
    stamps = tuple(1000 + round(t * clock) for t in times)
    return Video("c0ffee", Timeline(Path("x"), tuple(times), (0,), 8, 6, 0, 10.0, times[-1] + gap, False, (), stamps))


def track(times: list[float], cuts: tuple[float, ...] = (), mix: tuple[float, float] | None = None) -> dict[str, np.ndarray]:
    """Changes of 1, of 60 at cuts; contrast 40 throughout."""
    found = {name: np.full(len(times), np.nan) for name in NAMES}
    found |= {"time": np.array(times), "luma": np.full(len(times), 90.0), "spread": np.full(len(times), 40.0)}
    found["change"] = np.array([60.0 if t in cuts else 1.0 for t in times])
    if mix is not None:
        row = int(np.searchsorted(times, sum(mix) / 2))
        for name, value in zip(("mix", "mix_begin", "mix_end", "mix_unlike"), (0.1, *mix, 0.9), strict=True):
            found[name][row] = value
    return found


def tenths(count: int) -> list[float]:
    return [i / 10 for i in range(count)]


def spans(divided: Divided) -> list[tuple[float, float, str, str]]:
    return [(round(clip.start, 3), round(clip.end, 3), clip.begins, clip.ends) for clip in divided.clips]


def test_shots_by_hand() -> None:
    """Ten frames a second, 30 s: a cut at 5 s, a mixture from 9 to 10 s, frames 200 and 201 failed.

    Frames 49 and 50 beside the cut are trimmed: 0-4.9 and from 5.1. The mixture takes 8.5 to 10.5 s, frames 85 to 105. Up to frame
    199: 10.6-20. From 202: 20.2-30, 9.8 s. 10.6-20 are 9.4 s. With a least length of 4, 5.1-8.5 (3.4 s) is too short.
    """
    times = tenths(300)
    seen: dict[str, np.ndarray] = {
        name: np.delete(values, [200, 201]) for name, values in track(times, (5.0,), (9.0, 10.0)).items()
    }
    found = Shots().divide(video(times), {"cuts": seen})
    assert spans(found) == [
        (0.0, 4.9, "edge", "hard"),
        (5.1, 8.5, "hard", "gradual"),
        (10.6, 20.0, "gradual", "damage"),
        (20.2, 30.0, "damage", "edge"),
    ]
    assert found.shots == 4
    assert {name: (count, round(seconds, 3)) for name, (count, seconds) in found.lost.items()} == {
        "hard": (1, 0.2),
        "gradual": (1, 2.1),
        "damage": (1, 0.2),
    }
    longer = Shots(min_seconds=4.0).divide(video(times), {"cuts": seen})
    assert longer.shots == 4
    assert longer.lost["too short"] == (1, pytest.approx(3.4))
    assert spans(longer) == [one for one in spans(found) if one[0] != 5.1]


def test_clips_and_what_is_lost_make_up_the_video() -> None:
    times = tenths(431)
    for long in ("equal", "stride"):
        found = Shots(long=long, max_seconds=6.0).divide(video(times), {"cuts": track(times, (3.0, 3.5, 30.1), (20.0, 22.0))})
        assert sum(clip.seconds for clip in found.clips) + sum(seconds for _, seconds in found.lost.values()) == pytest.approx(43.1)
        assert all(2 <= clip.seconds <= 6.1 for clip in found.clips)


def test_longer_shots_are_split() -> None:
    """13 s, at most 5: three parts of 4.333 s begin at the first frames at or after 4.333 and 8.667: 4.4 and 8.7. Strides: 5, 5, 3.

    11 s in strides leave 1 s, less than 2, which is a tail; so do parts of 11 / 3 s where 4 s is the least.
    """
    times, eleven = tenths(130), tenths(110)
    equal = Shots(max_seconds=5.0).divide(video(times), {"cuts": track(times)})
    assert spans(equal) == [(0.0, 4.4, "edge", "split"), (4.4, 8.7, "split", "split"), (8.7, 13.0, "split", "edge")]
    stride = Shots(max_seconds=5.0, long="stride")
    assert [one[:2] for one in spans(stride.divide(video(times), {"cuts": track(times)}))] == [(0, 5), (5, 10), (10, 13)]
    for shots in (stride, Shots(max_seconds=5.0, min_seconds=4.0)):
        found = shots.divide(video(eleven), {"cuts": track(eleven)})
        assert spans(found) == [(0.0, 5.0, "edge", "split"), (5.0, 10.0, "split", "split")]
        assert found.lost == {"tail": (1, pytest.approx(1.0))}


def test_no_trim_still_ends_a_shot_at_a_cut() -> None:
    times = tenths(60)
    found = Shots(trim_hard=0).divide(video(times), {"cuts": track(times, (3.0,))})
    assert (spans(found), found.lost) == ([(0.0, 3.0, "edge", "hard"), (3.0, 6.0, "hard", "edge")], {})


def test_ids_and_stamps_are_of_the_files_clock() -> None:
    """A variable rate: 3 s at 10 a second, then one frame a second. The cut is at 5 s, the 33rd frame.

    The first clip's last frame is the 31st (3 s, stamp 1000 + 3 x 90000), shown until 4 s: the one at 4 s is trimmed.
    """
    times = [*tenths(30), 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]
    clips = Shots().clips(video(times), {"cuts": track(times, (5.0,))})
    first, second = clips
    assert (first.first, first.stop, first.start, first.end) == (0, 31, 0.0, 4.0)
    assert (first.first_stamp, first.stop_stamp) == (1000, 1000 + 3 * 90000 + 1)
    assert (second.first, second.stop, second.start, second.end) == (33, 37, 6.0, 10.0)
    assert first.id == "ab9e725d4e0c0bf97bd0aa78"  # of "c0ffee 1000 271001"
    other = dataclasses.replace(video(times), content="other")
    assert {clip.id for clip in clips}.isdisjoint(clip.id for clip in Shots().clips(other, {"cuts": track(times, (5.0,))}))


def test_whole_and_fixed() -> None:
    """12.5 s in windows of 5 s: two, and a tail of 2.5 s that counts from min_seconds = 2 on; or one every 6 s."""
    times = tenths(125)
    assert spans(Whole().divide(video(times), {})) == [(0.0, 12.5, "edge", "edge")]
    found = Fixed().divide(video(times), {})
    assert spans(found) == [(0.0, 5.0, "edge", "split"), (5.0, 10.0, "split", "split")]
    assert found.lost == {"tail": (1, pytest.approx(2.5))}
    assert spans(Fixed(min_seconds=2.0).divide(video(times), {}))[2] == (10.0, 12.5, "split", "edge")
    assert [one[:2] for one in spans(Fixed(every=6.0).divide(video(times), {}))] == [(0, 5), (6, 11)]
    assert [one[:2] for one in spans(Fixed().divide(video(tenths(100)), {}))] == [(0, 5), (5, 10)]


def test_a_film(tmp_path: Path) -> None:
    """2.4 s, a cut, 3 s that end in a fade to black of .8 s and .4 s of black, and 2.6 s after a fade of .6 s."""
    random = np.random.default_rng(0)
    scenes = [picture(random) for _ in range(3)]
    frames = [moved(scenes[0], i) for i in range(60)] + [moved(scenes[1], i) for i in range(75)]
    frames += [(moved(scenes[1], 75 + i) * (1 - i / 20)).astype(np.uint8) for i in range(20)] + [np.zeros_like(frames[0])] * 10
    frames += [(moved(scenes[2], i) * (i / 15)).astype(np.uint8) for i in range(15)] + [moved(scenes[2], i) for i in range(15, 80)]
    timeline = read_timeline(film(tmp_path / "a.mp4", frames))
    measure = Cuts(detectors=("adaptive", "content", "hash", "histogram", "threshold", "dissolve", "fade"), rates=(1.0, 3.0))
    assert isinstance(measure, Measure)
    seen: Track = watched(measure, timeline)
    found = Shots().divide(Video("content", timeline), {"cuts": seen})
    assert [(clip.begins, clip.ends) for clip in found.clips] == [("edge", "hard"), ("hard", "gradual"), ("gradual", "edge")]
    assert (found.clips[0].stop, found.clips[1].first) == (59, 61)
    assert found.clips[1].end == pytest.approx(5.4 - 0.5, abs=0.15)  # the fade begins at 135 / 25 s, .5 s are trimmed
    assert found.clips[2].start == pytest.approx(7.2 + 0.5, abs=0.15)
    assert [measure.facts(seen, clip) for clip in found.clips] == [{"failed": 0}] * 3
    for name in ("content", "hash", "histogram"):
        cuts = Shots(min_seconds=0.1, rules=Rules(detectors=(name,))).divide(Video("content", timeline), {"cuts": seen})
        assert cuts.clips[0].stop == 59, name
    faded = Shots(rules=Rules(detectors=("threshold",))).divide(Video("content", timeline), {"cuts": seen})
    assert [clip.stop for clip in faded.clips][:1] == [pytest.approx(159, abs=4)]  # amid the black
    apart = set(watched(Cuts(rates=(3.0,)), timeline)) ^ set(watched(Cuts(), timeline))
    assert apart == {"histogram_3", "histogram_1"}


def picture(random: np.random.Generator) -> np.ndarray:
    coarse = random.uniform(20, 230, (6, 9, 3))
    return np.kron(coarse, np.ones((20, 20, 1))).astype(np.uint8)


def moved(scene: np.ndarray, step: int) -> np.ndarray:
    return np.ascontiguousarray(scene[10:82, 20 + step // 3 : 148 + step // 3])


def watched(measure: Cuts, timeline: Timeline) -> Track:
    watch = measure.watch(Video("content", timeline))
    with Reader(timeline, seeks=False) as reader:
        for index, decoded in reader.frames():
            watch.see(reader.frame(index, decoded))
    return watch.track()


def test_splits_are_splits_by_name() -> None:
    for name, kind in (("shots", Shots), ("whole", Whole), ("fixed", Fixed)):
        built = stage.build({"kind": name}, "split")
        assert isinstance(built, kind)
        assert isinstance(built, Split)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "shots", "min_seconds": 5, "max_seconds": 4}, "min_seconds <= max_seconds"),
        ({"kind": "shots", "trim_hard": -1}, "trims of 0 or more"),
        ({"kind": "shots", "rules": {"detectors": ["adaptiv"]}}, "found 'adaptiv'"),
        ({"kind": "shots", "rules": {"ratio": -1.0}}, "ratio of 0 or more"),
        ({"kind": "cuts", "detectors": ["fast"]}, "found 'fast'"),
        ({"kind": "cuts", "rates": [0.0]}, "above 0"),
        ({"kind": "fixed", "seconds": 0}, "seconds of 0.1 or more"),
        ({"kind": "fixed", "seconds": 5, "every": 4}, "at least the 5"),
    ],
)
def test_bad_settings(table: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        stage.build(table, "split")


def test_what_was_not_recorded_is_named() -> None:
    times = tenths(30)
    with pytest.raises(RecipeError, match=r"\[measure.cuts\] has not recorded 'hash'"):
        Shots(rules=Rules(detectors=("hash",))).clips(video(times), {"cuts": track(times)})
    with pytest.raises(RecipeError, match="no measure is named 'cuts'; measured are motion"):
        Shots().clips(video(times), {"motion": track(times)})
