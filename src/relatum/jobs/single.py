"""`relatum edit`: one picture, one instruction, one trained model."""

from __future__ import annotations

from pathlib import Path

import torch

from ..core.errors import RecipeError
from ..engine.sample import Sampling, generate
from ..imaging import decode, fit, grid, save_png
from ..models.families.stable_diffusion import open_stable_diffusion
from .opening import device

__all__ = ["edit_picture", "model_path"]


def model_path(name: str) -> str:
    """The pipeline of a run folder, or the name as it is."""
    final = Path(name) / "final"
    return str(final) if final.is_dir() else name


def edit_picture(
    model: str,
    image: Path,
    instruction: str,
    output: Path,
    settings: Sampling,
    seed: int = 0,
    count: int = 1,
    resolution: int | None = None,
) -> None:
    """Writes the edit; source and edits side by side where count is 2 or more. RecipeError for an empty instruction."""
    if not instruction.strip():
        raise RecipeError("edit: the instruction is empty")
    if count < 1:
        raise RecipeError(f"edit: count is {count}, expected 1 or more")
    opened = open_stable_diffusion(model_path(model), "edit").to(device())
    if opened.widened:
        raise RecipeError(f"{model} is a text-to-image model; train it on edits first (relatum train)")
    size = resolution or int(opened.unet.config.sample_size) * opened.codec.factor  # type: ignore[union-attr, arg-type]
    source = fit(decode(image, str(image)), size)
    moments = opened.codec.encode(source[None])
    made = generate(
        opened,
        settings,
        seed=seed,
        ids=list(range(count)),
        tokens=opened.text.encode([instruction] * count),
        size=size,
        image=opened.codec.source(moments).expand(count, -1, -1, -1),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    save_png(output, made[0] if count == 1 else grid(torch.cat([source[None], made]), count + 1))
