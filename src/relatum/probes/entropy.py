"""Attention entropy: how widely the heads of chosen layers look around, seen beside a forward pass that it does not change."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import RecipeError

__all__ = ["LOW", "MOTION", "HeadEntropy", "KnowsLogits", "Look", "attention_layers", "entropies_of", "looks_of", "row_entropy"]

MOTION = ("motion_modules", "temporal_transformer_blocks")  # how AnimateDiff and Stable Video Diffusion name them
LOW = 0.1  # of ln keys: a row below it looks at one or two keys
ROWS = 256  # of batch and position, of a layer
QUERIES = 64
AT_ONCE = 1 << 22  # logits held at a time


@runtime_checkable
class KnowsLogits(Protocol):
    """An attention processor whose logits are not q . k * attn.scale (with attn.norm_q and norm_k where they are set).

    query: (n heads q d), what `attn.to_q` gave, by head, of some rows; key: (n heads k d). Gives (n heads q k) before any mask.
    """

    def logits(self, attn: Any, query: Tensor, key: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Look:
    """One layer's attention in one forward pass. query: (n q c), key: (n k c) as projected, not copied. mask: added to the logits,
    or None. A motion module's n is (b h w), the sample outermost."""

    layer: Any
    query: Tensor
    key: Tensor
    mask: Tensor | None = None

    def logits(self, rows: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """(logits (n heads q k) of these rows in float32, number of keys that may be seen (n heads q))."""
        layer = self.layer
        query = self.query[rows][:, queries].unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        key = self.key[rows].unflatten(-1, (layer.heads, -1)).transpose(1, 2)
        with torch.autocast(query.device.type, enabled=False):
            query, key = query.float(), key.float()
            if isinstance(layer.processor, KnowsLogits):
                found = layer.processor.logits(layer, query, key).float()
            else:
                normed = (norm if norm is not None else nn.Identity() for norm in (layer.norm_q, layer.norm_k))
                query, key = (norm(x).float() for norm, x in zip(normed, (query, key), strict=True))
                found = query @ key.transpose(-1, -2) * layer.scale
        if self.mask is None:
            return found, torch.full(found.shape[:3], found.shape[3], device=found.device)
        bias = self._bias(rows, queries)
        return found + bias, (bias > -1e3).sum(-1).expand(found.shape[:3])

    def _bias(self, rows: Tensor, queries: Tensor) -> Tensor:
        """The mask of these rows, in diffusers' form: -10000 where a key is not seen."""
        mask: Any = self.mask
        if mask.dtype == torch.bool:
            mask = torch.where(mask, 0.0, -1e4)
        mask = self.layer.prepare_attention_mask(mask, self.key.shape[1], len(self.key))
        mask = mask.view(len(self.key), self.layer.heads, -1, mask.shape[-1])[rows].float().clamp_min(-1e4)
        return mask if mask.shape[2] == 1 else mask[:, :, queries]


def attention_layers(network: nn.Module, patterns: Sequence[str]) -> dict[str, Any]:
    """The network's attention layers whose name one of these regular expressions is found in. RecipeError for one that is none."""
    layers = {name: m for name, m in network.named_modules() if hasattr(m, "to_q") and hasattr(m, "to_k") and hasattr(m, "heads")}
    try:
        return {name: layer for name, layer in layers.items() if any(re.search(pattern, name) for pattern in patterns)}
    except re.error as error:
        raise RecipeError(f"{list(patterns)}: not regular expressions of layer names ({error})") from error


@contextmanager
def looks_of(
    network: nn.Module, patterns: Sequence[str] = MOTION, take: Callable[[str, Look], None] | None = None
) -> Iterator[dict[str, Look]]:
    """Within, the first forward pass leaves here what each layer projected, with its gradient; `take` gets it instead, if given.

    Processors stay in place and nothing is computed twice: hooks listen to `to_q` and `to_k`, so the network's output is the same
    bits. Where blocks are recomputed for the backward pass, that happens outside, or is a second pass.
    """
    found: dict[str, Look] = {}
    seen: set[str] = set()
    handles: list[Any] = []
    for name, layer in attention_layers(network, patterns).items():
        parts: dict[str, Any] = {}

        def enter(module: nn.Module, inputs: Any, told: Any, parts: dict[str, Any] = parts) -> None:
            parts["mask"] = inputs[2] if len(inputs) > 2 else told.get("attention_mask")

        def project(part: str, parts: dict[str, Any] = parts) -> Callable[..., None]:
            return lambda module, inputs, output: parts.update({part: output})

        def leave(module: nn.Module, inputs: Any, output: Any, name: str = name, parts: dict[str, Any] = parts) -> None:
            if name not in seen and "query" in parts and "key" in parts:
                seen.add(name)
                (take or found.__setitem__)(name, Look(module, parts["query"], parts["key"], parts["mask"]))
            parts.clear()

        handles.append(layer.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(layer.to_q.register_forward_hook(project("query")))
        handles.append(layer.to_k.register_forward_hook(project("key")))
        handles.append(layer.register_forward_hook(leave))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def row_entropy(look: Look, rows: Tensor) -> tuple[Float[Tensor, "n heads q"], Float[Tensor, "n heads q"]]:
    """(entropies in nats, ln of the keys that may be seen) of these rows (n,), streamed: few logits are held at once.

    All queries up to 64, else 64 spread evenly.
    """
    count = look.query.shape[1]
    queries = _spread(count, QUERIES, look.query.device)
    size = max(1, AT_ONCE // (look.layer.heads * len(queries) * look.key.shape[1]))
    told = [_entropy(*look.logits(part, queries)) for part in rows.split(size)]
    return torch.cat([entropy for entropy, _ in told]), torch.cat([most for _, most in told])


def _entropy(logits: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """H = ln sum e^z - sum p z, which has a gradient everywhere; z is taken from its maximum, else a sharp row loses its digits."""
    z = logits - logits.detach().amax(-1, keepdim=True)
    return z.logsumexp(-1) - (z.softmax(-1) * z).sum(-1), keys.float().log()


def _spread(count: int, most: int, device: torch.device) -> Tensor:
    """At most `most` of the numbers below `count`, evenly spread: the same ones each time."""
    few = min(count, most)
    return torch.arange(few, device=device) * count // max(1, few)


def entropies_of(looks: Mapping[str, Look], samples: int, of: int | None = None) -> dict[str, Float[Tensor, "b heads"]]:
    """Entropies in nats of the first `samples` of `of` samples, by layer, over queries and positions (a sample of them); with
    gradient. A layer that has one key to look at has no entropy, and is left out."""
    out = {}
    for name, look in looks.items():
        if look.key.shape[1] < 2:
            continue
        positions = len(look.query) // (of or samples)
        chosen = _spread(positions, max(1, ROWS // samples), look.query.device)
        starts = torch.arange(samples, device=chosen.device)[:, None] * positions
        entropy, _ = row_entropy(look, (starts + chosen).flatten())
        out[name] = entropy.unflatten(0, (samples, -1)).mean((1, 3))
    return out


@dataclass(frozen=True)
class HeadEntropy:
    """Of one layer, by head, as shares of ln keys: 1 looks everywhere alike, 0 at one key. low: share of rows below .1."""

    mean: Float[Tensor, "heads"]
    p05: Float[Tensor, "heads"]
    low: Float[Tensor, "heads"]

    @classmethod
    @torch.no_grad()
    def of(cls, look: Look) -> HeadEntropy | None:
        """From at most 256 rows; those that may see one key alone do not count. None where there are no others."""
        entropy, most = row_entropy(look, _spread(len(look.query), ROWS, look.query.device))
        share = (entropy / most).movedim(1, 0).flatten(1)
        free = (most > 0).movedim(1, 0).flatten(1)
        share = torch.where(free, share, torch.nan).clamp_min(0)
        if not bool(free.any()):
            return None
        low = torch.where(free, (share < LOW).float(), torch.nan)
        return cls(share.nanmean(1), share.nanquantile(0.05, 1), low.nanmean(1))

    def plain(self) -> dict[str, object]:
        """For a journal: numbers over all heads (of p05 the least head's), and lists by head."""
        heads = {"mean": self.mean.tolist(), "p05": self.p05.tolist(), "low": self.low.tolist()}
        return {"mean": _mean(heads["mean"]), "p05": min(heads["p05"]), "low": _mean(heads["low"]), "heads": heads}


def _mean(numbers: Sequence[float]) -> float:
    return math.fsum(numbers) / len(numbers)
