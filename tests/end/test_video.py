"""Text to video through the command line: train on clips, measure what comes out, compare two losses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relatum.cli import main
from relatum.imaging import decode
from support.runs import tiny_recipe

FRAMES = 4
ROWS = {"kind": "toy_clips", "frames": FRAMES, "count": 6}
METRICS = ["motion_caption", "flicker", "matched_flicker", "motion", "fd", "fd_clip", "kd_clip", "fvd", "drift"]


def recipe_of(folder: Path, base: Path, cache: Path, **sections: Any) -> Path:
    given: dict[str, Any] = {
        "data": {"train": ROWS, "test": {**ROWS, "split": "test", "count": 4}, "resolution": 32},
        "model": {"kind": "animatediff", "motion": {"heads": 2, "most_frames": 8}},
        "task": {"kind": "video"},
        "train": {"max_train_steps": 2, "train_batch_size": 2, "checkpointing_steps": 2, "validation_steps": 2},
        "evaluate": {"rows": 4, "batch_size": 8, "step": 2, "metrics": METRICS},
        "compare": {"headline": "motion_caption", "seeds": [0], "resamples": 20, "grid_rows": 1},
    }
    return tiny_recipe(folder, base, cache, "video", **{**given, **sections})


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, tiny_image: Path, cache: Path) -> Path:
    """The recipe of a finished comparison of two losses."""
    arms: dict[str, Any] = {"mse": {}, "steady": {"objectives": {"steady": {"kind": "frame_difference", "weight": 0.1}}}}
    recipe = recipe_of(tmp_path_factory.mktemp("video"), tiny_image, cache, arms=arms)
    assert main(["compare", str(recipe)]) == 0
    return recipe


def test_two_losses_are_compared(compared: Path) -> None:
    """Numbers of both arms and of the controls arrive in the report: the real clips follow their captions, stills do not."""
    report = json.loads((compared.with_suffix("") / "report.json").read_text())
    assert {e["arm"] for e in report["estimates"]} == {"mse", "steady"}
    measured = {e["metric"] for e in report["estimates"]}
    assert {"motion_caption", "motion_caption.heading", "flicker.f", "matched_flicker", "motion.fastest", "fd_clip"} <= measured
    known = {e["arm"]: e["value"] for e in report["controls"] if e["metric"] == "motion_caption"}
    assert set(known) == {"still clip", "round trip of the clip", "real video", "another row's caption"}
    assert (known["real video"], known["still clip"]) == (1, 0)
    assert {d["metric"] for d in report["differences"]} >= {"motion_caption", "flicker.f", "fd_clip", "kd_clip"}
    assert "drift" in "".join(report["not_measured"])


def test_a_finished_run_is_measured(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An arm's run is a run. Four clips as strips of 4 x 32 px; a line for every metric; what so few frames, none given, do not
    allow is said."""
    run = compared.with_suffix("") / "arms" / "mse" / "seed-0"
    assert main(["evaluate", str(compared), "-o", f"output_dir={run}"]) == 0
    said = capsys.readouterr().out
    for line in ("motion_caption.direction", "flicker.rho", "motion.fastest_ratio", "fd_clip[randconv framestats", "kd_clip["):
        assert line in said
    assert "fvd: the rows have no videos generated of 10 frames" in said
    assert "drift: the rows have no given frame" in said
    strips = list((run / "made").glob("*/*.png"))
    assert len(strips) == 8  # the arm's own, and from other rows' captions
    assert decode(strips[0], "strip").shape == (3, 32, FRAMES * 32)
