"""Trains, compares and writes docs/studies/binding.md: do wrong captions teach a diffusion model to read?

usage: python docs/write_binding.py [--runs runs] [--page-only]

Two shipped recipes: binding (the arms) and binding_batches (the source's hard negative in micro-batches of 1 to 64). What is
finished is not done again, so the command may be stopped and run again.
"""

import argparse
import json
import re
import shutil
from datetime import date
from pathlib import Path

import numpy as np

from relatum.atomic import write_text
from relatum.compare.run import compare
from relatum.compare.schema import Report, from_json
from relatum.engine.journal import read_journal
from relatum.recipe import Recipe, read_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "studies" / "binding.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
TABLE = {
    "winoworld.text": "Winoworld text",
    "winoworld.image": "image",
    "winoworld.group": "group",
    "order.text": "order",
    "retrieval.text": "text R@1",
    "retrieval.image": "image R@1",
}
QUALITY = {"fd": "FD", "attribute_accuracy": "attributes", "relation_accuracy": "relations"}
CONTROLS = ("before training", "CLIP")
CHANCE = {
    "winoworld.text": 25,
    "winoworld.image": 25,
    "winoworld.group": 16.7,
    "order.text": 20,
    "retrieval.text": 12.5,
    "retrieval.image": 12.5,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--page-only", action="store_true", help="write the page of the reports that are there")
    args = parser.parse_args()
    runs = args.runs.resolve()
    names = ("binding", "binding_batches")
    if not args.page_only:
        for name in names:
            compare(read_recipe(name, own(runs, name)))
    main_report, batches = (from_json((runs / name / "report.json").read_text(encoding="utf-8")) for name in names)
    recipe = read_recipe("binding", own(runs, "binding"))
    write_page(main_report, batches, recipe, runs)
    place = PAGE.with_suffix("")
    place.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copyfile(runs / name / "report.html", place / f"{name}.html")


def own(runs: Path, name: str) -> list[str]:
    return [f'output_dir="{runs / name}"', f'cache_dir="{runs / "cache"}"']


def write_page(report: Report, batches: Report, recipe: Recipe, runs: Path) -> None:
    seeds, environment = len(report.seeds), report.environment
    lines = [
        f"Written {date.today()} by `make binding` ({environment['cpus']} CPU cores, torch {report.versions['torch']}; "
        f"{seeds} seeds, {recipe.train.max_train_steps} updates of {recipe.train.train_batch_size}, "
        "95 % intervals over seeds and questions). Percent right; a guess gets the last row.",
        "",
        *estimates(report, TABLE, percent=True),
        "",
        "What the same models draw for held-out captions: FD of tinyconv features (lower is better); in percent the objects drawn "
        "with their shape and color, and the relations that hold.",
        "",
        *estimates(report, QUALITY, percent=False),
        "",
        "### Differences from plain fine-tuning",
        "",
        *differences(report),
        "",
        "### While training",
        "",
        *curves(report),
        "",
        "### Micro-batches of the faithful hard negative",
        "",
        *micro(batches, runs),
    ]
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    write_text(PAGE, f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}")


def estimates(report: Report, names: dict[str, str], percent: bool) -> list[str]:
    cells = {(e.arm, e.metric): e for e in (*report.estimates, *report.controls)}
    lines = [f"| | {' | '.join(names.values())} | step cost |", "|---" * (len(names) + 2) + "|"]
    base = report.cost[report.arms[0].name].steps_per_second
    for arm in (*(a.name for a in report.arms), *CONTROLS):
        row = []
        for name in names:
            scale = 100 if percent or name.endswith("accuracy") else 1
            found = cells.get((arm, name))
            row.append("–" if found is None or found.value is None else spread(found.value, found.low, found.high, scale))
        cost = report.cost.get(arm)
        ratio = "" if cost is None or not cost.steps_per_second or not base else f"{base / cost.steps_per_second:.2f}"
        if any(cell != "–" for cell in row):
            lines.append(f"| {arm} | {' | '.join(row)} | {ratio} |")
    if percent:
        lines.append(f"| guessing | {' | '.join(f'{CHANCE[name]:g}' for name in names)} | |")
    return lines


def spread(value: float, low: float | None, high: float | None, scale: float = 1, sign: bool = False, digits: int = 1) -> str:
    words = f"{scale * value:{'+' if sign else ''}.{digits}f}"
    return words if low is None or high is None else f"{words} ({scale * low:.{digits}f} to {scale * high:.{digits}f})"


def differences(report: Report) -> list[str]:
    lines = ["| arm | measure | difference | p sign-flip | p Holm | p McNemar | verdict |", "|---|---|---|---|---|---|---|"]
    for d in report.differences:
        names = {**TABLE, "fd": "FD", "attribute_accuracy": "attributes"}
        if d.metric not in names or d.metric in ("order.text", "retrieval.image") or d.estimate is None:
            continue
        label = (
            names[d.metric]
            if d.metric.startswith("winoworld.text")
            else f"Winoworld {names[d.metric]}"
            if "wino" in d.metric
            else names[d.metric]
        )
        scale = 1 if d.metric == "fd" else 100
        tests = [("–" if p is None else f"{p:.3f}") for p in (d.p_sign_flip, d.p_holm, d.p_mcnemar)]
        lines.append(
            f"| {d.arm} | {label} | {spread(d.estimate, d.low, d.high, scale, True)} | {' | '.join(tests)} | {d.verdict} |"
        )
    return lines


def curves(report: Report) -> list[str]:
    shown = ("matched_error", "null_error", "negative_error", "winoworld.text")
    charts = {chart.metric: chart for chart in report.charts if chart.metric in shown}
    lines = []
    for name in shown:
        if name not in charts:
            continue
        chart = charts[name]
        steps = sorted({point.step for curve in chart.curves for point in curve.points})
        lines += [
            f"{chart.title}, by updates:",
            "",
            f"| arm | {' | '.join(f'{s:g}' for s in steps)} |",
            "|---" * (len(steps) + 1) + "|",
        ]
        for curve in chart.curves:
            values = {point.step: point for point in curve.points}
            cells = [number(values[s].value) if s in values else "–" for s in steps]
            lines.append(f"| {curve.arm} | {' | '.join(cells)} |")
        lines.append("")
    return lines[:-1]


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.3g}"


