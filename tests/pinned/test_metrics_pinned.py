"""Distances, PSNR and SSIM against torchmetrics' formulas and scipy; what floating point must not cost, against exact fractions."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure
from torchmetrics.image.fid import _compute_fid
from torchmetrics.image.kid import poly_mmd

from relatum.core.errors import DataError
from relatum.metrics import (
    Moments,
    frechet_debiased,
    frechet_distance,
    frechet_from_moments,
    frechet_null,
    frechet_null_permuted,
    kernel_distance,
    kernel_distance_subsets,
    kernel_estimate,
    psnr,
    ssim,
    weighted_frechet,
    weighted_kernel,
)


def normal(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def sets(n: int, m: int, d: int) -> tuple[Tensor, Tensor]:
    """Two clearly different, correlated sets that are not centered."""
    mix = normal(d, d, 3) / d**0.5
    return normal(n, d, 1) @ mix * 1.5 + 0.7, normal(m, d, 2) + 0.2


def by_torchmetrics(x: Tensor, y: Tensor) -> float:
    return _compute_fid(x.mean(0), x.T.cov(), y.mean(0), y.T.cov()).item()


@pytest.mark.parametrize(("n", "m", "d"), [(200, 200, 16), (300, 90, 40), (65, 64, 64), (30, 200, 24)])
def test_frechet_equals_torchmetrics(n: int, m: int, d: int) -> None:
    x, y = sets(n, m, d)
    assert frechet_distance(x, y) == pytest.approx(by_torchmetrics(x, y), rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(200, 150, 12), (20, 30, 50), (300, 20, 50)])
def test_frechet_equals_scipy(n: int, m: int, d: int) -> None:
    """Also with fewer samples than features, where scipy's root of the singular product is good to about 1e-6."""
    x, y = (s.numpy() for s in sets(n, m, d))
    cov_x, cov_y = np.cov(x.T), np.cov(y.T)
    root = sqrtm(cov_x @ cov_y).real
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(cov_x + cov_y - 2 * root)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("n", "d"), [(100, 8), (20, 50), (51, 50), (50, 50)])
def test_frechet_of_a_set_with_itself(n: int, d: int) -> None:
    x, _ = sets(n, n, d)
    assert abs(frechet_distance(x, x)) < 1e-9
    assert abs(frechet_distance(x, x.flip(0))) < 1e-9


def test_frechet_where_a_feature_is_constant_or_doubled() -> None:
    x, y = sets(80, 70, 6)
    x, y = (torch.cat([s, s[:, :1], torch.zeros(len(s), 1, dtype=torch.float64)], 1) for s in (x, y))
    root = sqrtm(x.T.cov().numpy() + 1e-14 * np.eye(8)) @ sqrtm(y.T.cov().numpy() + 1e-14 * np.eye(8))
    overlap = np.linalg.svd(root, compute_uv=False).sum()
    expected = (x.mean(0) - y.mean(0)).square().sum().item() + (x.T.cov() + y.T.cov()).trace().item() - 2 * overlap
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-6)
    assert abs(frechet_distance(x, x)) < 1e-9
    assert frechet_from_moments(Moments.of(x), Moments.of(y)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("n", "d"), [(200, 16), (20, 40)])
def test_frechet_keeps_its_value_under_an_offset(n: int, d: int) -> None:
    """float64 itself keeps 1e-9 of a feature at 1e7."""
    x, y = sets(n, n, d)
    value = frechet_distance(x, y)
    assert frechet_distance(x + 1e7, y + 1e7) == pytest.approx(value, rel=1e-7)
    assert frechet_from_moments(Moments.of(x + 1e7), Moments.of(y + 1e7)) == pytest.approx(
        frechet_from_moments(Moments.of(x), Moments.of(y)), rel=1e-6
    )


