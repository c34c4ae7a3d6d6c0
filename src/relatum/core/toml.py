"""Recipes as TOML: read, laid over each other, overridden from the command line; names that become folders; plug-ins."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
import tomllib
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import RecipeError
from .load import near

__all__ = ["check_folder_name", "digest", "find_recipe", "flattened", "import_plugin", "merged", "read_table", "without_none"]


def find_recipe(source: str | Path, shipped: Mapping[str, Path]) -> Path:
    """The file of a recipe, or of a shipped one by name. RecipeError where there is neither."""
    path = Path(source)
    if not path.is_file() and str(source) in shipped:  # also beside a folder of that name
        path = shipped[str(source)]
    if not path.is_file():
        raise RecipeError(f"no recipe at {str(source)!r}; give a .toml file or a shipped name{near(str(source), shipped)}")
    return path


def read_table(path: Path, overrides: Sequence[str] = ()) -> tuple[dict[str, Any], str]:
    """(the tables of a TOML file, its text). overrides: "section.key=value", the value in TOML, a bare word a string."""
    try:
        text = path.read_text(encoding="utf-8")
        table = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from error
    for override in overrides:
        table = merged(table, _override(override))
    return table, text


def merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `more` laid over it, table by table."""
    out = dict(base)
    for key, value in more.items():
        both = isinstance(value, Mapping) and isinstance(out.get(key), Mapping)
        out[key] = merged(out[key], value) if both else value
    return out


def flattened(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"section.key": value} for every leaf."""
    out: dict[str, Any] = {}
    for key, value in table.items():
        out |= flattened(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return out


def digest(table: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that change with any value of the table."""
    return hashlib.sha256(json.dumps(table, sort_keys=True, default=str).encode()).hexdigest()[:16]


def check_folder_name(where: str, name: str) -> None:
    """RecipeError for a name that would lead out of its folder, or that cannot name one."""
    odd = [c for c in name if c in "/\\" or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")]
    size = len(name.encode("utf-8", "surrogatepass"))
    if odd or not name.strip() or name.startswith(".") or size > 100:
        raise RecipeError(
            f"{ascii(where)[1:-1][:120]}: {ascii(name)[:120]} cannot name a folder; take 1 to 100 bytes without slashes, "
            "backslashes and control characters, and no dot at the start"
        )


def import_plugin(path: Path) -> None:
    """Run a Python file that registers objectives, metrics, readers or tasks. Once a file and content."""
    if not path.is_file():
        raise RecipeError(f"plugins: no file {path}; paths are relative to the recipe's folder")
    name = f"relatum_plugin_{path.stem}_{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"
    if name in sys.modules:
        return
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise RecipeError(f"plugins: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:  # a plug-in that calls sys.exit is a broken plug-in, not the end of the command
        sys.modules.pop(name, None)
        if isinstance(error, KeyboardInterrupt):
            raise
        raise RecipeError(f"plugins: {path} failed at import: {type(error).__name__}: {error}") from error


def _override(text: str) -> dict[str, Any]:
    key, found, value = text.partition("=")
    if not found or not key.strip():
        raise RecipeError(f"-o {text!r}: expected section.key=value")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *sections, last = key.strip().split(".")
    table: dict[str, Any] = {last: parsed}
    for section in reversed(sections):
        table = {section: table}
    return table


def without_none(value: Any) -> Any:
    """TOML has no null: a setting that is None is left out."""
    if isinstance(value, Mapping):
        return {k: without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, tuple | list):
        return [without_none(v) for v in value]
    return str(value) if isinstance(value, Path) else value
