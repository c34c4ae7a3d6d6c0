"""Modules and optimizers to and from safetensors, bit for bit: no pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..atomic import write_bytes
from ..core.errors import DataError

__all__ = ["load_module", "load_optimizer", "load_tensors", "save_module", "save_optimizer", "save_tensors"]


def save_tensors(tensors: Mapping[str, Tensor], path: Path, about: Mapping[str, str] | None = None) -> None:
    """A safetensors file, whole or absent. Tensors that share memory (tied weights) are written once each. about: its metadata."""
    from safetensors.torch import save

    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        address = tensor.untyped_storage().data_ptr()
        plain[name] = tensor.clone() if address in seen else tensor
        seen.add(address)
    write_bytes(path, save(plain, None if about is None else dict(about)))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file; DataError if it is missing or damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not a whole safetensors file ({error})") from error


def save_module(module: nn.Module, path: Path) -> None:
    """The module's state as safetensors."""
    save_tensors(module.state_dict(), path)


def load_module(module: nn.Module, path: Path) -> None:
    """Fills the module from a file of `save_module`. DataError lists names and shapes that do not fit; then nothing is loaded."""
    found, _ = load_tensors(path)
    _expect(
        path, {name: tuple(t.shape) for name, t in found.items()}, {name: tuple(t.shape) for name, t in module.state_dict().items()}
    )
    module.load_state_dict(found)


def save_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """Any optimizer whose state is tensors and plain values: tensors as safetensors, the rest as JSON in the file's metadata."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain = {
        "state": {str(i): _strip(values, f"state/{i}", tensors) for i, values in state["state"].items()},
        "param_groups": [_strip(group, f"group/{i}", tensors) for i, group in enumerate(state["param_groups"])],
    }
    save_tensors(tensors, path, {"optimizer": type(optimizer).__name__, "plain": json.dumps(plain)})


def load_optimizer(optimizer: torch.optim.Optimizer, path: Path) -> None:
    """The inverse of `save_optimizer`, bit for bit. DataError if the file belongs to another optimizer or other parameters."""
    tensors, about = load_tensors(path)
    kind = type(optimizer).__name__
    if about.get("optimizer") != kind:
        raise DataError(f"{path}: holds the state of {about.get('optimizer', 'no optimizer')}, the recipe asks for {kind}")
    plain = json.loads(about["plain"])
    groups = [_fill(group, tensors) for group in plain["param_groups"]]
    found = {f"parameter group {i}": (len(group["params"]),) for i, group in enumerate(groups)}
    _expect(path, found, {f"parameter group {i}": (len(group["params"]),) for i, group in enumerate(optimizer.param_groups)})
    state = {int(i): _fill(values, tensors) for i, values in plain["state"].items()}
    _expect_state(path, state, optimizer)
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _expect_state(path: Path, state: Mapping[int, Mapping[str, Any]], optimizer: torch.optim.Optimizer) -> None:
    """Moments have the shape of their parameter; factored and scalar ones are the optimizer's own business."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    found, wanted = {}, {}
    for i, values in state.items():
        for name in ("exp_avg", "momentum_buffer"):
            if isinstance(values.get(name), Tensor):
                found[f"{name} of parameter {i}"] = tuple(values[name].shape)
                wanted[f"{name} of parameter {i}"] = tuple(parameters[i].shape)
    _expect(path, found, wanted)


def _strip(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON; its tensors go to `tensors` under their place."""
    if isinstance(value, Tensor):
        tensors[place] = value
        return {"__tensor__": place}
    if isinstance(value, dict):
        return {str(key): _strip(item, f"{place}/{key}", tensors) for key, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_strip(item, f"{place}/{i}", tensors) for i, item in enumerate(value)]
        return {"__tuple__": items} if isinstance(value, tuple) else items
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"the optimizer's state holds a {type(value).__name__} at {place}: only tensors and plain values can be saved")


def _fill(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, dict) and "__tensor__" in value:
        return tensors[value["__tensor__"]]
    if isinstance(value, dict) and "__tuple__" in value:
        return tuple(_fill(item, tensors) for item in value["__tuple__"])
    if isinstance(value, dict):
        return {key: _fill(item, tensors) for key, item in value.items()}
    return [_fill(item, tensors) for item in value] if isinstance(value, list) else value


def _expect(path: Path, found: Mapping[str, tuple[int, ...]], wanted: Mapping[str, tuple[int, ...]]) -> None:
    """DataError with the first names whose shapes differ or that only one side has."""
    names = [name for name in [*wanted, *(n for n in found if n not in wanted)] if found.get(name) != wanted.get(name)]
    if names:
        lines = [f"{name}: the file has {found.get(name, 'none')}, the model {wanted.get(name, 'none')}" for name in names[:5]]
        more = f" and {len(names) - 5} more" if len(names) > 5 else ""
        raise DataError(f"{path}: another architecture: {'; '.join(lines)}{more}; use the recipe that wrote it, or start a new run")
