"""Contrast: the predicted clean latent must be nearer to its own anchor than to the other samples' anchors."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, cross_entropy, normalize

from ..core.errors import RecipeError, ShapeError
from ..core.outcome import MATCHED, Outcome
from ..core.registry import objective
from ..core.shapes import Latents, PerSample
from .key_queue import KeyQueue

__all__ = ["Contrast"]

Logits = Float[Tensor, "b n"]
Bank = Float[Tensor, "n c *grid"]  # keys of all ranks and of the queue
Weight = Float[Tensor, "b 1 *grid"]


@objective("contrast")
@dataclass(frozen=True)
class Contrast:
    """InfoNCE of the predicted x0 over in-batch anchors, to the source or to the target latent.

    Robust form (default): logits are -mean((x0_hat - k)^2) / tau. tau is set a sample so that the own key wins with probability
    `confidence` when x0_hat is the truth; there the gradient vanishes, also among near-duplicates. Its advice to the blend is a
    weight min(SNR, 1) and a gradient of at most a tenth of the base term's.
    Faithful form: logits are raw dot products, tau = 1, no mask, no weight, no cap (the source adds it to MSE at 1 / 4000).
    It saturates on diverse batches (no gradient) and, among near-duplicates, pushes predictions away from the data for ever.

    to: which anchor. similarity: "distance", "cosine" (channel-centered, pooled to `pool` x `pool`, tau .1) or "dot".
    temperature: fixed tau; None: calibrated ("distance"), .1 ("cosine"), 1 ("dot").
    similar: negatives whose distance to the truth exceeds the own key's by less than this share of the batch's mean are masked
    as false.
    region: "unchanged" compares only where the edit leaves the picture alone (mask "changed", else small source-target difference).
    queue: how many keys of past batches serve as further negatives; they never go stale, as the autoencoder is frozen.
    Raises ShapeError for fewer than two keys. In-batch negatives are not multiplied by gradient accumulation.
    """

    to: Literal["source", "target"] = "target"
    faithful: bool = False
    similarity: Literal["distance", "cosine", "dot"] = "distance"
    temperature: float | None = None
    confidence: float = 0.999
    similar: float = 0.01
    region: Literal["all", "unchanged"] = "all"
    pool: int = 4
    queue: int = 0
    _queue: KeyQueue = field(default_factory=KeyQueue, init=False, repr=False, compare=False)
    asks = (MATCHED,)

    def __post_init__(self) -> None:
        if not 0.5 < self.confidence < 1:
            raise RecipeError(f"contrast: confidence is {self.confidence}, expected between 0.5 and 1")
        if self.temperature is not None and self.temperature <= 0:
            raise RecipeError(f"contrast: temperature is {self.temperature}, expected above 0")
        if self.queue < 0 or self.pool < 1 or self.similar < 0:
            raise RecipeError("contrast: queue and similar must not be negative, pool must be at least 1")
        free = {"to", "faithful", "temperature"}
        turned = [f.name for f in dataclasses.fields(self) if f.init and f.name not in free and getattr(self, f.name) != f.default]
        if self.faithful and turned:
            raise RecipeError(f"contrast: faithful = true has its source's settings; leave out {', '.join(turned)}")

    @property
    def anchors_needed(self) -> tuple[str, ...]:
        """What the task must offer."""
        return tuple({self.to, *(("source",) if self.region == "unchanged" else ())})

    @property
    def advice(self) -> Mapping[str, Any]:
        """What the blend does with this term where the recipe says nothing."""
        return {} if self.faithful else {"level_weight": "snr", "cap": 0.1}

    def __call__(self, outcome: Outcome) -> PerSample:
        predicted = outcome.matched.x0
        anchor = outcome.anchors[self.to].detach().to(predicted)
        keys, names, own = self._keys(outcome, anchor)
        if len(keys) < 2:
            raise ShapeError("contrast needs negatives: the batch has one sample; use a larger train_batch_size or a queue")
        if self.faithful:
            logits = predicted.flatten(1) @ keys.flatten(1).T / (self.temperature or 1.0)
            allowed = torch.ones_like(logits, dtype=torch.bool)
        else:
            allowed = names[None] != outcome.keys[:, None]
            logits, allowed = self._robust(outcome, predicted, keys, own, allowed)
        allowed = allowed.scatter(1, own[:, None], True)
        logits = logits.masked_fill(~allowed, -math.inf)
        outcome.watch("nce_accuracy", (logits.argmax(1) == own).float())
        outcome.watch("effective_negatives", allowed.sum(1).float() - 1)
        return cross_entropy(logits, own, reduction="none").to(predicted.dtype)

    def state(self) -> dict[str, Tensor]:
        """The queue, for checkpoints."""
        return self._queue.state()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        self._queue.load_state(state)

    def _keys(self, outcome: Outcome, anchor: Latents) -> tuple[Bank, Int[Tensor, "n"], Int[Tensor, "b"]]:
        """All keys, their ids, and which is whose: this batch on all ranks, then the queue."""
        keys, names = outcome.ranks.gather(anchor), outcome.ranks.gather(outcome.keys)
        own = torch.arange(len(anchor), device=anchor.device) + outcome.ranks.offset(len(anchor))
        if self.queue:
            old = self._queue.read(keys, names)
            if outcome.training:
                self._queue.push(keys, names, self.queue)
            keys, names = torch.cat([keys, old[0]]), torch.cat([names, old[1]])
        return keys, names, own

    def _robust(
        self, outcome: Outcome, predicted: Latents, keys: Bank, own: Int[Tensor, "b"], allowed: Bool[Tensor, "b n"]
    ) -> tuple[Logits, Bool[Tensor, "b n"]]:
        weight = self._weight(outcome, predicted)
        if self.similarity == "cosine":
            return self._cosine(predicted * weight, keys, weight) / (self.temperature or 0.1), allowed
        if self.similarity == "dot":
            mine = (predicted * weight).flatten(1)
            return mine @ keys.flatten(1).T / ((self.temperature or 1.0) * mine.shape[1]), allowed
        with torch.no_grad():
            at_truth = _distances(outcome.clean.to(predicted), keys, weight)
            gap = at_truth - at_truth.gather(1, own[:, None])
            typical = gap.masked_fill(~allowed, 0).clamp_min(0).sum(1) / allowed.sum(1).clamp_min(1)
            allowed = allowed & (gap > self.similar * typical[:, None]) & (gap > 0)
            tau = self._calibrated(gap, allowed)
        return -_distances(predicted, keys, weight) / tau[:, None], allowed

    def _calibrated(self, gap: Logits, allowed: Bool[Tensor, "b n"]) -> PerSample:
        """tau = (least gap) / ln(n p / (1 - p)): n negatives at the least gap or beyond leave the own key at least p."""
        if self.temperature is not None:
            return torch.full_like(gap[:, 0], self.temperature)
        count = allowed.sum(1).clamp_min(1)
        least = gap.masked_fill(~allowed, math.inf).amin(1)
        least = torch.where(least.isfinite(), least, torch.ones_like(least))
        return least / (count * self.confidence / (1 - self.confidence)).log()

    def _weight(self, outcome: Outcome, like: Latents) -> Weight:
        """(b 1 *grid) mean-one weights over the grid; ones for the whole picture."""
        shape = (len(like), 1, *like.shape[2:])
        if self.region == "all":
            return like.new_ones(shape)
        if "changed" in outcome.masks:
            keep = 1 - outcome.masks["changed"].to(like)
        else:
            moved = (outcome.anchors["source"] - outcome.clean).to(like).square().mean(1, keepdim=True)
            keep = (moved < 0.1).to(like)
        mean = keep.flatten(1).mean(1).clamp_min(1e-3)
        return keep / mean.reshape(-1, *[1] * (like.ndim - 1))

    def _cosine(self, mine: Latents, keys: Bank, weight: Weight) -> Logits:
        theirs = keys if self.region == "all" else keys[None] * weight[:, None]
        a = normalize(self._pooled(mine), dim=1)
        if theirs.ndim == keys.ndim:
            return a @ normalize(self._pooled(theirs), dim=1).T
        b, n = theirs.shape[:2]
        pooled = normalize(self._pooled(theirs.flatten(0, 1)), dim=1).unflatten(0, (b, n))
        return torch.einsum("bd,bnd->bn", a, pooled)

    def _pooled(self, latents: Latents) -> Tensor:
        centered = latents - latents.flatten(2).mean(2).reshape(*latents.shape[:2], *[1] * (latents.ndim - 2))
        if centered.ndim == 4:
            centered = adaptive_avg_pool2d(centered, tuple(min(self.pool, s) for s in centered.shape[2:]))
        return centered.flatten(1)


def _distances(mine: Latents, keys: Bank, weight: Weight) -> Logits:
    """Weighted mean squared distance of every sample to every key, (b n), as w.m^2 - 2 (w m).k + w.k^2.

    Matrix products instead of b x n differences of latents. In float64 up to the loss: between near-duplicates tau is a tiny
    part of the distances, and their difference must keep its digits.
    """
    m, k, w = (tensor.flatten(1).to(_wide(mine)) for tensor in (mine, keys, weight.expand_as(mine)))
    squares = (w * m * m).sum(1, keepdim=True) - 2 * (w * m) @ k.T + w @ (k * k).T
    return squares / m.shape[1]


def _wide(tensor: Tensor) -> torch.dtype:
    """float64 where the device has it."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64
