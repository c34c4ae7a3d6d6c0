"""A made-up curation run for its report: clips of a few videos whose names attack the page, with facts, filters and pictures."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from relatum.curation.report import Clips, Cost, Curated, Filter, Rung, Step, Threshold, Trouble

__all__ = ["EVIL", "curated", "jpeg"]

EVIL = """<script>alert("x")</script> 'quoted' & "doubly" <img src=http://evil.test/x.png onerror=alert(1)>"""
NAMES = [
    "harbor at dawn.mp4",
    "kite\nfestival.mkv",
    f"{EVIL}.mp4",
    "a/very/long/" + "path/" * 40 + "street.webm",
    "\u202egnp.oediv.mp4",
]
LIMITS = {"motion.mean": (0.02, None), "text.area_max": (None, 0.07), "clip.score": (0.22, None)}


def curated(count: int = 240, seed: int = 0, **changes: Any) -> Curated:
    """A run of `count` clips, a dozen a video. Drops: motion below .02, text above .07, score below .22, and near-duplicates."""
    draw = np.random.default_rng(seed)
    ids = [f"{at:08x}{seed:08x}" for at in range(count)]
    video = [NAMES[at // 12 % 5] if at // 12 < 5 else f"tape {at // 12:04}.mp4" for at in range(count)]
    facts = _facts(draw, count)
    twin = [ids[at - 1] if at % 20 == 7 and at % 12 else "" for at in range(count)]
    filters, thresholds = [], []
    for fact, (low, high) in LIMITS.items():
        name, values = fact.partition(".")[0], facts[fact]
        out = (values < low) if low is not None else (values > (high or 0.0))
        why = [f"{v:.4g} {'<' if high is None else '>'} {low or high:g}" if o else None for v, o in zip(values, out, strict=True)]
        missing = int(np.isnan(values).sum())
        filters.append(Filter(name, f"{fact} {'>=' if high is None else '<='} {low or high:g} (lowest 25 %)", why, missing, "kept"))
        thresholds.append(Threshold(name, fact, low, high, "lowest 25 %" if low else "as the recipe says"))
    filters.append(Filter("duplicates", "6 bits of 64 apart at most", [f"like {t}" if t else None for t in twin]))
    filters.append(Filter("by hand", f"a list of clips; {EVIL}", [EVIL if at % 31 == 3 else None for at in range(count)]))
    drops = np.array([found.drops for found in filters]).reshape(len(filters), count)
    thresholds = [_with_ladder(line, facts[line.fact], np.delete(drops, at, 0).any(0)) for at, line in enumerate(thresholds)]
    start = draw.uniform(0, 4000, count)
    errors = dict.fromkeys(ids[5:8], f"motion: ValueError: {EVIL}")
    clips = Clips(ids, video, start, start + draw.uniform(2, 10, count), ~drops.any(0), twin, errors, _captions)
    strength = dict(zip(ids, facts["motion.mean"], strict=True))
    settings: dict[str, Any] = {"stills": lambda clip: [jpeg(ids.index(clip), at, float(strength[clip])) for at in range(3)]}
    settings |= _around(clips) | changes
    return Curated("harbor and streets", "2026-01-01 12:00", clips, filters=filters, thresholds=thresholds, facts=facts, **settings)


def _facts(draw: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    motion = 10 ** draw.normal(-1.2, 0.5, n)
    motion[: n // 12] = 0
    text = np.where(draw.uniform(size=n) < 0.6, 0, draw.gamma(1.2, 0.05, n)).clip(0, 1)
    score = draw.normal(0.26, 0.05, n)
    score[draw.uniform(size=n) < 0.04] = np.nan
    facts = {"motion.mean": motion, "text.area_max": text, "clip.score": score, "motion.still": draw.beta(1, 3, n)}
    facts |= {"picture.luma": draw.normal(0.45, 0.15, n).clip(0, 1), "picture.sharpness": 10 ** draw.normal(2, 0.6, n)}
    facts |= {"frozen.share": np.where(draw.uniform(size=n) < 0.9, 0.0, draw.uniform(size=n)), "seconds": draw.uniform(2, 10, n)}
    return facts | {
        "picture.bars": np.zeros(n),
        "aesthetic.score": np.full(n, np.nan),
        "faces.count": draw.poisson(2, n).astype(float),
    }


def _with_ladder(line: Threshold, values: np.ndarray, others: np.ndarray) -> Threshold:
    known = values[np.isfinite(values)]
    steps = np.unique(np.quantile(known, [0, 0.1, 0.25, 0.5, 0.75, 0.9, 1])) if len(known) else []
    now = line.low if line.low is not None else line.high
    rungs = []
    for value in sorted({*(float(step) for step in steps), now or 0.0}):
        passing = ~(values < value) if line.high is None else ~(values > value)
        share = 1 - float(passing.mean()) if len(values) else None
        rungs.append(Rung(value, int(passing.sum()), int((passing & ~others).sum()), share, value == now))
    return Threshold(line.filter, line.fact, line.low, line.high, line.words, rungs)


def _captions(clip: str) -> list[tuple[str, str]]:
    words = [
        "boats leave the harbor in\nthe morning",
        EVIL,
        "a tram turns at the corner while people wait for the light to change " * 4,
    ]
    return [("image", words[int(clip[:8], 16) % 3]), ("merged", "short")]


def _around(clips: Clips) -> dict[str, Any]:
    made = clips.seconds
    ends = {"edge": (80, 41), "hard": (120, 70), EVIL: (40, 20)}
    return {
        "steps": (
            Step("sources", 31),
            Step("distinct videos", 28, {"duplicate": 3}),
            Step("videos read", 24, {"reject: too_short": 2, "error: open_failed": 1, f"crash: {EVIL}": 1}, 1.4 * made),
        ),
        "labels": {"begins": ends, EVIL: {"word": (3, 0)}},
        "units": {"motion.mean": "short sides/s", "seconds": "s"},
        "unused": {"of shots too short": 0.25 * made, "at cuts and damage": 0.15 * made},
        "troubles": [Trouble(name, "error", "open_failed", f"line one\nline two {EVIL}") for name in NAMES]
        + [Trouble("surrogate \udcff.avi", "partial", "", "3 of 250 frames cannot be decoded")],
        "warnings": [f"{EVIL} is gone"],
        "costs": (Cost("decode", 41.2, 24), Cost("motion", 12.9, 24), Cost("clip", 88.0, len(clips), "clips")),
        "wall": 77.0,
        "workers": 2,
        "commands": {"Run again": "relatum curate harbor.toml", "Retune": f"relatum curate harbor.toml --retune # {EVIL}"},
        "identities": {"clip": EVIL, "motion": "version 1"},
        "versions": {"av": "18.0.0"},
        "recipe": f'name = "harbor"\n# {EVIL}\n\n[input]\npath = "videos"\n',
    }


def jpeg(number: int, at: int, motion: float, width: int = 320, height: int = 180) -> bytes:
    """A still: a disk that moves with time over colors of its own."""
    from PIL import Image, ImageDraw

    draw = np.random.default_rng(number)
    sky, ground, sun = (tuple(int(c) for c in draw.integers(40, 230, 3)) for _ in range(3))
    picture = Image.new("RGB", (width, height), sky)
    brush = ImageDraw.Draw(picture)
    brush.rectangle((0, int(height * draw.uniform(0.5, 0.8)), width, height), fill=ground)
    x, y, r = width * draw.uniform(0.2, 0.5) + at * motion * 600, height * draw.uniform(0.3, 0.6), height * draw.uniform(0.1, 0.25)
    brush.ellipse((x - r, y - r, x + r, y + r), fill=sun)
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=85)
    return stream.getvalue()
