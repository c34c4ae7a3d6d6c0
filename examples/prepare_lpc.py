"""Edits of LPC sprites as an imagefolder: a character before and after one item changes color, with the item's own alpha as mask.

usage: python prepare_lpc.py LPC_FOLDER OUT_FOLDER [--count 500] [--seed 0]      (64 px, standing, seen from the front)
"""

import argparse
import functools
import json
import random
from pathlib import Path

from PIL import Image, ImageChops

SLOTS = ("hair", "torso", "legs", "feet")


@functools.cache
def cell(file: Path, row: int) -> Image.Image:
    return Image.open(file).convert("RGBA").crop((0, row * 64, 64, row * 64 + 64))


def render(layers: list[Image.Image]) -> Image.Image:
    gray = Image.new("RGBA", (64, 64), (128, 128, 128, 255))
    return functools.reduce(Image.alpha_composite, layers, gray).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lpc", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    manifest, rng = json.loads((args.lpc / "manifest.json").read_text()), random.Random(args.seed)
    row = manifest["rows"]["walk"]["first_row"] + manifest["direction_order"].index("down")
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    while len(lines) < args.count:
        sex, slot = rng.choice(["male", "female"]), rng.choice(SLOTS)
        stock = {name: [x for x in manifest["slots"][name] if x["sex"] == sex] for name in ("body", "eyes", *SLOTS)}
        before = {name: rng.choice(items) for name, items in stock.items()}
        others = [x for x in stock[slot] if x["item"] == before[slot]["item"] and x["colour"] != before[slot]["colour"]]
        if not others:
            continue
        after = before | {slot: rng.choice(others)}
        order = [name for name in manifest["draw_order"] if name in stock]
        cells = [{name: cell(args.lpc / "layers" / wear[name]["file"], row) for name in order} for wear in (before, after)]
        either = ImageChops.lighter(*(layers[slot].getchannel("A") for layers in cells)).point(lambda alpha: 255 if alpha else 0)
        line, pictures = {}, [*(render(list(layers.values())) for layers in cells), either]
        for name, image in zip(("input_image", "edited_image", "mask"), pictures, strict=True):
            line[f"{name}_file_name"] = f"{len(lines):05}_{name}.png"
            image.save(args.out / line[f"{name}_file_name"])
        line["edit_prompt"] = f"make the {'hair' if slot == 'hair' else after[slot]['item']} {after[slot]['colour']}"
        lines.append(line | {"group": "/".join(before[name]["file"] for name in sorted(before))})
    (args.out / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


main()
