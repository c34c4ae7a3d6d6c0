"""report.html, report.md and report.json of one comparison, from the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined, Template

from ..atomic import write_text
from ..page import CONTENT_POLICY, style
from . import animations, charts, figures
from .divergence import Divergence, diverged_words, surviving
from .schema import Agreement, Chart, Cost, Difference, Estimate, Measure, Point, Report, to_json
from .verdict import cost_ratio

__all__ = ["CONTENT_POLICY", "html_of", "markdown_of", "write_report"]

GLYPHS = {"better": "▲", "worse": "▼", "no worse": "≈", "no evidence": "○", "diverged": "✕"}


def write_report(report: Report, folder: Path) -> Path:
    """Write report.json, report.md and report.html into `folder`, each beside its place and then renamed. Gives the page's path.

    The page is self-contained: no script, no request, images as data: URIs, every name and caption escaped.
    """
    folder.mkdir(parents=True, exist_ok=True)
    texts = {"report.json": to_json(report), "report.md": markdown_of(report), "report.html": html_of(report)}
    for name, text in texts.items():
        write_text(folder / name, text)
    return folder / "report.html"


def html_of(report: Report) -> str:
    """The page as text."""
    parts = {"figures": figures, "charts": charts, "films": animations}
    return _template().render(view=View(report), report=report, policy=CONTENT_POLICY, style=style(), **parts)


@cache
def _template() -> Template:
    world = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return world.from_string((files("relatum.compare") / "templates" / "report.html.j2").read_text("utf-8"))


class View:
    """The report as its readers see it: which number stands where, already in words. HTML and Markdown both read this."""

    def __init__(self, report: Report) -> None:
        self.report = report
        self.measures = {measure.metric: measure for measure in report.measures}
        self.headline = self.measures[report.headline]
        self.arms = [arm.name for arm in report.arms]
        self.controls = list(dict.fromkeys(control.arm for control in report.controls))
        self.source_table = [measure for measure in report.measures if measure.source_table]
        self.other = [measure for measure in report.measures if not measure.source_table]
        self.lost = list(filter(None, (diverged_words(arm, report.seeds, report.divergences) for arm in self.arms)))
        self._cells = {(e.arm, e.metric): e for e in (*report.controls, *report.estimates)}

    @property
    def verdicts(self) -> list[Difference]:
        return [d for d in self.report.differences if d.metric == self.report.headline]

    def differences(self, arm: str) -> list[Difference]:
        """One arm's differences, the headline first, then in the order of the measures."""
        order = [self.report.headline, *(metric for metric in self.measures if metric != self.report.headline)]
        return sorted((d for d in self.report.differences if d.arm == arm), key=lambda d: order.index(d.metric))

    def glyph(self, difference: Difference) -> str:
        return GLYPHS[difference.verdict]

    def heading(self, arm: str) -> str:
        """What stands under an arm's name in tables: over how many seeds it is, where some diverged."""
        left = len(surviving(arm, self.report.seeds, self.report.divergences))
        return "" if left == len(self.report.seeds) else f"{left} of {len(self.report.seeds)} seeds" if left else "diverged"

    def caveats(self, difference: Difference) -> list[str]:
        """What a verdict must not be read without."""
        both = [*([] if difference.verdict == "diverged" else [difference.arm]), difference.baseline]
        lost = [diverged_words(arm, self.report.seeds, self.report.divergences) for arm in both]
        return [*(["seed-limited"] if difference.seed_limited else []), *(words.partition(" (")[0] for words in lost if words)]

    def verdict(self, difference: Difference) -> str:
        caveats = ", ".join(self.caveats(difference))
        return f"{self.glyph(difference)} {difference.verdict}{f' ({caveats})' if caveats else ''}"

    def ratio(self, arm: str) -> str:
        return self._times(cost_ratio(self.report.cost.get(arm), self.report.cost.get(self.arms[0])))

    def cell(self, arm: str, metric: str) -> Estimate | None:
        return self._cells.get((arm, metric))

    def value(self, estimate: Estimate | None) -> str:
        return figures.NONE if estimate is None else figures.number(estimate.value, self.measures[estimate.metric].digits)

    def interval(self, estimate: Estimate | None) -> str:
        if estimate is None or estimate.low is None:
            return ""
        return figures.span(estimate.low, estimate.high, self.measures[estimate.metric].digits)

    def step(self, difference: Difference) -> str:
        return figures.number(difference.estimate, self.measures[difference.metric].digits, True)

    def limits(self, difference: Difference) -> str:
        return figures.span(difference.low, difference.high, self.measures[difference.metric].digits, True)

    def forest(self, difference: Difference, width: int = 240, height: int = 30) -> str:
        return figures.forest(difference, self.measures[difference.metric], width, height)

    def direction(self, measure: Measure | Chart) -> str:
        return {"higher": "higher is better", "lower": "lower is better", "neither": "describes"}[measure.better]

    def update(self, found: Divergence) -> str:
        return figures.NONE if found.update is None else str(found.update)

    def arrow(self, measure: Measure | Chart) -> str:
        return {"higher": "↑", "lower": "↓", "neither": "·"}[measure.better]

    def with_unit(self, measure: Measure) -> str:
        return f"{measure.label} ({measure.unit})" if measure.unit else measure.label

    def notes(self) -> list[str]:
        """What stands under the tables: notes of measures and of single values, each once."""
        lines = [f"{m.label}: {m.note}" for m in self.report.measures if m.note]
        values = (*self.report.estimates, *self.report.controls)
        lines += [f"{self.measures[e.metric].label}, {e.arm}: {e.note}" for e in values if e.note]
        return list(dict.fromkeys(lines))

    def cost_row(self, arm: str, cost: Cost) -> list[str]:
        return [
            figures.number(cost.steps_per_second, 2),
            self.ratio(arm),
            figures.duration(cost.seconds),
            figures.bytes_of(cost.peak_memory_bytes),
            figures.number(cost.effective_negatives, 1),
            cost.note,
        ]

    def agreement_row(self, agreement: Agreement) -> list[str]:
        value = figures.number(agreement.value, 2, True)
        return [value, figures.span(agreement.low, agreement.high, 2, True), str(agreement.n), agreement.note]

    def chart_rows(self, chart: Chart) -> list[tuple[str, bool, list[tuple[str, str]]]]:
        """Of each curve its name, whether it is a control, and (value, interval) at the steps that `charts.marked` gives."""
        digits, rows = charts.digits_of(chart), []
        for curve in chart.curves:
            points = {point.step: point for point in curve.points}
            found = [points.get(step) for step in charts.marked(chart)]
            cells = [(figures.NONE, "") if p is None else (figures.number(p.value, digits), self._within(p, digits)) for p in found]
            rows.append((curve.arm, curve.control, cells))
        return rows

    def chart_title(self, chart: Chart) -> str:
        return f"{chart.title} ({chart.unit})" if chart.unit else chart.title

    def _within(self, point: Point, digits: int) -> str:
        return "" if point.low is None or point.high is None else figures.span(point.low, point.high, digits)

    def _times(self, ratio: float | None) -> str:
        return figures.NONE if ratio is None else f"{ratio:.2f}×"


