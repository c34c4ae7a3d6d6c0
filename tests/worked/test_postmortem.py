"""What a diverged run leaves: its last updates sample by sample, in JSON and in words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.errors import Diverged
from relatum.core.path import NoiseLevel
from relatum.core.ranks import Ranks
from relatum.engine.order import Order
from relatum.engine.postmortem import UPDATES, History, write_post_mortem
from relatum.engine.step import Step
from relatum.engine.train import train
from support.training import Line

NAN = float("nan")


def bundle(folder: Path) -> tuple[dict[str, Any], str]:
    return json.loads((folder / "postmortem.json").read_text()), (folder / "README.md").read_text()


def step_of(total: list[float], time: list[float]) -> Step:
    errors, times = torch.tensor(total), torch.tensor(time)
    return Step({"error": errors / 2}, errors, {}, NoiseLevel(times, times, times))


def test_a_bundle_by_hand(tmp_path: Path) -> None:
    """Totals 1, 3 (mean 2), then 5, NaN, 7, 9 in two micro-batches: NaN is the worst sample, then 9, 7, 5."""
    history = History()
    history.see(7, [step_of([1.0, 3.0], [10.0, 20.0])], ["r:1", "r:2"], torch.tensor(0.5), 0.1)
    history.see(8, [step_of([5.0, NAN], [30.0, 40.0]), step_of([7.0, 9.0], [50.0, 60.0])], ["r:3", "r:4", "r:5", "r:6"], 80.0, 0.2)
    looked = {"mean": 0.5, "p05": 0.25, "low": 0.125}
    history.look(0, {"gradient": {"mid_block": 1.0, "rest": 2.0}, "attention": {"a": {**looked, "mean": 0.9}, "b": looked}})
    history.look(8, {"gradient": {"mid_block": 3.0, "rest": 2.5}, "attention": {"a": {**looked, "mean": 0.25}, "b": looked}})
    (tmp_path / "postmortem").mkdir()
    (tmp_path / "postmortem" / "of_an_earlier_run").touch()
    folder = write_post_mortem(tmp_path, "update 8: it broke", {"seed": 3}, history)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["postmortem"]
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "postmortem.json"]
    told, words = bundle(folder)
    assert (told["problem"], told["seed"]) == ("update 8: it broke", 3)
    last = told["updates"][1]
    assert (last["update"], last["gradient_norm"], last["learning_rate"]) == (8, 80.0, 0.2)
    assert last["where"] == ["r:3", "r:4", "r:5", "r:6"]
    assert last["level"] == [30.0, 40.0, 50.0, 60.0]
    assert last["terms"] == {"error": [2.5, "NaN", 3.5, 4.5], "total": [5.0, "NaN", 7.0, 9.0]}
    assert [look["update"] for look in told["monitors"]] == [0, 8]
    assert (
        "From update 7 to 8 the gradient's norm went from 0.5 to 80 and the total from 2 to nan; the learning rate was 0.2."
        in words
    )
    rows = [line for line in words.splitlines() if line.startswith("| ")][1:]
    assert rows[:3] == ["| nan | r:4 | 40 | 8 |", "| 9 | r:6 | 60 | 8 |", "| 7 | r:5 | 50 | 8 |"]
    assert "lowest in `a`: 0.900 at update 0, 0.250 at 8, where 12% of its rows" in words
    assert "largest in `mid_block`: 1 at update 0, 3 at 8." in words


def test_history_is_bounded_and_holds_no_graph() -> None:
    history, weight = History(), torch.ones(2, requires_grad=True)
    for update in range(UPDATES + 5):
        history.see(update, [Step({}, weight * update)], ["a", "b"], 1.0, 0.1)
    plain = history.plain()["updates"]
    assert [one["update"] for one in plain] == list(range(5, UPDATES + 5))
    assert (plain[0]["terms"], plain[0]["level"]) == ({"total": [5.0, 5.0]}, None)
    assert not any(tensor.requires_grad for one in history._updates for tensor in one.terms.values())


def test_the_samples_of_all_processes() -> None:
    """The second process holds the first one's samples, doubled."""
    history = History()
    history.see(0, [step_of([1.0, 3.0], [10.0, 20.0])], ["r:1", "r:2"], 0.5, 0.1)
    history.gather(Ranks(0, 2, lambda tensor: torch.cat([tensor, tensor if tensor.dtype == torch.uint8 else 2 * tensor])))
    (one,) = history.plain()["updates"]
    assert one["where"] == ["r:1", "r:2"] * 2
    assert one["terms"]["total"] == [1.0, 3.0, 2.0, 6.0]
    assert one["level"] == [10.0, 20.0, 20.0, 40.0]


def test_a_poisoned_row_in_a_calm_run(tmp_path: Path) -> None:
    """The row is one of two in the sixth batch."""
    order = Order(12, 0, 2)
    other, bad = order.indices(order.positions(5, 0, 0))
    line = Line(tmp_path, poisoned=bad)
    with pytest.raises(Diverged, match=rf"update 5: term 'error' is not finite for points:{bad}\. .*led to it is in") as raised:
        train(line.job())
    told, words = bundle(tmp_path / "postmortem")
    assert str(raised.value) == f"{told['problem']}; what led to it is in {tmp_path / 'postmortem'}"
    assert (told["update"], told["last_good"], told["settings"]["learning_rate"]) == (5, 2, 0.05)
    assert [one["update"] for one in told["updates"]] == list(range(6))
    last = told["updates"][5]
    assert last["where"] == [f"points:{other}", f"points:{bad}"]
    assert [total == "NaN" for total in last["terms"]["total"]] == [False, True]
    assert f"| nan | points:{bad} | nan | 5 |" in words
    assert words.index("look at the rows") < words.index("a lower `train.learning_rate`")
    with pytest.raises(Diverged):
        train(line.job())  # the same command again, from checkpoint 4
    assert [one["update"] for one in bundle(tmp_path / "postmortem")[0]["updates"]] == [4, 5]


def test_a_learning_rate_that_is_far_too_high(tmp_path: Path) -> None:
    """One step of 1e21, whose square is beyond float32, for all rows alike."""
    line = Line(tmp_path, settings={"learning_rate": 1e21})
    with pytest.raises(Diverged, match="update 1: term 'error' is not finite"):
        train(line.job())
    told, words = bundle(tmp_path / "postmortem")
    assert [one["terms"]["total"] for one in told["updates"][1:]] == [["Infinity"] * 2]
    assert told["updates"][0]["gradient_norm"] < 100
    assert words.index("a lower `train.learning_rate`") < words.index("look at the rows")
