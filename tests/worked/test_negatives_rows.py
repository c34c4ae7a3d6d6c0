"""Rows with wrong captions and pictures, what text alone gives away, and what a language model's words must be: worked by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from relatum.core.errors import RecipeError
from relatum.core.load import load
from relatum.data.negatives.nearest import nearest_captions, nearest_images
from relatum.data.negatives.rewrites import plain_rewrite, refusal
from relatum.data.negatives.rows import NegativeSettings, hardest, with_negatives
from relatum.data.negatives.rules import Negative, Perturbed
from relatum.data.negatives.shortcuts import shortcuts
from relatum.data.negatives.tagging import RuleTagger
from relatum.data.rows import Row


class Flat:
    """An image of one color."""

    def __init__(self, *color: float) -> None:
        self.color = color

    @property
    def where(self) -> str:
        return f"flat {self.color}"

    def digest(self) -> str:
        return str(self.color)

    def pixels(self, size: int) -> Tensor:
        return torch.tensor(self.color).view(3, 1, 1).expand(3, size, size)


def row(name: str, caption: str | None, color: tuple[float, ...] = (0.0, 0.0, 0.0), group: str = "", **texts: str) -> Row:
    own = {} if caption is None else {"target": caption}
    given = {key.replace("_", "."): text for key, text in texts.items()}
    return Row(name, group or name, {"target": Flat(*color)}, {**own, **given}, where=f"file:{name}")


def test_rows_carry_the_hardest_first() -> None:
    """Of "a red cat on a blue mat" the first rules give: colors exchanged; under for on; cat and mat exchanged."""
    made = with_negatives([row("a", "a red cat on a blue mat")], NegativeSettings(count=3), RuleTagger())
    texts = made.rows[0].texts
    assert texts["negative.1"] == "a blue cat on a red mat"
    assert texts["negative.2"] == "a red cat under a blue mat"
    assert texts["negative.3"] == "a red mat on a blue cat"
    assert "negative.4" not in texts
    assert texts["target"] == "a red cat on a blue mat"
    assert made.rows[0].facts["negative_rules"] == ["swap_attributes", "swap_relation", "swap_nouns"]
    assert made.made == {"swap_attributes": 1, "swap_relation": 1, "swap_nouns": 1}
    assert "plain rules" in made.tagger


def test_the_best_of_each_rule_before_the_second_of_any() -> None:
    made = Perturbed(tuple(Negative(text, text[0]) for text in ("a1", "a2", "a3", "b1", "c1", "c2")), ())
    assert [negative.text for negative in hardest(made)] == ["a1", "b1", "c1", "a2", "c2", "a3"]


def test_rows_without_are_left_out_with_a_reason() -> None:
    rows = [row("a", "cat"), row("b", None), row("c", "a red cat on a blue mat"), row("d", "")]
    made = with_negatives(rows, NegativeSettings(rules=("swap_attributes",)), RuleTagger())
    assert [kept.id for kept in made.rows] == ["c"]
    assert made.skipped == [
        "file:a: no rule gives a wrong caption of 'cat'",
        "file:b: no target caption",
        "file:d: no rule gives a wrong caption of ''",
    ]
    assert made.refused["swap_attributes", "fewer than two things with an attribute each"] == 1
    assert made.refused["swap_attributes", "the caption has no words"] == 1


def test_given_negatives_come_first_and_equal_ones_are_dropped() -> None:
    brought = {"negative_1": "A Red cat, on a blue mat!", "negative_2": "a dog", "negative_10": "a blue cat on a red mat"}
    made = with_negatives([row("a", "a red cat on a blue mat", **brought)], NegativeSettings(count=3), RuleTagger())
    texts = made.rows[0].texts
    assert [texts[f"negative.{i}"] for i in (1, 2, 3)] == ["a dog", "a blue cat on a red mat", "a red cat under a blue mat"]
    assert made.refused["given", "equals the caption"] == 1
    assert "negative.10" not in texts


def test_settings_are_checked() -> None:
    assert load(NegativeSettings, {"rules": ["quantity"], "count": 2}, "data.negatives").rules == ("quantity",)
    for table, words in (({"count": 0}, "count is 0"), ({"rules": []}, "rules is empty"), ({"rules": ["swap"]}, "no rule 'swap'")):
        with pytest.raises(RecipeError, match=words):
            load(NegativeSettings, table, "data.negatives")


def test_nearest_caption_by_words() -> None:
    """Weights 1 + log(6 / (1 + captions)): cat 1.18, red 1.41, mat 1.69; lengths of captions 0, 1, 2: 1.84, 2.07, 2.50.
    Cosines 0-2 (1.40 + 1.97) / (1.84 x 2.50) = .74, 1-2 (1.40 + 2.87) / (2.07 x 2.50) = .83, 0-1 1.40 / (1.84 x 2.07) = .37.
    Caption 3 shares nothing. Caption 4 equals 0 but for case: never its negative."""
    captions = ["red cat", "cat mat", "cat red mat", "sun dog", "Red cat."]
    assert nearest_captions(captions, ["0", "1", "2", "3", "4"]) == [2, 2, 1, None, 2]
    assert nearest_captions(captions, ["0", "1", "0", "3", "4"]) == [1, 2, 1, None, 2]  # 2 is another caption of 0's picture


def test_nearest_does_not_depend_on_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    from relatum.data.negatives import nearest

    captions = [f"{a} {b} {c}" for a in ("red", "blue", "old") for b in ("cat", "dog") for c in ("runs", "sleeps", "eats")]
    groups = [str(i // 2) for i in range(len(captions))]
    whole = nearest_captions(captions, groups)
    monkeypatch.setattr(nearest, "CELLS", 40)  # two rows at a time
    assert nearest_captions(captions, groups) == whole
    assert all(other is not None and groups[i] != groups[other] for i, other in enumerate(whole))


def test_nearest_image_is_another_one() -> None:
    """Angles 0, 0 (the same image), 10, 30, 90 degrees: of 0 the nearest other image is 2, unless that shares 0's caption."""
    turns = [math.radians(angle) for angle in (0, 0, 10, 30, 90)]
    features = torch.tensor([[math.cos(turn), math.sin(turn)] for turn in turns]).numpy() * 3
    names = ["a", "b", "c", "d", "e"]
    assert nearest_images(features, names, names) == [2, 2, 0, 2, 3]
    assert nearest_images(features, ["x", "y", "X!", "z", "w"], names)[0] == 3
    assert nearest_images(features[:2], names[:2], names[:2]) == [None, None]


