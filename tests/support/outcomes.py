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

__all__ = ["VIEWS", "in_ranks", "make_outcome", "only", "stable_diffusion_path", "take"]

VIEWS = "matched", "negative", "negative.2", "negative.3", "null", "reference:matched", "reference:negative", "reference:null"

LAYERS = "mid_block", "down_blocks.0"  # that features are known of


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
    timesteps: Sequence[int] | None = None,
) -> tuple[Outcome, dict[str, Tensor]]:
    """An outcome and the raw outputs by view, leaves that collect a gradient.

    spread: 1 for samples that have nothing in common, near 0 for near-duplicates; .15 keeps softmaxes over the batch undecided.
    error: how far raw outputs lie from the truth.
    timesteps: from 20 to 620 by default, so that low and middle noise are both there.
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
    outcome = Outcome(
        clean=clean,
        noise=noise,
        level=level,
        predictions={v: Prediction(raw, noisy, level, kind, held if v == "matched" else {}) for v, raw in raws.items()},
        anchors={"source": source, "target": clean},
        ids=[f"sample-{i}" for i in range(batch)] if ids is None else ids,
        draws=Draws(seed, [f"address-{i}" for i in range(batch)]),
        masks={"changed": (torch.rand(batch, 1, *shape[1:], generator=g) < 0.5).float()},
    )
    return outcome, raws


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
        watched={},
    )


def _taken(prediction: Prediction, index: Tensor, level: NoiseLevel) -> Prediction:
    features = {name: held[index] for name, held in prediction.features.items()}
    return Prediction(prediction.raw[index], prediction.noisy[index], level, prediction.kind, features)


def only(outcome: Outcome, keys: set[str]) -> Outcome:
    """The same outcome without the views that were not asked for."""
    return dataclasses.replace(outcome, predictions={k: p for k, p in outcome.predictions.items() if k in keys})


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
