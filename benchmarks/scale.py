"""What half a billion clips would take, from costs measured here: docs/scale.md is its output.

python benchmarks/scale.py [--clips 500e6] [--clip-seconds 10] [--write docs/scale.md]

It draws a film of 16 s at 360p, 720p and 1080p, runs a curation over each with one worker, and reads from the run what every
stage cost and left on the disk. The decisions are timed on tables of made-up facts. The rest is arithmetic, printed line by line.
Costs of models are not measured here (they would be those of a tiny one): the table says from what rate on they dominate.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from curation import film

from relatum.curation.manifest import read_columns, write_columns
from relatum.curation.recipe import curation_of
from relatum.curation.stages.duplicates import Duplicates
from relatum.jobs.curating import curate

SIZES = {"360p": (640, 360), "720p": (1280, 720), "1080p": (1920, 1080)}
SECONDS = 16
CORES, DAYS = 64, 7


@dataclass(frozen=True)
class Measured:
    """Of one size. cpu: seconds by stage, a second of footage. record, stills: bytes a second of footage; film: of the video."""

    cpu: Mapping[str, float]
    record: float
    stills: float
    film: float
    manifest: float


def measure(folder: Path, size: tuple[int, int]) -> Measured:
    (folder / "videos").mkdir(parents=True)
    path = film(folder / "videos" / "film.mp4", SECONDS, *size)
    run = folder / "run"
    engine = {"workers": 1}
    table = {"name": "scale", "input": {"path": str(folder / "videos")}, "output_dir": str(run), "preset": "off", "engine": engine}
    curate(curation_of(table, folder))
    spent = json.loads((run / "run.json").read_text())["spent"]
    stills = sum(file.stat().st_size for file in run.rglob("*.stills-*"))
    record = sum(file.stat().st_size for file in run.rglob("store/*/*.safetensors")) - stills
    manifest = manifest_bytes(run) * len(read_columns(run / "clips.parquet")["clip_id"])
    each = {stage: seconds / SECONDS for stage, (seconds, _) in spent.items()}
    return Measured(each, record / SECONDS, stills / SECONDS, path.stat().st_size / SECONDS, manifest / SECONDS)


def manifest_bytes(run: Path, rows: int = 20_000) -> float:
    """Of a row of clips.parquet, with other numbers and ids in each, where there are many."""
    random, columns = np.random.default_rng(0), read_columns(run / "clips.parquet")
    many: dict[str, list[Any]] = {}
    for name, column in columns.items():
        found = [column[i % len(column)] for i in range(rows)]
        if name.endswith("_id"):
            found = [random.bytes(len(str(one)) // 2).hex() for one in found]
        elif isinstance(found[0], float):
            found = (np.array(found, np.float64) * random.uniform(0.5, 1.5, rows)).tolist()
        elif name.endswith("dhash"):
            found = [[random.bytes(8).hex() for _ in range(3)] for _ in found]
        many[name] = found
    write_columns(run / "many.parquet", many)
    return (run / "many.parquet").stat().st_size / rows


def twins(count: int) -> float:
    """Seconds to look for near-duplicates among so many clips, a tenth of which are copies with a few bits changed."""
    random = np.random.default_rng(0)
    bits = random.integers(0, 2**63, (count, 3), dtype=np.uint64)
    copies = random.choice(count, count // 10, replace=False)
    bits[copies] = bits[random.choice(count, len(copies))] ^ np.uint64(0b101)
    hashes = [[f"{value:016x}" for value in row] for row in bits.tolist()]
    ids = [f"{i:012x}" for i in range(count)]
    about = {
        "id": ids,
        "video": ids,
        "start": [0.0] * count,
        "end": [10.0] * count,
        "seconds": [10.0] * count,
        "kept": [True] * count,
    }
    started = time.perf_counter()
    Duplicates().judge({**about, "hash.dhash": hashes})
    return time.perf_counter() - started


def bytes_in_words(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB", "TB", "PB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} EB"


def lines(clips: float, seconds: float, found: Mapping[str, Measured], dedup: Mapping[int, float]) -> list[str]:
    footage = clips * seconds
    stages = list(dict.fromkeys(stage for one in found.values() for stage in one.cpu))
    out = ["| CPU milliseconds a second of footage | " + " | ".join(found) + " |", "| --- |" + " --- |" * len(found)]
    for stage in stages:
        out.append(f"| {stage} | " + " | ".join(f"{1000 * one.cpu.get(stage, 0):.1f}" for one in found.values()) + " |")
    total = {name: sum(one.cpu.values()) for name, one in found.items()}
    out.append("| **all** | " + " | ".join(f"**{1000 * each:.1f}**" for each in total.values()) + " |")
    out += ["", f"| {clips:.3g} clips of {seconds:g} s, {footage / 3600:,.3g} hours | " + " | ".join(found) + " |"]
    out.append("| --- |" + " --- |" * len(found))
    rows = {
        "CPU-core hours": {name: f"{footage * each / 3600:,.3g}" for name, each in total.items()},
        f"machines of {CORES} cores for {DAYS} days": {
            name: f"{footage * each / (CORES * DAYS * 86400):,.3g}" for name, each in total.items()
        },
        "largest part": {
            name: (lambda cpu: f"{max(cpu, key=cpu.__getitem__)}, {100 * max(cpu.values()) / sum(cpu.values()):.0f} %")(
                dict(one.cpu)
            )
            for name, one in found.items()
        },
        "videos read": {name: bytes_in_words(footage * one.film) for name, one in found.items()},
        "records (tracks)": {name: bytes_in_words(footage * one.record) for name, one in found.items()},
        "stills": {name: bytes_in_words(footage * one.stills) for name, one in found.items()},
        "clips.parquet": {name: bytes_in_words(footage * one.manifest) for name, one in found.items()},
        "read rate of one such machine": {
            name: f"{bytes_in_words(CORES / total[name] * one.film)}/s" for name, one in found.items()
        },
    }
    out += [f"| {row} | " + " | ".join(values[name] for name in found) + " |" for row, values in rows.items()]
    out += ["", "| clips | near-duplicates, seconds | microseconds a clip |", "| --- | --- | --- |"]
    out += [f"| {count:,} | {took:.2f} | {1e6 * took / count:.2f} |" for count, took in dedup.items()]
    most = max(dedup)
    out += [
        "",
        f"Extrapolated at the largest of these, {clips:.3g} clips take {clips * dedup[most] / most / 3600:.2g} hours of one core.",
    ]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=float, default=500e6)
    parser.add_argument("--clip-seconds", type=float, default=10.0)
    parser.add_argument("--write", type=Path, help="replace what stands between the marks <!-- measured --> of this page")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = {name: measure(Path(folder) / name, size) for name, size in SIZES.items()}
    dedup = {count: twins(count) for count in (10_000, 100_000, 1_000_000)}
    machine = f"Measured {date.today()} on one core of {platform.machine()}, Python {platform.python_version()}, no GPU."
    text = "\n".join([machine, "", *lines(args.clips, args.clip_seconds, found, dedup)])
    print(text)
    if args.write:
        head, _, rest = args.write.read_text("utf-8").partition("<!-- measured -->\n")
        _, _, tail = rest.partition("<!-- /measured -->")
        args.write.write_text(f"{head}<!-- measured -->\n{text}\n<!-- /measured -->{tail}", "utf-8")


if __name__ == "__main__":
    main()
