"""Curves with interval bands as inline SVG: values over rollout steps, and the scales that all of the report's plots share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np
from markupsafe import Markup

from ..core.errors import DataError
from ..page import even

__all__ = ["Axes", "Chart", "Curve", "Point", "arm_style", "chart", "digits_of", "legend", "marked", "svg"]

COLORS, DASHES = 6, 4
DOTTED = 40  # points of a curve up to which each has a dot


@dataclass(frozen=True)
class Point:
    """A value at one step with its 95 % interval; None where undefined."""

    step: float
    value: float | None
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.step):
            raise DataError(f"a point of a curve stands at a finite step; found {self.step!r}")
        for name in ("value", "low", "high"):
            number = getattr(self, name)
            if number is not None and not math.isfinite(number):
                object.__setattr__(self, name, None)


@dataclass(frozen=True)
class Curve:
    """An arm's points, steps ascending. control: what no arm made (copying the last frame, real video); drawn gray and dashed.

    broke: steps at which a trial of the arm diverged; drawn as crosses.
    """

    arm: str
    points: tuple[Point, ...]
    control: bool = False
    broke: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        steps = [point.step for point in self.points]
        if any(after <= before for before, after in pairwise(steps)):
            raise DataError(f"curve {self.arm!r}: steps must ascend, each once; found {steps}")


@dataclass(frozen=True)
class Chart:
    """One measure over steps of a rollout or of training, a curve an arm and a control. log: on a logarithmic scale."""

    title: str
    metric: str
    x_label: str = "rollout step"
    unit: str = ""
    better: Literal["higher", "lower", "neither"] = "neither"
    curves: tuple[Curve, ...] = ()
    note: str = ""
    log: bool = False

    def __post_init__(self) -> None:
        names = [curve.arm for curve in self.curves]
        if len(set(names)) < len(names):
            raise DataError(f"chart {self.title!r}: one curve a name; found {names}")


class Axes:
    """Scales and marks of one plot. xs, ys: every value that must be inside; what lies below `floor` is drawn there."""

    def __init__(
        self, width: int, height: int, xs: Sequence[float], ys: Sequence[float], log: bool = False, floor: float | None = None
    ) -> None:
        self.left, self.right, self.top, self.bottom = 58.0, width - 18.0, 12.0, height - 44.0
        self.start, self.end, self.log = min(xs), max(xs), log
        self.floor = min(ys) if floor is None else floor
        ends = [self._scaled(max(y, self.floor)) for y in ys]
        pad = (max(ends) - min(ends)) * 0.06 or abs(max(ends)) * 0.1 or 0.5
        self.low, self.high = min(ends) - (pad if log or floor is None else 0), max(ends) + pad

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def x(self, value: float) -> float:
        return round(self.left + (value - self.start) / ((self.end - self.start) or 1) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        share = (self._scaled(max(value, self.floor)) - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def ticks(self) -> list[float]:
        if self.log:
            steps = [m * 10.0**e for e in range(math.floor(self.low), math.ceil(self.high) + 1) for m in (1, 2, 5)]
            inside = [step for step in steps if self.low <= math.log10(step) <= self.high]
            if len(inside) < 2:  # a curve that hardly moves
                return even(10**self.low, 10**self.high, 6)
            return inside if len(inside) <= 7 else [step for step in inside if f"{step:e}".startswith("1")]
        return even(self.low, self.high, 6)

    def grid(self, x_ticks: Sequence[float], x_label: str) -> list[Markup]:
        """Rules with their values, the values along the horizontal axis, and its name."""
        row = Markup('<line class="rule" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text x="{3}" y="{4}" text-anchor="end">{5}</text>')
        ticks = self.ticks()
        digits = next((n for n in range(4, 9) if len({_label(tick, n) for tick in ticks}) == len(ticks)), 9)
        parts = [row.format(self.left, self.right, self.y(t), self.left - 8, self.y(t) + 4, _label(t, digits)) for t in ticks]
        column = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        parts += [column.format(self.x(tick), self.bottom + 18, _label(tick)) for tick in x_ticks]
        return [*parts, column.format((self.left + self.right) / 2, self.bottom + 38, x_label)]

    def line(self, points: Sequence[Point], style: str, mark: str = "") -> Markup:
        """A line with its band, interrupted where values are undefined. style, mark: classes of the line and of its dots."""
        parts = []
        for run in _runs(points):
            band = [p for p in run if p.low is not None and p.high is not None]
            edge = [f"{self.x(p.step)},{self.y(p.high or 0.0)}" for p in band]
            edge += [f"{self.x(p.step)},{self.y(p.low or 0.0)}" for p in reversed(band)]
            if len(band) > 1:
                parts.append(Markup('<polygon class="band {}" points="{}"/>').format(style, " ".join(edge)))
            path = " ".join(f"{self.x(p.step)},{self.y(p.value or 0.0)}" for p in run)
            parts.append(Markup('<polyline class="curve {}" points="{}"/>').format(style, path))
            if mark or len(run) == 1:
                dot = Markup('<circle class="{}" cx="{}" cy="{}" r="2.6"/>')
                parts += [dot.format(mark or style, self.x(p.step), self.y(p.value or 0.0)) for p in run]
        return Markup("").join(parts)

    def cross(self, step: float, points: Sequence[Point], style: str) -> Markup:
        """A cross at this step, on the line or as high as its end; nothing before its beginning."""
        known = [(self.x(p.step), self.y(p.value)) for p in points if p.value is not None]
        x = self.x(step)
        if not known or x < known[0][0]:
            return Markup()
        y = float(np.interp(x, [at for at, _ in known], [height for _, height in known]))
        path = f"M{x - 5:.1f} {y - 5:.1f}l10 10m0 -10l-10 10"
        return Markup('<path class="curve cross {}" d="{}"/>').format(style, path)


def chart(found: Chart, width: int = 600, height: int = 340, arms: Sequence[str] = ()) -> Markup:
    """The curves with their legend: arms in colors (from the seventh on dashed, with open dots), controls gray and dashed.

    arms: all of the report's, so that one has the same color in every chart.
    """
    points = [point for curve in found.curves for point in curve.points if point.value is not None]
    if not points:
        return Markup('<p class="quiet">No values were recorded.</p>')
    xs = [*(point.step for point in points), *(step for curve in found.curves for step in curve.broke)]
    ys = [y for point in points for y in (point.value, point.low, point.high) if y is not None]
    values = [point.value for point in points if point.value is not None]
    log = found.log and min(values) > 0
    axes = Axes(width, height, xs, ys, log=log, floor=min(values) * 0.9 if log else None)
    whole = all(x == round(x) for x in xs)
    parts = axes.grid(_counts(axes.start, axes.end) if whole else even(axes.start, axes.end, 8), found.x_label)
    styles = _styles(found.curves, arms)
    for curve, (style, mark) in sorted(zip(found.curves, styles, strict=True), key=lambda pair: not pair[0].control):
        parts.append(axes.line(curve.points, style, mark if len(curve.points) <= DOTTED else ""))
        parts += [axes.cross(step, curve.points, style) for step in curve.broke]
    words = f"{found.title} by {found.x_label} for {', '.join(curve.arm for curve in found.curves)}"
    names = [curve.arm for curve in found.curves]
    return legend(names, styles) + svg(width, height, words, parts)


def svg(width: int, height: int, words: str, parts: Sequence[Markup]) -> Markup:
    return Markup('<div class="scroll"><svg class="curves" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg></div>').format(
        width, height, words, Markup("").join(parts)
    )


def legend(names: Sequence[str], styles: Sequence[tuple[str, str]]) -> Markup:
    """Each name beside a piece of its line. styles: classes of line and dot."""
    item = Markup(
        '<li><svg width="30" height="10" aria-hidden="true"><line class="curve {}" x1="1" x2="29" y1="5" y2="5"/>{}</svg>{}</li>'
    )
    dot = Markup('<circle class="{}" cx="15" cy="5" r="2.6"/>')
    parts = [item.format(style, dot.format(mark) if mark else "", name) for name, (style, mark) in zip(names, styles, strict=True)]
    return Markup('<ul class="legend">{}</ul>').format(Markup("").join(parts))


def arm_style(index: int) -> tuple[str, str]:
    """Classes of an arm's line and dots: six colors, then the same dashed with open dots."""
    turn = index // COLORS % 3
    return f"c{index % COLORS} s{turn}", f"c{index % COLORS}" + (" open" if turn else "")


