"""What a suite of rollouts tells its metrics: the pace, and which of them so short a rollout does not allow."""

from __future__ import annotations

from unittest.mock import Mock

import pytest

from relatum.compare.showing import better_of, shown_series
from relatum.data.rows import Row
from relatum.engine.encoded import EncodedRows
from relatum.jobs.rolling import Rollouts
from relatum.jobs.suite import metric_tables, not_measurable
from relatum.recipe import Recipe, read_recipe

VIDEO = ("flicker", "vb_smooth", "vb_dynamic", "vb_flicker", "warp_error", "drift")


def recipe(*overrides: str, metrics: tuple[str, ...] = VIDEO) -> Recipe:
    named = ", ".join(f'"{name}"' for name in metrics)
    return read_recipe("rollouts", [f"evaluate.metrics=[{named}]", *overrides])


def suite(steps: int, *offsets: float | None) -> Rollouts:
    rows = [Row(f"r{i}", f"g{i}", {}, {}, facts={} if s is None else {"offset": s}) for i, s in enumerate(offsets)]
    return Rollouts(rows, Mock(spec=EncodedRows), 16, "", steps, 1)


def test_the_pace_is_one_over_the_offset() -> None:
    """Rows .25 s apart are 4 frames a second; the recipe's own offset of .5 s comes first; rows that differ tell none."""
    assert suite(4, 0.25, 0.25).pace(recipe()) == 4
    assert suite(4, 0.25, 0.25).pace(recipe("rollout.offset=0.5")) == 2
    assert suite(4, 0.0999, 0.1001).pace(recipe()) == pytest.approx(10)
    assert suite(4, 0.25, 0.5).pace(recipe()) is None
    assert suite(4, 0.25, None).pace(recipe()) is None
    assert suite(4).pace(recipe()) is None


def test_metrics_are_told_the_pace_unless_the_recipe_says_it() -> None:
    assert metric_tables(recipe(), 4.0)["vb_dynamic"]["fps"] == 4
    assert metric_tables(recipe("evaluate.settings.vb_dynamic.fps=24"), 4.0)["vb_dynamic"]["fps"] == 24
    assert "fps" not in metric_tables(recipe())["vb_dynamic"]
    assert "fps" not in metric_tables(recipe(), 4.0)["flicker"]


def test_rollouts_too_short_for_a_metric_are_told_before_anything_is_made() -> None:
    """One step: two frames. At 24 frames a second vb_dynamic reads every third: it needs frames 0 and 3."""
    lacking = not_measurable(recipe(), suite(1, 0.2))
    assert lacking == {name: f"{name}: the rows have no videos generated of 3 frames" for name in ("flicker", "vb_smooth", "drift")}
    assert not not_measurable(recipe(), suite(2, 0.2))
    assert "of 4 frames" in not_measurable(recipe(), suite(2, 1 / 24))["vb_dynamic"]
    short = not_measurable(recipe(metrics=("fvd", "kvd")), suite(8, 0.2))
    assert short["fvd"].startswith("fvd: the rows have no videos generated of 10 frames")
    assert "videos generated of 10 frames" in short["kvd"]
    assert "10 frames" not in "".join(not_measurable(recipe(metrics=("fvd",)), suite(9, 0.2)).values())


def test_one_error_is_charted_once() -> None:
    names = ["frame_error.error", "drift.error", "drift.noise", "scene_held.error"]
    assert shown_series(names, {}) == ["frame_error.error", "drift.noise", "scene_held.error"]
    assert shown_series(names[1:], {"drift": "drift"}) == names[1:]
    renamed = {"late": "frame_error", "worn": "drift"}
    assert shown_series(["late.error", "worn.error", "worn.noise"], renamed) == ["late.error", "worn.noise"]


def test_a_series_is_judged_by_its_metric_and_not_by_its_name_alone() -> None:
    names = ["drift.like_truth", "drift.first_cosine", "drift.noise", "late.error", "scene_held.error", "flicker.f"]
    kinds = {"late": "frame_error", "drift": "drift"}
    assert [better_of(name, kinds) for name in names] == ["higher", "neither", "neither", "lower", "neither", "lower"]
