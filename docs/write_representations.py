"""Trains, judges and writes docs/studies/representations.md: CLIP from diffusion, and discriminative probing, on the toy world.

usage: python docs/write_representations.py [--seeds 6] [--items 120] [--updates 150] [--runs runs/representations] [--extra]

What is finished is not done again, so the command may be stopped and run again, or run with more seeds.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from datetime import date
from pathlib import Path

import numpy as np
import torch

from relatum.atomic import write_text
from relatum.compare.significance import sign_flip
from relatum.compare.statistics import Bootstrap, Interval
from relatum.core.draws import Draws
from relatum.data.benchmarks.item import ASKS
from relatum.data.benchmarks.winoworld import Winoworld
from relatum.engine.distill import denoising_score
from relatum.engine.match import ClipScorer, DiffusionScorer, Matching, Scorer
from relatum.engine.probe import open_probed
from relatum.jobs.matching import item_key, match_items, run_key
from relatum.jobs.opening import open_rows
from relatum.jobs.training import signature, train_recipe
from relatum.jobs.tuning import FITTED
from relatum.models.families.stable_diffusion import open_stable_diffusion
from relatum.models.families.tuned import ClipSettings, DrawingClip
from relatum.pretrained import open_extractor
from relatum.recipe import Recipe, read_recipe

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "studies" / "representations.md"
LOOK = "look"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
# arm: recipe, what differs from it. PROBE: the probing run of the same seed.
ARMS: dict[str, tuple[str, list[str]]] = {
    "clip plain": ("clip_plain", []),
    "clip diffusion": ("clip_diffusion", []),
    "probing": ("probing", []),
    "unet plain": ("tuning", ["model.matching=0", 'model.begin=""']),
    "unet tuned": ("tuning", ['model.begin="PROBE"']),
    "clip fresh map": ("clip_diffusion", ["model.map=fresh"]),
    "clip no caption": ("clip_diffusion", ["model.caption=null"]),
    "clip norms plain": ("clip_plain", ['model.train={ kind = "partial", pattern = "norm" }']),
    "clip norms diffusion": ("clip_diffusion", ['model.train={ kind = "partial", pattern = "norm" }']),
}
EXTRA = ("clip fresh map", "clip no caption", "clip norms plain", "clip norms diffusion")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--items", type=int, default=120)
    parser.add_argument("--runs", type=Path, default=Path("runs/representations"))
    parser.add_argument("--extra", action="store_true", help="the controls too: no caption, layer norms alone")
    parser.add_argument("--page-only", action="store_true", help="write the page of the results that are there")
    parser.add_argument("--updates", type=int, default=150, help="of a fine-tuning; a probe alone gets twice as many")
    args = parser.parse_args()
    if not args.page_only:
        run(args)
    extra = " --extra" if args.extra else ""
    write_page(args.runs, f" --seeds {args.seeds} --items {args.items} --updates {args.updates}{extra}")


def run(args: argparse.Namespace) -> None:
    study = Study(args.runs, args.items)
    study.look()
    study.judge("clip base", None, "", lambda: ({"": ClipScorer(open_extractor("clip"))}, {}))
    study.judge("unet base", None, "", lambda: ({"": diffusion("relatum:toy")}, {}))
    names = [name for name in ARMS if args.extra or name not in EXTRA]
    for seed in range(args.seeds):
        probe = ""
        for name in names:
            recipe, changes = ARMS[name]
            steps = args.updates * (2 if name == "probing" else 1)
            own = [f"seed={seed}", "train.sample_rows=0", f'cache_dir="{args.runs / "cache"}"', f"train.max_train_steps={steps}"]
            arm = read_recipe(recipe, [*own, *(change.replace("PROBE", probe) for change in changes)])
            folder = args.runs / f"{name.replace(' ', '-')}-{seed}-{signature(arm)[:8]}"
            if name == "probing":
                probe = str((folder / "final").resolve())  # the signature of what goes on with it depends on its settings

            def trained(name: str = name, arm: Recipe = arm, folder: Path = folder) -> tuple[dict, dict]:
                result = train_recipe(arm, folder, quiet=True)
                return scorers(name, folder / "final"), {"seconds": result.seconds, "held_out": result.held_out}

            study.judge(name, seed, signature(arm), trained)


def scorers(name: str, final: Path) -> dict:
    """How an arm's finished model is asked: a CLIP, a probe, and where the UNet was trained, its own denoising error."""
    if name.startswith("clip"):
        return {"": ClipScorer(open_extractor(str(final)))}
    asked: dict = {} if name == "unet plain" else {"probe": open_probed(final)}
    return asked if name == "probing" else {"": diffusion(str(final)), **asked}


