"""Which weights are trained: all of them, low-rank adapters (LoRA), or those whose names match a pattern."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from ..core.errors import RecipeError
from .stabilisers import plain_state

__all__ = ["LORA_FILE", "Trainable", "Trained", "load_lora", "make_trainable", "merged_state", "save_lora"]

LORA_FILE = "pytorch_lora_weights.safetensors"
ADAPTER = "default"


@dataclass(frozen=True)
class Trainable:
    """Settings. rank, alpha, targets: for "lora" (Hu et al. 2022; the update is scaled by alpha / rank; alpha defaults to rank).

    pattern: for "partial", a regular expression searched in parameter names, such as "attn2"; for "lora", in the names of layers,
    of which then only those that it finds are adapted, such as "attentions" beside motion modules.
    """

    kind: Literal["full", "lora", "partial"] = "full"
    rank: int = 8
    alpha: float | None = None
    targets: tuple[str, ...] = ("to_q", "to_k", "to_v", "to_out.0")
    pattern: str | None = None

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank is {self.rank}, expected at least 1")
        if (self.kind == "partial" and self.pattern is None) or (self.kind == "full" and self.pattern is not None):
            raise ValueError('a pattern is for kind = "partial", which needs one, and for kind = "lora"')


@dataclass(frozen=True)
class Trained:
    """parameters: what the optimizer gets, by name. without_adapters: enters the frozen base; None unless LoRA."""

    parameters: dict[str, nn.Parameter]
    without_adapters: Callable[[], AbstractContextManager[None]] | None = None


def make_trainable(network: nn.Module, choice: Trainable, *, seed: int = 0, widened: bool = False) -> Trained:
    """Freezes `network` but for the chosen parameters; for LoRA adds the adapters, drawn from `seed`.

    widened: inputs were just added. `conv_in` and `cond_proj` then are trained, or adapted, whatever the choice: their new weights
    are zero in the base and nothing else could bring the new inputs in. Such a LoRA belongs to the widened base, and the saved
    pipeline holds it merged.
    """
    network.requires_grad_(False)
    if choice.kind == "lora":
        _add_lora(network, choice, seed, widened)
    else:
        _choose(network, choice.pattern)
        for part in _inputs(network) if widened else ():
            network.get_submodule(part).requires_grad_(True)
    parameters = {name: p for name, p in network.named_parameters() if p.requires_grad}
    return Trained(parameters, (lambda: _disabled(network)) if choice.kind == "lora" else None)


def _inputs(network: nn.Module) -> list[str]:
    """The layers that take what widening adds."""
    told = getattr(getattr(network, "time_embedding", None), "cond_proj", None) is not None
    return ["conv_in", *(["time_embedding.cond_proj"] if told else [])]


def _choose(network: nn.Module, pattern: str | None) -> None:
    for name in _found(pattern, [name for name, _ in network.named_parameters()], "parameters"):
        network.get_parameter(name).requires_grad_(True)


def _found(pattern: str | None, names: list[str], what: str) -> list[str]:
    """The names that hold the pattern, all without one; RecipeError where there are none."""
    try:
        chosen = [name for name in names if pattern is None or re.search(pattern, name)]
    except re.error as error:
        raise RecipeError(f"pattern {pattern!r} is not a regular expression: {error}") from error
    if not chosen:
        close = difflib.get_close_matches(str(pattern), names, 3, 0.3) or names[:3]
        raise RecipeError(f"pattern {pattern!r} matches none of the network's {len(names)} {what}; near: {', '.join(close)}")
    return chosen


def _add_lora(network: nn.Module, choice: Trainable, seed: int, widened: bool) -> None:
    from peft import LoraConfig

    modules = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    adapted: list[str] = []
    for target in choice.targets:
        adapted += (found := [name for name in modules if name == target or name.endswith("." + target)])
        if not found:
            tails = sorted({name.rpartition(".")[2] for name in modules})
            raise RecipeError(f"no layer of the network is named {target!r} for LoRA; layers end in: {', '.join(tails)}")
    targets = list(choice.targets) if choice.pattern is None else _found(choice.pattern, adapted, "layers of `targets`")
    targets += _inputs(network) if widened else []
    alpha = choice.rank if choice.alpha is None else choice.alpha
    config = LoraConfig(r=choice.rank, lora_alpha=alpha, target_modules=targets, init_lora_weights="gaussian")  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        unet: Any = network
        unet.add_adapter(config, adapter_name=ADAPTER)


@contextmanager
def _disabled(network: Any) -> Iterator[None]:
    network.disable_adapters()
    try:
        yield
    finally:
        network.enable_adapters()


def save_lora(network: nn.Module, folder: Path) -> Path:
    """Writes `pytorch_lora_weights.safetensors`, which `pipe.load_lora_weights(folder)` reads with its rank and alpha."""
    from diffusers import StableDiffusionPipeline
    from peft.utils import get_peft_model_state_dict

    unet: Any = network
    if not getattr(unet, "peft_config", None):
        raise RecipeError("the network has no LoRA adapters to save")
    folder.mkdir(parents=True, exist_ok=True)
    partial = LORA_FILE.replace(".safetensors", ".partial.safetensors")
    save: Any = StableDiffusionPipeline.save_lora_weights
    save(
        folder,
        unet_lora_layers=get_peft_model_state_dict(unet, adapter_name=ADAPTER),
        unet_lora_adapter_metadata=unet.peft_config[ADAPTER].to_dict(),
        weight_name=partial,
    )
    os.replace(folder / partial, folder / LORA_FILE)
    return folder / LORA_FILE


def load_lora(network: nn.Module, folder: Path) -> None:
    """Puts saved LoRA weights into the adapters that `make_trainable` added; RecipeError where they do not fit."""
    from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = {name.removeprefix("unet."): tensor for name, tensor in load_file(folder / LORA_FILE).items()}
    own = get_peft_model_state_dict(network, adapter_name=ADAPTER)
    wrong = [
        name
        for name in sorted(saved.keys() | own.keys())
        if name not in saved or name not in own or saved[name].shape != own[name].shape
    ]
    if wrong:
        raise RecipeError(
            f"{folder / LORA_FILE} does not fit the adapters of the recipe (rank or targets differ), first at {wrong[0]}"
        )
    set_peft_model_state_dict(network, saved, adapter_name=ADAPTER)


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Weights under the names of the plain network, LoRA added in (in float32), stabilizers folded: what a plain one must load."""
    from peft.tuners.lora import LoraLayer

    state = {name.replace(".base_layer.", "."): tensor for name, tensor in network.state_dict().items() if ".lora_" not in name}
    for name, module in network.named_modules():
        if isinstance(module, LoraLayer) and ADAPTER in module.lora_A:
            key = f"{name}.weight"
            state[key] = (state[key].float() + module.get_delta_weight(ADAPTER).float()).to(state[key].dtype)  # type: ignore[operator]
    return plain_state(network, state)
