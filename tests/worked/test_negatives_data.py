"""Wrong captions of real ones: the order rules on COCO, ABC-6K's swaps among ours, SugarCrepe without a crash."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

from relatum.data.negatives import ORDER_RULES, RuleTagger, perturb
from relatum.data.negatives.sentence import normal


def lines(folder: Path, name: str, count: int) -> list[dict]:
    path = folder / "text" / "dev" / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()[:count]]


def test_orders_of_coco_keep_their_words(shared_data: Path) -> None:
    rows = lines(shared_data, "coco_negclip_order", 60)
    made = [(row["caption"], perturb(row["caption"], ORDER_RULES, tagger=RuleTagger()).negatives) for row in rows]
    for caption, negatives in made:
        assert all(
            Counter(normal(one.text)) == Counter(normal(caption)) and normal(one.text) != normal(caption) for one in negatives
        )
    assert sum(len(negatives) for _, negatives in made) > 0.9 * 4 * len(rows)


def test_most_swaps_of_abc6k_are_among_ours(shared_data: Path) -> None:
    """84 % of all 1,628; the others double a color, equal their caption or say the same."""
    rows = lines(shared_data, "abc6k_colour_swaps", 150)
    ours = [
        {normal(one.text) for one in perturb(row["caption"], ["swap_attributes"], tagger=RuleTagger()).negatives} for row in rows
    ]
    found = sum(normal(row["swapped"]) in texts for row, texts in zip(rows, ours, strict=True))
    assert found / len(rows) > 0.7


def test_sugarcrepe_goes_through(shared_data: Path) -> None:
    for row in lines(shared_data, "sugarcrepe", 3838)[::60]:
        made = perturb(row["caption"], tagger=RuleTagger())
        assert normal(row["caption"]) not in [normal(one.text) for one in made.negatives]
        assert len(made.negatives) >= 3
