"""Fades from and to a plain picture: contrast that goes to nothing, whatever moves meanwhile."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

__all__ = ["BLANK", "fades"]

BLANK = 2.5  # levels of 255: the deviation of luma of a frame that shows nothing
DARK, BRIGHT = 40.0, 215.0  # levels of 255: luma of black and of white at most and at least
GOES = 8.0  # levels of 255: the mean of a picture that goes changes by more
FAINT = 0.3  # of the contrast on both sides: less, in a fade through black that is too short to get there
REACH = 1.5  # seconds on both sides in which that contrast is looked for
LEVEL = 0.3  # seconds without more contrast end a fade
MORE = 1.02  # times: more contrast
STEP = 0.6  # of the contrast in one frame: that is a cut to black, not a fade


def fades(time: np.ndarray, luma: np.ndarray, spread: np.ndarray) -> Iterator[tuple[float, float]]:
    """Spans of seconds, from the last whole picture to the next, of frames of mean `luma` that deviates by `spread`.

    A run of blank frames, or a short dip of contrast to less than .3 of both sides, that contrast goes to or comes from in steps.
    Blank is black or white; of another gray only if the picture's mean changes, for else a title comes and goes on a plain ground.
    """
    for first, last, dip in _runs(time, spread):
        before, after = _ramp(time, spread, first, -1), _ramp(time, spread, last, 1)
        gray = DARK < luma[first] < BRIGHT and max(abs(luma[[before, after]] - luma[[first, last]])) < GOES
        if gray:
            continue
        if (before != first and after != last) if dip else (before != first or after != last):
            yield float(time[before]), float(time[after])


def _runs(time: np.ndarray, spread: np.ndarray) -> Iterator[tuple[int, int, bool]]:
    """First and last row of each run of blank frames and of each dip."""
    blank = spread < BLANK
    low = blank.copy()
    for row in np.flatnonzero(~blank):
        a, b = np.searchsorted(time, [time[row] - REACH, time[row] + REACH])
        sides = spread[a:row].max(initial=0), spread[row:b].max(initial=0)
        low[row] = spread[row] < FAINT * min(sides)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], low, [False]]).astype(np.int8)))
    for first, stop in zip(edges[::2], edges[1::2], strict=True):
        yield int(first), int(stop) - 1, not blank[first:stop].any()


def _ramp(time: np.ndarray, spread: np.ndarray, edge: int, way: int) -> int:
    """The row where contrast stops growing on the way out from `edge`; `edge` itself where it does not grow in steps."""
    row = best = edge
    while 0 <= row + way < len(spread) and abs(time[row + way] - time[best]) <= LEVEL:
        row += way
        if spread[row] > MORE * spread[best]:
            best = row
    if best == edge:
        return edge
    rise = np.abs(np.diff(spread[min(edge, best) : max(edge, best) + 1]))
    return best if len(rise) > 1 and rise.max() <= STEP * (spread[best] - spread[edge]) else edge
