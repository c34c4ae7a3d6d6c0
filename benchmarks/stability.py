"""The largest stable learning rate of motion modules, by objective and stabilizer, and what their attention does on the way.

python benchmarks/stability.py explore --out runs/stability       # a few single runs, to see where training breaks
python benchmarks/stability.py run --out runs/stability --minutes 60
python benchmarks/stability.py page --out runs/stability          # rewrites the tables of docs/studies/stability.md

A small eps-predicting network learns single frames of the toy world; it is frozen, and fresh motion modules learn clips with the
engine's own step, AdamW and clipping. For every objective, stabilizer and seed a ladder of learning rates (factors of 2) is walked
to the last stable rung, and to the last that does not blow up; rungs above are taken to be no better. What is finished is kept in
runs.jsonl, so that the same command goes on. "Stable", fixed beforehand: losses and gradients finite; the mean held-out MSE (not
the objective's own) over the last tenth of the run at most 1.1 times that of the untrained modules; never above 2 times that.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from relatum.core.draws import Draws
from relatum.core.prediction import Parametrization
from relatum.data.toy.clips import ToyClips
from relatum.engine.cache import encode_rows
from relatum.engine.encoded import EncodedRows
from relatum.engine.order import Order
from relatum.engine.step import DiffusionParts, Moment, diffusion_step
from relatum.engine.validate import held_out_loss
from relatum.engine.weights import load_module, save_module
from relatum.jobs.opening import register_all
from relatum.models.families.animatediff import DOWN_MID, MOTION
from relatum.models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from relatum.models.motion import MotionSize, fresh_motion, with_motion
from relatum.models.stabilisers import SkipScaling, Stabilize, stabilize
from relatum.models.stabilisers.skips import SkipScale
from relatum.models.trainable import Trainable, make_trainable
from relatum.objectives.blend import read_blend
from relatum.objectives.conditioning import condition_number, eigenvalues, quadratic_form
from relatum.probes.entropy import HeadEntropy, looks_of
from relatum.tasks.video import Video

WORSE, SPIKE = 1.1, 2.0
KAPPA = 0.7
OBJECTIVES: dict[str, dict[str, Any]] = {
    "denoise": {"kind": "denoise"},
    "anchored_difference, faithful": {"kind": "anchored_difference", "faithful": True},
    "anchored_difference, faithful, x0": {"kind": "anchored_difference", "faithful": True, "space": "x0"},
    "anchored_difference, x0": {"kind": "anchored_difference", "space": "x0"},
    "frame_difference": {"kind": "frame_difference"},
    "motion_weighted": {"kind": "motion_weighted"},
}
ARMS = ("none", "sigma_reparam", "qk_norm", "skip_scale", "soft_cap", "down + mid", "no clipping", "SGD")
FULL = ("denoise", "anchored_difference, faithful", "frame_difference")  # objectives that meet every arm; the others meet "none"
MARK = "<!-- {} -->"


@dataclass(frozen=True)
class Run:
    """One training. rung: the learning rate is low * 2^rung, low 1e-4 for AdamW and 1e-2 for SGD. start: "fresh" or "trained"."""

    objective: str
    arm: str
    rung: int
    seed: int
    updates: int = 40
    batch: int = 4
    frames: int = 8
    start: str = "fresh"

    @property
    def learning_rate(self) -> float:
        return (1e-2 if self.arm == "SGD" else 1e-4) * 2**self.rung

    @property
    def cell(self) -> tuple[Any, ...]:
        return tuple(v for k, v in dataclasses.asdict(self).items() if k not in ("rung", "seed"))


class Bench:
    """The frozen base, the clips, and runs on them."""

    def __init__(self, out: Path, frames: int, base_updates: int) -> None:
        register_all()
        self.out, self.frames = out, frames
        self.task: Any = Video()
        toy = open_stable_diffusion("relatum:toy", 0)
        self.rows = self._encoded("train", 256, frames, toy)
        self.held_out = self._encoded("test", 16, frames, toy)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network = _small(toy.origin.config("text_encoder")["hidden_size"])
        self.base = dataclasses.replace(toy, unet=network, kind=Parametrization.EPS)
        weights = out / "base.safetensors"
        if weights.is_file():
            load_module(network, weights)
        else:
            self._learn_frames(base_updates)
            save_module(network, weights)

    def _encoded(self, split: Any, count: int, frames: int, toy: StableDiffusion) -> EncodedRows:
        clips = ToyClips(split, count, seed=7, frames=frames, step=0.11, speeds=("fast",), grounds="white").rows()
        return encode_rows(clips, self.task.needs, 32, toy.codec, toy.text, self.out / "cache")

    def _learn_frames(self, updates: int) -> None:
        """Single frames, eps prediction, batches of 32."""
        network = self.base.unet.train()
        optimizer, draw = torch.optim.AdamW(network.parameters(), 1e-3), torch.Generator().manual_seed(1)
        for update in range(updates):
            optimizer.param_groups[0]["lr"] = 1e-3 * 0.5 * (1 + math.cos(math.pi * update / updates))
            picked = torch.randint(len(self.rows), (32,), generator=draw)
            batch, frame = self.rows.batch(picked.tolist()), torch.randint(self.frames, (1,), generator=draw)
            clean = self.base.codec.latents(batch.moments["target"], None)[:, :, int(frame)]
            level = self.base.path.draw(Draws(1, range(32 * update, 32 * update + 32)))
            noise = torch.randn(clean.shape, generator=draw)
            raw = self.base.call(network, level.blend(clean, noise), level.time, batch.tokens["target"], None)
            optimizer.zero_grad()
            loss = (raw - noise).square().mean()
            loss.backward()
            optimizer.step()
            if update % 50 == 0 or update + 1 == updates:
                print(f"base: update {update}, error {loss.item():.3f}", flush=True)

    def model(self, run: Run) -> StableDiffusion:
        """A copy of the base with motion modules and the arm's stabilizer, its trained part chosen."""
        model = with_motion(self.base, fresh_motion(self.base.unet, MotionSize(heads=4, most_frames=32), run.seed))
        if run.start == "trained":
            load_module(model.unet, self.out / "trained.safetensors")
        settings = {
            "sigma_reparam": Stabilize(sigma_reparam=True),
            "qk_norm": Stabilize(qk_norm=True, qk_frames=run.frames),
            "skip_scale": Stabilize(skip_scale=SkipScaling(KAPPA, run.updates // 2)),
            "soft_cap": Stabilize(soft_cap=50.0),
        }
        stabilize(model.unet, settings.get(run.arm, Stabilize()))
        make_trainable(model.unet, Trainable("partial", pattern=DOWN_MID if run.arm == "down + mid" else MOTION))
        return model

    def parts(self, model: StableDiffusion, objective: str) -> DiffusionParts:
        blend = read_blend({"term": OBJECTIVES[objective]})
        return DiffusionParts(model.denoiser(), model.kind, model.path, self.task, blend, model.codec)

    def run(self, run: Run) -> dict[str, Any]:
        """A line of runs.jsonl: what the run was, whether it was stable, and what was seen on the way."""
        began, model = time.process_time(), self.model(run)
        parts = self.parts(model, run.objective)
        network = parts.network.train()
        parameters = [p for p in network.parameters() if p.requires_grad]
        optimizer: torch.optim.Optimizer = (
            torch.optim.SGD(parameters, run.learning_rate)
            if run.arm == "SGD"
            else torch.optim.AdamW(parameters, run.learning_rate, weight_decay=1e-2)
        )
        order, seen, why = Order(len(self.rows), run.seed, run.batch), [], ""
        reference = self.look(parts, model, final=True)["mse"]
        looks = _looks(run.updates)
        for update in range(run.updates):
            positions = order.positions(update, 0, 0)
            torch.manual_seed(update)
            step = diffusion_step(
                parts, self.rows.batch(order.indices(positions)), Draws(run.seed, positions), moment=Moment(update)
            )
            step.total.mean().backward()
            blocks = _gradients(model.unet)
            limit = math.inf if run.arm in ("no clipping", "SGD") else 1.0
            norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
            finite = math.isfinite(norm) and bool(torch.isfinite(step.total).all())
            if update in looks or not finite:
                found = {
                    "update": update,
                    "loss": float(step.total.detach().mean()),
                    "gradients": blocks,
                    **self.look(parts, model),
                }
                seen.append(found)
                if not finite or not math.isfinite(found["mse"]):
                    why = "not finite"
                elif found["mse"] > SPIKE * reference:
                    why = f"spike of {found['mse'] / reference:.3g}"
            if why:
                break
            optimizer.step()
            optimizer.zero_grad()
        if not why:
            seen.append({"update": run.updates, **self.look(parts, model)})
            last = [one["mse"] for one in seen if one["update"] >= run.updates * 0.9]
            if not statistics.fmean(last) <= WORSE * reference:
                why = f"ends at {statistics.fmean(last) / reference:.3g}"
        about = {**dataclasses.asdict(run), "learning_rate": run.learning_rate, "stable": not why, "why": why}
        return {**about, "reference": reference, "seconds": time.process_time() - began, "seen": seen}

    def look(self, parts: DiffusionParts, model: StableDiffusion, final: bool = False) -> dict[str, Any]:
        """Held-out MSE and, by block, the entropy of temporal attention as a share of ln T. final: at the last kappa."""
        heads: dict[str, list[float]] = {}

        def take(name: str, look: Any) -> None:
            if (found := HeadEntropy.of(look)) is not None:
                heads.setdefault(_block(name), []).append(float(found.mean.mean()))

        kept = [(m, m.forwards.clone()) for m in model.unet.modules() if isinstance(m, SkipScale)]
        for scale, _ in kept if final else ():
            scale.forwards.fill_(1 << 30)
        with looks_of(model.unet, take=take):
            held_out = held_out_loss(parts, diffusion_step, self.held_out, 16, None)["held_out"]
        for scale, forwards in kept:
            scale.forwards.copy_(forwards)
        return {"mse": held_out["matched_error"]["mean"], "entropy": {b: statistics.fmean(v) for b, v in heads.items()}}


def _small(width: int) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 48),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        norm_num_groups=8,
        cross_attention_dim=width,
        attention_head_dim=8,
    )


