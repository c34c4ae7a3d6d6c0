"""Names for classes, so that a recipe can say which to build."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from .errors import RecipeError
from .load import load, near

__all__ = ["Registry", "benchmark", "family", "metric", "objective", "reader", "stage", "task"]

T = TypeVar("T")
C = TypeVar("C", bound=type)


class Registry(Generic[T]):
    """Dataclasses by name. Their fields are their settings; `build` makes one from a recipe's table with its `kind`."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self.classes: dict[str, type] = {}

    def __call__(self, name: str) -> Callable[[C], C]:
        """Class decorator: register under `name`."""

        def add(cls: C) -> C:
            if not hasattr(cls, "__dataclass_fields__"):
                raise RecipeError(f"{self.noun} {name!r}: {cls.__name__} is no dataclass; write @dataclass below @{self.noun}")
            known = self.classes.get(name)
            if known is not None and (known.__module__, known.__qualname__) != (cls.__module__, cls.__qualname__):
                raise RecipeError(f"two {self.noun}s are named {name!r}: {known.__module__} and {cls.__module__}; rename one")
            self.classes[name] = cls
            return cls

        return add

    def find(self, name: object, where: str) -> type:
        if name is None:
            raise RecipeError(f"{where}: say which {self.noun}{near('', self.classes)}")
        if not isinstance(name, str):
            raise RecipeError(f"{where}: expected the {self.noun}'s name, found {name!r}{near('', self.classes)}")
        if name not in self.classes:
            raise RecipeError(f"{where}: no {self.noun} of kind {name!r}{near(name, self.classes)}")
        return self.classes[name]

    def build(self, table: Mapping[str, Any], where: str) -> T:
        """An instance from {"kind": name, **settings}. Unknown kinds and settings raise RecipeError with the near name."""
        settings = dict(table)
        return load(self.find(settings.pop("kind", None), f"{where}.kind"), settings, where)


objective: Registry = Registry("objective")
metric: Registry = Registry("metric")
reader: Registry = Registry("reader")
task: Registry = Registry("task")
family: Registry = Registry("model family")
benchmark: Registry = Registry("benchmark")
stage: Registry = Registry("curation stage")
