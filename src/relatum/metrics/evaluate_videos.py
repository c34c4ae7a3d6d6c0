"""Metrics of folders of videos made by any model: decoded one at a time, paired by stem, frame by frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, RecipeError
from ..core.registry import metric as registered
from ..video.decode import Timeline, frames_at, read_timeline
from .base import Samples
from .evaluate import Evaluation, Evaluator, build_metrics, extractors_of
from .folders import check_pairs, listed, tables_of
from .sets import Sets

__all__ = ["evaluate_videos"]

LEAST = 3  # frames of a video: below, nothing has two neighbors
LEFT_OUT = "left out"
LARGEST = 2**27  # numbers of one decoded video, half a GiB

OnBadFile = Literal["stop", "skip"]


def evaluate_videos(
    generated: str | Path,
    target: str | Path | None = None,
    captions: Mapping[str, str] | None = None,
    *,
    metrics: Mapping[str, Mapping[str, Any]] | Sequence[str] | None = None,
    extractor: str = "randconv",
    clip: str = "",
    size: int | None = None,
    frames: int | None = None,
    paired: bool = True,
    on_bad_file: OnBadFile = "stop",
    device: str = "cpu",
) -> Evaluation:
    """Metrics of a folder of videos from any model.

    generated, target: folders of videos (mp4, webm, mkv, gif, ...); files pair by stem. Frame 0 of every file counts as
    the frame that was given. A pair is cut to the shorter of both; where their rates differ, each generated frame is compared with
    the true frame of its time. captions: by stem, for the similarity to the prompt with `clip`, a CLIP folder or hub id.
    metrics: names, or tables of settings by name; None takes all that the given folders allow. extractor: for metrics on features.
    size: every frame is cropped to a square and resized to it; None takes the first generated video's short side. frames: at most
    so many of each video, from its beginning. paired = False: target is another set, for metrics between sets.
    on_bad_file: "stop" raises the DataError of a file that is no usable video; "skip" leaves it out and says so in the notes.
    """
    sides = {"generated": listed(Path(generated), "generated", "videos")}
    if target is not None:
        sides["target"] = listed(Path(target), "target", "videos")
    stems = sorted(sides["generated"])
    check_pairs(
        stems, sides if paired else {"generated": sides["generated"]}, {} if captions is None else {"target": captions}, "videos"
    )
    if frames is not None and frames < LEAST:
        raise RecipeError(f"frames: found {frames}, expected {LEAST} or more")
    reader = _Reader(frames, size, on_bad_file)
    pairs = reader.pairs(stems, sides["generated"], sides.get("target") if paired else None)
    others = {} if paired or target is None else dict(reader.pairs(sorted(sides["target"]), sides["target"], None))
    if metrics is None:
        allowed = _Allowed(target is not None, paired, bool(clip) and captions is not None)
        metrics = allowed.names(min(len(pair.indices) for pair in (*pairs.values(), *others.values())), reader.note)
    rate = median(pair.made.rate for pair in pairs.values())
    built = build_metrics(_with_known(tables_of(metrics, extractor, clip), {"clip": clip, "fps": rate}))
    evaluator = Evaluator(built, extractors_of(built, device))
    for stem, pair in pairs.items():
        videos = reader.videos(stem, pair)
        if videos:
            words = {} if captions is None else {"target": [captions[stem]]}
            evaluator.update(Samples([stem], videos=videos, texts=words))
    sets = Evaluator({name: m for name, m in built.items() if isinstance(m, Sets)}, evaluator.extractors)
    for stem, pair in others.items():
        videos = reader.videos(stem, pair)
        if videos and sets.metrics:
            sets.update(Samples([stem], videos={"target": videos["generated"]}))
    evaluation = evaluator.compute()
    evaluation.notes.extend(reader.lines())
    return evaluation


@dataclass(frozen=True)
class _Pair:
    """Which frames of a generated video stand beside which of its target's."""

    made: Timeline
    indices: tuple[int, ...]
    true: Timeline | None = None
    true_indices: tuple[int, ...] = ()


