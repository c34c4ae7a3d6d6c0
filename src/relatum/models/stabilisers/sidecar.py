"""The file beside a saved pipeline that holds what stock diffusers has no place for: learned gains, caps and scaled skips."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn

from ...core.errors import DataError, RecipeError
from ...core.load import load
from .attention import SoftCap, UnitTimes, bound_logits
from .skips import present_kappa, scale_skips

__all__ = ["STABILIZERS_FILE", "attach_stabilizers", "save_stabilizers"]

STABILIZERS_FILE = "stabilizers.json"
NOTE = (
    "This network was trained with the stabilizers below. relatum computes with them; stock diffusers has no place for them: "
    "it loads the weights, and what it then computes is another network's output."
)


@dataclass(frozen=True)
class _Layer:
    """Of one attention layer. gain: g of QK-norm. cap: of its logits."""

    gain: float | None = None
    cap: float | None = None

    def __post_init__(self) -> None:
        if not math.isfinite(self.gain or 0) or not (self.cap is None or 0 < self.cap < math.inf):
            raise ValueError(f"gain {self.gain} and cap {self.cap}: expected a finite number, and one above 0")


@dataclass(frozen=True)
class _Sidecar:
    note: str = NOTE
    skip_kappa: float | None = None
    layers: dict[str, _Layer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.skip_kappa is None or 0 < self.skip_kappa <= 1):
            raise ValueError(f"skip_kappa is {self.skip_kappa}, expected above 0, at most 1")


def save_stabilizers(network: nn.Module, folder: Path) -> bool:
    """Writes `stabilizers.json` where the network has any that its plain weights cannot hold; says whether it did."""
    layers: dict[str, dict[str, float]] = {}
    for name, module in network.named_modules():
        owner = name.rpartition(".")[0]
        if isinstance(module, UnitTimes):
            layers.setdefault(owner, {})["gain"] = float(module.gain.detach())
        elif isinstance(module, SoftCap):
            layers.setdefault(owner, {})["cap"] = float(module.cap)
    kappa = present_kappa(network)
    if not layers and kappa is None:
        return False
    about = {"note": NOTE, "skip_kappa": kappa, "layers": layers}
    (folder / STABILIZERS_FILE).write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    return True


def attach_stabilizers(network: nn.Module, folder: Path) -> bool:
    """Puts into the network what `save_stabilizers` wrote; says whether there was any. DataError if it does not fit."""
    file = folder / STABILIZERS_FILE
    if not file.exists():
        return False
    try:
        about = load(_Sidecar, json.loads(file.read_text(encoding="utf-8")), str(file))
        for name, layer in about.layers.items():
            bound_logits(network.get_submodule(name), name, layer.gain, layer.cap)
        if about.skip_kappa is not None:
            scale_skips(network, about.skip_kappa, 0)
    except (OSError, ValueError, AttributeError, RecipeError) as error:
        raise DataError(f"{file}: does not fit the network beside it ({error}); save the model again") from error
    return True
