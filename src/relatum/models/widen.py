"""Widening: more input channels for a network that must behave as before until it is trained (Brooks et al. 2023, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..core.errors import RecipeError

__all__ = ["widen"]


def widen(network: nn.Module, latent_channels: int, extra: int) -> None:
    """Gives `network.conv_in` `extra` more input channels, in place: zero weights for them, old weights and **bias** kept.

    The output is that of the old network whatever the new channels hold. (diffusers' training script drops the bias.)
    RecipeError unless the network has exactly `latent_channels` inputs now, so that nothing is widened twice.
    """
    unet: Any = network
    found = unet.config.in_channels
    if found != latent_channels:
        state = "it is already widened" if found == latent_channels + extra else "it is made for another task"
        raise RecipeError(f"the network has {found} input channels, expected {latent_channels} to widen by {extra}: {state}")
    old: nn.Conv2d = unet.conv_in
    new = nn.Conv2d(
        found + extra,
        old.out_channels,
        old.kernel_size,  # type: ignore[arg-type]
        old.stride,  # type: ignore[arg-type]
        old.padding,  # type: ignore[arg-type]
        bias=old.bias is not None,
        device=old.weight.device,
        dtype=old.weight.dtype,
    )
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, :found] = old.weight
        if old.bias is not None and new.bias is not None:
            new.bias.copy_(old.bias)
    unet.conv_in = new
    unet.register_to_config(in_channels=found + extra)
