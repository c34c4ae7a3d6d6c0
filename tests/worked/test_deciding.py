"""Thresholds, decisions and ladders of thresholds, by hand; and what must hold of any clips."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import relatum.curation.stages  # noqa: F401  registers
from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import stage
from relatum.curation.base import Keep, Verdict
from relatum.curation.deciding import Decisions, decide
from relatum.curation.presets import PRESETS, keeps_of, left_out, merged
from relatum.curation.stages.threshold import Limit, Range, in_words, percentile
from relatum.curation.what_if import Rung, rung_lines, what_if


def table_of(**facts: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """Clips of 2 s, one after the other, named a, b, ...; a fact's name is written with _ for its point."""
    count = len(next(iter(facts.values())))
    numbers = range(count)
    return {
        "id": [f"{chr(97 + i % 26)}{i // 26 or ''}" for i in numbers],
        "video": ["v"] * count,
        "start": [2.0 * i for i in numbers],
        "end": [2.0 * i + 2 for i in numbers],
        "seconds": [2.0] * count,
        **{name.replace("_", ".", 1): column for name, column in facts.items()},
    }


def kept(decisions: Decisions) -> str:
    return "".join(name for name, keep in zip(decisions.ids, decisions.keep, strict=True) if keep)


def test_percentile_is_one_of_the_values() -> None:
    """Of 8 values the lowest quarter is 2 values, so the third lowest is the threshold; of 7 it is floor(1.75) = 1; of 100 values
    29 % is 29, though 0.29 * 100 is 28.999999999999996."""
    values = np.array([0.0, 1, 2, 3, 5, 8, 13, 21])
    assert percentile(values, 0.25) == 2
    assert percentile(values[1:], 0.25) == 2
    assert percentile(np.arange(100.0), 0.29) == 29
    assert percentile(values, 0.999) == 21


def test_reasons_have_the_value_and_the_threshold() -> None:
    """Text of .07 is at the threshold and stays; all reasons of a clip are told, in the recipe's order."""
    table = table_of(motion_mean=[0.0031, 0.02, 0.004, 0.005], text_area_max=[0.0, 0.07, 0.31, 0.0])
    keeps = {"motion": Range("motion.mean", at_least=0.005), "text": Range("text.area_max", at_most=0.07)}
    found = decide(table, keeps)
    assert [list(reasons) for reasons in found.reasons] == [
        ["motion: 0.0031 < 0.005"], [], ["motion: 0.004 < 0.005", "text: 0.31 > 0.07"], [],
    ]  # fmt: skip
    assert kept(found) == "bd"
    assert found.lines[:3] == [
        "2 of 4 clips are kept",
        "motion: motion.mean >= 0.005: drops 2, 1 of them alone",
        "text: text.area_max <= 0.07: drops 1, 0 of them alone",
    ]
    # 2 of 4 are kept; the products of the shares is 2/4 * 3/4
    assert found.lines[3].startswith("50 % are kept of those without an error; if the keeps were independent it would be 37.5 %")
    assert found.thresholds["motion"]["at_least"] == 0.005
    assert found.thresholds["motion"]["at_most"] is None


def test_reasons_never_say_that_equals_differ() -> None:
    assert in_words(0.0049999, "<", Limit(0.005)) == "0.0049999 < 0.005"
    assert in_words(12.0, ">", Limit(0.5, 0.25)) == "12 > 0.5 (highest 25 %)"


