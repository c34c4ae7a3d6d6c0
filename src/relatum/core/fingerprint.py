"""What identifies a network: its configuration and every weight."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch
from torch import nn

__all__ = ["fingerprint_of"]


def fingerprint_of(config: Any, module: nn.Module) -> str:
    """16 hexadecimal digits of the SHA-256 over a configuration and every weight, in whatever order they are stored."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
