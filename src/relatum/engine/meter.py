"""What a run costs: the seconds of its updates, their rate, and the most memory that it held."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

__all__ = ["Meter"]

WARM_UP = 3  # first updates of a call, which pay for allocations and tuning, are not in the rate


class Meter:
    """Counts updates only: validation, pictures and checkpoints are not a step's cost. before: seconds of earlier calls."""

    def __init__(self, device: torch.device) -> None:
        self.before = 0.0
        self._device, self._cuda = device, device.type == "cuda"
        self._seconds: list[float] = []
        if self._cuda:
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _reset_peak()

    @contextmanager
    def update(self) -> Iterator[None]:
        """Around one update. GPU kernels run on after their launch; the finite guard's one read waits for them."""
        start = time.perf_counter()
        yield
        self._seconds.append(time.perf_counter() - start)

    @property
    def seconds(self) -> float:
        return self.before + sum(self._seconds)

    @property
    def updates_per_second(self) -> float | None:
        """None for a call of too few updates."""
        timed = self._seconds[WARM_UP:]
        return len(timed) / sum(timed) if timed else None

    @property
    def peak_memory(self) -> int | None:
        """Bytes since this meter was made: allocated on the GPU, else this process's resident set where Linux tells it."""
        return torch.cuda.max_memory_allocated(self._device) if self._cuda else _peak()


def _reset_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")  # man proc(5): resets VmHWM
    except OSError:
        return


def _peak() -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), None)