def markdown_of(report: Report) -> str:
    """The same numbers as Markdown; the pictures stay in the page."""
    view = View(report)
    lines = [f"# {_plain(report.name)}", ""]
    lines += [_plain(report.description), ""] if report.description else []
    for d in view.verdicts:
        facts = f"{view.step(d)} ({view.limits(d)}), {d.seeds} seed{'' if d.seeds == 1 else 's'}, step cost {view.ratio(d.arm)}"
        lines += [f"**{_plain(view.verdict(d))}**: {_plain(d.words)}", "", facts, ""]
    lines += _diverged(view)
    for title, measures in ((report.source_title, view.source_table), ("Measures", view.other)):
        if measures:
            lines += [f"## {_plain(title)}", "", *_estimates(view, measures), ""]
    for arm in view.arms[1:]:
        rows = [_difference_cells(view, d) for d in view.differences(arm)]
        head = [
            "metric",
            "difference",
            "95 % interval",
            "p sign-flip",
            "p Holm",
            "p Wilcoxon",
            "p McNemar",
            "superiority",
            "verdict",
        ]
        lines += [f"## {_plain(arm)} minus {_plain(view.arms[0])}", "", *_table(head, rows), ""]
    lines += _charts(view)
    for reels in report.reels:
        rows = "row" if len(reels.rows) == 1 else "rows"
        lines += [f"## {_plain(reels.title)}", "", f"{len(reels.rows)} {rows} of animations: see report.html.", ""]
    lines += _small_tables(view)
    for title, words in (("Warnings", report.warnings), ("Not measured", report.not_measured), ("Notes", view.notes())):
        lines += [f"## {title}", "", *(f"- {_plain(line)}" for line in words), ""] if words else []
    return "\n".join(lines).rstrip() + "\n"


