"""Cuts on toy videos with known ones, shots by hand, and the hand-checked clips."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from relatum.video.cuts import Cuts, _breaks, decide, find_cuts, shots, widened
from relatum.video.decode import Reader, Timeline, read_timeline
from support.films import film


def scene(kind: int, step: int) -> np.ndarray:
    """(h w 3) uint8: a smooth pattern that moves one pixel a frame; kinds differ in color, brightness and pattern."""
    y, x = np.mgrid[:72, :96]
    wave = np.sin((x + step) / (5 + 3 * kind) + kind) + np.cos((y - step) / (4 + 2 * kind))
    base = np.array([(60, 90, 160), (190, 170, 60), (40, 150, 70), (120, 40, 140)][kind])
    return np.clip(base + 20 * wave[..., None], 0, 255).astype(np.uint8)


def made(path: Path) -> Path:
    """At 25 frames/s: kind 0 to frame 40, kind 1 to 75, kind 2 to 125, dissolved into kind 3 by frame 175, kind 3 to 225."""
    frames = [scene(0, i) for i in range(40)] + [scene(1, i) for i in range(40, 75)] + [scene(2, i) for i in range(75, 125)]
    mix = [
        (scene(2, i) * (1 - w) + scene(3, i) * w).astype(np.uint8)
        for i, w in zip(range(125, 175), np.linspace(0, 1, 50), strict=True)
    ]
    return film(path, frames + mix + [scene(3, i) for i in range(175, 225)], gop=30, b_frames=2)


def test_hard_cuts_and_a_dissolve(tmp_path: Path) -> None:
    """Cuts at 40 / 25 = 1.6 s and 75 / 25 = 3 s; the dissolve lasts from 5 to 7 s."""
    timeline = read_timeline(made(tmp_path / "a.mp4"))
    cuts = find_cuts(timeline)
    assert cuts.hard == pytest.approx((1.6, 3.0))
    assert len(cuts.gradual) == 1
    begin, end = cuts.gradual[0]
    assert begin <= 5.2
    assert end >= 6.8
    assert (cuts.decoded, cuts.failed, cuts.failed_times) == (225, 0, ())
    found = shots(timeline, cuts)
    assert found[:2] == [(0, 39), (41, 74)]
    assert found[2][0] == 76
    assert not any(first < place < last for first, last in found for place in (40, 75, 150))
    assert found[-1][1] == 225


def test_cuts_do_not_depend_on_the_frame_rate_being_constant(tmp_path: Path) -> None:
    """The same moments with frames left out: shots of 1.6 s, the cut still at 1.6 s."""
    keep = [i for i in range(80) if i % 7 not in (2, 3) or i in (39, 40)]
    frames = [scene(0 if i < 40 else 1, i) for i in keep]
    timeline = read_timeline(film(tmp_path / "v.mp4", frames, [40 * i for i in keep]))
    assert timeline.variable
    assert find_cuts(timeline).hard == pytest.approx((1.6,))


@pytest.mark.parametrize(
    "lengths",
    [[50, 10, 50], [12, 60], [8, 60], [3, 60], [60, 3], [20, 7, 7, 7, 40], [2, 40], [1, 40], [40, 2], [40, 1], [30, 3, 3, 3, 30]],
)
def test_no_shot_crosses_a_cut_however_close(tmp_path: Path, lengths: list[int]) -> None:
    """Close to each other, to the start and to the end: every cut is found, and each shot lies in one scene."""
    path = film(tmp_path / "a.mp4", [scene(kind % 4, i) for i, kind in enumerate(of(lengths))])
    timeline = read_timeline(path)
    cuts = find_cuts(timeline)
    assert cuts.hard == pytest.approx([sum(lengths[:i]) / 25 for i in range(1, len(lengths))])
    found = shots(timeline, cuts)
    assert all(len(set(of(lengths)[first:last])) == 1 for first, last in found)
    assert sum(last - first for first, last in found) == sum(
        max(length - (i > 0) - (i < len(lengths) - 1), 0) for i, length in enumerate(lengths)
    )


def of(lengths: list[int]) -> list[int]:
    """The scene's number of each frame."""
    return [kind for kind, length in enumerate(lengths) for _ in range(length)]


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([1], [(0, 1)]), ([2], [(0, 2)]), ([1, 1], []), ([5], [(0, 5)]), ([3, 2], [(0, 2), (4, 5)]), ([2, 7], [(0, 1), (3, 9)])],
)
def test_short_clips(tmp_path: Path, lengths: list[int], expected: list[tuple[int, int]]) -> None:
    """Nothing but the frames beside a cut is lost, and of two frames of different scenes both lie beside one."""
    timeline = read_timeline(film(tmp_path / "a.mp4", [scene(kind, i) for i, kind in enumerate(of(lengths))]))
    assert shots(timeline, find_cuts(timeline)) == expected


