"""Captioned LPC sprites at 32 px: a folder to train on, and groups in Winoground's layout that differ in who has which color.

usage: python sprites.py LPC_FOLDER OUT_FOLDER [--train 3000] [--groups 240] [--seed 0]
OUT/train and OUT/groups: PNGs made by the collection's own render.py, and metadata.jsonl. A negative_caption has two colors
exchanged, or one replaced; no caption is about an item that does not exist. In the groups every hair style is unseen; `colors` is
"new" where no caption of the training has the two colors on these two places in either order (of shirts: with this third color).
"""

import argparse
import json
import random
import runpy
from collections.abc import Callable
from pathlib import Path

SLOTS = {"hair": ("hair", ""), "robe": ("dress", "robe"), "shirt": ("torso", "shirt tunic"), "pants": ("legs", "trousers")}
NEW_STYLES = {"male": ("parted", "messy"), "female": ("ponytail", "fringe")}
NEW_HAIR = ("black", "blonde", "blue", "green", "pink")  # with a teal shirt and white pants, or the reverse
NEW_PANTS = ("red", "white")  # with brown hair and a white shirt, or the reverse
NEW_ROBES = [{"black", "purple"}, {"blue", "brown"}, {"green", "white"}, {"black", "green"}, {"blue", "purple"}]
PAIRS = [("hair", "robe"), ("shirt", "pants"), ("hair", "shirt")]
Wear = dict[str, dict[str, str]]


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


def replaced(manifest: dict, sex: str, wear: Wear, rng: random.Random) -> dict[str, str]:
    """The colors with one of them another that the item comes in."""
    place = rng.choice([*wear])
    others = [x["colour"] for x in stock(manifest, sex, place) if x["colour"] != wear[place]["colour"]]
    return {**colors_of(wear), place: rng.choice(others)}


def caption(colors: dict[str, str]) -> str:
    return ", ".join(f"{color} {place}" for place, color in colors.items())


def colors_of(wear: Wear) -> dict[str, str]:
    return {place: item["colour"] for place, item in wear.items()}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("lpc", type=Path)
    parser.add_argument("out", type=Path)
    for name, default in (("train", 3000), ("groups", 240), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    render, rng = runpy.run_path(str(args.lpc / "render.py")), random.Random(args.seed)
    stocked, frame = render["M"], render["frame"]

    def save(folder: str, name: str, rest: dict, wear: Wear, step: int) -> str:
        (args.out / folder).mkdir(parents=True, exist_ok=True)
        slots = {SLOTS[place][0]: item for place, item in wear.items()}
        frame({**rest, **slots}, "walk", "down", step, size=32).save(args.out / folder / name)
        return name

    train, groups, known = [], [], set()
    while len(train) < args.train:
        rest, wear = character(stocked, rng, rng.random() < 0.5, lambda sex, style: style not in NEW_STYLES[sex])
        colors, sex = colors_of(wear), rest["sex"]
        swaps = [new for pair in PAIRS if {*pair} <= {*wear} and (new := exchanged(stocked, sex, wear, pair))]
        wrong = colors_of(rng.choice(swaps)) if swaps else replaced(stocked, sex, wear, rng)
        if held_out(colors) or held_out(wrong) or (not swaps and rng.random() < 0.6):
            continue
        line = {"image": save("train", f"{len(train):05}.png", rest, wear, rng.randrange(9))}
        train.append(line | {"text": caption(colors), "negative_caption": caption(wrong)})
    while len(groups) < args.groups:
        rest, wear = character(stocked, rng, len(groups) % 2 == 0, lambda sex, style: style in NEW_STYLES[sex])
        places = PAIRS[0] if "robe" in wear else rng.choice(PAIRS[1:])
        other, step = exchanged(stocked, rest["sex"], wear, places), rng.randrange(9)
        who = json.dumps([rest, step, sorted([[*map(str, w.values())] for w in (wear, other) if w])])
        if other is None or who in known:
            continue
        known.add(who)
        line = {"id": f"{len(groups):04}", "tag": "/".join(places), "colors": "new" if held_out(colors_of(wear)) else "seen"}
        for i, one in enumerate((wear, other)):
            line[f"image_{i}"] = save("groups", f"{len(groups):04}_{i}.png", rest, one, step)
            line[f"caption_{i}"] = caption(colors_of(one))
        groups.append(line)
    for folder, lines in (("train", train), ("groups", groups)):
        (args.out / folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    main()