def diffusion(name: str) -> DiffusionScorer:
    return DiffusionScorer(open_stable_diffusion(name, 0), Matching(levels=8))


@torch.no_grad()
def look(count: int = 192) -> list[str]:
    """What the teacher's score tells before any training: of true latents, and of those that CLIP's image vectors are mapped to."""
    teacher, opened = open_stable_diffusion("relatum:toy", 0), ClipSettings().build(Path())
    rows = open_rows(read_recipe("clip_diffusion", [f"data.train.count={FITTED}", f"data.test.count={count}"]))
    fit, test = rows.train, rows.test
    seen, pixels = (torch.stack([row.images["target"].pixels(32) for row in rows]) for rows in (fit, test))
    known, true = (teacher.codec.latents(teacher.codec.encode(pictures), None) for pictures in (seen, pixels))
    torch.manual_seed(0)
    clip, words = DrawingClip(opened, teacher.latent_shape(32)), torch.zeros(1, 4, dtype=torch.long)
    kinds = {"true latents": true, "drawn map": clip(pixels, words).latents}
    clip.fit([(seen, known)])
    kinds["fitted map"] = clip(pixels, words).latents
    own = teacher.text.encode([row.texts["target"] for row in test])
    told = {"own": own, "another picture's": own.roll(1, 0), "none": teacher.text.null.expand_as(own)}
    draws = Draws(0, [row.id for row in test])
    lines = ["| score, told | own caption | another picture's | none | other − own |", "|---|---|---|---|---|"]
    for kind, latents in kinds.items():
        scores = {name: denoising_score(teacher, latents, tokens, draws)[0] for name, tokens in told.items()}
        gap = scores["another picture's"] - scores["own"]
        means = " | ".join(f"{score.mean():.3f}" for score in scores.values())
        lines.append(f"| {kind} | {means} | {gap.mean():+.3f} ± {1.96 * gap.std() / len(gap) ** 0.5:.3f} |")
    rest = 1 - (kinds["fitted map"] - true).square().mean() / (true - true.mean(0)).square().mean()
    said = f"{count} held-out scenes; ± is a 95 % interval. The fitted map explains {100 * rest:.0f} % of the latents' variance."
    return [*lines, "", said]


