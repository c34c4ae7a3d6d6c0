"""Trains, compares and writes docs/studies/motion.md: do losses on inter-frame differences steady a video?

usage: python docs/write_motion.py [--runs runs] [--page-only]

The shipped recipe motion, and the two stages that it stands on. What is finished is not done again.
"""

import argparse
import shutil
from datetime import date
from pathlib import Path

from write_binding import BEGIN, END, own, spread

from relatum.atomic import write_text
from relatum.compare.run import compare
from relatum.compare.schema import Report, from_json
from relatum.jobs.stages import train_before
from relatum.recipe import Recipe, read_recipe

PAGE = Path(__file__).resolve().parent / "studies" / "motion.md"
TABLE = {  # title, factor, digits
    "motion_caption": ("follows its caption, %", 100, 1),
    "motion_caption.found": ("object there, %", 100, 1),
    "motion_caption.speed": ("speed / true", 1, 2),
    "motion": ("motion, px/frame", 1, 3),
    "flicker.f": ("F", 1, 3),
    "flicker.rho": ("ρ", 1, 3),
    "matched_flicker": ("F at matched motion", 1, 3),
    "matched_rho": ("ρ at matched motion", 1, 3),
    "fd_clip": ("FD of clips", 1, 2),
    "fd": ("FD of frames", 1, 2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--page-only", action="store_true", help="write the page of the report that is there")
    args = parser.parse_args()
    runs = args.runs.resolve()
    recipe = read_recipe("motion", own(runs, "motion"))
    if not args.page_only:
        train_before(recipe, print)
        compare(recipe)
    write_page(from_json((runs / "motion" / "report.json").read_text(encoding="utf-8")), recipe)
    place = PAGE.with_suffix("")
    place.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(runs / "motion" / "report.html", place / "report.html")


def write_page(report: Report, recipe: Recipe) -> None:
    environment = report.environment
    lines = [
        f"Written {date.today()} by `make motion` ({environment['cpus']} CPU cores, torch {report.versions['torch']}; "
        f"{len(report.seeds)} seeds, {recipe.train.max_train_steps} updates of {recipe.train.train_batch_size} clips, "
        f"{recipe.evaluate.rows} held-out captions; 95 % intervals over seeds and captions).",
        "",
        *estimates(report),
        "",
        f"### Differences from {report.arms[0].name}",
        "",
        *differences(report),
        *(["", *(f"* {one.arm}: seed {one.seed} diverged at update {one.update}." for one in report.divergences)]),
    ]
    text = PAGE.read_text(encoding="utf-8")
    head, tail = text.split(BEGIN)[0], text.split(END)[1]
    write_text(PAGE, f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{tail}")


def estimates(report: Report) -> list[str]:
    """Rows are measures; columns arms, then controls."""
    cells = {(e.arm, e.metric): e for e in (*report.estimates, *report.controls)}
    arms = [arm.name for arm in report.arms] + list(dict.fromkeys(e.arm for e in report.controls))
    lines = [f"| | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for name, (title, scale, digits) in TABLE.items():
        found = [cells.get((arm, name)) for arm in arms]
        if any(e is not None and e.value is not None for e in found):
            told = ["–" if e is None or e.value is None else spread(e.value, e.low, e.high, scale, digits=digits) for e in found]
            lines.append(f"| {title} | {' | '.join(told)} |")
    speeds = [report.cost[arm].steps_per_second if arm in report.cost else None for arm in arms]
    costs = [f"{speeds[0] / one:.2f}" if one and speeds[0] else "" for one in speeds]
    return [*lines, f"| step cost | {' | '.join(costs)} |"]


def differences(report: Report) -> list[str]:
    lines = ["| arm | measure | difference | p sign-flip | p Holm | verdict |", "|---|---|---|---|---|---|"]
    for d in report.differences:
        if d.metric in TABLE and d.estimate is not None:
            title, scale, digits = TABLE[d.metric]
            tests = [("–" if p is None else f"{p:.3f}") for p in (d.p_sign_flip, d.p_holm)]
            told = spread(d.estimate, d.low, d.high, scale, sign=True, digits=digits)
            lines.append(f"| {d.arm} | {title} | {told} | {' | '.join(tests)} | {d.verdict} |")
    return lines


if __name__ == "__main__":
    main()
