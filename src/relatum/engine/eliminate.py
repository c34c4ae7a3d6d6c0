"""The best of many candidates without scoring all of them in full: rounds over nested levels, from which what has lost drops out.

Li et al. 2023 (Diffusion Classifier, algorithm 2) keep a fixed number of candidates a round; here one goes when the errors say so,
and the chance of having dropped the full ranking's winner is bounded. What the bound says and assumes: see `eliminate`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from scipy import stats

from ..core.errors import DataError, RecipeError
from ..core.shapes import Pixels
from .match import DiffusionScorer, distinct, every_pair, match_errors, match_levels

__all__ = ["Decided", "Eliminated", "Errors", "Round", "best_image", "best_text", "decide", "eliminate", "evidence", "rounds_of"]

Errors = Callable[[Sequence[int], Sequence[int]], Float[np.ndarray, "c k"]]
"""(candidates, levels) -> the errors of those candidates at those places in the nested order."""

RIVALS = 2  # against whom candidates are tested
FIRST = (2, 6, 8, 10, 12, 16)  # levels after the first rounds; then half as many again and a third more, in turns
EFFECT = 1.0  # standard deviation of the effect size, mean over spread, in the mixture of `evidence`


@dataclass(frozen=True)
class Round:
    """levels: seen by every survivor so far. survivors: candidates that go on."""

    levels: int
    survivors: tuple[int, ...]


@dataclass(frozen=True)
class Eliminated:
    """winner: index of the candidate. evaluations: of the UNet, where full scoring needs `full`. bound: on the chance that the full
    ranking has another winner; 0 where nothing was dropped before the last level."""

    winner: int
    evaluations: int
    full: int
    rounds: tuple[Round, ...]
    bound: float


@dataclass(frozen=True)
class Decided:
    """winner: 0 or 1. decided: whether the evidence sufficed within the levels; else the winner is the full ranking's.

    levels: how many were used. evidence: at the end, for the two being unequal, against 1 for equal; 1 / alpha is needed.
    """

    winner: int
    decided: bool
    levels: int
    evidence: float


def rounds_of(levels: int) -> tuple[int, ...]:
    """Levels seen after each round, up to all.

    >>> rounds_of(64)
    (2, 6, 8, 10, 12, 16, 24, 32, 48, 64)
    """
    ends = [*FIRST, 24]
    while ends[-1] < levels:
        ends.append(ends[-1] // 3 * 4 if ends[-1] % 3 == 0 else ends[-1] // 2 * 3)
    return (*(end for end in ends if end < levels), levels)


def eliminate(
    errors: Errors, count: int, places: Float[np.ndarray, "k"], delta: float = 0.01, rounds: Sequence[int] | None = None
) -> Eliminated:
    """The candidate of `count` with the least mean error over all levels, found by rounds.

    places: where each level lies on the schedule, in the order of evaluation. The leader after a round is named a rival, up to two.
    In later rounds a candidate goes when its mean error exceeds a rival's by more than Student's t times the standard error, on the
    levels since the rival was named, which are new: naming it does not bias the test. What was seen before counts as known.

    Bound: the returned winner is that of all `len(places)` levels with probability at least 1 - delta over the order of the levels
    and the noise. Only dropping the full ranking's winner matters, and it is tested against two rivals a round, so delta is shared
    by those tests, not by candidates. Nothing is said of another seed's or of infinitely many levels' winner. Assumes that a mean
    of paired differences over the tested levels is near normal, and that its spread is what neighbors on the schedule show
    (successive differences, von Neumann 1941; Wolter 2007, 8.2) with its correction for a finite set; a trend over levels widens
    it. RecipeError for no candidates or a delta outside (0, 1), DataError for an error that is not finite.
    """
    total = len(places)
    if count < 1 or total < 1:
        raise RecipeError(f"eliminate: {count} candidates and {total} levels, expected 1 or more of each")
    if not 0 < delta < 1:
        raise RecipeError(f"eliminate: delta is {delta}, expected more than 0, less than 1")
    ends = tuple(rounds_of(total) if rounds is None else rounds)
    if list(ends) != sorted({*ends}) or ends[0] < 1 or ends[-1] != total:
        raise RecipeError(f"eliminate: rounds end after {ends} levels; expected rising numbers up to {total}")
    tests = max(sum(min(i, RIVALS) for i in range(1, len(ends) - 1)), 1)
    seen, alive, spent, dropped = np.full((count, total), np.nan), np.arange(count), 0, False
    rivals: dict[int, int] = {}  # each with the levels after which it was named
    history, before = [], 0
    for end in ends:
        seen[alive, before:end] = _finite(errors(alive.tolist(), range(before, end)))
        spent, before = spent + len(alive) * (end - before), end
        leader = int(alive[seen[alive, :end].mean(1).argmin()])
        if end < total:
            here = {int(np.flatnonzero(alive == rival)[0]): since for rival, since in rivals.items() if rival in alive}
            keep = ~_beaten(seen[alive, :end], here, places, delta / tests) | (alive == leader)
            dropped, alive = dropped or not keep.all(), alive[keep]
            if len(rivals) < RIVALS and leader not in rivals:
                rivals[leader] = end
        history.append(Round(end, tuple(alive.tolist())))
        if len(alive) == 1:
            break
    winner = int(alive[seen[alive, :before].mean(1).argmin()])
    return Eliminated(winner, spent, count * total, tuple(history), delta if dropped else 0.0)


def _finite(errors: np.ndarray) -> np.ndarray:
    if not np.isfinite(errors).all():
        raise DataError("a score is not finite; a model that scores so cannot be judged")
    return errors


def _beaten(seen: np.ndarray, rivals: dict[int, int], places: np.ndarray, level: float) -> np.ndarray:
    """Which rows of `seen` (candidates, levels so far) lie above a rival's in the mean over all places: a one-sided test each."""
    end, total = seen.shape[1], len(places)
    beaten = np.zeros(len(seen), np.bool_)
    for rival, since in rivals.items():
        n, left = end - since, total - since
        if n < 2:
            continue
        steps = seen - seen[rival]
        known = steps[:, :since].sum(1) / left  # of the whole mean only what is still to come is uncertain
        new = steps[:, since:]
        ordered = new[:, np.argsort(places[since:end], kind="stable")]
        variance = (np.diff(ordered, axis=1) ** 2).sum(1) / (2 * (n - 1))
        freedom = 2 * (n - 1) ** 2 / (3 * n - 4)
        margin = stats.t.ppf(1 - level, freedom) * np.sqrt(variance * (1 / n - 1 / left))
        beaten |= new.mean(1) + known > margin
    return beaten


