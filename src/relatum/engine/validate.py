"""Held-out loss on fixed rows, noise and levels: equal for every run that is compared, whatever its seed or batch."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..core.draws import Draws, key_of
from ..core.errors import DataError
from ..core.path import NoiseLevel
from ..core.ranks import ONE
from ..tasks.base import Batch
from .levels import LevelBins
from .step import Moment, StepFunction

__all__ = ["held_out_loss"]

CHUNK = 32  # rows judged together; part of the definition for in-batch objectives


@runtime_checkable
class _Rows(Protocol):
    def __len__(self) -> int: ...

    def batch(self, indices: Any) -> Batch: ...


@torch.no_grad()
def held_out_loss(
    parts: Any,
    step: StepFunction,
    rows: _Rows,
    limit: int,
    span: tuple[float, float] | None,
    device: torch.device | str = "cpu",
    autocast: Callable[[], AbstractContextManager[Any]] | None = None,
) -> dict[str, Any]:
    """{"held_out": {term: {"mean", "stderr", "n"}}, "by_level": rows of LevelBins} for at most `limit` rows, weights as they are.

    Draws are addressed by row id under a seed of their own. span: range of the noise levels' time; None leaves "by_level" empty.
    Clips add "by_frame": {"mean", "stderr": a list each, "n"}, the squared error of every frame.
    """
    count = min(len(rows), limit)
    edges = list(range(0, count, CHUNK))
    if count == 1:
        raise DataError("one held-out row is too few: in-batch objectives need two; raise train.validation_rows or hold out more")
    if count - edges[-1] == 1:
        edges.pop()  # the last row goes with those before it
    whole, bins = LevelBins((0.0, 1.0), 1), None if span is None else LevelBins(span)
    network, frames = parts.network, list[Tensor]()
    was_training = network.training
    network.eval()
    try:
        for start, end in zip(edges, [*edges[1:], count], strict=True):
            batch = rows.batch(list(range(start, end))).to(device)
            draws = Draws(key_of("held-out"), batch.ids)
            if autocast is None:
                judged = step(parts, batch, draws, ONE, Moment(training=False))
            else:
                with autocast():
                    judged = step(parts, batch, draws, ONE, Moment(training=False))
            terms = {**judged.losses, **judged.watched}
            whole.add(_anywhere(judged.total), terms)
            frames += [] if judged.by_frame is None else [judged.by_frame]
            if bins is not None and judged.level is not None:
                bins.add(judged.level, terms)
    finally:
        network.train(was_training)
    held_out = {row["term"]: {key: row[key] for key in ("mean", "stderr", "n")} for row in whole.rows()}
    told = {"held_out": held_out, "by_level": [] if bins is None else bins.rows()}
    return {**told, "by_frame": _over_rows(torch.cat(frames))} if frames else told


def _over_rows(errors: Tensor) -> dict[str, Any]:
    """(n t) numbers as means over rows and their standard errors."""
    errors, n = errors.double().cpu(), len(errors)
    spread = [None] * errors.shape[1] if n < 2 else (errors.std(0) / n**0.5).tolist()
    return {"mean": errors.mean(0).tolist(), "stderr": spread, "n": n}


def _anywhere(like: Tensor) -> NoiseLevel:
    """One level for all: the mean over every row is a single bin."""
    half = torch.full_like(like.detach().float(), 0.5)
    return NoiseLevel(half, half, half)
