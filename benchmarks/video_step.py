"""A training step of text to video: cached beside uncached, each objective and the monitors beside plain MSE, in one run.

python benchmarks/video_step.py --size toy --threads 1
python benchmarks/video_step.py --size sd15 --device cuda --dtype bf16

All contenders train the motion modules of one network of random weights, each with its own AdamW, in turns of `--steps` updates of
the engine's loop; ratios are taken turn by turn, against a turn of `mse` right before or after.
  mse        cached clip latents and text states; monitors off
  again      the same once more: how far its ratio is from 1 is what this run cannot tell apart
  uncached   the autoencoder and the text encoder run every step; pixels and words are in memory
  monitored  attention entropy and gradients by block looked at in every update; by default it is one in `train.monitor_steps`
  guarded    the search for spikes, as it is by default
and the objectives by name, as a recipe would use them.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from edit_step import SIZES, networks, spread

from relatum.core.path import DiscretePath
from relatum.core.prediction import Parametrization
from relatum.data.toy.clips import ToyClips
from relatum.engine.cache import encode_rows
from relatum.engine.encoded import EncodedRows
from relatum.engine.settings import TrainSettings
from relatum.engine.step import DiffusionParts, diffusion_step
from relatum.engine.train import Job, _Loop
from relatum.models.codec import Codec, Moments
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.folder import PipelineFolder
from relatum.models.motion import MotionSize, fresh_motion, with_motion
from relatum.models.text import TextEncoder
from relatum.models.tiny import byte_tokenizer
from relatum.objectives.blend import read_blend
from relatum.tasks.base import Batch
from relatum.tasks.video import Video

CLIPS = {"tiny": (2, 4), "toy": (8, 8), "sd15": (1, 16)}  # samples a step, frames a clip
BESIDE = {"denoise": {"kind": "denoise"}}
OBJECTIVES: dict[str, dict[str, Any]] = {
    "mse": BESIDE,
    "again": BESIDE,
    "uncached": BESIDE,
    "monitored": BESIDE,
    "guarded": BESIDE,
    "frame_difference": {"term": {"kind": "frame_difference"}},
    "frame_difference x0": {"term": {"kind": "frame_difference", "space": "x0"}},
    "anchored": {"term": {"kind": "anchored_difference", "faithful": True}},
    "anchored l1": {"term": {"kind": "anchored_difference", "faithful": True, "norm": "l1"}},
    "motion_weighted": {"term": {"kind": "motion_weighted"}},
    "temporal_residual": {**BESIDE, "term": {"kind": "temporal_residual"}},
    "temporal_spectrum": {**BESIDE, "term": {"kind": "temporal_spectrum"}},
    "entropy_floor": {**BESIDE, "term": {"kind": "entropy_floor"}},
}
TARGETS = {"objectives": 1.03, "monitors": 1.02}  # at most, over mse


class Uncached:
    """Rows whose clips and captions go through the networks every time."""

    def __init__(self, rows: EncodedRows, clips: torch.Tensor, words: Sequence[str], model: StableDiffusion, device: str) -> None:
        self._rows, self._clips, self._words, self._model, self._device = rows, clips, words, model, device

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rows, name)

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int]) -> Batch:
        frames = self._clips[list(indices)].to(self._device)
        encoded = self._model.codec.encode(frames.flatten(0, 1))
        mean, logvar = (part.unflatten(0, frames.shape[:2]).transpose(1, 2) for part in encoded)
        tokens = self._model.text.encode([self._words[i] for i in indices])
        return replace(self._rows.batch(indices), moments={"target": Moments(mean, logvar)}, tokens={"target": tokens})


class Bench:
    """The networks, the rows, and the contenders' updates by name."""

    def __init__(self, name: str, batch: int, frames: int, device: str, dtype: str, folder: Path, only: Sequence[str]) -> None:
        from diffusers import DDPMScheduler

        torch.manual_seed(0)
        size = SIZES[name]
        unet, vae, encoder = networks(size, inputs=4)
        scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="linear")
        self.device, self.dtype, self.folder, self.batch = torch.device(device), dtype, folder, batch
        self.path, kind = DiscretePath.from_scheduler(scheduler), Parametrization.EPS
        text = TextEncoder(byte_tokenizer(size.text["length"]), encoder)
        base = StableDiffusion(unet, Codec(vae), text, scheduler, kind, self.path, 0, PipelineFolder(folder, {}))
        self.model = with_motion(base, fresh_motion(unet, MotionSize(heads=8 if name == "sd15" else 4), 0)).to(self.device)
        for weight, tensor in self.model.unet.named_parameters():
            tensor.requires_grad_("motion_modules" in weight)
        rows = list(ToyClips(count=4 * batch, frames=frames).rows())
        self.rows = encode_rows(rows, Video().needs, size.pixels, self.model.codec, self.model.text, folder / "cache")
        clips = torch.stack([row.clips["target"].shot(size.pixels).frames for row in rows])
        self.uncached = Uncached(self.rows, clips, [row.texts["target"] for row in rows], self.model, device)
        self.steps = {name: self._updates(name, objectives) for name, objectives in OBJECTIVES.items() if name in only}

    def _updates(self, name: str, objectives: dict[str, Any]) -> Callable[[], None]:
        from accelerate import Accelerator

        parts = DiffusionParts(self.model.denoiser(), self.model.kind, self.path, Video(), read_blend(objectives), self.model.codec)
        settings = TrainSettings(
            max_train_steps=10**9,
            train_batch_size=self.batch,
            learning_rate=1e-6,
            balance_steps=10**9,
            monitor_steps=int(name == "monitored"),
            spike_z=TrainSettings().spike_z if name == "guarded" else 0.0,
            mixed_precision="bf16" if self.dtype == "bf16" else "no",
            report_to="none",
        )
        rows: Any = self.uncached if name == "uncached" else self.rows
        about = {"held_out": None, "save": lambda _: None, "signature": "", "levels": self.path.bins, "quiet": True}
        job = Job(parts, diffusion_step, rows, settings=settings, seed=0, folder=self.folder / name.replace(" ", "_"), **about)
        accelerator = Accelerator(cpu=self.device.type == "cpu", mixed_precision=settings.mixed_precision)
        return _Loop(job, accelerator, None).__enter__()._update

    def time(self, name: str, steps: int) -> tuple[float, float]:
        """Seconds a step: on the clock, and of this process's CPUs."""
        self._wait()
        clock, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.steps[name]()
        self._wait()
        return (time.perf_counter() - clock) / steps, (time.process_time() - cpu) / steps

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()


