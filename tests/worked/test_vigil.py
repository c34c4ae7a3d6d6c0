"""What a run does about updates that break: spikes by hand, which checkpoint is good, and going back to it, also after a kill."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from relatum.core.errors import Diverged, RecipeError
from relatum.engine.guard import Spikes
from relatum.engine.journal import read_journal
from relatum.engine.order import Order
from relatum.engine.settings import TrainSettings
from relatum.engine.train import train
from support.training import Killed, Line

NAN = float("nan")


def test_a_spike_by_hand() -> None:
    """Median of 1, 2, 3, 4, 10 is 3, distances 2, 1, 0, 1, 7 have the median 1: a deviation is 1.4826; 20 lies 11.466 above."""
    spikes = Spikes(11.0, 10)
    for value in (1.0, 2.0, 3.0, 4.0):
        assert spikes.see({"total": value}) is None
    assert spikes.see({"total": 10.0}) is None  # four are not half the window
    spike = spikes.see({"total": 20.0})
    assert spike is not None
    assert (spike.what, spike.value, spike.median, spike.window) == ("total", 20.0, 3.0, 5)
    assert spike.z == pytest.approx(17 / 1.4826)
    assert str(spike) == "the total is 20, 11.5 deviations above 3, the median of the 5 updates before"


@pytest.mark.parametrize(("z", "spiked"), [(11.5, False), (0.0, False), (11.4, True)])
def test_the_threshold_is_the_settings(z: float, spiked: bool) -> None:
    spikes = Spikes(z, 10)
    for value in (1.0, 2.0, 3.0, 4.0, 10.0):
        spikes.see({"total": value})
    assert (spikes.see({"total": 20.0}) is not None) is spiked
    assert spikes.see({"total": -1e9}) is None  # a fall is none


def test_what_stays_high_becomes_usual_and_what_is_not_finite_is_left_out() -> None:
    """A window of 10, half of it 1s: five 100s are spikes (deviation .01, at least a hundredth of the median), then no more."""
    spikes = Spikes(12.0, 10)
    for _ in range(10):
        assert spikes.see({"total": 1.0}) is None
    found = [spikes.see({"total": value}) is not None for value in [100.0] * 3 + [NAN, float("inf")] + [100.0] * 5]
    assert found == [True] * 3 + [False] * 2 + [True] * 2 + [False] * 3
    assert spikes.state()["total"] == [1.0] * 2 + [100.0] * 8
    other = Spikes(12.0, 10)
    other.restore(json.loads(json.dumps(spikes.state())))
    assert other.state() == spikes.state()


@pytest.mark.parametrize(
    "settings",
    [
        {"spike_z": -1.0},
        {"spike_z": NAN},
        {"spike_window": 9},
        {"most_rollbacks": 0},
        {"monitor_steps": -1},
        {"monitor_attention": ("(",)},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"train.{next(iter(settings))}"):
        TrainSettings(**settings)


def events(folder: Path, name: str) -> list[dict[str, Any]]:
    return [record for record in read_journal(folder) if record.get("event") == name]


def pointer(folder: Path, name: str) -> str:
    return (folder / "checkpoints" / name).read_text().strip()


def test_a_rollback_goes_to_the_last_good_weights_and_on_with_the_batches_that_follow(tmp_path: Path) -> None:
    """Checkpoints 0, 2, 4; update 5 breaks. 4 has no calm updates behind it, 2 has: what is checkpoint 6 then is checkpoint 2."""
    line = Line(tmp_path, {5: NAN}, settings={"on_nonfinite": "rollback", "use_ema": True, "checkpoints_total_limit": 9})
    result = train(line.job())
    assert result.steps == 8
    assert line.seen[6][0] == line.seen[2][0]
    assert line.seen[5][0] != line.seen[2][0]
    assert line.remembered == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5, 6: 2, 7: 3}
    order = Order(12, 0, 2)
    assert line.seen[6][1] == [f"points:{i}" for i in order.indices(order.positions(6, 0, 0))]
    folders = [tmp_path / "checkpoints" / f"checkpoint-{step}" for step in (2, 6)]
    for name in ("unet/diffusion_pytorch_model", "unet_ema/diffusion_pytorch_model", "optimizer"):
        before, after = (load_file(folder / f"{name}.safetensors") for folder in folders)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[key], after[key]) for key in before)
    (broke,), (rolled,) = events(tmp_path, "not finite"), events(tmp_path, "rollback")
    assert (broke["step"], broke["action"]) == (6, "rollback")
    assert (rolled["step"], rolled["to"], rolled["rollbacks"]) == (6, 2, 1)
    assert [r["rollbacks"] for r in read_journal(tmp_path) if "total" in r and "rollbacks" in r] == [1, 1]
    assert pointer(tmp_path, "last-good") == "checkpoint-6"  # two calm updates, and the run is over


def test_a_checkpoint_before_a_rollback_never_becomes_good(tmp_path: Path) -> None:
    """Update 3 breaks: checkpoint 2 leads there, so at 4 and at 6 the good one is still 0, and 4 from step 6 on."""
    line = Line(tmp_path, {3: NAN}, killed=5, settings={"on_nonfinite": "rollback"})
    with pytest.raises(Killed):
        train(line.job())
    assert (pointer(tmp_path, "last-good"), pointer(tmp_path, "latest")) == ("checkpoint-0", "checkpoint-4")
    assert line.remembered[4] == 0  # also where nothing was remembered
    train(Line(tmp_path, {3: NAN}, killed=7, settings=line.settings | {"max_train_steps": 7}).job())
    assert pointer(tmp_path, "last-good") == "checkpoint-6"


@pytest.mark.parametrize(("killed", "limit"), [(4, 9), (6, 1), (7, 1)])
def test_a_run_killed_after_a_rollback_ends_in_the_same_bits(tmp_path: Path, killed: int, limit: int) -> None:
    settings: dict[str, Any] = {"on_nonfinite": "rollback", "use_ema": True, "max_train_steps": 9, "checkpointing_steps": 3}
    settings["checkpoints_total_limit"] = limit
    broken = {3: NAN, 5: NAN}
    train(Line(tmp_path / "whole", broken, settings=settings).job())
    with pytest.raises(Killed):
        train(Line(tmp_path / "killed", broken, killed, settings=settings).job())
    train(Line(tmp_path / "killed", broken, settings=settings).job())
    whole, again = (load_file(tmp_path / name / "final" / "diffusion_pytorch_model.safetensors") for name in ("whole", "killed"))
    assert all(torch.equal(whole[key], again[key]) for key in whole)
    timed = ("seconds", "steps_per_second", "peak_memory")
    told = [[{k: v for k, v in r.items() if k not in timed} for r in read_journal(tmp_path / name)] for name in ("whole", "killed")]
    assert told[0] == told[1]
    assert [r["to"] for r in told[0] if r.get("event") == "rollback"] == [0, 0]


def test_too_many_rollbacks_end_the_run(tmp_path: Path) -> None:
    line = Line(tmp_path, {2: NAN, 4: NAN, 5: NAN}, settings={"on_nonfinite": "rollback", "most_rollbacks": 2})
    with pytest.raises(Diverged, match=r"update 5: .* rolled back 2 times before \(train\.most_rollbacks\)") as raised:
        train(line.job())
    assert raised.value.update == 5
    assert str(tmp_path / "postmortem") in str(raised.value)
    assert len(events(tmp_path, "rollback")) == 2


@pytest.mark.parametrize("action", ["warn", "skip", "rollback", "stop"])
def test_a_spike_is_met_as_the_recipe_says(tmp_path: Path, action: str) -> None:
    """Update 11 has a million times the loss. A rollback goes to checkpoint 4: nothing is known yet of what follows 8."""
    settings = {"max_train_steps": 13, "spike_window": 10, "on_spike": action, "learning_rate": 1e-4, "checkpointing_steps": 4}
    line = Line(tmp_path, {11: 1e6}, settings=settings)
    if action == "stop":
        with pytest.raises(Diverged, match=r"update 11: the gradient norm is .* deviations above"):
            train(line.job())
    else:
        train(line.job())
    (spike,) = events(tmp_path, "spike")
    assert (spike["step"], spike["action"], spike["what"]) == (12, action, "gradient norm")
    assert spike["z"] > 12
    if action != "stop":
        assert line.remembered[12] == {"warn": 12, "skip": 11, "rollback": 4}[action]
        moved = line.seen[12][0] != line.seen[11][0]
        back = line.seen[12][0] == line.seen[4][0]
        assert (moved, back) == {"warn": (True, False), "skip": (False, False), "rollback": (True, True)}[action]
        last = [record for record in read_journal(tmp_path) if "total" in record][-1]
        counts = {key: last[key] for key in ("skipped_updates", "spikes", "rollbacks") if key in last}
        extra: dict[str, int] = {"skip": {"skipped_updates": 1}, "rollback": {"rollbacks": 1}}.get(action, {})
        assert counts == {"spikes": 1, **extra}
        assert len(events(tmp_path, "warning")) == (action == "warn")


def test_what_is_usual_survives_a_kill(tmp_path: Path) -> None:
    """Killed at update 10 with a window begun before: the spike of update 11 is found all the same, with the same z."""
    settings = {"max_train_steps": 13, "spike_window": 20, "on_spike": "skip", "learning_rate": 1e-4, "checkpointing_steps": 4}
    train(Line(tmp_path / "whole", {11: 1e6}, settings=settings).job())
    with pytest.raises(Killed):
        train(Line(tmp_path / "killed", {11: 1e6}, 10, settings=settings).job())
    train(Line(tmp_path / "killed", {11: 1e6}, settings=settings).job())
    (whole,), (again,) = (events(tmp_path / name, "spike") for name in ("whole", "killed"))
    assert whole == again