def _looks(updates: int) -> set[int]:
    """Half a dozen over the run, and three in its last tenth."""
    return {round(i * updates / 6) for i in range(6)} | {round(updates * share) for share in (0.9, 0.94, 0.97)}


def _block(name: str) -> str:
    return ".".join(name.split(".")[: 1 if name.startswith("mid") else 2]).replace("_blocks.", " ").replace("_block", "")


def _gradients(network: Any) -> dict[str, float]:
    """Norms of the motion modules' gradients, before clipping, by block."""
    squares: dict[str, float] = {}
    for name, p in network.named_parameters():
        if p.grad is not None:
            squares[_block(name)] = squares.get(_block(name), 0.0) + float(p.grad.double().square().sum())
    return {block: math.sqrt(value) if math.isfinite(value) else math.nan for block, value in squares.items()}


class Journal:
    """runs.jsonl."""

    def __init__(self, out: Path) -> None:
        self.file = out / "runs.jsonl"
        lines = self.file.read_text().splitlines() if self.file.is_file() else []
        names = {f.name for f in dataclasses.fields(Run)}
        self.found = {Run(**{k: v for k, v in row.items() if k in names}): row for row in map(json.loads, lines)}

    def of(self, bench: Bench, run: Run) -> dict[str, Any]:
        if run not in self.found:
            self.found[run] = bench.run(run)
            with self.file.open("a") as file:
                file.write(json.dumps(self.found[run]) + "\n")
            row = self.found[run]
            words = f"{run.objective} | {run.arm} | seed {run.seed} | lr {run.learning_rate:.2g} ({run.start}, {run.updates})"
            end = row["seen"][-1]
            told = " ".join(f"{block} {share:.2f}" for block, share in end["entropy"].items())
            words += f": {row['why'] or 'stable'}, mse {row['reference']:.3f} -> {end['mse']:.3f}"
            print(f"{words}; {told}; {row['seconds']:.0f} s", flush=True)
        return self.found[run]