def test_moments_of_shards_are_those_of_the_whole() -> None:
    x, y = sets(120, 90, 10)
    merged = Moments.of(x[:7] + 1e7) + Moments.of(x[7:8] + 1e7) + Moments.of(x[8:] + 1e7)
    torch.testing.assert_close(merged.covariance, x.T.cov(), rtol=1e-7, atol=1e-7)
    value = frechet_from_moments(Moments.of(x[80:]) + Moments.of(x[:80]), Moments.of(y))
    assert value == pytest.approx(frechet_distance(x, y), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_kernel_equals_torchmetrics(shift: float) -> None:
    x, y = normal(120, 16, 1) + shift, normal(120, 16, 2) * 1.3
    assert kernel_distance(x, y) == pytest.approx(poly_mmd(x, y).item(), rel=1e-9, abs=1e-12)
    assert kernel_distance(x.numpy(), y.float().double().numpy()) == pytest.approx(poly_mmd(x, y.float().double()).item(), rel=1e-9)


def exact_kernel_distance(x: Tensor, y: Tensor) -> float:
    """The U-statistic in rational numbers, rounded once at the end."""
    a, b = ([[Fraction(v) for v in row] for row in s.tolist()] for s in (x, y))
    n, m, d = len(a), len(b), len(a[0])

    def kernel(p: Sequence[Fraction], q: Sequence[Fraction]) -> Fraction:
        return (sum((s * t for s, t in zip(p, q, strict=True)), Fraction(0)) / d + 1) ** 3

    own = sum(kernel(p, q) for i, p in enumerate(a) for j, q in enumerate(a) if i != j) / (n * (n - 1))
    own += sum(kernel(p, q) for i, p in enumerate(b) for j, q in enumerate(b) if i != j) / (m * (m - 1))
    return float(own - 2 * sum(kernel(p, q) for p in a for q in b) / (n * m))


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e7])
def test_kernel_is_exact_under_an_offset(offset: float) -> None:
    """The kernel's value truly changes with an offset. What is returned is that value, where the plain formula is noise."""
    x, y = normal(7, 3, 1) + offset, normal(6, 3, 2) + 0.3 + offset
    assert kernel_distance(x, y, origin="zero") == pytest.approx(exact_kernel_distance(x, y), rel=1e-9)


def test_plain_formula_is_noise_at_an_offset() -> None:
    """So that the test above tests something."""
    x, y = normal(6, 3, 1) + 1e7, normal(6, 3, 2) + 0.3 + 1e7
    assert poly_mmd(x, y).item() != pytest.approx(exact_kernel_distance(x, y), rel=1e-3)


def test_kernel_keeps_its_value_under_an_offset() -> None:
    x, y = normal(150, 16, 1) * 1.5 + 0.7, normal(120, 16, 2)
    assert kernel_distance(x + 1e7, y + 1e7) == pytest.approx(kernel_distance(x, y), rel=1e-6)
    value = kernel_distance(x, y, origin="pooled")
    assert kernel_distance(x + 1e7, y + 1e7, origin="pooled") == pytest.approx(value, rel=1e-6)
    center = torch.cat([x, y]).mean(0)
    assert value == pytest.approx(kernel_distance(x - center, y - center), rel=1e-12)
    assert kernel_distance(x + 1e7, y + 1e7, origin=torch.full((16,), 1e7)) == pytest.approx(kernel_distance(x, y), rel=1e-6)


def test_kernel_of_shifted_gaussians() -> None:
    """N(0, I) against N(c·1, I) in d = 2: E k(a, b) in closed form from E s = μ·ν/d, E s² and E s³, s = x·y/d.

    For a, b with means μ, ν and unit covariance, x·y given y is N(μ·y, |y|²), so E s = μν/d, E s² = (E(μy)² + E|y|²)/d² with
    E(μy)² = (μν)² + |μ|², E|y|² = d + |ν|²; E s³ = (E(μy)³ + 3 E(μy)|y|²)/d³ with E(μy)³ = (μν)³ + 3(μν)|μ|² and
    E(μy)|y|² = (μν)(d + |ν|² + 2).
    """
    d, c = 2, 1.0

    def mean_kernel(mu: float, nu: float) -> float:
        dot, mu2, nu2 = d * mu * nu, d * mu * mu, d * nu * nu
        first, second = dot / d, (dot**2 + mu2 + d + nu2) / d**2
        third = (dot**3 + 3 * dot * mu2 + 3 * dot * (d + nu2 + 2)) / d**3
        return 1 + 3 * first + 3 * second + third

    expected = mean_kernel(0, 0) + mean_kernel(c, c) - 2 * mean_kernel(0, c)
    estimate = kernel_estimate(normal(3000, d, 1), normal(3000, d, 2) + c)
    assert estimate.stderr is not None
    assert abs(estimate.value - expected) < 4 * estimate.stderr < 0.25 * expected


