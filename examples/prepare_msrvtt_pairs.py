"""Pairs of frames from MSR-VTT clips, laid side by side in JPEGs, as a folder for the reader "frame_pairs".

The left half of each picture is the source, the right half the target; a pair's offset is its gap in frames at RATE a second.
The held-out clips follow from the recipe: pairs of one clip are of one group.

usage: python prepare_msrvtt_pairs.py PAIRS_FOLDER OUT_FOLDER [--count N] [--rate 25]
"""

import argparse
import io
import json
import zipfile
from pathlib import Path

from PIL import Image


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pairs", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=0, help="0: all of them")
    parser.add_argument("--rate", type=float, default=25.0, help="frames a second of the clips")
    args = parser.parse_args()
    listing = next(args.pairs.glob("pairs_*.jsonl"))
    pairs = [json.loads(line) for line in listing.read_text("utf-8").splitlines()]
    pairs = pairs[: args.count] if args.count else pairs
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    with zipfile.ZipFile(listing.with_suffix(".zip")) as archive:
        for number, pair in enumerate(pairs):
            picture = Image.open(io.BytesIO(archive.read(pair["file"])))
            half = picture.width // 2
            names = [f"{number:05d}-{side}.png" for side in ("source", "target")]
            for at, name in enumerate(names):
                picture.crop((at * half, 0, (at + 1) * half, picture.height)).save(args.out / name)
            offset = (pair["target_frame"] - pair["source_frame"]) / args.rate
            line = {"source": names[0], "target": names[1], "text": pair["captions"], "offset": offset, "video": pair["video"]}
            lines.append(json.dumps(line) + "\n")
    (args.out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} pairs of {len({pair['video'] for pair in pairs})} clips in {args.out}")


main()
