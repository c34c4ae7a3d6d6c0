"""What monitors journaled, as curves: sides of the network, means and ranges over seeds, error by frame."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from relatum.compare.assemble import assemble
from relatum.compare.monitoring import monitor_charts, seen_of
from relatum.compare.report import html_of, markdown_of
from relatum.engine.job import Result
from support.comparisons import compared

UP = "network.up_blocks.{}.motion_modules.0.transformer_blocks.0.attn1"
SCORES = {(arm, seed): [1.0, 2.0] for arm in ("a", "b") for seed in (0, 1)}


def look(mean: float, low: float = 0.0) -> dict[str, Any]:
    return {"mean": mean, "p05": 0.0, "low": low, "heads": {"mean": [mean], "p05": [0.0], "low": [low]}}


def test_what_a_journal_says_of_monitors(tmp_path: Path) -> None:
    """Up: (.4 + .8) / 2 = .6 of two layers, low (.5 + 0) / 2; gradients 3 and 4 together 5, the motion modules' 2 apart."""
    attention = {UP.format(1): look(0.4, 0.5), UP.format(2): look(0.8), UP.format(2).replace("up_blocks.2", "mid_block"): look(0.9)}
    gradient = {"up_blocks.0": 3.0, "up_blocks.1": 4.0, "up_blocks.1/motion": 2.0, "mid_block": None, "rest": 1.0}
    records = [
        {"step": 10, "total": 1.0, "contrast/balance": 0.25, "denoise/balance": None},
        {"step": 20, "event": "monitor", "attention": attention, "gradient": gradient},
        {"step": 20, "event": "validation", "held_out": {}},
        {"step": 40, "event": "monitor", "gradient": {"down_blocks.0": 7.0}},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert seen_of(tmp_path) == {
        10: {"balance/contrast": 0.25},
        20: {
            "entropy/up blocks": pytest.approx(0.6),
            "entropy/mid block": 0.9,
            "low/up blocks": 0.25,
            "low/mid block": 0.0,
            "gradient/up blocks": 5.0,
            "gradient/up blocks, motion modules": 2.0,
            "gradient/rest": 1.0,
        },
        40: {"gradient/down blocks": 7.0},
    }
    assert seen_of(tmp_path / "none") == {}


def test_curves_are_means_with_the_range_of_the_seeds() -> None:
    """At update 20 the seeds stand at .2 and .6: .4 between them. Seed 1 ends there, so .1 at 40 is one seed's. A cross at 25."""
    one = {1: {"entropy/up blocks": 0.9}, 20: {"entropy/up blocks": 0.2, "low/up blocks": 0.001}, 40: {"entropy/up blocks": 0.1}}
    other = {1: {"entropy/up blocks": 0.7}, 20: {"entropy/up blocks": 0.6}}
    o = compared({key: SCORES[key] for key in SCORES if key != ("b", 1)}, {("b", 1): 25}, seen={("b", 0): one, ("b", 1): other})
    (chart,) = monitor_charts(o)
    assert (chart.title, chart.x_label, chart.log) == ("Entropy of temporal attention, up blocks", "updates", False)
    (curve,) = chart.curves
    assert (curve.arm, curve.broke) == ("b", (25.0,))
    found = [(p.step, p.value, p.low, p.high) for p in curve.points]
    assert found == [(1, pytest.approx(0.8), 0.7, 0.9), (20, pytest.approx(0.4), 0.2, 0.6), (40, 0.1, None, None)]
    report = assemble(o)
    assert report.monitors == (chart,)
    page = html_of(report)
    assert "<h2>While training</h2>" in page
    assert page.count('<path class="curve cross c1 s0"') == 1
    assert "## Entropy of temporal attention, up blocks" in markdown_of(report)


def test_sides_stand_in_the_order_of_the_network_and_gradients_on_a_logarithmic_scale() -> None:
    names = (
        "gradient/rest",
        "entropy/up blocks",
        "low/up blocks",
        "entropy/down blocks",
        "entropy/mid block",
        "gradient/up blocks",
    )
    seen = {step: dict.fromkeys(names, 0.5) for step in (1, 2, 3)}
    charts = monitor_charts(compared(SCORES, seen={("a", 0): seen}))
    assert [c.metric.removeprefix("monitor.") for c in charts] == [
        "entropy/down blocks", "entropy/mid block", "entropy/up blocks", "low/up blocks", "gradient/up blocks", "gradient/rest"
    ]  # fmt: skip
    assert [c.log for c in charts] == [False] * 4 + [True] * 2
    assert monitor_charts(compared(SCORES, seen={("a", 0): dict(list(seen.items())[:2])})) == ()  # two looks are no curve


def test_long_runs_are_thinned_but_end_where_they_ended() -> None:
    """1,002 looks: every ninth, 112 of them, and the last one."""
    seen = {20 * i: {"gradient/up blocks": 1.0 + i} for i in range(1, 1003)}
    (chart,) = monitor_charts(compared(SCORES, seen={("a", 0): seen}))
    points = chart.curves[0].points
    assert len(points) == 113
    assert (points[0].step, points[1].step, points[-1].step) == (20, 200, 20040)


def test_error_by_frame_over_seeds() -> None:
    """Seeds [1, 2, 3] and [3, 4, 7]: means 2, 3, 5; half-widths 12.706 * 1.414 / 1.414 = 12.706, twice that at frame 2.
    Of the single seed that b has, 1.96 of its rows' standard error .5."""
    told = {key: {"by_frame": {"mean": mean, "stderr": [0.5] * 3, "n": 4}} for key, mean in (
        (("a", 0), [1.0, 2.0, 3.0]), (("a", 1), [3.0, 4.0, 7.0]), (("b", 0), [5.0, 6.0, 8.0])
    )}  # fmt: skip
    scores = {key: SCORES[key] for key in told}
    o = compared(scores, {("b", 1): 4})
    o = dataclasses.replace(o, results={key: Result(1, 4, 1.0, None, held_out=table) for key, table in told.items()})
    (chart,) = monitor_charts(o)
    assert (chart.title, chart.x_label, chart.better) == ("Held-out error by frame", "frame", "lower")
    both, alone = chart.curves
    assert [p.value for p in both.points] == [2.0, 3.0, 5.0]
    assert [p.high - p.value for p in both.points if p.high and p.value] == pytest.approx([12.706, 12.706, 25.412], abs=1e-3)
    assert (alone.points[2].low, alone.points[2].high) == (pytest.approx(8 - 0.98), pytest.approx(8.98))
