"""A training step of instructed editing: ours beside the stock script's and beside a bare loop, in one run.

python benchmarks/edit_step.py --size toy --batch 64 --threads 1
python benchmarks/edit_step.py --size sd15 --batch 16 --device cuda --dtype bf16

All contenders train one network, each with its own AdamW, in turns of `--steps` steps; ratios are taken turn by turn.
  stock     the step of diffusers' train_instruct_pix2pix.py: both images, the texts and the empty prompt are encoded every time;
            its pixels and token numbers are in memory already, where the script reads files
  bare      hand-written, over cached latents and text states: noise, add_noise, UNet, mean squared error; no dropout, no guard
  ours      one update of the engine's loop: cached moments, addressed draws, dropout, guard, journal
  contrast  ours with robust contrast to source and to target
"""

from __future__ import annotations

import argparse
import copy
import ctypes
import gc
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from relatum.core.path import DiscretePath
from relatum.core.prediction import Parametrization
from relatum.data.toy import ToyEdits
from relatum.engine.cache import encode_rows
from relatum.engine.settings import TrainSettings
from relatum.engine.step import DiffusionParts, diffusion_step
from relatum.engine.train import Job, _Loop
from relatum.models.codec import Codec
from relatum.models.denoiser import Denoiser
from relatum.models.text import TextEncoder
from relatum.models.tiny import byte_tokenizer
from relatum.objectives.blend import read_blend
from relatum.tasks.edit import Edit

DROPOUT = 0.05
TARGETS = {  # ratio: (numerator, denominator, least)
    "ours / stock": ("ours", "stock", {"cpu": 1.15, "cuda": 1.8}),
    "ours / bare": ("ours", "bare", {"cpu": 0.98, "cuda": 0.98}),
    "contrast / ours": ("contrast", "ours", {"cpu": 1 / 1.03, "cuda": 1 / 1.03}),
}


@dataclass(frozen=True)
class Size:
    """pixels: edge of the images. unet: widths and heads; vae, text: widths. sd15 is Stable Diffusion 1.5 widened to edits."""

    pixels: int
    batch: int
    unet: dict[str, Any]
    vae: dict[str, Any]
    text: dict[str, Any]


def _down_up(widths: tuple[int, ...], plain_last: bool) -> dict[str, Any]:
    down = ["CrossAttnDownBlock2D"] * len(widths)
    up = ["CrossAttnUpBlock2D"] * len(widths)
    if plain_last:
        down[-1], up[0] = "DownBlock2D", "UpBlock2D"
    return {"block_out_channels": widths, "down_block_types": tuple(down), "up_block_types": tuple(up)}


