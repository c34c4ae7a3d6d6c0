"""How well the area of text is found: the heuristic ("text"), rapidocr's detector ("ocr"), and tesseract where it is installed.

python benchmarks/text_area.py [--data shared/data] [--seed 1] [--captions 60] [--textures 6] [--only heuristic rapidocr tesseract]

overlay   frames labeled text or not: area under the ROC curve of the area, with a bootstrap interval over frames (2,000 draws)
icdar     street photographs with polygons: correlation of areas, and precision and recall of pixels
videos    a frame a second of real clips without text: false area
textures  drawn fences, foliage, windows, walls, crowds, noise: false area
captions  drawn lines of known boxes, as they are and after H.264 at a low rate, sizes 240p to 720p: slope and correlation of areas
Beside them "density", the largest mean of horizontal gradients in a box of 41 x 11 pixels at 240p: it ranks, but is no area. Parts
whose data is missing are left out. ms: CPU time a frame, one thread, picture in memory.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import shutil
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
from text_fit import small_luma
from text_pictures import Caption, captions, compressed, textures

from relatum.curation.lines import find_lines
from relatum.curation.stages.ocr import Ocr

LIMIT = 0.07  # the area above which a clip is dropped by default
Finder = Callable[[np.ndarray], np.ndarray]
"""Of an (h w 3) RGB picture: (h w) float, 0 to 1, where text is."""


def heuristic(picture: np.ndarray) -> np.ndarray:
    luma = small_luma(picture)
    found = np.zeros(luma.shape, np.float32)
    for box, weight in reversed(list(zip(*find_lines(luma), strict=True))):
        left, top, width, height = np.round(box * np.array([*luma.shape[::-1]] * 2)).astype(int)
        found[top : top + height, left : left + width] = weight
    return found


def density(picture: np.ndarray) -> np.ndarray:
    luma = small_luma(picture, 240).astype(np.float32)
    steps = np.abs(np.diff(luma, axis=1, prepend=luma[:, :1]))
    return np.full((1, 1), cv2.blur(steps, (41, 11)).max() / 255)


def rapidocr() -> Finder:
    look = Ocr()
    look.open("cpu")

    def find(picture: np.ndarray) -> np.ndarray:
        scale = 256 / min(picture.shape[:2])  # as stills are by default
        still = picture if scale >= 1 else cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        return look.covered(still).astype(np.float32)

    return find


def tesseract(picture: np.ndarray) -> np.ndarray:
    """Words of three characters and more, confidence over 60, three times enlarged, page segmentation 11."""
    large = cv2.resize(picture, None, fx=3, fy=3, interpolation=cv2.INTER_CUBIC)
    file = cv2.imencode(".png", large[..., ::-1])[1].tobytes()
    table = subprocess.run(["tesseract", "-", "-", "--psm", "11", "tsv"], input=file, capture_output=True, check=True).stdout
    found = np.zeros(large.shape[:2], np.float32)
    for row in csv.DictReader(io.StringIO(table.decode()), delimiter="\t", quoting=csv.QUOTE_NONE):
        if float(row["conf"]) > 60 and len(row["text"].strip()) >= 3:
            left, top, width, height = (int(row[name]) for name in ("left", "top", "width", "height"))
            found[top : top + height, left : left + width] = 1
    return found


def auc(yes: np.ndarray, no: np.ndarray) -> float:
    return float(((yes[:, None] > no[None]) + 0.5 * (yes[:, None] == no[None])).mean())


def overlay(find: Finder, folder: Path) -> str:
    with zipfile.ZipFile(folder / "frames_dev.zip") as archive, (folder / "labels_dev.csv").open() as labels:
        rows = list(csv.DictReader(labels))
        files = [archive.read(row["file"]) for row in rows]
    pictures = [cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for file in files]
    areas, text = np.array([find(picture).mean() for picture in pictures]), np.array([row["overlay_text"] == "1" for row in rows])
    draws = np.random.default_rng(0)
    yes, no = areas[text], areas[~text]
    spread = [auc(draws.choice(yes, len(yes)), draws.choice(no, len(no))) for _ in range(2000)]
    low, high = np.quantile(spread, [0.025, 0.975])
    return (
        f"AUC {auc(yes, no):.3f} ({low:.3f} to {high:.3f}), {len(yes)} of {len(areas)} with text; "
        f"area with {np.mean(yes):.4f}, without {np.mean(no):.4f}; without, over {LIMIT}: {np.mean(no > LIMIT):.3f}"
    )


def icdar(find: Finder, folder: Path) -> str:
    truths, founds, hit = [], [], np.zeros(3)
    for entry in json.loads((folder / "textdet_test.json").read_text())["data_list"]:
        picture = cv2.imread(str(folder / Path(entry["img_path"]).name))[..., ::-1]
        mask = np.zeros(picture.shape[:2], np.uint8)
        cv2.fillPoly(mask, [np.array(one["polygon"], np.int32).reshape(-1, 2) for one in entry["instances"]], 1)
        found = cv2.resize(find(picture), mask.shape[::-1], interpolation=cv2.INTER_NEAREST)
        truths.append(mask.mean())
        founds.append(found.mean())
        hit += [(found * mask).sum(), found.sum(), mask.sum()]
    pair = np.corrcoef(truths, founds)[0, 1] if np.std(founds) else 0.0
    return f"correlation {pair:.2f}, precision {hit[0] / max(hit[1], 1e-9):.2f}, recall {hit[0] / hit[2]:.2f} of pixels"


def every_second(folder: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Frames outside the marked spans of text."""
    for line in (folder / "clips_dev.jsonl").read_text().splitlines():
        record, due = json.loads(line), 0.0
        with av.open(str(folder / record["file"])) as container:
            for index, frame in enumerate(container.decode(video=0)):
                if (frame.time or 0.0) >= due - 1e-6:
                    due = (frame.time or 0.0) + 1
                    if not any(first <= index <= last for first, last in record["text_overlay_spans"]):
                        yield Path(record["file"]).name, frame.to_ndarray(format="rgb24")


