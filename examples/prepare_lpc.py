"""Edits of LPC sprites as an imagefolder: a character before and after one item changes color, with the item's own alpha as mask.

usage: python prepare_lpc.py LPC_FOLDER OUT_FOLDER [--count 500] [--seed 0]      (needs pillow; 64 px, standing, seen from the front)
"""

import argparse
import functools
import json
import random
from pathlib import Path

from PIL import Image, ImageChops

SLOTS = ("hair", "torso", "legs", "feet")


@functools.cache
def sheet(file: Path) -> Image.Image:
    return Image.open(file).convert("RGBA")


def character(manifest: dict, rng: random.Random) -> dict:
    sex = rng.choice(["male", "female"])
    wear = {slot: [item for item in manifest["slots"][slot] if item["sex"] == sex] for slot in ("body", "eyes", *SLOTS)}
    return {slot: rng.choice(items) for slot, items in wear.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lpc", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    manifest, rng = json.loads((args.lpc / "manifest.json").read_text()), random.Random(args.seed)
    row = manifest["rows"]["walk"]["first_row"] + manifest["direction_order"].index("down")

    def cell(item: dict) -> Image.Image:
        return sheet(args.lpc / "layers" / item["file"]).crop((0, row * 64, 64, row * 64 + 64))

    def render(wear: dict) -> Image.Image:
        image = Image.new("RGBA", (64, 64), (128, 128, 128, 255))
        for slot in manifest["draw_order"]:
            if slot in wear:
                image.alpha_composite(cell(wear[slot]))
        return image.convert("RGB")

    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    while len(lines) < args.count:
        wear, slot = character(manifest, rng), rng.choice(SLOTS)
        old = wear[slot]
        same = [x for x in manifest["slots"][slot] if (x["sex"], x["item"]) == (old["sex"], old["item"]) and x["colour"] != old["colour"]]
        if not same:
            continue
        new, i = rng.choice(same), len(lines)
        alpha = ImageChops.lighter(cell(old).getchannel("A"), cell(new).getchannel("A")).point(lambda a: 255 if a else 0)
        images = {"input_image": render(wear), "edited_image": render({**wear, slot: new}), "mask": alpha}
        for name, image in images.items():
            image.save(args.out / f"{i:05}_{name}.png")
        noun = "hair" if slot == "hair" else new["item"]
        group = "/".join(wear[name]["file"] for name in sorted(wear))
        line = {"edit_prompt": f"make the {noun} {new['colour']}", "group": group}
        lines.append({f"{name}_file_name": f"{i:05}_{name}.png" for name in images} | line)
    (args.out / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


main()
