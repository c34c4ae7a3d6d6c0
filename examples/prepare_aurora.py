"""Instructed edits of real photographs (AURORA-Bench) as an imagefolder.

Edits that share a picture, or a chain of them, are one group. Triplets without a target are left out.

usage: python prepare_aurora.py AURORA_FOLDER OUT_FOLDER [--tasks magicbrush whatsup ...]
"""

import argparse
import json
import zipfile
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("aurora", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--tasks", nargs="*", default=[])
    args = parser.parse_args()
    triplets = [json.loads(line) for line in next(args.aurora.glob("triplets_*.jsonl")).read_text("utf-8").splitlines()]
    triplets = [t for t in triplets if "target" in t and (not args.tasks or t["task"] in args.tasks)]
    home = args.out.resolve()
    with zipfile.ZipFile(next(args.aurora.glob("images_*.zip"))) as archive:
        for name in sorted({t[side] for t in triplets for side in ("source", "target")}):
            path = (home / name).resolve()
            if not path.is_relative_to(home):
                raise SystemExit(f"{name} leads out of {args.out}")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(archive.read(name))
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    for t in triplets:
        parent[root(t["target"])] = root(t["source"])
    with (args.out / "metadata.jsonl").open("w", encoding="utf-8") as file:
        for t in triplets:
            line = {"input_image": t["source"], "edited_image": t["target"], "edit_prompt": t["instruction"]}
            file.write(json.dumps(line | {"group": root(t["source"]), "task": t["task"]}) + "\n")


main()
