"""The toy world's questions of order and its retrieval: exact by construction."""

from __future__ import annotations

from collections import Counter

import pytest

from relatum.data.benchmarks.toy_order import ToyOrder
from relatum.data.benchmarks.toy_retrieval import ToyRetrieval
from relatum.data.negatives import ORDER_RULES
from relatum.data.toy import HELD_OUT, SPLITS, Scene, is_true


@pytest.mark.parametrize("split", SPLITS)
def test_other_orders_of_the_same_words(split: str) -> None:
    for item in ToyOrder(count=60, split=split).items():  # type: ignore[arg-type]
        scene = Scene.of(item.facts["scenes"][0])
        assert item.facts["rules"] == list(ORDER_RULES)
        assert [is_true(text, scene) or False for text in item.texts] == [True, False, False, False, False]
        assert {tuple(sorted(text.split())) for text in item.texts} == {tuple(sorted(item.texts[0].split()))}
        assert len(set(item.texts)) == 5
        assert bool(HELD_OUT & {o.pair for o in scene.objects}) == (split == "held_out_attributes")


def test_item_by_itself() -> None:
    assert ToyOrder(count=9).items()[8] == ToyOrder(count=20).items()[8]
    assert ToyOrder(count=9).items()[8].id == "toy_order-test-0-8"
    with pytest.raises(ValueError, match="count: found 0"):
        ToyOrder(count=0)


@pytest.mark.parametrize("alike", [1, 2])
def test_a_caption_is_true_of_its_own_scene_alone(alike: int) -> None:
    (item,) = ToyRetrieval(count=60, alike=alike).items()
    scenes = [Scene.of(facts) for facts in item.facts["scenes"]]
    assert item.matches == tuple((i, i) for i in range(60))
    true = [(i, j) for i, scene in enumerate(scenes) for j, text in enumerate(item.texts) if is_true(text, scene)]
    assert true == list(item.matches)
    assert {scene.ground for scene in scenes} == {scenes[0].ground}
    bags = Counter(tuple(sorted(text.split())) for text in item.texts)
    assert min(bags.values()) >= alike


def test_blocks_and_settings() -> None:
    items = ToyRetrieval(count=24, candidates=8, ground="black").items()
    assert [item.id for item in items] == [f"toy_retrieval-test-0-{i}" for i in range(3)]
    assert all(len(item.images) == len(item.texts) == 8 for item in items)
    assert {item.facts["scenes"][0]["ground"]["color"] for item in items} == {"black"}
    for settings in ({"count": 1}, {"count": 9}, {"count": 24, "candidates": 7, "alike": 1}, {"count": 24, "candidates": 3}):
        with pytest.raises(ValueError, match="count: found"):
            ToyRetrieval(**settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ground: found 'pink'"):
        ToyRetrieval(ground="pink")
    with pytest.raises(ValueError, match="alike: found 3"):
        ToyRetrieval(alike=3)
