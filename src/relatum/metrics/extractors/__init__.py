"""Networks that turn images and texts into features, opened by name, path or hub id, each with a fingerprint."""

from .extractor import Extractor, Reading, comparable, preprocess
from .opening import open_extractor, vae_mean
from .tinyconv import TinyConv, load_tinyconv, save_tinyconv

__all__ = [
    "Extractor",
    "Reading",
    "TinyConv",
    "comparable",
    "load_tinyconv",
    "open_extractor",
    "preprocess",
    "save_tinyconv",
    "vae_mean",
]
