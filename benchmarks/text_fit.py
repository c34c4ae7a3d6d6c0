"""The weights of relatum.curation.lines, fitted anew.

python benchmarks/text_fit.py --photos FOLDER_OR_ZIP ... [--captions 480] [--textures 24]

Text: candidates on lines of drawn captions, half of them after H.264 at a low rate, dimmed to 1, 3/4 or 1/2 of their contrast. Not
text: candidates that touch no line, on drawn textures and on the photographs given, which should show no text; dimmed the same.
Each side weighs one half, and of the negatives photographs weigh as much as drawings. The bias is then lowered by log 30:
frames have some fifty candidates, with one or two lines among them. Prints the constants, and the loss on draws left out.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from scipy.optimize import minimize
from text_pictures import captions, compressed, textures

from relatum.curation.lines import FEATURES, candidates

PRIOR = float(np.log(30))
ENDINGS = (".jpg", ".jpeg", ".png", ".webp")


def small_luma(picture: np.ndarray, short: int = 360) -> np.ndarray:
    """As a stage sees an RGB picture."""
    gray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    scale = short / min(gray.shape)
    if scale >= 1:
        return gray
    return cv2.resize(
        gray, (max(round(gray.shape[1] * scale), 1), max(round(gray.shape[0] * scale), 1)), interpolation=cv2.INTER_AREA
    )


def dimmed(luma: np.ndarray, place: int) -> np.ndarray:
    share = (1.0, 0.75, 0.5)[place % 3]
    return (luma * share + (1 - share) * 100).astype(np.uint8)


def photos(sources: list[Path]) -> Iterator[np.ndarray]:
    for source in sources:
        if source.suffix == ".zip":
            with zipfile.ZipFile(source) as archive:
                files = [archive.read(name) for name in sorted(archive.namelist()) if name.lower().endswith(ENDINGS)]
        else:
            files = [path.read_bytes() for path in sorted(source.rglob("*")) if path.suffix.lower() in ENDINGS]
        for file in files:
            yield cv2.cvtColor(cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def overlaps(boxes: np.ndarray, lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n m) intersection over union, and (n m) share of each box inside each line."""
    low = np.maximum(boxes[:, None, :2], lines[None, :, :2])
    high = np.minimum(boxes[:, None, :2] + boxes[:, None, 2:], lines[None, :, :2] + lines[None, :, 2:])
    both = np.prod(np.clip(high - low, 0, None), -1)
    own, theirs = np.prod(boxes[:, 2:], -1)[:, None], np.prod(lines[:, 2:], -1)[None]
    return both / (own + theirs - both), both / own


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of candidates on lines, and of those that touch none."""
    text, other = [], []
    for i, caption in enumerate(captions(seed, count)):
        picture = compressed(caption.picture, 30 + i % 10) if i % 2 else caption.picture
        boxes, features = candidates(dimmed(small_luma(picture), i))
        height, width = caption.picture.shape[:2]
        lines = np.array(caption.boxes) / (width, height, width, height)
        union, inside = overlaps(boxes, lines)
        high = boxes[:, None, 3] > 0.6 * lines[None, :, 3]
        text.append(features[((union > 0.45) | ((inside > 0.85) & high)).any(1)])
        other.append(features[(inside == 0).all(1)])
    return np.concatenate(text), np.concatenate(other)


def data(seed: int, count: int, each: int, shots: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features, whether text, and weights."""
    text, beside = drawn(seed, count)
    flat = [candidates(dimmed(small_luma(picture), i))[1] for i, (_, picture) in enumerate(textures(seed, each))]
    groups = [text, np.concatenate([beside, *flat]), *([np.concatenate(shots)] if shots else [])]
    sides = [1.0] + [1.0 / (len(groups) - 1)] * (len(groups) - 1)
    weights = np.concatenate([np.full(len(group), side / 2 / len(group)) for group, side in zip(groups, sides, strict=True)])
    return np.concatenate(groups), np.repeat([1.0, *[0.0] * (len(groups) - 1)], [len(group) for group in groups]), weights


def loss(parameters: np.ndarray, features: np.ndarray, is_text: np.ndarray, weights: np.ndarray) -> float:
    score = features @ parameters[:-1] + parameters[-1]
    return float((weights * np.logaddexp(0, np.where(is_text > 0, -score, score))).sum())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path, nargs="*", default=[])
    parser.add_argument("--captions", type=int, default=480)
    parser.add_argument("--textures", type=int, default=24)
    options = parser.parse_args()
    shots = [candidates(dimmed(small_luma(picture), i))[1] for i, picture in enumerate(photos(options.photos))]
    fitting, judging = (data(seed, options.captions, options.textures, shots[part::2]) for seed, part in ((101, 0), (102, 1)))
    middle, scale = fitting[0].mean(0), fitting[0].std(0) + 1e-9

    def objective(p: np.ndarray) -> float:
        return loss(p, (fitting[0] - middle) / scale, *fitting[1:]) + 1e-3 * float((p[:-1] ** 2).sum())

    best = minimize(objective, np.zeros(len(FEATURES) + 1), method="L-BFGS-B").x
    weights = best[:-1] / scale
    bias = best[-1] - float((weights * middle).sum())
    rounded = np.round([*weights, bias], 2)
    for name, weight, standard in zip(FEATURES, rounded, best, strict=False):
        print(f"{name:10} {weight:7.2f}   {standard:6.2f} a standard deviation")
    print(f"loss {loss(rounded, *fitting):.3f}, on other draws and the other half of the photographs {loss(rounded, *judging):.3f}")
    print(f"WEIGHTS = ({', '.join(f'{w:g}' for w in rounded[:-1])})\nBIAS = {rounded[-1] - PRIOR:.2f}")


if __name__ == "__main__":
    main()