def test_kernel_is_unbiased_and_not_clamped() -> None:
    values = torch.tensor([kernel_distance(normal(20, 4, 2 * s), normal(25, 4, 2 * s + 1)) for s in range(200)])
    assert (values < 0).any()
    assert abs(values.mean()) < 3 * values.std() / 200**0.5


@pytest.mark.parametrize("paired", [True, False])
def test_kernel_stderr_is_the_spread_of_repeats(paired: bool) -> None:
    runs = [kernel_estimate(normal(60, 4, 2 * s), normal(60, 4, 2 * s + 1) + 0.5, paired=paired) for s in range(150)]
    spread = torch.tensor([r.value for r in runs]).std().item()
    assert np.mean([r.stderr for r in runs]) == pytest.approx(spread, rel=0.25)


def test_kernel_subsets_print_as_kid_does() -> None:
    x, y = normal(50, 4, 1), normal(40, 4, 2) + 1
    whole = kernel_distance_subsets(x[:40], y, subsets=3, size=40)
    assert whole.value == pytest.approx(kernel_distance(x[:40], y), rel=1e-9)
    assert whole.stderr == pytest.approx(0, abs=1e-9)
    with pytest.raises(DataError, match="size <= 40"):
        kernel_distance_subsets(x, y)


def test_floor_of_standard_normals() -> None:
    """λ = 1: (2d + d(d+1)/2)/N, with the sample's eigenvalues near enough; and it is what the distance comes to on average."""
    n, d = 400, 5
    formula = (2 * d + d * (d + 1) / 2) / n
    floors = [frechet_null(normal(n, d, 2 * s), normal(n, d, 2 * s + 1)) for s in range(60)]
    values = [frechet_distance(normal(n, d, 2 * s), normal(n, d, 2 * s + 1)) for s in range(60)]
    assert np.mean(floors) == pytest.approx(formula, rel=0.02)
    assert np.mean(values) == pytest.approx(formula, rel=0.1)
    white = torch.linalg.qr(normal(n, d, 0) - normal(n, d, 0).mean(0)).Q * (n - 1) ** 0.5  # sample covariance exactly I
    assert frechet_null(white, white) == pytest.approx(formula, rel=1e-12)


def test_floor_of_unequal_eigenvalues() -> None:
    """Covariance diag(4, 1), N = 101, M = 51: pairs (4,1) count twice, 4·1/5 each; (4,4): 4·4·2/8 = 4; (1,1): 1.

    (1/101 + 1/51)(5 + ½(4 + 1 + 2·0.8)) = (1/101 + 1/51)·8.3.
    """

    def white(n: int, seed: int) -> Tensor:
        raw = normal(n, 2, seed)
        return torch.linalg.qr(raw - raw.mean(0)).Q * (n - 1) ** 0.5 * torch.tensor([2.0, 1.0])

    assert frechet_null(white(101, 0), white(51, 1)) == pytest.approx((1 / 101 + 1 / 51) * 8.3, rel=1e-12)


def test_permuted_floor_agrees_with_the_formula() -> None:
    x, y = normal(300, 4, 1), normal(300, 4, 2)
    drawn = frechet_null_permuted(x, y, 30)
    assert drawn.value == pytest.approx(frechet_null(x, y), rel=0.15)
    assert drawn.stderr is not None


def test_debiased_is_refused_below_two_samples_a_feature() -> None:
    x, y = normal(19, 10, 1), normal(40, 10, 2)
    refused = frechet_debiased(x, y)
    assert np.isnan(refused.value)
    assert "needs at least 20" in refused.note
    x = normal(20, 10, 1)
    assert float(frechet_debiased(x, y)) == pytest.approx(frechet_distance(x, y) - frechet_null(x, y))


