"""A small CLIP built from its size (Radford et al. 2021), in transformers' format: two towers into one space."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.shapes import Features, Pixels
from .tokenizer import save_tokenizer

__all__ = [
    "MEAN",
    "STD",
    "ClipSize",
    "Reading",
    "TwoTowers",
    "build_clip",
    "image_features",
    "normalize",
    "save_clip",
    "text_features",
]

MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)  # the processor's numbers: the towers see pixels in [-1, 1] as they are


@dataclass(frozen=True)
class ClipSize:
    """width: of the towers. The text tower's states, `width` features wide, are what the UNet's cross-attention reads."""

    image_size: int = 32
    patch_size: int = 4
    width: int = 128
    vision_layers: int = 3
    text_layers: int = 3
    heads: int = 4
    projection: int = 64


def build_clip(size: ClipSize, tokenizer: Any) -> Any:
    """transformers' CLIPModel with fresh weights from torch's global generator, for the tokens of `tokenizer`."""
    from transformers import CLIPConfig, CLIPModel

    shared = {
        "hidden_size": size.width,
        "intermediate_size": 4 * size.width,
        "num_attention_heads": size.heads,
        "projection_dim": size.projection,
    }
    text = {
        **shared,
        "num_hidden_layers": size.text_layers,
        "vocab_size": len(tokenizer),
        "max_position_embeddings": tokenizer.model_max_length,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    vision = {**shared, "num_hidden_layers": size.vision_layers, "image_size": size.image_size, "patch_size": size.patch_size}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=size.projection))


def image_features(clip: Any, pixels: Pixels) -> Features:
    """Unit vectors of images in [-1, 1], resized to the tower's size by area if they are larger, bilinearly if smaller."""
    edge = clip.config.vision_config.image_size
    if pixels.shape[-1] != edge or pixels.shape[-2] != edge:
        larger = pixels.shape[-1] >= edge
        pixels = F.interpolate(pixels, size=(edge, edge), mode="area" if larger else "bilinear")
    pooled = clip.vision_model(pixel_values=pixels).pooler_output
    return normalize(clip.visual_projection(pooled))


def text_features(clip: Any, input_ids: Tensor) -> Features:
    """Unit vectors of tokenized texts (b n)."""
    pooled = clip.text_model(input_ids=input_ids).pooler_output
    return normalize(clip.text_projection(pooled))


def normalize(features: Features) -> Features:
    """Rows of length one."""
    return features / features.norm(dim=-1, keepdim=True)


class Reading(NamedTuple):
    """Unit vectors of images and texts, the logit scale, the texts' states (b n d) and the embeddings of all tokens (v d)."""

    images: Tensor
    texts: Tensor
    scale: Tensor
    states: Tensor
    embeddings: Tensor


class TwoTowers(nn.Module):
    """A CLIP that is being trained: images and tokenized texts in, a `Reading` out."""

    def __init__(self, clip: Any) -> None:
        super().__init__()
        self.clip = clip

    def forward(self, pixels: Pixels, input_ids: Tensor) -> Reading:
        """There may be more texts than images. The scale is kept at 100 at most, as Radford et al. do."""
        clip = self.clip
        out = clip.text_model(input_ids=input_ids)
        texts = normalize(clip.text_projection(out.pooler_output))
        embeddings = clip.text_model.get_input_embeddings().weight
        return Reading(image_features(clip, pixels), texts, clip.logit_scale.exp().clamp_max(100.0), out[0], embeddings)


def save_clip(clip: Any, tokenizer: Any, folder: Path, dtype: torch.dtype) -> None:
    """Writes model, tokenizer and the image processor's numbers, as CLIPModel, CLIPTokenizer and CLIPImageProcessor read them."""
    edge = clip.config.vision_config.image_size
    copy.deepcopy(clip).to(dtype).save_pretrained(folder, safe_serialization=True)
    save_tokenizer(tokenizer, folder)
    table = {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": edge},
        "crop_size": {"height": edge, "width": edge},
        "do_resize": True,
        "do_center_crop": True,
        "do_rescale": True,
        "do_normalize": True,
        "do_convert_rgb": True,
        "resample": 3,
        "rescale_factor": 1 / 255,
        "image_mean": MEAN,
        "image_std": STD,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")
