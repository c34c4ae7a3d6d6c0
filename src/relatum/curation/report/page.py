"""report.html and report.json of one curation run, from the same numbers. The page holds all it needs and asks for nothing."""

from __future__ import annotations

import json
import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape

from ...atomic import write_text
from ...page import CONTENT_POLICY, duration, number, style
from . import charts
from .charts import count, figure
from .numbers import Bins, dropped_by, groups, histogram, independent, marks, numbers_of
from .thumbnails import Rail, rails, strip
from .view import Curated, Filter, Threshold

if TYPE_CHECKING:
    from jinja2 import Template

__all__ = ["Card", "html_of", "visible", "write_page"]

ROWS = 200  # of a table; the rest is in the run's parquet files
GRID = 120  # small histograms


def write_page(folder: Path, view: Curated) -> Path:
    """Write report.json and report.html into `folder`, each beside its place and then renamed. Gives the page's path.

    No script, no request, images as data: URIs, every name, caption and reason escaped; below 6 MB whatever the run.
    """
    write_text(folder / "report.json", json.dumps(_plain(numbers_of(view)), indent=1, allow_nan=False) + "\n")
    write_text(folder / "report.html", html_of(view))
    return folder / "report.html"


def html_of(view: Curated) -> str:
    """The page as text."""
    return _template().render(page=Page(view), view=view, clips=view.clips, policy=CONTENT_POLICY, style=style(), **TOOLS)


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    world = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_shown)
    return world.from_string((files("relatum.curation.report") / "templates" / "curation.html.j2").read_text("utf-8"))


def visible(text: str) -> str:
    """The text with line breaks, controls, marks that turn the writing, and lone surrogates as escapes."""
    harmless = "\u00a0\u200c\u200d"
    return "".join(c if c.isprintable() or c in harmless else c.encode("unicode_escape").decode() for c in text)


def short(text: str, most: int = 160) -> str:
    """The text, its middle left out where it is long, as the ends of paths say more."""
    return text if len(text) <= most else f"{text[: most // 2 - 1]} … {text[-(most // 2 - 2) :]}"


def clock(seconds: float) -> str:
    """Minutes, seconds and tenths, and hours where there are some: 1:02:03.4."""
    tenths = round(seconds * 10)
    minutes, rest = divmod(tenths, 600)
    ahead = f"{minutes // 60}:{minutes % 60:02d}" if minutes >= 60 else f"{minutes}"
    return f"{ahead}:{rest // 10:02d}.{rest % 10}"


def long(seconds: float | None) -> str:
    """A length of footage, in one piece."""
    text = f"{seconds / 3600:,.1f} h" if seconds is not None and seconds >= 36000 else duration(seconds)
    return text.replace(" ", "\u00a0")


def percent(part: float, whole: float) -> str:
    return f"{number(100 * part / whole, 1)}\u00a0%" if whole else charts.NONE


def several(found: int, one: str, many: str = "") -> str:
    return f"{count(found)} {one if found == 1 else many or one + 's'}"


TOOLS = {"charts": charts, "number": number, "short": short, "figure": figure, "count": count, "long": long}
TOOLS |= {"percent": percent, "several": several, "duration": duration}


@dataclass(frozen=True)
class Card:
    """A clip as the page shows it. image: (data: URI, width, height), None without stills. values: what the row is about,
    in words. reasons: filters that drop it. facts: those that have thresholds, in words. mark: its part among duplicates."""

    id: str
    video: str
    when: str
    kept: bool
    image: tuple[str, int, int] | None
    values: Sequence[str]
    reasons: Sequence[str]
    facts: Sequence[str]
    captions: Sequence[tuple[str, str]]
    mark: str = ""