def test_weights_are_repeats_for_the_frechet_distance() -> None:
    x, y = sets(30, 25, 6)
    wx, wy = torch.arange(30) % 4, torch.arange(25) % 3
    repeated = frechet_distance(x.repeat_interleave(wx, 0), y.repeat_interleave(wy, 0))
    assert weighted_frechet(x, y, wx, wy) == pytest.approx(repeated, rel=1e-10)
    assert weighted_frechet(x, y, np.ones(30), np.ones(25)) == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_weighted_kernel_never_pairs_a_row_with_its_copy() -> None:
    """A bootstrap's mean stays at the sample's own value; repeating the rows is biased far above it."""
    x, y = normal(25, 4, 1), normal(25, 4, 2) + 0.4
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randint(25, (2, 25), generator=generator) for _ in range(400)]
    counted = [(i.bincount(minlength=25), j.bincount(minlength=25)) for i, j in draws]
    weighted = torch.tensor([weighted_kernel(x, y, i, j) for i, j in counted])
    naive = torch.tensor([kernel_distance(x[i], y[j]) for i, j in draws])
    error = weighted.std().item() / 20
    assert abs(weighted.mean() - kernel_distance(x, y)) < 3 * error
    assert naive.mean() - kernel_distance(x, y) > 10 * error
    ones = torch.ones(25)
    for paired in (False, True):
        assert weighted_kernel(x, y, ones, ones, paired=paired) == pytest.approx(
            kernel_estimate(x, y, paired=paired).value, rel=1e-12
        )


def test_paired_counts_do_not_double_the_twins() -> None:
    """y is x with little noise: with shared counts no k(xi, yi) may count, or the value falls."""
    x = normal(25, 4, 1)
    y = x + 0.05 * normal(25, 4, 2)
    generator = torch.Generator().manual_seed(0)
    draws = [torch.randint(25, (25,), generator=generator).bincount(minlength=25) for _ in range(400)]
    shared = torch.tensor([weighted_kernel(x, y, w, w, paired=True) for w in draws])
    doubled = torch.tensor([weighted_kernel(x, y, w, w) for w in draws])
    error = shared.std().item() / 20
    whole = kernel_estimate(x, y, paired=True).value
    assert abs(shared.mean() - whole) < 3 * error
    assert whole - doubled.mean() > 10 * error
    with pytest.raises(DataError, match="wx and wy differ"):
        weighted_kernel(x, y, draws[0], draws[1], paired=True)


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, frechet_null])
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 3)), "1 samples"),
        (np.array([[1.0, 2.0, np.nan], [0.0, 0.0, 0.0]]), "row 0 holds NaN"),
        (np.array([[1.0, 2.0, 3.0], [0.0, np.inf, 0.0]]), "row 1 holds NaN or infinity"),
        (np.zeros((4, 2)), "2 features and y has 3"),
        (np.zeros(4), r"expected shape \(samples, features\)"),
        ("abc", "x: expected numbers"),
    ],
)
def test_bad_features(function: object, x: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        function(x, np.eye(3))  # type: ignore[operator]


@pytest.mark.parametrize("bad", [[1, 1], [1, -1, 1], [1, 0, 0], [1, float("nan"), 2]])
def test_bad_weights(bad: list[float]) -> None:
    with pytest.raises(DataError, match="wx"):
        weighted_frechet(np.eye(3), np.eye(3), bad, [1, 1, 1])


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, frechet_null])
def test_inputs_are_untouched_and_twice_is_once(function: object) -> None:
    x, y = (s.numpy() for s in sets(20, 30, 25))
    before = x.copy(), y.copy()
    assert function(x, y) == function(x, y)  # type: ignore[operator]
    assert (x == before[0]).all()
    assert (y == before[1]).all()


@pytest.mark.parametrize("size", [(11, 11), (32, 32), (40, 25)])
def test_ssim_and_psnr_equal_torchmetrics(size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    a = torch.rand(4, 3, *size, generator=generator) * 2 - 1
    b = (a + 0.3 * torch.randn(a.shape, generator=generator)).clamp(-1, 1)
    expected = structural_similarity_index_measure(a, b, data_range=2.0, reduction="none")
    torch.testing.assert_close(ssim(a, b), expected, rtol=1e-4, atol=1e-5)
    reference = peak_signal_noise_ratio(a, b, data_range=2.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(psnr(a, b), reference, rtol=1e-5, atol=1e-5)


def test_a_perfect_copy_of_its_references_is_at_no_kernel_distance() -> None:
    """Paired rows: with the pairs (xi, yi) in the cross term the value would be -2 (E k(x, x) - E k(x, x')) / n, far from 0."""
    x = normal(40, 8, 3)
    assert kernel_estimate(x, x, paired=True).value == pytest.approx(0, abs=1e-9)
    assert kernel_estimate(x, x).value < -0.1
