"""[model] sections that tune what is there: a CLIP, judged by a diffusion model; a probe on a UNet, with or without the UNet."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ...core.errors import DataError, RecipeError
from ...core.registry import family
from ...core.shapes import Pixels
from ...pretrained.loading import quiet
from ..probe import ProbeSettings
from ..trainable import Trainable
from .clip import MEAN, STD, TwoTowers, image_features, save_clip

__all__ = ["ClipSettings", "Drawing", "DrawingClip", "OpenedClip", "ProbedSettings"]

BASE = Path(__file__).parents[2] / "base"
PROCESSOR = "preprocessor_config.json"


@family("clip")
@dataclass(frozen=True)
class ClipSettings:
    """A CLIP to fine-tune with pictures and their captions, and a frozen diffusion model that judges it.

    pretrained_model_name_or_path: "clip", the bundled one, or a folder or hub id of a CLIPModel. train: which of its weights;
    { kind = "partial", pattern = "norm" } is the paper's choice, layer norms alone. weight: lambda of the denoising score, 0 for
    plain fine-tuning. diffusion: the judge, a Stable Diffusion by folder, bundled name or hub id. caption: what it is told; "null",
    no caption, is a control. map: how the linear map to latents begins, "fitted" to the latents of training pictures by least
    squares, or "fresh", drawn, as in the paper: near zero latents, which a judge denoises well whatever CLIP keeps.
    """

    pretrained_model_name_or_path: str = "clip"
    train: Trainable = field(default_factory=Trainable)
    weight: float = 0.0
    diffusion: str = "relatum:toy"
    caption: Literal["own", "null"] = "own"
    map: Literal["fitted", "fresh"] = "fitted"

    def __post_init__(self) -> None:
        if not 0 <= self.weight < math.inf:
            raise RecipeError(f"model.weight is {self.weight}, expected a finite number, 0 or more")
        if self.train.kind == "lora":
            raise RecipeError(
                'model.train.kind: a CLIP is trained "full" or "partial" (pattern = "norm": layer norms), not by LoRA'
            )

    def build(self, folder: Path) -> OpenedClip:
        """The CLIP; a relative path is relative to `folder` where something is there. DataError where it cannot be opened."""
        from transformers import AutoTokenizer, CLIPModel

        name = self.pretrained_model_name_or_path
        place = BASE / "clip" if name == "clip" else folder / name
        where = str(place if place.exists() else name)
        try:
            with quiet():
                clip: Any = CLIPModel.from_pretrained(where, dtype=torch.float32, use_safetensors=True)
                tokenizer = AutoTokenizer.from_pretrained(where)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(f"model: {name!r} cannot be opened as a CLIP ({reason}); give a folder with safetensors") from error
        tokenizer.model_max_length = min(tokenizer.model_max_length, clip.config.text_config.max_position_embeddings)
        return OpenedClip(clip, tokenizer, _processor(Path(where)))


def _processor(folder: Path) -> dict[str, Any]:
    """The image processor's table; {} where the folder has none."""
    file = folder / PROCESSOR
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


@dataclass(frozen=True)
class OpenedClip:
    """clip, tokenizer: transformers'. processor: what preprocessor_config.json says; `save` writes the same."""

    clip: Any
    tokenizer: Any
    processor: dict[str, Any]

    def save(self, folder: Path) -> None:
        save_clip(self.clip, self.tokenizer, folder, torch.float32)
        if self.processor:
            (folder / PROCESSOR).write_text(json.dumps(self.processor, indent=2) + "\n", encoding="utf-8")


class Drawing(NamedTuple):
    """A `Reading` and the latents (b c h w) that were made of its image vectors; None without a map."""

    images: Tensor
    texts: Tensor
    scale: Tensor
    states: Tensor
    embeddings: Tensor
    latents: Tensor | None


class DrawingClip(nn.Module):
    """A CLIP that is fine-tuned, and the linear map h_w from its image vectors to latents of `shape`; None: no map."""

    def __init__(self, opened: OpenedClip, shape: tuple[int, int, int] | None) -> None:
        super().__init__()
        self.towers, self.shape = TwoTowers(opened.clip), shape
        self.map = None if shape is None else nn.Linear(opened.clip.config.projection_dim, math.prod(shape))
        mean, std = (opened.processor.get(key, default) for key, default in (("image_mean", MEAN), ("image_std", STD)))
        self.normal = None if (tuple(mean), tuple(std)) == (MEAN, STD) else (torch.tensor(mean), torch.tensor(std))

    def forward(self, pixels: Pixels, input_ids: Tensor) -> Drawing:
        images, texts, scale, states, embeddings = self.towers(self._normalized(pixels), input_ids)
        drawn = None if self.map is None else self.map(images).unflatten(1, self.shape)
        return Drawing(images, texts, scale, states, embeddings, drawn)

    def _normalized(self, pixels: Pixels) -> Pixels:
        """Pixels in [-1, 1] with the mean and deviation that this CLIP expects."""
        if self.normal is None:
            return pixels
        mean, std = (v.to(pixels)[:, None, None] for v in self.normal)
        return ((pixels + 1) / 2 - mean) / std

    @torch.no_grad()
    def fit(self, pictures: Iterable[tuple[Tensor, Tensor]], ridge: float = 1e-3) -> None:
        """Sets the map to the least squares from image vectors to latents, (pixels, latents) in parts; the bias has no ridge."""
        assert self.map is not None
        clip = self.towers.clip
        parts = [(image_features(clip, self._normalized(pixels)), latents.flatten(1)) for pixels, latents in pictures]
        found, flat = (torch.cat(side).double() for side in zip(*parts, strict=True))
        centered = found - found.mean(0)
        gram = centered.T @ centered + ridge * len(found) * torch.eye(found.shape[1], dtype=torch.float64, device=found.device)
        weight = torch.linalg.solve(gram, centered.T @ (flat - flat.mean(0)))
        self.map.weight.copy_(weight.T)
        self.map.bias.copy_(flat.mean(0) - found.mean(0) @ weight)


@family("probe")
@dataclass(frozen=True)
class ProbedSettings:
    """A probe on the features of a Stable Diffusion's UNet, by folder, bundled name or hub id.

    begin: folder of a probe to go on with (a finished run's `final`); "" makes a fresh one of `probe`. train: LoRA, full or partial
    training of the UNet too; absent, the UNet is frozen. matching, denoising: weights of the two losses; matching 0 is plain
    fine-tuning. rolls: wrong captions of the batch that each picture is told, and matched with, where the probe sees captions.
    """

    pretrained_model_name_or_path: str = "relatum:toy"
    begin: str = ""
    probe: ProbeSettings = field(default_factory=ProbeSettings)
    train: Trainable | None = None
    matching: float = 1.0
    denoising: float = 0.0
    rolls: int = 1

    def __post_init__(self) -> None:
        for name in ("matching", "denoising"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"model.{name} is {getattr(self, name)}, expected a finite number, 0 or more")
        if self.rolls < 1:
            raise RecipeError(f"model.rolls is {self.rolls}, expected 1 or more")
        if self.matching + self.denoising == 0:
            raise RecipeError("model: matching and denoising are both 0; nothing would be trained")
        if self.train is None and (self.denoising or not self.matching):
            raise RecipeError("model.denoising trains the UNet, which is frozen; add [model.train], or leave denoising 0")