def test_breaks_by_hand() -> None:
    """Changes of 4, but 60 at 2 and at 6, 20 at 9, 14 at 13.

    60 at 2 is compared with 1, 3, 4, 5, 6, 7: (4 + 4 + 4 + 4 + 60 + 4) / 6 = 13.3, 60 > 3.5 x 13.3 = 46.7. 60 at 6 with 3 to 9:
    (4 + 4 + 4 + 4 + 4 + 20) / 6 = 6.7. 20 at 9 first with 6 to 12: (60 + 5 x 4) / 6 = 13.3, no; then without 6: 4, 20 > 14.
    14 at 13 (with 10 to 15 and 9, the end being at 15) is less than 15. As much from each frame to the next: no cut.
    """
    changes = [0.0] + [4.0] * 15
    changes[2], changes[6], changes[9], changes[13] = 60.0, 60.0, 20.0, 14.0
    assert _breaks(changes) == [2, 6, 9]
    assert _breaks([0.0] + [40.0] * 6) == []
    assert _breaks([0.0, 15.0]) == [1]
    assert _breaks([0.0, 14.9]) == []
    assert _breaks([0.0]) == _breaks([]) == []


def test_inside_a_video_cuts_are_those_of_adaptive_detector(tmp_path: Path) -> None:
    """Five scenes at least eight frames long, against PySceneDetect's own detector."""
    from scenedetect.common import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    frames = [scene(kind % 4, 3 * i) for i, kind in enumerate(of([11, 8, 9, 30, 12]))]
    timeline = read_timeline(film(tmp_path / "a.mp4", frames))
    detector = AdaptiveDetector(adaptive_threshold=3.5, min_scene_len=0, window_width=3)
    with Reader(timeline, seeks=False) as reader:
        found = [
            cut
            for index, frame in reader.frames()
            for cut in detector.process_frame(FrameTimecode(index, 25.0), reader.frame(index, frame).bgr(72))
        ]
    assert len(found) == 4
    assert find_cuts(timeline).hard == pytest.approx([cut.seconds for cut in found])


