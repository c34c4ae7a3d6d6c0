"""`relatum edit`: one picture, one instruction, one trained model."""

from __future__ import annotations

from pathlib import Path

import torch

from ..atomic import make_folder
from ..core.errors import DataError, RecipeError
from ..engine.sample import Sampling, generate
from ..imaging import decode, fit, grid, save_png
from ..models.families.stable_diffusion import open_stable_diffusion
from .opening import device

__all__ = ["check_text", "check_tries", "edit_picture", "model_path"]

SMALLEST, LARGEST = 8, 4096  # edge in pixels


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
    """Writes the edit; source and edits side by side where count is 2 or more.

    RecipeError for an instruction, count or size that cannot be; DataError for a picture that cannot be read or an
    output that cannot be written.
    """
    check_text("edit", instruction)
    check_tries("edit", count, resolution)
    if output.is_dir():
        raise DataError(f"{output}: is a folder; give the output a file name, such as {output / 'edited.png'}")
    make_folder(output.parent)
    opened = open_stable_diffusion(model_path(model), 1).to(device())
    if opened.widened:
        raise RecipeError(f"{model} is a text-to-image model; train it on edits first (relatum train)")
    size = resolution
    if size is None:
        size = int(opened.unet.config.sample_size) * opened.codec.factor  # type: ignore[union-attr, arg-type]
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
    save_png(output, made[0] if count == 1 else grid(torch.cat([source[None], made]), count + 1))


def check_tries(verb: str, count: int, resolution: int | None) -> None:
    """RecipeError for a number of samples or a size that cannot be."""
    if count < 1:
        raise RecipeError(f"{verb}: count is {count}, expected 1 or more")
    if resolution is not None and not SMALLEST <= resolution <= LARGEST:
        raise RecipeError(f"{verb}: resolution is {resolution}, expected {SMALLEST} to {LARGEST}")


def check_text(verb: str, text: str) -> None:
    """RecipeError for words that are none."""
    what = "instruction" if verb == "edit" else "caption"
    if not text.strip():
        raise RecipeError(f"{verb}: the {what} is empty")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RecipeError(f"{verb}: the {what} is no valid text at character {error.start + 1}; write it in UTF-8") from error
