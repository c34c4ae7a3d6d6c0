"""Plants one fault at a time in a copy of the sources and says which kind of test catches it. By hand: `make faults [ONLY=contrast]`.

A fault is one wrong line of the kind that people write: a sign, an axis, an index shift, a lost gradient, an ignored setting. Each line
of the table is (part, what is wrong, file, right text, wrong text). Exit code 1 if any fault goes unnoticed.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
KINDS = "contract", "worked", "pinned"

# Which tests look at a part; files of these names in each kind's folder, as far as they exist.
TESTS = {
    "core": (
        "test_objective_contract",
        "test_outcome",
        "test_draws",
        "test_load",
        "test_contrast",
        "test_step",
        "test_core_pinned",
    ),
    "objectives": ("test_objective_contract", "test_contrast", "test_contrast_claims", "test_denoise_blend"),
    "frames": ("test_objective_contract", "test_frame_objectives", "test_motion_objectives", "test_conditioning"),
    "step": ("test_step", "test_models", "test_pipelines"),
    "metrics": ("test_metric_contract", "test_metric_numbers", "test_metrics_pinned"),
    "compare": ("test_statistics",),
    "data": ("test_toy", "test_readers"),
}


class Fault(NamedTuple):
    part: str
    name: str
    file: str
    right: str
    wrong: str


CORE, OBJECTIVES, METRICS, COMPARE = "core/", "objectives/", "metrics/", "compare/"
FAULTS = [
    Fault(
        "core",
        "x0 formula: sign",
        CORE + "prediction.py",
        "(sigma * self.raw.float() - b * self.noisy)",
        "(sigma * self.raw.float() + b * self.noisy)",
    ),
    Fault(
        "core",
        "eps formula: sign",
        CORE + "prediction.py",
        "(a * self.noisy - alpha * self.raw.float())",
        "(a * self.noisy + alpha * self.raw.float())",
    ),
    Fault("core", "v: sign", CORE + "prediction.py", "return -level.sigma, level.alpha", "return level.sigma, -level.alpha"),
    Fault("core", "flow: sign", CORE + "prediction.py", "return -one, one", "return one, -one"),
    Fault("core", "x0 loses its gradient", CORE + "prediction.py", "sigma * self.raw.float()", "sigma * self.raw.detach().float()"),
    Fault("core", "alpha is not a root", CORE + "path.py", "abar.sqrt(), (1 - abar).sqrt()", "abar, (1 - abar).sqrt()"),
    Fault(
        "core",
        "timestep shifted by one",
        CORE + "path.py",
        "abar = self.abar[index.cpu()]",
        "abar = self.abar[(index.cpu() + 1).clamp_max(len(self.abar) - 1)]",
    ),
    Fault("core", "straight path turned round", CORE + "path.py", "NoiseLevel(t * self.scale, 1 - t, t)", "NoiseLevel(t * self.scale, t, 1 - t)"),
    Fault("core", "straight path ignores its scale", CORE + "path.py", "NoiseLevel(t * self.scale,", "NoiseLevel(t * 1000.0 / 999.0,"),
    Fault("core", "noise level drawn up to one half", CORE + "path.py", 'draws.uniform("level") * count', 'draws.uniform("level") * count * 0.5'),
    Fault("core", "level not squared in snr", CORE + "path.py", "(self.alpha / self.sigma) ** 2", "(self.alpha / self.sigma)"),
    Fault("core", "draws ignore the purpose", CORE + "draws.py", "key_of(self.seed, purpose, address)", "key_of(self.seed, address)"),
    Fault("core", "draws ignore the seed", CORE + "draws.py", "key_of(self.seed, purpose, address)", "key_of(purpose, address)"),
    Fault(
        "core",
        "draws depend on the neighbors",
        CORE + "draws.py",
        "for address in self.addresses]",
        "for address in range(len(self.addresses))]",
    ),
    Fault("core", "error summed over the batch", CORE + "outcome.py", ".square().flatten(1).mean(1)", ".square().mean().expand(len(self.clean))"),
    Fault("core", "error ignores the view", CORE + "outcome.py", "prediction = self.predictions[view]", "prediction = self.matched"),
    Fault("core", "watch keeps the gradient", CORE + "outcome.py", "value.detach()", "value"),
    Fault("core", "offset of a rank forgotten", CORE + "ranks.py", "return self.rank * batch", "return 0"),
    Fault("core", "unknown keys are dropped", CORE + "load.py", "if key not in fields:", "if False:"),
    Fault("core", "booleans serve as numbers", CORE + "load.py", "(isinstance(value, bool) and hint is not bool)", "False"),
    Fault("objectives", "denoise: batch mean for everybody", OBJECTIVES + "denoise.py", "outcome.error()", "outcome.error().mean().expand(len(outcome.clean))"),
    Fault("objectives", "denoise: reads a view it did not ask for", OBJECTIVES + "denoise.py", "outcome.error()", 'outcome.error("null")'),
    Fault(
        "objectives",
        "contrast: own key shifted by one",
        OBJECTIVES + "contrast.py",
        "own = torch.arange(len(anchor), device=anchor.device) +",
        "own = (torch.arange(len(anchor), device=anchor.device) + 1) % len(anchor) +",
    ),
    Fault("objectives", "contrast: sign of the distance", OBJECTIVES + "contrast.py", "return -_distances(predicted", "return _distances(predicted"),
    Fault("objectives", "contrast: prediction detached", OBJECTIVES + "contrast.py", "predicted = outcome.matched.x0", "predicted = outcome.matched.x0.detach()"),
    Fault("objectives", "contrast: `to` ignored", OBJECTIVES + "contrast.py", "outcome.anchors[self.to]", 'outcome.anchors["target"]'),
    Fault(
        "objectives",
        "contrast: softmax over the wrong axis",
        OBJECTIVES + "contrast.py",
        "cross_entropy(logits, own",
        "cross_entropy(logits.T if logits.shape[0] == logits.shape[1] else logits, own",
    ),
    Fault("objectives", "contrast: temperature ignored (faithful)", OBJECTIVES + "contrast.py", "keys.flatten(1).T / (self.temperature or 1.0)\n            allowed", "keys.flatten(1).T\n            allowed"),
    Fault("objectives", "contrast: confidence ignored", OBJECTIVES + "contrast.py", "count * self.confidence / (1 - self.confidence)", "count * 999.0"),
    Fault("objectives", "contrast: confidence counts one negative", OBJECTIVES + "contrast.py", "(count * self.confidence /", "(self.confidence /"),
    Fault("objectives", "contrast: repeated ids are negatives", OBJECTIVES + "contrast.py", "allowed = names[None] != outcome.keys[:, None]", "allowed = names[None] != names[None] - 1"),
    Fault("objectives", "contrast: near keys are negatives", OBJECTIVES + "contrast.py", "(gap > self.similar * typical[:, None])", "(gap > -1)"),
    Fault("objectives", "contrast: region ignored", OBJECTIVES + "contrast.py", 'if self.region == "all":\n            return', "if True:\n            return"),
    Fault("objectives", "contrast: region turned round", OBJECTIVES + "contrast.py", 'keep = 1 - outcome.masks["changed"].to(like)', 'keep = outcome.masks["changed"].to(like)'),
    Fault("objectives", "contrast: queue never filled", OBJECTIVES + "contrast.py", "if outcome.training:", "if False:"),
    Fault("objectives", "contrast: held-out rows enter the queue", OBJECTIVES + "contrast.py", "if outcome.training:", "if True:"),
    Fault("objectives", "contrast: queue keeps the oldest", OBJECTIVES + "key_queue.py", "torch.cat([old, keys.detach()])[-size:]", "torch.cat([old, keys.detach()])[:size]"),
    Fault("objectives", "blend: weight ignored", OBJECTIVES + "blend.py", "torch.full_like(over_frames(level.alpha), self.weight)", "torch.full_like(over_frames(level.alpha), 1.0)"),
    Fault("objectives", "blend: warm-up never ends", OBJECTIVES + "blend.py", "min(1.0, step / self.warmup_steps)", "step / self.warmup_steps"),
    Fault("objectives", "blend: min-SNR of v as of eps", OBJECTIVES + "blend.py", "return capped * torch.where(", "return level.snr.clamp_max(gamma) / level.snr * torch.where("),
    Fault("objectives", "blend: cap ignored", OBJECTIVES + "blend.py", "(cap / balance.clamp_min", "(1e9 / balance.clamp_min"),
    Fault("objectives", "blend: cap also lifts", OBJECTIVES + "blend.py", "clamp_min(TINY)).clamp_max(1)", "clamp_min(TINY))"),
    Fault("objectives", "blend: advice overrules the recipe", OBJECTIVES + "blend.py", '**getattr(judge, "advice", {}), **{k: v for k, v in table.items() if k in of_term}', '**{k: v for k, v in table.items() if k in of_term}, **getattr(judge, "advice", {})'),
    Fault("frames", "differences over rows", OBJECTIVES + "frame_difference.py", "change = (r[:, :, 1:] - r[:, :, :-1]).square().mean((1, 3, 4))", "change = (r[..., 1:, :] - r[..., :-1, :]).square().mean((1, 3, 4))"),
    Fault("frames", "anchored: sums for differences", OBJECTIVES + "frame_difference.py", "change = r[:, :, 1:] - r[:, :, :-1]\n", "change = r[:, :, 1:] + r[:, :, :-1]\n"),
    Fault("frames", "differences not halved", OBJECTIVES + "frame_difference.py", "self.strength / 2 * diff", "self.strength * diff"),
    Fault("frames", "denominator forgotten", OBJECTIVES + "frame_difference.py", " / (1 + self.strength)", ""),
    Fault("frames", "faithful form weighted", OBJECTIVES + "frame_difference.py", "if not self.faithful:\n            change", "if True:\n            change"),
    Fault("frames", "robust form not bounded", OBJECTIVES + "frame_difference.py", "if not self.faithful:\n            held", "if False:\n            held"),
    Fault("frames", "masked pairs counted", OBJECTIVES + "residuals.py", "neighbors.sum(1).clamp_min(1)", "neighbors.shape[1]"),
    Fault("frames", "no pair: NaN", OBJECTIVES + "residuals.py", "neighbors.sum(1).clamp_min(1)", "neighbors.sum(1)"),
    Fault("frames", "not finite is masked", OBJECTIVES + "residuals.py", "(change * neighbors).sum(1)", "torch.where(neighbors, change, 0).sum(1)"),
    Fault("frames", "gain: sign of the numerator", OBJECTIVES + "residuals.py", "(a1 * level.sigma - b1 * level.alpha)", "(a1 * level.sigma + b1 * level.alpha)"),
    Fault("frames", "bound not squared", OBJECTIVES + "residuals.py", "gain(kind, space, level).square().reciprocal()", "gain(kind, space, level).abs().reciprocal()"),
    Fault("frames", "pair takes the higher weight", OBJECTIVES + "residuals.py", "torch.minimum(weight[:, 1:]", "torch.maximum(weight[:, 1:]"),
    Fault("frames", "one anchor for all shots", OBJECTIVES + "residuals.py", "torch.cat([edge, ~neighbors], 1), torch.cat([~neighbors, edge], 1)", "torch.cat([edge, neighbors & ~neighbors], 1), torch.cat([neighbors & ~neighbors, edge], 1)"),
    Fault("frames", "last frame never the anchor", OBJECTIVES + "residuals.py", "(last - first + 1)", "(last - first)"),
    Fault("frames", "the clip's last frame for the shot's", OBJECTIVES + "residuals.py", "torch.cat([~neighbors, edge], 1)", "torch.cat([~neighbors, edge], 1) & False"),
    Fault("frames", "anchored over the pairs", OBJECTIVES + "frame_difference.py", "/ len(frames)", "/ (len(frames) - 1)"),
    Fault("frames", "anchor forgotten", OBJECTIVES + "frame_difference.py", "(value.sum(1) + steps.sum(1))", "(0 * value.sum(1) + steps.sum(1))"),
    Fault("frames", "l1: weight not rooted", OBJECTIVES + "frame_difference.py", 'held if self.norm == "l2" else held.sqrt()', "held"),
    Fault("frames", "temporal residual: root forgotten", OBJECTIVES + "motion.py", "(self.beta**2 + 1) ** 0.5 * r", "(self.beta**2 + 1) * r"),
    Fault("frames", "temporal residual: anchor held", OBJECTIVES + "motion.py", "self.beta * there)", "self.beta * there.detach())"),
    Fault("frames", "motion: gradient through the weights", OBJECTIVES + "motion.py", "    @torch.no_grad()\n", ""),
    Fault("frames", "motion: cuts are motion", OBJECTIVES + "motion.py", ".sqrt() * counted", ".sqrt()"),
    Fault("frames", "motion: one mean for the batch", OBJECTIVES + "motion.py", "weight.mean((1, 2, 3, 4), keepdim=True)", "weight.mean()"),
    Fault("frames", "motion: clipped before the mean", OBJECTIVES + "motion.py", "return (weight / weight.mean((1, 2, 3, 4), keepdim=True)).clamp(0.5, 3)", "return weight.clamp(0.5, 3) / weight.clamp(0.5, 3).mean((1, 2, 3, 4), keepdim=True)"),
    Fault("frames", "motion: next frame's change alone", OBJECTIVES + "motion.py", "(pad(change, before) + pad(change, after))", "(pad(change, after) + pad(change, after))"),
    Fault("frames", "spectrum: no least amplitude", OBJECTIVES + "temporal_spectrum.py", "LEAST = 1e-6", "LEAST = 0.0"),
    Fault("frames", "spectrum: not orthonormal", OBJECTIVES + "temporal_spectrum.py", ', norm="ortho"', ""),
    Fault("frames", "spectrum: over rows", OBJECTIVES + "temporal_spectrum.py", "rfft(clips, dim=2", "rfft(clips, dim=3"),
    Fault("frames", "spectrum: mean weight of the frames", OBJECTIVES + "temporal_spectrum.py", "held.amin(1)", "held.mean(1)"),
    Fault("frames", "spectrum: a cut is motion", OBJECTIVES + "temporal_spectrum.py", "_amplitudes(_level(x.float(), neighbors))", "_amplitudes(x.float())"),
    Fault("frames", "entropy: mean over silent heads too", OBJECTIVES + "entropy_floor.py", "alarmed.sum(1).clamp_min(1)", "alarmed.shape[1]"),
    Fault("frames", "entropy: sign", OBJECTIVES + "entropy_floor.py", "(self.floor * most - entropy)", "(entropy - self.floor * most)"),
    Fault("frames", "entropy: every layer", OBJECTIVES + "entropy_floor.py", "if any(re.search(pattern, name) for pattern in self.layers)", "if self.layers"),
    Fault("frames", "entropy: bits", OBJECTIVES + "entropy_floor.py", "math.log(outcome", "math.log2(outcome"),
    Fault("step", "views swapped", "models/denoiser.py", "zip(asks, parts, strict=True)", "zip(asks[::-1], parts, strict=True)"),
    Fault("step", "times interleaved", "models/denoiser.py", "level.time.repeat(k)", "level.time.repeat_interleave(k)"),
    Fault("step", "view without gradient keeps it", "models/denoiser.py", "torch.set_grad_enabled(grad and", "torch.set_grad_enabled(True and"),
    Fault("step", "source latents scaled", "models/codec.py", "return moments.mean\n", "return moments.mean * self.scaling\n"),
    Fault("step", "posterior: variance for deviation", "models/codec.py", "torch.exp(0.5 * moments.logvar)", "torch.exp(moments.logvar)"),
    Fault("step", "image dropped with the text alone", "tasks/edit.py", "(p >= c) & (p < 3 * c)", "p < 2 * c"),
    Fault("step", "text never dropped", "tasks/edit.py", "(p < 2 * c).float()", "(p < 0 * c).float()"),
    Fault("step", "fresh draw for the image's dropout", "tasks/edit.py", "((p >= c)", '((draws.uniform("image dropout").to(p) >= c)'),
    Fault("step", "noise not addressed by purpose", "engine/step.py", 'draws.normal("noise",', 'draws.normal("posterior target",'),
    Fault("metrics", "frechet: factor two forgotten", METRICS + "frechet.py", ".item() - 2 * _overlap(rows_x, rows_y)", ".item() - _overlap(rows_x, rows_y)"),
    Fault("metrics", "frechet: ddof 0", METRICS + "frechet.py", "(wx / (wx.sum() - 1)).sqrt()", "(wx / wx.sum()).sqrt()"),
    Fault("metrics", "frechet: not centered on the offset", METRICS + "frechet.py", "common = x.mean(0)", "common = 0 * x.mean(0)"),
    Fault("metrics", "frechet: mean gap not squared", METRICS + "frechet.py", "gap = (mean_x - mean_y).square().sum()", "gap = (mean_x - mean_y).abs().sum()"),
    Fault("metrics", "frechet floor: one set only", METRICS + "frechet.py", "return (1 / len(x) + 1 / len(y)) * bracket", "return 2 / len(x) * bracket"),
    Fault("metrics", "kernel: biased", METRICS + "kernel.py", "return cls(xx.fill_diagonal_(0),", "return cls(xx,"),
    Fault("metrics", "kernel: cross term once", METRICS + "kernel.py", "- 2 * self.xy.sum() / (n * m)).item()", "- self.xy.sum() / (n * m)).item()"),
    Fault("metrics", "kernel: width forgotten", METRICS + "kernel.py", "gram = u @ v.T / d", "gram = u @ v.T"),
    Fault("metrics", "kernel: counts ignored", METRICS + "kernel.py", "- 2 * (wx @ self.xy @ wy)", "- 2 * (self.xy.sum() * wx.mean() * wy.mean())"),
    Fault("metrics", "moments: merge forgets the gap", METRICS + "moments.py", "torch.outer(delta, delta) * (self.count * other.count / count)", "0.0"),
    Fault("metrics", "directions of unscaled embeddings", METRICS + "clip.py", "(normalize(s, dim=1) for s in sets)", "(s for s in sets)"),
    Fault("metrics", "unchanged picture scores zero", METRICS + "clip.py", "cosine, torch.nan)", "cosine, 0.0)"),
    Fault("metrics", "similarity to the wrong text", METRICS + "clip.py", 'f"{self.extractor}:text:{self.text}"]', 'f"{self.extractor}:text:target"]'),
    Fault("metrics", "psnr: range of one", METRICS + "pixels.py", "torch.log10(data_range**2 / error)", "torch.log10(1 / error)"),
    Fault("metrics", "ssim: sigma ignored", METRICS + "pixels.py", "(offsets / sigma) ** 2", "(offsets / 1.5) ** 2"),
    Fault("metrics", "coherence: inside for outside", METRICS + "coherence.py", "free = 1 - touched", "free = touched"),
    Fault("metrics", "coherence: copy threshold ignored", METRICS + "coherence.py", "made < self.copy * asked", "made < 0.1 * asked"),
    Fault("metrics", "stderr without the root", METRICS + "base.py", "len(known) ** 0.5", "len(known)"),
    Fault("compare", "sign of the difference", COMPARE + "statistics.py", "arm.astype(np.float64) - baseline.astype(np.float64)", "baseline.astype(np.float64) - arm.astype(np.float64)"),
    Fault("compare", "seeds not resampled", COMPARE + "statistics.py", "draws.multinomial(self.seeds, np.full(self.seeds, 1 / self.seeds), self.resamples)", "np.ones((self.resamples, self.seeds), dtype=np.int64)"),
    Fault("compare", "sources not resampled", COMPARE + "statistics.py", "draws.multinomial(self.sources, np.full(self.sources, 1 / self.sources), self.resamples)", "np.ones((self.resamples, self.sources), dtype=np.int64)"),
    Fault("compare", "undefined counts as zero", COMPARE + "statistics.py", "base = _ratio(filled.sum(1), known.sum(1))", "base = filled.mean(1)"),
    Fault("compare", "confidence ignored", COMPARE + "statistics.py", "tail = (1 - self.confidence) / 2", "tail = 0.025"),
    Fault("compare", "percentile not stretched", COMPARE + "statistics.py", "stretch = stats.t.ppf", "stretch = 1.0 + 0 * stats.t.ppf"),
    Fault("metrics", "wilson: z not squared", METRICS + "safety.py", "z * z / (4 * n * n)", "z / (4 * n * n)"),
    Fault("compare", "sign flip: one-sided", COMPARE + "significance.py", "np.abs(sums) >= abs(known.sum()) - slack", "sums >= abs(known.sum()) - slack"),
    Fault("compare", "sign flip: observed pattern left out", COMPARE + "significance.py", "abs(known.sum()) - slack", "abs(known.sum()) + slack"),
    Fault("compare", "holm: not monotone", COMPARE + "significance.py", "floor = max(floor, min(1.0,", "floor = max(0.0, min(1.0,"),
    Fault("compare", "holm: bonferroni", COMPARE + "significance.py", "(len(family) - rank)", "len(family)"),
    Fault("compare", "superiority: better ignored", COMPARE + "significance.py", 'known if better == "higher" else -known', "known"),
    Fault("compare", "mcnemar: concordant items count", COMPARE + "significance.py", "(arm & ~baseline).sum()", "arm.sum()"),
]  # fmt: skip


def plant(fault: Fault | None, folder: Path) -> None:
    """A copy of sources and tests in `folder`, with the fault."""
    ignore = shutil.ignore_patterns("__pycache__", "base")
    for name in ("src", "tests", "examples"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    if (ROOT / "src/relatum/base").exists():
        (folder / "src/relatum/base").symlink_to(ROOT / "src/relatum/base")
    shutil.copy(ROOT / "pyproject.toml", folder)
    if fault is not None:
        file = folder / "src/relatum" / fault.file
        text = file.read_text(encoding="utf-8")
        if text.count(fault.right) == 0:
            raise SystemExit(f"{fault.part}: {fault.name}: {fault.file} no longer holds {fault.right!r}; mend the table")
        file.write_text(text.replace(fault.right, fault.wrong), encoding="utf-8")


def judge(fault: Fault | None, part: str) -> dict[str, str]:
    """The first test of each kind that fails with the fault planted, or an empty string."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plant(fault, folder)
        files = [p for kind in KINDS for test in TESTS[part] if (p := folder / "tests" / kind / f"{test}.py").exists()]
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-rfE",
            "--tb=no",
            "--maxfail=40",
            "-p",
            "no:cacheprovider",
            *map(str, files),
        ]
        said = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stdout
    failed = re.findall(r"^(?:FAILED|ERROR) tests/(\w+)/(\S+)", said, re.MULTILINE)
    return {kind: next((test.split("::")[-1] for where, test in failed if where == kind), "") for kind in KINDS}


def main(only: str) -> int:
    faults = [fault for fault in FAULTS if only in f"{fault.part} {fault.name} {fault.file}"]
    parts = sorted({fault.part for fault in faults})
    caught: Counter[str] = Counter()
    missed = 0
    with ThreadPoolExecutor(2) as pool:
        for part, failed in zip(parts, pool.map(judge, [None] * len(parts), parts), strict=True):
            if any(failed.values()):
                print(f"{part}: tests fail without any fault: {', '.join(filter(None, failed.values()))}")
                return 2
        for fault, failed in zip(faults, pool.map(judge, faults, [fault.part for fault in faults]), strict=True):
            caught.update(kind for kind, test in failed.items() if test)
            missed += not any(failed.values())
            words = "  ".join(f"{kind}: {test}" for kind, test in failed.items() if test) or "NOT CAUGHT"
            print(f"{fault.part:11s}{fault.name:42s}{words}", flush=True)
    print(f"\ncaught {len(faults) - missed} of {len(faults)}; by kind: " + ", ".join(f"{kind} {caught[kind]}" for kind in KINDS))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else ""))
