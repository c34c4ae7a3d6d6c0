"""Other values for the settings of a dataclass, found from their types: for tests that turn every knob."""

from __future__ import annotations

import types
import typing
from typing import Any, Literal, Union, get_args, get_origin

__all__ = ["alternatives"]


def alternatives(cls: type, name: str, current: Any) -> list[Any]:
    """Values that the setting `name` of `cls` may take instead of `current`, best first."""
    return [value for value in _values(typing.get_type_hints(cls)[name], current) if value != current]


def _values(hint: Any, current: Any) -> list[Any]:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        rest = [value for arg in args if arg is not types.NoneType for value in _values(arg, current)]
        return [*rest, None] if types.NoneType in args else rest
    if origin is Literal:
        return list(args)
    if hint is bool:
        return [True, False]
    if hint is int:
        return [1, 2, 0] if current is None else [current + 1, current * 2, current - 1]
    if hint is float:
        if not current:  # off, or not given
            return [0.5, 0.05, 0.9, 2.0, 10.0]
        return [current * 0.9, current * 0.25, current * 4, current * 0.01, current * 100, 0.0]
    return []
