"""The report's numbers as text, and its figures as inline SVG: forest lines and loss by noise level. The page's CSS colors them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from ..page import NONE, duration, number
from .charts import Axes, Point, arm_style, legend, svg
from .schema import Difference, LevelLoss, Measure

__all__ = ["NONE", "bytes_of", "duration", "forest", "loss_curves", "number", "p_value", "relative", "span"]


def span(low: float | None, high: float | None, digits: int = 3, signed: bool = False) -> str:
    """Both ends of an interval, or an en dash."""
    if low is None or high is None:
        return NONE
    return f"{number(low, digits, signed)} to {number(high, digits, signed)}"


def p_value(p: float | None) -> str:
    if p is None:
        return NONE
    return "<.001" if p < 0.001 else f"{p:.3f}".lstrip("0") if p < 1 else "1"


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
    curves: Mapping[str, Sequence[LevelLoss]],
    width: int = 760,
    height: int = 330,
    what: str = "Held-out loss by noise level",
    arms: Sequence[str] = (),
) -> Markup:
    """Loss by noise level: a line an arm, a band of one standard error; the axis is logarithmic where losses span 8-fold.

    arms: all of the report's, for their colors.
    """
    known = {arm: [bin_ for bin_ in bins if bin_.loss is not None] for arm, bins in curves.items()}
    values = [bin_.loss for bins in known.values() for bin_ in bins if bin_.loss is not None]
    if not values:
        return Markup('<p class="quiet">No loss by noise level was recorded.</p>')
    lines = {arm: [_point(bin_) for bin_ in bins] for arm, bins in known.items()}
    edges = [edge for points in lines.values() for p in points for edge in (p.low, p.high) if edge is not None]
    log = min(values) > 0 and max(values) / min(values) >= 8
    levels = [level for bins in known.values() for bin_ in bins for level in (bin_.low, bin_.high)]
    axes = Axes(width, height, levels, edges, log, min(values) / 2 if log else min(*edges, 0.0))
    order = list(dict.fromkeys([*arms, *lines]))
    styles = [arm_style(order.index(arm)) for arm in lines]
    ticks = [axes.start + (axes.end - axes.start) * i / 4 for i in range(5)]
    parts = axes.grid(ticks, "noise level (more noise to the right)")
    parts += [axes.line(points, *style) for points, style in zip(lines.values(), styles, strict=True)]
    return legend(list(lines), styles) + svg(width, height, f"{what} for {', '.join(known)}", parts)


def _point(found: LevelLoss) -> Point:
    loss, error = found.loss or 0.0, found.stderr or 0.0
    return Point((found.low + found.high) / 2, loss, loss - error, loss + error)


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
