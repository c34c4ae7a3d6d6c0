"""Saving a model as a whole diffusers pipeline that loads without us: written beside, then renamed."""

from __future__ import annotations

import copy
import json
import os
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..core.errors import DataError
from ..pretrained.loading import quiet
from .families.tokenizer import plain_vocabulary
from .folder import SHARED_KEY
from .motion import motion_of
from .stabilisers import save_stabilizers
from .trainable import merged_state

if TYPE_CHECKING:
    from .families.stable_diffusion import StableDiffusion

__all__ = ["save_pipeline"]


def save_pipeline(model: StableDiffusion, folder: Path, dtype: torch.dtype | None = None, shared: str | None = None) -> None:
    """Writes `model` to `folder`, replacing what is there only when all of it is written. LoRA is merged into the weights.

    A model that is given pictures becomes a StableDiffusionInstructPix2PixPipeline (which stock diffusers loads, and runs where
    there is one picture and no features), a text-to-image model a StableDiffusionPipeline, one with motion modules an
    AnimateDiffPipeline whose `motion_adapter` holds them a second time, for other bases; stock diffusers runs it where no picture
    is given. What stabilizers need beyond plain weights lies beside, as `stabilizers.json`. The origin's safety checker is kept for
    pictures. dtype: of the saved weights; None keeps each network's own. shared: write unet and scheduler only and name this
    sibling folder for the rest; such a folder is for relatum alone, stock diffusers cannot load it.
    """
    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    from safetensors import SafetensorError  # no OSError, also where the disk is full

    try:
        with quiet():
            _pipeline(model, dtype).save_pretrained(partial, safe_serialization=True)
        if model.correction is not None:
            model.correction.save(partial)
        save_stabilizers(model.unet, partial)
        _keep_safety_checker(model, partial)
        if shared is not None:
            _drop_shared(partial, shared)
        else:
            plain_vocabulary(model.text.tokenizer, partial / "tokenizer")
        _replace(partial, folder)
    except (OSError, SafetensorError) as error:
        raise DataError(f"the pipeline could not be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pipeline(model: StableDiffusion, dtype: torch.dtype | None) -> Any:
    import diffusers

    unet = _plain_unet(model.unet, dtype)
    parts: dict[str, Any] = {
        "vae": _cast(model.codec.vae, dtype),
        "text_encoder": _cast(model.text.encoder, dtype),
        "tokenizer": model.text.tokenizer,
        "unet": unet,
        "scheduler": copy.deepcopy(model.scheduler),
        "feature_extractor": None,
    }
    if isinstance(unet, diffusers.UNetMotionModel):
        return diffusers.AnimateDiffPipeline(**parts, motion_adapter=motion_of(unet))
    name = "StableDiffusionInstructPix2PixPipeline" if model.images else "StableDiffusionPipeline"
    return getattr(diffusers, name)(**parts, safety_checker=None, requires_safety_checker=False)


def _cast(module: nn.Module, dtype: torch.dtype | None) -> nn.Module:
    """The module itself, or a copy in `dtype`; the one that is trained is never changed."""
    return module if dtype is None else nn.Module.to(copy.deepcopy(module), dtype)


def _plain_unet(unet: Any, dtype: torch.dtype | None) -> nn.Module:
    """A network of the same class without adapters, holding the merged weights."""
    state = merged_state(unet)
    with torch.random.fork_rng(devices=[]):
        plain = type(unet).from_config(unet.config)
    plain.load_state_dict({name: tensor.cpu() for name, tensor in state.items()})
    return nn.Module.to(plain, dtype or unet.dtype)


def _keep_safety_checker(model: StableDiffusion, target: Path) -> None:
    file = target / "model_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    if not model.origin.has("safety_checker") or "motion_adapter" in index:  # AnimateDiffPipeline has no place for one
        return
    for name in ("safety_checker", "feature_extractor"):
        place = model.origin.component(name)
        shutil.copytree(place, target / name, ignore=shutil.ignore_patterns("*.bin", "*.msgpack", "*.h5", "*.onnx"))
        index[name] = model.origin.index[name]
    index["requires_safety_checker"] = model.origin.index.get("requires_safety_checker", True)
    _write(file, index)


def _drop_shared(target: Path, shared: str) -> None:
    file = target / "model_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    for name in ("vae", "text_encoder", "tokenizer", *(["motion_adapter"] if "motion_adapter" in index else [])):
        shutil.rmtree(target / name)
    if "motion_adapter" in index:
        index["motion_adapter"] = [None, None]
    _write(file, {**index, SHARED_KEY: shared})


def _write(file: Path, table: dict[str, Any]) -> None:
    file.write_text(json.dumps(table, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _replace(partial: Path, folder: Path) -> None:
    """Puts `partial` in the place of `folder`; the old one goes only after it stepped aside."""
    if not folder.exists():
        os.replace(partial, folder)
        return
    aside = partial.with_suffix(".old")
    os.replace(folder, aside)
    try:
        os.replace(partial, folder)
    except OSError:
        os.replace(aside, folder)
        raise
    shutil.rmtree(aside)
