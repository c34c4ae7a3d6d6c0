"""Benchmarks put to a scorer, as numbers by question; and the rows that random captions come from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.compare.curves import history_of
from relatum.core.errors import DataError, RecipeError
from relatum.data.benchmarks.item import Item
from relatum.data.others import with_random_texts
from relatum.data.toy import ToyScenes
from relatum.jobs.asking import ask_all, asked_metrics, joined, open_benchmarks, questions
from relatum.jobs.matching import ItemResult
from relatum.metrics.evaluate import Evaluation
from relatum.recipe import Recipe, read_recipe

PAIR = ((0, 0), (1, 1))


def result(name: str, errors: list[list[float]], null: list[float] | None = None, **right: float) -> ItemResult:
    return ItemResult(name, "", "", errors, null, right)


def test_a_strict_item_is_one_question() -> None:
    item = Item("one", (), ("a", "b"), PAIR, tag="order", group="film")
    found = list(questions([item], [result("one", [[1.0, 2.0], [2.0, 1.0]], text=1.0)], "text", strict=True))
    assert found == [("one", 1.0, "film", "order")]


def test_other_items_have_a_question_for_each_picture_or_text() -> None:
    """Scores are -errors: picture 0 prefers text 0 (right), picture 1 ties its two best, one of them right: 1/2.

    By pictures, minus those of no text (.5, 2): text 0 has -1 + .5 = -.5 and -3 + 2 = -1, right; text 1 has -2 + .5 = -1.5 and
    -1 + 2 = 1, right; text 2 has -4 + .5 and -1 + 2 = 1 but no picture, so it is not asked.
    """
    item = Item("set", (), ("a", "b", "c"), PAIR)
    answer = result("set", [[1.0, 2.0, 4.0], [3.0, 1.0, 1.0]], [0.5, 2.0])
    assert list(questions([item], [answer], "text", strict=False)) == [
        ("set:text-0", 1.0, "set", ""),
        ("set:text-1", 0.5, "set", ""),
    ]
    assert [row[1] for row in questions([item], [answer], "image", strict=False)] == [1.0, 1.0]


class Prefers:
    """A scorer that likes long texts on bright pictures."""

    fingerprint = "prefers"

    def __call__(self, images: Tensor, texts: Sequence[str], pairs: Tensor) -> Tensor:
        return torch.tensor([images[i].mean().item() * len(texts[j]) for i, j in pairs.tolist()])

    def null(self, images: Tensor) -> None:
        return None


def recipe(**match: Any) -> Recipe:
    given = read_recipe("binding")
    return read_recipe("binding", [f"match.{key}={value}" for key, value in match.items()]) if match else given


def test_benchmarks_become_metrics_by_question_and_kind() -> None:
    small = recipe(**{"benchmarks.winoworld.count": 6, "benchmarks.retrieval.count": 4, "benchmarks.retrieval.candidates": 4})
    names = asked_metrics(small)
    assert {"winoworld.text", "winoworld.group", "order.text", "retrieval.image"} <= set(names)
    asked = open_benchmarks(small, only=["winoworld", "retrieval"])
    found = ask_all(small, Prefers(), asked)
    assert len(found.scores["winoworld.text"]) == 6
    assert len(found.scores["winoworld.text.binding"]) == 2
    assert len(found.scores["retrieval.text"]) == 4
    assert set(found.directions) == {"winoworld.text", "winoworld.image", "winoworld.group", "retrieval.text", "retrieval.image"}
    assert len(set(found.groups["retrieval.text"].values())) == 1
    whole = joined(Evaluation({}, {"psnr": {"a": 1.0}}, {}, {}, {}), found)
    assert set(whole.scores) == {"psnr", *found.scores}


def test_unknown_benchmarks_and_watches_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"no benchmark of kind 'winoworl'.*winoworld"):
        asked_metrics(recipe(**{"benchmarks.winoworld.kind": "winoworl"}))
    with pytest.raises(RecipeError, match=r"match\.watch: 'wino' is not among match.benchmarks"):
        recipe(watch='["wino"]')


def test_random_captions_are_another_rows() -> None:
    """Row i gets the caption of another row, by its own id alone: a slice gives what the whole gives."""
    rows = ToyScenes(count=20).rows()
    told = with_random_texts(rows)
    captions = [row.texts["target"] for row in rows]
    for i, row in enumerate(told):
        assert row.texts["random"] in captions[:i] + captions[i + 1 :]
    assert [row.texts for row in told[3:5]] == [told[3].texts, told[4].texts]
    assert told[-1].id == rows[19].id
    assert len({row.texts["random"] for row in told}) > 5
    with pytest.raises(DataError, match="one row is too few"):
        with_random_texts(rows[:1])


def test_a_damaged_history_says_where(tmp_path: Any) -> None:
    (tmp_path / "matching.jsonl").write_text('{"step": 0, "w.text": {"mean": 0.5}}\nnonsense\n')
    with pytest.raises(DataError, match=r"matching\.jsonl:2: not an answer"):
        history_of(tmp_path)
    (tmp_path / "matching.jsonl").write_text('{"step": 4, "w.text": {"mean": 0.5, "stderr": null, "n": 2}}\n')
    assert history_of(tmp_path) == {4: {"w.text": 0.5}}
