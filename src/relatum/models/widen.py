"""Widening: more input channels for a network that must behave as before until it is trained (Brooks et al. 2023, section 3.2)."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ..core.errors import RecipeError

__all__ = ["tell", "widen"]


def tell(network: nn.Module, features: int) -> None:
    """Lets `network` be told `features` more numbers, as `timestep_cond`: added to its time embedding through zero weights.

    diffusers' own way (`time_cond_proj_dim`, Luo et al. 2023), so the network loads in stock diffusers. RecipeError if it has it.
    """
    unet: Any = network
    if unet.time_embedding.cond_proj is not None:
        raise RecipeError("the network is told further numbers already (time_cond_proj_dim); it cannot be given others")
    like = unet.time_embedding.linear_1.weight
    new = nn.Linear(features, like.shape[1], bias=False, device=like.device, dtype=like.dtype)
    nn.init.zeros_(new.weight)
    unet.time_embedding.cond_proj = new
    _register(unet, time_cond_proj_dim=features)


def _register(unet: Any, **changes: int) -> None:
    """Into the configuration, also where it had the default: diffusers gives those up when it builds a network from another's."""
    defaults = [name for name in unet.config.get("_use_default_values", []) if name not in changes]
    unet.register_to_config(**changes, _use_default_values=defaults)


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
    _register(unet, in_channels=found + extra)
