"""Captioned LPC sprites at 32 px: a folder to train on, and groups in Winoground's layout that differ in who has which color.

usage: python sprites.py LPC_FOLDER OUT_FOLDER [--train 3000] [--groups 240] [--seed 0]

OUT/train: PNGs and metadata.jsonl (image, text, negative_caption: two colors exchanged). OUT/groups: PNGs and metadata.jsonl.
Pictures are made by the collection's own render.py. In the groups every hair style is unseen; of column `colors`, "new" says that
the two colors never meet on these two places in training either, whichever has which (for shirts: not with this third color).
"""

import argparse
import importlib.util
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

SLOTS = {"hair": ("hair", ""), "robe": ("dress", "robe"), "shirt": ("torso", "shirt tunic"), "pants": ("legs", "trousers")}
NEW_STYLES = {"male": ("parted", "messy"), "female": ("ponytail", "fringe")}
NEW_HAIR = ("black", "blonde", "blue", "green", "pink")  # with a teal shirt and white pants, or the reverse
NEW_PANTS = ("red", "white")  # with brown hair and a white shirt, or the reverse
NEW_ROBES = [{"black", "purple"}, {"blue", "brown"}, {"green", "white"}, {"black", "green"}, {"blue", "purple"}]
Wear = dict[str, dict[str, str]]


def renderer(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("render", folder / "render.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"{folder}: no render.py")
    sys.dont_write_bytecode = True  # the folder stays as it is
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def held_out(colors: dict[str, str]) -> bool:
    """Whether training must not show these colors on these places."""
    if "robe" in colors:
        return {colors["hair"], colors["robe"]} in NEW_ROBES
    if {colors["shirt"], colors["pants"]} == {"teal", "white"} and colors["hair"] in NEW_HAIR:
        return True
    return {colors["hair"], colors["shirt"]} == {"brown", "white"} and colors["pants"] in NEW_PANTS


def stock(manifest: dict, sex: str, place: str) -> list[dict[str, str]]:
    slot, words = SLOTS[place]
    items = [x for x in manifest["slots"][slot] if x["sex"] == sex]
    return [x for x in items if not words or x["item"].split()[-1] in words.split()]


def character(manifest: dict, rng: random.Random, robe: bool, style: Callable[[str, str], bool]) -> tuple[dict, Wear]:
    """What nobody mentions (sex, skin, eyes, shoes), and what is worn on each place that a caption names."""
    sex = "female" if robe else rng.choice(["male", "female"])
    rest = {slot: rng.choice([x for x in manifest["slots"][slot] if x["sex"] == sex]) for slot in ("body", "eyes", "feet")}
    wear = {place: rng.choice(stock(manifest, sex, place)) for place in (("hair", "robe") if robe else ("hair", "shirt", "pants"))}
    wear["hair"] = rng.choice([x for x in stock(manifest, sex, "hair") if style(sex, x["item"])])
    return {"sex": sex, **rest}, wear


def exchanged(manifest: dict, sex: str, wear: Wear, places: tuple[str, str]) -> Wear | None:
    """The same items with the two places' colors exchanged; None where they are equal or there is no such item."""
    new = dict(wear)
    for one, other in (places, places[::-1]):
        item, color = wear[one]["item"], wear[other]["colour"]
        fits = [x for x in stock(manifest, sex, one) if x["item"] == item and x["colour"] == color]
        if not fits or color == wear[one]["colour"]:
            return None
        new[one] = fits[0]
    return new


def caption(colors: dict[str, str], order: list[str]) -> str:
    return ", ".join(f"{colors[place]} {place}" for place in order)


def colors_of(wear: Wear) -> dict[str, str]:
    return {place: item["colour"] for place, item in wear.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lpc", type=Path)
    parser.add_argument("out", type=Path)
    for name, default in (("train", 3000), ("groups", 240), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    render, rng = renderer(args.lpc), random.Random(args.seed)

    def save(folder: str, name: str, rest: dict, wear: Wear, step: int) -> str:
        (args.out / folder).mkdir(parents=True, exist_ok=True)
        slots = {SLOTS[place][0]: item for place, item in wear.items()}
        render.frame({**rest, **slots}, "walk", "down", step, size=32).save(args.out / folder / name)
        return name

    train, groups, known = [], [], set()
    while len(train) < args.train:
        rest, wear = character(render.M, rng, rng.random() < 0.5, lambda sex, style: style not in NEW_STYLES[sex])
        colors, order = colors_of(wear), rng.sample([*wear], len(wear))
        one, other = rng.sample([*wear], 2)
        if held_out(colors) or colors[one] == colors[other]:
            continue
        wrong = {**colors, one: colors[other], other: colors[one]}
        line = {"image": save("train", f"{len(train):05}.png", rest, wear, rng.randrange(9))}
        train.append(line | {"text": caption(colors, order), "negative_caption": caption(wrong, order)})
    while len(groups) < args.groups:
        rest, wear = character(render.M, rng, len(groups) % 2 == 0, lambda sex, style: style in NEW_STYLES[sex])
        places = ("hair", "robe") if "robe" in wear else rng.choice([("shirt", "pants"), ("hair", "shirt")])
        other, order, step = exchanged(render.M, rest["sex"], wear, places), rng.sample([*wear], len(wear)), rng.randrange(9)
        who = json.dumps([rest, step, sorted([[*map(str, w.values())] for w in (wear, other) if w])])
        if other is None or who in known:
            continue
        known.add(who)
        line = {"id": f"{len(groups):04}", "tag": "/".join(places), "colors": "new" if held_out(colors_of(wear)) else "seen"}
        for i, one in enumerate((wear, other)):
            line[f"image_{i}"] = save("groups", f"{len(groups):04}_{i}.png", rest, one, step)
            line[f"caption_{i}"] = caption(colors_of(one), order)
        groups.append(line)
    for folder, lines in (("train", train), ("groups", groups)):
        (args.out / folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
