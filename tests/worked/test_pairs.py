"""The law of pairs: draws against its closed form, shots, the grid of valid frames, and pairs that depend on nothing else."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise
from random import Random

import numpy as np
import pytest

from relatum.core.draws import key_of
from relatum.core.errors import RecipeError
from relatum.data.pairs import PairLaw, Slots, draw_pairs, pair_of, valid_frames

DRAWS = 10_000
FILM = [i / 25 for i in range(300)]  # 12 s at 25 frames/s: frames 0, 5, ..., 295 are valid, 60 in all


def half_normal(steps: int, sd: float = 10.0) -> float:
    """P(|N(0, sd)| rounds to `steps`), what rounds to 0 counted as 1."""

    def below(x: float) -> float:
        return math.erf(x / sd / math.sqrt(2))

    return below(1.5) if steps == 1 else below(steps + 0.5) - below(steps - 0.5)


def closed_form(shots: list[tuple[int, int]], law: PairLaw) -> dict[tuple[int, int], float]:
    """P(source, steps) by summing: a source counts by the chance that one of 1 + 20 offsets fits, an offset by its share of those.

    shots: half-open ranges of grid places; every pair has one known and one future frame.
    """
    weights: dict[tuple[int, int], float] = {}
    for start, stop in shots:
        for source in range(start, stop):
            chances = {steps: half_normal(steps, law.sd / law.grid) for steps in range(1, stop - source)}
            fit = sum(chances.values())
            accepted = 1 - (1 - fit) ** (1 + law.redraws)
            weights |= {(source, steps): accepted * chance / fit for steps, chance in chances.items()}
    total = sum(weights.values())
    return {pair: weight / total for pair, weight in weights.items()}


def drawn(slots: Slots, law: PairLaw, count: int = DRAWS) -> list[tuple[int, int]]:
    """First draws of many videos, each from the address that `draw_pairs` gives it; a second one where no offset fits."""
    sources, found = slots.sources(law)[0], []
    for number in range(count):
        random, pair = Random(key_of(law.seed, "pairs", f"video{number}", 0)), None
        while pair is None:
            pair = pair_of(slots, sources, law, random)
        found.append(pair[:2])
    assert next(pair[:2] for pair in draw_pairs(slots, law, "video7")) == found[7]
    return found


@pytest.mark.parametrize("shots", [[(0, 60)], [(0, 13), (13, 20), (21, 60)]], ids=["one shot", "three shots"])
def test_ten_thousand_draws_follow_the_law(shots: list[tuple[int, int]]) -> None:
    """Mean and spread of offsets, and of sources, within 4 standard errors of the exact ones; so is the share of one-step pairs.

    The standard error of a mean over n draws is s / sqrt(n); of a variance sqrt((m4 - s^4) / n), m4 the fourth central moment.
    """
    law = PairLaw()
    slots = valid_frames(FILM, law.grid, [(5 * start, 5 * stop) for start, stop in shots])
    exact = closed_form(shots, law)
    pairs = drawn(slots, law)
    assert len(pairs) == DRAWS
    assert set(pairs) <= set(exact)
    for of in (lambda pair: float(pair[0]), lambda pair: float(pair[1]), lambda pair: float(pair[1] == 1)):
        mean = sum(p * of(pair) for pair, p in exact.items())
        moment2, moment4 = (sum(p * (of(pair) - mean) ** k for pair, p in exact.items()) for k in (2, 4))
        values = np.array([of(pair) for pair in pairs])
        assert abs(values.mean() - mean) < 4 * math.sqrt(moment2 / DRAWS)
        assert abs(values.var() - moment2) < 4 * math.sqrt((moment4 - moment2**2) / DRAWS)


def test_sources_are_uniform_given_that_they_fit() -> None:
    """Chi-square of 59 sources against the closed form: mean 58, spread sqrt(2 * 58); 4 of them at most."""
    law = PairLaw()
    exact = closed_form([(0, 60)], law)
    counts = Counter(source for source, _ in drawn(valid_frames(FILM, law.grid, [(0, 300)]), law))
    chi = 0.0
    for place in range(59):
        expected = DRAWS * sum(p for (source, _), p in exact.items() if source == place)
        chi += (counts[place] - expected) ** 2 / expected
    assert chi < 58 + 4 * math.sqrt(2 * 58)


def test_offsets_of_a_long_shot_are_the_source_laws() -> None:
    """Where nothing is cut off, the mean is that of |N(0, 2 s)| = 2 sqrt(2 / pi) = 1.596 s, plus what rounding up 0 adds.

    Rounding leaves the mean as it is but for 0 -> 1: P(|N| < .5 of 10 steps) = erf(.05 / sqrt 2) = .0399, so + .0399 * .2 s.
    """
    law = PairLaw()
    random = Random(3)
    offsets = np.array([law.draw_steps(random) * law.grid for _ in range(DRAWS)])
    spread = 2 * math.sqrt(1 - 2 / math.pi)
    assert abs(offsets.mean() - (2 * math.sqrt(2 / math.pi) + 0.0399 * 0.2)) < 4 * spread / math.sqrt(DRAWS)
    assert offsets.min() == 0.2


def test_uniform_and_next() -> None:
    """Uniform on .2 ... 1 s: 5 steps alike; 4 standard errors of a share of 1/5 are 4 sqrt(.16 / 10000) = .016. Next: .4 s."""
    slots = valid_frames([i / 5 for i in range(5000)], 0.2, [(0, 5000)])
    counts = Counter(steps for _, steps in drawn(slots, PairLaw("uniform", horizon=1.0)))
    assert set(counts) == {1, 2, 3, 4, 5}
    assert all(abs(count / DRAWS - 0.2) < 0.016 for count in counts.values())
    assert {steps for _, steps in drawn(slots, PairLaw("next", offset=0.4), 100)} == {2}


def test_valid_frames_of_25_a_second_are_every_fifth() -> None:
    slots = valid_frames(FILM, 0.2, [(0, 300)])
    assert slots.frames.tolist() == list(range(0, 300, 5))


def test_each_grid_time_has_the_nearest_frame_or_none() -> None:
    """Grid 0, .2, .4, .6, .8, 1, 1.2. Frames at 0, .11, .29 | .5, 1.02, 1.21; .5 s is as near to .4 as to .6: the first has it.

    .11 and .29 are as near to .2: the earlier one. .8 has no frame within .1 s.
    """
    times = [0, 0.11, 0.29, 0.5, 1.02, 1.21]
    slots = valid_frames(times, 0.2, [(0, 3), (3, 6)])
    assert slots.frames.tolist() == [0, 1, 3, -1, -1, 4, 5]
    assert slots.shots.tolist() == [0, 0, 1, -1, -1, 1, 1]
    assert valid_frames(times, 0.2, [(0, 1), (2, 6)]).frames.tolist() == [0, -1, 3, -1, -1, 4, 5]
    assert valid_frames(times, 0.2, [(0, 2), (4, 6)]).frames.tolist() == [0, 1, -1, -1, -1, 4, 5]
    assert len(valid_frames([0.0, 0.2], 0.2, []).valid) == 0


@pytest.mark.parametrize("law", [PairLaw(past=3, future=4), PairLaw(past=3, spacing=0.4, future=2), PairLaw("next", past=4)])
def test_all_frames_of_a_pair_lie_in_one_shot(law: PairLaw) -> None:
    shots = [(0, 90), (90, 100), (103, 300)]
    law = PairLaw(law.kind, 400, past=law.past, spacing=law.spacing, future=law.future, sd=0.6)
    pairs = list(draw_pairs(valid_frames(FILM, law.grid, shots), law, "a"))
    assert len(pairs) > 40
    for pair in pairs:
        frames = [*pair.past, *pair.future]
        assert len({next(i for i, (start, stop) in enumerate(shots) if start <= frame < stop) for frame in frames}) == 1
        apart = 5 * (2 if law.spacing else pair.steps)
        assert [a - b for a, b in pairwise(pair.past)] == [apart] * (law.past - 1)
        known = [pair.past[0], *pair.future]
        assert [b - a for a, b in pairwise(known)] == [5 * pair.steps] * law.future
    assert {pair.past[0] // 100 for pair in pairs} == {0, 1, 2}


def test_pairs_are_different_and_as_many_as_there_are() -> None:
    """5 valid frames have 4 + 3 + 2 + 1 = 10 pairs; 4 frames in a row, 1 before and 2 after a source, start at 1 and 2 alone."""
    slots = valid_frames([i / 5 for i in range(5)], 0.2, [(0, 5)])
    everything = [pair[:2] for pair in draw_pairs(slots, PairLaw(per_video=50), "a")]
    assert len(everything) == len(set(everything)) == 10
    assert slots.sources(PairLaw(past=2, future=2))[1] == 2
    assert {pair[:2] for pair in draw_pairs(slots, PairLaw(past=2, future=2), "a")} == {(1, 1), (2, 1)}
    assert list(draw_pairs(slots, PairLaw(past=6), "a")) == []


def test_a_pair_depends_on_its_video_its_number_and_the_seed() -> None:
    slots = valid_frames(FILM, 0.2, [(0, 300)])
    few, many = (list(draw_pairs(slots, PairLaw(per_video=n), "a")) for n in (4, 12))
    assert many[:4] == few
    assert list(draw_pairs(slots, PairLaw(per_video=4), "b")) != few
    assert list(draw_pairs(slots, PairLaw(per_video=4, seed=1), "a")) != few


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "next", "offset": 0.5}, "offset is 0.5 s, no whole multiple of grid = 0.2 s"),
        ({"kind": "uniform", "horizon": 0.1}, "horizon is 0.1 s"),
        ({"past": 2, "spacing": 0.3}, "spacing is 0.3 s"),
        ({"per_video": 0}, "per_video is 0, expected 1 or more"),
        ({"grid": 0.0}, "grid is 0.0"),
        ({"max_seconds": -1.0}, "max_seconds"),
    ],
)
def test_laws_that_cannot_be(settings: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        PairLaw(**settings)  # type: ignore[arg-type]
