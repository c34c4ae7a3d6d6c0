"""Contrast, prefer, match: relational objectives for diffusion models, with verdicts that carry intervals."""

__all__ = ["__version__"]

__version__ = "0.1.0"
