"""Addressed randomness: a sample's numbers follow from seed, purpose and address alone."""

from __future__ import annotations

import hashlib

import pytest
import torch

from relatum.core.draws import Draws, key_of


def test_key_is_the_first_63_bits_of_blake2b() -> None:
    """The words of key_of(7, "noise", 3) are joined by the unit separator. Written out, so that no release changes old runs."""
    digest = hashlib.blake2b(b"7\x1fnoise\x1f3", digest_size=8).digest()
    assert key_of(7, "noise", 3) == int.from_bytes(digest, "big") // 2


def test_words_do_not_run_together() -> None:
    assert key_of("a", "bc") != key_of("ab", "c")
    assert key_of(1, 23) != key_of(12, 3)


def test_neighbors_do_not_matter() -> None:
    """One process with 8 samples draws what two draw with 4 + 4, and what each sample draws alone."""
    whole = Draws(5, range(8))
    left, right = Draws(5, range(4)), Draws(5, range(4, 8))
    assert torch.equal(
        whole.normal("noise", (4, 3, 2)), torch.cat([left.normal("noise", (4, 3, 2)), right.normal("noise", (4, 3, 2))])
    )
    assert torch.equal(whole.uniform("level")[[6]], Draws(5, [6]).uniform("level"))


def test_order_of_asking_does_not_matter() -> None:
    draws = Draws(5, range(3))
    first = draws.uniform("level")
    draws.normal("noise", (7,))
    assert torch.equal(draws.uniform("level"), first)


@pytest.mark.parametrize("other", [Draws(6, [0, 1]), Draws(5, [2, 3]), Draws(5, ["0 ", "1 "])], ids=["seed", "address", "name"])
def test_another_address_is_another_draw(other: Draws) -> None:
    assert not torch.equal(Draws(5, [0, 1]).uniform("level"), other.uniform("level"))


def test_another_purpose_is_another_draw() -> None:
    draws = Draws(5, range(4))
    assert not torch.equal(draws.uniform("level"), draws.uniform("dropout"))


def test_ids_and_positions_serve_as_addresses() -> None:
    assert Draws(0, ["cat.png", "dog.png"]).normal("noise", (2, 2)).shape == (2, 2, 2)
    assert len(Draws(0, ["cat.png", "dog.png"])) == 2


def test_distribution_over_addresses() -> None:
    """4,000 first numbers: uniform mean .5 +- .0046, normal mean 0 +- .016 and variance 1 +- .022 (one sigma each); four allowed.

    Neighboring addresses are uncorrelated: 4,000 products have a standard deviation of .016 around 0.
    """
    draws = Draws(0, range(4000))
    assert abs(draws.uniform("level").mean() - 0.5) < 0.019
    normal = draws.normal("noise", (1,)).flatten()
    assert abs(normal.mean()) < 0.064
    assert abs(normal.var() - 1) < 0.09
    assert abs((normal[1:] * normal[:-1]).mean()) < 0.064


def test_global_state_is_left_alone() -> None:
    before = torch.get_rng_state()
    Draws(0, range(3)).normal("noise", (2,))
    assert torch.equal(torch.get_rng_state(), before)