def false_area(find: Finder, pictures: Iterator[tuple[str, np.ndarray]]) -> str:
    by_name: dict[str, list[float]] = {}
    for name, picture in pictures:
        by_name.setdefault(name, []).append(float(find(picture).mean()))
    every = np.concatenate(list(by_name.values()))
    worst = sorted(by_name.items(), key=lambda item: -np.mean(item[1]))[:3]
    shares = ", ".join(
        f"{name} {np.mean(areas):.4f} (over {LIMIT}: {np.mean(np.array(areas) > LIMIT):.2f})" for name, areas in worst
    )
    return f"{len(every)} pictures, mean {every.mean():.4f}, over {LIMIT}: {np.mean(every > LIMIT):.3f}; most: {shares}"


def true_area(find: Finder, drawn: list[Caption]) -> str:
    truth = np.array([caption.area for caption in drawn])
    found = np.array([find(caption.picture).mean() for caption in drawn])
    ratio = np.quantile(found / truth, [0.1, 0.5, 0.9])
    slope = (truth * found).sum() / (truth**2).sum()
    over = [np.mean(found[which] > LIMIT) for which in (truth > 0.1, truth < 0.05)]
    return (
        f"slope {slope:.2f}, correlation {np.corrcoef(truth, found)[0, 1]:.2f}, found/true {ratio[1]:.2f} "
        f"({ratio[0]:.2f} to {ratio[2]:.2f}); over {LIMIT}: {over[0]:.2f} of those truly over .10, {over[1]:.2f} under .05"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--captions", type=int, default=60)
    parser.add_argument("--textures", type=int, default=6)
    parser.add_argument("--only", nargs="*", default=["heuristic", "density", "rapidocr", "tesseract"])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    plain = list(captions(options.seed, options.captions))
    tight = [Caption(compressed(one.picture, 38), one.boxes, one.style, one.height) for one in plain]
    for name in options.only:
        if name == "tesseract" and not shutil.which("tesseract"):
            print("tesseract is not installed: left out")
            continue
        find = rapidocr() if name == "rapidocr" else {"heuristic": heuristic, "density": density, "tesseract": tesseract}[name]
        print(f"{name}: {timed(find, [one.picture for one in plain if one.picture.shape[0] == 360][:8])}")
        for part, measure in {
            "text_overlay": lambda folder, find=find: overlay(find, folder),
            "icdar": lambda folder, find=find: icdar(find, folder),
            "videos": lambda folder, find=find: false_area(find, every_second(folder)),
        }.items():
            if (options.data / part).is_dir():
                print(f"  {part:12} {measure(options.data / part)}", flush=True)
        print(f"  {'textures':12} {false_area(find, textures(options.seed, options.textures))}", flush=True)
        print(f"  {'captions':12} {true_area(find, plain)}\n  {'after H.264':12} {true_area(find, tight)}", flush=True)


def timed(find: Finder, pictures: list[np.ndarray]) -> str:
    costs = []
    for picture in [*pictures[:1], *pictures, *pictures]:
        begin = time.process_time()
        find(picture)
        costs.append((time.process_time() - begin) * 1000)
    costs = costs[1:]  # the first one loads
    low, middle, high = np.quantile(costs, [0.1, 0.5, 0.9])
    return f"{middle:.1f} ms a frame of 640 x 360 ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