def test_shares_need_clips() -> None:
    """Of 8 clips a quarter is 2: those below the third lowest value, 3. With fewer clips than
    percentile_from only absolutes hold. At least 4 is stricter than the lowest quarter; the third highest of 8 is 13."""
    table = table_of(motion_mean=[8.0, 1, 5, 3, 21, 0, 13, 34])
    keep = Range("motion.mean", at_least=0.5, drop_lowest=0.25, percentile_from=8)
    found = decide(table, {"motion": keep})
    assert kept(found) == "acdegh"
    assert found.reasons[1] == ["motion: 1 < 3 (lowest 25 %)"]
    assert found.lines[1] == "motion: motion.mean >= 3 (lowest 25 %): drops 2, 2 of them alone"
    few = decide(table, {"motion": Range("motion.mean", at_least=0.5, drop_lowest=0.25)})
    assert kept(few) == "abcdegh"
    line = "motion.mean >= 0.5; lowest 25 % not dropped: 8 clips have the fact, 200 are needed"
    assert few.thresholds["motion"]["line"] == line
    none = decide(table, {"motion": Range("motion.mean", drop_highest=0.5)})
    assert kept(none) == "abcdefgh"
    assert none.thresholds["motion"]["line"].startswith("motion.mean: no threshold; highest 50 % not dropped")
    both = decide(table, {"motion": Range("motion.mean", at_least=4, drop_lowest=0.25, drop_highest=0.25, percentile_from=1)})
    assert kept(both) == "acg"  # 8, 5, 13
    assert both.thresholds["motion"]["at_most"] == 13


def test_ties_at_a_share_stay() -> None:
    """Half of ten clips have no text at all: dropping the lowest 40 % drops none, as all of those are equal to the threshold."""
    table = table_of(text_area_max=[0.0] * 5 + [0.1, 0.2, 0.3, 0.3, 0.3])
    assert kept(decide(table, {"text": Range("text.area_max", drop_lowest=0.4, percentile_from=1)})) == "abcdefghij"
    assert kept(decide(table, {"text": Range("text.area_max", drop_highest=0.2, percentile_from=1)})) == "abcdefghij"
    assert kept(decide(table, {"text": Range("text.area_max", drop_highest=0.3, percentile_from=1)})) == "abcdefg"


def test_lists_are_reduced() -> None:
    """Scores 3, 4, 8: mean 5, least 3, most 8. An empty list, or one with a gap, is a missing fact."""
    table = table_of(clip_scores=[[3.0, 4.0, 8.0], [6.0, 6.0, 6.0], [5.0, None, 9.0], []])
    for reduce, expected in (("mean", [5, 6]), ("min", [3, 6]), ("max", [8, 6])):
        values = Range("clip.scores", at_least=0, reduce=reduce).numbers(table)  # type: ignore[arg-type]
        assert values[:2].tolist() == expected
        assert np.isnan(values[2:]).all()


@pytest.mark.parametrize("missing", [None, float("nan"), float("inf")])
def test_a_missing_fact_is_an_error_unless_the_recipe_says(missing: float | None) -> None:
    table = table_of(motion_mean=[0.5, missing, 0.5, missing])
    with pytest.raises(DataError, match=r"keep\.motion: motion\.mean is missing of 2 of 4 clips, the first is b; .*on_missing"):
        decide(table, {"motion": Range("motion.mean", at_least=0.1)})
    stays = decide(table, {"motion": Range("motion.mean", at_least=0.1, on_missing="keep")})
    assert kept(stays) == "abcd"
    assert "missing of 2 clips, which are kept" in stays.lines[1]
    goes = decide(table, {"motion": Range("motion.mean", at_least=0.1, on_missing="drop")})
    assert kept(goes) == "ac"
    assert goes.reasons[1] == ["motion: the fact is missing (motion.mean)"]


def test_clips_with_an_error_are_dropped_for_it_and_count_nowhere() -> None:
    """Of a, c, d, e the lowest quarter is one; b's 0 would have been it, and its missing text is no error."""
    table = table_of(motion_mean=[5.0, 0.0, 4.0, 3.0, 6.0], text_area_max=[0.0, None, 0.0, 0.0, 0.9])
    table["error"] = ["", "text: ValueError: no picture", "", "", ""]
    keeps = {
        "motion": Range("motion.mean", drop_lowest=0.25, percentile_from=4),
        "text": Range("text.area_max", at_most=0.5),
    }
    found = decide(table, keeps)
    assert kept(found) == "ac"
    assert found.reasons[1] == ["error: text: ValueError: no picture"]
    assert found.reasons[3] == ["motion: 3 < 4 (lowest 25 %)"]
    assert found.lines[0] == "2 of 5 clips are kept; 1 are dropped for an error"


