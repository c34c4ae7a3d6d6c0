"""What a recipe of a curation can name: measures, splits, looks and keeps. Every file of this folder is imported, so that adding a
stage is adding a file."""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
