"""Wrong captions and wrong images for a row: rules on tagged words, rows that carry them, what gives them away."""

from .registry import register
from .rules import ORDER_RULES, RULES, Negative, Perturbed, Refused, perturb
from .tagging import RuleTagger, Tagger, TextblobTagger, open_tagger

__all__ = [
    "ORDER_RULES",
    "RULES",
    "Negative",
    "Perturbed",
    "Refused",
    "RuleTagger",
    "Tagger",
    "TextblobTagger",
    "open_tagger",
    "perturb",
    "register",
]
