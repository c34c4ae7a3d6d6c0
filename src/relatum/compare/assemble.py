"""From the trials of a comparison to its report: estimates, paired differences, verdicts, grids."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence
from typing import Any

import numpy as np
import tomli_w

from ..data.rows import Row
from ..engine.train import Result
from ..jobs.rolling import Rollouts
from ..metrics.evaluate import Evaluation
from ..metrics.safety import wilson
from .curves import training_charts
from .outcomes import Outcomes
from .schema import Agreement, Arm, Cost, Difference, Estimate, LevelLoss, Measure, Report
from .showing import charts_of, grids_of, reels_of
from .statistics import Bootstrap, Scores, Statistic, rank_agreement
from .verdict import cost_ratio, difference_of_distances, difference_of_means, estimate_of, judge

__all__ = ["assemble"]

SOURCE_TABLE = ("fd", "clip_sim.source", "clip_sim", "clip_sim.target", "safety_rate")
UNITS = {"psnr": ("dB", 2), "preservation": ("dB", 2), "clip_sim": ("", 2), "fd": ("", 2), "kd": ("", 4)}
DISTANCE_RESAMPLES = 200  # of distances, each of which costs a pass over the features
COUNTED = ("fd", "kd", "fd_null", "fd_debiased", "fvd", "kvd", "kd_drift")  # printed with their n
FIXED = ("fd_null",)  # a floor, no merit
ORACLES, LEARNED = (
    ("edit_accuracy", "preservation", "attribute_accuracy", "scene_held", "frame_error"),
    ("clip_sim", "clip_dir", "featdist", "coherence", "psnr", "ssim", "drift", "flicker", "warp_error"),
)


def assemble(o: Outcomes) -> Report:
    """The whole report. Distribution metrics other than fd and kd get no interval over sources, and say so."""
    seeds = o.recipe.compare.seeds
    bootstrap = Bootstrap(len(seeds), len(o.suite.rows), o.recipe.compare.resamples, clusters=clusters_of(o.suite.rows))
    groups = f" in {bootstrap.independent} groups, which are drawn whole" if bootstrap.clusters else ""
    table = _Table(o, bootstrap)
    measures = tuple(table.measure(name) for name in table.names)
    cost = {name: _cost([o.results[name, seed] for seed in seeds]) for name in o.arms}
    differences: list[Difference] = []
    baseline, *others = o.arms
    for arm in others:
        mine = [table.difference(measure, arm, baseline) for measure in measures if table.judged(measure.metric)]
        found = [difference for difference in mine if difference is not None]
        differences += judge(found, measures, o.recipe.compare.headline, cost_ratio(cost[arm], cost[baseline]))
    if beaten := _copying_wins(o):  # said where the verdict stands: a difference between two arms that do not edit is none
        headline = o.recipe.compare.headline
        differences = [dataclasses.replace(d, words=f"{d.words} {beaten}") if d.metric == headline else d for d in differences]
    return Report(
        name=o.recipe.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        headline=o.recipe.compare.headline,
        arms=tuple(Arm(name, "", dict(changes)) for name, changes in o.arms.items()),
        seeds=tuple(seeds),
        measures=measures,
        estimates=tuple(table.estimate(arm, name) for arm in o.arms for name in table.names),
        differences=tuple(differences),
        controls=tuple(
            table.control(name, metric) for name, known in o.controls.items() for metric in table.names if metric in known.estimates
        ),
        agreements=tuple(_agreements(o)),
        loss_by_level={name: _levels([o.results[name, seed] for seed in seeds]) for name in o.arms},
        cost=cost,
        grids=grids_of(o),
        reels=reels_of(o),
        charts=(*charts_of(o, bootstrap), *training_charts(o)),
        source_title="The source's video table" if isinstance(o.suite, Rollouts) else "The source's table",
        warnings=tuple(_warnings(o)),
        not_measured=(*o.not_measured, *_never_asked(o)),
        recipe=tomli_w.dumps(o.recipe.table()),
        versions=dict(o.environment["versions"]),
        environment={k: str(v) for k, v in o.environment.items() if k not in ("versions", "command")},
        description=(
            f"{len(o.suite.rows)} held-out rows{groups}, {len(o.arms)} arms, {len(seeds)} seeds, {o.seconds:.0f} s for this call. "
            f"Controls: {'; '.join(o.controls)}."
        ),
    )


def clusters_of(rows: Sequence[Row]) -> tuple[int, ...]:
    """For each row the number of its group; empty where every row is a group of its own."""
    numbers = {group: i for i, group in enumerate(dict.fromkeys(row.group for row in rows))}
    return tuple(numbers[row.group] for row in rows) if len(numbers) < len(rows) else ()


class _Table:
    """Scores of all trials by metric, in one order of seeds and rows."""

    def __init__(self, o: Outcomes, bootstrap: Bootstrap) -> None:
        self.o, self.bootstrap = o, bootstrap
        self.ids = [row.id for row in o.suite.rows]
        self.first = next(iter(o.evaluations.values()))
        self.others: dict[tuple[str, ...], Bootstrap] = {}
        known = list(self.first.estimates)
        self.distances = dataclasses.replace(bootstrap, resamples=min(bootstrap.resamples, DISTANCE_RESAMPLES))
        self.memory: dict[tuple[int, str], dict[bytes, float]] = {}
        self.names = [n for n in SOURCE_TABLE if n in known] + [n for n in known if n not in SOURCE_TABLE]

    def measure(self, name: str) -> Measure:
        root = name.split(".")[0]
        unit, digits = UNITS.get(name, UNITS.get(root, ("", 3))) if name != "preservation.mse" else ("", 4)
        label = self.first.labels[name] + (f" n={self.first.estimates[name].n}" if root in COUNTED else "")
        better: Any = self.first.directions.get(name, "neither")
        words = {"clip_sim.source": "source–prompt", "clip_sim": "generated–prompt", "clip_sim.target": "target–prompt"}
        if name in words:
            label = f"{self.first.labels['clip_sim']} {words[name]}"
        return Measure(name, label, better, unit, digits, self.o.recipe.compare.smallest_effect.get(name), name in SOURCE_TABLE)

    def judged(self, name: str) -> bool:
        """Whether arms are set against each other in it: it has a better side, and arms can differ in it."""
        return name in self.first.directions and name not in FIXED

    def scores(self, evaluations: list[Evaluation], name: str) -> Scores:
        ids = self.first.groups.get(name, self.ids)
        return np.array([[e.scores[name].get(i, np.nan) for i in ids] for e in evaluations])

    def resampling(self, name: str) -> Bootstrap:
        """Over the suite's rows; of a benchmark's number, over its questions, those of one group drawn together."""
        if name not in self.first.groups:
            return self.bootstrap
        groups = tuple(self.first.groups[name].values())
        numbers = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        clusters = tuple(numbers[group] for group in groups) if len(numbers) < len(groups) else ()
        known = dataclasses.replace(self.bootstrap, sources=len(groups), clusters=clusters)
        return self.others.setdefault(tuple(self.first.groups[name]), known)

    def arm(self, name: str) -> list[Evaluation]:
        return [self.o.evaluations[name, seed] for seed in self.o.recipe.compare.seeds]

    def statistics(self, evaluations: list[Evaluation], name: str) -> list[Statistic] | None:
        """A distance as a function of the sources' multiplicities, which output and reference share; one a seed."""
        if any(name not in e.statistics for e in evaluations):
            return None
        return [self._remembered(e, name) for e in evaluations]

    def _remembered(self, evaluation: Evaluation, name: str) -> Statistic:
        """The same weights come again for every difference that an arm is part of."""
        order = np.argsort(np.array(self.ids))
        memory = self.memory.setdefault((id(evaluation), name), {})

        def statistic(wx: np.ndarray, wy: np.ndarray) -> float:
            key = wx.tobytes()
            if key not in memory:
                memory[key] = evaluation.statistics[name](wx[order], wy[order])
            return memory[key]

        return statistic

    def estimate(self, arm: str, name: str) -> Estimate:
        evaluations = self.arm(arm)
        if name == "safety_rate":
            return _rate(arm, evaluations)
        if name in self.first.scores:
            return estimate_of(arm, name, self.resampling(name).mean(self.scores(evaluations, name)))
        statistics = self.statistics(evaluations, name)
        if statistics is not None:
            return estimate_of(arm, name, self.distances.distance(statistics))
        values = np.array([e.estimates[name].value for e in evaluations])
        note = evaluations[0].estimates[name].note or "over seeds only"
        stderr = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 else None
        return Estimate(arm, name, float(values.mean()), None, None, stderr, evaluations[0].estimates[name].n, len(values), note)

    def control(self, control: str, name: str) -> Estimate:
        evaluation = self.o.controls[control]
        one = dataclasses.replace(self.resampling(name), seeds=1)
        if name in evaluation.scores:
            return estimate_of(control, name, one.mean(self.scores([evaluation], name), trained=False))
        statistics = self.statistics([evaluation], name)
        if statistics is not None:
            few = dataclasses.replace(one, resamples=self.distances.resamples)
            return estimate_of(control, name, few.distance(statistics, trained=False))
        e = evaluation.estimates[name]
        return Estimate(control, name, e.value, None, None, e.stderr, e.n, 1, e.note)

    def difference(self, measure: Measure, arm: str, baseline: str) -> Difference | None:
        name, both = measure.metric, (arm, baseline)
        mine, theirs = self.arm(arm), self.arm(baseline)
        if name in self.first.scores:
            return difference_of_means(measure, both, self.scores(mine, name), self.scores(theirs, name), self.resampling(name))
        a, b = self.statistics(mine, name), self.statistics(theirs, name)
        return None if a is None or b is None else difference_of_distances(measure, both, a, b, self.distances)


