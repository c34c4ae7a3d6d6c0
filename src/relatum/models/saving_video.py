"""Saving a Stable Video Diffusion as a whole diffusers pipeline that loads without us: written beside, then renamed."""

from __future__ import annotations

import copy
import json
import shutil
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..core.errors import DataError
from ..pretrained.loading import quiet
from .saving import _cast, _replace, _write

if TYPE_CHECKING:
    from .families.stable_video_diffusion import StableVideoDiffusion

__all__ = ["save_video_pipeline"]


def save_video_pipeline(model: StableVideoDiffusion, folder: Path, dtype: torch.dtype | None = None) -> None:
    """Writes `model` to `folder` as a StableVideoDiffusionPipeline, replacing what is there only when all of it is written.

    dtype: of the saved weights; None keeps each network's own.
    """
    from safetensors import SafetensorError  # no OSError, also where the disk is full

    folder = Path(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{uuid.uuid4().hex[:8]}.partial"
    try:
        with quiet():
            _pipeline(model, dtype).save_pretrained(partial, safe_serialization=True)
        _write_processor(model, partial)
        _replace(partial, folder)
    except (OSError, SafetensorError) as error:
        raise DataError(f"the pipeline could not be written to {folder}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _pipeline(model: StableVideoDiffusion, dtype: torch.dtype | None) -> Any:
    import diffusers
    from transformers import CLIPImageProcessor

    return diffusers.StableVideoDiffusionPipeline(
        vae=_cast(model.codec.vae, dtype),  # type: ignore[arg-type]
        image_encoder=_cast(model.tower.encoder, dtype),  # type: ignore[arg-type]
        unet=_cast(model.unet, dtype),  # type: ignore[arg-type]
        scheduler=copy.deepcopy(model.scheduler),
        feature_extractor=CLIPImageProcessor(**model.tower.processor),
    )


def _write_processor(model: StableVideoDiffusion, target: Path) -> None:
    """The image processor's numbers as they were read, under the class name that every release of transformers knows."""
    table = {"image_processor_type": "CLIPImageProcessor", **model.tower.processor}
    _write(target / "feature_extractor" / "preprocessor_config.json", table)
    file = target / "model_index.json"
    index = json.loads(file.read_text(encoding="utf-8"))
    _write(file, {**index, "feature_extractor": ["transformers", "CLIPImageProcessor"]})
