"""One pass over samples feeds every metric."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..core.errors import DataError
from ..core.registry import metric as registered
from ..pretrained import Extractor, open_extractor
from .base import Estimate, MeanMetric, Metric, Samples, mean_of
from .oracle import Eye
from .reading import Reading
from .safety import Checker
from .sets import Sets, Statistic

__all__ = ["Evaluation", "Evaluator", "build_metrics", "extractors_of"]


@dataclass(frozen=True)
class Evaluation:
    """What one pass gives, by metric name; further numbers of a metric are named "metric.what" ("clip_sim.source").

    scores: {id: score} of metrics that are means over samples. sets: of metrics on sets, (ids, features, ids, features) of
    generated and target. statistics: where such a metric has a weighted form, its number as a function of multiplicities (wx, wy)
    of generated and target, each in the order of the sorted ids (that of `sets`), with the metric's own settings; for a bootstrap.
    labels: the honest name to print. fingerprints: of the extractor, "" without. directions: "higher" or "lower" is better, of
    the numbers that have a better side; the others only describe. series: of metrics on videos, {id: one value a frame} by
    "metric.what" ("drift.sharpness"), value 0 of the given frame. curves: of metrics on sets of videos, one estimate a frame.
    groups: of numbers on other rows than the samples, such as a benchmark's questions, the group of each by id.
    notes: what was left out or changed on the way.
    """

    estimates: dict[str, Estimate]
    scores: dict[str, dict[str, float]]
    sets: dict[str, tuple[list[str], Tensor, list[str], Tensor]]
    labels: dict[str, str]
    fingerprints: dict[str, str]
    statistics: dict[str, Statistic] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    series: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    curves: dict[str, list[Estimate]] = field(default_factory=dict)
    groups: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def plain(self) -> dict[str, dict[str, Any]]:
        """The estimates as JSON holds them: NaN is null. A metric's series by name and id, and its curve, lie in its own table."""
        values = {name: dataclasses.asdict(estimate) for name, estimate in self.estimates.items()}
        for name, table in values.items():
            table["label"] = self.labels[name]
            table["value"] = _plain(table["value"])
        for name, series in self.series.items():
            metric, _, what = name.rpartition(".")
            values[metric].setdefault("series", {})[what] = {i: [_plain(v) for v in row] for i, row in series.items()}
        for name, curve in self.curves.items():
            values[name]["curve"] = [{"value": _plain(e.value), "stderr": e.stderr, "n": e.n} for e in curve]
        return values

    def reading(self, name: str) -> Reading:
        """The estimate as `comparable` takes it."""
        return Reading(
            name, self.estimates[name], self.fingerprints[name], biased=name.split(".")[0] in ("fd", "fd_null", "fd_clip", "fvd")
        )


