"""Noise levels of each frame (Diffusion Forcing, Chen et al. 2024) for a network that takes one a clip."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

__all__ = ["TIMES", "own_levels"]

TIMES = "frame_times"  # the key of a clip's times in the network's `added_cond_kwargs`, for hooks that look for them


@contextmanager
def own_levels(network: nn.Module, times: Float[Tensor, "b t"]) -> Iterator[None]:
    """Inside, a UNetMotionModel embeds these times, one for each frame, whatever times it is called with.

    It embeds (b,) times and repeats them for the frames; here it embeds (b t) ones and repeats none. Numbers that it is told
    beside the noise level go in once a frame. No layer after the embedding is touched, so gradient checkpointing sees the same.
    """
    unet: Any = network
    handles = [
        unet.time_proj.register_forward_pre_hook(lambda _, args: (times.flatten().to(args[0].device),)),
        unet.time_embedding.register_forward_hook(lambda _, args, output: _Repeated(output)),
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _Repeated:
    """An embedding (b t, d) that has its row for each frame already. It has what the network asks of one before repeating it."""

    def __init__(self, rows: Tensor) -> None:
        self.rows, self.shape = rows, rows.shape

    def repeat_interleave(self, *_: Any, **__: Any) -> Tensor:
        return self.rows
