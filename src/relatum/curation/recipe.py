"""Reading a curation recipe, without torch: the process that decodes reads it too."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ..core.errors import RecipeError
from ..core.load import load
from ..core.toml import check_folder_name, find_recipe, import_plugin, read_table, without_none
from .settings import Curation

__all__ = ["curation_of", "read_curation", "shipped", "table_of"]

OWN = ("folder", "source", "origin")  # what a recipe does not say of itself


def shipped() -> dict[str, Path]:
    """The curation recipes that come with the package, by name."""
    folder = Path(str(resources.files("relatum") / "recipes" / "curation"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def read_curation(source: str | Path, overrides: Sequence[str] = ()) -> Curation:
    """A curation recipe from a file, or a shipped one by name. RecipeError names file and key of whatever does not fit.

    Its paths are relative to its own folder, those of a shipped one to the folder that one is in.
    """
    path = find_recipe(source, shipped())
    table, text = read_table(path, overrides)
    folder = Path.cwd() if path in shipped().values() else path.resolve().parent
    asked = shlex.join([str(source), *(word for override in overrides for word in ("-o", override))])
    try:
        return dataclasses.replace(curation_of(table, folder), source=text, origin=asked)
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error


def curation_of(table: Mapping[str, Any], folder: Path) -> Curation:
    """A curation recipe from plain tables; plug-ins are looked up beside `folder` and imported first."""
    for own in OWN:
        if own in table:
            raise RecipeError(f"{own}: Curation has no setting {own!r}")
    recipe = load(Curation, {**table, "folder": folder}, "")
    check_folder_name("name", recipe.name)
    for section in ("measure", "look", "keep", "output"):
        for name in getattr(recipe, section):
            check_folder_name(f"{section}.{name}", name)
            if not name.replace("_", "").replace("-", "").isalnum() or not name.isascii():
                raise RecipeError(f"{section}.{name}: expected a name of letters, digits, _ and -")
    for plugin in recipe.plugins:
        import_plugin(folder / plugin)
    return recipe


def table_of(recipe: Curation) -> dict[str, Any]:
    """All settings as plain tables, defaults included."""
    plain = dataclasses.asdict(recipe)
    return without_none({name: value for name, value in plain.items() if name not in OWN})
