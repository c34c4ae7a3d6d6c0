"""Arms that diverged with some seeds: what is estimated of the others, paired with whom, and how every reader is told."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relatum.compare.assemble import assemble
from relatum.compare.charts import Chart, Curve, Point, chart
from relatum.compare.divergence import Divergence, diverged_words, divergence_of, shown_seed, surviving, write_divergence
from relatum.compare.report import html_of, markdown_of
from relatum.compare.schema import Arm, Measure, Report, from_json, to_json
from relatum.core.errors import DataError, Diverged, RecipeError
from support.comparisons import FRAMES, SIZE, compared, evaluation

EVIL = """<script>alert("x")</script> | `c` <img src=x onerror=alert(1)>"""


def found(*trials: tuple[str, int, int | None]) -> list[Divergence]:
    return [Divergence(arm, seed, update, "why") for arm, seed, update in trials]


def test_words_and_seeds() -> None:
    lost = found(("b", 5, 12), ("b", 3, 7), ("c", 4, None))
    assert diverged_words("a", (3, 4, 5), lost) == ""
    assert diverged_words("b", (3, 4, 5), lost) == "b diverged in 2 of 3 seeds (at updates 7 and 12)"
    assert diverged_words("c", (3, 4, 5), lost) == "c diverged in 1 of 3 seeds"
    assert diverged_words("b", (3,), lost[1:]) == "b diverged in 1 of 1 seed (at update 7)"
    assert surviving("b", (3, 4, 5), lost) == [4]
    assert shown_seed("ab", (3, 4, 5), lost) == 4
    assert shown_seed("ac", (3, 4, 5), lost) == 3


def test_a_divergence_comes_back_from_its_folder(tmp_path: Path) -> None:
    """The update is the error's own, else the journal's last; the reason is without the words on the post-mortem."""
    run = tmp_path / "arms" / "b" / "seed-1"
    (run / "postmortem").mkdir(parents=True)
    (run / "metrics.jsonl").write_text('{"step": 6, "total": 1.0}\n')
    assert divergence_of(run, "b", 1, "s") is None
    try:
        raise Diverged("why; see /somewhere") from Diverged("why")
    except Diverged as error:
        write_divergence(run, error, "s")
    assert divergence_of(run, "b", 1, "s", tmp_path) == Divergence("b", 1, 6, "why", "arms/b/seed-1/postmortem")
    with pytest.raises(RecipeError, match="other settings, which diverged"):
        divergence_of(run, "b", 1, "other")
    for text in ("", "[]", '{"update": "6", "reason": "", "post_mortem": "", "signature": "s"}'):
        (run / "diverged.json").write_text(text)
        with pytest.raises(DataError, match="not the end of a trial"):
            divergence_of(run, "b", 1, "s")


def test_estimates_are_of_the_seeds_that_are_left_and_differences_of_those_that_both_have() -> None:
    """b: (2 + 4) / 2 = 3 and (5 + 6) / 2 = 5.5, in the mean 4.25; a: 1.5, 15 and 3.5, in the mean 6.667. Paired, seed 0 gains 1.5
    and seed 2 gains 2: +1.75, though b's mean is the lower one."""
    scores = {("a", 0): [1.0, 2.0], ("a", 1): [10.0, 20.0], ("a", 2): [3.0, 4.0], ("b", 0): [2.0, 4.0], ("b", 2): [5.0, 6.0]}
    report = assemble(compared(scores, {("b", 1): 7}))
    means = {e.arm: (e.value, e.seeds, e.n) for e in report.estimates}
    assert means == {"a": (pytest.approx(20 / 3), 3, 6), "b": (pytest.approx(4.25), 2, 4)}
    (d,) = report.differences
    assert d.estimate == pytest.approx(1.75)
    assert d.by_seed == (pytest.approx(1.5), None, pytest.approx(2.0))
    assert (d.seeds, d.n, d.undefined) == (2, 4, 0)
    assert report.cost["b"].note == "2 of 3 seeds"
    assert "1 of 6 trials diverged" in report.description
    assert from_json(to_json(report)) == report


def test_a_better_arm_that_diverged_is_never_called_better_alone() -> None:
    """Seeds gain 5, 5.1 and 4.9 in every row: better, of the three seeds of four that did not diverge."""
    base = {("a", seed): [20.0, 22.0, 25.0] for seed in range(4)}
    gains = {("b", seed): [value + 5 + gain for value in (20.0, 22.0, 25.0)] for seed, gain in ((0, 0.0), (2, 0.1), (3, -0.1))}
    report = assemble(compared({**base, **gains}, {("b", 1): 7}))
    (d,) = report.differences
    assert d.verdict == "better"
    start = "b diverged in 1 of 4 seeds (at update 7). In the 3 seeds that both have: b is better than a in motion caption."
    assert d.words.startswith(start)
    page, text = html_of(report), markdown_of(report)
    assert "**▲ better (seed-limited, b diverged in 1 of 4 seeds)**" in text
    assert start in page
    row = next(line for line in text.splitlines() if line.startswith("| motion caption |"))
    assert row.endswith("better (seed-limited, b diverged in 1 of 4 seeds) |")
    table = page[page.index("<h2>b minus a</h2>") :]
    assert '<span class="range caveat">b diverged in 1 of 4 seeds</span>' in table[: table.index("</table>")]
    assert 'b<span class="sub">3 of 4 seeds</span>' in page
    worse = assemble(compared({**gains, **base}, {("b", 1): 7}))  # the baseline is the one that diverged
    assert worse.arms[0].name == "b"
    assert worse.differences[0].words.startswith(
        "b diverged in 1 of 4 seeds (at update 7). In the 3 seeds that both have: a is worse"
    )


