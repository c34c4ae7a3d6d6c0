"""Repeated frames: rules by hand, and through a codec."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from relatum.core.errors import RecipeError
from relatum.curation.base import Facts, Video
from relatum.curation.passing import watch
from relatum.curation.stages.frozen import Frozen, repeats
from relatum.video.timeline import read_timeline
from support.films import film
from support.passes import clip, facts, frames, shifted, texture, watched

RULES = (0.005, 0.005, 0.2)


def test_the_rules_by_hand() -> None:
    """Changes of 5 and .3 in turn: beside .3 are 5, .3, 5 on either side, 3.43 in the mean, a fifth of which is .69: repeats; not
    the last, which has one side. Beside a lone .3 among .5s are .5s: no repeat. Below .25 beside, nothing is told from noise.
    """
    assert repeats(np.array([5, 0.3, 5, 0.3, 5, 0.3, 5, 0.3]), *RULES).tolist() == [False, True] * 3 + [False] * 2
    assert not repeats(np.array([0.5, 0.5, 0.3, 0.5, 0.5]), *RULES).any()
    assert not repeats(np.array([0.2, 0.2, 0.02, 0.2, 0.2]), *RULES).any()
    assert repeats(np.array([0.3, 0.3, 0.02, 0.3, 0.3]), *RULES).tolist() == [False, False, True, False, False]
    assert not repeats(np.array([0.05, 0.05, 0.05, 5, 5, 5]), *RULES)[:2].any(), "a fifth of one side alone"
    assert not repeats(np.array([0.3, 5, 5]), *RULES).any(), "there is no other side"
    assert repeats(np.array([0.005]), *RULES).tolist() == [True]
    assert repeats(np.array([0.006]), *RULES).tolist() == [False]


def test_a_long_run_is_told_by_the_clip_s_mean() -> None:
    """100 changes of 8 and 100 of .019: the mean is 4.01, of which .005 is .02."""
    changes = np.array([8.0] * 100 + [0.019] * 100)
    assert repeats(changes, *RULES).sum() == 100
    assert repeats(changes[100:], *RULES).sum() == 0, "alone they are what the clip does"


def test_share_and_longest() -> None:
    """Frames at 0, .1, .2, .5, .6, .7 s; those at .2, .5 and .7 repeat exactly: 3 of 5; the run is from .1 to .5 s."""
    base = texture(0)
    found = facts(Frozen(), [shifted(base, x) for x in (0, 3, 3, 3, 9, 9)], [0, 0.1, 0.2, 0.5, 0.6, 0.7])
    assert found == {"share": pytest.approx(0.6), "longest": pytest.approx(0.4)}


def test_a_clip_sees_its_own_pairs_alone() -> None:
    base = texture(0)
    track = watched(Frozen(), frames([base] * 5 + [shifted(base, 3 * k) for k in range(1, 6)]))
    assert Frozen().facts(track, clip(0, 0.2)) == {"share": 1.0, "longest": pytest.approx(0.16)}
    assert Frozen().facts(track, clip(0.2, 0.4)) == {"share": 0.0, "longest": 0.0}
    assert Frozen().facts(track, clip(0.2, 0.24)) == {"share": None, "longest": None}


@pytest.mark.parametrize("settings", [{"level": -1}, {"share": 1.0}, {"beside": float("nan")}])
def test_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match="frozen: expected"):
        Frozen(**settings)


def coded(folder: Path, shifts: list[float], crf: int, level: float) -> Facts:
    """Of a texture with sensor noise at these places, as H.264 with B-frames; frames of the same place are one picture."""
    base, made = texture(3, 180, 320), {}
    for shift in shifts:
        noise = np.random.default_rng(len(made)).normal(0, level, base.shape)
        made.setdefault(shift, shifted(base, shift) + noise)
    pictures = [np.repeat(np.clip(made[shift], 0, 255).astype(np.uint8)[..., None], 3, 2) for shift in shifts]
    path = film(folder / "film.mp4", pictures, options={"crf": str(crf), "preset": "veryfast"}, gop=48, b_frames=3)
    return Frozen().facts(watch(Video("0" * 64, read_timeline(path)), {"frozen": Frozen()}).tracks["frozen"], clip())


@pytest.mark.parametrize("crf", [20, 28])
def test_through_a_codec(tmp_path: Path, crf: int) -> None:
    """12 pictures a second as 24, one frame in five repeated, and stuck from the 16th to the 40th of 50 frames."""
    shifts = [1.5 * k for k in range(50)]
    assert coded(tmp_path, [shifts[k // 2 * 2] for k in range(50)], crf, 2)["share"] == pytest.approx(0.5, abs=0.05)
    assert coded(tmp_path, [shifts[k - k % 5 // 4] for k in range(50)], crf, 2)["share"] == pytest.approx(0.2, abs=0.05)
    stuck = coded(tmp_path, [shifts[15 if 15 <= k < 40 else k] for k in range(50)], crf, 2)
    assert stuck["share"] == pytest.approx(24 / 49, abs=0.15)
    assert stuck["longest"] > 0.5


def test_what_is_slow_is_not_frozen(tmp_path: Path) -> None:
    """A pan of .01 short sides per second, and a tripod with sensor noise of 3 levels; a static scene without noise is frozen."""
    assert coded(tmp_path, [0.01 * 180 * k / 25 for k in range(50)], 28, 2)["share"] < 0.1
    tripod = [1e-9 * k for k in range(50)]
    assert coded(tmp_path, tripod, 20, 3)["share"] < 0.1
    assert coded(tmp_path, tripod, 23, 0)["share"] > 0.9


def test_the_decoder_s_frozen_frames(shared_data: Path) -> None:
    """arm_wrestling_corrupt.mp4: frames 229 to 267 of 280 are one smear, between two cuts; alone and in the whole."""
    path = shared_data / "videos" / "dev" / "arm_wrestling_corrupt.mp4"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    timeline = read_timeline(path)
    track = watch(Video("0" * 64, timeline), {"frozen": Frozen()}).tracks["frozen"]
    alone = Frozen().facts(track, clip(timeline.times[229], timeline.times[268]))
    whole = Frozen().facts(track, clip(timeline.times[200], timeline.times[279]))
    assert alone["share"] > 0.6
    assert whole["share"] == pytest.approx(38 / 78, abs=0.15)
    assert whole["longest"] > 1
    assert Frozen().facts(track, clip(0, timeline.times[200]))["share"] < 0.3
