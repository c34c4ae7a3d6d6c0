"""What a report shows beside its tables: pictures side by side, rollouts that play side by side, curves over their steps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy import stats
from torch import Tensor
from torch.nn.functional import interpolate

from ..data.rows import Row as Held
from ..imaging import png_bytes
from ..jobs.clips import Clips
from ..jobs.rolling import Rollouts
from ..metrics.evaluate import Evaluation
from .animations import WIDEST, Film, Reel, Reels, film_of
from .charts import Chart, Curve, Point
from .outcomes import Outcomes
from .schema import Grid, Row, picture
from .statistics import Bootstrap

__all__ = ["charts_of", "grids_of", "reels_of"]

EDGES = (160, 112, 80, 56, 40)  # pixels of a film in the page: the first with which all films together are not too heavy
HEAVIEST = 12 * 2**20  # letters of base64
CURVE_RESAMPLES = 500  # of each point; a report has some thousands of them
BETTER = {
    "scene_held.attributes": "higher", "scene_held.position": "lower", "scene_held.spurious": "lower", "frame_error.error": "lower",
    "drift.error": "lower", "drift.like_truth": "higher", "drift.prompt": "higher", "flicker.f": "lower",
}  # fmt: skip
SERIES = "Pointwise 95 % intervals: bootstrap over seeds and sources; of controls, over sources."
SETS = "Pointwise 95 % intervals: Student's t over seeds; of controls, and of a single seed, jackknife over rows."


def grids_of(o: Outcomes) -> tuple[Grid, ...]:
    """Held-out edits, or pictures, of every arm."""
    if isinstance(o.suite, Rollouts | Clips):
        return ()
    seed, arms, rows = *_shown(o), []
    for i, row in enumerate(o.suite.rows[: o.recipe.compare.grid_rows]):
        images = {n: row.images[n].pixels(o.suite.size) for n in ("source", "target") if n in row.images}
        images |= {arm: o.made[arm, seed][i] for arm in arms}
        captions = {k: v for k, v in row.texts.items() if k != "instruction"}
        pictures = {name: picture(png_bytes(pixels)) for name, pixels in images.items()}
        rows.append(Row(row.id, row.texts.get("instruction", ""), captions, pictures))
    columns = tuple(n for n in ("source", "target") if rows and n in rows[0].images)
    note = f"Seed {seed}; every arm starts from the same noise. The first rows, not chosen.{_missing(o)}"
    return (Grid("Held-out edits", (*columns, *arms), tuple(rows), note),)


def _shown(o: Outcomes) -> tuple[int, list[str]]:
    """The seed whose results are shown, and the arms that did not diverge with it."""
    return o.shown, [arm for arm in o.arms if o.shown in o.seeds(arm)]


def _missing(o: Outcomes) -> str:
    """A sentence on the arms that are not shown; nothing where all are."""
    lost = [arm for arm in o.arms if o.shown not in o.seeds(arm)]
    return f" Not shown: {', '.join(lost)}, which diverged with this seed." if lost else ""


def reels_of(o: Outcomes) -> tuple[Reels, ...]:
    """Videos of every arm from the same noise, the true video beside them where it is known.

    Rollouts: the true one at the left. Clips: the baseline at the left, the arms at its right, the true clip last.
    """
    rows = o.suite.rows[: o.recipe.compare.grid_rows]
    if not rows or not isinstance(o.suite, Rollouts | Clips):
        return ()
    (seed, arms), truth = _shown(o), o.suite.truth(rows)
    videos = {arm: o.made[arm, seed] for arm in arms} | ({} if truth is None else {"real": truth})
    if not videos:
        return ()
    if isinstance(o.suite, Rollouts):
        columns, text = (*(["real"] if truth is not None else []), *arms), "instruction"
        title, asked, note = "Rollouts", "Instruction", "all arms continue the same first frame with the same noise"
    else:
        columns, text = (*arms, "real"), "target"
        title, asked, note = "Clips", "Caption", "same noise, same caption" + (", same first frame" if o.suite.given else "")
        note += f"; {arms[0]} at the left, the true clip at the right" if arms else "; the true clip"
    films, told = _films(videos, [_pace(o, row) for row in rows])
    reels = [Reel(row.id, row.texts.get(text, ""), {}, found) for row, found in zip(rows, films, strict=True)]
    return (Reels(title, columns, tuple(reels), f"Seed {seed}; {note}. The first rows, not chosen.{told}{_missing(o)}", asked),)


def _pace(o: Outcomes, row: Held) -> float:
    """Frames a second of a row's video, slowed or hastened to what one can watch."""
    offset = o.recipe.rollout.offset if isinstance(o.suite, Rollouts) else None
    return min(max(1 / float(offset or row.facts.get("offset", 1.0)), 2.0), 12.0)