def test_arms_that_share_no_seed_are_not_compared() -> None:
    scores = {("a", 0): [1.0, 2.0], ("b", 1): [3.0, 4.0]}
    report = assemble(compared(scores, {("a", 1): 3, ("b", 0): 4}))
    (d,) = report.differences
    assert (d.verdict, d.estimate, d.seeds) == ("no evidence", None, 0)
    assert d.words.endswith("Nothing can be compared: they share no seed that did not diverge.")
    assert {e.arm for e in report.estimates} == {"a", "b"}
    page = html_of(report)
    assert "no interval" in page
    assert "Not shown: b, which diverged with this seed" in page


def test_reasons_are_escaped() -> None:
    bare = Report(
        "r",
        "now",
        "m",
        (Arm("a"), Arm("b")),
        (0,),
        (Measure("m", "m", "lower"),),
        (),
        divergences=(Divergence("b", 0, 3, EVIL, EVIL),),
    )
    page, text = html_of(bare), markdown_of(bare)
    for words in (page, text):
        assert "<script" not in words
        assert "<img src=x" not in words
    row = next(line for line in text.splitlines() if line.startswith("| b |"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 6
    with pytest.raises(DataError, match="'ghost' is not one of its arms"):
        Report("r", "now", "m", (Arm("a"),), (0,), bare.measures, (), divergences=tuple(found(("ghost", 0, 1))))


def test_a_cross_stands_where_a_trial_broke_off() -> None:
    """Steps 0 to 12 go from 58 to 582. Of a line from 1 at step 0 to 3 at step 8, step 2 is a quarter of the way, at 58 + 524 / 6 =
    145.3; 9 and 12 stand at 451 and 582, as high as its end. Before a line's beginning there is none."""
    points = (Point(0, 1.0), Point(8, 3.0))
    curves = (Curve("a", points, broke=(2.0, 9.0, 12.0)), Curve("b", (Point(4, 1.0),), broke=(2.0,)))
    svg = chart(Chart("t", "m", curves=curves))
    crosses = [(float(x) + 5, float(y) + 5) for x, y in re.findall(r'<path class="curve cross c\d s0" d="M([\d.]+) ([\d.]+)l', svg)]
    (_, low), (_, high) = (
        map(float, pair.split(",")) for pair in re.findall(r'<polyline class="curve c0 s0" points="([^"]*)"', svg)[0].split()
    )
    assert [x for x, _ in crosses] == pytest.approx([145.3, 451.0, 582.0], abs=0.05)
    assert [y for _, y in crosses] == pytest.approx([low + (high - low) / 4, high, high], abs=0.1)


def test_clips_stand_beside_each_other_from_the_same_noise() -> None:
    """The baseline at the left, the true clip at the right; b is .2, which is .6 * 255 = 153 of 8 bits. Captions are shown."""
    report = assemble(compared({("a", 0): [1.0, 2.0, 3.0], ("b", 0): [3.0, 4.0, 5.0]}))
    (reels,) = report.reels
    assert reels.columns == ("a", "b", "real")
    assert "same noise, same caption; a at the left, the true clip at the right" in reels.note
    assert len(reels.rows) == 2
    film = reels.rows[0].films["b"]
    assert (film.frames, film.width, film.height, film.fps) == (FRAMES, SIZE, SIZE, 5.0)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(film.sheet))).convert("RGB"))
    assert np.unique(sheet).tolist() == [153]
    page = html_of(report)
    assert f'<td class="what">{reels.rows[0].instruction}' in page
    assert page.count('class="film f-0-') == 2 * 3
    assert page.count('class="still f-0-') == 2 * 3 * FRAMES  # for print
    given = assemble(compared({("a", 0): [1.0, 2.0], ("b", 0): [3.0, 4.0]}, given=1))
    assert "same noise, same caption, same first frame" in given.reels[0].note


def test_films_shrink_until_a_page_can_hold_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 pixels stay 16 where they may; allowed nothing, they end at the least edge, 8 here."""
    scores = {("a", 0): [1.0, 2.0], ("b", 0): [3.0, 4.0]}
    monkeypatch.setattr("relatum.compare.showing.EDGES", (160, 8))
    assert assemble(compared(scores)).reels[0].rows[0].films["a"].width == 16
    monkeypatch.setattr("relatum.compare.showing.HEAVIEST", 1)
    (reels,) = assemble(compared(scores)).reels
    assert {film.width for row in reels.rows for film in row.films.values()} == {8}
    assert "Shrunk from 16 to 8 pixels." in reels.note


def test_clips_have_a_first_table_of_their_own() -> None:
    """Captions, motion, flicker, and flicker at the true videos' motion, whatever the recipe calls it; the rest stands below."""
    names = ("psnr", "clip_sim", "steady", "flicker.f", "motion.fastest", "motion", "motion_caption")
    o = compared({(arm, 0): [1.0, 2.0] for arm in "ab"})
    ids = [row.id for row in o.suite.rows]
    measured = evaluation({name: dict.fromkeys(ids, 1.0) for name in names})
    settings = {"metrics": ("psnr", "steady"), "settings": {"steady": {"kind": "matched_flicker"}}}
    recipe = replace(o.recipe, evaluate=replace(o.recipe.evaluate, **settings))
    report = assemble(replace(o, recipe=recipe, evaluations=dict.fromkeys(o.evaluations, measured), controls={}))
    first = [m.metric for m in report.measures if m.source_table]
    assert first == ["motion_caption", "motion.fastest", "flicker.f", "steady"]
    assert [m.metric for m in report.measures if not m.source_table] == ["psnr", "clip_sim", "motion"]
    assert report.source_title == "Captions, motion and flicker"
    assert "moving less wins nothing" in next(m.note for m in report.measures if m.metric == "steady")
    assert not [line for line in report.not_measured if "safety_rate" in line]