def _estimates(view: View, measures: Sequence[Measure]) -> list[str]:
    columns = [*view.arms, *view.controls]

    def cell(arm: str, metric: str) -> str:
        found = view.cell(arm, metric)
        limits = view.interval(found)
        return view.value(found) + (f" ({limits})" if limits else "")

    rows = [[_plain(f"{view.with_unit(m)} {view.arrow(m)}"), *(cell(arm, m.metric) for arm in columns)] for m in measures]
    heads = [f"{arm} ({found})" if (found := view.heading(arm)) else arm for arm in columns]
    return _table(["", *map(_plain, heads)], rows)


def _diverged(view: View) -> list[str]:
    found = view.report.divergences
    if not found:
        return []
    rows = [[_plain(one.arm), str(one.seed), view.update(one), _plain(one.reason), _plain(one.post_mortem)] for one in found]
    lines = ["## Diverged", "", *(f"- {_plain(line)}" for line in view.lost), ""]
    return [*lines, *_table(["arm", "seed", "update", "reason", "post-mortem"], rows), ""]


def _difference_cells(view: View, d: Difference) -> list[str]:
    tests = [figures.p_value(p) for p in (d.p_sign_flip, d.p_holm, d.p_wilcoxon, d.p_mcnemar)]
    return [
        _plain(view.with_unit(view.measures[d.metric])),
        view.step(d),
        view.limits(d),
        *(_plain(p) for p in tests),
        figures.number(d.superiority, 2),
        _plain(view.verdict(d)),
    ]


def _charts(view: View) -> list[str]:
    lines = []
    for chart in (*view.report.charts, *view.report.monitors):
        head = [_plain(chart.x_label), *(f"{step:g}" for step in charts.marked(chart))]
        rows = [
            [_plain(name), *(f"{value} ({limits})" if limits else value for value, limits in cells)]
            for name, _, cells in view.chart_rows(chart)
        ]
        lines += [f"## {_plain(view.chart_title(chart))} {view.arrow(chart)}", "", *_table(head, rows), ""]
        lines += [_plain(chart.note), ""] if chart.note else []
    return lines


def _small_tables(view: View) -> list[str]:
    report, lines = view.report, []
    if report.agreements:
        rows = [[_plain(a.oracle), _plain(a.learned), *map(_plain, view.agreement_row(a))] for a in report.agreements]
        head = ["oracle", "learned", "rank correlation", "95 % interval", "n", "note"]
        lines += ["## Do the learned metrics agree with the truth?", "", *_table(head, rows), ""]
    if report.cost:
        rows = [[_plain(arm), *map(_plain, view.cost_row(arm, cost))] for arm, cost in report.cost.items()]
        head = ["arm", "steps/s", "step cost", "time a run", "peak memory", "effective negatives", "note"]
        lines += ["## Cost", "", *_table(head, rows), ""]
    return lines


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]


def _plain(text: str) -> str:
    """User text in Markdown: no markup of either kind gets through."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "\\`*_[]|#!~" else letter for letter in text)
