"""The numbers of all trials in one order: estimates of arms and controls, and paired differences."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..jobs.clips import Clips
from ..metrics.evaluate import Evaluation
from ..metrics.safety import wilson
from .outcomes import Outcomes
from .schema import Difference, Estimate, Measure
from .statistics import Bootstrap, Scores, Statistic
from .verdict import difference_of_distances, difference_of_means, estimate_of

__all__ = ["Table"]

SOURCE_TABLE = ("fd", "clip_sim.source", "clip_sim", "clip_sim.target", "safety_rate")
UNITS = {"psnr": ("dB", 2), "preservation": ("dB", 2), "clip_sim": ("", 2), "fd": ("", 2), "kd": ("", 4)}
DISTANCE_RESAMPLES = 200  # of distances, each of which costs a pass over the features
COUNTED = ("fd", "kd", "fd_null", "fd_debiased", "fvd", "kvd", "fd_clip", "kd_clip", "kd_drift")  # printed with their n
FIXED = ("fd_null",)  # a floor, no merit
MATCHED = "at the motion of the true videos: along each arm's own line of flicker on motion, so that moving less wins nothing"


class Table:
    """Scores of all trials by metric, in one order of seeds and rows. A trial that diverged has none."""

    def __init__(self, o: Outcomes, bootstrap: Bootstrap) -> None:
        self.o, self.first = o, o.first
        self.ids = [row.id for row in o.suite.rows]
        known = list(self.first.estimates)
        self.first_columns = [name for name in _first_columns(o) if name in known]
        self.names = [*self.first_columns, *(name for name in known if name not in self.first_columns)]
        self._bootstrap = bootstrap
        self._bootstraps: dict[tuple[Any, ...], Bootstrap] = {}
        self._memory: dict[tuple[int, str], dict[bytes, float]] = {}

    def measure(self, name: str) -> Measure:
        root = name.split(".")[0]
        unit, digits = UNITS.get(name, UNITS.get(root, ("", 3))) if name != "preservation.mse" else ("", 4)
        label = self.first.labels[name] + (f" n={self.first.estimates[name].n}" if root in COUNTED else "")
        better: Any = self.first.directions.get(name, "neither")
        words = {"clip_sim.source": "source–prompt", "clip_sim": "generated–prompt", "clip_sim.target": "target–prompt"}
        if name in words:
            label = f"{self.first.labels['clip_sim']} {words[name]}"
        note = MATCHED if kind_of(self.o, name) == "matched_flicker" else ""
        smallest = self.o.recipe.compare.smallest_effect.get(name)
        return Measure(name, label, better, unit, digits, smallest, name in self.first_columns, note)

    def judged(self, name: str) -> bool:
        """Whether arms are set against each other in it: it has a better side, and arms can differ in it."""
        return name in self.first.directions and name not in FIXED

    def scores(self, evaluations: list[Evaluation], name: str) -> Scores:
        ids = self.first.groups.get(name, self.ids)
        return np.array([[e.scores[name].get(i, np.nan) for i in ids] for e in evaluations])

    def resampling(self, name: str, seeds: int, distance: bool = False) -> Bootstrap:
        """Over so many seeds and the suite's rows; of a benchmark's number, over its questions, those of one group drawn together.

        One object for all that it is asked for alike, so that they share their draws.
        """
        groups = tuple(self.first.groups.get(name, {}).values())
        key = (seeds, distance, tuple(self.first.groups.get(name, ())))
        if key not in self._bootstraps:
            found = dataclasses.replace(self._bootstrap, seeds=seeds)
            if groups:
                numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
                clusters = tuple(numbers[group] for group in groups) if len(numbers) < len(groups) else ()
                found = dataclasses.replace(found, sources=len(groups), clusters=clusters)
            if distance:
                found = dataclasses.replace(found, resamples=min(found.resamples, DISTANCE_RESAMPLES))
            self._bootstraps[key] = found
        return self._bootstraps[key]

    def statistics(self, evaluations: list[Evaluation], name: str) -> list[Statistic] | None:
        """A distance as a function of the sources' multiplicities, which output and reference share; one a seed."""
        if any(name not in e.statistics for e in evaluations):
            return None
        return [self._remembered(e, name) for e in evaluations]

    def _remembered(self, evaluation: Evaluation, name: str) -> Statistic:
        """The same weights come again for every difference that an arm is part of."""
        order = np.argsort(np.array(self.ids))
        memory = self._memory.setdefault((id(evaluation), name), {})

        def statistic(wx: np.ndarray, wy: np.ndarray) -> float:
            key = wx.tobytes()
            if key not in memory:
                memory[key] = evaluation.statistics[name](wx[order], wy[order])
            return memory[key]

        return statistic

    def estimate(self, arm: str, name: str) -> Estimate:
        """Over the seeds with which the arm did not diverge, of which there must be one."""
        evaluations = self.o.of(arm)
        if name == "safety_rate":
            return _rate(arm, evaluations)
        if name in self.first.scores:
            return estimate_of(arm, name, self.resampling(name, len(evaluations)).mean(self.scores(evaluations, name)))
        statistics = self.statistics(evaluations, name)
        if statistics is not None:
            found = self.resampling(name, len(evaluations), True).distance(statistics)
            return _explained(estimate_of(arm, name, found), evaluations)
        values = np.array([e.estimates[name].value for e in evaluations])
        note = evaluations[0].estimates[name].note or "over seeds only"
        stderr = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        return Estimate(arm, name, float(values.mean()), None, None, stderr, evaluations[0].estimates[name].n, len(values), note)

    def control(self, control: str, name: str) -> Estimate:
        evaluation = self.o.controls[control]
        if name in evaluation.scores:
            interval = self.resampling(name, 1).mean(self.scores([evaluation], name), trained=False)
            return estimate_of(control, name, interval)
        statistics = self.statistics([evaluation], name)
        if statistics is not None:
            found = self.resampling(name, 1, True).distance(statistics, trained=False)
            return _explained(estimate_of(control, name, found), [evaluation])
        e = evaluation.estimates[name]
        return Estimate(control, name, e.value, None, None, e.stderr, e.n, 1, e.note)

    def difference(self, measure: Measure, arm: str, baseline: str) -> Difference | None:
        """Over the seeds that both have, of which there must be one; `by_seed` stays in the order of all seeds."""
        name, both = measure.metric, (arm, baseline)
        shared = [seed for seed in self.o.seeds(arm) if seed in self.o.seeds(baseline)]
        mine, theirs = self.o.of(arm, shared), self.o.of(baseline, shared)
        if name in self.first.scores:
            resampling = self.resampling(name, len(shared))
            found = difference_of_means(measure, both, self.scores(mine, name), self.scores(theirs, name), resampling)
        else:
            a, b = self.statistics(mine, name), self.statistics(theirs, name)
            if a is None or b is None:
                return None
            found = difference_of_distances(measure, both, a, b, self.resampling(name, len(shared), True))
        by_seed = dict(zip(shared, found.by_seed, strict=True))
        return dataclasses.replace(found, by_seed=tuple(by_seed.get(seed) for seed in self.o.recipe.compare.seeds))


