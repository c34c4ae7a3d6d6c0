"""A folder of clips and a listing of what they show, one JSON object a line, as a folder for the reader "videos".

usage: python prepare_clips.py LISTING.jsonl OUT_FOLDER [--file file] [--caption caption] [--group FIELD]
"""

import argparse
import json
import shutil
from pathlib import Path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("listing", type=Path, help="a line a clip; files are relative to the listing")
    parser.add_argument("out", type=Path)
    parser.add_argument("--file", default="file", help="the field with the file's name")
    parser.add_argument("--caption", default="caption", help="the field with what the clip shows")
    parser.add_argument("--group", default="", help="the field with what the clip was cut from; clips of one stay on one side")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    lines = []
    for line in args.listing.read_text("utf-8").splitlines():
        clip = json.loads(line)
        source = args.listing.parent / clip[args.file]
        shutil.copyfile(source, args.out / source.name)
        group = {"video": str(clip[args.group])} if args.group else {}
        lines.append(json.dumps({"file_name": source.name, "text": clip[args.caption], **group}) + "\n")
    (args.out / "metadata.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{len(lines)} clips in {args.out}")


main()