class Study:
    """Results by arm and seed, one JSON file each; kept as long as recipe, bundled models and questions are the same."""

    def __init__(self, folder: Path, items: int) -> None:
        self.folder = folder / "results"
        self.items = Winoworld(count=items, split="test", grounds="white", layout="sides").items()
        bundled = run_key(ClipScorer(open_extractor("clip"))) + run_key(diffusion("relatum:toy"))
        self.keys = [item_key(item, bundled) for item in self.items]

    def file(self, name: str, seed: int | None) -> Path:
        return self.folder / f"{name.replace(' ', '-')}{'' if seed is None else f'-{seed}'}.json"

    def has(self, file: Path, mark: dict) -> bool:
        table = json.loads(file.read_text()) if file.is_file() else {}
        return all(table.get(name) == value for name, value in mark.items())

    def keep(self, file: Path, table: dict) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        write_text(file, json.dumps(table) + "\n")

    def look(self) -> None:
        file, mark = self.folder / LOOK, {"recipe": signature(read_recipe("clip_diffusion")), "items": self.keys}
        if not self.has(file, mark):
            self.keep(file, {**mark, "lines": look()})

    def judge(self, name: str, seed: int | None, recipe: str, make: Callable[[], tuple[dict, dict]]) -> None:
        """recipe: its signature. make: trains, and gives scorers by name, and what else is kept."""
        file, mark = self.file(name, seed), {"recipe": recipe, "items": self.keys}
        if self.has(file, mark):
            return
        scorers, about = make()
        right = {which: self.right(scorer) for which, scorer in scorers.items()}
        self.keep(file, {**mark, "tags": [item.tag for item in self.items], "right": right, **about})
        print(time.strftime("%H:%M:%S"), name, seed, {k: [round(float(np.mean(v[a])), 3) for a in ASKS] for k, v in right.items()})  # noqa: T201

    def right(self, scorer: Scorer) -> dict[str, list[float]]:
        """1 or 0 by item, as Winoground judges: ties are wrong."""
        results = match_items(scorer, self.items, 32, ASKS, strict=True)
        return {ask: [result.right[ask] for result in results] for ask in ASKS}


def load(runs: Path, name: str, which: str = "") -> dict[int | None, dict]:
    """{seed: {"text": [...], ...}}, by item, of those that answered the last run's questions; None: not trained here."""
    out: dict[int | None, dict] = {}
    asked = json.loads((runs / "results" / LOOK).read_text())["items"]
    for file in sorted((runs / "results").glob("*.json")):
        stem, _, tail = file.stem.rpartition("-")
        seed, arm = (int(tail), stem) if tail.isdigit() else (None, file.stem)
        if arm == name.replace(" ", "-"):
            table = json.loads(file.read_text())
            if table["items"] == asked and which in table["right"]:
                out[seed] = {**table, **table["right"][which]}
    return out


def words(interval: Interval, sign: bool = False) -> str:
    mark = "+" if sign else ""
    value, low, high = (100 * number for number in (interval.value, interval.low, interval.high))
    return f"{value:{mark}.1f} ({low:{mark}.1f} to {high:{mark}.1f})".replace("-0.0", "0.0")


