"""What verbs share: the argument that names a recipe, and its overrides."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = ["overrides", "read", "takes_recipe"]


def takes_recipe(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("recipe", help="a .toml file, or the name of a shipped recipe")
    overrides(verb)


def overrides(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("-o", dest="overrides", action="append", default=[], metavar="section.key=value", help="override a setting")


def read(args: argparse.Namespace) -> Any:
    from ..recipe import read_recipe

    return read_recipe(args.recipe, args.overrides)