def _films(videos: Mapping[str, Tensor], rates: Sequence[float]) -> tuple[list[dict[str, Film]], str]:
    """A film a row and column, and a sentence on what was left out. videos: (n 3 t h w) of one size and length, by column.

    As large as all films together may be: a page is to be opened by people.
    """
    _, _, frames, _, width = next(iter(videos.values())).shape
    films: list[dict[str, Film]] = []
    told = ""
    for edge in EDGES:
        every = math.ceil(frames * min(width, edge) / WIDEST)
        small = {name: [_small(film.transpose(0, 1)[::every], edge) for film in video] for name, video in videos.items()}
        films = [{name: film_of(small[name][i], rate) for name in videos} for i, rate in enumerate(rates)]
        told = f" Every {every}th frame." if every > 1 else ""
        told += f" Shrunk from {width} to {edge} pixels." if edge < width else ""
        if sum(len(film.sheet) for row in films for film in row.values()) <= HEAVIEST:
            break
    return films, told


def _small(video: Tensor, edge: int) -> Tensor:
    """At most `edge` pixels an edge."""
    scale = min(1.0, edge / max(video.shape[-2:]))
    return video if scale == 1 else interpolate(video, scale_factor=scale, mode="area").clamp(-1, 1)


def charts_of(o: Outcomes, bootstrap: Bootstrap) -> tuple[Chart, ...]:
    """A chart for every value that some metric keeps by frame: a curve an arm and a control, with 95 % intervals."""
    few = dataclasses.replace(bootstrap, resamples=min(CURVE_RESAMPLES, bootstrap.resamples))
    over = {count: dataclasses.replace(few, seeds=count) for count in {1, *(len(o.seeds(arm)) for arm in o.arms)} - {0}}
    first, ids = o.first, [row.id for row in o.suite.rows]
    alive = {arm: o.of(arm) for arm in o.arms if o.seeds(arm)}
    kinds = {name: o.recipe.evaluate.settings.get(name, {}).get("kind", name) for name in o.recipe.evaluate.metrics}
    x_label, charts = "frame" if isinstance(o.suite, Clips) else "step", []
    for name in shown_series(first.series, kinds):
        arms = [_curve(arm, found, name, ids, over[len(found)]) for arm, found in alive.items()]
        with_it = {control: e for control, e in o.controls.items() if name in e.series}
        others = [_curve(control, [evaluation], name, ids, over[1], True) for control, evaluation in with_it.items()]
        charts.append(_chart(name.replace(".", ": ", 1), name, better_of(name, kinds), x_label, SERIES, [*arms, *others]))
    for name in first.curves:
        arms = [_set_curve(arm, found, name) for arm, found in alive.items()]
        others = [_set_curve(control, [e], name, True) for control, e in o.controls.items() if name in e.curves]
        charts.append(_chart(first.labels[name], name, first.directions.get(name, "neither"), x_label, SETS, [*arms, *others]))
    return tuple(charts)


def shown_series(names: Iterable[str], kinds: Mapping[str, str]) -> list[str]:
    """Series that get a chart, "metric.what": all, but `drift`'s error only where `frame_error` does not show the same. kinds: of
    the metrics by name."""
    own = [(name, kinds.get(name.partition(".")[0], name.partition(".")[0])) for name in names]
    twice = any(kind == "frame_error" for _, kind in own)
    return [name for name, kind in own if not (twice and kind == "drift" and name.endswith(".error"))]


def better_of(name: str, kinds: Mapping[str, str]) -> str:
    """Which side of a series "metric.what" is better, "neither" of one that only describes. kinds: as of `shown_series`."""
    metric, _, what = name.partition(".")
    return BETTER.get(f"{kinds.get(metric, metric)}.{what}", "neither")


def _chart(title: str, metric: str, better: str, x_label: str, note: str, curves: Sequence[Curve]) -> Chart:
    return Chart(title, metric, x_label, "", better, tuple(curves), note)  # type: ignore[arg-type]


def _curve(
    arm: str, evaluations: Sequence[Evaluation], name: str, ids: Sequence[str], bootstrap: Bootstrap, control: bool = False
) -> Curve:
    """Means over seeds and sources at every frame; frame 0 is the given one."""
    values = np.array([[e.series[name][i] for i in ids] for e in evaluations], dtype=np.float64)  # (seeds, sources, frames)
    points = []
    for step in range(values.shape[2]):
        if not np.isnan(values[:, :, step]).all():
            found = bootstrap.mean(values[:, :, step], trained=not control)
            points.append(Point(step, found.value, found.low, found.high))
    return Curve(arm, tuple(points), control)


def _set_curve(arm: str, evaluations: Sequence[Evaluation], name: str, control: bool = False) -> Curve:
    """Distances of sets at every frame: Student's interval over seeds; of a control, of its own standard error."""
    points = []
    for step, estimates in enumerate(zip(*(e.curves[name] for e in evaluations), strict=True)):
        values = np.array([estimate.value for estimate in estimates])
        error = estimates[0].stderr
        reach = None if error is None else 1.96 * error
        if not control and len(values) > 1:
            reach = float(stats.t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / math.sqrt(len(values)))
        mean = float(values.mean())
        points.append(Point(step, mean, None if reach is None else mean - reach, None if reach is None else mean + reach))
    return Curve(arm, tuple(points), control)