def view(random: np.random.Generator, x: float = 0.0) -> np.ndarray:
    """(72 96 3) float: noise of three grains, moved by x pixels; the generator decides which."""
    whole = sum(np.kron(random.normal(size=(72 // g, 240 // g)), np.ones((g, g))) for g in (2, 6, 12))
    shift = np.array([np.interp(np.arange(96) + 48 + x, np.arange(240), row) for row in np.asarray(whole)])
    return 110 + 25 * shift[..., None] + np.array([20.0, 0.0, -20.0])


def seen(path: Path, frames: list[np.ndarray]) -> Cuts:
    return find_cuts(read_timeline(film(path, [frame.clip(0, 255).astype(np.uint8) for frame in frames])))


def test_light_and_motion_are_no_cuts(tmp_path: Path) -> None:
    """Two frames of flash, a lamp that goes out, a jerk of 6 pixels of 96, a title on plain gray: changes, but of one scene."""
    slow = [view(np.random.default_rng(1), i / 4) for i in range(60)]
    flash = [255 - (255 - frame) * 0.15 if i in (30, 31) else frame for i, frame in enumerate(slow)]
    lamp = [frame * (0.4 if i >= 30 else 1) for i, frame in enumerate(slow)]
    jerk = [view(np.random.default_rng(1), 0 if i < 30 else 6) for i in range(60)]
    plain = np.full((72, 96, 3), 100.0)
    title = [plain + (np.arange(96) % 12 < 6)[:, None] * (np.arange(72) > 60)[:, None, None] * 2.0 * min(i, 50) for i in range(75)]
    for name, frames in {"flash": flash, "lamp": lamp, "jerk": jerk, "title": title}.items():
        cuts = seen(tmp_path / f"{name}.mp4", frames)
        assert (cuts.hard, cuts.gradual) == ((), ()), name


def test_cuts_that_change_little_are_found(tmp_path: Path) -> None:
    """At 1.2 s: between two dark scenes (a fifth of the contrast), and between two that both pan by 2 pixels a frame."""
    one, two = (np.random.default_rng(seed) for seed in (1, 2))
    dark = [15 + (view(np.random.default_rng(1 if i < 30 else 2), i / 4) - 110) / 5 for i in range(60)]
    assert seen(tmp_path / "dark.mp4", dark).hard == pytest.approx((1.2,))
    first, second = (np.concatenate([view(random, x) for x in (-48, 48)], 1) for random in (one, two))
    pan = [np.roll(first if i < 30 else second, -2 * i, 1)[:, :96] for i in range(60)]
    assert seen(tmp_path / "pan.mp4", pan).hard == pytest.approx((1.2,))


@pytest.mark.parametrize("to", [0.0, 255.0])
def test_fades(tmp_path: Path, to: float) -> None:
    """From 1.2 s on gone within .8 s, plain for .4 s, back within .4 s at 2.8 s; the span is widened by .5 s."""
    share = np.interp(np.arange(100), [30, 50, 60, 70], [1, 0, 0, 1])
    frames = [to + w * (view(np.random.default_rng(1 if i < 55 else 2), i / 4) - to) for i, w in enumerate(share)]
    cuts = seen(tmp_path / "a.mp4", frames)
    assert cuts.hard == ()
    assert cuts.gradual == ((pytest.approx(0.7, abs=0.13), pytest.approx(3.3, abs=0.13)),)


def test_frames_that_failed_end_a_shot(tmp_path: Path) -> None:
    """Packet 12 (a P-frame) of 30 is blank: frames 12 to the next keyframe at 20 fail."""
    path = film(tmp_path / "a.mkv", [scene(0, i // 4) for i in range(30)], gop=20)
    timeline = read_timeline(path)
    assert shots(timeline, find_cuts(timeline)) == [(0, 30)]
    with av.open(str(path)) as source:
        packet = bytes([packet for packet in source.demux(video=0) if packet.size][12])
    data = path.read_bytes()
    assert data.count(packet) == 1
    path.write_bytes(data.replace(packet, packet[:4] + bytes(len(packet) - 4)))
    cuts = find_cuts(timeline)
    assert (cuts.hard, cuts.gradual, cuts.decoded, cuts.failed) == ((), (), 22, 8)
    assert cuts.failed_times == pytest.approx([0.04 * i for i in range(12, 20)])
    assert shots(timeline, cuts) == [(0, 12), (20, 30)]


def by_hand(count: int) -> Timeline:
    """`count` frames, ten a second."""
    return Timeline(Path("x"), tuple(i / 10 for i in range(count)), (0,), 8, 6, 0, 10.0, count / 10, False, ())


def test_shots_by_hand() -> None:
    """A cut at .5 s takes frames 4 and 5; a span of 1.1 to 1.3 s takes 11, 12, 13; frame 17 failed."""
    cuts = Cuts((0.5,), ((1.1, 1.3),), 19, 1, (1.7,))
    assert shots(by_hand(20), cuts) == [(0, 4), (6, 11), (14, 17), (18, 20)]
    assert shots(by_hand(3), Cuts((), (), 3, 0, ())) == [(0, 3)]
    assert shots(by_hand(3), Cuts((), ((0.0, 0.5),), 3, 0, ())) == []


def test_spans_that_meet_are_one() -> None:
    """2-3 and 3.5-4 s, widened by .5 s, meet at 3.5 and 3 s: 1.5-4.5; 8-9 s ends with the video; 0-1 s begins with it."""
    assert list(widened([(2.0, 3.0), (8.0, 9.0), (3.5, 4.0)], 0.5, 9.2)) == [(1.5, 4.5), (7.5, 9.2)]
    assert list(widened([(0.0, 1.0)], 0.5, 9.0)) == [(0.0, 1.5)]


def labelled(shared_data: Path) -> list[dict]:
    listing = shared_data / "videos" / "clips_dev.jsonl"
    if not listing.is_file():
        pytest.skip(f"no file {listing}")
    return [json.loads(line) for line in listing.read_text(encoding="utf-8").splitlines()]


def test_no_shot_of_a_real_clip_crosses_a_cut(shared_data: Path) -> None:
    for clip in labelled(shared_data):
        if clip["file"] in ("dev/bikes.mp4", "dev/asl_eat.mkv"):
            timeline = read_timeline(shared_data / "videos" / clip["file"])
            spans = [(timeline.times[a], timeline.times[b - 1]) for a, b in shots(timeline, find_cuts(timeline))]
            assert spans
            for cut in clip["hard_cut_times_s"]:
                assert not any(begin < cut - 0.1 and end > cut + 0.1 for begin, end in spans), (clip["file"], cut)


@pytest.mark.slow
def test_precision_and_recall_on_real_clips(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 9 hard cuts at least 8 are found within .1 s, and none lies inside a shot. The figures are printed, not tuned to."""
    right = wrong = missed = crossed = 0
    for clip in labelled(shared_data):
        timeline = read_timeline(shared_data / "videos" / clip["file"])
        cuts, truth = find_cuts(timeline), clip["hard_cut_times_s"]
        hits = [cut for cut in truth if any(abs(found - cut) <= 0.1 for found in cuts.hard)]
        right, missed, wrong = right + len(hits), missed + len(truth) - len(hits), wrong + len(cuts.hard) - len(hits)
        spans = [(timeline.times[a], timeline.times[b - 1]) for a, b in shots(timeline, cuts)]
        crossed += sum(any(begin < cut - 0.1 and end > cut + 0.1 for begin, end in spans) for cut in truth)
    with capsys.disabled():
        found = f"precision {right / (right + wrong):.2f}, recall {right / (right + missed):.2f}"
        sys.stdout.write(f"\nhard cuts: {found}; {crossed} crossed by a shot\n")
    assert (right >= 8, crossed) == (True, 0)


@pytest.mark.parametrize(("seconds", "found"), [(3.0, ((2.0, 5.0),)), (5.0, ())])
def test_what_mixes_for_long_is_a_drift(seconds: float, found: tuple[tuple[float, float], ...]) -> None:
    """Clear mixtures (score .1 < 2) between unlike ends (.9) from 2 s on: a dissolve up to 4 s, then a scene that drifts."""
    rows = 250
    unknown = ("unlike", "beside", "back", "mix", "mix_begin", "mix_end", "mix_unlike")
    track = {name: np.full(rows, np.nan) for name in unknown}
    track |= {"time": np.arange(rows) / 25, "change": np.ones(rows), "luma": np.full(rows, 99.0), "spread": np.full(rows, 30.0)}
    for name, value in (("mix", 0.1), ("mix_begin", 2.0), ("mix_end", 2.0 + seconds), ("mix_unlike", 0.9)):
        track[name][80] = value
    assert decide(track).gradual == found