def test_wrong_recipes_and_facts_are_said() -> None:
    table = table_of(motion_mean=[0.5], image_text=["a cat"])
    with pytest.raises(RecipeError, match=r"keep\.m: no stage .* 'motion\.meen'; did you mean 'motion\.mean'"):
        decide(table, {"m": Range("motion.meen", at_least=0)})
    with pytest.raises(DataError, match=r"keep\.m: image\.text is not a number"):
        decide(table, {"m": Range("image.text", at_least=0)})
    for name in ("error", "a: b"):
        with pytest.raises(RecipeError, match="colon"):
            decide(table, {name: Range("motion.mean", at_least=0)})
    with pytest.raises(DataError, match="1 clips, but 2 of 'text"):
        decide({**table, "text.area": [1.0, 2.0]}, {})


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"at_least": 2, "at_most": 1},
        {"drop_lowest": 1.0},
        {"drop_lowest": -0.1},
        {"drop_lowest": 0.5, "drop_highest": 0.5},
        {"at_most": float("inf")},
        {"at_least": 0, "percentile_from": 0},
    ],
)
def test_wrong_ranges_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        Range("motion.mean", **wrong)


@dataclass(frozen=True)
class First:
    """Drops the first clip that is still in: judged last."""

    needs: tuple[str, ...] = ("kept",)

    def judge(self, table: Mapping[str, Sequence[Any]]) -> Verdict:
        at = list(table["kept"]).index(True)
        return Verdict(["first" if i == at else None for i in range(len(table["id"]))], "the first", dup_of={at: 1})


@dataclass(frozen=True)
class Short:
    needs: tuple[str, ...] = ()

    def judge(self, table: Mapping[str, Sequence[Any]]) -> Verdict:
        return Verdict([], "none")


def test_keeps_that_ask_who_is_left_come_last() -> None:
    table = table_of(motion_mean=[0.0, 0.0, 1.0, 1.0])
    keeps: dict[str, Keep] = {"first": First(), "motion": Range("motion.mean", at_least=0.5), "again": First()}
    found = decide(table, keeps)
    assert kept(found) == ""
    assert [list(reasons) for reasons in found.reasons][2:] == [["first: first"], ["again: first"]]
    assert list(found.dup_of) == ["", "", "b", "b"]
    assert [line.partition(":")[0] for line in found.lines[1:4]] == ["first", "motion", "again"]
    # 1 of the 2 that it saw, 2 of 4, 0 of the 1 that it saw
    assert "would be 0 %" in found.lines[4]
    with pytest.raises(DataError, match=r"keep\.short: Short judged 0 of 4 clips"):
        decide(table, {"short": Short()})


def test_decisions_go_to_a_table_and_back() -> None:
    table = table_of(motion_mean=[0.0, 1.0])
    found = decide(table, {"motion": Range("motion.mean", at_least=0.5)})
    again = Decisions.read(found.columns(), json.loads(json.dumps(found.document())))
    assert again.columns() == found.columns() == {
        "clip_id": ["a", "b"], "keep": [False, True], "reasons": [["motion: 0 < 0.5"], []], "dup_of": ["", ""],
    }  # fmt: skip
    assert again.document() == found.document()
    with pytest.raises(DataError, match="decide anew"):
        Decisions.read({"clip_id": []}, {})


def test_no_clips_are_no_error() -> None:
    table = table_of(motion_mean=[])
    keeps = {name: stage.build(one, "keep") for name, one in keeps_of("svd", {"motion.mean"}).items()}
    found = decide(table, keeps)
    assert found.lines[0] == "0 of 0 clips are kept"
    assert [rung.together for rung in what_if(table, keeps, found)] == [0, 0]


