"""What is seen of a network now and then while it trains: attention entropy by head, and the gradient's norm by block."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from ..probes.entropy import HeadEntropy, Look, attention_layers, looks_of
from .settings import TrainSettings

__all__ = ["Sight"]

BLOCK = re.compile(r"(?:network\.)?((?:.*\.)?(?:down_blocks\.\d+|mid_block|up_blocks\.\d+))(?:\.|$)")


class Sight:
    """Of the first process's own samples, at the first update and at those that make a multiple of `monitor_steps`.

    Silent for networks that have neither blocks nor such attention. Nothing that it does reaches the training.
    """

    def __init__(self, network: nn.Module, settings: TrainSettings, main: bool) -> None:
        self._network, self._patterns = network, settings.monitor_attention
        self._every = settings.monitor_steps if main else 0
        self._limit = settings.max_grad_norm
        self._watches = bool(self._every and attention_layers(network, self._patterns))
        self._blocks = self._by_block()
        self._found: dict[str, HeadEntropy] | None = None

    def _by_block(self) -> dict[str, list[nn.Parameter]]:
        """Trained weights by block: "up_blocks.1", "up_blocks.1/motion" and, where there are blocks at all, "rest"."""
        blocks: dict[str, list[nn.Parameter]] = {}
        for name, parameter in self._network.named_parameters():
            if parameter.requires_grad:
                found = BLOCK.match(name)
                motion = "/motion" if any(re.search(pattern, name) for pattern in self._patterns) else ""
                blocks.setdefault((found[1] if found else "rest") + motion, []).append(parameter)
        return blocks if blocks.keys() - {"rest", "rest/motion"} else {}

    def watching(self, updates: int) -> AbstractContextManager[None]:
        """Around the forward and backward passes of the update after `updates` ones."""
        due = self._every and ((updates + 1) % self._every == 0 or updates == 0)
        return self._watch() if due else nullcontext()

    @contextmanager
    def _watch(self) -> Iterator[None]:
        self._found = {}
        with looks_of(self._network, self._patterns, self._take) if self._watches else nullcontext():
            yield

    def _take(self, name: str, look: Look) -> None:
        entropy = HeadEntropy.of(look)
        if entropy is not None and self._found is not None:
            self._found[name.removeprefix("network.")] = entropy

    def report(self, norm: Any) -> dict[str, Any] | None:
        """What `watching` saw, and the gradients as they lie there; None where it was not time, or there is nothing to see.

        norm: of the whole gradient before it was clipped, which is undone. attention: by layer, see `HeadEntropy.plain`.
        """
        found, self._found = self._found, None
        if not found and not (found is not None and self._blocks):
            return None
        told: dict[str, Any] = {"gradient": self.gradient(norm)} if self._blocks else {}
        return {**told, "attention": {name: entropy.plain() for name, entropy in found.items()}} if found else told

    @torch.no_grad()
    def gradient(self, norm: Any) -> dict[str, float]:
        """The norm of the gradient by block."""
        shrunk = min(1.0, self._limit / (float(norm) + 1e-6)) or math.nan
        return {block: float(_norm(parameters)) / shrunk for block, parameters in self._blocks.items()}


def _norm(parameters: list[nn.Parameter]) -> Tensor:
    gradients = [p.grad for p in parameters if p.grad is not None]
    return torch.stack(torch._foreach_norm(gradients)).norm() if gradients else torch.zeros(())
