"""Runs by itself on every registered benchmark that needs no files: whole items, the same every time, and what scorers must get."""

from __future__ import annotations

from dataclasses import MISSING, fields

import numpy as np
import pytest

import relatum.data  # noqa: F401  registers
from relatum.core.registry import benchmark
from relatum.data.benchmarks import Benchmark, Item
from relatum.data.benchmarks.item import ASKS
from relatum.metrics.matching import judge, recall


def needs_files(cls: type) -> bool:
    return any(f.init and f.default is MISSING and f.default_factory is MISSING for f in fields(cls))


MADE = [name for name, cls in sorted(benchmark.classes.items()) if not needs_files(cls) and cls.__module__.startswith("relatum.")]
SETTINGS = {"count": 12}


def build(name: str) -> Benchmark:
    return benchmark.build({"kind": name, **SETTINGS}, "benchmark")


def scores_of(item: Item, right: float) -> np.ndarray:
    """0 everywhere, `right` where image and text belong together."""
    scores = np.zeros((len(item.images), len(item.texts)))
    for image, text in item.matches:
        scores[image, text] = right
    return scores


def test_all_are_here() -> None:
    assert {"winoworld", "toy_order", "toy_retrieval"} <= set(MADE)
    assert {"winoground", "aro", "imagecode", "gdbench", "retrieval"} <= set(benchmark.classes)


@pytest.mark.parametrize("name", MADE)
def test_items_are_whole(name: str) -> None:
    made = build(name)
    assert isinstance(made, Benchmark)
    assert made.asks
    assert set(made.asks) <= set(ASKS)
    items = made.items()
    assert items
    assert made.skipped == []
    assert len({item.id for item in items}) == len(items)
    for item in items:
        assert item.group
        assert len(set(item.texts)) == len(item.texts)
        assert all(text.strip() == text != "" for text in item.texts)
        assert len(set(item.matches)) == len(item.matches) > 0
        assert all(0 <= i < len(item.images) and 0 <= j < len(item.texts) for i, j in item.matches)
        assert len(item.texts) > 1 or made.asks == ("image",)
        assert len(item.images) > 1 or made.asks == ("text",)
    for image in items[0].images:
        assert image.pixels(32).shape == (3, 32, 32)


@pytest.mark.parametrize("name", MADE)
def test_items_are_the_same_every_time(name: str) -> None:
    def shown(items):
        return [(item.id, item.texts, item.matches, item.facts, [image.digest() for image in item.images]) for item in items]

    made = build(name)
    assert shown(made.items()) == shown(made.items()) == shown(build(name).items())
    other = benchmark.build({"kind": name, **SETTINGS, "seed": 1}, "benchmark")
    assert not {d for item in other.items() for d in [i.digest() for i in item.images]} & {
        i.digest() for item in made.items() for i in item.images
    }


@pytest.mark.parametrize("name", MADE)
def test_a_constant_scorer_an_oracle_and_its_opposite(name: str) -> None:
    """Constant: 0 where strict, else 1 / k of k candidates with one match. The oracle 1, one that scores matches lowest 0."""
    made = build(name)
    for item in made.items():
        flat, best, worst = (
            judge(scores_of(item, right), np.full(len(item.images), 0.3), item.matches, made.asks, made.strict)
            for right in (0.0, 1.0, -1.0)
        )
        assert set(best.right.values()) == {1.0}
        assert set(worst.right.values()) == {0.0}
        for ask, value in flat.right.items():
            candidates = len(item.texts) if ask == "text" else len(item.images)
            assert value == pytest.approx(0 if made.strict else 1 / candidates)
            assert flat.ties[ask] > 0
            if ask != "group":
                assert recall(scores_of(item, 0), None, item.matches, ask, (2,))[2] == pytest.approx(min(1, 2 / candidates))