def test_a_ladder_by_hand() -> None:
    """Motion 1 to 8; text is too much in the clips of motion 2 and 8. At least 4 drops 1, 2, 3; 2 is dropped by text too; so 4, 5,
    6, 7 stay. At least 2 would drop one, which nothing else drops, and keep 3 to 7."""
    table = table_of(motion_mean=[1.0, 2, 3, 4, 5, 6, 7, 8], text_area_max=[0, 0.5, 0, 0, 0, 0, 0, 0.9])
    keeps = {"motion": Range("motion.mean", at_least=4), "text": Range("text.area_max", at_most=0.1)}
    rungs = what_if(table, keeps, decide(table, keeps))
    motion = {rung.value: rung for rung in rungs if rung.keep == "motion"}
    assert motion[4] == Rung("motion", "at_least", "motion.mean", 4.0, 8, drops=3, together=4, only=2, now=True)
    assert motion[4].alone == 5
    # shares of 1, 5 and 10 % of 8 are no clip: the value is 1; 25, 50, 75, 90 %: 3, 5, 7, 8
    assert list(motion) == [None, 1, 3, 4, 5, 7, 8]
    assert (motion[None].drops, motion[None].together, motion[None].now) == (0, 6, False)
    assert (motion[8].drops, motion[8].together, motion[8].only) == (7, 0, 6)
    text = {rung.value: rung for rung in rungs if rung.keep == "text"}
    assert list(text) == [None, 0.9, 0.1, 0.0]  # a quarter is two clips, so the third highest
    assert (text[0.1].setting, text[0.1].drops, text[0.1].together, text[0.1].only) == ("at_most", 2, 4, 1)
    assert (text[0.9].drops, text[0.9].together) == (0, 5)
    lines = rung_lines(rungs)
    assert lines[0].split() == [
        "keep.motion.at_least",
        "(motion.mean)",
        "drops",
        "of",
        "it",
        "alone",
        "kept",
        "alone",
        "kept",
        "with",
        "all",
    ]
    assert [line.split() for line in lines if line.startswith("  *")] == [
        ["*", "4", "3", "2", "5", "4"],
        ["*", "0.1", "2", "1", "6", "4"],
    ]


def test_a_keep_without_a_number_has_one_rung() -> None:
    table = table_of(motion_mean=[0.0, 1.0, 1.0])
    keeps: dict[str, Keep] = {"first": First(), "motion": Range("motion.mean", at_least=0.5)}
    rung = what_if(table, keeps, decide(table, keeps))[0]
    assert rung == Rung("first", "", "", None, 3, drops=1, together=1, only=1, now=True)
    assert "as it is" in rung_lines([rung])[1]


FACTS = st.one_of(st.none(), st.floats(-3, 3), st.integers(-3, 3).map(float))
CLIPS = st.lists(st.tuples(FACTS, FACTS, st.booleans()), min_size=1, max_size=30)
RANGES = st.fixed_dictionaries(
    {
        "at_least": st.sampled_from([None, -1.0, 0.0]),
        "at_most": st.sampled_from([0.5, 2.0]),
        "drop_lowest": st.sampled_from([0.0, 0.25, 0.4]),
        "drop_highest": st.sampled_from([0.0, 0.3]),
        "percentile_from": st.sampled_from([1, 5]),
        "on_missing": st.sampled_from(["keep", "drop"]),
    }
)


def drawn(clips: Sequence[tuple[float | None, float | None, bool]]) -> dict[str, Sequence[Any]]:
    return {**table_of(a_x=[a for a, _, _ in clips], b_x=[b for _, b, _ in clips]), "error": ["broken" * c for _, _, c in clips]}


@settings(deadline=None, max_examples=60)
@given(CLIPS, RANGES, RANGES, st.randoms())
def test_nothing_depends_on_the_order_of_clips(clips: Any, a: Any, b: Any, random: Any) -> None:
    keeps = {"a": Range("a.x", **a), "b": Range("b.x", **b)}
    table = drawn(clips)
    order = list(range(len(clips)))
    random.shuffle(order)
    found = decide(table, keeps)
    again = decide({name: [column[i] for i in order] for name, column in table.items()}, keeps)
    assert again.lines == found.lines
    assert again.thresholds == found.thresholds
    assert [list(again.reasons[at]) for at in range(len(order))] == [list(found.reasons[i]) for i in order]