def _rate(arm: str, evaluations: list[Evaluation]) -> Estimate:
    """The flagged share over all seeds with Wilson's interval, which is not empty at 0 flagged."""
    flags = [f for e in evaluations for f in e.scores["safety_rate"].values() if f == f]
    if not flags:
        return Estimate(arm, "safety_rate", None, note="not measured: no checker")
    low, high = wilson(round(sum(flags)), len(flags))
    note = f"{round(sum(flags))} of {len(flags)} flagged, Wilson"
    return Estimate(arm, "safety_rate", sum(flags) / len(flags), low, high, None, len(flags), len(evaluations), note)


def _cost(results: list[Result]) -> Cost:
    speeds = [r.steps_per_second for r in results if r.steps_per_second]
    negatives = [v["mean"] for r in results for k, v in r.held_out.get("held_out", {}).items() if k.endswith("effective_negatives")]
    return Cost(
        float(np.mean(speeds)) if speeds else None,
        float(np.mean([r.seconds for r in results])),
        max((r.peak_memory for r in results if r.peak_memory), default=None),
        float(np.mean(negatives)) if negatives else None,
    )


def _levels(results: list[Result]) -> tuple[LevelLoss, ...]:
    """Held-out denoising loss by noise level, the mean over seeds."""
    rows: dict[tuple[float, float], list[dict[str, Any]]] = {}
    for result in results:
        for row in result.held_out.get("by_level", []):
            if row["term"] == "matched_error":
                rows.setdefault((row["low"], row["high"]), []).append(row)
    out = []
    for (low, high), found in sorted(rows.items()):
        errors = [row["stderr"] for row in found if row["stderr"] is not None]
        stderr = float(np.mean(errors)) if errors else None
        out.append(LevelLoss(low, high, float(np.mean([row["mean"] for row in found])), stderr, found[0]["n"]))
    return tuple(out)


