"""A training that takes milliseconds: a line through points, whose step can be broken, watched or killed at any update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relatum.core.draws import Draws
from relatum.core.path import NoiseLevel
from relatum.core.ranks import Ranks
from relatum.engine.job import Job
from relatum.engine.settings import TrainSettings
from relatum.engine.snapshot import save_weights
from relatum.engine.step import Moment, Step
from relatum.tasks.base import Batch

__all__ = ["Killed", "Line", "Points"]


class Killed(BaseException):
    """A process that ends at once: nothing of the engine catches it."""


@dataclass(frozen=True)
class Points:
    """Row i holds i / 10, the poisoned one NaN."""

    count: int = 12
    poisoned: int | None = None

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Any) -> Batch:
        names = [f"points:{i}" for i in indices]
        return Batch(
            names, names, names, numbers={"x": torch.tensor([i / 10 if i != self.poisoned else torch.nan for i in indices])}
        )


@dataclass
class Memory:
    """What objectives remember, here how many steps there were; nothing at first."""

    steps: int = 0

    def state(self) -> dict[str, torch.Tensor]:
        return {"steps": torch.tensor(self.steps)} if self.steps else {}

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        self.steps = int(state.get("steps", 0))


@dataclass
class Parts:
    network: nn.Module
    blend: Memory = field(default_factory=Memory)


@dataclass
class Line:
    """Fits 2 x + 1. broken: what the loss of an update is multiplied by. killed: the update in which the process ends. poisoned: a
    row that holds NaN.

    seen: by update, the weight before it and the rows that it saw. remembered: the steps that objectives knew of before it.
    """

    folder: Path
    broken: Mapping[int, float] = field(default_factory=dict)
    killed: int | None = None
    poisoned: int | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    seen: dict[int, tuple[float, Sequence[str]]] = field(default_factory=dict)
    remembered: dict[int, int] = field(default_factory=dict)

    def step(self, parts: Parts, batch: Batch, draws: Draws, ranks: Ranks, moment: Moment) -> Step:
        if moment.updates == self.killed:
            raise Killed
        x = batch.numbers["x"]
        self.remembered[moment.updates] = parts.blend.steps
        parts.blend.steps += 1
        self.seen[moment.updates] = next(parts.network.parameters()).item(), batch.ids
        loss = (parts.network(x[:, None])[:, 0] - 2 * x - 1).square() * self.broken.get(moment.updates, 1.0)
        return Step({"error": loss}, loss, {}, NoiseLevel(100 * x, x, x))

    def job(self) -> Job:
        steps = {"max_train_steps": 8, "checkpointing_steps": 2, "logging_steps": 1, "validation_steps": 1000}
        settings = TrainSettings(**{**steps, "train_batch_size": 2, "learning_rate": 0.05, "report_to": "none", **self.settings})
        torch.manual_seed(0)
        network = nn.Linear(1, 1)
        save = lambda place: save_weights(network, place)  # noqa: E731
        return Job(
            Parts(network), self.step, Points(poisoned=self.poisoned), None, settings, 0, self.folder, save, "line", quiet=True
        )