@settings(deadline=None, max_examples=60)
@given(CLIPS, RANGES, RANGES)
def test_rungs_in_force_are_what_was_decided(clips: Any, a: Any, b: Any) -> None:
    """Also: a stricter rung never keeps more, and each rung is what deciding with that value would give."""
    keeps = {"a": Range("a.x", **a), "b": Range("b.x", **b)}
    table = drawn(clips)
    found = decide(table, keeps)
    rungs = what_if(table, keeps, found)
    assert {rung.together for rung in rungs if rung.now} <= {int(found.keep.sum())}
    assert len({(rung.keep, rung.setting) for rung in rungs}) == sum(rung.now for rung in rungs)
    for one, next_one in pairwise(rungs):
        if (one.keep, one.setting) == (next_one.keep, next_one.setting):
            assert one.together >= next_one.together
            assert one.drops <= next_one.drops
    for rung in rungs:
        other = {"at_least": "at_most", "at_most": "at_least"}[rung.setting]
        limit = found.thresholds[rung.keep][other]
        given = {rung.setting: rung.value, other: limit}
        known = [given[name] for name in ("at_least", "at_most") if given[name] is not None]
        if not known or sorted(known) != known:
            continue
        given |= {"on_missing": (a if rung.keep == "a" else b)["on_missing"]}
        built = {name: Range(f"{name}.x", **(given if name == rung.keep else now)) for name, now in (("a", a), ("b", b))}
        assert int(decide(table, built).keep.sum()) == rung.together


@settings(deadline=None, max_examples=60)
@given(CLIPS, st.floats(-3, 3), st.floats(-3, 3))
def test_raising_at_least_never_keeps_more(clips: Any, one: float, other: float) -> None:
    table = drawn(clips)
    low, high = (decide(table, {"a": Range("a.x", at_least=v, on_missing="keep")}).keep for v in sorted((one, other)))
    assert not (high & ~low).any()


def test_presets() -> None:
    """Settings are laid over the preset's; what the recipe names is there though no stage writes its fact."""
    facts = ["motion.mean", "text.area_max", "hash.dhash", "frozen.share"]
    assert list(keeps_of("svd", facts)) == ["motion", "text", "frozen", "duplicates"]
    assert left_out("svd", facts) == [
        "preset 'svd': aesthetic is left out, as no stage of the recipe writes aesthetic.score",
        "preset 'svd': clip is left out, as no stage of the recipe writes clip.score",
    ]
    assert keeps_of("off", facts) == {}
    own = {
        "motion": {"at_least": 0.01},
        "clip": {"drop_lowest": 0.1},
        "text": {"kind": "off"},
        "mine": {"kind": "range", "fact": "a.b"},
    }
    found = merged("svd", facts, own)
    ours = {"kind": "range", "on_missing": "drop"}
    assert found["motion"] == {**ours, "fact": "motion.mean", "at_least": 0.01, "drop_lowest": 0.25}
    assert found["clip"] == {**ours, "fact": "clip.score", "drop_lowest": 0.1}
    assert found["text"] == {"kind": "off"}
    assert found["mine"] == own["mine"]
    assert PRESETS["svd"].keeps["motion"]["at_least"] == 0.003
    with pytest.raises(RecipeError, match="did you mean 'svd'"):
        keeps_of("svb", facts)
    every = {fact for preset in PRESETS.values() for one in preset.keeps.values() for key in ("fact", "hashes", "embeddings")
             if (fact := one.get(key))}  # fmt: skip
    for name, preset in PRESETS.items():
        assert preset.source
        built = [stage.build(one, name) for one in keeps_of(name, every).values()]
        assert len(built) == len(preset.keeps)
        assert all(isinstance(keep, Keep) for keep in built)
        assert left_out(name, every) == []
