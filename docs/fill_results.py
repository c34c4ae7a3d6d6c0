"""Puts a comparison's real results where readers look first: the README's table and picture, and the report in the docs.

usage: python docs/fill_results.py runs/demo [--page runs/full]
"""

import argparse
import base64
import io
import json
import shutil
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("edit_accuracy", "preservation", "coherence", "fd", "clip_sim", "psnr")
CELL, GAP, HEAD, TEXT = 96, 8, 22, 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--page", type=Path)
    args = parser.parse_args()
    report = json.loads((args.run / "report.json").read_text(encoding="utf-8"))
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    head, rest = text.split("<!-- results:begin -->")
    tail = rest.split("<!-- results:end -->")[1]
    readme.write_text(f"{head}<!-- results:begin -->\n{table(report)}\n<!-- results:end -->{tail}", encoding="utf-8")
    picture(report, ROOT / "docs" / "images" / "demo.png")
    if args.page:
        place = ROOT / "docs" / "studies" / "edit"
        place.mkdir(parents=True, exist_ok=True)
        for name in ("report.html", "report.md", "report.json"):
            shutil.copyfile(args.page / name, place / name)


def table(report: dict) -> str:
    """Estimates of every arm and control with their 95 % intervals, and the headline's verdict in words."""
    measures = {m["metric"]: m for m in report["measures"]}
    names = [n for n in SHOWN if n in measures]
    arms = [a["name"] for a in report["arms"]]
    controls = list(dict.fromkeys(c["arm"] for c in report["controls"]))
    cells = {(e["arm"], e["metric"]): e for e in (*report["estimates"], *report["controls"])}
    lines = ["| " + " | ".join(["", *arms, *controls]) + " |", "|---" * (1 + len(arms) + len(controls)) + "|"]
    for name in names:
        measure = measures[name]
        arrow = {"higher": "↑", "lower": "↓", "neither": ""}[measure["better"]]
        row = [f"{measure['label']}{' (' + measure['unit'] + ')' if measure['unit'] else ''} {arrow}"]
        row += [cell(cells[arm, name], measure["digits"]) for arm in (*arms, *controls)]
        lines.append("| " + " | ".join(row) + " |")
    verdicts = [d["words"] for d in report["differences"] if d["metric"] == report["headline"]]
    about = f"*{report['description']} Means over seeds with 95 % intervals; written by `relatum demo`.*"
    return "\n".join([*lines, "", about, "", *(f"> {words}" for words in verdicts)])


def cell(estimate: dict, digits: int) -> str:
    if estimate["value"] is None:
        return "–"
    words = f"{estimate['value']:.{digits}f}"
    if estimate["low"] is None or estimate["high"] is None:
        return words
    return f"{words} ({estimate['low']:.{digits}f} to {estimate['high']:.{digits}f})"


def picture(report: dict, path: Path, rows: int = 6) -> None:
    """The first rows of the report's grid, enlarged without smoothing, under their instructions."""
    grid = report["grids"][0]
    columns, chosen = grid["columns"], grid["rows"][:rows]
    sheet = Image.new("RGB", (TEXT + len(columns) * (CELL + GAP), HEAD + len(chosen) * (CELL + GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    for j, name in enumerate(columns):
        draw.text((TEXT + j * (CELL + GAP), 5), name, fill="black")
    for i, row in enumerate(chosen):
        y = HEAD + i * (CELL + GAP)
        for k, line in enumerate(wrapped(row["instruction"], 38)):
            draw.text((4, y + 34 + 13 * k), line, fill="black")
        for j, name in enumerate(columns):
            image = Image.open(io.BytesIO(base64.b64decode(row["images"][name])))
            sheet.paste(image.resize((CELL, CELL), Image.Resampling.NEAREST), (TEXT + j * (CELL + GAP), y))
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


if __name__ == "__main__":
    main()
