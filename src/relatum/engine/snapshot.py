"""What a checkpoint holds: the weights as diffusers reads them, their average, the optimizer, and what objectives remember."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import DataError, Diverged, RecipeError
from ..models.denoiser import Denoiser
from ..models.trainable import LORA_FILE, load_lora, save_lora
from .checkpoint import TrainerState, read_state, write_state
from .ema import EMA
from .journal import environment
from .weights import load_module, load_optimizer, load_tensors, save_module, save_optimizer, save_tensors

__all__ = ["Snapshot", "load_weights", "require_finite", "save_weights"]

WEIGHTS = "diffusion_pytorch_model.safetensors"


def require_finite(network: nn.Module, what: str) -> None:
    """Diverged if a parameter or buffer of the network holds NaN or infinity. what: the thing that is then not written."""
    state = network.state_dict()
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all())]
    if bad:
        raise Diverged(
            f"{what}: not written, {len(bad)} of {len(state)} weights are not finite, first {bad[0]}; "
            "lower train.learning_rate and start in another output_dir"
        )


def save_weights(network: nn.Module, folder: Path) -> None:
    """A denoiser's UNet as a diffusers folder, or its LoRA alone; any other module as safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    unet: Any = network.network if isinstance(network, Denoiser) else None
    if unet is None:
        save_module(network, folder / WEIGHTS)
    elif getattr(unet, "peft_config", None):
        save_lora(unet, folder)
    else:
        unet.save_config(folder)
        save_module(unet, folder / WEIGHTS)


def load_weights(network: nn.Module, folder: Path) -> None:
    """The inverse of `save_weights`. DataError or RecipeError where the weights are of another architecture."""
    unet: Any = network.network if isinstance(network, Denoiser) else network
    lora = bool(getattr(unet, "peft_config", None))
    if lora != (folder / LORA_FILE).exists():
        raise RecipeError(
            f"{folder}: written {'without' if lora else 'with'} LoRA, the recipe trains {'with' if lora else 'without'} it"
        )
    if lora:
        load_lora(unet, folder)
    else:
        load_module(unet, folder / WEIGHTS)


class Snapshot:
    """Writes and reads the state of a run that is not a pure function of its step."""

    def __init__(self, network: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA | None, parts: Any, signature: str) -> None:
        self.network, self.optimizer, self.ema, self.signature = network, optimizer, ema, signature
        self.blend = getattr(parts, "blend", None)

    def write(self, folder: Path, step: int, samples_seen: int, seed: int, extra: dict[str, Any]) -> None:
        """Fills a checkpoint's folder: unet/, unet_ema/, optimizer, objectives, trainer_state.json. Diverged if one is NaN."""
        require_finite(self.network, f"the checkpoint of step {step}")
        save_weights(self.network, folder / "unet")
        if self.ema is not None:
            with self.ema.applied(self.network):
                save_weights(self.network, folder / "unet_ema")
            extra = {**extra, "ema_updates": self.ema.updates}
        save_optimizer(self.optimizer, folder / "optimizer.safetensors")
        if remembered := self.remembered():
            save_tensors(remembered, folder / "objectives.safetensors")
        versions = environment()["versions"]
        write_state(folder, TrainerState(step, samples_seen, seed, self.signature, versions, extra))

    def read(self, folder: Path) -> TrainerState:
        """Puts everything back. RecipeError if the run's settings were others."""
        state = read_state(folder)
        if state.recipe_hash != self.signature:
            raise RecipeError(
                f"{folder} was written with other settings of data, model, objectives or training; "
                "give the recipe another output_dir, or delete the folder to start again"
            )
        if self.ema is not None:
            if not (folder / "unet_ema").is_dir():
                raise DataError(f"{folder}: no unet_ema, although the recipe averages weights")
            load_weights(self.network, folder / "unet_ema")
            updates = state.extra.get("ema_updates")
            if type(updates) is not int:
                raise DataError(f"{folder}: trainer_state.json has no whole number under extra.ema_updates; delete the folder")
            self.ema.take(self.network, updates)
        load_weights(self.network, folder / "unet")
        load_optimizer(self.optimizer, folder / "optimizer.safetensors")
        remembered = folder / "objectives.safetensors"
        if remembered.exists() or self.remembered():
            self.recall(load_tensors(remembered)[0] if remembered.exists() else {})
        return state

    def remembered(self) -> dict[str, Tensor]:
        """What objectives carry from step to step, such as a queue of keys; {} without."""
        return {} if self.blend is None else self.blend.state()

    def recall(self, remembered: Mapping[str, Tensor]) -> None:
        """The inverse of `remembered`."""
        if self.blend is not None:
            self.blend.load_state(remembered)
