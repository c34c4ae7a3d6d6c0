"""Who can tell flicker from motion? Synthetic videos with known motion and injected flicker, every measure with one threshold.

python benchmarks/flicker.py [--textures 6] [--size 72] [--frames 12] [--figure docs/images/flicker.svg]

Textures slide by 0 to 4 px a frame in half-pixel steps, turn, grow, lie behind a passing disc, or fade; to each, five kinds of
flicker in three strengths are added. AUC: how often a video with flicker scores above one without, over all pairs of videos of
different texture or motion: one threshold must do for all. In brackets a 95 % interval, bootstrap over (texture, motion). With the
defaults about four minutes on one core.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import map_coordinates

from relatum.metrics.flicker import motion_flicker
from relatum.metrics.temporal import pixel_spectrum, temporal_flickering, warp_error

SPEEDS = tuple(float(v) for v in np.arange(0, 4.5, 0.5))
MOTIONS = (*(f"{speed:g} px" for speed in SPEEDS), "rotation", "zoom", "occluder", "fade")
STRENGTHS = {  # gray levels
    "brightness": (0.5, 1.0, 2.0),  # of every frame, normal
    "noise": (0.5, 1.0, 2.0),  # white, of every pixel and channel
    "color": (0.5, 1.0, 2.0),  # of every frame, each channel by itself
    "block": (0.5, 1.0, 2.0),  # of every block of 8 x 8 pixels
    "alternation": (0.25, 0.5, 1.0),  # up in one frame, down in the next
}
Array = np.ndarray


def texture(generator: np.random.Generator, size: int) -> Array:
    """(3 size size) in gray levels: power falls with frequency as in photographs, nothing above half of what pixels can show."""
    fy, fx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None]
    radius = np.hypot(fx, fy)
    filtered = np.exp(-((radius / 0.22) ** 4)) / np.maximum(radius, 4 / size)
    shared, own = (np.fft.irfft2(np.fft.rfft2(generator.normal(size=(n, size, size))) * filtered, (size, size)) for n in (1, 3))
    mixed = shared + 0.5 * own
    return 128 + 32 * mixed / mixed.std()


def scene(kind: str, source: Array, frames: int, size: int) -> tuple[Array, Array]:
    """A clean video (t 3 h w) in gray levels and its true flow (t-1 2 h w)."""
    y, x = np.mgrid[:size, :size].astype(float)
    middle = (size - 1) / 2
    flow = np.zeros((frames - 1, 2, size, size))
    at = np.stack([np.stack([y, x])] * frames) + (source.shape[1] - size) / 2
    extra = np.zeros(frames)
    if kind.endswith("px"):
        step = float(kind.split()[0]) * np.array([0.8, 0.6])  # x, y
        at -= (np.arange(frames) - frames / 2)[:, None, None, None] * step[::-1, None, None]
        flow[:] = step[:, None, None]
    elif kind in ("rotation", "zoom"):
        turn = 0.02 * np.exp(1j * np.pi / 2) if kind == "rotation" else 0.02  # 0.02 rad, or e^0.02, a frame
        place = (x - middle) + 1j * (y - middle)
        for t in range(frames):
            seen = place * np.exp(-turn * t)
            at[t] = np.stack([seen.imag, seen.real]) + (source.shape[1] - 1) / 2
        step = place * (np.exp(turn) - 1)
        flow[:] = np.stack([step.real, step.imag])
    elif kind == "fade":
        extra = np.arange(frames) - frames / 2.0  # one level a frame
    video = np.stack([[map_coordinates(c, a, order=3, mode="grid-wrap") for c in source] for a in at]) + extra[:, None, None, None]
    if kind == "occluder":
        other = source[::-1, ::-1]
        for t in range(frames):
            center = size * 0.3 + 1.5 * t
            inside = np.hypot(x - center, y - middle) < size * 0.18
            disc = np.stack([map_coordinates(c, [y, x - 1.5 * t + 40], order=3, mode="grid-wrap") for c in other])
            video[t] = np.where(inside, 256 - disc, video[t])
            if t < frames - 1:
                flow[t, 0] = 1.5 * inside
    return video, flow


def injected(kind: str, strength: float, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """What is added to a video (t 3 h w), in gray levels."""
    t, _, h, w = shape
    if kind == "alternation":
        return strength * np.where(np.arange(t) % 2, 1.0, -1.0)[:, None, None, None]
    if kind == "block":
        blocks = generator.normal(size=(t, 1, -(-h // 8), -(-w // 8)))
        return strength * blocks.repeat(8, 2).repeat(8, 3)[:, :, :h, :w]
    sizes = {"brightness": (t, 1, 1, 1), "color": (t, 3, 1, 1), "noise": shape}
    return strength * generator.normal(size=sizes[kind])


def eight_bit(video: Array) -> torch.Tensor:
    return torch.from_numpy(np.clip(np.round(video), 0, 255) / 127.5 - 1).float()


Measure = Callable[[torch.Tensor, torch.Tensor], float]
MEASURES: dict[str, Measure] = {  # all: more is worse
    "unsteadiness (DIS)": lambda video, flow: motion_flicker(video).unsteadiness,
    "F (DIS)": lambda video, flow: motion_flicker(video).f,
    "F (true flow)": lambda video, flow: motion_flicker(video, flow).f,
    "warp error (DIS)": lambda video, flow: warp_error(video),
    "VBench's formula": lambda video, flow: 1 - temporal_flickering(video),
    "per-pixel FFT": lambda video, flow: pixel_spectrum(video),
}


@dataclass
class Table:
    """Scores by (measure, kind of flicker or "", strength): {(texture, motion): score}; seconds by measure."""

    scores: dict[tuple[str, str, float], dict[tuple[int, str], float]] = field(default_factory=dict)
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, video: torch.Tensor, flow: torch.Tensor, flicker: tuple[str, float], where: tuple[int, str]) -> None:
        readings: dict[str, float] = {}
        for name, measure in MEASURES.items():
            if name == "F (DIS)":  # a part of the same reading
                continue
            started = time.process_time()
            if name == "unsteadiness (DIS)":
                reading = motion_flicker(video)
                readings |= {name: reading.unsteadiness, "F (DIS)": reading.f}
            else:
                readings[name] = measure(video, flow)
            self.seconds.setdefault(name, []).append(time.process_time() - started)
        for name, value in readings.items():
            self.scores.setdefault((name, *flicker), {})[where] = math.inf if math.isnan(value) else value


def auc(wins: Array, cases: Array) -> float:
    """Mean of `wins` (cases cases) over pairs of different cases: how often the row's with flicker beats the column's without."""
    apart = cases[:, None] != cases[None]
    return float(wins[np.ix_(cases, cases)][apart].mean()) if apart.any() else math.nan


def interval(positive: Array, negative: Array, draws: int = 1000) -> tuple[float, float, float]:
    """AUC with its 95 % interval: positive (flickers cases), negative (cases). Cases are drawn; ties count one half."""
    above, equal = positive[:, :, None] > negative, positive[:, :, None] == negative
    wins = (above + equal / 2).mean(0)
    generator = np.random.default_rng(0)
    drawn = [auc(wins, generator.integers(len(negative), size=len(negative))) for _ in range(draws)]
    low, high = np.nanquantile(drawn, [0.025, 0.975])
    return auc(wins, np.arange(len(negative))), float(low), float(high)


def measured(textures: int, size: int, frames: int) -> Table:
    table = Table()
    for index in range(textures):
        generator = np.random.default_rng(index)
        source = texture(generator, 192)
        for motion in MOTIONS:
            clean, flow = scene(motion, source, frames, size)
            truth = torch.from_numpy(flow).float()
            table.add(eight_bit(clean), truth, ("", 0.0), (index, motion))
            for kind, strengths in STRENGTHS.items():
                for strength in strengths:
                    video = eight_bit(clean + injected(kind, strength, clean.shape, generator))
                    table.add(video, truth, (kind, strength), (index, motion))
    return table


def matrix(table: Table, name: str, flickers: list[tuple[str, float]]) -> Array:
    """(flickers, cases)"""
    return np.array([list(table.scores[name, *flicker].values()) for flicker in flickers])


def report(table: Table) -> dict[str, tuple[float, float, float]]:
    """Prints the table; gives each measure's AUC over all flickers."""
    overall = {}
    every = [(kind, strength) for kind, strengths in STRENGTHS.items() for strength in strengths]
    print(f"{'flicker (levels)':20}", *(f"{name:>20}" for name in MEASURES))
    rows = [("all", every), *((f"{kind} {strength:g}", [(kind, strength)]) for kind, strength in every)]
    for label, flickers in rows:
        cells = []
        for name in MEASURES:
            found = interval(matrix(table, name, flickers), matrix(table, name, [("", 0.0)])[0])
            cells.append(f"{found[0]:.3f} ({found[1]:.2f}-{found[2]:.2f})")
            if label == "all":
                overall[name] = found
        print(f"{label:20}", *(f"{cell:>20}" for cell in cells), flush=True)
    names = [name if name in table.seconds else "unsteadiness (DIS)" for name in MEASURES]
    print(f"{'CPU s a video':20}", *(f"{np.median(table.seconds[name]):>20.3f}" for name in names))
    return overall


