"""The guards: before every update, on all processes alike. They name what is not finite or far out, and never repair it."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from ..core.path import NoiseLevel, over_frames
from ..core.ranks import ONE, Ranks
from ..core.shapes import PerSample

__all__ = ["Spike", "Spikes", "find_nonfinite", "gather_words"]

NAMED = 8  # rows named in a message
LETTERS = 256  # bytes of a row's name that travel between processes


def find_nonfinite(
    losses: Mapping[str, PerSample],
    total: Tensor,
    grad_norm: Tensor | float | None,
    where: Sequence[str],
    level: NoiseLevel | None,
    ranks: Ranks = ONE,
) -> str | None:
    """What is not finite, in words, the same on every process; None if all is. Reads one flag from the device.

    losses: (b,) by term. total: (b,) or a scalar. grad_norm: the norm before clipping, None before it is known.
    where: file and row of each sample. level: their noise levels.
    """
    flat = [tensor.detach().reshape(-1).float() for tensor in (total, *losses.values())]
    finite = torch.isfinite(torch.cat(flat)).all()
    if isinstance(grad_norm, Tensor):
        finite = finite & torch.isfinite(grad_norm.detach()).to(finite.device)
    elif grad_norm is not None and not math.isfinite(grad_norm):
        finite = finite & False
    if bool(ranks.gather(finite.reshape(1).int()).all()):  # integers: not every backend gathers booleans
        return None
    return _describe(losses, total, grad_norm, where, level, ranks)


def _describe(
    losses: Mapping[str, PerSample],
    total: Tensor,
    grad_norm: Tensor | float | None,
    where: Sequence[str],
    level: NoiseLevel | None,
    ranks: Ranks,
) -> str:
    """Gathers the rows of all processes; only ever called by all of them together."""
    device = total.device
    names = gather_words(where, ranks, device)
    times = torch.full((len(where),), torch.nan, device=device) if level is None else over_frames(level.time).to(device)
    times = ranks.gather(times.float())
    said = []
    for term, loss in losses.items():
        broken = ~torch.isfinite(ranks.gather(loss.float()))
        if broken.any():
            said.append(f"term {term!r} is not finite for {_rows(names, times, broken)}")
    if said:
        return "; ".join(said)
    every = _rows(names, times, torch.ones_like(times, dtype=torch.bool))
    total_broke = not torch.isfinite(ranks.gather(total.float().reshape(-1))).all()
    what = "the weighted total" if total_broke or grad_norm is None else "the gradient's norm"
    return f"{what} is not finite though every term is; the batch held {every}"


def _rows(names: Sequence[str], times: Tensor, chosen: Tensor) -> str:
    rows = []
    for i in chosen.nonzero().flatten().tolist():
        time = times[i].item()
        rows.append(names[i] if math.isnan(time) else f"{names[i]} at noise level {time:g}")
    more = f" and {len(rows) - NAMED} more" if len(rows) > NAMED else ""
    return ", ".join(rows[:NAMED]) + more


def gather_words(words: Sequence[str], ranks: Ranks, device: torch.device) -> list[str]:
    """The words of all processes in rank order, as bytes in a tensor: tensors are all that `Ranks` carries."""
    table = torch.zeros(len(words), LETTERS, dtype=torch.uint8)
    for i, word in enumerate(words):
        letters = word.encode()[-LETTERS:]
        table[i, : len(letters)] = torch.tensor(list(letters), dtype=torch.uint8)
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in ranks.gather(table.to(device)).cpu().tolist()]


@dataclass(frozen=True)
class Spike:
    """what: "gradient norm" or "total". z: robust deviations above the median of the last `window` updates."""

    what: str
    value: float
    median: float
    z: float
    window: int

    def __str__(self) -> str:
        above = f"{self.z:.3g} deviations above {self.median:.4g}, the median of the {self.window} updates before"
        return f"the {self.what} is {self.value:.4g}, {above}"


class Spikes:
    """Finds numbers that lie `z` robust deviations above the median of their last `window`; 0 for never.

    A deviation is 1.4826 times the median distance from the median (Hampel 1974), a normal distribution's standard deviation; at
    least a hundredth of the median, so that a series that hardly moves does not make every step a spike. Judged once half the
    window is filled. Spikes enter the window too: what stays high is usual after half a window.
    """

    def __init__(self, z: float, window: int) -> None:
        self.z, self.window = z, window
        self._seen: dict[str, deque[float]] = {}

    def see(self, values: Mapping[str, float]) -> Spike | None:
        """Takes in an update's numbers; the first of them that is a spike. What is not finite is left out."""
        found = [self._judge(name, value) for name, value in values.items() if math.isfinite(value)]
        return next((spike for spike in found if spike is not None), None)

    def _judge(self, name: str, value: float) -> Spike | None:
        past = self._seen.setdefault(name, deque(maxlen=self.window))
        spike = None
        if self.z and 2 * len(past) >= self.window:
            middle = median(past)
            deviation = max(1.4826 * median(abs(one - middle) for one in past), 0.01 * abs(middle))
            z = (value - middle) / deviation if deviation else 0.0
            spike = Spike(name, value, middle, z, len(past)) if z > self.z else None
        past.append(value)
        return spike

    def state(self) -> dict[str, list[float]]:
        """What a resumed run must know, as JSON holds it."""
        return {name: list(past) for name, past in self._seen.items()}

    def restore(self, state: Mapping[str, Sequence[float]]) -> None:
        """The inverse of `state`."""
        self._seen = {name: deque(past, maxlen=self.window) for name, past in state.items()}
