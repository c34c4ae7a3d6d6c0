"""Made-up outcomes of a training step: every view, anchor and mask that an objective may ask for, from one seed."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from relatum.core.draws import Draws
from relatum.core.outcome import Outcome
from relatum.core.path import DiscretePath, NoiseLevel
from relatum.core.prediction import Parametrization, Prediction
from relatum.core.ranks import Ranks
from relatum.core.registry import objective

__all__ = ["VIEWS", "in_ranks", "judge", "make_outcome", "only", "pixels", "stable_diffusion_path", "take", "wrong_by"]

VIEWS = "matched", "negative", "negative.2", "negative.3", "null", "reference:matched", "reference:negative", "reference:null"

LAYERS = "mid_block", "down_blocks.0"  # that features are known of
ATTENTION = "down_blocks.0.motion_modules.0.attn1", "up_blocks.1.motion_modules.0.attn1"  # that entropies of clips are known of
HEADS = 3


def stable_diffusion_path() -> DiscretePath:
    """The schedule of Stable Diffusion 1.x."""
    return DiscretePath.from_scheduler(DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012))


def make_outcome(
    seed: int = 0,
    batch: int = 6,
    shape: Sequence[int] = (4, 6, 6),
    kind: Parametrization = Parametrization.EPS,
    spread: float = 0.15,
    error: float = 0.5,
    ids: Sequence[str] | None = None,
    timesteps: Sequence[int] | Sequence[Sequence[int]] | None = None,
    joined: Sequence[Sequence[bool]] | None = None,
) -> tuple[Outcome, dict[str, Tensor]]:
    """An outcome and the raw outputs by view, leaves that collect a gradient. A shape of four is that of clips.

    spread: 1 for samples that have nothing in common, near 0 for near-duplicates; .15 keeps softmaxes over the batch undecided.
    error: how far raw outputs lie from the truth.
    timesteps: from 20 to 620 by default, so that low and middle noise are both there; one a sample, or one a frame.
    """
    g = torch.Generator().manual_seed(seed)

    def like_data() -> Tensor:
        common = torch.randn(1, *shape, generator=g)
        return (1 - spread) * common + spread * torch.randn(batch, *shape, generator=g)

    clean, source = like_data(), like_data()
    noise = torch.randn(batch, *shape, generator=g)
    index = torch.linspace(20, 620, batch).long() if timesteps is None else torch.tensor(timesteps)
    level = stable_diffusion_path().at(index)
    noisy, truth = level.blend(clean, noise), kind.target(clean, noise, level)
    far = {view: 0.9 * error if "negative" in view else error for view in VIEWS}  # so that bounds on wrong captions act
    raws = {view: (truth + far[view] * torch.randn(batch, *shape, generator=g)).requires_grad_() for view in VIEWS}
    layers = torch.randn(2, shape[0], 5, generator=g)
    held = {name: torch.einsum("bc...,cd->bd", raws["matched"], layer) for name, layer in zip(LAYERS, layers, strict=True)}
    entropies = _entropies(raws["matched"], g) if len(shape) == 4 else {}
    outcome = Outcome(
        clean=clean,
        noise=noise,
        level=level,
        predictions={
            v: Prediction(raw, noisy, level, kind, *((held, entropies) if v == "matched" else ())) for v, raw in raws.items()
        },
        anchors={"source": source, "target": clean},
        ids=[f"sample-{i}" for i in range(batch)] if ids is None else ids,
        draws=Draws(seed, [f"address-{i}" for i in range(batch)]),
        masks={"changed": (torch.rand(batch, 1, *shape[-2:], generator=g) < 0.5).float()},
        joined=None if joined is None else torch.tensor(joined),
    )
    return outcome, raws


def _entropies(raw: Tensor, g: torch.Generator) -> dict[str, Tensor]:
    """(b heads) by layer, from 0 to ln T: some heads look at one frame."""
    pulls = torch.randn(len(ATTENTION), raw.shape[1], HEADS, generator=g) * torch.tensor([0.2, 1.0, 3.0])
    logits = torch.einsum("bcthw,lcd->lbdt", raw, pulls)
    return {name: -(one.softmax(2) * one.log_softmax(2)).sum(2) for name, one in zip(ATTENTION, logits, strict=True)}


def take(outcome: Outcome, index: Sequence[int]) -> Outcome:
    """The outcome of these samples alone, in this order."""
    i = torch.tensor(index)
    level = NoiseLevel(outcome.level.time[i], outcome.level.alpha[i], outcome.level.sigma[i])
    return dataclasses.replace(
        outcome,
        clean=outcome.clean[i],
        noise=outcome.noise[i],
        level=level,
        predictions={v: _taken(p, i, level) for v, p in outcome.predictions.items()},
        anchors={name: anchor[i] for name, anchor in outcome.anchors.items()},
        ids=[outcome.ids[k] for k in index],
        draws=Draws(outcome.draws.seed, [outcome.draws.addresses[k] for k in index]),
        masks={name: mask[i] for name, mask in outcome.masks.items()},
        joined=None if outcome.joined is None else outcome.joined[i],
        watched={},
    )


def _taken(prediction: Prediction, index: Tensor, level: NoiseLevel) -> Prediction:
    features, attention = ({name: x[index] for name, x in kept.items()} for kept in (prediction.features, prediction.attention))
    return Prediction(prediction.raw[index], prediction.noisy[index], level, prediction.kind, features, attention)


def only(outcome: Outcome, keys: set[str]) -> Outcome:
    """The same outcome without the views that were not asked for."""
    return dataclasses.replace(outcome, predictions={k: p for k, p in outcome.predictions.items() if k in keys})


def judge(kind: str, **settings: Any) -> Any:
    """An objective as a recipe has it."""
    return objective.build({"kind": kind, **settings}, f"objectives.{kind}")


def wrong_by(r: Tensor, joined: Sequence[Sequence[bool]] | None = None, clean: Tensor | None = None, seed: int = 0) -> Outcome:
    """Clips whose x0 prediction is off by r (b c t h w) at alpha .8, sigma .6."""
    b = len(r)
    level = NoiseLevel(torch.zeros(b), torch.full((b,), 0.8), torch.full((b,), 0.6))
    clean = torch.zeros_like(r) if clean is None else clean
    prediction = Prediction(clean + r, 0.8 * clean, level, Parametrization.X0)
    pairs = None if joined is None else torch.tensor(joined)
    names = [f"s{i}" for i in range(b)]
    return Outcome(clean, torch.zeros_like(r), level, {"matched": prediction}, {}, names, Draws(seed, range(b)), joined=pairs)


def pixels(rows: Sequence[Sequence[float]]) -> Tensor:
    """One channel and one position: (b 1 t 1 1)."""
    return torch.tensor(rows, dtype=torch.float32)[:, None, :, None, None]


def in_ranks(count: int, work: Callable[[Ranks], Any]) -> list[Any]:
    """`work` in `count` threads, each one a process of the run; gather waits for all, as a collective does."""
    barrier = threading.Barrier(count, timeout=60)
    slots: list[Tensor | None] = [None] * count

    def gather_of(rank: int) -> Callable[[Tensor], Tensor]:
        def gather(tensor: Tensor) -> Tensor:
            slots[rank] = tensor
            barrier.wait()
            whole = torch.cat([slot for slot in slots if slot is not None])
            barrier.wait()
            return whole

        return gather

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, [Ranks(rank, count, gather_of(rank)) for rank in range(count)]))
