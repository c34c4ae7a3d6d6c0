"""What a rule is: a function from a tagged caption to wrong ones. Registered by name, so that another rule is one function."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ...core.errors import RecipeError
from ...core.load import near
from .sentence import Sentence

__all__ = ["Rule", "find_rule", "register", "registered"]

Function = Callable[[Sentence, random.Random], Iterable[Sentence]]


@dataclass(frozen=True)
class Rule:
    """function(sentence, draw) gives wrong sentences, best first. lacking: what a caption has not that gives none.

    most: negatives that are kept of one caption; where it is 1, further ones are only tries, and are not counted as refused.
    """

    name: str
    function: Function
    lacking: str
    most: int


_RULES: dict[str, Rule] = {}


def register(name: str, lacking: str, most: int = 8) -> Callable[[Function], Function]:
    """Function decorator. RecipeError where the name is taken."""

    def add(function: Function) -> Function:
        known = _RULES.get(name)
        if known is not None and (known.function.__module__, known.function.__qualname__) != (
            function.__module__,
            function.__qualname__,
        ):
            raise RecipeError(f"two rules of negatives are named {name!r}; rename one")
        _RULES[name] = Rule(name, function, lacking, most)
        return function

    return add


def find_rule(name: str) -> Rule:
    """RecipeError with the near name where there is none."""
    if name not in _RULES:
        raise RecipeError(f"negatives: no rule {name!r}{near(name, _RULES)}")
    return _RULES[name]


def registered() -> tuple[str, ...]:
    return tuple(_RULES)
