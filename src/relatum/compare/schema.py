"""report.json: everything that report.html and report.md show, as frozen values. docs/report-schema.md describes each field."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..core.errors import DataError, RelatumError
from ..core.load import load
from .animations import Film, Reel, Reels, picture, png_size
from .charts import Chart, Curve, Point
from .divergence import Divergence

__all__ = [
    "SCHEMA_VERSION",
    "Agreement",
    "Arm",
    "Chart",
    "Cost",
    "Curve",
    "Difference",
    "Divergence",
    "Estimate",
    "Film",
    "Grid",
    "LevelLoss",
    "Measure",
    "Point",
    "Reel",
    "Reels",
    "Report",
    "Row",
    "from_json",
    "picture",
    "to_json",
]

SCHEMA_VERSION = 1
UNDEFINED = "undefined"


def _undefined_to_none(value: Any, *names: str) -> None:
    """Numbers that are not finite become None, and the value says why in its note."""
    for name in names:
        number = getattr(value, name)
        if number is not None and not math.isfinite(number):
            object.__setattr__(value, name, None)
    if getattr(value, names[0]) is None and not value.note:
        object.__setattr__(value, "note", UNDEFINED)


@dataclass(frozen=True)
class Arm:
    """One configuration. differences: what its recipe changes, as "section.key": "value". The first arm is the baseline."""

    name: str
    description: str = ""
    differences: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A metric as the report prints it. label: the honest name ("fd[clip-tiny 3f9a] n=200"). unit: "", "dB", "%".

    digits: after the point. smallest_effect: the smallest difference that matters, in the metric's unit, for "no worse".
    source_table: whether it stands in the source's table or in the one below.
    """

    metric: str
    label: str
    better: Literal["higher", "lower", "neither"]
    unit: str = ""
    digits: int = 3
    smallest_effect: float | None = None
    source_table: bool = False
    note: str = ""


@dataclass(frozen=True)
class Estimate:
    """One metric of one arm or control. value is None where undefined, and note says why."""

    arm: str
    metric: str
    value: float | None
    low: float | None = None
    high: float | None = None
    stderr: float | None = None
    n: int = 0
    seeds: int = 1
    note: str = ""

    def __post_init__(self) -> None:
        _undefined_to_none(self, "value", "low", "high", "stderr")


@dataclass(frozen=True)
class Difference:
    """arm - baseline of one metric, in its unit. verdict judges with the metric's direction; words says it in a sentence."""

    arm: str
    baseline: str
    metric: str
    estimate: float | None
    low: float | None
    high: float | None
    seeds: int
    n: int
    by_seed: tuple[float | None, ...] = ()
    p_sign_flip: float | None = None
    p_holm: float | None = None
    p_wilcoxon: float | None = None
    p_mcnemar: float | None = None
    superiority: float | None = None
    undefined: int = 0
    verdict: Literal["better", "no worse", "no evidence", "worse", "diverged"] = "no evidence"
    words: str = ""
    seed_limited: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        _undefined_to_none(self, "estimate", "low", "high", "p_sign_flip", "p_holm", "p_wilcoxon", "p_mcnemar", "superiority")
        finite = tuple(None if step is None or not math.isfinite(step) else step for step in self.by_seed)
        object.__setattr__(self, "by_seed", finite)


@dataclass(frozen=True)
class Agreement:
    """Spearman's rank correlation of an oracle metric with a learned one over the same samples."""

    oracle: str
    learned: str
    value: float | None
    low: float | None = None
    high: float | None = None
    n: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        _undefined_to_none(self, "value", "low", "high")


@dataclass(frozen=True)
class LevelLoss:
    """Held-out loss in one bin of noise levels, [low, high) in the path's own time."""

    low: float
    high: float
    loss: float | None
    stderr: float | None = None
    n: int = 0
    note: str = ""

    def __post_init__(self) -> None:
        _undefined_to_none(self, "loss", "stderr")


