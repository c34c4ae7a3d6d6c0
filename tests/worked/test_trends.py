"""Robust slopes and half-lives of a series, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from relatum.core.errors import DataError
from relatum.metrics.trends import half_life, theil_sen

NAN = math.nan


def test_theil_sen_by_hand() -> None:
    """0, 1, 2, 30: slopes 1, 1, 10, 1, 29/2, 28; sorted 1, 1, 1, 10, 14.5, 28: median (1 + 10)/2. Least squares would give 9.1.

    5, NaN, 1 at steps 0 and 2: -4/2.
    """
    assert theil_sen(torch.tensor([0.0, 1.0, 2.0, 30.0])) == 5.5
    assert theil_sen(torch.tensor([5.0, NAN, 1.0])) == -2
    assert math.isnan(theil_sen(torch.tensor([3.0, NAN])))
    assert math.isnan(theil_sen(torch.tensor([])))
    line = torch.arange(20.0) * 0.25
    line[[3, 7, 11, 15]] = 100.0
    assert theil_sen(line) == pytest.approx(0.25, rel=0.2)


def test_half_life_by_hand() -> None:
    """From 1 to 0 the half is 0.5: between .9 at step 1 and .4 at step 2 it is passed after .4/.5 of the step: 1.8.

    From 10 to floor 2 it is 6: 10, 8, 4 passes it half-way between steps 1 and 2. A start of 9 above values[0] = 3, floor 1: 5 lies
    above the first value, at step 0.
    """
    life = half_life(torch.tensor([1.0, 0.9, 0.4, 0.95]))
    assert (life.steps, life.censored) == (pytest.approx(1.8), False)
    assert half_life(torch.tensor([10.0, 8.0, 4.0]), floor=2.0).steps == pytest.approx(1.5)
    assert half_life(torch.tensor([3.0, 2.0]), start=9.0, floor=1.0) == (0.0, False)


def test_a_half_life_that_is_not_reached_is_censored_at_the_last_known_step() -> None:
    assert half_life(torch.tensor([1.0, 0.9, 0.8])) == (2.0, True)
    assert half_life(torch.tensor([1.0, 0.9, NAN])) == (1.0, True)
    life = half_life(torch.tensor([1.0, NAN, 0.0]))  # over the gap: half of two steps
    assert (life.steps, life.censored) == (1.0, False)
    nothing = half_life(torch.tensor([NAN, NAN]))
    assert math.isnan(nothing.steps)
    assert nothing.censored
    with pytest.raises(DataError, match="start 1 and floor 2"):
        half_life(torch.tensor([1.0, 0.5]), floor=2.0)
