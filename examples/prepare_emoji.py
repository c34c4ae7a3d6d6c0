"""Edits of emoji as an imagefolder: drawings on white, grouped so that one subject never stands on both sides of a split.

usage: python prepare_emoji.py TWEMOJI_FOLDER OUT_FOLDER [--count N] [--seed 0]      (needs pillow)
"""

import argparse
import io
import json
import random
import re
import zipfile
from pathlib import Path

from PIL import Image

# Words that an edit may change; the rest of a name is its subject.
PEOPLE = "woman women man men person people girl boy child"
ATTRIBUTES = set(f"skin tone hair beard dark medium light red curly white bald blond {PEOPLE}".split())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("twemoji", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = [json.loads(line) for line in next(args.twemoji.glob("edit_pairs_*.jsonl")).read_text("utf-8").splitlines()]
    random.Random(args.seed).shuffle(pairs)
    pairs = pairs[: args.count]
    args.out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(next(args.twemoji.glob("twemoji72_*.zip"))) as archive:
        for name in sorted({pair[side] for pair in pairs for side in ("source", "target")}):
            drawing = Image.open(io.BytesIO(archive.read(name))).convert("RGBA")
            white = Image.new("RGBA", drawing.size, "white")
            Image.alpha_composite(white, drawing).convert("RGB").save(args.out / Path(name).name)
    parent: dict[str, str] = {}  # names joined by an edit, or by their subject's words, are one group

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for pair in pairs:
        for name in (pair["source"], pair["target"]):
            subject = " ".join(word for word in re.findall(r"\w+", Path(name).stem.lower()) if word not in ATTRIBUTES)
            parent[root(name)] = root(f"subject: {subject}")
        parent[root(pair["source"])] = root(pair["target"])
    lines = [
        {"input_image": p["source"], "edited_image": p["target"], "edit_prompt": p["instruction"], "group": root(p["source"])}
        | {"kind": p["kind"]}
        for p in pairs
    ]
    (args.out / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


main()
