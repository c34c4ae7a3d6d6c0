"""`relatum cache`: fill, verify and clean the latent and text cache."""

from __future__ import annotations

from ..core.errors import DataError
from ..engine.cache import gc, used_by, verify
from ..recipe import Recipe
from .opening import open_model, open_rows
from .training import cache_folder, open_data

__all__ = ["clean", "fill", "verify_cache"]


def fill(recipe: Recipe) -> list[str]:
    """Encodes what is missing; counts rows and lists those that were skipped."""
    from ..engine.progress import Progress

    opened = open_model(recipe)
    with Progress("cache", 0) as bar:

        def progress(done: int, total: int) -> None:
            bar.total = total
            bar.advance(steps=done - bar.done)

        data = open_data(recipe, opened, progress)
    lines = [f"{len(data.train)} training rows and {len(data.test)} held-out rows are in {cache_folder(recipe)}"]
    return lines + [f"skipped: {reason}" for reason in data.skipped]


def verify_cache(recipe: Recipe) -> list[str]:
    """Reads every entry. DataError that lists every fault and says what to delete."""
    folder = cache_folder(recipe)
    if not folder.is_dir():
        what = "is a file, no folder" if folder.exists() else "there is no such folder"
        raise DataError(f"{folder}: {what}; fill the cache first (relatum cache, relatum train), or correct cache_dir")
    faults = verify(folder)
    if faults:
        raise DataError("\n".join([f"{len(faults)} faults in {folder}", *faults]))
    return ["every entry is whole"]


def clean(recipe: Recipe) -> list[str]:
    """Deletes every entry that this recipe does not use, those of other recipes that share the folder with them."""
    opened, rows = open_model(recipe), open_rows(recipe)
    model, size = opened.model, recipe.data.resolution
    sides = (rows.train, rows.test)
    dtype, needs = recipe.data.cache_dtype, opened.task.needs
    used = [used_by(side, needs, size, model.codec, model.text, dtype, model.tower) for side in sides]
    return [f"freed {gc(cache_folder(recipe), used)} bytes"]