def evidence(differences: Float[np.ndarray, "n"]) -> float:
    """For a mean other than 0 against a mean of 0, of independent normal values of unknown spread: a ratio of likelihoods.

    The effect size has a normal prior, the spread Haar's (Rouder et al. 2009 with fixed g): with t the one-sample statistic,
    (1 + ng)^-1/2 ((1 + t^2 / v) / (1 + t^2 / (v (1 + ng))))^(n / 2), v = n - 1. If the mean is 0 it ever reaches 1 / alpha with
    probability alpha at most, however often it is looked at (Lai 1976; Perez-Ortiz et al. 2024).
    """
    n, g = len(differences), EFFECT**2
    if n < 2:
        return 1.0
    spread, mean = float(differences.std(ddof=1)), float(differences.mean())
    if spread == 0:
        return 1.0 if mean == 0 else math.inf
    share = n * mean**2 / spread**2 / (n - 1)
    return math.exp(min(n / 2 * (math.log1p(share) - math.log1p(share / (1 + n * g))) - math.log1p(n * g) / 2, 700.0))


def decide(errors: Errors, levels: int, alpha: float = 0.01, step: int = 2) -> Decided:
    """Which of candidates 0 and 1 has the lower error, looked at after every `step` levels and decided as soon as it is clear.

    Bound: of two candidates whose errors are equal in expectation one is preferred with probability alpha at most, whenever it
    stops, and of unequal ones the worse with less. That is over levels and noise without end, not the full ranking: after all
    `levels` the one of lower mean is taken and `decided` is False. Assumes paired differences that are normal and no more alike
    than independent ones; stratified levels are less. DataError for an error that is not finite.
    """
    if levels < 1 or step < 1 or not 0 < alpha < 1:
        raise RecipeError(f"decide: {levels} levels, {step} a step, alpha {alpha}; expected 1 or more, 1 or more, between 0 and 1")
    seen = np.zeros(0)
    while True:
        more = _finite(errors([0, 1], range(len(seen), min(len(seen) + step, levels))))
        seen = np.concatenate([seen, more[1].astype(np.float64) - more[0]])
        weight = evidence(seen)
        if weight >= 1 / alpha or len(seen) == levels:
            return Decided(int(seen.mean() < 0), weight >= 1 / alpha, len(seen), weight)


def best_text(scorer: DiffusionScorer, image: Pixels, texts: Sequence[str], delta: float = 0.01) -> Eliminated:
    """Which text fits the image (1 3 h w) best, as the full ranking by `scorer.settings` would say; see `eliminate`."""
    tokens, row = scorer.tokens(texts)
    latents = scorer.latents(image)

    def errors(candidates: Sequence[int], levels: Sequence[int]) -> np.ndarray:
        pairs = torch.stack([torch.zeros(len(candidates), dtype=torch.long), torch.tensor(candidates)], 1)
        scorer.evaluations += len(pairs) * len(levels)
        return match_errors(scorer.model, latents, tokens, pairs, scorer.settings, levels).double().numpy()

    return _first(eliminate(errors, len(tokens), _places(scorer), delta), row.tolist(), scorer, len(texts))


def best_image(scorer: DiffusionScorer, images: Pixels, text: str, delta: float = 0.01) -> Eliminated:
    """Which image fits the text best, minus the empty text's score; each level costs two evaluations an image. See `eliminate`."""
    tokens = torch.cat([scorer.tokens([text])[0], scorer.tokens([""])[0]])
    latents = scorer.latents(images)
    firsts = distinct(latents)
    own = firsts.unique()
    row = [int((own == first).nonzero()[0]) for first in firsts]

    def errors(candidates: Sequence[int], levels: Sequence[int]) -> np.ndarray:
        pairs = every_pair(len(candidates), 2)
        both = match_errors(scorer.model, latents[own[list(candidates)]], tokens, pairs, scorer.settings, levels).double()
        scorer.evaluations += both.numel()
        return (both[0::2] - both[1::2]).numpy()

    return _first(eliminate(errors, len(own), _places(scorer), delta), row, scorer, len(images), 2)


def _places(scorer: DiffusionScorer) -> np.ndarray:
    return match_levels(scorer.settings, scorer.model.path, range(scorer.settings.levels)).time.double().numpy()


def _first(result: Eliminated, row: list[int], scorer: DiffusionScorer, count: int, cost: int = 1) -> Eliminated:
    """The same in the words of all candidates, of which equal ones were tried once: the first of them stands for all."""
    rounds = tuple(Round(r.levels, tuple(row.index(one) for one in r.survivors)) for r in result.rounds)
    full = count * scorer.settings.levels * cost
    return Eliminated(row.index(result.winner), result.evaluations * cost, full, rounds, result.bound)
