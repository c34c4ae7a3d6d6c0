"""Questions one by one: judged, stored as they come, and never asked twice."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, RecipeError
from relatum.data.benchmarks.item import Item
from relatum.data.refs import FileContent, StoredImage
from relatum.engine.match import DiffusionScorer, Matching
from relatum.jobs.matching import chance, match_items, recalls_of, repeated, table_of
from relatum.models.tiny import tiny_stable_diffusion


@dataclass(frozen=True)
class Plain:
    """An image of one gray."""

    gray: float

    @property
    def where(self) -> str:
        return f"gray {self.gray}"

    def digest(self) -> str:
        return str(self.gray)

    def pixels(self, size: int) -> Tensor:
        return torch.full((3, size, size), self.gray)


@dataclass
class Gray:
    """score(x, w) = gray + length of w; the empty text's score is 10 times the gray. Counts its calls."""

    fingerprint: str = "gray"
    evaluations: int = 0
    calls: list[str] = field(default_factory=list)
    stop_at: str = "never"

    def __call__(self, images: Tensor, texts: Sequence[str], pairs: Tensor) -> Tensor:
        if self.stop_at in texts:
            raise KeyboardInterrupt
        self.calls.append(texts[0])
        self.evaluations += len(pairs)
        return images[pairs[:, 0], 0, 0, 0] + torch.tensor([len(texts[j]) for j in pairs[:, 1].tolist()]).float()

    def null(self, images: Tensor) -> Tensor:
        self.evaluations += len(images)
        return 10 * images[:, 0, 0, 0]


def item(name: str, texts: Sequence[str], grays: Sequence[float] = (0.0, 0.5), tag: str = "") -> Item:
    return Item(name, tuple(map(Plain, grays)), tuple(texts), ((0, 0), (1, 1)), tag)


def test_an_item_by_hand() -> None:
    """Grays 0 and .5, texts of 3 and 1 letters: scores [[3, 1], [3.5, 1.5]].

    Text: image 0 finds its text (3 > 1), image 1 takes text 0: strict 0. Image: minus the empty text's (0, 5) the table is
    [[3, 1], [-1.5, -3.5]]: image 0 wins both texts, so the second is wrong. A plain mean gives 1/2 each.
    """
    scorer = Gray()
    (strict,) = match_items(scorer, [item("a", ("abc", "d"))], 8, ("text", "image", "group"), True)
    assert strict.errors == [[-3.0, -1.0], [-3.5, -1.5]]
    assert strict.null == [0.0, -5.0]
    assert strict.right == {"text": 0.0, "image": 0.0, "group": 0.0}
    assert strict.evaluations == 6
    (mean,) = match_items(scorer, [item("a", ("abc", "d"))], 8, ("text", "image"), False)
    assert mean.right == {"text": 0.5, "image": 0.5}
    assert strict.chance == {"text": 0.25, "image": 0.25, "group": 1 / 6}
    assert mean.chance == {"text": 0.5, "image": 0.5}
    assert match_items(scorer, [item("a", ("abc", "d"))], 8, ("text",), True)[0].null is None


def test_chance_of_a_group_without_a_formula() -> None:
    """One image, one text of two: the text side alone decides, 1/2."""
    assert chance((1, 2), [(0, 0)], "group", True) == pytest.approx(0.5, abs=0.03)


def test_the_table_counts_by_ask_and_tag() -> None:
    """Right 1, 1/2 (a tie) and 0. Wilson of 1.5 in 3: .5 -+ 1.96 / 2.2805 sqrt(.25 / 3 + 3.8415 / 36) = .5 -+ .3747."""
    items = [
        Item("a", (Plain(0.0),), ("abc", "d"), ((0, 0),), "x"),
        Item("b", (Plain(0.0),), ("abc", "def"), ((0, 0),), "y"),
        Item("c", (Plain(0.0),), ("a", "def"), ((0, 0),), "y"),
    ]
    results = match_items(Gray(), items, 8, ("text",), False)
    assert [result.right["text"] for result in results] == [1.0, 0.5, 0.0]
    lines = table_of(results)
    assert lines[1].split() == ["text", "all", "0.500", "0.125", "to", "0.875", "0.500", "3", "1"]
    assert lines[2].split()[:3] == ["text", "x", "1.000"]
    assert lines[-1] == "3 items, 6 network evaluations"