def figure(table: Table, overall: dict[str, tuple[float, float, float]]) -> str:
    """An SVG: above, what speed does to each measure with and without noise of one level; below, AUC over all flickers."""
    shown = ("F (DIS)", "warp error (DIS)", "VBench's formula", "per-pixel FFT")
    width, high, parts = 880, 470, []

    def text(x: float, y: float, words: str, anchor: str = "start", size: int = 12, color: str = "#333") -> None:
        parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{color}">{words}</text>')

    text(12, 22, "Sliding textures: no flicker (gray), and white noise of 1 gray level on every frame (teal)", size=14)
    for column, name in enumerate(shown):
        left, top, w, h = 40 + column * 212, 58, 165, 130
        text(left, top - 12, name, size=13)
        lines = []
        for flicker in (("", 0.0), ("noise", 1.0)):
            found = table.scores[name, *flicker]
            by = [[v for (_, motion), v in found.items() if motion == f"{s:g} px"] for s in SPEEDS]
            lines.append([(min(v), float(np.median(v)), max(v)) for v in by])
        largest = max(v[2] for line in lines for v in line) * 1.05
        for line, color in zip(lines, ("#888888", "#00897b"), strict=True):
            x = [left + s / SPEEDS[-1] * w for s in SPEEDS]
            y = [[top + h - v / largest * h for v in values] for values in line]
            band = [*zip(x, (v[0] for v in y), strict=True), *reversed(list(zip(x, (v[2] for v in y), strict=True)))]
            parts.append(f'<polygon fill="{color}" opacity="0.25" points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in band)}"/>')
            points = " ".join(f"{a:.1f},{b[1]:.1f}" for a, b in zip(x, y, strict=True))
            parts.append(f'<polyline fill="none" stroke="{color}" stroke-width="2.5" points="{points}"/>')
        parts.append(f'<path d="M{left},{top}V{top + h}H{left + w}" fill="none" stroke="#333"/>')
        text(left - 4, top + 8, f"{largest:.2g}", "end", 10)
        text(left - 4, top + h, "0", "end", 10)
        for s in (0, 2, 4):
            text(left + s / 4 * w, top + h + 15, f"{s}", "middle", 10)
        text(left + w / 2, top + h + 30, "speed, px a frame", "middle", 11)
    text(12, 256, "How often does a video with flicker score above one without? AUC over all kinds, strengths and motions", size=14)
    left, w = 190, 600
    for tick in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0):
        x = left + (tick - 0.4) / 0.6 * w
        parts.append(f'<path d="M{x:.1f},270V436" stroke="#ddd"/>')
        text(x, 452, f"{tick:.1f}", "middle", 11)
    for row, (name, found) in enumerate(overall.items()):
        y = 286 + row * 27
        value, low, top = (left + (max(v, 0.4) - 0.4) / 0.6 * w for v in found)
        color = "#00897b" if name.startswith(("F", "un")) else "#888888"
        text(left - 10, y + 4, name, "end", 13)
        parts.append(f'<path d="M{low:.1f},{y}H{top:.1f}" stroke="{color}" stroke-width="3"/>')
        parts.append(f'<circle cx="{value:.1f}" cy="{y}" r="6" fill="{color}"/>')
        text(left + w + 16, y + 4, f"{found[0]:.3f}", size=13)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {high}" font-family="sans-serif">\n'
        f'<rect width="{width}" height="{high}" fill="white"/>\n{body}\n</svg>\n'
    )


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--textures", type=int, default=6)
    parser.add_argument("--size", type=int, default=72)
    parser.add_argument("--frames", type=int, default=12)
    parser.add_argument("--figure", type=Path)
    args = parser.parse_args(words)
    torch.set_num_threads(1)
    table = measured(args.textures, args.size, args.frames)
    count = args.textures * len(MOTIONS)
    print(f"{count} videos without flicker, {count} with each; {args.size} px, {args.frames} frames")
    overall = report(table)
    if args.figure is not None:
        args.figure.parent.mkdir(parents=True, exist_ok=True)
        args.figure.write_text(figure(table, overall), encoding="utf-8")
        print(f"figure: {args.figure}")


if __name__ == "__main__":
    main()
