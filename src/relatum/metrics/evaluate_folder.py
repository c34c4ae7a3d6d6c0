"""Metrics of folders of images made by any model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ..core.errors import DataError, ShapeError
from ..imaging import decode, decode_mask, fit, fit_mask, size_of
from .base import Samples
from .evaluate import Evaluation, Evaluator, build_metrics, extractors_of
from .folders import check_pairs, listed, tables_of

__all__ = ["evaluate"]


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
    """Metrics of a folder of images from any model; of videos see `evaluate_videos`.

    generated, target, source, masks: folders of images (masks: white where the edit may change pixels); files pair by stem, and an
    image without its pair is a DataError. captions, source_captions: texts of target and source by stem.
    metrics: names, or tables of settings by name; None takes all that the given folders allow. extractor: for metrics on features;
    clip: a CLIP folder or hub id for the metrics with text ("clip": the bundled one). size: all images are cropped and resized to
    it; None takes the first generated image's short side. paired = False: target is another set, not one image for each.
    """
    folders = {"generated": generated, "target": target, "source": source}
    images = {side: listed(Path(folder), side, "images") for side, folder in folders.items() if folder is not None}
    marks = listed(Path(masks), "masks", "images") if masks is not None else {}
    texts = {side: given for side, given in (("target", captions), ("source", source_captions)) if given is not None}
    stems = sorted(images["generated"])
    paired_sides = {side: files for side, files in images.items() if paired or side != "target"}
    check_pairs(stems, paired_sides | ({"masks": marks} if masks is not None else {}), texts)
    _check_masks(marks, images)
    if size is None:
        first = images["generated"][stems[0]]
        size = min(decode(first, str(first)).shape[-2:])
    if metrics is None:
        metrics = _allowed(set(images), set(texts), bool(marks), clip, paired)
    built = build_metrics(tables_of(metrics, extractor, clip))
    evaluator = Evaluator(built, extractors_of(built, device))
    for samples in _batches(stems, paired_sides, marks, texts, size, batch):
        evaluator.update(samples)
    if not paired and "target" in images:
        for samples in _batches(sorted(images["target"]), {"target": images["target"]}, {}, {}, size, batch):
            evaluator.update(samples)
    return evaluator.compute()


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
