"""What a report says beside its numbers: warnings, ranks of oracles and learned metrics, and what was not asked."""

from __future__ import annotations

import numpy as np

from ..jobs.clips import Clips
from .outcomes import Outcomes
from .schema import Agreement
from .statistics import rank_agreement

__all__ = ["agreements", "copying_wins", "never_asked", "warnings_of"]

ORACLES, LEARNED = (
    ("edit_accuracy", "preservation", "attribute_accuracy", "scene_held", "frame_error"),
    ("clip_sim", "clip_dir", "featdist", "coherence", "psnr", "ssim", "drift", "flicker", "warp_error"),
)


def agreements(o: Outcomes) -> list[Agreement]:
    """Spearman's correlation of each oracle with each learned metric over one trial's samples: the baseline's, where it has one."""
    trials = [o.evaluations[arm, seed] for arm in o.arms for seed in o.seeds(arm)]
    if not trials:
        return []
    scores, ids, found = trials[0].scores, [row.id for row in o.suite.rows], []
    for oracle in ORACLES:
        for learned in LEARNED:
            if oracle in scores and learned in scores:
                pair = np.array([[scores[oracle].get(i, np.nan), scores[learned].get(i, np.nan)] for i in ids])
                pair = pair[~np.isnan(pair).any(1)]
                if len(pair) > 2:
                    r = rank_agreement(pair[:, 0], pair[:, 1])
                    found.append(Agreement(oracle, learned, r.value, r.low, r.high, r.n, r.note))
    return found


def warnings_of(o: Outcomes) -> list[str]:
    found = (
        [] if len(o.arms) < 3 else [f"{len(o.arms) - 1} arms are set against the baseline; p-values are not corrected for that."]
    )
    found += [f"{name}, seed {seed}: {text}" for (name, seed), result in o.results.items() for text in result.warnings]
    if o.skipped:
        found.append(f"{len(o.skipped)} rows were skipped; the first: {o.skipped[0]}")
    if o.recipe.compare.workers > 1:
        found.append(f"Speeds were taken with {o.recipe.compare.workers} trials side by side; cost ratios are rough.")
    found += _copying(o)
    return [*found, *filter(None, [copying_wins(o)])]


def copying_wins(o: Outcomes) -> str:
    """A sentence where no trial does better in the headline than leaving the source as it is; else nothing."""
    headline, copying = o.recipe.compare.headline, o.controls.get(o.suite.copying)
    if copying is None or headline not in copying.estimates or not o.evaluations:
        return ""
    sign = 1 if o.first.directions.get(headline) == "higher" else -1
    best = max(sign * evaluation.estimates[headline].value for evaluation in o.evaluations.values())
    return (
        "" if best > sign * copying.estimates[headline].value else f"No trial beats the control ({o.suite.copying}) in {headline}."
    )


def _copying(o: Outcomes) -> list[str]:
    """An arm whose outputs move toward their sources while the direction of the edit gets lost."""
    baseline, *others = [arm for arm in o.arms if o.seeds(arm)] or [""]

    def mean(arm: str, name: str) -> float:
        return float(np.mean([e.estimates[name].value for e in o.of(arm)]))

    if any("clip_dir.sim_image" not in e.estimates for e in o.evaluations.values()) or baseline != next(iter(o.arms)):
        return []
    return [
        f"identity copying: {arm} is closer to its sources than {baseline} (clip_dir.sim_image) but edits less as asked (clip_dir)"
        for arm in others
        if mean(arm, "clip_dir.sim_image") > mean(baseline, "clip_dir.sim_image")
        and mean(arm, "clip_dir") < mean(baseline, "clip_dir")
    ]


def never_asked(o: Outcomes) -> list[str]:
    """Columns of the source's table that the recipe leaves out; of clips there is no such table."""
    if isinstance(o.suite, Clips):
        return []
    asked = o.recipe.evaluate.metrics
    return [f"{name}: not among the recipe's metrics" for name in ("fd", "clip_sim", "safety_rate") if name not in asked]
