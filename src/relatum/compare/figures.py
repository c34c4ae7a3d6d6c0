"""The report's numbers as text, and its figures as inline SVG: forest lines and loss by noise level. The page's CSS colors them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup, escape

from .schema import Difference, LevelLoss, Measure

__all__ = ["bytes_of", "duration", "forest", "loss_curves", "number", "p_value", "relative", "span"]

NONE = "–"


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with a fixed count of digits and a true minus sign; an en dash where undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def span(low: float | None, high: float | None, digits: int = 3, signed: bool = False) -> str:
    """Both ends of an interval, or an en dash."""
    if low is None or high is None:
        return NONE
    return f"{number(low, digits, signed)} to {number(high, digits, signed)}"


def p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def bytes_of(count: int | None) -> str:
    if count is None:
        return NONE
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"


def forest(difference: Difference, measure: Measure, width: int = 240, height: int = 30) -> Markup:
    """One difference on its own scale, right is better: interval, estimate, seeds as small dots, smallest effect dashed."""
    if difference.estimate is None or difference.low is None or difference.high is None:
        return Markup('<span class="quiet">no interval</span>')
    turn = 1.0 if measure.better == "higher" else -1.0
    seeds = [turn * step for step in difference.by_seed if step is not None]
    low, high = sorted((turn * difference.low, turn * difference.high))
    reach = max(abs(low), abs(high), *map(abs, seeds), measure.smallest_effect or 0.0) or 1.0

    def x(value: float) -> float:
        return round(width / 2 + value / reach * (width / 2 - 8), 1)

    middle = height / 2
    parts = [f'<line class="zero" x1="{x(0)}" y1="1" x2="{x(0)}" y2="{height - 1}"/>']
    if measure.smallest_effect:
        edge = x(-measure.smallest_effect)
        parts.append(f'<line class="least" x1="{edge}" y1="3" x2="{edge}" y2="{height - 3}"/>')
    parts.append(f'<line class="bar" x1="{x(low)}" y1="{middle}" x2="{x(high)}" y2="{middle}"/>')
    parts += [f'<line class="cap" x1="{x(end)}" y1="{middle - 4}" x2="{x(end)}" y2="{middle + 4}"/>' for end in (low, high)]
    parts += [f'<circle class="seed" cx="{x(step)}" cy="{height - 5}" r="2.3"/>' for step in seeds]
    parts.append(f'<circle class="dot" cx="{x(turn * difference.estimate)}" cy="{middle}" r="4.5"/>')
    digits = measure.digits
    words = (
        f"{measure.label}: {difference.arm} minus {difference.baseline} {number(difference.estimate, digits, True)}, "
        f"interval {span(difference.low, difference.high, digits, True)}; right of the middle is better"
    )
    name = difference.verdict.replace(" ", "-")
    return Markup('<svg class="forest {}" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>').format(
        name, width, height, width, height, words, Markup("".join(parts))
    )


def loss_curves(
    curves: Mapping[str, Sequence[LevelLoss]], width: int = 760, height: int = 330, what: str = "Held-out loss by noise level"
) -> Markup:
    """Loss by noise level: a line an arm, a band of one standard error; the axis is logarithmic where losses span 8-fold."""
    known = {arm: [bin_ for bin_ in bins if bin_.loss is not None] for arm, bins in curves.items()}
    values = [bin_.loss for bins in known.values() for bin_ in bins if bin_.loss is not None]
    if not values:
        return Markup('<p class="quiet">No loss by noise level was recorded.</p>')
    plot = _Plot(width, height, [b for bins in known.values() for b in bins], values)
    parts = plot.axes()
    for index, (arm, bins) in enumerate(known.items()):
        parts.append(plot.line(bins, index % 6))
        parts.append(plot.legend(arm, index))
    words = f"{what} for {', '.join(known)}"
    return Markup('<svg class="curves" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        width, height, words, Markup("").join(parts)
    )


def relative(curves: Mapping[str, Sequence[LevelLoss]], baseline: str) -> dict[str, list[LevelLoss]]:
    """Each arm's loss in percent of the baseline's, minus 100, in the same bins; empty where there is nothing to compare.

    Without a band: arms share rows, noise and levels, so their own standard errors say little about the ratio.
    """
    base = {(b.low, b.high): b.loss for b in curves.get(baseline, ()) if b.loss}
    if not base or len(curves) < 2:
        return {}
    return {
        arm: [
            LevelLoss(b.low, b.high, None if b.loss is None else 100 * (b.loss / (base[b.low, b.high] or 1) - 1))
            for b in bins
            if (b.low, b.high) in base
        ]
        for arm, bins in curves.items()
    }


class _Plot:
    """Scales and marks of one line plot."""

    def __init__(self, width: int, height: int, bins: Sequence[LevelLoss], values: Sequence[float]) -> None:
        self.left, self.right, self.top, self.bottom = 58.0, width - 26.0, 34.0, height - 44.0
        self.start, self.end = min(b.low for b in bins), max(b.high for b in bins)
        self.log = min(values) > 0 and max(values) / min(values) >= 8
        edges = [v for b in bins if b.loss is not None for v in (b.loss - (b.stderr or 0), b.loss + (b.stderr or 0))]
        self.floor = min(values) / 2 if self.log else min(*edges, 0.0)
        ends = [self._scaled(max(edge, self.floor)) for edge in edges]
        pad = (max(ends) - min(ends)) * 0.06 or 0.5
        self.low, self.high = min(ends) - (pad if self.log else 0), max(ends) + pad

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.log else value

    def x(self, level: float) -> float:
        return round(self.left + (level - self.start) / ((self.end - self.start) or 1) * (self.right - self.left), 1)

    def y(self, loss: float) -> float:
        share = (self._scaled(max(loss, self.floor)) - self.low) / (self.high - self.low)
        return round(self.bottom - share * (self.bottom - self.top), 1)

    def ticks(self) -> list[float]:
        if self.log:
            steps = [m * 10.0**e for e in range(math.floor(self.low), math.ceil(self.high) + 1) for m in (1, 2, 5)]
            inside = [step for step in steps if self.low <= math.log10(step) <= self.high]
            return inside if len(inside) <= 7 else [step for step in inside if f"{step:e}".startswith("1")]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / 2))
        step *= next(m for m in (1, 2, 5, 10) if (self.high - self.low) / (step * m) <= 6)
        return [i * step for i in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]

    def axes(self) -> list[Markup]:
        row = Markup('<line class="rule" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text x="{3}" y="{4}" text-anchor="end">{5}</text>')
        parts = [row.format(self.left, self.right, self.y(t), self.left - 8, self.y(t) + 4, f"{t:.4g}") for t in self.ticks()]
        column = Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>')
        for i in range(5):
            level = self.start + (self.end - self.start) * i / 4
            parts.append(column.format(self.x(level), self.bottom + 18, f"{level:.4g}"))
        middle = (self.left + self.right) / 2
        parts.append(column.format(middle, self.bottom + 38, "noise level (more noise to the right)"))
        return parts

    def line(self, bins: Sequence[LevelLoss], color: int) -> Markup:
        points = [(self.x((b.low + b.high) / 2), b.loss or 0.0, b.stderr or 0.0) for b in bins]
        upper = [f"{x},{self.y(loss + error)}" for x, loss, error in points]
        lower = [f"{x},{self.y(loss - error)}" for x, loss, error in reversed(points)]
        dots = Markup("").join(
            Markup('<circle class="c{}" cx="{}" cy="{}" r="3"/>').format(color, x, self.y(y)) for x, y, _ in points
        )
        path = " ".join(f"{x},{self.y(loss)}" for x, loss, _ in points)
        return (
            Markup('<polygon class="band c{}" points="{}"/>').format(color, " ".join(upper + lower))
            + Markup('<polyline class="curve c{}" points="{}"/>').format(color, path)
            + dots
        )

    def legend(self, arm: str, index: int) -> Markup:
        x, color = self.left + index * (self.right - self.left) / 4, index % 6
        mark = Markup('<line class="curve c{}" x1="{}" x2="{}" y1="14" y2="14"/>').format(color, x, x + 22)
        return mark + Markup('<text x="{}" y="18">{}</text>').format(x + 29, escape(arm if len(arm) <= 22 else arm[:21] + "…"))
