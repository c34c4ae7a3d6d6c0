"""Benchmarks of image-text matching: questions of a few images and texts, and which belong together.

Every file of this folder is imported."""

import importlib
import pkgutil

from .item import Benchmark, Item

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")

__all__ = ["Benchmark", "Item"]
