"""Stabilizers: what keeps attention from collapsing in training, put into a network that is opened already."""

from __future__ import annotations

import math
import re
import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ...core.errors import RecipeError
from .attention import SoftCap, UnitTimes, bound_logits
from .sidecar import STABILIZERS_FILE, attach_stabilizers, save_stabilizers
from .skips import SkipScale, scale_skips
from .spectral import SpectralLinear

__all__ = [
    "STABILIZERS_FILE",
    "SkipScaling",
    "Stabilize",
    "attach_stabilizers",
    "plain_state",
    "save_stabilizers",
    "stabilize",
]


@dataclass(frozen=True)
class SkipScaling:
    """Skip i of the UNet is multiplied by kappa^i; kappa goes from 1 to this value over the first `updates` training forwards."""

    kappa: float = 0.7
    updates: int = 1000

    def __post_init__(self) -> None:
        if not 0.5 <= self.kappa <= 1 or self.updates < 0:
            raise ValueError(f"kappa {self.kappa} and updates {self.updates}, expected 0.5 to 1 and 0 or more")


@dataclass(frozen=True)
class Stabilize:
    """Settings; all off by default.

    sigma_reparam: every linear layer of `pattern` as gamma / sigma(W) * W, but those that are zero as yet. The output is as before,
    and the saved weights are plain again. qk_norm: attention logits are g * cosine(query, key), g starting at log2(T^2 - T) for
    T = qk_frames; this changes what a pretrained layer computes. soft_cap: c in c * tanh(z / c), on attention logits z.
    skip_scale: of the whole UNet. pattern: a regular expression searched in the names of layers.

    Stock diffusers has no place for qk_norm, soft_cap and skip_scale: a pipeline with one of them is saved with `stabilizers.json`,
    which our opening reads; stock diffusers loads such a folder and computes something else.
    """

    sigma_reparam: bool = False
    qk_norm: bool = False
    qk_frames: int = 16
    skip_scale: SkipScaling | None = None
    soft_cap: float | None = None
    pattern: str = "motion_modules"

    def __post_init__(self) -> None:
        if self.qk_frames < 2:
            raise ValueError(f"qk_frames is {self.qk_frames}, expected 2 or more")
        if self.soft_cap is not None and not 0 < self.soft_cap < math.inf:
            raise ValueError(f"soft_cap is {self.soft_cap}, expected a finite number above 0")

    @property
    def any(self) -> bool:
        """Whether it does anything."""
        return self.sigma_reparam or self.qk_norm or self.soft_cap is not None or self.skip_scale is not None


def stabilize(network: nn.Module, settings: Stabilize, *, pretrained: bool = False) -> None:
    """Puts the stabilizers into `network`, in place; before its trained part is chosen, for gamma and g are to be trained too.

    pretrained: whether the layers were trained without them; qk_norm then warns. RecipeError where there is nothing to stabilize.
    """
    if not settings.any:
        return
    if any(isinstance(module, _OURS) for module in network.modules()):
        raise RecipeError("the network has stabilizers already (stabilizers.json of its folder); leave model.stabilize out")
    if settings.qk_norm and pretrained:
        warnings.warn(
            "model.stabilize.qk_norm changes what trained motion modules compute: it is for fresh ones; "
            "sigma_reparam and soft_cap keep what was learned",
            stacklevel=2,
        )
    if settings.qk_norm or settings.soft_cap is not None:
        frames = settings.qk_frames
        for name, layer in _attentions(network, settings.pattern):
            bound_logits(layer, name, math.log2(frames**2 - frames) if settings.qk_norm else None, settings.soft_cap)
    if settings.sigma_reparam:
        _reparametrize(network, settings.pattern)
    if settings.skip_scale is not None:
        scale_skips(network, settings.skip_scale.kappa, settings.skip_scale.updates)
    network.register_forward_pre_hook(_advance)


_OURS = (SpectralLinear, UnitTimes, SoftCap, SkipScale)


def _advance(network: nn.Module, _: Any) -> None:
    """What moves once a training forward. A hook on the whole network: what checkpointing runs again does not come here."""
    if network.training and torch.is_grad_enabled():
        for module in network.modules():
            if isinstance(module, SpectralLinear | SkipScale):
                module.advance()


def _matching(network: nn.Module, pattern: str, kind: type | tuple[type, ...], what: str) -> list[tuple[str, Any]]:
    every = [(name, module) for name, module in network.named_modules() if isinstance(module, kind)]
    try:
        found = [(name, module) for name, module in every if re.search(pattern, name)]
    except re.error as error:
        raise RecipeError(f"model.stabilize.pattern {pattern!r} is not a regular expression: {error}") from error
    if not found:
        near = ", ".join(name for name, _ in every[:3]) or "none at all"
        raise RecipeError(f"model.stabilize.pattern {pattern!r} matches none of the network's {len(every)} {what}, such as {near}")
    return found


def _attentions(network: nn.Module, pattern: str) -> list[tuple[str, Any]]:
    from diffusers.models.attention_processor import Attention

    return _matching(network, pattern, Attention, "attention layers")


def _reparametrize(network: nn.Module, pattern: str) -> None:
    layers = [(n, layer) for n, layer in _matching(network, pattern, nn.Linear, "linear layers") if bool(layer.weight.any())]
    for name, layer in layers:
        parent, _, own = name.rpartition(".")
        setattr(network.get_submodule(parent), own, SpectralLinear(layer))


@torch.no_grad()
def plain_state(network: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state under the names of the plain network: reparametrized weights folded exactly, what has no place in it left out."""
    folded: dict[str, Tensor] = {}
    ours: set[str] = set()
    for name, module in network.named_modules():
        if isinstance(module, SpectralLinear):
            folded[f"{name}.weight"] = module.effective()
            ours |= {f"{name}.{part}" for part in ("gamma", "u", "v")}
        elif isinstance(module, _OURS):
            ours |= {f"{name}.{part}" for part in module.state_dict()}
    return {name: folded.get(name, tensor) for name, tensor in state.items() if name not in ours}
