"""Rows in, episodes out: what a training step is about. Every file of this folder is imported."""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
