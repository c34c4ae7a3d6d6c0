"""The finite guard: before every update, on all processes alike. It names what broke and never repairs it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.path import NoiseLevel, over_frames
from ..core.ranks import ONE, Ranks
from ..core.shapes import PerSample

__all__ = ["find_nonfinite"]

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
    names = _gather_words(where, ranks, device)
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


def _gather_words(words: Sequence[str], ranks: Ranks, device: torch.device) -> list[str]:
    """The words of all processes in rank order, as bytes in a tensor: tensors are all that `Ranks` carries."""
    table = torch.zeros(len(words), LETTERS, dtype=torch.uint8)
    for i, word in enumerate(words):
        letters = word.encode()[-LETTERS:]
        table[i, : len(letters)] = torch.tensor(list(letters), dtype=torch.uint8)
    return [bytes(row).rstrip(b"\0").decode(errors="replace") for row in ranks.gather(table.to(device)).cpu().tolist()]
