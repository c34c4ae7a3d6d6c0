"""How a network is called: each family speaks shapes of its own at its border, and everything else speaks ours."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from ..core.errors import RecipeError
from ..core.shapes import Tokens, Told
from .framewise import TIMES, own_levels

__all__ = ["Call", "call_image", "call_motion", "check_frames"]


@runtime_checkable
class Call(Protocol):
    """network(sample, time, tokens, told) -> raw output.

    sample: (b c *grid), what is given as pictures already concatenated. time: (b,), or (b, t) where frames have levels of their
    own, or one number for all. tokens: (b n d). told: (b f), numbers beside the noise level.
    """

    def __call__(self, network: nn.Module, sample: Tensor, time: Tensor, tokens: Tokens, told: Told | None) -> Tensor: ...


def call_image(network: nn.Module, sample: Tensor, time: Tensor, tokens: Tokens, told: Told | None) -> Tensor:
    """UNet2DConditionModel."""
    more: dict[str, Any] = {} if told is None else {"timestep_cond": told}
    return network(sample, time, encoder_hidden_states=tokens, return_dict=False, **more)[0]


def call_motion(network: nn.Module, sample: Tensor, time: Tensor, tokens: Tokens, told: Told | None) -> Tensor:
    """UNetMotionModel: clips (b c t h w). It wants the text states once a frame, which it does not do itself.

    RecipeError for a clip that is longer than its motion modules can tell apart.
    """
    frames = sample.shape[2]
    check_frames(network, frames)
    more: dict[str, Any] = {} if told is None else {"timestep_cond": told}
    levels = nullcontext()
    if time.ndim == 2:
        more |= {"added_cond_kwargs": {TIMES: time}}
        more |= {} if told is None else {"timestep_cond": told.repeat_interleave(frames, 0)}
        levels, time = own_levels(network, time), time[:, 0]
    states = tokens.repeat_interleave(frames, 0)
    with levels:
        return network(sample, time, encoder_hidden_states=states, return_dict=False, **more)[0]


def check_frames(network: nn.Module, frames: int) -> None:
    """RecipeError for clips that are longer than a UNetMotionModel's motion modules can tell apart."""
    config: Any = network.config
    if frames > (most := int(config.motion_max_seq_length)):
        raise RecipeError(f"a clip of {frames} frames, but the motion modules tell {most} apart at most; take shorter clips")