def _styles(curves: Sequence[Curve], arms: Sequence[str]) -> list[tuple[str, str]]:
    order = list(dict.fromkeys([*arms, *(curve.arm for curve in curves if not curve.control)]))
    controls = [curve.arm for curve in curves if curve.control]
    return [
        (f"control k{controls.index(curve.arm) % DASHES}", "") if curve.control else arm_style(order.index(curve.arm))
        for curve in curves
    ]


def marked(found: Chart) -> list[float]:
    """The steps that tables show: powers of two and the last one; eight evenly chosen ones where there are too few of these."""
    steps = sorted({point.step for curve in found.curves for point in curve.points})
    powers = [step for step in steps if step >= 1 and math.log2(step).is_integer()]
    if len(powers) >= 3 or len(steps) <= 3:
        return sorted({*powers, *steps[-1:]}) if powers else steps
    return steps if len(steps) <= 8 else [steps[round(i * (len(steps) - 1) / 7)] for i in range(8)]


def digits_of(found: Chart) -> int:
    """Digits after the point that give the chart's largest value three significant ones."""
    largest = max((abs(p.value) for curve in found.curves for p in curve.points if p.value), default=1.0)
    return max(0, min(6, 2 - math.floor(math.log10(largest))))


def _counts(low: float, high: float) -> list[float]:
    """Whole numbers from low on, at most nine, by a step that reaches high where one does: 0 to 16 by 2, 0 to 15 by 3."""
    reach = round(high - low)
    steps = [m * 10**e for e in range(9) for m in (1, 2, 3, 4, 5, 6, 8) if reach <= 8 * m * 10**e]
    step = next((step for step in steps if reach % step == 0 and reach >= 4 * step), min(steps))
    return [low + i * step for i in range(reach // step + 1)]


def _runs(points: Sequence[Point]) -> list[list[Point]]:
    runs: list[list[Point]] = [[]]
    for point in points:
        if point.value is None:
            runs.append([])
        else:
            runs[-1].append(point)
    return [run for run in runs if run]


def _label(value: float, digits: int = 4) -> str:
    return f"{value:.{digits}g}".replace("-", "\N{MINUS SIGN}")
