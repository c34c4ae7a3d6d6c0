"""The page's charts as inline SVG, colored by the page's CSS: histograms with thresholds, and bars."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from ...page import NONE, even
from .numbers import Bins

__all__ = ["bar", "count", "figure", "histogram_chart"]

SIDE = 26.0  # width of the places left and right for what lies outside of the edges


def figure(value: float | None, digits: int = 3) -> str:
    """A number of so many significant digits with a true minus sign, no exponent from .0001 to 999,999; an en dash if undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    size = abs(value)
    if value and not 1e-4 <= size < 1e6:
        return f"{value:.{digits - 1}e}".replace("-", "\N{MINUS SIGN}")
    text = f"{value:,.0f}" if size >= 10 ** (digits - 1) else f"{value:.{digits}g}"
    return text.replace("-", "\N{MINUS SIGN}")


def count(number: int) -> str:
    return f"{number:,}"


def bar(parts: Sequence[tuple[str, float]], words: str = "") -> Markup:
    """A bar of pieces side by side, as (class, share of the whole width); as wide as its place."""
    at, pieces = 0.0, []
    for style, share in parts:
        width = 100 * min(max(share, 0.0), 1.0)
        if width > 0:
            width = max(width, 0.4)
            pieces.append(Markup('<rect class="{}" x="{}" width="{}" height="10"/>').format(style, _short(at), _short(width)))
        at += width
    return Markup('<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>').format(
        words, Markup("").join(pieces)
    )


def histogram_chart(
    bins: Bins,
    name: str,
    low: float | None = None,
    high: float | None = None,
    width: int = 620,
    height: int = 230,
    small: bool = False,
) -> Markup:
    """Kept below, dropped on top of it; threshold lines with their values, and what they leave out tinted.

    A bin that would flatten all others is cut off and says its count. small: without numbers at the side, for the grid of facts.
    """
    if not bins.count:
        return Markup('<p class="quiet">No clip has this fact.</p>')
    plot = _Plot(bins, width, height, small)
    limits = [(mark, lower) for mark, lower in ((low, True), (high, False)) if mark is not None]
    parts = [plot.outside(mark, lower) for mark, lower in limits]
    parts += [*plot.grid(), *plot.bars(), *(plot.limit(mark, lower) for mark, lower in limits)]
    words = f"{name}: {int(bins.kept.sum()) + bins.below[0] + bins.above[0]} of {bins.count} clips kept"
    words += "".join(f", threshold {'at least' if lower else 'at most'} {figure(mark)}" for mark, lower in limits)
    return Markup('<svg class="curves histogram{}" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        " small" if small else "", width, height, words, Markup("").join(parts)
    )


