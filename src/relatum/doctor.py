"""`relatum doctor`: what is installed, which devices there are, which extras are missing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
from pathlib import Path

__all__ = ["lines"]

NEEDED = ("torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "scipy", "pillow", "jinja2", "rich")
EXTRAS = {
    "data": ("datasets", "webdataset"),
    "tensorboard": ("tensorboard",),
    "text": ("textblob",),
    "video": ("av", "cv2", "scenedetect"),
    "docs": ("mkdocs",),
    "dev": ("pytest", "ruff", "pyright"),
}


def lines() -> list[str]:
    """One line a fact."""
    out = [f"relatum {_version('relatum')}, Python {platform.python_version()}, {platform.system()} {platform.machine()}"]
    out += [f"  {name} {_version(name) or 'MISSING: pip install relatum'}" for name in NEEDED]
    out += _devices()
    for extra, modules in EXTRAS.items():
        absent = [module for module in modules if importlib.util.find_spec(module) is None]
        out.append(f"extra {extra}: " + (f"missing {', '.join(absent)}; pip install 'relatum[{extra}]'" if absent else "installed"))
    base = Path(__file__).parent / "base"
    parts = ("toy", "toy-edit", "clip", "tinyconv.safetensors")
    absent = [part for part in parts if not (base / part).exists()]
    out.append(f"bundled base: {'missing ' + ', '.join(absent) + '; reinstall relatum' if absent else 'complete'}")
    return out


def _devices() -> list[str]:
    if not _version("torch"):
        return ["device: unknown without torch"]
    import torch

    out = [f"device cpu: {torch.get_num_threads()} threads"]
    for i in range(torch.cuda.device_count()):
        about = torch.cuda.get_device_properties(i)
        out.append(f"device cuda:{i}: {about.name}, {about.total_memory / 2**30:.0f} GiB")
    if torch.backends.mps.is_available():
        out.append("device mps")
    return out


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