@dataclass
class Evaluator:
    """metrics by the name to print, fed from one embedding of every image and text an extractor is asked for.

    extractors: by the name that the metrics' settings use. eye, checker: handed to the metrics that read scenes or check safety.
    """

    metrics: Mapping[str, Metric]
    extractors: Mapping[str, Extractor] = field(default_factory=dict)
    eye: Eye | None = None
    checker: Checker | None = None

    def __post_init__(self) -> None:
        for metric in self.metrics.values():
            for part in ("eye", "checker"):
                if hasattr(metric, part) and getattr(self, part) is not None:
                    setattr(metric, part, getattr(self, part))

    def update(self, samples: Samples) -> None:
        """Embed once, then feed all. DataError names the metric and what it misses."""
        samples = self.embedded(samples)
        for name, metric in self.metrics.items():
            missing = [need for need in sorted(metric.needs) if not _has(samples, need)]
            if missing and not (isinstance(metric, Sets) and len(missing) == 1):  # sets may come one side at a time
                raise DataError(f"metric {name} needs {', '.join(missing)}; samples {samples.ids[0]!r}, ... do not have it")
            metric.update(samples)

    def embedded(self, samples: Samples) -> Samples:
        """The same samples with every feature that some metric needs or wants and that can be had.

        "X:side": of the image, "X:text:side": of the text, "X:frames:side": of every frame (b t d), "X:clips:side": of whole clips.
        """
        features = dict(samples.features)
        for name in sorted(self._feature_names(), key=lambda name: (":clips:" in name, name)):  # clips may use their frames
            if name in features:
                continue
            extractor, kind, side = _split(name)
            inputs: Any = getattr(samples, _INPUTS[kind]).get(side)
            if inputs is None:
                continue
            if extractor not in self.extractors:
                raise DataError(f"features {name!r} need extractor {extractor!r}, which was not given")
            network = self.extractors[extractor]
            if kind == "clips":
                features[name] = network.clips(inputs, features.get(f"{extractor}:frames:{side}"))
            else:
                features[name] = {"text": network.texts, "frames": network.frames, "": network.images}[kind](inputs)
        return dataclasses.replace(samples, features=features)

    def merge(self, other: Evaluator) -> None:
        """Take in what another process saw with the same metrics."""
        for name, metric in self.metrics.items():
            metric.merge(other.metrics[name])

    def compute(self) -> Evaluation:
        result = Evaluation({}, {}, {}, {}, {})
        for name, metric in self.metrics.items():
            extractor = self.extractors.get(getattr(metric, "extractor", ""))
            if extractor is not None and (getattr(metric, "of", "") == "clips:" or getattr(metric, "over_time", False)):
                extractor = extractor.of_clips()
            self._add(result, name, metric.compute(), extractor, getattr(metric, "printed", name))
            result.directions[name] = metric.better
            if isinstance(metric, Sets):
                self._add_sets(result, name, metric)
            if isinstance(metric, MeanMetric):
                self._add_scores(result, name, metric, extractor)
        return result

    def _add_sets(self, result: Evaluation, name: str, metric: Sets) -> None:
        result.sets[name] = metric.sets
        statistic = metric.statistic()
        if statistic is not None:
            result.statistics[name] = statistic
        curve = getattr(metric, "curves", [])
        if curve:
            result.curves[name] = curve

    def _add_scores(self, result: Evaluation, name: str, metric: MeanMetric, extractor: Extractor | None) -> None:
        result.scores[name] = dict(metric.scores)
        ways = {f"{name}.{what}": way for what, way in metric.also_better.items() if what in metric.also}
        result.directions.update(ways)
        others = getattr(metric, "also_extractors", {})
        for what, scores in metric.also.items():
            of = self.extractors.get(others.get(what, ""), extractor)
            self._add(result, f"{name}.{what}", mean_of(scores), of, f"{name}.{what}")
            result.scores[f"{name}.{what}"] = dict(scores)
        result.series.update({f"{name}.{what}": dict(values) for what, values in metric.series.items()})

    def _add(self, result: Evaluation, name: str, estimate: Estimate, extractor: Extractor | None, printed: str) -> None:
        result.estimates[name] = estimate
        result.labels[name] = extractor.label(printed) if extractor else printed
        result.fingerprints[name] = extractor.fingerprint if extractor else ""

    def _feature_names(self) -> set[str]:
        names = set()
        for metric in self.metrics.values():
            names |= metric.needs | getattr(metric, "wants", frozenset())
        return {name.removeprefix("features:") for name in names if name.startswith("features:")}


_INPUTS = {"": "pixels", "text": "texts", "frames": "videos", "clips": "videos"}


def _split(name: str) -> tuple[str, str, str]:
    """("clip", "text", "target") of "clip:text:target"; an extractor's name may itself hold colons."""
    extractor, _, side = name.rpartition(":")
    for kind in ("text", "frames", "clips"):
        if extractor.endswith(f":{kind}"):
            return extractor.removesuffix(f":{kind}"), kind, side
    return extractor, "", side


def _plain(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _has(samples: Samples, need: str) -> bool:
    kind, _, name = need.partition(":")
    if kind == "facts":
        return len(samples.facts) == len(samples)
    return name in getattr(samples, kind)


def build_metrics(tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Metric]:
    """Metrics from a recipe's tables by name; `kind` is the name unless a table says otherwise."""
    return {name: registered.build({"kind": name, **table}, f"evaluate.{name}") for name, table in tables.items()}


def extractors_of(metrics: Mapping[str, Metric], device: str = "cpu") -> dict[str, Extractor]:
    """Every extractor that the metrics name, opened once."""
    names = {getattr(metric, setting, "") for metric in metrics.values() for setting in ("extractor", "clip")} - {""}
    return {name: open_extractor(name, device) for name in sorted(names)}