@dataclass
class _Reader:
    """Decodes pairs of videos to one size; what it leaves out or changes goes into notes, files by what happened to them."""

    frames: int | None
    size: int | None
    on_bad_file: OnBadFile
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, what: str, file: str) -> None:
        self.notes.setdefault(what, []).append(file)

    def lines(self) -> list[str]:
        """One line for each thing that happened; of many files the first three, but all that were left out."""
        lines = []
        for what, files in self.notes.items():
            named = files if what == LEFT_OUT or len(files) < 5 else [*files[:3], f"and {len(files) - 3} more"]
            lines.append(f"{what}: {'; '.join(named)}")
        return lines

    def pairs(self, stems: Sequence[str], made: Mapping[str, Path], true: Mapping[str, Path] | None) -> dict[str, _Pair]:
        """Of every stem that has usable files, from the time stamps alone."""
        found = {}
        for stem in stems:
            try:
                found[stem] = self._pair(read_timeline(made[stem]), None if true is None else read_timeline(true[stem]))
            except DataError as error:
                self._bad(stem, error)
        if not found:
            raise DataError(f"none of {len(stems)} files is a usable video: " + "; ".join(self.notes[LEFT_OUT][:3]))
        if self.size is None:
            first = next(iter(found.values())).made
            self.size = min(first.width, first.height)
        return found

    def videos(self, stem: str, pair: _Pair) -> dict[str, Float[Tensor, "1 3 t h w"]]:
        """By side; nothing for a file that is left out."""
        try:
            made = {"generated": self._decoded(pair.made, pair.indices)}
            return made | ({"target": self._decoded(pair.true, pair.true_indices)} if pair.true is not None else {})
        except DataError as error:
            self._bad(stem, error)
            return {}

    def _bad(self, stem: str, error: DataError) -> None:
        if self.on_bad_file == "stop":
            raise error
        self.note(LEFT_OUT, f"{stem} ({error})")

    def _pair(self, made: Timeline, true: Timeline | None) -> _Pair:
        for timeline in (made, true):
            if timeline is not None:
                for note in timeline.notes:
                    self.note(note, timeline.path.name)
                if len(timeline.times) < LEAST:
                    found = f"{timeline.path}: {len(timeline.times)} frames"
                    raise DataError(
                        f"{found}; metrics of videos need {LEAST} or more: leave the file out, or evaluate it as an image"
                    )
        count = min(len(made.times), self.frames or len(made.times))
        if true is None:
            indices = range(count)
            pair = _Pair(made, tuple(indices))
        elif _same_times(made, true):
            indices = range(min(count, len(true.times)))
            pair = _Pair(made, tuple(indices), true, tuple(indices))
        else:
            pair = _by_time(made, true, count)
            self.note("paired by time", f"{made.path.name} ({made.rate:.4g} frames a second, its target {true.rate:.4g})")
        if len(pair.indices) < len(made.times):
            self.note("cut to its first frames", f"{made.path.name} ({len(pair.indices)} of {len(made.times)})")
        return pair

    def _decoded(self, timeline: Timeline, indices: Sequence[int]) -> Float[Tensor, "1 3 t h w"]:
        size = min(timeline.width, timeline.height) if self.size is None else self.size
        if len(indices) * 3 * size * size > LARGEST:
            found = f"{timeline.path}: {len(indices)} frames of {size} x {size} pixels are more than one video may hold"
            raise DataError(f"{found}; give at most {max(LARGEST // (3 * size * size), 1)} frames (--frames), or a smaller size")
        found = frames_at(timeline, indices, size)
        missing = [i for i in indices if i not in found]
        if missing:
            raise DataError(
                f"{timeline.path}: {len(missing)} of {len(indices)} frames cannot be decoded, the first at "
                f"{timeline.times[missing[0]]:.2f} s; replace the file or leave it out"
            )
        return torch.stack([found[i] for i in indices], 1).float().div_(127.5).sub_(1)[None]


def _gap(timeline: Timeline) -> float:
    return median(b - a for a, b in zip(timeline.times, timeline.times[1:], strict=False))


def _same_times(made: Timeline, true: Timeline) -> bool:
    """Equal frames stand at equal times; or both run evenly, at rates that differ by what a file format rounds."""
    a, b = _gap(made), _gap(true)
    near = all(abs(x - y) <= min(a, b) / 2 for x, y in zip(made.times, true.times, strict=False))
    return near or (not made.variable and not true.variable and abs(a / b - 1) < 0.1)


def _by_time(made: Timeline, true: Timeline, count: int) -> _Pair:
    """For each generated frame the true one nearest in time. DataError where one would serve twice, or nothing is left."""
    reach = true.times[-1] + _gap(true) / 2
    indices = tuple(i for i in range(count) if made.times[i] <= reach)
    nearest = tuple(min(range(len(true.times)), key=lambda j: abs(true.times[j] - made.times[i])) for i in indices)
    if len(set(nearest)) < len(nearest):
        raise DataError(
            f"{true.path}: {true.rate:.4g} frames a second, fewer than the {made.rate:.4g} of {made.path.name}; true frames would "
            "repeat: write the generated video at the target's rate"
        )
    if len(indices) < LEAST:
        raise DataError(f"{true.path}: {len(indices)} frames lie at times of {made.path.name}; expected {LEAST} or more")
    return _Pair(made, indices, true, nearest)


@dataclass(frozen=True)
class _Allowed:
    """What the given folders hold, and the registered metrics on videos that it suffices for."""

    target: bool
    paired: bool
    captions: bool

    def names(self, shortest: int, note: Callable[[str, str], None]) -> list[str]:
        """shortest: frames of the shortest video; metrics that need more are noted."""
        names = []
        for name in sorted(registered.classes):
            try:
                metric = registered.build({"kind": name}, f"evaluate.{name}")
            except RecipeError:  # needs settings that nobody gave: to be named in `metrics`
                continue
            if not metric.needs or not all(self._met(need, isinstance(metric, Sets)) for need in metric.needs):
                continue
            if shortest < (least := getattr(metric, "least_frames", 1)):
                note(f"not measured, it needs {least} frames and the shortest video has {shortest}", name)
            else:
                names.append(name)
        return names

    def _met(self, need: str, on_sets: bool) -> bool:
        *kinds, side = need.split(":")
        if side not in ("generated", "target") or (side == "target" and not self.target and kinds[-1] != "text"):
            return False
        if kinds[0] == "features" and kinds[-1] == "text":
            return self.captions
        if kinds[0] == "features" and kinds[-1] not in ("frames", "clips"):
            return False
        return kinds[0] in ("features", "videos") and (self.paired or on_sets or side == "generated")


def _with_known(tables: dict[str, dict[str, Any]], known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Settings that the metrics leave open and the call or the files say: the joint space for the prompt, the frames a second."""
    for name, table in tables.items():
        fields = {f.name for f in dataclasses.fields(registered.find(table.get("kind", name), name))}
        for setting in fields & known.keys():
            table.setdefault(setting, known[setting])
    return tables
