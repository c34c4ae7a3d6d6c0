"""What a run is given and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from ..tasks.base import Batch
from .settings import TrainSettings
from .step import StepFunction

__all__ = ["Batches", "Job", "Result"]


@runtime_checkable
class Batches(Protocol):
    """Rows ready for a task: cached latents (EncodedRows) or raw pixels (RawRows)."""

    def __len__(self) -> int: ...

    def batch(self, indices: Any) -> Batch: ...


@dataclass(frozen=True)
class Job:
    """All that a run needs. save: writes the finished model; it is called with the EMA weights in place where there are some.

    signature: hash of the settings that must be equal for a checkpoint to be resumed. show: called at the start ("sanity") and at
    validations ("samples") to picture what the model sees and makes. levels: range of the noise levels' `time`.
    """

    parts: Any
    step: StepFunction
    rows: Batches
    held_out: Batches | None
    settings: TrainSettings
    seed: int
    folder: Path
    save: Callable[[Path], None]
    signature: str
    levels: tuple[float, float] | None = None
    show: Callable[[str, int], None] | None = None
    quiet: bool = False


@dataclass(frozen=True)
class Result:
    """How a run ended. seconds: of all its calls, updates only. steps_per_second: of the last call, its first updates left out.

    peak_memory: bytes, of the last call; None where the system does not tell. held_out: see `held_out_loss`.
    """

    steps: int
    samples_seen: int
    seconds: float
    steps_per_second: float | None
    peak_memory: int | None = None
    held_out: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
