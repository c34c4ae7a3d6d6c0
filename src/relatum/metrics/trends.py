"""What a series over the steps of a rollout comes to: its robust slope, and when half of a quality was lost."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError

__all__ = ["HalfLife", "half_life", "theil_sen"]


def theil_sen(values: Float[Tensor, "t"]) -> float:
    """The median of the slopes of all pairs, (vj - vi)/(j - i) a step (Theil 1950; Sen 1968); NaN values are left out.

    Exact: all t(t - 1)/2 pairs. Up to 29 % of the values may be anything without moving it far. NaN below two known values.

    >>> theil_sen(torch.tensor([0.0, 1.0, 2.0, 30.0]))  # slopes 1, 1, 10, 1, 14.5, 28: the middle two are 1 and 10
    5.5
    """
    y = values.detach().double().cpu().numpy()
    step = np.flatnonzero(np.isfinite(y))
    if len(step) < 2:
        return math.nan
    i, j = np.triu_indices(len(step), 1)
    return float(np.median((y[step[j]] - y[step[i]]) / (step[j] - step[i])))


class HalfLife(NamedTuple):
    """steps: when half was lost. censored: it was not lost within what was seen, and `steps` is the last step seen."""

    steps: float
    censored: bool


def half_life(values: Float[Tensor, "t"], start: float | None = None, floor: float = 0.0) -> HalfLife:
    """The first step at which a falling quality has lost half of what lies between `start` and `floor`.

    values: the quality at steps 0, 1, ...; start: None takes values[0]. Between two steps linear interpolation. A quality that
    never comes down to (start + floor)/2 is censored at its last known step: that step is a lower limit, and a mean over such
    values is a mean restricted to the horizon, comparable between rollouts of one length only. NaN values are stepped over; NaN and
    censored where none is known. DataError unless start lies above floor.

    >>> half_life(torch.tensor([1.0, 0.9, 0.4, 0.2]))  # 0.5 is passed 4/5 of the way from step 1 to step 2
    HalfLife(steps=1.8, censored=False)
    """
    known = [(step, value) for step, value in enumerate(values.detach().double().cpu().tolist()) if value == value]
    if not known:
        return HalfLife(math.nan, True)
    top = known[0][1] if start is None else start
    if not top > floor:
        raise DataError(f"a half-life needs a quality that starts above its floor, found start {top:.4g} and floor {floor:.4g}")
    half = floor + (top - floor) / 2
    before = (0, top)
    for step, value in known:
        if value <= half:
            gap = before[1] - value
            share = (before[1] - half) / gap if gap > 0 else 0.0
            return HalfLife(before[0] + share * (step - before[0]), False)
        before = (step, value)
    return HalfLife(float(known[-1][0]), True)
