"""Intervals, exact tests and verdicts, with numbers worked by hand."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from relatum.compare.schema import Cost, Difference, Measure
from relatum.compare.significance import holm, mcnemar, sign_flip, superiority, wilcoxon
from relatum.compare.statistics import ONE_SEED, Bootstrap, paired, rank_agreement
from relatum.compare.verdict import cost_ratio, difference_of_distances, difference_of_means, grouped, judge
from relatum.metrics.frechet import weighted_frechet
from relatum.metrics.kernel import weighted_kernel

ACCURACY = Measure("accuracy", "edit accuracy", "higher", smallest_effect=0.5)
DISTANCE = Measure("kd", "kd[test]", "lower")


def gram_distance(x: np.ndarray, y: np.ndarray):
    """The multiplicity-weighted U-statistic of kd with the kernel (x.y/d + 1)^3: pairs of one row with itself are left out."""
    inner = [(a @ b.T / x.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y))]

    def within(gram: np.ndarray, w: np.ndarray) -> float:
        return (w @ gram @ w - (w * w) @ np.diag(gram)) / (w.sum() ** 2 - (w * w).sum())

    def statistic(wx: np.ndarray, wy: np.ndarray) -> float:
        across = wx @ inner[2] @ wy / (wx.sum() * wy.sum())
        return float(within(inner[0], wx) + within(inner[1], wy) - 2 * across)

    return statistic


def test_sign_flip_three_seeds():
    """(1, 2, 3): the sums are +-6, +-4, +-2, 0, 0; only +6 and -6 are as far out: 2 of 8 = .25, the least for three seeds."""
    assert sign_flip(np.array([1.0, 2.0, 3.0])) == 0.25


def test_sign_flip_counts_patterns_as_far_out():
    """(3, -1, 2): observed sum 4. Patterns with |sum| >= 4: +-(3+1+2) = 6 and +-(3-1+2) = 4, so 4 of 8 = .5."""
    assert sign_flip(np.array([3.0, -1.0, 2.0])) == 0.5


def test_sign_flip_six_seeds_is_the_least_to_reach_five_percent():
    """2 / 2^6 = .03125 and 2 / 2^5 = .0625."""
    assert sign_flip(np.full(6, 0.1)) == 2 / 64
    assert sign_flip(np.full(5, 0.1)) == 2 / 32


def test_sign_flip_degenerate():
    assert sign_flip(np.zeros(4)) == 1.0
    assert sign_flip(np.array([0.7])) == 1.0
    assert sign_flip(np.array([1.0, np.nan, 2.0, 3.0])) == 0.25
    assert np.isnan(sign_flip(np.array([np.nan])))
    with pytest.raises(ValueError, match="23 seeds"):
        sign_flip(np.ones(23))


def test_holm():
    """Sorted .01, .02, .03, .04 times 4, 3, 2, 1: .04, .06, .06, .04; a later one is never below an earlier: .04, .06, .06, .06.
    NaN is not in the family: with it the factors stay 4, 3, 2, 1."""
    adjusted = holm({"d": 0.04, "a": 0.01, "none": float("nan"), "c": 0.03, "b": 0.02})
    assert [adjusted[name] for name in "abcd"] == pytest.approx([0.04, 0.06, 0.06, 0.06])
    assert np.isnan(adjusted["none"])
    assert holm({"a": 0.4, "b": 0.9}) == {"a": 0.8, "b": 0.9}


def test_mcnemar():
    """Six items only the arm has right, one only the baseline: 2 (C(7,0) + C(7,1)) / 2^7 = 2 * 8 / 128 = .125."""
    arm = np.array([True] * 6 + [False] + [True] * 4 + [False] * 2)
    baseline = np.array([False] * 6 + [True] + [True] * 4 + [False] * 2)
    found = mcnemar(arm, baseline)
    assert (found.only_arm, found.only_baseline) == (6, 1)
    assert found.p == pytest.approx(0.125)
    assert mcnemar(arm, arm).p == 1.0


def test_superiority_counts_ties_half():
    """Gains 1, 2 and 3 of six, ties 2, one loss, one undefined left out: (3 + 2/2) / 6 = 2/3; turned round: (1 + 1) / 6 = 1/3."""
    steps = np.array([[1.0, 2.0, 0.0, np.nan], [3.0, -1.0, 0.0, np.nan]])
    assert superiority(steps, "higher") == pytest.approx(4 / 6)
    assert superiority(steps, "lower") == pytest.approx(2 / 6)


def test_wilcoxon_over_sources():
    """Seed means (1, 2, 3, 4, -.5): ranks of |d| are 2, 3, 4, 5, 1, the negative sum is 1; subsets of {1..5} summing to <= 1 are
    {} and {1}, so p = 2 * 2 / 32 = .125. Zero differences are dropped."""
    steps = np.array([[0.5, 1.5, 3.0, np.nan, -1.0, 0.0], [1.5, 2.5, 3.0, 4.0, 0.0, 0.0]])
    assert wilcoxon(steps) == pytest.approx(0.125)
    assert wilcoxon(steps) == pytest.approx(stats.wilcoxon([1, 2, 3, 4, -0.5]).pvalue)
    assert wilcoxon(np.zeros((2, 5))) == 1.0


def test_mean_is_over_seeds_of_means_over_sources():
    """Seed means (1+3)/2 = 2 (one undefined) and (4+5+6)/3 = 5: the mean is 3.5, from 5 scores, not 19/5 = 3.8."""
    scores = np.array([[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])
    found = Bootstrap(2, 3, 500).mean(scores)
    assert found.value == 3.5
    assert (found.n, found.undefined, found.seeds) == (5, 1, 2)
    assert found.note == "1 undefined"


def test_undefined_pairs_are_left_out_pairwise():
    arm, baseline = np.array([[1.0, np.nan, 5.0]]), np.array([[0.0, 7.0, np.nan]])
    assert np.array_equal(paired(arm, baseline), np.array([[1.0, np.nan, np.nan]]), equal_nan=True)
    found = Bootstrap(1, 3).difference(arm, baseline)
    assert (found.value, found.n, found.undefined) == (1.0, 1, 2)
    assert np.isnan(Bootstrap(1, 2).mean(np.full((1, 2), np.nan)).value)


def test_one_seed_is_labeled():
    scores = np.random.default_rng(0).normal(size=(1, 40))
    found = Bootstrap(1, 40).mean(scores)
    assert found.note == ONE_SEED
    assert found.stderr == pytest.approx(scores.std(ddof=1) / 40**0.5, rel=0.1)
    assert Bootstrap(1, 40).mean(scores, trained=False).note == ""


def test_degenerate_intervals():
    equal = Bootstrap(3, 5).mean(np.full((3, 5), 0.25))
    assert (equal.value, equal.low, equal.high, equal.stderr) == (0.25, 0.25, 0.25, 0.0)
    single = Bootstrap(1, 1).mean(np.array([[2.0]]))
    assert single.value == 2.0
    assert np.isnan(single.low)
    assert single.stderr is None
    assert "one sample" in single.note
    with pytest.raises(ValueError, match="shape"):
        Bootstrap(2, 5).mean(np.zeros((3, 5)))


def test_resamples_are_shared_and_few_are_the_head_of_many():
    few, many = Bootstrap(3, 10, 20), Bootstrap(3, 10, 200)
    assert np.array_equal(few.source_weights, many.source_weights[:20])
    assert (few.source_weights.sum(1) == 10).all()
    assert (few.seed_weights.sum(1) == 3).all()


@pytest.mark.parametrize("seeds", [3, 6])
def test_coverage(seeds: int):
    """Crossed effects (seed sd .5, source sd 1, rest 1; 40 sources), true mean 2. Of 200 intervals of 95 %, at least 181 hold it
    (binomial: 190 - 3 sd of 3.1). Plain percentiles over three seeds hold fewer: three seeds cannot vary enough in a resample."""
    draws, held, plain = np.random.default_rng(7), 0, 0
    for _ in range(200):
        scores = 2 + 0.5 * draws.normal(size=(seeds, 1)) + draws.normal(size=(1, 40)) + draws.normal(size=(seeds, 40))
        bootstrap = Bootstrap(seeds, 40, 300, seed=int(draws.integers(1 << 30)))
        found = bootstrap.mean(scores)
        held += found.low <= 2 <= found.high
        means = (bootstrap.source_weights @ scores.T / 40 * bootstrap.seed_weights).sum(1) / seeds
        low, high = np.quantile(means, [0.025, 0.975])
        plain += low <= 2 <= high
    assert held >= 181
    assert plain < held


def test_naive_bootstrap_of_kd_is_biased_and_ours_is_not():
    """Rows repeated in a resample meet themselves in the U-statistic: naively it is higher by (E k(x,x) - E k(x,x')) / n a side.
    With multiplicities each pair of distinct rows has the same expected weight: the mean over resamples is the estimate itself."""
    draws = np.random.default_rng(3)
    x, y, n = draws.normal(size=(40, 8)), draws.normal(size=(40, 8)) + 0.3, 40
    statistic, ones = gram_distance(x, y), np.ones(40)
    value = statistic(ones, ones)
    picks = list(zip(Bootstrap(1, n, 600, 1).source_weights, Bootstrap(1, n, 600, 2).source_weights, strict=True))
    ours = np.array([statistic(wx.astype(float), wy.astype(float)) for wx, wy in picks])
    naive = [gram_distance(np.repeat(x, wx, 0), np.repeat(y, wy, 0))(ones, ones) for wx, wy in picks]

    def excess(z: np.ndarray) -> float:
        gram = (z @ z.T / 8 + 1) ** 3
        return (np.trace(gram) / n - (gram.sum() - np.trace(gram)) / (n * (n - 1))) / n

    error, expected = ours.std() / 600**0.5, excess(x) + excess(y)
    assert abs(ours.mean() - value) < 4 * error
    assert np.mean(naive) - value == pytest.approx(expected, rel=0.1)
    assert expected > 10 * error
    found = Bootstrap(1, n, 600).distance([statistic], trained=False)
    assert found.value == value
    assert found.low < value < found.high


def test_distance_difference_shares_the_weights():
    """Equal outputs in both arms: the difference is 0 in every resample, which drawing apart would not give."""
    draws = np.random.default_rng(0)
    x, y = draws.normal(size=(20, 4)), draws.normal(size=(20, 4))
    statistic = gram_distance(x, y)
    found = difference_of_distances(DISTANCE, ("b", "a"), [statistic] * 3, [statistic] * 3, Bootstrap(3, 20, 50))
    assert (found.estimate, found.low, found.high) == (0.0, 0.0, 0.0)
    assert found.p_sign_flip == 1.0
    assert found.superiority is None


def test_distances_of_the_metrics_are_statistics():
    """fd and kd of relatum.metrics, by the interface that they share; three sources: a resample in nine is one row alone."""
    draws = np.random.default_rng(5)
    x, y = draws.normal(size=(3, 2)), draws.normal(size=(3, 2)) + 1
    bootstrap = Bootstrap(2, 3, 100)
    assert (np.count_nonzero(bootstrap.source_weights, 1) == 1).any()
    for weighted in (weighted_frechet, weighted_kernel):

        def statistic(wx: np.ndarray, wy: np.ndarray) -> float:
            return weighted(x, y, wx, wy)  # noqa: B023

        found = bootstrap.distance([statistic, statistic])
        assert found.value == pytest.approx(statistic(np.ones(3), np.ones(3)))
        assert found.low < found.value < found.high


def test_limits_of_a_biased_distance_lie_about_the_estimate():
    """Resampled fd is larger than the sample's by about a floor: raw percentiles leave the estimate out, recentered ones do not."""
    draws = np.random.default_rng(6)
    x, y, ones = draws.normal(size=(20, 8)), draws.normal(size=(20, 8)), np.ones(20)
    bootstrap = Bootstrap(1, 20, 100)
    raw = [weighted_frechet(x, y, w.astype(float), w.astype(float)) for w in bootstrap.source_weights]
    value = weighted_frechet(x, y, ones, ones)
    assert np.quantile(raw, 0.025) > value
    found = bootstrap.distance([lambda wx, wy: weighted_frechet(x, y, wx, wy)])
    assert found.low < value < found.high


def test_mcnemar_of_seeds_counts_a_source_once():
    """Totals over two seeds, arm minus baseline: +200, +100, 0, +100, -100, +200, +100: five sources for the arm, one for the
    baseline, one tie: 2 (1 + 6) / 2^6 = .21875. Scores that are not right or wrong have no such test."""
    arm = np.array([[100.0, 100, 100, 0, 0, 100, 100], [100, 0, 0, 100, 0, 100, 0]])
    baseline = np.array([[0.0, 0, 0, 0, 100, 0, 0], [0, 0, 100, 0, 0, 0, 0]])
    found = difference_of_means(ACCURACY, ("b", "a"), arm, baseline, Bootstrap(2, 7, 50))
    assert found.p_mcnemar == pytest.approx(0.21875)
    assert difference_of_means(ACCURACY, ("b", "a"), arm + 1, baseline, Bootstrap(2, 7, 50)).p_mcnemar is None


def test_rank_agreement():
    """Ranks (1, 2, 3, 4) and (1, 2, 4, 3): 1 - 6 * (0 + 0 + 1 + 1) / (4 * 15) = .8; an undefined pair is left out."""
    found = rank_agreement(np.array([0.1, 0.2, 0.3, 0.4, np.nan]), np.array([10.0, 20.0, 40.0, 30.0, 5.0]))
    assert found.value == pytest.approx(0.8)
    assert (found.n, found.undefined) == (4, 1)
    assert np.isnan(rank_agreement(np.ones(5), np.arange(5.0)).value)


def made(low: float, high: float, seeds: int, p: float | None, metric: str = "accuracy") -> Difference:
    return Difference("b", "a", metric, (low + high) / 2, low, high, seeds, 10, p_sign_flip=p)


def verdict(difference: Difference, measure: Measure = ACCURACY) -> Difference:
    return judge([difference], [measure], measure.metric)[0]


def test_verdicts_turn_with_the_metric():
    assert verdict(made(0.1, 0.3, 6, 0.03125)).verdict == "better"
    assert verdict(made(-0.9, -0.3, 6, 0.03125)).verdict == "worse"
    assert verdict(made(-0.6, 0.3, 6, 0.5)).verdict == "no evidence"
    assert verdict(made(-0.4, 0.3, 6, 0.5)).verdict == "no worse"
    lower = Measure("kd", "kd[test]", "lower")
    assert verdict(made(0.1, 0.3, 6, 0.03125, "kd"), lower).verdict == "worse"
    assert verdict(made(-0.3, -0.1, 6, 0.03125, "kd"), lower).verdict == "better"
    margin = replace(lower, smallest_effect=0.5)
    assert verdict(made(-0.8, 0.4, 6, 0.5, "kd"), margin).verdict == "no worse"
    assert verdict(made(-0.4, 0.8, 6, 0.5, "kd"), margin).verdict == "no evidence"


def test_seed_limited_and_one_seed():
    three = verdict(made(0.1, 0.3, 3, 0.25))
    assert three.verdict == "better"
    assert three.seed_limited
    assert "cannot fall below 0.25" in three.words
    six = verdict(made(0.1, 0.3, 6, 0.0625))
    assert six.verdict == "no worse"
    assert not six.seed_limited
    assert "does not confirm" in six.words
    one = verdict(made(0.1, 0.3, 1, None))
    assert one.verdict == "no evidence"
    assert one.seed_limited
    assert "says nothing about retraining" in one.words


def test_other_metrics_need_holm_and_the_headline_its_own_test():
    """Eight seeds, two metrics, both p = .03: Holm gives .06 to each, so only the headline, declared in advance, is better."""
    other = Measure("psnr", "PSNR", "higher")
    found = judge([made(0.1, 0.3, 8, 0.03), made(0.1, 0.3, 8, 0.03, "psnr")], [ACCURACY, other], "accuracy", 1.25)
    assert [d.p_holm for d in found] == pytest.approx([0.06, 0.06])
    assert [d.verdict for d in found] == ["better", "no evidence"]
    assert "1.25 times" in found[0].words


def test_cost_ratio():
    """12 steps a second against 10: a step takes 12 / 10 = 1.2 times as long."""
    assert cost_ratio(Cost(10.0, 60.0), Cost(12.0, 50.0)) == pytest.approx(1.2)
    assert cost_ratio(None, Cost(12.0, 50.0)) is None


def test_difference_of_means_end_to_end():
    """Arm + 1 on every source but a seed's own shift (0, .2, .4): by seed 1, 1.2, 1.4, mean 1.2, all gains."""
    baseline = np.random.default_rng(1).normal(size=(3, 30))
    arm = baseline + 1 + np.array([[0.0], [0.2], [0.4]])
    found = difference_of_means(ACCURACY, ("b", "a"), arm, baseline, Bootstrap(3, 30))
    assert found.estimate == pytest.approx(1.2)
    assert found.by_seed == pytest.approx((1.0, 1.2, 1.4))
    assert found.p_sign_flip == 0.25
    assert found.superiority == 1.0
    assert found.p_wilcoxon < 1e-5
    # sd of the seeds' means .2, over sqrt 3 = .11547; Student's t with 2 degrees of freedom 4.303: the t interval is 1.2 +- .497
    assert found.high - found.low == pytest.approx(2 * 0.497, rel=0.12)


def test_rows_of_one_video_count_as_one() -> None:
    """Twelve videos, each seen five times alike: the interval is that of the twelve, not of the sixty."""
    draws = np.random.default_rng(0)
    videos = draws.normal(size=12) + 0.1 * draws.normal(size=(3, 12))
    rows, labels = np.repeat(videos, 5, axis=1), tuple(np.repeat(np.arange(12), 5).tolist())
    twelve, sixty = Bootstrap(3, 12).mean(videos), Bootstrap(3, 60).mean(rows)
    whole = Bootstrap(3, 60, clusters=labels).mean(rows)
    assert whole.value == pytest.approx(twelve.value)
    assert (whole.low, whole.high, whole.stderr) == pytest.approx((twelve.low, twelve.high, twelve.stderr))
    assert sixty.high - sixty.low < 0.5 * (whole.high - whole.low)
    assert Bootstrap(3, 60, clusters=labels).independent == 12


def test_groups_are_drawn_whole_and_may_differ_in_size() -> None:
    bootstrap = Bootstrap(2, 4, resamples=50, clusters=(7, 7, 7, 9))
    assert (bootstrap.source_weights[:, :3] == bootstrap.source_weights[:, :1]).all()
    assert (bootstrap.source_weights[:, 0] + bootstrap.source_weights[:, 3] == 2).all()
    with pytest.raises(ValueError, match="3 clusters for 4 sources"):
        Bootstrap(2, 4, clusters=(0, 0, 1))


def test_steps_of_groups_by_hand() -> None:
    """Groups 5 and 2: (1 + 3) / 2 = 2 and 8 in the first seed; the undefined 3 is left out of the second: 10 and 20."""
    steps = np.array([[1.0, 8.0, 3.0], [10.0, 20.0, np.nan]])
    assert grouped(steps, (5, 2, 5)).tolist() == [[8.0, 2.0], [20.0, 10.0]]
    assert grouped(steps, ()) is steps


def test_a_distance_that_is_undefined_for_a_seed_says_so() -> None:
    """Seeds 0 and 2 are 1 and 3, seed 1 has no number: 2 of the two others, of 2 x 10 samples. Weights below 1 at source 0 leave
    seed 2 without one too: about (1 - 1/10)^10 = 35 % of the resamples, half of that of both."""
    seeds = [lambda wx, wy: 1.0, lambda wx, wy: math.nan, lambda wx, wy: 3.0 if wx[0] else math.nan]
    found = Bootstrap(3, 10, 400).distance(seeds)
    assert (found.value, found.seeds, found.n) == (2.0, 2, 20)
    first, second = found.note.split("; ")
    assert first == "undefined in 1 of 3 seeds"
    share = re.fullmatch(r"the interval leaves out (\d+)% of the resamples, where it is undefined", second)
    assert share is not None
    assert int(share[1]) == pytest.approx(17, abs=4)
    nothing = Bootstrap(2, 10, 20).distance([lambda wx, wy: math.nan] * 2)
    assert nothing.note == "nothing defined"
    assert Bootstrap(2, 10, 20).distance([lambda wx, wy: float(wx @ wy)] * 2).note == ""
