"""Elimination and the test for two: the same winner for fewer evaluations, and as often wrong as they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torch import Tensor

from relatum.core.errors import DataError, RecipeError
from relatum.engine.eliminate import Errors, best_image, best_text, decide, eliminate, evidence, rounds_of
from relatum.engine.match import DiffusionScorer, Matching, every_pair
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.tiny import tiny_stable_diffusion


def table(values: np.ndarray, calls: list[int] | None = None) -> Errors:
    """Errors out of a table (candidates, levels); `calls` counts those that were asked for."""

    def errors(candidates: Sequence[int], levels: Sequence[int]) -> np.ndarray:
        if calls is not None:
            calls.append(len(candidates) * len(levels))
        return values[np.ix_(list(candidates), list(levels))]

    return errors


def test_rounds_grow_and_end_with_all_levels() -> None:
    assert rounds_of(64) == (2, 6, 8, 10, 12, 16, 24, 32, 48, 64)
    assert rounds_of(100)[-3:] == (64, 96, 100)
    assert rounds_of(1) == (1,)


@pytest.mark.parametrize(("by", "evaluations"), [(0.44, 16), (0.46, 10)])
def test_a_round_by_hand(by: float, evaluations: int) -> None:
    """Eight levels, rounds after 2, 5 and 8, delta .1: one test, after 5.

    Candidate 0 leads after 2 levels, by .1 each. Of the next, at places .9, .1 and .5, it leads by `by` - .5, `by` and `by` + .5;
    in order of place: by, by + .5, by - .5. Successive differences .5 and -1, variance (.25 + 1) / (2 * 2) = .3125. Degrees of
    freedom 2 * 4 / (9 - 4) = 1.6, whose t at .9 is 2.1120. Margin 2.1120 sqrt(.3125 (1/3 - 1/6)) = .4820. The mean of the new
    ones, `by`, and what is known, .2 / 6 = .0333, exceed it from by = .4487 on: then candidate 1 goes, after 10 evaluations.
    """
    values = np.zeros((2, 8))
    values[1] = [0.1, 0.1, by - 0.5, by, by + 0.5, 1, 1, 1]
    places = np.array([0.3, 0.7, 0.9, 0.1, 0.5, 0.2, 0.4, 0.6])
    calls: list[int] = []
    result = eliminate(table(values, calls), 2, places, 0.1, (2, 5, 8))
    assert (result.winner, result.evaluations, sum(calls), result.full) == (0, evaluations, evaluations, 16)
    assert result.bound == (0.1 if evaluations < 16 else 0.0)
    assert [(r.levels, r.survivors) for r in result.rounds][:2] == [(2, (0, 1)), (5, (0,) if evaluations < 16 else (0, 1))]


def flat(draw: Generator) -> np.ndarray:
    return draw.normal(size=(12, 64))


def uneven(draw: Generator) -> np.ndarray:
    """Spread that grows thirtyfold over the schedule."""
    return draw.normal(size=(12, 64)) * (0.1 + 3 * np.linspace(0, 1, 64) ** 2)


def sloping(draw: Generator) -> np.ndarray:
    """Each candidate has a slope of its own over the schedule, of mean 0."""
    return 0.5 * draw.normal(size=(12, 64)) + 4 * draw.normal(size=(12, 1)) * np.linspace(-0.5, 0.5, 64)


@pytest.mark.parametrize("make", [flat, uneven, sloping])
def test_the_bound_holds_for_errors_of_known_means(make: Callable[[Generator], np.ndarray]) -> None:
    """12 candidates of equal mean but one .2 below or level with it, in 400 sets; the full ranking's winner is missed in at most
    delta = .1 of them (binomial: 40 + 3 sd of 6). Where the gap is 1, 2.5 times fewer evaluations find the true one."""
    draw, wrong, spent, right = np.random.default_rng(0), 0, 0, 0
    order = np.array([int(f"{k:06b}"[::-1], 2) for k in range(64)])  # van der Corput's
    places = order / 64
    for trial in range(400):
        values = make(draw)[:, order]
        values[3] -= 0.2 * (trial % 2)
        result = eliminate(table(values), 12, places, 0.1)
        wrong += result.winner != values.mean(1).argmin()
        assert result.bound in (0.0, 0.1)
        values[3] -= 1
        clear = eliminate(table(values), 12, places, 0.1)
        spent, right = spent + clear.evaluations, right + (clear.winner == values.mean(1).argmin())
    assert wrong <= 40 + 18
    assert right >= 360
    assert 400 * 12 * 64 / spent > (1.3 if make is uneven else 2.0)


def test_equal_errors_are_never_dropped_and_the_first_wins() -> None:
    values = np.tile(np.random.default_rng(0).normal(size=64), (5, 1))
    result = eliminate(table(values), 5, np.arange(64) / 64)
    assert (result.winner, result.evaluations, result.bound) == (0, 5 * 64, 0.0)


def test_evidence_by_hand() -> None:
    """1 and 3: mean 2, variance 2, t^2 = 2 * 4 / 2 = 4, v = 1: 3^-1/2 (5 / (1 + 4/3))^(2/2) = .57735 * 2.142857."""
    assert evidence(np.array([1.0, 3.0])) == pytest.approx(0.5773503 * 2.1428571, rel=1e-6)
    assert evidence(np.array([-10.0, -30.0])) == pytest.approx(evidence(np.array([1.0, 3.0])))
    assert evidence(np.array([5.0])) == evidence(np.zeros(4)) == 1.0
    assert evidence(np.ones(4)) == np.inf


def test_looking_after_every_level_errs_no_more_than_alpha() -> None:
    """1000 pairs of equal mean, looked at up to 63 times, alpha .05: at most 50 + 3 sd of 7 prefer one."""
    draw = np.random.default_rng(1)
    values = draw.normal(size=(1000, 64)) * np.exp(draw.normal(size=(1000, 1)))
    decided = sum(decide(table(np.stack([np.zeros(64), row])), 64, 0.05, 1).decided for row in values)
    assert 0 < decided <= 50 + 21


def test_two_candidates_are_decided_early_or_at_the_cap() -> None:
    """Candidate 1 lies lower by 2 of spread 1: clear within 16 of 64 levels. By .01: the mean of all levels says."""
    row, calls = np.random.default_rng(2).normal(size=64), []
    early = decide(table(np.stack([np.zeros(64), row - 2]), calls), 64)
    assert early.winner == 1
    assert early.decided
    assert early.levels <= 16
    assert sum(calls) == 2 * early.levels
    late = decide(table(np.stack([np.zeros(64), row - row.mean() + 0.01])), 64)
    assert (late.winner, late.decided, late.levels) == (0, False, 64)


def test_a_score_that_is_not_finite_names_no_winner() -> None:
    """Candidate 1 is not finite at the third level alone, which a round or a look from level 2 on asks for."""
    values = np.random.default_rng(0).normal(size=(2, 8))
    values[1, 2] = np.nan
    with pytest.raises(DataError, match="a score is not finite"):
        eliminate(table(values), 2, np.linspace(0, 1, 8), rounds=(2, 4, 8))
    with pytest.raises(DataError, match="a score is not finite"):
        decide(table(values), 8, alpha=1e-9)


def test_what_cannot_be_is_refused() -> None:
    errors, places = table(np.zeros((2, 8))), np.arange(8.0)
    for words in ({"count": 0}, {"delta": 0.0}, {"delta": 1.0}, {"rounds": (4, 2, 8)}, {"rounds": (2, 4)}):
        given = {"count": 2, "places": places, **words}
        with pytest.raises(RecipeError, match="eliminate: "):
            eliminate(errors, **given)  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="decide: "):
        decide(errors, 0)


TEXTS = ["a red ring", "a blue star", "a ring", "a red ring", "nothing", "two small red things on a gray ground"]


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_stable_diffusion(0, seed=3, prediction_type="v_prediction")


@pytest.fixture(scope="module")
def images() -> Tensor:
    made = torch.rand(5, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return torch.cat([made, made[2:3]])


def test_best_text_is_the_full_rankings(model: StableDiffusion, images: Tensor) -> None:
    """Six texts of which two are equal: five are tried."""
    scorer = DiffusionScorer(model, Matching(levels=16, seed=1))
    for image in images[:3]:
        full = scorer(image[None], TEXTS, every_pair(1, 6))
        before = scorer.evaluations
        found = best_text(scorer, image[None], TEXTS)
        assert found.winner == int(full.argmax())
        assert found.evaluations == scorer.evaluations - before <= 5 * 16
        assert found.full == 6 * 16


def test_best_image_is_the_full_rankings_minus_the_empty_text(model: StableDiffusion, images: Tensor) -> None:
    scorer = DiffusionScorer(model, Matching(levels=16, seed=1))
    full = scorer(images, TEXTS[:1], every_pair(6, 1)) - scorer.null(images)
    before = scorer.evaluations
    found = best_image(scorer, images, TEXTS[0])
    assert found.winner == int(full.argmax())
    assert found.evaluations == scorer.evaluations - before <= 2 * 5 * 16
    assert found.full == 2 * 6 * 16
