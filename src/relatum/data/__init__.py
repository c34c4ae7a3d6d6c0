"""Where rows come from. Every module and package in this folder is imported, so that adding a reader is adding a file."""

import importlib
import pkgutil

for _found in pkgutil.iter_modules(__path__, f"{__name__}."):
    importlib.import_module(_found.name)
