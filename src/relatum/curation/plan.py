"""The stages that a recipe names, built, and the keys under which what they find is stored."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import RecipeError
from ..core.load import near
from ..core.registry import stage
from .base import Look, Measure, Split
from .settings import MEASURES, Curation

__all__ = ["Plan", "key_of", "plan_of"]


@dataclass(frozen=True)
class Plan:
    """Stages by the recipe's names, in its order."""

    measures: Mapping[str, Measure]
    split: Split
    looks: Mapping[str, Look]

    def measure_key(self, name: str) -> str:
        """Changes with whatever may change the measure's track."""
        measure = self.measures[name]
        return key_of(type(measure).__name__, measure.version, _settings(measure, measure.cheap))

    @property
    def split_key(self) -> str:
        """Changes with whatever may change the clips: the split's settings and version, and the tracks that it may read."""
        tracks = [self.measure_key(name) for name in self.measures]
        return key_of(type(self.split).__name__, getattr(self.split, "version", 1), _settings(self.split), tracks)

    def look_key(self, name: str) -> str:
        """Changes with the look's settings; what its model holds is its identity."""
        look: Any = self.looks[name]
        settings = {field.name: getattr(look, field.name) for field in dataclasses.fields(look) if field.init}
        return key_of(type(look).__name__, look.version, settings)

    @property
    def facts(self) -> list[str]:
        """All facts' full names, in order."""
        stages = {**self.measures, **self.looks}
        return [f"{name}.{fact}" for name, found in stages.items() for fact in found.writes]


def plan_of(recipe: Curation) -> Plan:
    """The recipe's measures, split and looks. RecipeError for what is unknown or of another sort."""
    from . import stages  # noqa: F401 - registers them

    tables = {**{name: {} for name in MEASURES}, **recipe.measure}
    measures = build_all("measure", tables, Measure)
    looks = build_all("look", recipe.look, Look)
    if both := sorted(set(measures) & set(looks)):
        raise RecipeError(f"look.{both[0]}: a measure has that name already; facts go by it, so name this one otherwise")
    if reserved := sorted({"timeline", "stills"} & {*measures, *looks}):
        raise RecipeError(f"{reserved[0]} is what the store calls a track of its own; name that stage otherwise")
    split: Any = _build("split", {"kind": "shots", **recipe.split}, Split)
    read = getattr(split, "measure", None)
    if read is not None and read not in measures:
        raise RecipeError(f"split.measure: no measure is named {read!r}{near(read, measures)}; the split reads its track")
    return Plan(measures, split, looks)


def build_all(section: str, tables: Mapping[str, Mapping[str, Any]], sort: type) -> dict[str, Any]:
    """The stages of one section by name, without those that are "off"."""
    found = {}
    for name, table in tables.items():
        whole = {"kind": name, **table}
        if whole["kind"] != "off":
            found[name] = _build(f"{section}.{name}", whole, sort)
    return found


def _build(where: str, table: Mapping[str, Any], sort: type) -> Any:
    built = stage.build(table, where)
    if not isinstance(built, sort):
        raise RecipeError(
            f"{where}.kind: {table['kind']!r} is not what [{where.partition('.')[0]}] takes (a {sort.__name__.lower()})"
        )
    return built


def key_of(*parts: Any) -> str:
    """16 hexadecimal digits of anything JSON can write."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _settings(built: Any, without: tuple[str, ...] = ()) -> dict[str, Any]:
    return {key: value for key, value in dataclasses.asdict(built).items() if key not in without}