class Page:
    """The run as its readers see it: what stands where, already in words."""

    def __init__(self, view: Curated) -> None:
        self.view, self.clips, n = view, view.clips, len(view.clips)
        self.hits = dropped_by(view.filters, n)
        self.rails = rails(view)
        self.groups = len(groups(view.clips.id, view.clips.twin))
        self._strips: dict[str, tuple[str, int, int] | None] = {}

    @property
    def sentence(self) -> str:
        clips, steps = self.clips, self.view.steps
        came = f"{count(steps[0].count)} {steps[0].name} came in" if steps else "The run"
        read = steps[-1].seconds if steps else None
        footage = f", {long(read)} of footage" if read else ""
        if not len(clips):
            return f"{came}{footage}; no clip was made of them." if steps else "No clip was made."
        made = f"{several(len(clips), 'clip')} {'was' if len(clips) == 1 else 'were'} made"
        share = f"{several(clips.kept, 'is kept', 'are kept')} ({percent(clips.kept, len(clips))})"
        return f"{came}{footage}; {made}, of which {share}: {long(clips.kept_seconds)}."

    def only(self, found: Filter) -> int:
        return int((found.drops & (self.hits == 1)).sum())

    def pieces(self, found: Filter) -> Markup:
        """The bar of what a filter drops: dark what only it drops."""
        n, only = len(self.clips) or 1, self.only(found)
        dropped = int(found.drops.sum())
        parts = [("only", only / n), ("also", (dropped - only) / n)]
        return charts.bar(parts, f"{found.name} drops {dropped} of {len(self.clips)}, {only} of them alone")

    def left_if_independent(self) -> str:
        return percent(independent(self.view.filters), 1)

    def step_bar(self, index: int) -> Markup:
        steps = self.view.steps
        most = max(step.count for step in steps) or 1
        lost = sum(steps[index].lost.values()) / most
        return charts.bar([("kept", steps[index].count / most), ("also", lost)], f"{steps[index].name}: {steps[index].count}")

    def share_bar(self, part: float, whole: float, words: str) -> Markup:
        return charts.bar([("kept", part / whole), ("also", 1 - part / whole)] if whole else [], words)

    def cost_bar(self, seconds: float) -> Markup:
        return charts.bar([("kept", seconds / (max(cost.seconds for cost in self.view.costs) or 1))], duration(seconds))

    def rate(self, items: int, seconds: float) -> str:
        return figure(items / seconds) if items and seconds > 0 else charts.NONE

    def lines(self, found: Filter) -> list[Threshold]:
        return [line for line in self.view.thresholds if line.filter == found.name]

    def bins(self, fact: str) -> Bins:
        return histogram(self.view.facts[fact], self.clips.keep, marks(self.view, fact))

    def chart(self, line: Threshold) -> Markup:
        return charts.histogram_chart(self.bins(line.fact), line.fact, line.low, line.high)

    def small(self, fact: str) -> Markup:
        return charts.histogram_chart(self.bins(fact), fact, width=280, height=104, small=True)

    def with_unit(self, value: float | None, fact: str, digits: int = 3) -> str:
        return " ".join(filter(None, (figure(value, digits), self.view.units.get(fact, ""))))

    def asks(self, line: Threshold) -> str:
        sides = [("≥", line.low), ("≤", line.high)]
        asked = [f"{sign} {self.with_unit(value, line.fact)}" for sign, value in sides if value is not None]
        return " and ".join(asked) or "has no threshold"

    def is_about_twins(self, found: Filter) -> bool:
        return self.groups > 0 and not self.lines(found) and not self.rails_of(found.name)

    def plain_facts(self) -> list[str]:
        """Facts without a threshold."""
        marked = {line.fact for line in self.view.thresholds}
        return [name for name in self.view.facts if name not in marked]

    def middle(self, fact: str) -> str:
        known = self.view.facts[fact]
        known = known[np.isfinite(known)]
        return self.with_unit(float(np.median(known)), fact) if len(known) else charts.NONE

    def rails_of(self, of: str, line: Threshold | None = None) -> list[Rail]:
        return [rail for rail in self.rails if rail.of == of and rail.line is line]

    def rails_about(self, about: str) -> list[Rail]:
        return [rail for rail in self.rails if rail.about == about]

    def cards(self, rail: Rail) -> list[Card]:
        return [self._card(rail, at) for at in rail.clips]

    def _card(self, rail: Rail, at: int) -> Card:
        clips, name = self.clips, self.clips.id[at]
        if name not in self._strips:
            self._strips[name] = strip(self.view.stills(name))
        captions = [(kind, textwrap.shorten(text, 160, placeholder=" …")) for kind, text in clips.captions(name)[:2]]
        when = f"{clock(float(clips.start[at]))} – {clock(float(clips.end[at]))}"
        reasons = [found.name for found in self.view.filters if found.drops[at]]
        mark = (
            "" if rail.about != "twins" else "stands for the group" if at == rail.clips[0] and not clips.twin[at] else "duplicate"
        )
        kept = bool(clips.keep[at])
        facts = [self._value(fact, at) for fact in dict.fromkeys(line.fact for line in self.view.thresholds)][:6]
        return Card(
            name, short(clips.video[at], 90), when, kept, self._strips[name], self._values(rail, at), reasons, facts, captions, mark
        )

    def _values(self, rail: Rail, at: int) -> list[str]:
        if rail.line is not None:
            value = float(self.view.facts[rail.line.fact][at])
            limits = {figure(limit) for limit in (rail.line.low, rail.line.high) if limit not in (None, value)}
            return [self._value(rail.line.fact, at, 6 if figure(value) in limits else 3)]
        if rail.about == "dropped":
            return [short(found.why[at] or "", 120) for found in self.view.filters if found.name == rail.of]
        return []

    def _value(self, fact: str, at: int, digits: int = 3) -> str:
        return f"{fact} {self.with_unit(float(self.view.facts[fact][at]), fact, digits)}"

    def troubles(self) -> list[tuple[str, str, int]]:
        """(status, reason, count), most frequent first."""
        found = Counter((trouble.status, trouble.reason) for trouble in self.view.troubles)
        return [(*pair, n) for pair, n in sorted(found.items(), key=lambda item: (-item[1], item[0]))]

    def clip_errors(self) -> list[tuple[str, int, str]]:
        """(words, count, example), most frequent first."""
        found: dict[str, list[str]] = {}
        for name, words in self.clips.errors.items():
            found.setdefault(words, []).append(name)
        return sorted(((words, len(names), min(names)) for words, names in found.items()), key=lambda e: (-e[1], e[0]))

    def recipe(self) -> Markup:
        """The recipe with its line breaks, and nothing else in it that acts."""
        return Markup("\n").join(escape(visible(line)) for line in self.view.recipe[:100_000].splitlines())

    rows, most_small = ROWS, GRID


def _shown(value: Any) -> Any:
    """Every word that the template writes comes through here; markup was made of escaped parts."""
    return visible(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _plain(value: Any) -> Any:
    """Numbers of numpy as Python's, those that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(key): _plain(found) for key, found in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(found) for found in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