def stable(row: dict[str, Any]) -> bool:
    return row["stable"]


def whole(row: dict[str, Any]) -> bool:
    """Whether a run did not blow up; its held-out MSE may have drifted upward."""
    return row["stable"] or row["why"].startswith("ends")


Fine = Callable[[dict[str, Any]], bool]


def ladder(bench: Bench, journal: Journal, run: Run, guess: int, rungs: int, until: float, fine: Fine = stable) -> int | None:
    """The last rung that is fine, -1 if the lowest is none, walked to from `guess`; None where the time ran out."""
    low, high, rung = -1, rungs, guess
    while high - low > 1:
        if time.monotonic() > until:
            return None
        good = fine(journal.of(bench, dataclasses.replace(run, rung=rung)))
        low, high = (rung, high) if good else (low, rung)
        if high == rungs:
            rung = min(low + 2, rungs - 1)
        elif low == -1:
            rung = max(high - 2, 0)
        else:
            rung = (low + high) // 2
    return low


def run_all(bench: Bench, journal: Journal, args: argparse.Namespace) -> None:
    until = time.monotonic() + 60 * args.minutes
    guesses: dict[tuple[Any, ...], int] = {}
    cells = [(o, a) for a in ARMS for o in OBJECTIVES if o in FULL or a == "none"]
    for seed, fine in itertools.product(args.seeds, (stable, whole)):
        for objective, arm in cells:
            run = Run(objective, arm, 0, seed, args.updates, args.batch, args.frames, args.start)
            known = (*run.cell, fine)
            found = ladder(bench, journal, run, guesses.get(known, 6 if fine is stable else 7), args.rungs, until, fine)
            if found is None:
                print("out of time; the same command goes on")
                return
            guesses[known] = min(max(found, 0), args.rungs - 1)


