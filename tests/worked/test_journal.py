"""The diary of a run: no line twice, no NaN that is not said; losses by noise level; how far a run is."""

import io
import json
from pathlib import Path

import pytest
import torch
from rich.console import Console

from relatum.core.errors import DataError
from relatum.core.path import NoiseLevel
from relatum.core.ranks import Ranks
from relatum.engine.journal import Journal, environment, read_journal, write_environment
from relatum.engine.levels import LevelBins
from relatum.engine.progress import Progress


def test_records_are_lines(tmp_path: Path) -> None:
    tracked = []
    with Journal(tmp_path, track=lambda values, step: tracked.append((step, values))) as journal:
        journal.record(1, {"loss/mse": torch.tensor(0.5), "samples_seen": 8, "note": "a"})
        assert read_journal(tmp_path) == [{"step": 1, "loss/mse": 0.5, "samples_seen": 8, "note": "a"}]
        journal.record(1, {"event": "validation"})
    assert [record.get("event") for record in read_journal(tmp_path)] == [None, "validation"]
    assert tracked == [(1, {"loss/mse": 0.5, "samples_seen": 8})]


def test_what_is_not_finite_is_null_and_said(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.record(1, {"a": float("nan"), "b": {"c": [1.0, float("inf")]}, "d": 2.0})
    (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(line) == {"step": 1, "a": None, "b": {"c": [1.0, None]}, "d": 2.0, "nonfinite": ["a", "b/c[1]"]}


def test_a_run_that_goes_on_has_no_line_twice(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for step in (1, 2, 3, 4):
            journal.record(step, {"loss": float(step)})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 5, "lo')  # cut off by a kill
    with Journal(tmp_path, resume_step=2) as journal:
        journal.record(3, {"loss": 30.0})
    assert [(record["step"], record["loss"]) for record in read_journal(tmp_path)] == [(1, 1.0), (2, 2.0), (3, 30.0)]
    with Journal(tmp_path):
        assert read_journal(tmp_path) == []


def test_a_line_that_is_no_record_is_named(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics\.jsonl:2: not a record"):
        Journal(tmp_path, resume_step=1)


def test_the_environment_names_versions(tmp_path: Path) -> None:
    write_environment(tmp_path)
    env = json.loads((tmp_path / "env.json").read_text())
    assert env == environment()
    assert env["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]


def at(*times: float) -> NoiseLevel:
    return NoiseLevel(torch.tensor(times), torch.ones(len(times)), torch.ones(len(times)))


def test_losses_by_noise_level() -> None:
    """Two bins of 0 to 10: times 1, 4 hold 1 and 3 (mean 2, stderr sqrt(2 / 2) = 1), times 5 and 10 hold 5 and 9 (7, 2)."""
    bins = LevelBins((0.0, 10.0), 2)
    bins.add(at(1.0, 10.0), {"mse": torch.tensor([1.0, 9.0])})
    bins.add(at(5.0, 4.0), {"mse": torch.tensor([5.0, 3.0])})
    assert bins.rows() == [
        {"term": "mse", "low": 0.0, "high": 5.0, "n": 2, "mean": 2.0, "stderr": 1.0},
        {"term": "mse", "low": 5.0, "high": 10.0, "n": 2, "mean": 7.0, "stderr": 2.0},
    ]


def test_bins_merge_in_any_order_and_over_processes() -> None:
    values, times = torch.rand(60) + 1e4, (torch.arange(60.0) * 17) % 1000
    whole, parts = LevelBins((0.0, 1000.0)), [LevelBins((0.0, 1000.0)) for _ in range(3)]
    whole.add(at(*times.tolist()), {"a": values})
    for i, part in enumerate(parts):
        part.add(at(*times[i::3].tolist()), {"a": values[i::3]})
        part.rows()
        if i:
            parts[0].merge(part)
    for ours, theirs in zip(parts[0].rows(), whole.rows(), strict=True):
        assert ours["n"] == theirs["n"]
        assert ours["mean"] == pytest.approx(theirs["mean"], rel=1e-12)
        assert ours["stderr"] == pytest.approx(theirs["stderr"], rel=1e-9)
    doubled = whole.gather(Ranks(0, 2, lambda t: torch.cat([t, t]))).rows()
    assert [row["n"] for row in doubled] == [2 * row["n"] for row in whole.rows()]
    assert doubled[0]["mean"] == pytest.approx(whole.rows()[0]["mean"])


def test_plain_lines_where_there_is_no_terminal() -> None:
    """From step 20 of 100, 10 steps and 80 samples in 40 s: 2 samples/s, 4 s a step, 70 left: 280 s."""
    now, out = [0.0], io.StringIO()
    with Progress("train", 100, 20, every=30, console=Console(file=out, width=40), clock=lambda: now[0]) as progress:
        now[0] = 10.0
        progress.advance({"loss": 0.25}, samples=40, steps=5)
        assert out.getvalue() == ""
        now[0] = 40.0
        progress.advance({"loss": 0.125}, samples=40, steps=5)
    assert out.getvalue() == "train 30/100 (30 %) loss 0.125 2.0 samples/s 0:04:40 left\n"


def test_a_bar_on_a_terminal() -> None:
    out = io.StringIO()
    with Progress("train", 4, console=Console(file=out, force_terminal=True, width=100)) as progress:
        progress.advance({"loss": 0.5}, samples=8, steps=4)
    assert "4/4" in out.getvalue()
    assert "loss 0.5" in out.getvalue()
