"""Strict loading of dataclasses from tables: an unknown key, a wrong type or a missing value is an error that names its place."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from .errors import RecipeError

__all__ = ["load", "near"]

T = TypeVar("T")


def near(word: str, known: Iterable[str]) -> str:
    """'; did you mean ...?' for a word that is nearly one of `known`, else the list of them."""
    known = sorted(known)
    close = difflib.get_close_matches(word, known, 1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(known) or 'none'}"


def load(cls: type[T], table: object, where: str) -> T:
    """An instance of the dataclass `cls`. `where` is the table's place in the recipe, for messages ("train.optimizer")."""
    if not isinstance(table, Mapping):
        raise RecipeError(f"{_place(where)}expected a table, found {_name(table)}")
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in table:
        if key not in fields:
            raise RecipeError(f"{_join(where, key)}: {cls.__name__} has no setting {key!r}{near(key, fields)}")
    for key, f in fields.items():
        if key not in table and f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise RecipeError(f"{_place(where)}{cls.__name__} needs a value for {key!r} ({_words(hints[key])})")
    values = {key: _value(hints[key], value, _join(where, key)) for key, value in table.items()}
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own __post_init__ refused the values
        if isinstance(error, RecipeError) and (not where or where in str(error)):
            raise
        raise RecipeError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, where: str) -> Any:
    """`value` as `hint` wants it, or RecipeError. Integers serve as floats, which are finite; nothing else is converted."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(args, value, hint, where)
    if origin is Literal:
        if value not in args or isinstance(value, bool) != any(isinstance(a, bool) and a == value for a in args):
            words = {str(a) for a in args}
            raise RecipeError(f"{where}: found {value!r}, expected one of {', '.join(map(repr, args))}{_near_only(value, words)}")
        return value
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else load(hint, value, where)  # type: ignore[arg-type]
    if origin in (tuple, list):
        return _sequence(origin, args, value, where)
    if origin in (dict, Mapping) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        if not isinstance(value, Mapping):
            raise RecipeError(f"{where}: expected a table, found {_name(value)}")
        return {key: _value(args[1], item, _join(where, key)) for key, item in value.items()}
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return _finite(value, where)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is type(None):
        hint = types.NoneType
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise RecipeError(f"{where}: expected {_words(hint)}, found {_name(value)}")
    return value


def _finite(value: float, where: str) -> float:
    try:
        number = float(value)
    except OverflowError:  # TOML's integers have no end
        number = math.inf
    if not math.isfinite(number):
        raise RecipeError(f"{where}: expected a finite number, found {number}")
    return number


def _first_that_fits(args: tuple[Any, ...], value: Any, hint: Any, where: str) -> Any:
    errors = []
    for arg in args:
        try:
            return _value(arg, value, where)
        except RecipeError as error:
            errors.append(error)
    real = [a for a in args if a is not type(None)]
    if len(real) == 1:  # Optional[X]: X's own message is the helpful one
        raise errors[args.index(real[0])]
    raise RecipeError(f"{where}: expected {_words(hint)}, found {_name(value)}")


def _sequence(origin: type, args: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, list | tuple):
        raise RecipeError(f"{where}: expected a list, found {_name(value)}")
    if origin is list or (len(args) == 2 and args[1] is Ellipsis):
        return origin(_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(args):
        raise RecipeError(f"{where}: expected {len(args)} values, found {len(value)}")
    return tuple(_value(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(zip(args, value, strict=True)))


def _near_only(value: object, words: Iterable[str]) -> str:
    hint = near(str(value), words)
    return hint if "did you mean" in hint else ""


def _place(where: str) -> str:
    return f"{where}: " if where else ""


def _join(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _words(hint: Any) -> str:
    plain = {
        float: "a number",
        int: "a whole number",
        str: "a string",
        bool: "true or false",
        Path: "a path",
        types.NoneType: "nothing",
    }
    if get_origin(hint) in (Union, types.UnionType):
        return " or ".join(_words(a) for a in get_args(hint) if a is not type(None))
    if get_origin(hint) in (tuple, list):
        return "a list"
    if get_origin(hint) in (dict, Mapping):
        return "a table"
    return plain.get(hint, getattr(hint, "__name__", str(hint)))


def _name(value: Any) -> str:
    kinds = {dict: "a table", list: "a list", str: "the string", bool: "the boolean", int: "the number", float: "the number"}
    word = kinds.get(type(value), type(value).__name__)
    return word if isinstance(value, dict | list) else f"{word} {value!r}"