def last_rungs(rows: Sequence[dict[str, Any]], rungs: int, fine: Fine) -> dict[tuple[str, str], list[int]]:
    """Last rungs that are fine by objective and arm, a seed each, of ladders that were walked to their end."""
    out: dict[tuple[str, str], list[int]] = {}
    for objective, arm, seed in sorted({(r["objective"], r["arm"], r["seed"]) for r in rows}):
        own = {r["rung"]: fine(r) for r in rows if (r["objective"], r["arm"], r["seed"]) == (objective, arm, seed)}
        high = min((k for k, good in own.items() if not good), default=rungs)
        low = max((k for k, good in own.items() if good and k < high), default=-1)
        if high - low == 1:
            out.setdefault((objective, arm), []).append(low)
    return out


def table(rows: Sequence[dict[str, Any]], rungs: int, fine: Fine) -> str:
    """Learning rates as markdown: median over seeds (least to most; number of seeds)."""
    found = last_rungs(rows, rungs, fine)
    lines = ["| objective | " + " | ".join(ARMS) + " |", "|---" * (len(ARMS) + 1) + "|"]
    for objective in OBJECTIVES:
        cells = []
        for arm in ARMS:
            low = 1e-2 if arm == "SGD" else 1e-4
            own = sorted(found.get((objective, arm), []))
            words = [f"{low * 2**k:.2g}" if k >= 0 else f"< {low:.2g}" for k in own]
            spread = "" if not own or own[0] == own[-1] else f" ({words[0]} to {words[-1]})"
            cells.append(f"{words[(len(own) - 1) // 2]}{spread}; {len(own)}" if own else "")
        lines.append(f"| {objective} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def chain(rows: Sequence[dict[str, Any]]) -> str:
    """What came first in unstable runs of no stabilizer: an up block's entropy below .8 of its start, gradients above 10 times."""
    lines = [
        "| objective | clipping | unstable | entropy of up blocks fell first | gradients rose first | neither before the end |",
        "|---" * 6 + "|",
    ]
    for objective in OBJECTIVES:
        for arm in ("none", "no clipping"):
            own = [r for r in rows if r["objective"] == objective and r["arm"] == arm and not r["stable"] and len(r["seen"]) > 1]
            if not own:
                continue
            first = [_first(row["seen"]) for row in own]
            counts = [first.count(word) for word in ("entropy", "gradients", "")]
            lines.append(
                f"| {objective} | {'off' if arm == 'no clipping' else '1.0'} | {len(own)} | " + " | ".join(map(str, counts)) + " |"
            )
    return "\n".join(lines)


def _first(seen: Sequence[dict[str, Any]]) -> str:
    """Which of the two was seen first before the run ended."""
    up = lambda table: [v for block, v in table.items() if block.startswith("up")]  # noqa: E731
    start = seen[0]
    early = next((one for one in seen[1:] if "gradients" in one), start)  # gradients of zero layers are small at update 0
    for one in seen[1:]:
        if min(b / a for a, b in zip(up(start["entropy"]), up(one["entropy"]), strict=True)) < 0.8:
            return "entropy"
        if "gradients" in one and max(b / a for a, b in zip(up(early["gradients"]), up(one["gradients"]), strict=True)) > 10:
            return "gradients"
    return ""


def entropies(rows: Sequence[dict[str, Any]]) -> str:
    """Entropy of temporal attention by block, as a share of ln T, at the last look of runs without stabilizer."""
    blocks = list(rows[0]["seen"][0]["entropy"]) if rows else []
    lines = [
        "| objective | learning rate | stable | held-out MSE, share of the start | " + " | ".join(blocks) + " |",
        "|---" * (4 + len(blocks)) + "|",
    ]
    for objective in OBJECTIVES:
        for rung in sorted({r["rung"] for r in rows}):
            own = [r for r in rows if (r["objective"], r["arm"], r["rung"]) == (objective, "none", rung)]
            if own:
                shares = [_spread([r["seen"][-1]["entropy"][block] for r in own]) for block in blocks]
                worse = _spread([r["seen"][-1]["mse"] / r["reference"] for r in own])
                count = f"{sum(r['stable'] for r in own)} of {len(own)}"
                lines.append(f"| {objective} | {own[0]['learning_rate']:.2g} | {count} | {worse} | " + " | ".join(shares) + " |")
    return "\n".join(lines)


def _spread(values: Sequence[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.3g}" if f"{low:.3g}" == f"{high:.3g}" else f"{low:.3g} to {high:.3g}"


def conditions(frames: Sequence[int] = (8, 16)) -> str:
    """What the quadratic forms say before any training."""
    lines = ["| form | frames | largest eigenvalue | condition number |", "|---|---|---|---|"]
    for count in frames:
        for form, start in (
            ("denoise", 0),
            ("frame_difference", 0),
            ("anchored_difference", 0),
            ("anchored_difference", count // 2),
        ):
            matrix = quadratic_form(form, count, start=start)  # type: ignore[arg-type]
            name = f"{form}, anchor {start}" if form.startswith("anchored") else form
            lines.append(f"| {name} | {count} | {float(eigenvalues(matrix)[-1]):.2f} | {condition_number(matrix):.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("explore", "run", "page"))
    parser.add_argument("--out", type=Path, default=Path("runs/stability"))
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=40)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--rungs", type=int, default=14)
    parser.add_argument("--start", choices=("fresh", "trained"), default="fresh")
    parser.add_argument("--base-updates", type=int, default=300)
    parser.add_argument("--runs", nargs="*", default=[], help='of explore: "objective|arm|rung" each')
    parser.add_argument("--page", type=Path, default=Path("docs/studies/stability.md"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True, exist_ok=True)
    journal = Journal(args.out)
    if args.what == "page":
        return write_page(args.page, list(journal.found.values()), args.rungs)
    bench = Bench(args.out, args.frames, args.base_updates)
    if args.what == "run":
        return run_all(bench, journal, args)
    for words in args.runs:
        objective, arm, rung = words.split("|")
        journal.of(bench, Run(objective, arm, int(rung), 0, args.updates, args.batch, args.frames, args.start))
    return None


def write_page(page: Path, rows: list[dict[str, Any]], rungs: int) -> None:
    """Of the length, batch, frames and start that most runs have."""
    kinds = [tuple(row[key] for key in ("updates", "batch", "frames", "start")) for row in rows]
    usual = statistics.mode(kinds)
    rows, text = [row for row, kind in zip(rows, kinds, strict=True) if kind == usual], page.read_text()
    rates = {"learning rates": table(rows, rungs, stable), "whole": table(rows, rungs, whole)}
    tables = {**rates, "chain": chain(rows), "entropies": entropies(rows), "conditions": conditions()}
    for name, found in tables.items():
        begin, end = MARK.format(name), MARK.format(f"end of {name}")
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{found}\n{end}{tail}"
    page.write_text(text)
    print(f"{page}: {len(rows)} runs of {usual[0]} updates, batches of {usual[1]} clips of {usual[2]} frames, {usual[3]} modules")


if __name__ == "__main__":
    main()