SIZES = {
    "tiny": Size(
        16,
        4,
        {
            **_down_up((16, 32), True),
            "layers_per_block": 1,
            "norm_num_groups": 8,
            "cross_attention_dim": 32,
            "attention_head_dim": 2,
        },
        {"block_out_channels": (8, 16, 16), "layers_per_block": 1, "norm_num_groups": 8},
        {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "length": 32},
    ),
    "toy": Size(
        32,
        64,
        {
            **_down_up((64, 96), False),
            "layers_per_block": 1,
            "norm_num_groups": 16,
            "cross_attention_dim": 128,
            "attention_head_dim": (2, 3),
        },
        {"block_out_channels": (24, 48, 64), "layers_per_block": 1, "norm_num_groups": 8, "mid_block_add_attention": False},
        {"hidden_size": 128, "intermediate_size": 512, "num_hidden_layers": 3, "num_attention_heads": 4, "length": 32},
    ),
    "sd15": Size(
        256,
        16,
        {
            **_down_up((320, 640, 1280, 1280), True),
            "layers_per_block": 2,
            "norm_num_groups": 32,
            "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        {"block_out_channels": (128, 256, 512, 512), "layers_per_block": 2, "norm_num_groups": 32},
        {
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "length": 77,
            "vocab_size": 49408,
        },
    ),
}


def networks(size: Size, inputs: int = 8) -> tuple[Any, Any, Any]:
    """(UNet of so many input channels, autoencoder, text encoder) with random weights, built from their configurations alone."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    levels = len(size.vae["block_out_channels"])
    unet = UNet2DConditionModel(sample_size=size.pixels // 2 ** (levels - 1), in_channels=inputs, out_channels=4, **size.unet)
    vae = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        latent_channels=4,
        sample_size=size.pixels,
        scaling_factor=0.18215,
        **size.vae,
    )
    words = {"vocab_size": 514, "bos_token_id": 512, "eos_token_id": 513, "pad_token_id": 513, **size.text}
    encoder = CLIPTextModel(CLIPTextConfig(max_position_embeddings=words.pop("length"), **words))
    return unet, vae.requires_grad_(False).eval(), encoder.requires_grad_(False).eval()


class Bench:
    """The networks, the rows in every form that a contender needs, and the contenders' steps by name."""

    def __init__(self, size: Size, batch: int, device: str, dtype: str, folder: Path) -> None:
        from diffusers import DDPMScheduler

        torch.manual_seed(0)
        self.size, self.batch, self.device, self.dtype, self.folder = size, batch, torch.device(device), dtype, folder
        self.unet, self.vae, self.encoder = (network.to(self.device) for network in networks(size))
        self.tokenizer = byte_tokenizer(size.text["length"])
        self.scheduler = DDPMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")
        rows = list(ToyEdits(count=4 * batch).rows())
        codec, text = Codec(self.vae), TextEncoder(self.tokenizer, self.encoder)
        self.codec = codec
        self.rows = encode_rows(rows, Edit.needs, size.pixels, codec, text, folder / "cache")
        self.pixels = {name: torch.stack([row.images[name].pixels(size.pixels) for row in rows]) for name in ("source", "target")}
        self.words = self._tokens([row.texts["instruction"] for row in rows])
        self.low = torch.bfloat16 if dtype == "bf16" else torch.float32
        terms = {to: {"kind": "contrast", "to": to, "weight": 0.02} for to in ("source", "target")}
        self.steps: dict[str, Callable[[], Any]] = {
            "stock": self._stock(),
            "bare": self._bare(),
            "ours": self._ours("ours", {"denoise": {"kind": "denoise"}}),
            "contrast": self._ours("contrast", {"denoise": {"kind": "denoise"}, **terms}),
        }

    def _tokens(self, texts: list[str]) -> Tensor:
        length = self.size.text["length"]
        return self.tokenizer(texts, padding="max_length", truncation=True, max_length=length, return_tensors="pt").input_ids

    def _autocast(self) -> Any:
        return torch.autocast(self.device.type, torch.bfloat16) if self.dtype == "bf16" else nullcontext()

    def _finish(self, loss: Tensor, optimizer: torch.optim.Optimizer) -> None:
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.unet.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    def _stock(self) -> Callable[[], None]:
        vae, encoder = (copy.deepcopy(network).to(self.low) for network in (self.vae, self.encoder))  # the script casts them
        optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-5)
        empty = self._tokens([""]).to(self.device)

        def step() -> None:
            picked = torch.randint(len(self.words), (self.batch,))
            edited, original = (self.pixels[name][picked].to(self.device, self.low) for name in ("target", "source"))
            with self._autocast():
                latents = vae.encode(edited).latent_dist.sample() * vae.config.scaling_factor
                noise = torch.randn_like(latents)
                times = torch.randint(0, 1000, (self.batch,), device=self.device).long()
                noisy = self.scheduler.add_noise(latents, noise, times)
                states = encoder(self.words[picked].to(self.device))[0]
                image = vae.encode(original).latent_dist.mode()
                p = torch.rand(self.batch, device=self.device)
                states = torch.where((p < 2 * DROPOUT).reshape(-1, 1, 1), encoder(empty)[0], states)
                image = (1 - ((p >= DROPOUT) & (p < 3 * DROPOUT)).to(image.dtype)).reshape(-1, 1, 1, 1) * image
                raw = self.unet(torch.cat([noisy, image], 1), times, states, return_dict=False)[0]
                loss = mse_loss(raw.float(), noise.float(), reduction="mean")
            self._finish(loss, optimizer)

        return step

    def _bare(self) -> Callable[[], None]:
        optimizer = torch.optim.AdamW(self.unet.parameters(), lr=1e-5)
        everything = self.rows.batch(range(len(self.rows)))
        latents, image = everything.moments["target"].mean * self.codec.scaling, everything.moments["source"].mean
        tokens = everything.tokens["instruction"]

        def step() -> None:
            picked = torch.randint(len(latents), (self.batch,))
            clean, condition, states = (tensor[picked].to(self.device) for tensor in (latents, image, tokens))
            noise = torch.randn(clean.shape, device=self.device)
            times = torch.randint(0, 1000, (self.batch,), device=self.device)
            with self._autocast():
                noisy = self.scheduler.add_noise(clean, noise, times)
                raw = self.unet(torch.cat([noisy, condition], 1), times, states, return_dict=False)[0]
                loss = mse_loss(raw.float(), noise)
            self._finish(loss, optimizer)

        return step

    def _ours(self, name: str, objectives: dict[str, Any]) -> Callable[[], None]:
        from accelerate import Accelerator

        path, kind = DiscretePath.from_scheduler(self.scheduler), Parametrization.EPS
        parts = DiffusionParts(Denoiser(self.unet, kind), kind, path, Edit(DROPOUT), read_blend(objectives), self.codec)
        settings = TrainSettings(
            max_train_steps=10**9,
            train_batch_size=self.batch,
            learning_rate=1e-5,
            mixed_precision="bf16" if self.dtype == "bf16" else "no",
        )
        about = {"held_out": None, "save": lambda _: None, "signature": "", "levels": path.bins, "quiet": True}
        job = Job(parts, diffusion_step, self.rows, settings=settings, seed=0, folder=self.folder / name, **about)
        accelerator = Accelerator(cpu=self.device.type == "cpu", mixed_precision=settings.mixed_precision)
        return _Loop(job, accelerator, None).__enter__()._update

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def time(self, name: str, steps: int) -> tuple[float, float]:
        """Seconds a step: on the clock, and of this process's CPUs."""
        self.wait()
        clock, cpu = time.perf_counter(), time.process_time()
        for _ in range(steps):
            self.steps[name]()
        self.wait()
        return (time.perf_counter() - clock) / steps, (time.process_time() - cpu) / steps

    def peak(self, name: str) -> float:
        """MiB: the most that is held during a step, of the GPU or (on Linux) of the resident set."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            self.time(name, 2)
            return torch.cuda.max_memory_allocated() / 2**20
        if not sys.platform.startswith("linux"):
            return float("nan")
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak so far
        self.time(name, 2)
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def spread(values: list[float], form: str = ".3f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def report(bench: Bench, times: dict[str, list[tuple[float, float]]]) -> None:
    print(f"{'':10}{'samples/s':>28}{'ms a step':>28}{'CPU ms a step':>28}{'peak MiB':>10}")
    for name, pairs in times.items():
        speeds = spread([bench.batch / clock for clock, _ in pairs], ".1f")
        clocks, cpus = (spread([1000 * pair[i] for pair in pairs], ".1f") for i in (0, 1))
        print(f"{name:10}{speeds:>28}{clocks:>28}{cpus:>28}{bench.peak(name):10.0f}")
    print(f"\n{'ratio of speeds, turn by turn':30}{'on the clock':>24}{'by CPU time':>24}{'target':>10}")
    for words, (above, below, least) in TARGETS.items():
        if above in times and below in times:
            ratios = [[b[i] / a[i] for a, b in zip(times[above], times[below], strict=True)] for i in (0, 1)]
            print(f"{words:30}{spread(ratios[0]):>24}{spread(ratios[1]):>24}{f'>= {least[bench.device.type]:.2f}':>10}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="toy")
    parser.add_argument("--batch", type=int, help="samples a step; the size's own by default")
    parser.add_argument("--steps", type=int, default=5, help="steps of a contender's turn")
    parser.add_argument("--turns", type=int, default=7, help="turns of each contender")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--dtype", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    parser.add_argument("--only", nargs="*", choices=("stock", "bare", "ours", "contrast"), help="leave the others out")
    said = parser.parse_args()
    if said.threads:
        torch.set_num_threads(said.threads)
    with tempfile.TemporaryDirectory() as folder:
        batch = said.batch or SIZES[said.size].batch
        bench = Bench(SIZES[said.size], batch, said.device, said.dtype, Path(folder))
        names = said.only or list(bench.steps)
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
        for name in names:
            bench.time(name, 2)  # warm
        for turn in range(said.turns):
            for name in names if turn % 2 == 0 else reversed(names):
                times[name].append(bench.time(name, said.steps))
        million = sum(p.numel() for p in bench.unet.parameters()) / 1e6
        load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
        where = f"{said.device}, {said.dtype}, {torch.get_num_threads()} threads{load}"
        print(f"{said.size}: UNet {million:.1f} M, batch {batch}, {where}")
        print(f"median (least-most) of {said.turns} turns of {said.steps} steps\n")
        report(bench, times)


if __name__ == "__main__":
    main()
