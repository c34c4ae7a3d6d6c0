"""One pass over samples feeds every metric; and the same for folders of images made by any model."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError, ShapeError
from ..core.registry import metric as registered
from ..imaging import decode, decode_mask, fit, fit_mask, size_of
from .base import Estimate, MeanMetric, Metric, Samples, mean_of
from .extractors import Extractor, Reading, open_extractor
from .oracle import Eye
from .safety import Checker
from .sets import FeatureSets, Statistic

__all__ = ["Evaluation", "Evaluator", "build_metrics", "evaluate", "extractors_of"]

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp"}


@dataclass(frozen=True)
class Evaluation:
    """What one pass gives, by metric name; further numbers of a metric are named "metric.what" ("clip_sim.source").

    scores: {id: score} of metrics that are means over samples. sets: of metrics on sets, (ids, features, ids, features) of
    generated and target. statistics: where such a metric has a weighted form, its number as a function of multiplicities (wx, wy)
    of generated and target, each in the order of the sorted ids (that of `sets`), with the metric's own settings; for a bootstrap.
    labels: the honest name to print. fingerprints: of the extractor, "" without. directions: "higher" or "lower" is better, of
    the numbers that have a better side; the others only describe.
    """

    estimates: dict[str, Estimate]
    scores: dict[str, dict[str, float]]
    sets: dict[str, tuple[list[str], Tensor, list[str], Tensor]]
    labels: dict[str, str]
    fingerprints: dict[str, str]
    statistics: dict[str, Statistic] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Estimate:
        return self.estimates[name]

    def plain(self) -> dict[str, dict[str, Any]]:
        """The estimates as JSON holds them: NaN is null."""
        values = {name: dataclasses.asdict(estimate) for name, estimate in self.estimates.items()}
        for name, table in values.items():
            table["label"] = self.labels[name]
            table["value"] = None if table["value"] != table["value"] else table["value"]
        return values

    def reading(self, name: str) -> Reading:
        """The estimate as `comparable` takes it."""
        return Reading(name, self.estimates[name], self.fingerprints[name], biased=name.split(".")[0] in ("fd", "fd_null"))


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
            if missing and not (isinstance(metric, FeatureSets) and len(missing) == 1):  # sets may come one side at a time
                raise DataError(f"metric {name} needs {', '.join(missing)}; samples {samples.ids[0]!r}, ... do not have it")
            metric.update(samples)

    def embedded(self, samples: Samples) -> Samples:
        """The same samples with every feature that some metric needs or wants and that can be had."""
        features = dict(samples.features)
        for name in sorted(self._feature_names()):
            if name in features:
                continue
            extractor, what = _split(name)
            kind, _, side = what.rpartition(":")
            inputs: Any = samples.texts.get(side) if kind == "text" else samples.pixels.get(side)
            if inputs is None:
                continue
            if extractor not in self.extractors:
                raise DataError(f"features {name!r} need extractor {extractor!r}, which was not given")
            network = self.extractors[extractor]
            features[name] = network.texts(inputs) if kind == "text" else network.images(inputs)
        return dataclasses.replace(samples, features=features)

    def merge(self, other: Evaluator) -> None:
        """Take in what another process saw with the same metrics."""
        for name, metric in self.metrics.items():
            metric.merge(other.metrics[name])

    def compute(self) -> Evaluation:
        result = Evaluation({}, {}, {}, {}, {})
        for name, metric in self.metrics.items():
            extractor = self.extractors.get(getattr(metric, "extractor", ""))
            self._add(result, name, metric.compute(), extractor)
            result.directions[name] = metric.better
            if isinstance(metric, FeatureSets):
                result.sets[name] = metric.sets
                statistic = metric.statistic()
                if statistic is not None:
                    result.statistics[name] = statistic
            if isinstance(metric, MeanMetric):
                result.scores[name] = dict(metric.scores)
                ways = {f"{name}.{what}": way for what, way in metric.also_better.items() if what in metric.also}
                result.directions.update(ways)
                for what, scores in metric.also.items():
                    self._add(result, f"{name}.{what}", mean_of(scores), extractor)
                    result.scores[f"{name}.{what}"] = dict(scores)
        return result

    def _add(self, result: Evaluation, name: str, estimate: Estimate, extractor: Extractor | None) -> None:
        result.estimates[name] = estimate
        result.labels[name] = extractor.label(name) if extractor else name
        result.fingerprints[name] = extractor.fingerprint if extractor else ""

    def _feature_names(self) -> set[str]:
        names = set()
        for metric in self.metrics.values():
            names |= metric.needs | getattr(metric, "wants", frozenset())
        return {name.removeprefix("features:") for name in names if name.startswith("features:")}


def _split(name: str) -> tuple[str, str]:
    """("clip", "text:target") of "clip:text:target"; an extractor's name may itself hold colons."""
    if ":text:" in name:
        extractor, _, side = name.rpartition(":text:")
        return extractor, f"text:{side}"
    extractor, _, side = name.rpartition(":")
    return extractor, side


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
    names = {getattr(metric, "extractor", "") for metric in metrics.values()} - {""}
    return {name: open_extractor(name, device) for name in sorted(names)}