def micro(report: Report, runs: Path) -> list[str]:
    """Active share over training, from the journals, beside what came of it."""
    cells = {(e.arm, e.metric): e for e in report.estimates}
    lines = [
        f"{len(report.seeds)} seeds; the same 64 samples an update.",
        "",
        "| micro-batch | active share | Winoworld text | group | FD | step cost |",
        "|---|---|---|---|---|---|",
    ]
    base = report.cost[report.arms[0].name].steps_per_second
    for arm in sorted((a.name for a in report.arms), key=lambda name: int(name.removeprefix("of-"))):
        shares = [active(runs / "binding_batches" / "arms" / arm / f"seed-{seed}") for seed in report.seeds]
        reach = f" ({min(shares):.1f} to {max(shares):.1f} over seeds)"
        found = [cells[arm, name] for name in ("winoworld.text", "winoworld.group", "fd")]
        row = [spread(e.value or 0, e.low, e.high, 1 if e.metric == "fd" else 100) for e in found]
        speed = report.cost[arm].steps_per_second
        cost = f"{base / speed:.2f}" if speed and base else ""
        lines.append(f"| {re.sub('of-', '', arm)} | {np.mean(shares):.1f} %{reach} | {' | '.join(row)} | {cost} |")
    return lines


def active(folder: Path) -> float:
    """Percent of samples whose negative had a gradient, mean over training."""
    found = [record["main/active_fraction"] for record in read_journal(folder) if "main/active_fraction" in record]
    if not found:
        raise SystemExit(f"{folder}: its journal tells no active_fraction; {json.dumps(str(folder))} is no run of hard_negative")
    return 100 * float(np.mean(found))


if __name__ == "__main__":
    main()