@dataclass(frozen=True)
class Cost:
    """What one run of an arm took, the mean over its seeds. None: not measured."""

    steps_per_second: float | None
    seconds: float | None
    peak_memory_bytes: int | None = None
    effective_negatives: float | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _undefined_to_none(self, "steps_per_second", "seconds", "effective_negatives")


@dataclass(frozen=True)
class Row:
    """One held-out example: images by column ("source", "target", an arm's name), base64 of a PNG; all arms from the same noise."""

    id: str
    instruction: str = ""
    captions: Mapping[str, str] = field(default_factory=dict)
    images: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for column, image in self.images.items():
            png_size(image, f"grid row {self.id!r}, image {column!r}")


@dataclass(frozen=True)
class Grid:
    """Rows of images under named columns."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True)
class Report:
    """One comparison. arms[0] is the baseline. headline: the metric declared in advance. controls: estimates that no arm made
    (copying the source, the codec's round trip of the target, the real target), under the control's name as `arm`.
    monitors: what was seen inside the networks while they trained. divergences: trials that broke off; estimates are of the others.
    source_title: the heading of the table of measures that have `source_table`."""

    name: str
    created: str
    headline: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    measures: tuple[Measure, ...]
    estimates: tuple[Estimate, ...]
    differences: tuple[Difference, ...] = ()
    controls: tuple[Estimate, ...] = ()
    agreements: tuple[Agreement, ...] = ()
    loss_by_level: Mapping[str, tuple[LevelLoss, ...]] = field(default_factory=dict)
    cost: Mapping[str, Cost] = field(default_factory=dict)
    grids: tuple[Grid, ...] = ()
    warnings: tuple[str, ...] = ()
    not_measured: tuple[str, ...] = ()
    recipe: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    description: str = ""
    charts: tuple[Chart, ...] = ()
    reels: tuple[Reels, ...] = ()
    monitors: tuple[Chart, ...] = ()
    divergences: tuple[Divergence, ...] = ()
    source_title: str = "The source's table"
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if self.schema_version != SCHEMA_VERSION:
            raise DataError(f"report schema version {self.schema_version}, expected {SCHEMA_VERSION}")
        arms, metrics = {arm.name for arm in self.arms}, {measure.metric for measure in self.measures}
        if not self.arms or len(arms) < len(self.arms):
            raise DataError(f"report {self.name!r}: arms must be named, each once; found {[arm.name for arm in self.arms]}")
        named = [self.headline, *(value.metric for value in (*self.estimates, *self.controls, *self.differences))]
        for metric in named:
            if metric not in metrics:
                raise DataError(f"report {self.name!r}: metric {metric!r} has no entry in measures; known: {sorted(metrics)}")
        used = [*(e.arm for e in self.estimates), *(d.arm for d in self.differences), *(d.baseline for d in self.differences)]
        drawn = [curve.arm for chart in (*self.charts, *self.monitors) for curve in chart.curves if not curve.control]
        broken = [found.arm for found in self.divergences]
        for arm in [*used, *drawn, *broken, *self.loss_by_level, *self.cost]:
            if arm not in arms:
                raise DataError(f"report {self.name!r}: {arm!r} is not one of its arms; known: {sorted(arms)}")


def to_json(report: Report) -> str:
    """Strict JSON (RFC 8259: no NaN), UTF-8 text, indented."""
    return json.dumps(dataclasses.asdict(report), allow_nan=False, ensure_ascii=False, indent=2) + "\n"


def from_json(text: str, where: str = "report.json") -> Report:
    """The report again. Unknown or missing fields, wrong types and another schema version raise DataError that names the place."""
    try:
        table = json.loads(text, parse_constant=_refuse)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from error
    if not isinstance(table, dict) or table.get("schema_version") != SCHEMA_VERSION:
        found = table.get("schema_version") if isinstance(table, dict) else None
        raise DataError(
            f"{where}: schema version {found!r}, expected {SCHEMA_VERSION}; write it again with this version of relatum"
        )
    try:
        return load(Report, table, where)
    except DataError:
        raise
    except RelatumError as error:
        raise DataError(str(error)) from error


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is not a number that JSON knows")
