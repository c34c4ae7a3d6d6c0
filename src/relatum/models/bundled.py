"""The models that come with the package: "relatum:toy" is a folder of package data."""

from __future__ import annotations

from pathlib import Path

from ..core.errors import RecipeError
from ..core.load import near

__all__ = ["BUNDLED", "resolve"]

BUNDLED = {"toy": "toy", "toy-edit": "toy-edit"}
_SCHEME = "relatum:"


def resolve(path_or_id: str) -> str:
    """The folder of a bundled model; any other path or hub id as it is. RecipeError for an unknown or absent bundled model."""
    if not path_or_id.startswith(_SCHEME):
        return path_or_id
    name = path_or_id.removeprefix(_SCHEME)
    if name not in BUNDLED:
        raise RecipeError(f"no bundled model {path_or_id!r}{near(name, BUNDLED)}")
    folder = Path(__file__).resolve().parent.parent / "base" / BUNDLED[name]
    if not (folder / "model_index.json").is_file():
        raise RecipeError(f"{path_or_id} is not in this installation: {folder} is missing; reinstall relatum")
    return str(folder)
