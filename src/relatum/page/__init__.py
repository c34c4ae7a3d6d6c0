"""What the pages of reports share: the policy that allows them no request, their look, numbers in words, and round ticks."""

from __future__ import annotations

import math
from functools import cache
from importlib.resources import files

from markupsafe import Markup

__all__ = ["CONTENT_POLICY", "NONE", "duration", "even", "number", "style"]

CONTENT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
NONE = "–"


@cache
def style() -> Markup:
    """The rules of page.css: colors for light and dark, text, tables that scroll, cards, print."""
    return Markup((files("relatum.page") / "page.css").read_text("utf-8"))


def number(value: float | None, digits: int = 3, signed: bool = False) -> str:
    """A number with a fixed count of digits and a true minus sign; an en dash where undefined."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:{'+' if signed else ''}.{digits}f}"
    if float(text) == 0:
        text = text.lstrip("+-")
    return text.replace("-", "\N{MINUS SIGN}")


def duration(seconds: float | None) -> str:
    if seconds is None:
        return NONE
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def even(low: float, high: float, most: int) -> list[float]:
    """Round values in [low, high], `most` at the most, or one where the ends are equal."""
    if not high > low:
        return [low]
    step = 10.0 ** math.floor(math.log10((high - low) / 2))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) < most), 20)
    return [i * step for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