def test_killed_and_gone_on_redoes_nothing(tmp_path: Path) -> None:
    """Killed at the third of four items: two lines are there. A fourth line is cut off. The same call asks items 3 and 4 alone."""
    items, store = [item(name, (name * 3, name)) for name in "abcd"], tmp_path / "out" / "results.jsonl"
    killed = Gray(stop_at="ccc")
    with pytest.raises(KeyboardInterrupt):
        match_items(killed, items, 8, ("text",), True, store=store)
    assert killed.calls == ["aaa", "bbb"]
    assert [json.loads(line)["id"] for line in store.read_text().splitlines()] == ["a", "b"]
    with store.open("a") as file:
        file.write('{"run": "12')
    again = Gray()
    results = match_items(again, items, 8, ("text",), True, store=store)
    assert again.calls == ["ccc", "ddd"]
    assert results == [
        replace(one, key=kept.key) for one, kept in zip(match_items(Gray(), items, 8, ("text",), True), results, strict=True)
    ]
    assert [json.loads(line)["id"] for line in store.read_text().splitlines()] == ["a", "b", "c", "d"]
    third = Gray()
    assert match_items(third, items[1:2], 8, ("text",), True, store=store) == results[1:2]
    assert third.calls == []
    assert {json.loads(line)["id"] for line in store.read_text().splitlines()} == set("abcd")


def test_a_changed_item_is_asked_again(tmp_path: Path) -> None:
    store = tmp_path / "results.jsonl"
    match_items(Gray(), [item("a", ("aaa", "a")), item("b", ("bbb", "b"))], 8, ("text",), True, store=store)
    scorer = Gray()
    changed = [item("a", ("aaa", "a"), (0.0, 0.25)), item("b", ("bbb", "b"))]
    assert match_items(scorer, changed, 8, ("text",), True, store=store)[0].errors == [[-3.0, -1.0], [-3.25, -1.25]]
    assert scorer.calls == ["aaa"]
    assert len(store.read_text().splitlines()) == 2


def test_results_of_another_model_or_setting_are_not_mixed(tmp_path: Path) -> None:
    store, items = tmp_path / "results.jsonl", [item("a", ("aaa", "a"))]
    match_items(Gray(), items, 8, ("text",), True, store=store)
    before = store.read_text()
    for scorer, size, strict in ((Gray("other"), 8, True), (Gray(), 16, True), (Gray(), 8, False)):
        with pytest.raises(RecipeError, match=r"results.jsonl:1: holds results of another model"):
            match_items(scorer, items, size, ("text",), strict, store=store)
    assert store.read_text() == before


@pytest.mark.parametrize("text", ["my notes", "my notes\n", '{"r": "1"}\n', "[1]\n"])
def test_another_file_is_not_overwritten(tmp_path: Path, text: str) -> None:
    store = tmp_path / "notes.txt"
    store.write_text(text)
    with pytest.raises(DataError, match=r"notes.txt:1: is no result"):
        match_items(Gray(), [item("a", ("aaa", "a"))], 8, ("text",), True, store=store)
    assert store.read_text() == text


def stored(tmp_path: Path) -> tuple[Path, list[Item], list[str]]:
    """A file of two items' results."""
    store, items = tmp_path / "results.jsonl", [item("a", ("aaa", "a")), item("b", ("bbb", "b"))]
    match_items(Gray(), items, 8, ("text", "image"), True, store=store)
    return store, items, store.read_text().splitlines()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"errors": [[float("nan"), 1.0], [1.0, 1.0]]}, r"errors\[0\]\[0\]: expected a finite number"),
        ({"errors": "abc"}, "errors: expected a list"),
        ({"errors": [[1.0, 2.0]]}, "the result of a lacks images or texts"),
        ({"null": []}, "the result of a lacks images or texts"),
        ({"right": {"text": "x"}}, "right.text: expected"),
        ({"right": None}, "right: expected a table"),
        ({"id": [1]}, "id: expected a string"),
        ({"more": 1}, "other columns"),
    ],
)
def test_a_damaged_line_is_named_and_can_be_deleted(tmp_path: Path, damage: dict[str, object], message: str) -> None:
    store, items, lines = stored(tmp_path)
    text = "\n".join([json.dumps({**json.loads(lines[0]), **damage}), lines[1], ""])
    store.write_text(text)
    with pytest.raises(DataError, match=rf"results.jsonl.*{message}.*; delete the line"):
        match_items(Gray(), items, 8, ("text", "image"), True, store=store)
    scorer = Gray()
    store.write_text(lines[1] + "\n")
    match_items(scorer, items, 8, ("text", "image"), True, store=store)
    assert scorer.calls == ["aaa"]
    assert store.read_text().splitlines() == lines


@pytest.mark.parametrize("garbage", ["garbage", "xx\n", 100_000 * "[" + "\n", "\n"])
def test_garbage_after_results_is_named_with_what_to_do(tmp_path: Path, garbage: str) -> None:
    store, items, lines = stored(tmp_path)
    store.write_text("\n".join([*lines, garbage]))
    with pytest.raises(DataError, match=r"results.jsonl:3: is no result of relatum match; delete the line"):
        match_items(Gray(), items, 8, ("text", "image"), True, store=store)


