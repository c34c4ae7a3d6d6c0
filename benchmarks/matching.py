"""Matching in full and by elimination, and our batches beside a plain double loop, in one run.

python benchmarks/matching.py --images 20 --texts 64 --levels 64 --threads 1
python benchmarks/matching.py --size sd15 --texts 16 --levels 16 --device cuda

Which of the texts fits each toy picture? UNet evaluations are counted at the network itself: samples that went through it.
  full         every text at every level
  elimination  rounds over nested levels, with the stated chance of missing the full ranking's winner
  double loop  one evaluation a pair and level, as one would write it; on the first picture and `--loop` texts
Size toy is the bundled model; tiny and sd15 have random weights, so their winners mean nothing and are hard to tell apart.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from relatum.core.draws import Draws
from relatum.core.path import DiscretePath
from relatum.core.prediction import Parametrization
from relatum.data.toy import ToyScenes
from relatum.engine.eliminate import best_text
from relatum.engine.match import DiffusionScorer, Matching, every_pair, match_levels
from relatum.metrics import wilson
from relatum.models.codec import Codec
from relatum.models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from relatum.models.folder import PipelineFolder
from relatum.models.text import TextEncoder
from relatum.models.tiny import byte_tokenizer, tiny_stable_diffusion

PIXELS = {"tiny": 16, "toy": 32, "sd15": 512}


def networks() -> tuple[Any, Any, Any]:
    """UNet, autoencoder and text encoder of Stable Diffusion 1.5's sizes, random weights."""
    import diffusers
    from transformers import CLIPTextConfig, CLIPTextModel

    build: Any = diffusers.AutoencoderKL  # its annotations say tuples of one
    vae = build(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        latent_channels=4,
    )
    text = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12)
    return diffusers.UNet2DConditionModel(sample_size=64, cross_attention_dim=768), vae, CLIPTextModel(text)


def stable_diffusion_15() -> StableDiffusion:
    import diffusers

    unet, vae, text = networks()
    scheduler = diffusers.DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False)
    codec, words, path = Codec(vae), TextEncoder(byte_tokenizer(77), text), DiscretePath.from_scheduler(scheduler)
    return StableDiffusion(unet, codec, words, scheduler, Parametrization.EPS, path, 0, PipelineFolder(Path("random"), {}))


def opened(size: str) -> StableDiffusion:
    torch.manual_seed(0)
    match size:
        case "toy":
            return open_stable_diffusion("relatum:toy", 0)
        case "tiny":
            return tiny_stable_diffusion(0)
        case _:
            return stable_diffusion_15()


class Bench:
    """A scorer whose UNet counts the samples that go through it."""

    def __init__(self, model: StableDiffusion, settings: Matching) -> None:
        self.scorer, self.count = DiffusionScorer(model, settings), 0
        self.device = next(model.unet.parameters()).device
        self.scorer.model.unet.register_forward_pre_hook(self._counted)

    def _counted(self, network: Any, inputs: tuple[Tensor, ...]) -> None:
        self.count += len(inputs[0])

    def timed(self, work: Any) -> tuple[Any, int, float]:
        """What it gives, evaluations, seconds."""
        self.count, begun = 0, time.perf_counter()
        made = work()
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return made, self.count, time.perf_counter() - begun

    @torch.no_grad()
    def double_loop(self, image: Tensor, texts: list[str]) -> Tensor:
        """(texts,) of one image (1 3 h w): nothing is batched, nothing kept."""
        model, settings, scores = self.scorer.model, self.scorer.settings, []
        for text in texts:
            x0, states, total = model.codec.latents(model.codec.encode(image), None), model.text.encode([text]), 0.0
            for k in range(settings.levels):
                level = match_levels(settings, model.path, [k]).to(self.device)
                eps = Draws(settings.seed, [k]).normal("match", x0.shape[1:]).to(self.device)
                raw = model.unet(level.blend(x0, eps), level.time, encoder_hidden_states=states, return_dict=False)[0]
                total += float((raw - model.kind.target(x0, eps, level)).square().mean())
            scores.append(-total / settings.levels)
        return torch.tensor(scores)


def spread(values: list[float], form: str = ".2f") -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}}-{max(values):{form}})"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=PIXELS, default="toy")
    parser.add_argument("--images", type=int, default=5)
    parser.add_argument("--texts", type=int, default=64, help="candidates, the image's own caption among them")
    parser.add_argument("--levels", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--delta", type=float, default=0.01)
    parser.add_argument("--loop", type=int, default=4, help="texts of the double loop")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, help="of torch on the CPU")
    said = parser.parse_args(arguments)
    if said.threads:
        torch.set_num_threads(said.threads)
    model = opened(said.size).to(said.device)
    bench = Bench(model, Matching(said.levels, batch_size=said.batch, seed=said.seed))
    rows = ToyScenes(split="test", count=max(said.images, said.texts)).rows()
    names = [row.texts["target"] for row in rows]
    million = sum(p.numel() for p in model.unet.parameters()) / 1e6
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores" if hasattr(os, "getloadavg") else ""
    print(f"{said.size}: UNet {million:.1f} M, {PIXELS[said.size]} px, batch {said.batch}, {said.device}, ", end="")
    print(f"{torch.get_num_threads()} threads{load}")
    print(f"{said.images} images, {said.texts} texts each, {said.levels} levels, delta {said.delta}\n")
    found: dict[str, list[tuple[int, int, float]]] = {"full": [], "elimination": []}
    for i in range(said.images):
        image = rows[i].images["target"].pixels(PIXELS[said.size])[None]
        texts = [names[i], *(name for name in names if name != names[i])][: said.texts]
        bench.scorer.tokens(texts)  # text states are shared by both ways
        scores, count, seconds = bench.timed(lambda x=image, w=texts: bench.scorer(x, w, every_pair(1, len(w))))
        found["full"].append((int(scores.argmax()), count, seconds))
        best, count, seconds = bench.timed(lambda x=image, w=texts: best_text(bench.scorer, x, w, said.delta))
        found["elimination"].append((best.winner, count, seconds))
    for name, results in found.items():
        counts, clock = [float(r[1]) for r in results], [r[2] for r in results]
        print(f"{name:12} an image: {spread(counts, '.0f')} UNet evaluations, {spread(clock)} s")
    same = sum(a[0] == b[0] for a, b in zip(*found.values(), strict=True))
    low, high = wilson(same, said.images)
    own = sum(r[0] == 0 for r in found["full"])
    less, faster = (sum(r[i] for r in found["full"]) / sum(r[i] for r in found["elimination"]) for i in (1, 2))
    print(f"same winner  {same} of {said.images}, 95 % {low:.3f}-{high:.3f}; own caption the full winner in {own}")
    print(f"elimination  {less:.2f} times fewer evaluations, {faster:.2f} times fewer seconds\n")
    image, texts = rows[0].images["target"].pixels(PIXELS[said.size])[None], names[: said.loop]
    plain, count, slow = bench.timed(lambda: bench.double_loop(image.to(said.device), texts))
    fresh = Bench(bench.scorer.model, bench.scorer.settings)
    ours, ours_count, quick = fresh.timed(lambda: fresh.scorer(image, texts, every_pair(1, len(texts))))
    print(f"double loop  {count} UNet evaluations, {slow:.2f} s")
    print(f"ours         {ours_count} UNet evaluations, {quick:.2f} s, {slow / quick:.2f} times faster, ", end="")
    print(f"greatest difference {float((plain - ours).abs().max()):.1e} of scores about {float(plain.abs().mean()):.2f}")


if __name__ == "__main__":
    main()