def run(bench: Bench, steps: int, turns: int) -> dict[str, list[tuple[tuple[float, float], tuple[float, float]]]]:
    """For each contender and turn: its seconds, and those of `mse` just before (after, in every other turn)."""
    times: dict[str, list[Any]] = {name: [] for name in bench.steps}
    for name in bench.steps:
        bench.time(name, 2)  # warm
    for turn in range(turns):
        for name in bench.steps:
            first = bench.time("mse", steps) if turn % 2 == 0 else None
            own = bench.time(name, steps)
            times[name].append((own, first or bench.time("mse", steps)))
    return times


def report(times: dict[str, list[tuple[tuple[float, float], tuple[float, float]]]]) -> None:
    """Times, ratios to mse and, of the monitors, what they cost at their default interval."""
    print(f"{'':21}{'ms a step':>28}{'CPU ms a step':>28}{'clock / mse':>23}{'CPU / mse':>23}{'target':>9}")
    for name, pairs in times.items():
        own = [spread([1000 * mine[i] for mine, _ in pairs], ".1f") for i in (0, 1)]
        ratios = [[mine[i] / base[i] for mine, base in pairs] for i in (0, 1)]
        target = "" if name in ("mse", "again", "uncached", "monitored", "guarded") else f"<= {TARGETS['objectives']:.2f}"
        print(f"{name:21}{own[0]:>28}{own[1]:>28}{spread(ratios[0]):>23}{spread(ratios[1]):>23}{target:>9}")
    if "monitored" in times:
        every = TrainSettings().monitor_steps
        found = [[1 + (mine[i] / base[i] - 1) / every for mine, base in times["monitored"]] for i in (0, 1)]
        target = f"<= {TARGETS['monitors']:.2f}"
        print(f"{f'monitors, 1 in {every}':21}{'':56}{spread(found[0]):>23}{spread(found[1]):>23}{target:>9}")
    if "uncached" in times:
        faster = [[mine[i] / base[i] for mine, base in times["uncached"]] for i in (0, 1)]
        print(f"\na cached step is {spread(faster[0], '.2f')} times as fast on the clock, {spread(faster[1], '.2f')} by CPU time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="toy")
    parser.add_argument("--batch", type=int, help="clips a step; the size's own by default")
    parser.add_argument("--frames", type=int, help="of a clip; the size's own by default")
    parser.add_argument("--steps", type=int, default=3, help="updates of a contender's turn")
    parser.add_argument("--turns", type=int, default=7, help="turns of each contender")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--only", nargs="*", choices=[*OBJECTIVES], help="leave the others out; mse always runs")
    said = parser.parse_args()
    if said.threads:
        torch.set_num_threads(said.threads)
    batch, frames = said.batch or CLIPS[said.size][0], said.frames or CLIPS[said.size][1]
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(said.size, batch, frames, said.device, said.dtype, Path(folder), ["mse", *(said.only or OBJECTIVES)])
        times = run(bench, said.steps, said.turns)
        weights = list(bench.model.unet.parameters())
        million, trained = (sum(p.numel() for p in weights if p.requires_grad >= least) / 1e6 for least in (False, True))
        load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
        where = f"{said.device}, {said.dtype}, {torch.get_num_threads()} threads{load}"
        print(f"{said.size}: UNet {million:.1f} M, {trained:.1f} M of them trained, {batch} clips of {frames} frames, {where}")
        print(f"median (least-most) of {said.turns} turns of {said.steps} steps\n")
        report(times)


if __name__ == "__main__":
    main()
