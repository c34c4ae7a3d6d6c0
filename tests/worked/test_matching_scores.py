"""Matching judged from scores alone: strict and shared ties, the empty caption, recall with ties, intervals."""

import numpy as np
import pytest

from relatum.core.errors import DataError
from relatum.metrics.matching import Judged, judge, recall, summary

PAIRED = ((0, 0), (1, 1))
ALL = ("text", "image", "group")


def test_winoground_by_hand() -> None:
    """Image 0: 3 > 1. Image 1: 2.5 > 2. Text 0: image 0 has 3 > 2. Text 1: image 1 has 2.5 > 1. All right.

    With 0.5 for (1, 1): image 1 prefers text 0 (2 > 0.5), and text 1 prefers image 0 (1 > 0.5).
    """
    assert judge(np.array([[3.0, 1.0], [2.0, 2.5]]), None, PAIRED, ALL, True).right == {"text": 1, "image": 1, "group": 1}
    assert judge(np.array([[3.0, 1.0], [2.0, 0.5]]), None, PAIRED, ALL, True).right == {"text": 0, "image": 0, "group": 0}


def test_the_empty_caption_moves_images_alone() -> None:
    """Image 1 scores high whatever is asked: text 0 prefers it, 4 > 3. Less the empty caption's 2 and 4: 1 > 0 and 1.5 > -1."""
    scores, null = np.array([[3.0, 1.0], [4.0, 5.5]]), np.array([2.0, 4.0])
    plain, normalized = (judge(scores, n, PAIRED, ALL, True) for n in (None, null))
    assert plain.right == {"text": 1, "image": 0, "group": 0}
    assert normalized.right == {"text": 1, "image": 1, "group": 1}


def test_a_tie_is_wrong_where_strict_and_shared_elsewhere() -> None:
    """Image 1 gives both texts 2: strictly wrong, else half right: (1 + 1/2) / 2. Text 0: 3 > 2. Text 1: 2 > 1."""
    scores = np.array([[3.0, 1.0], [2.0, 2.0]])
    strict, shared = judge(scores, None, PAIRED, ALL, True), judge(scores, None, PAIRED, ("text", "image"), False)
    assert strict.right == {"text": 0, "image": 1, "group": 0}
    assert strict.ties == {"text": 1, "image": 0, "group": 1}
    assert shared.right == {"text": 0.75, "image": 1}
    assert shared.questions == {"text": 2, "image": 2}
    assert strict.questions == {"text": 1, "image": 1, "group": 1}


@pytest.mark.parametrize("answer", range(5))
def test_a_constant_scorer_gets_one_in_k_wherever_the_answer_stands(answer: int) -> None:
    judged = judge(np.full((1, 5), -0.3), np.array([0.1]), [(0, answer)], ["text"], False)
    assert judged.right == {"text": 0.2}
    assert judged.ties == {"text": 1}
    pictures = judge(np.full((10, 1), -0.3), np.full(10, -0.4), [(2 * answer, 0)], ["image"], False)
    assert pictures.right == {"image": 0.1}
    assert judge(np.zeros((2, 2)), None, PAIRED, ALL, True).right == {"text": 0, "image": 0, "group": 0}


def test_several_captions_a_picture_and_distractors() -> None:
    """Image 0 has texts 0 and 1, image 1 has none, image 2 has text 2; text 3 belongs to none.

    Image 0: its text 1 ties with text 3 at 5: one of two. Image 2: 4 > 2. Mean of 1/2 and 1. Of texts: 0 finds image 1 (9 > 2),
    1 finds image 0, 2 image 2: 2/3.
    """
    scores = np.array([[2.0, 5.0, 1.0, 5.0], [9.0, 0.0, 0.0, 8.0], [1.0, 2.0, 4.0, 2.0]])
    matches = [(0, 0), (0, 1), (2, 2)]
    judged = judge(scores, None, matches, ("image", "text"), False)
    assert list(judged.right) == ["image", "text"]
    assert judged.right == pytest.approx({"image": 2 / 3, "text": 0.75})
    assert judged.questions == {"image": 3, "text": 2}
    both = judge(np.array([[5.0, 5.0, 1.0]]), None, [(0, 0), (0, 1)], ["text"], True)
    assert both.right == {"text": 1}
    assert both.ties == {"text": 0}


def test_recall_with_ties_by_hand() -> None:
    """One image, 6 texts, matches 2 and 3. Scores 7, 4, 4, 4, 4, 1: one text lies above the best match, four tie, two match.

    R@1 = 0. R@2: one place for a tie of four, two right: 1/2. R@3: two places, both wrong with 1/6: 5/6. R@5 and beyond: 1.
    """
    scores = np.array([[7.0, 4.0, 4.0, 4.0, 4.0, 1.0]])
    found = recall(scores, None, [(0, 2), (0, 3)], "text", (1, 2, 3, 5, 10))
    assert found == pytest.approx({1: 0, 2: 1 / 2, 3: 5 / 6, 5: 1, 10: 1})
    assert recall(np.zeros((20, 20)), None, [(i, i) for i in range(20)], "image") == pytest.approx({1: 0.05, 5: 0.25, 10: 0.5})


@pytest.mark.parametrize(("value", "word"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
def test_scores_must_be_finite(value: float, word: str) -> None:
    with pytest.raises(DataError, match=rf"scores: image 1, text 0 is {word}"):
        judge(np.array([[1.0, 2.0], [value, 0.0]]), None, PAIRED, ALL, True)
    with pytest.raises(DataError, match=rf"empty caption: image 1 is {word}"):
        judge(np.eye(2), np.array([0.0, value]), PAIRED, ["text"], True)


def test_what_cannot_be_asked() -> None:
    with pytest.raises(DataError, match=r"\(0, 2\) is not among 2 images and 2 texts"):
        judge(np.eye(2), None, [(0, 2)], ["text"], True)
    with pytest.raises(DataError, match="nothing to find"):
        judge(np.eye(2), None, [], ["text"], True)
    with pytest.raises(ValueError, match="'group' joins"):
        judge(np.eye(2), None, PAIRED, ALL, False)
    with pytest.raises(ValueError, match="found 'texts'"):
        judge(np.eye(2), None, PAIRED, ["texts"], False)


def test_summary_by_hand() -> None:
    """Wilson with z = 1.96 at 1 of 2: center 1/2, half width 1.96/(1 + 1.96^2/2) * sqrt(1/8 + 1.96^2/16) = .4055.

    Ten questions of .75 and two of 0: 7.5 / 12 = .625.
    """
    one, none = Judged({"text": 1.0}, {"text": 0}, {"text": 1}), Judged({"text": 0.0}, {"text": 1}, {"text": 1})
    rows = summary([("order", one), ("binding", none), ("binding", one), ("order", none)])
    assert [(row.tag, row.value, row.questions, row.ties) for row in rows] == [
        ("", 0.5, 4, 2),
        ("order", 0.5, 2, 1),
        ("binding", 0.5, 2, 1),
    ]
    assert [rows[1].low, rows[1].high] == pytest.approx([0.5 - 0.4055, 0.5 + 0.4055], abs=1e-4)
    many = Judged({"image": 0.75}, {"image": 3}, {"image": 10}), Judged({"image": 0.0}, {"image": 0}, {"image": 2})
    assert summary([("", judged) for judged in many])[0][:3] == ("image", "", 0.625)