def test_what_a_file_calls_right_is_judged_anew(tmp_path: Path) -> None:
    """Item a by hand: text 0 of strict, for image 1 takes text 0; a file that says 1 is not believed."""
    store, items, lines = stored(tmp_path)
    store.write_text(lines[0].replace('"right": {"text": 0.0', '"right": {"text": 1.0') + "\n")
    assert match_items(Gray(), items, 8, ("text", "image"), True, store=store)[0].right["text"] == 0.0
    assert store.read_text().splitlines() == lines


def test_tags_are_shown_safely_and_the_untagged_have_a_name() -> None:
    items = [item("a", ("x", "yy"), tag="\x1b[31m\n"), item("b", ("x", "yy"))]
    lines = table_of(match_items(Gray(), items, 8, ("text",), True))
    assert [line[7:30].strip() for line in lines[1:4]] == ["all", r"'\x1b[31m\n'", "no tag"]
    assert [line.split()[-2] for line in lines[1:4]] == ["2", "1", "1"]


def test_recalls_by_hand() -> None:
    """Texts of 7, 6, ... 1 letters, scores by length: image 0's is third, image 1's sixth, so R@1 is 0 and R@5 1/2; not of 5 texts.

    Two images are too few to be ranked.
    """
    texts = tuple(n * "x" for n in range(7, 0, -1))
    items = [Item("a", (Plain(0.0), Plain(0.5)), texts, ((0, 2), (1, 5))), Item("b", (Plain(0.0),), texts[:5], ((0, 0),))]
    results = match_items(Gray(), items, 8, ("text", "image"), False)
    assert recalls_of(items, results, ("text", "image")) == ["text   R@1 0.000  R@5 0.500  (2 questions of up to 7 candidates)"]


def test_words_that_are_not_unicode_make_no_item() -> None:
    for words in ({"id": "\ud800"}, {"id": "a", "tag": "\ud800"}, {"id": "a", "texts": ("x", "\ud800")}):
        with pytest.raises(DataError, match=r"item .* is not valid Unicode"):
            Item(**{"images": (), "texts": (), "matches": (), **words})


def test_the_diffusion_fingerprint_knows_weights_and_settings_but_not_the_batch() -> None:
    scorers = [
        DiffusionScorer(tiny_stable_diffusion(0, seed=seed), Matching(levels=levels, batch_size=batch)).fingerprint
        for seed, levels, batch in ((0, 4, 1), (0, 4, 9), (0, 5, 1), (1, 4, 1))
    ]
    assert scorers[0] == scorers[1]
    assert len({*scorers}) == 3


def test_what_cannot_be_matched_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no items"):
        match_items(Gray(), [], 8, ("text",), True)
    with pytest.raises(DataError, match="two items have the id 'a'"):
        match_items(Gray(), [item("a", ("x", "y"))] * 2, 8, ("text",), True)
    gone = StoredImage(FileContent(tmp_path / "gone.png"), "set.json:7 (gone.png)")
    missing = Item("m", (gone,), ("x",), ((0, 0),))
    for store in (None, tmp_path / "results.jsonl"):
        with pytest.raises(DataError, match=r"set.json:7 \(gone.png\): no such file"):
            match_items(Gray(), [missing], 8, ("text",), False, store=store)
    with pytest.raises(DataError, match="item n: scores: image 0"):
        match_items(Gray(), [item("n", ("x", "y"), (float("nan"), 0.0))], 8, ("text",), False)
    with pytest.raises(DataError, match="item n: a score is not finite"):
        match_items(Gray(), [item("n", ("x", "y"), (float("nan"), 0.0))], 8, (), False)


def test_equal_candidates_are_named() -> None:
    items = [item("a", ("x", "y")), item("b", ("x", "x")), item("c", ("x", "y"), (0.5, 0.5))]
    assert repeated(items) == ["b: 1 of its texts are another's equal", "c: 1 of its images are another's equal"]


def test_a_large_item_is_scored_in_blocks() -> None:
    """40 images, 600 texts: 2 x 2 blocks, each with its own part of the table."""
    scorer = Gray()
    big = Item("r", tuple(Plain(i / 40) for i in range(40)), tuple("t" * (j % 7) for j in range(600)), ((0, 0),))
    (result,) = match_items(scorer, [big], 2, (), False, null=True)
    assert len(scorer.calls) == 4
    assert result.errors[39][599] == pytest.approx(-(39 / 40 + 599 % 7))
    assert result.null is not None
    assert result.null[35] == pytest.approx(-10 * 35 / 40)