def _first_columns(o: Outcomes) -> Sequence[str]:
    """What stands in the first table, a row an arm: the source's numbers; of clips, what follows captions, moves and flickers."""
    if not isinstance(o.suite, Clips):
        return SOURCE_TABLE
    matched = [name for name in o.recipe.evaluate.metrics if kind_of(o, name) == "matched_flicker"]
    return ("motion_caption", "motion.fastest", "flicker.f", "flicker.rho", *matched, "fd_clip", "fvd", "fd")


def kind_of(o: Outcomes, name: str) -> str:
    """The class of a metric, by the name that the recipe gives it."""
    return o.recipe.evaluate.settings.get(name, {}).get("kind", name)


def _explained(estimate: Estimate, evaluations: Sequence[Evaluation]) -> Estimate:
    """With the metric's own words on why it is undefined for a seed."""
    found = [e.estimates[estimate.metric] for e in evaluations]
    said = next((one.note for one in found if one.note and not np.isfinite(one.value)), "")
    return dataclasses.replace(estimate, note=f"{estimate.note}: {said}") if said else estimate


def _rate(arm: str, evaluations: list[Evaluation]) -> Estimate:
    """The flagged share over all seeds with Wilson's interval, which is not empty at 0 flagged."""
    flags = [f for e in evaluations for f in e.scores["safety_rate"].values() if f == f]
    if not flags:
        return Estimate(arm, "safety_rate", None, note="not measured: no checker")
    low, high = wilson(round(sum(flags)), len(flags))
    note = f"{round(sum(flags))} of {len(flags)} flagged, Wilson"
    return Estimate(arm, "safety_rate", sum(flags) / len(flags), low, high, None, len(flags), len(evaluations), note)
