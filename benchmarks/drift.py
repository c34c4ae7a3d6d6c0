"""What `drift` tells from real video: clips worn by made faults of known strength, against the same and the other clips unworn.

python benchmarks/drift.py 'clips/*/gt' [--size 64] [--frames 16]

Each argument is a folder of frames in the order of their names (a pattern in quotes finds many); docs/metrics.md has the figures
of FETV's real clips. By fault and strength: the AUC of worn clips against all unworn ones, and the share of clips that score
above their own original, for `drift`, for the rate of its slopes alone (`trend`) and for their plain length; then the scores of
first frames that collapse. Units come from the slopes of the same clips. Intervals by bootstrap over clips. Ten seconds for 17
clips.
"""

from __future__ import annotations

import argparse
import glob
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from relatum.imaging import decode, fit
from relatum.metrics.drift import drift_series, rate, trend, wear

FAULTS = (
    ("blur", 0.03), ("blur", 0.1), ("sharpen", 0.02), ("sharpen", 0.05), ("noise", 0.005), ("noise", 0.01), ("noise", 0.02),
    ("fade", 0.01), ("fade", 0.03), ("contrast", 0.01), ("contrast", 0.03), ("tint", 0.005), ("tint", 0.01),
)  # fmt: skip


def blurred(frame: Tensor) -> Tensor:
    return avg_pool2d(pad(frame[None], (1, 1, 1, 1), mode="replicate"), 3, 1)[0]


def worn(frame: Tensor, fault: str, strength: float, step: int, draws: torch.Generator) -> Tensor:
    """The frame after `step` steps of a fault; its own motion stays as it is."""
    mean = frame.mean((1, 2), keepdim=True)
    if fault == "fade":
        return mean + (frame - mean) * (1 - strength) ** step
    if fault == "contrast":
        return frame * (1 + strength) ** step
    if fault == "tint":
        return frame + torch.tensor([strength, 0.0, -strength])[:, None, None] * step
    if fault == "noise":
        return frame + strength * step**0.5 * torch.randn(frame.shape, generator=draws)
    for _ in range(step):
        toward = strength if fault == "blur" else -strength
        frame = (frame + toward * (blurred(frame) - frame)).clamp(-1, 1)
    return frame


def rounded(video: Tensor) -> Tensor:
    return (video.mul(127.5).round() / 127.5).clamp(-1, 1)


def collapsed(first: Tensor, kind: str, frames: int) -> Tensor:
    """The first frame held, but for a collapse."""
    video = first.repeat(frames, 1, 1, 1)
    if kind == "white from step 2":
        video[2:] = 1.0
        return video
    last = 3 if kind == "gray within 3 steps" else frames - 1
    return video * (1 - torch.arange(frames) / last).clamp_min(0)[:, None, None, None]


def read(videos: Sequence[Tensor]) -> Tensor:
    """(n, 2, 6): slopes, and wear, of every video."""
    series = [drift_series(rounded(video)) for video in videos]
    return torch.stack([torch.stack([trend(one), wear(one)]) for one in series])


def auc(worn_scores: np.ndarray, real: np.ndarray) -> float:
    above = worn_scores[:, None] - real[None]
    return float(((above > 0) + 0.5 * (above == 0)).mean())


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", nargs="+")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--frames", type=int, default=16)
    given = parser.parse_args(words)
    folders = sorted(Path(name) for pattern in given.clips for name in glob.glob(pattern))
    files = [sorted(path for path in folder.iterdir() if path.suffix in (".jpg", ".png"))[: given.frames] for folder in folders]
    clips = [torch.stack([fit(decode(file, str(file)), given.size) for file in names]) for names in files if len(names) > 2]
    if not clips:
        parser.error("no folder with three or more frames (.jpg, .png)")
    draws = torch.Generator().manual_seed(0)
    real = read(clips)
    found = {
        fault: read([torch.stack([worn(f, *fault, k, draws) for k, f in enumerate(clip)]) for clip in clips]) for fault in FAULTS
    }
    slopes = real[:, 0]
    color = slopes[:, 3:].square().mean(1, keepdim=True).sqrt()
    units = torch.cat([slopes[:, :3].abs(), color], 1).quantile(0.75, dim=0).tolist()
    print(f"{len(clips)} clips; upper quartiles of the slopes: " + ", ".join(f"{unit:.4f}" for unit in units))
    report("drift", lambda t: np.array([rate(row) for row in t[:, 1]]), real, found)
    report("trend", lambda t: np.array([rate(row) for row in t[:, 0]]), real, found)
    report("plain length", lambda t: t[:, 0].norm(dim=1).numpy(), real, found)
    for kind in ("gray within 3 steps", "white from step 2", "gray at the last step"):
        tables = read([collapsed(clip[0], kind, len(clip)) for clip in clips])
        for name, column in (("drift", 1), ("trend", 0)):
            scores = np.array([rate(row) for row in tables[:, column]])
            print(f"{name:<13} {kind}: median {np.median(scores):.3g} ({scores.min():.3g} to {scores.max():.3g})")


def report(name: str, score: Callable[[Tensor], np.ndarray], real: Tensor, found: dict[tuple[str, float], Tensor]) -> None:
    base, scores = score(real), {fault: score(table) for fault, table in found.items()}
    for (fault, strength), values in scores.items():
        print(f"{name:<13} {fault:<9} {strength:<6g} AUC {auc(values, base):.2f}  above its original {(values > base).mean():.2f}")
    draws = np.random.default_rng(0)

    def over(picks: np.ndarray) -> tuple[float, float]:
        both = [(auc(v[picks], base[picks]), float((v[picks] > base[picks]).mean())) for v in scores.values()]
        return float(np.mean([a for a, _ in both])), float(np.mean([share for _, share in both]))

    middle = over(np.arange(len(base)))
    drawn = np.array([over(draws.integers(0, len(base), len(base))) for _ in range(500)])
    for what, value, column in zip(("mean AUC", "mean above its original"), middle, drawn.T, strict=True):
        low, high = np.quantile(column, [0.025, 0.975])
        print(f"{name:<13} {what} {value:.3f} ({low:.3f} to {high:.3f})")
    print(f"{name:<13} unworn: median {np.median(base):.3g}, mean {base.mean():.3g}, {base.min():.3g} to {base.max():.3g}")


if __name__ == "__main__":
    main()