def test_rows_get_the_image_of_the_nearest_caption() -> None:
    rows = [
        row("a", "a red cat", (1.0, 0, 0)),
        row("b", "a red dog on a hill", (0, 1.0, 0)),
        row("c", "a red cat on a mat", (0, 0, 1.0)),
    ]
    made = with_negatives(rows, NegativeSettings(rules=("shuffle_trigrams", "negation"), images="caption"), RuleTagger())
    assert [kept.facts["negative_row"] for kept in made.rows] == ["c", "c", "a"]
    assert made.rows[0].images["negative"].pixels(2)[2, 0, 0] == 1.0
    assert made.rows[0].images["target"].pixels(2)[0, 0, 0] == 1.0


def test_shortcuts_see_salad_and_length() -> None:
    """Forty captions of one form. A negative of reversed words has bigrams that no caption has: picked always; its words are the
    caption's: unigrams tie, a half. One that is longer by "not" is unlikelier in both, and the caption is always shorter."""
    things = ("cat", "dog", "cup", "box", "hat", "bus", "pen", "key")
    captions = [f"the {color} {thing} is here" for color in ("red", "blue", "old", "new", "big") for thing in things]
    salad = [(caption, " ".join(caption.split()[::-1]), "salad") for caption in captions]
    denied = [(caption, caption.replace("is", "is not"), "denied") for caption in captions]
    report = {one.rule: one for one in shortcuts([*salad, *denied])}
    assert (report["salad"].bigram, report["salad"].unigram, report["salad"].shorter) == (1.0, 0.5, 0.5)
    assert report["salad"].articles == 1.0  # "the" at the end
    assert (report["denied"].bigram, report["denied"].unigram, report["denied"].shorter) == (1.0, 1.0, 1.0)
    assert (report["denied"].words, report["denied"].articles, report["denied"].captions_articles) == (1.0, 0.0, 0.0)
    assert (report["all"].pairs, report["all"].captions, report["all"].unigram) == (80, 40, 0.75)
    assert shortcuts([]) == []


def test_shortcuts_see_nothing_in_fair_pairs() -> None:
    """All orders of two colors are captions, and the wrong caption is the other order: each pair is judged both ways by the same
    counts, so every scorer is right exactly half of the time."""
    colors = ("red", "blue", "old", "new", "big")
    pairs = [(f"a {a} cat on a {b} mat", f"a {b} cat on a {a} mat", "fair") for a in colors for b in colors if a != b]
    report = shortcuts(pairs, folds=3)[0]
    assert (report.bigram, report.unigram, report.shorter) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("A white dog beside a black chair", ""),
        ("", "empty"),
        (" \n ", "empty"),
        ("A white dog.\nA black chair.", "several lines"),
        ("...", "nonsense: no words, or broken characters"),
        ("A white d\ufffdg", "nonsense: no words, or broken characters"),
        ("dog dog dog dog", "nonsense: an endless or repeated word"),
        ("a dog a dog a dog a dog", "nonsense: an endless or repeated word"),
        ("a " + "d" * 40, "nonsense: an endless or repeated word"),
        ("a BLACK dog, beside a white chair!", "equals the caption"),
        ("Sure, a white dog beside a black chair", "speaks of the task"),
        ("I cannot help with that dog", "speaks of the task"),
        ("a black dog " * 3 + "and then some more words that never seem to end", "far too long"),
        ("dog", "far too short"),
        ("белая dog возле black стула", "another script"),
        ("an elephant in some green grass", "no word of the caption"),
    ],
)
def test_rewrites_are_refused_with_a_reason(text: str, reason: str) -> None:
    assert refusal("A black dog beside a white chair", text) == reason


def test_labels_and_quotes_are_taken_off() -> None:
    assert plain_rewrite(' Wrong caption: "A white dog."\n') == "A white dog."
    assert plain_rewrite("a dog's bone") == "a dog's bone"
