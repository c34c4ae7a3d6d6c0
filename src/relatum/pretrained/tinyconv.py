"""Two small convolutional networks: one trained on the toy world's attributes, one with fixed random weights as a control."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..atomic import write_bytes
from ..core.errors import DataError
from ..core.shapes import Features

__all__ = ["RandConv", "TinyConv", "load_tinyconv", "save_tinyconv"]


def _block(before: int, after: int, stride: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, 1), nn.GroupNorm(8, after), nn.SiLU())


class TinyConv(nn.Module):
    """Four strided convolutions to `features` numbers an image, and a linear head for every group of attributes.

    heads: classes by group, such as {"pairs": 48, "ground": 6}. Images (b 3 32 32) in [-1, 1]; other multiples of 16 work too.
    """

    def __init__(self, heads: Mapping[str, int], width: int = 32, features: int = 64) -> None:
        super().__init__()
        self.settings = {"heads": dict(heads), "width": width, "features": features}
        self.body = nn.Sequential(
            _block(3, width, 1), _block(width, 2 * width, 2), _block(2 * width, 3 * width, 2), _block(3 * width, 4 * width, 2)
        )
        self.squeeze = nn.Linear(4 * width, features)
        self.heads = nn.ModuleDict({name: nn.Linear(features, classes) for name, classes in heads.items()})

    def features(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        """(b, features): a linear map of the last maps' mean over the grid."""
        return self.squeeze(self.body(images).mean((-2, -1)))

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> dict[str, Float[Tensor, "b _"]]:
        """Logits by head."""
        features = nn.functional.silu(self.features(images))
        return {name: head(features) for name, head in self.heads.items()}


class RandConv(nn.Module):
    """Fixed random weights: what any features at all would say. The same on every machine (drawn on the CPU from `seed`)."""

    def __init__(self, seed: int = 0, width: int = 32, features: int = 64) -> None:
        super().__init__()
        sizes = [(3, width), (width, 2 * width), (2 * width, features)]
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, 2, 1) for a, b in sizes)
        generator = torch.Generator().manual_seed(seed)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            fan = conv.weight[0].numel()
            conv.weight.data = torch.randn(conv.weight.shape, generator=generator) * (2 / fan) ** 0.5
            conv.bias.data = torch.randn(conv.bias.shape, generator=generator) * 0.1

    def forward(self, images: Float[Tensor, "b 3 h w"]) -> Features:
        for conv in self.convs:
            images = nn.functional.leaky_relu(conv(images), 0.2)
        return images.mean((-2, -1))


def save_tinyconv(model: TinyConv, path: Path) -> None:
    """One safetensors file with the settings in its header, float16, written beside and then moved into place."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().half().contiguous() for name, tensor in model.state_dict().items()}
    write_bytes(path, save(tensors, {"tinyconv": json.dumps(model.settings)}))


def load_tinyconv(path: Path) -> TinyConv:
    """The network of such a file, in float32, for evaluation."""
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise DataError(f"{path}: no such file; the trained extractor is missing, rebuild it or name another extractor (randconv)")
    try:
        with safe_open(path, "pt") as file:
            settings = json.loads((file.metadata() or {})["tinyconv"])
            state = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, json.JSONDecodeError) as error:
        raise DataError(f"{path}: not a tinyconv file ({error})") from error
    model = TinyConv(**settings)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        raise DataError(f"{path}: its weights do not fit its settings {settings} ({error})") from error
    return model.eval().requires_grad_(False)