def _agreements(o: Outcomes) -> list[Agreement]:
    """Spearman's correlation of each oracle with each learned metric over the baseline's samples."""
    baseline, seed = next(iter(o.arms)), o.recipe.compare.seeds[0]
    scores, ids, found = o.evaluations[baseline, seed].scores, [row.id for row in o.suite.rows], []
    for oracle in ORACLES:
        for learned in LEARNED:
            if oracle in scores and learned in scores:
                pair = np.array([[scores[oracle].get(i, np.nan), scores[learned].get(i, np.nan)] for i in ids])
                pair = pair[~np.isnan(pair).any(1)]
                if len(pair) > 2:
                    r = rank_agreement(pair[:, 0], pair[:, 1])
                    found.append(Agreement(oracle, learned, r.value, r.low, r.high, r.n, r.note))
    return found


def _warnings(o: Outcomes) -> list[str]:
    found = (
        [] if len(o.arms) < 3 else [f"{len(o.arms) - 1} arms are set against the baseline; p-values are not corrected for that."]
    )
    found += [f"{name}, seed {seed}: {text}" for (name, seed), result in o.results.items() for text in result.warnings]
    if o.skipped:
        found.append(f"{len(o.skipped)} rows were skipped; the first: {o.skipped[0]}")
    if o.recipe.compare.workers > 1:
        found.append(f"Speeds were taken with {o.recipe.compare.workers} trials side by side; cost ratios are rough.")
    found += _copying(o)
    return [*found, *filter(None, [_copying_wins(o)])]


def _copying_wins(o: Outcomes) -> str:
    """A sentence where no trial does better in the headline than leaving the source as it is; else nothing."""
    headline, copying = o.recipe.compare.headline, o.controls.get(o.suite.copying)
    if copying is None or headline not in copying.estimates:
        return ""
    sign = 1 if next(iter(o.evaluations.values())).directions.get(headline) == "higher" else -1
    best = max(sign * evaluation.estimates[headline].value for evaluation in o.evaluations.values())
    return (
        "" if best > sign * copying.estimates[headline].value else f"No trial beats the control ({o.suite.copying}) in {headline}."
    )


def _copying(o: Outcomes) -> list[str]:
    """An arm whose outputs move toward their sources while the direction of the edit gets lost."""
    baseline, *others = o.arms
    seeds = o.recipe.compare.seeds

    def mean(arm: str, name: str) -> float:
        return float(np.mean([o.evaluations[arm, seed].estimates[name].value for seed in seeds]))

    if any("clip_dir.sim_image" not in e.estimates for e in o.evaluations.values()):
        return []
    return [
        f"identity copying: {arm} is closer to its sources than {baseline} (clip_dir.sim_image) but edits less as asked (clip_dir)"
        for arm in others
        if mean(arm, "clip_dir.sim_image") > mean(baseline, "clip_dir.sim_image")
        and mean(arm, "clip_dir") < mean(baseline, "clip_dir")
    ]


def _never_asked(o: Outcomes) -> list[str]:
    """Columns of the source's table that the recipe leaves out."""
    asked = o.recipe.evaluate.metrics
    return [f"{name}: not among the recipe's metrics" for name in ("fd", "clip_sim", "safety_rate") if name not in asked]
