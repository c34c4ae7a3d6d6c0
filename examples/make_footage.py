"""Raw footage of the toy world, to try a curation on: films of four shots, of which some have what a curation should find.

usage: python make_footage.py OUT_FOLDER [--films 12]; then: relatum curate footage -o input.path=OUT_FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from relatum.data.toy.grammar import motion_caption
from relatum.data.toy.motion import draw_motion, film
from relatum.data.toy.scene import Stream, draw_scene, grounds_of, pairs_of
from relatum.video.write import write_mp4

SIZE, RATE, SECONDS = 128, 25, 4.0
FAULTS = ("none", "still", "text", "bars", "copy")


def shot(key: int) -> tuple[torch.Tensor, str]:
    """(t 3 h w) in [-1, 1] of a moving scene, and its caption."""
    stream = Stream(key)
    moving = draw_motion(stream, draw_scene(stream, 2, grounds_of("textured"), pairs_of(False)))
    return film([moving], SECONDS, RATE, SIZE), motion_caption(moving, key)


def spoiled(frames: torch.Tensor, fault: str) -> torch.Tensor:
    if fault == "still":
        return frames[:1].expand_as(frames)
    if fault == "bars":
        frames = frames.clone()
        frames[:, :, : SIZE // 5] = frames[:, :, -SIZE // 5 :] = -1
    if fault == "text":
        card = Image.new("L", (SIZE, SIZE))
        ImageDraw.Draw(card).text((6, SIZE * 3 // 4), "SUBSCRIBE NOW!\nlink below", fill=255, font_size=15)
        drawn = torch.from_numpy(np.asarray(card, np.float32)) / 255
        frames = frames * (1 - drawn) + drawn
    return frames


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--films", type=int, default=12)
    args = parser.parse_args()
    for number in range(args.films):
        fault = FAULTS[number % len(FAULTS)]
        shots = [shot(1000 * (0 if fault == "copy" else number) + i) for i in range(4)]
        frames = torch.cat([shots[0][0], spoiled(shots[1][0], fault), *(found for found, _ in shots[2:])])
        write_mp4(args.out / f"{number:03}-{fault}.mp4", frames, RATE, scale=2)
        (args.out / f"{number:03}-{fault}.txt").write_text(shots[0][1] + "\n", encoding="utf-8")
    print(f"{args.films} films in {args.out}")


main()
