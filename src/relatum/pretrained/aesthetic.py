"""Heads that score unit CLIP embeddings of pictures, in the layout of LAION's aesthetic predictors, from safetensors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.errors import DataError
from ..core.fingerprint import fingerprint_of

__all__ = ["Activation", "AestheticHead", "open_aesthetic"]

Activation = Literal["none", "relu", "gelu"]
FUNCTIONS: dict[str, nn.Module] = {"none": nn.Identity(), "relu": nn.ReLU(), "gelu": nn.GELU()}


class AestheticHead:
    """Linear layers, with `activation` between them: none in LAION's improved-aesthetic-predictor, in spite of its name."""

    def __init__(self, layers: list[nn.Linear], activation: Activation = "none") -> None:
        between = [part for layer in layers for part in (layer, FUNCTIONS[activation])]
        self.network = nn.Sequential(*between[:-1]).eval().requires_grad_(False)
        self.features = layers[0].in_features
        self.fingerprint = fingerprint_of({"activation": activation}, self.network)

    @torch.no_grad()
    def __call__(self, embeddings: Float[Tensor, "n d"]) -> Float[Tensor, "n"]:
        """Scores of unit embeddings; LAION's run from about 1 to 10."""
        return self.network(embeddings.float())[:, 0]


def open_aesthetic(path: str | Path, features: int, activation: Activation = "none") -> AestheticHead:
    """The head of a .safetensors file: a "weight" and "bias" of one linear layer, or "layers.N.weight" and "layers.N.bias".

    features: length of the embedding that it will see. DataError for pickles, other layouts, shapes that do not follow each other.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() != ".safetensors":
        raise DataError(
            f"{path}: a head is read from .safetensors alone, since opening a pickle (.pt, .pth, .ckpt, .bin) can run any program. "
            'Convert one that you trust: safetensors.torch.save_file(torch.load("head.pth", weights_only=True), "head.safetensors")'
        )
    tensors = _tensors(path)
    names = sorted({key.rpartition(".")[0] for key in tensors}, key=lambda name: int(name.rpartition(".")[2] or 0))
    layers, before = [], features
    for name in names:
        weight, bias = (tensors.get(f"{name}.{part}".lstrip("."), torch.empty(0)) for part in ("weight", "bias"))
        if weight.ndim != 2 or weight.shape[1] != before or bias.shape != weight.shape[:1]:
            what = f"{name or 'its layer'} has a weight of shape {tuple(weight.shape)} and a bias of {tuple(bias.shape)}"
            source = "the CLIP model's embedding" if before == features and not layers else "the layer before it"
            raise DataError(f"{path}: {what}; {source} has {before} numbers. Is it a head for another CLIP model?")
        layer = nn.Linear(*weight.shape[::-1])
        layer.load_state_dict({"weight": weight, "bias": bias})
        layers.append(layer)
        before = weight.shape[0]
    if before != 1:
        raise DataError(f"{path}: gives {before} numbers a picture; an aesthetic head gives one score")
    return AestheticHead(layers, activation)


def _tensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = {key: tensor.float() for key, tensor in load_file(path).items()}
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); give an aesthetic head as .safetensors") from error
    except SafetensorError as error:
        raise DataError(f"{path}: no safetensors, or damaged or cut ({error}); get it again") from error
    layout = r"(layers\.\d+\.)?(weight|bias)"
    other = [key for key in sorted(tensors) if not re.fullmatch(layout, key)]
    if other or len({key.startswith("layers.") for key in tensors}) != 1:
        found = ", ".join(sorted(tensors)[:6]) or "nothing"
        raise DataError(
            f'{path}: has {found}; expected "weight" and "bias", or "layers.0.weight", "layers.0.bias", "layers.2. ..."'
        )
    if broken := next((key for key, tensor in tensors.items() if not tensor.isfinite().all()), ""):
        raise DataError(f"{path}: its weights are damaged: {broken} has NaN or infinity")
    return tensors
