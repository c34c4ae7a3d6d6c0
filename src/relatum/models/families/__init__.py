"""One file a model family. Every file of this folder is imported, so that adding a family is adding a file."""

import importlib
import pkgutil

for _file in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_file.name}")