class _Plot:
    """Scales of one histogram, and its pieces."""

    def __init__(self, bins: Bins, width: int, height: int, small: bool) -> None:
        self.bins, self.small = bins, small
        self.left, self.right = (4.0 if small else 52.0), width - (4.0 if small else 12.0)
        self.top, self.bottom = (8.0 if small else 24.0), height - (20.0 if small else 26.0)
        self.inner = self.left + (SIDE if sum(bins.below) else 0), self.right - (SIDE if sum(bins.above) else 0)
        self.low, self.high = self._scaled(bins.edges[0]), self._scaled(bins.edges[-1])
        self.most = _most([*(bins.kept + bins.dropped).tolist(), sum(bins.below), sum(bins.above)])

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.bins.log else float(value)

    def x(self, value: float) -> float:
        share = (self._scaled(value) - self.low) / (self.high - self.low)
        return self.inner[0] + min(max(share, 0.0), 1.0) * (self.inner[1] - self.inner[0])

    def y(self, number: float) -> float:
        return self.bottom - min(number / self.most, 1.0) * (self.bottom - self.top)

    def grid(self) -> list[Markup]:
        rule = Markup('<line class="rule" x1="{0}" x2="{1}" y1="{2}" y2="{2}"/>')
        side = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>')
        parts = [rule.format(_short(self.left), _short(self.right), _short(self.bottom))]
        for tick in [] if self.small else [t for t in even(0, self.most, 5) if t and t == round(t)]:
            parts.append(rule.format(_short(self.left), _short(self.right), _short(self.y(tick))))
            parts.append(side.format(_short(self.left - 7), _short(self.y(tick) + 4), count(round(tick))))
        below = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>')
        ticks = [(self.x(tick), figure(tick, 4)) for tick in self._ticks()]
        if sum(self.bins.below):
            ticks = [(self.left + SIDE / 2 - 3, "0" if self.bins.log else "<"), *(t for t in ticks if t[0] > self.inner[0] + 20)]
        if sum(self.bins.above):
            ticks = [*(t for t in ticks if t[0] < self.inner[1] - 20), (self.right - SIDE / 2 + 3, ">")]
        parts += [below.format(_short(x), _short(self.bottom + 16), self._anchor(x), text) for x, text in ticks]
        return parts

    def _anchor(self, x: float) -> str:
        return "start" if x < self.left + 8 else "end" if x > self.right - 8 else "middle"

    def _ticks(self) -> list[float]:
        low, high = float(self.bins.edges[0]), float(self.bins.edges[-1])
        most = 4 if self.small else 8
        if not self.bins.log:
            return even(low, high, most)
        steps = [m * 10.0**e for e in range(math.floor(self.low), math.ceil(self.high) + 1) for m in (1, 2, 5)]
        inside = [step for step in steps if low <= step <= high]
        tens = [step for step in inside if f"{step:e}".startswith("1")]
        return inside if len(inside) <= most else tens[:: max(1, -(-len(tens) // most))]

    def bars(self) -> list[Markup]:
        edges = [self.x(edge) for edge in self.bins.edges]
        gap = 0.0 if edges[1] - edges[0] < 4 else 1.0
        places = [
            (left, right - gap, int(k), int(d))
            for left, right, k, d in zip(edges, edges[1:], self.bins.kept, self.bins.dropped, strict=False)
        ]
        places.append((self.left, self.inner[0] - 6, *self.bins.below))
        places.append((self.inner[1] + 6, self.right, *self.bins.above))
        kept, dropped, parts = [], [], []
        for left, right, k, d in places:
            if not k + d:
                continue
            shown = min(1.0, self.most / (k + d))  # of a bar that is cut off the shares stay
            foot, top = self.y(k * shown), min(self.y((k + d) * shown), self.bottom - 1.5)
            if k:
                kept.append(_box(left, right, min(foot, self.bottom - 1.5) if not d else foot, self.bottom))
            if d:
                dropped.append(_box(left, right, top, min(foot, self.bottom)))
            if k + d > self.most:
                parts.append(self._cut(left, right, k + d))
        paths = [
            Markup('<path class="{}" d="{}"/>').format(style, "".join(d))
            for style, d in (("kept", kept), ("dropped", dropped))
            if d
        ]
        return paths + parts

    def _cut(self, left: float, right: float, number: int) -> Markup:
        y, end = self.top + 12, "start" if left < (self.left + self.right) / 2 else "end"
        at = right + 5 if end == "start" else left - 5
        stripe = Markup('<path class="break" d="M{0} {1}L{2} {3}v4L{0} {4}z"/>').format(
            _short(left - 1), _short(y + 4), _short(right + 1), _short(y - 4), _short(y + 8)
        )
        return stripe + Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(_short(at), _short(y), end, count(number))

    def outside(self, mark: float, lower: bool) -> Markup:
        left, right = (self.left, self.x(mark)) if lower else (self.x(mark), self.right)
        return Markup('<path class="out" d="{}"/>').format(_box(left, right, self.top, self.bottom))

    def limit(self, mark: float, lower: bool) -> Markup:
        x = self.x(mark)
        middle = (self.left + self.right) / 2
        text = Markup('<text class="limit" x="{}" y="{}" text-anchor="{}">{} {}</text>').format(
            _short(x), _short(self.top - 9), "start" if x < middle else "end", "≥" if lower else "≤", figure(mark)
        )
        line = Markup('<line class="limit" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/>').format(
            _short(x), _short(self.top - 5), _short(self.bottom)
        )
        return line if self.small else line + text


def _most(totals: Sequence[int]) -> float:
    """Where the vertical axis ends: at the highest bar, or where one or two bars tower over all others fivefold, above these."""
    found = sorted((n for n in totals if n), reverse=True)
    for tall in (1, 2):
        if len(found) >= tall + 3 and found[tall - 1] > 5 * found[tall]:
            return found[tall] * 1.6
    return float(found[0])


def _box(left: float, right: float, top: float, bottom: float) -> str:
    return f"M{_short(left)} {_short(top)}H{_short(right)}V{_short(bottom)}H{_short(left)}z"


def _short(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
