"""Networks that others trained, frozen: extractors of features, captioners and a rewriter, by name, path or hub id, each with a
fingerprint."""

from .extractor import Extractor, preprocess
from .opening import open_extractor, vae_mean
from .tinyconv import TinyConv, load_tinyconv, save_tinyconv

__all__ = ["Extractor", "TinyConv", "load_tinyconv", "open_extractor", "preprocess", "save_tinyconv", "vae_mean"]
