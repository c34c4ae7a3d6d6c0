"""Does a measure of flicker agree with people, and with flicker that was made? On real and generated clips.

python benchmarks/flicker_people.py --fetv FOLDER --pairs FOLDER

--fetv: FETV's clips (clips_dev.jsonl with `temporal`, three ratings from 1 to 5, and clips_dev.zip with the frames): Spearman's
rank correlation of every measure with the mean rating of temporal quality, over all clips and over the generated ones, with a 95 %
interval (bootstrap over prompts), and how much more strongly unsteadiness agrees than each (positive: more). A clip of which a
measure is undefined counts as its worst. --pairs: flicker_pairs (pairs_dev.zip): an input and the same processed frame by frame.
About a minute for 85 clips on one core.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import zipfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr

from relatum.metrics.flicker import motion_flicker
from relatum.metrics.temporal import pixel_spectrum, temporal_flickering, warp_error


def clips(archive: Path) -> dict[str, torch.Tensor]:
    """Videos (t 3 h w) in [-1, 1] by the folder of their frames."""
    with zipfile.ZipFile(archive) as packed:
        folders: dict[str, list[str]] = {}
        for name in sorted(n for n in packed.namelist() if n.endswith((".jpg", ".png"))):
            folders.setdefault(name.rpartition("/")[0], []).append(name)

        def frame(name: str) -> np.ndarray:
            with Image.open(io.BytesIO(packed.read(name))) as image:
                return np.asarray(image.convert("RGB")).transpose(2, 0, 1)

        return {
            folder: torch.from_numpy(np.stack([frame(n) for n in names]) / 127.5 - 1).float() for folder, names in folders.items()
        }


def measures(video: torch.Tensor) -> dict[str, float]:
    """Every measure, so that more is worse; NaN where it is undefined."""
    reading = motion_flicker(video)
    first, second = (video.diff(n, dim=0).abs().mean().item() for n in (1, 2))
    return {
        "unsteadiness": reading.unsteadiness,
        "F": reading.f,
        "F / contrast": reading.relative,
        "excess over the twin": reading.excess,
        "-rho": -reading.rho,
        "1 - coverage": 1 - reading.coverage,
        "per-pixel FFT": pixel_spectrum(video),
        "VBench's formula": 1 - temporal_flickering(video),
        "warp error": warp_error(video),
        "mean |d2| / |d1|": second / first if first else math.nan,
    }


def spearman(a: np.ndarray, b: np.ndarray) -> float:
    """Rank correlation; a constant agrees with nothing: 0."""
    return 0.0 if np.all(a == a[0]) or np.all(b == b[0]) else float(spearmanr(a, b).statistic)


def agreement(scores: np.ndarray, ours: np.ndarray, ratings: np.ndarray, prompts: np.ndarray, draws: int = 2000) -> list[str]:
    """Spearman's correlation with the ratings, and its gap to that of ours, each with its 95 % interval."""
    generator = np.random.default_rng(0)
    members = [np.flatnonzero(prompts == p) for p in np.unique(prompts)]

    def both(index: np.ndarray) -> tuple[float, float]:
        theirs, mine = (spearman(values[index], ratings[index]) for values in (scores, ours))
        return theirs, theirs - mine

    drawn = [both(np.concatenate([members[k] for k in generator.integers(len(members), size=len(members))])) for _ in range(draws)]
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    values = both(np.arange(len(ratings)))
    return [f"{values[k]:.3f} ({low[k]:.2f} to {high[k]:.2f})" for k in range(2)]


def people(folder: Path) -> None:
    videos = clips(folder / "clips_dev.zip")
    rows = [json.loads(line) for line in (folder / "clips_dev.jsonl").read_text(encoding="utf-8").splitlines()]
    rows = [row for row in rows if f"{row['prompt_id']}/{row['source']}" in videos]
    ratings = np.array([np.mean(row["temporal"]) for row in rows])
    prompts = np.array([row["prompt_id"] for row in rows])
    made = np.array([row["source"] != "gt" for row in rows])
    found = [measures(videos[f"{row['prompt_id']}/{row['source']}"]) for row in rows]
    print(f"Spearman with the mean temporal rating: {len(rows)} clips of {len(set(prompts))} prompts, {made.sum()} generated")
    print(f"{'':22}{'all clips':>25}{'ours is stronger by':>25}{'generated':>25}{'ours is stronger by':>25}{'undefined':>11}")
    table = {name: np.array([one[name] for one in found]) for name in found[0]}
    for name, values in table.items():
        worst = np.where(np.isnan(values), math.inf, values)
        cells = []
        for chosen in (np.ones(len(rows), bool), made):
            cells += agreement(worst[chosen], table["unsteadiness"][chosen], ratings[chosen], prompts[chosen])
        print(f"{name:22}", *(f"{cell:>24}" for cell in cells), f"{np.isnan(values).sum():>10}")


def pairs(folder: Path) -> None:
    videos = clips(folder / "pairs_dev.zip")
    print("video                 unsteadiness      F   F_luma  F_chroma    rho  motion  coverage   floor")
    for name, video in videos.items():
        r = motion_flicker(video)
        print(
            f"{name:22}{r.unsteadiness:12.4f}{r.f:7.2f}{r.f_luma:9.2f}{r.f_chroma:10.2f}{r.rho:7.2f}{r.motion:8.2f}"
            f"{r.coverage:10.2f}{r.floor:8.2f}"
        )


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fetv", type=Path)
    parser.add_argument("--pairs", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    if args.pairs:
        pairs(args.pairs)
    if args.fetv:
        people(args.fetv)


if __name__ == "__main__":
    main()