def estimates(runs: Path, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    """A line a model: label, arm, which of its scorers."""
    lines = ["| % right of Winoworld | text | image | group | seeds |", "|---|---|---|---|---|"]
    for label, name, which in rows:
        found = load(runs, name, which)
        if not found:
            continue
        seeds = list(found)
        scores = [np.array([found[seed][ask] for seed in seeds]) for ask in ASKS]
        cells = [words(Bootstrap(*right.shape).mean(right, trained=seeds != [None])) for right in scores]
        lines.append(f"| {label} | {' | '.join(cells)} | {'–' if seeds == [None] else len(seeds)} |")
    return lines if len(lines) > 2 else []


def differences(runs: Path, rows: Sequence[tuple[str, tuple[str, str], tuple[str, str]]]) -> list[str]:
    """A line a comparison: label, (arm, scorer), (baseline, scorer); paired by seed and item."""
    lines = ["| difference, points | text | image | group | seeds |", "|---|---|---|---|---|"]
    for label, arm, baseline in rows:
        ours, theirs = load(runs, *arm), load(runs, *baseline)
        if list(theirs) == [None]:
            theirs = dict.fromkeys(ours, theirs[None])
        seeds, cells = [seed for seed in ours if seed in theirs], []
        if not seeds:
            continue
        for ask in ASKS:
            a, b = (np.array([found[seed][ask] for seed in seeds]) for found in (ours, theirs))
            cells.append(f"{words(Bootstrap(*a.shape).difference(a, b), True)}, p {sign_flip((a - b).mean(1)):.2g}")
        lines.append(f"| {label} | {' | '.join(cells)} | {len(seeds)} |")
    return lines if len(lines) > 2 else []


def by_kind(runs: Path, rows: Sequence[tuple[str, str, str]]) -> list[str]:
    lines = ["| % right, text / image | binding | relation | order |", "|---|---|---|---|"]
    for label, name, which in rows:
        found = load(runs, name, which)
        if not found:
            continue
        tags, cells = np.array(next(iter(found.values()))["tags"]), []
        for kind in ("binding", "relation", "order"):
            shares = [100 * np.array([one[ask] for one in found.values()])[:, tags == kind].mean() for ask in ("text", "image")]
            cells.append(" / ".join(f"{share:.0f}" for share in shares))
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return lines


def held_out(runs: Path) -> str:
    """What tuning does to the denoising error of held-out rows."""
    said = []
    for label, name in (("plain", "unet plain"), ("tuned", "unet tuned")):
        found = load(runs, name)
        errors = [one["held_out"]["held_out"]["denoising"]["mean"] for one in found.values()]
        if errors:
            said.append(f"{label} {np.mean(errors):.4f} ({min(errors):.4f} to {max(errors):.4f} over seeds)")
    return f"Squared denoising error of held-out rows after the same updates: {', '.join(said)}." if said else ""


CLIPS = [
    ("bundled CLIP", "clip base", ""),
    ("plain fine-tuning", "clip plain", ""),
    ("with the diffusion score", "clip diffusion", ""),
    ("the same, the linear map drawn, as in the paper", "clip fresh map", ""),
    ("the same, no caption told (control)", "clip no caption", ""),
    ("layer norms alone, plain", "clip norms plain", ""),
    ("layer norms alone, with the score", "clip norms diffusion", ""),
]
UNETS = [
    ("bundled UNet", "unet base", ""),
    ("LoRA, denoising alone", "unet plain", ""),
    ("LoRA, probing and denoising", "unet tuned", ""),
    ("probe, UNet frozen", "probing", "probe"),
    ("probe, UNet tuned", "unet tuned", "probe"),
]
OF_CLIPS = [
    ("plain fine-tuning − bundled", ("clip plain", ""), ("clip base", "")),
    ("diffusion score − plain", ("clip diffusion", ""), ("clip plain", "")),
    ("diffusion score − no caption told", ("clip diffusion", ""), ("clip no caption", "")),
    ("layer norms alone: diffusion score − plain", ("clip norms diffusion", ""), ("clip norms plain", "")),
]
OF_UNETS = [
    ("denoising alone − bundled", ("unet plain", ""), ("unet base", "")),
    ("probing and denoising − denoising alone", ("unet tuned", ""), ("unet plain", "")),
    ("probe: UNet tuned − frozen", ("unet tuned", "probe"), ("probing", "probe")),
]


def write_page(runs: Path, command: str) -> None:
    seconds = sum(one.get("seconds", 0) for name in ARMS for one in (load(runs, name) or load(runs, name, "probe")).values())
    about = (
        f"Written {date.today().isoformat()} by `python docs/write_representations.py{command}` on two shared CPU cores "
        f"({seconds / 60:.0f} minutes of training). Percent, 95 % intervals over seeds and items; p by sign flips over seeds."
    )
    missing = [name for name in ARMS if name not in EXTRA and not load(runs, name) and not load(runs, name, "probe")]
    if missing:
        about += f" **Not trained yet: {', '.join(missing)}.** The same command goes on."
    first = ["", "### What the score can tell", "", *json.loads((runs / "results" / LOOK).read_text())["lines"]]
    lines = [about, *first, "", "### CLIP", "", *estimates(runs, CLIPS), "", *differences(runs, OF_CLIPS)]
    lines += ["", "### The UNet and its probe", "", *estimates(runs, UNETS), "", *differences(runs, OF_UNETS)]
    lines += ["", held_out(runs), "", "### By kind of question", "", *by_kind(runs, [*CLIPS, *UNETS]), ""]
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    write_text(PAGE, f"{head}{BEGIN}\n" + "\n".join(lines) + f"\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
