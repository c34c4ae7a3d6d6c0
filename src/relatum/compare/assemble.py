"""From the trials of a comparison to its report: estimates, paired differences, verdicts, grids."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tomli_w

from ..data.rows import Row
from ..engine.train import Result
from ..jobs.clips import Clips
from ..jobs.rolling import Rollouts
from .curves import training_charts
from .divergence import diverged_words
from .monitoring import monitor_charts
from .outcomes import Outcomes
from .remarks import agreements, copying_wins, never_asked, warnings_of
from .schema import Arm, Cost, Difference, LevelLoss, Measure, Report
from .showing import charts_of, grids_of, reels_of
from .statistics import Bootstrap
from .tables import Table
from .verdict import cost_ratio, judge

__all__ = ["assemble"]


def assemble(o: Outcomes) -> Report:
    """The whole report. Distribution metrics other than fd and kd get no interval over sources, and say so."""
    seeds, headline = o.recipe.compare.seeds, o.recipe.compare.headline
    bootstrap = Bootstrap(len(seeds), len(o.suite.rows), o.recipe.compare.resamples, clusters=clusters_of(o.suite.rows))
    groups = f" in {bootstrap.independent} groups, which are drawn whole" if bootstrap.clusters else ""
    table = Table(o, bootstrap)
    measures = tuple(table.measure(name) for name in table.names)
    if headline not in table.names:  # a benchmark's, and no trial that came to its end was asked
        measures = (*measures, Measure(headline, headline, "neither"))
    alive = [arm for arm in o.arms if o.seeds(arm)]
    cost = {name: _cost(o, name) for name in alive}
    broke = f" {len(o.divergences)} of {len(o.arms) * len(seeds)} trials diverged." if o.divergences else ""
    return Report(
        name=o.recipe.name,
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        headline=headline,
        arms=tuple(Arm(name, "", dict(changes)) for name, changes in o.arms.items()),
        seeds=tuple(seeds),
        measures=measures,
        estimates=tuple(table.estimate(arm, name) for arm in alive for name in table.names),
        differences=_differences(o, table, measures, cost),
        controls=tuple(
            table.control(name, metric) for name, known in o.controls.items() for metric in table.names if metric in known.estimates
        ),
        agreements=tuple(agreements(o)),
        loss_by_level={name: _levels([o.results[name, seed] for seed in o.seeds(name)]) for name in alive},
        cost=cost,
        grids=grids_of(o),
        reels=reels_of(o),
        charts=(*charts_of(o, bootstrap), *training_charts(o)),
        monitors=monitor_charts(o),
        divergences=tuple(o.divergences),
        source_title=_source_title(o),
        warnings=tuple(warnings_of(o)),
        not_measured=(*o.not_measured, *never_asked(o)),
        recipe=tomli_w.dumps(o.recipe.table()),
        versions=dict(o.environment["versions"]),
        environment={k: str(v) for k, v in o.environment.items() if k not in ("versions", "command")},
        description=(
            f"{len(o.suite.rows)} held-out rows{groups}, {len(o.arms)} arms, {len(seeds)} seeds, {o.seconds:.0f} s for this call. "
            f"Controls: {'; '.join(o.controls)}.{broke}"
        ),
    )


def _source_title(o: Outcomes) -> str:
    if isinstance(o.suite, Clips):
        return "Captions, motion and flicker"
    return "The source's video table" if isinstance(o.suite, Rollouts) else "The source's table"


def clusters_of(rows: Sequence[Row]) -> tuple[int, ...]:
    """For each row the number of its group; empty where every row is a group of its own."""
    numbers = {group: i for i, group in enumerate(dict.fromkeys(row.group for row in rows))}
    return tuple(numbers[row.group] for row in rows) if len(numbers) < len(rows) else ()


def _differences(o: Outcomes, table: Table, measures: Sequence[Measure], cost: Mapping[str, Cost]) -> tuple[Difference, ...]:
    """Every arm against the baseline, judged. What diverged is said where the verdict stands."""
    headline, (baseline, *others) = o.recipe.compare.headline, o.arms
    beaten = copying_wins(o)  # a difference between two arms that do not edit is none
    out: list[Difference] = []
    for arm in others:
        told = [words for name in (arm, baseline) if (words := diverged_words(name, o.recipe.compare.seeds, o.divergences))]
        shared = len({*o.seeds(arm)} & {*o.seeds(baseline)})
        if not shared:
            out.append(_not_compared(o, arm, baseline, told))
            continue
        mine = [table.difference(measure, arm, baseline) for measure in measures if table.judged(measure.metric)]
        found = [difference for difference in mine if difference is not None]
        for d in judge(found, measures, headline, cost_ratio(cost[arm], cost[baseline])):
            count = "one seed" if shared == 1 else f"{shared} seeds"
            words = f"{'. '.join(told)}. In the {count} that both have: {d.words}" if told else d.words
            out.append(dataclasses.replace(d, words=f"{words} {beaten}" if beaten and d.metric == headline else words))
    return tuple(out)


def _not_compared(o: Outcomes, arm: str, baseline: str, told: Sequence[str]) -> Difference:
    """The headline's place for an arm that shares no seed with the baseline."""
    why = "they share no seed that did not diverge" if o.seeds(baseline) else "the baseline has no estimates"
    if not o.seeds(arm):
        why = "it has no estimates"
    words = f"{'. '.join(told)}. Nothing can be compared: {why}."
    verdict = "no evidence" if o.seeds(arm) else "diverged"
    return Difference(
        arm,
        baseline,
        o.recipe.compare.headline,
        None,
        None,
        None,
        0,
        0,
        verdict=verdict,
        words=words,
        note="no seed that both have",
    )


def _cost(o: Outcomes, arm: str) -> Cost:
    results = [o.results[arm, seed] for seed in o.seeds(arm)]
    speeds = [r.steps_per_second for r in results if r.steps_per_second]
    negatives = [v["mean"] for r in results for k, v in r.held_out.get("held_out", {}).items() if k.endswith("effective_negatives")]
    return Cost(
        float(np.mean(speeds)) if speeds else None,
        float(np.mean([r.seconds for r in results])),
        max((r.peak_memory for r in results if r.peak_memory), default=None),
        float(np.mean(negatives)) if negatives else None,
        f"{len(results)} of {len(o.recipe.compare.seeds)} seeds" if len(results) < len(o.recipe.compare.seeds) else "",
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