def evaluate(
    generated: str | Path,
    target: str | Path | None = None,
    source: str | Path | None = None,
    captions: Mapping[str, str] | None = None,
    source_captions: Mapping[str, str] | None = None,
    masks: str | Path | None = None,
    *,
    metrics: Mapping[str, Mapping[str, Any]] | Sequence[str] | None = None,
    extractor: str = "randconv",
    clip: str = "",
    size: int | None = None,
    paired: bool = True,
    batch: int = 32,
    device: str = "cpu",
) -> Evaluation:
    """Metrics of a folder of images from any model.

    generated, target, source, masks: folders of images (masks: white where the edit may change pixels); files pair by stem, and an
    image without its pair is a DataError. captions, source_captions: texts of target and source by stem.
    metrics: names, or tables of settings by name; None takes all that the given folders allow. extractor: for metrics on features;
    clip: a CLIP folder or hub id for the metrics with text ("clip": the bundled one). size: all images are cropped and resized to
    it; None takes the first generated image's short side. paired = False: target is another set, not one image for each.
    """
    folders = {"generated": generated, "target": target, "source": source}
    images = {side: _listed(Path(folder), side) for side, folder in folders.items() if folder is not None}
    marks = _listed(Path(masks), "masks") if masks is not None else {}
    texts = {side: given for side, given in (("target", captions), ("source", source_captions)) if given is not None}
    stems = sorted(images["generated"])
    paired_sides = {side: files for side, files in images.items() if paired or side != "target"}
    _check_pairs(stems, paired_sides | ({"masks": marks} if masks is not None else {}), texts)
    _check_masks(marks, images)
    if size is None:
        first = images["generated"][stems[0]]
        size = min(decode(first, str(first)).shape[-2:])
    if metrics is None:
        metrics = _allowed(set(images), set(texts), bool(marks), clip, paired)
    built = build_metrics(_tables(metrics, extractor, clip))
    evaluator = Evaluator(built, extractors_of(built, device))
    for samples in _batches(stems, paired_sides, marks, texts, size, batch):
        evaluator.update(samples)
    if not paired and "target" in images:
        for samples in _batches(sorted(images["target"]), {"target": images["target"]}, {}, {}, size, batch):
            evaluator.update(samples)
    return evaluator.compute()


def _listed(folder: Path, side: str) -> dict[str, Path]:
    """Image files by stem."""
    if not folder.is_dir():
        raise DataError(f"{side}: {folder} is no folder")
    found: dict[str, Path] = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        if path.stem in found:
            raise DataError(f"{side}: {found[path.stem]} and {path} have one stem; pairing needs different ones")
        found[path.stem] = path
    if not found:
        raise DataError(f"{side}: no images in {folder} (looked for {', '.join(sorted(SUFFIXES))})")
    return found


def _check_pairs(stems: Sequence[str], files: Mapping[str, Mapping[str, Path]], texts: Mapping[str, Mapping[str, str]]) -> None:
    for side, known in {**files, **{f"{name} captions": given for name, given in texts.items()}}.items():
        missing = [stem for stem in stems if stem not in known]
        surplus = [stem for stem in sorted(known) if stem not in set(stems)] if side in files else []
        if missing:
            raise DataError(f"{side}: nothing for {missing[0]!r} ({len(missing)} of {len(stems)} generated images lack their pair)")
        if surplus:
            raise DataError(f"{side}: {known[surplus[0]]} has no generated image ({len(surplus)} such files)")


def _check_masks(masks: Mapping[str, Path], images: Mapping[str, Mapping[str, Path]]) -> None:
    """A mask lies on the pixel grid of its generated or its source image; resized from another, it would mark other things."""
    for stem, path in masks.items():
        found = size_of(path, str(path))
        sizes = {side: size_of(f[stem], str(f[stem])) for side, f in images.items() if side != "target" and stem in f}
        if found not in sizes.values():
            words = ", ".join(f"the {side} image {h} x {w}" for side, (h, w) in sizes.items())
            raise ShapeError(f"masks: {path} has {found[0]} x {found[1]} pixels (height x width), {words}; give masks of that size")


def _allowed(sides: set[str], texts: set[str], masks: bool, clip: str, paired: bool) -> list[str]:
    """The metrics whose needs the given folders meet."""
    names = []
    if "target" in sides:
        names += ["fd", "fd_null", "fd_debiased", "kd"] + (["psnr", "ssim", "featdist"] if paired else [])
    region = masks or (paired and "target" in sides)
    if "source" in sides and region:
        names += ["coherence", "preservation"] + (["edit_accuracy"] if paired and "target" in sides else [])
    if clip and "target" in texts:
        names += ["clip_sim"] + (["clip_dir"] if "source" in texts and "source" in sides else [])
    if not names:
        raise DataError("nothing to measure: give a target folder, a source folder with masks, or captions with a clip model")
    return names


def _tables(metrics: Mapping[str, Mapping[str, Any]] | Sequence[str], extractor: str, clip: str) -> dict[str, dict[str, Any]]:
    tables = {n: dict(t) for n, t in metrics.items()} if isinstance(metrics, Mapping) else {n: {} for n in metrics}
    for name, table in tables.items():
        cls = registered.find(table.get("kind", name), name)
        if any(f.name == "extractor" for f in dataclasses.fields(cls)):
            table.setdefault("extractor", (clip or "clip") if name.startswith("clip") else extractor)
    return tables


def _batches(
    stems: Sequence[str],
    images: Mapping[str, Mapping[str, Path]],
    masks: Mapping[str, Path],
    texts: Mapping[str, Mapping[str, str]],
    size: int,
    batch: int,
) -> Iterator[Samples]:
    """Decoded a batch at a time; a side that has no such file (unpaired) was left out before."""
    for start in range(0, len(stems), batch):
        ids = list(stems[start : start + batch])
        pixels = {side: torch.stack([fit(decode(f[i], str(f[i])), size) for i in ids]) for side, f in images.items()}
        marked = {"changed": torch.stack([fit_mask(decode_mask(masks[i], str(masks[i])), size) for i in ids])} if masks else {}
        yield Samples(ids, pixels, marked, {side: [given[i] for i in ids] for side, given in texts.items()})
