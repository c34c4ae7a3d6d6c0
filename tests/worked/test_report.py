"""The report: three files, one set of numbers, and no way for a caption to become markup."""

import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from relatum.compare import figures
from relatum.compare.report import CONTENT_POLICY, html_of, markdown_of, write_report
from relatum.compare.schema import (
    Agreement,
    Arm,
    Cost,
    Difference,
    Estimate,
    Grid,
    LevelLoss,
    Measure,
    Report,
    Row,
    from_json,
    picture,
    to_json,
)
from relatum.core.errors import DataError

EVIL = """<script>alert("x")</script> 'quoted' & "doubly" <img src=http://evil.test/x.png onerror=alert(1)>"""


def png() -> str:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), (200, 30, 60)).save(stream, "PNG")
    return picture(stream.getvalue())


def report(name: str = "toy edits", arm: str = "robust") -> Report:
    measures = (
        Measure("fd", "fd[tiny]", "lower", digits=2, source_table=True, note=name),
        Measure("accuracy", "edit accuracy", "higher", "%", 1, 1.0),
    )
    step = Difference(
        arm,
        "mse",
        "accuracy",
        6.43,
        1.72,
        11.04,
        3,
        600,
        (5.0, 7.0, 7.3),
        0.25,
        0.5,
        0.0002,
        0.031,
        0.61,
        0,
        "better",
        name,
        True,
        name,
    )
    bins = (LevelLoss(0, 500, 0.9, 0.01, 32), LevelLoss(500, 1000, 0.02, 0.001, 32))
    return Report(
        name,
        "2026-01-01T00:00:00Z",
        "accuracy",
        (Arm("mse", name), Arm(arm, name, {name: name})),
        (0, 1, 2),
        measures,
        (
            Estimate("mse", "accuracy", 60.81, 56.22, 65.17),
            Estimate(arm, "fd", 1.234, 1.1, 1.4),
            Estimate(arm, "accuracy", math.nan),
        ),
        (step,),
        (Estimate(name, "accuracy", 0.0, note=name),),
        (Agreement(name, name, 0.71, 0.66, 0.75, 600, name),),
        {"mse": bins, arm: bins},
        {"mse": Cost(12.1, 148.0, 3 * 2**30), arm: Cost(11.0, 160.0, None, 63.0, name)},
        (Grid(name, ("source", name), (Row(name, name, {name: name}, {"source": png(), name: png()}),), name),),
        (name,),
        (name,),
        name,
        {name: name},
        {name: name},
        name,
    )


def test_text_from_users_is_escaped_everywhere():
    """Every name, caption, note, recipe line of this report is the same attack: none of it opens a tag or leaves an attribute."""
    page = html_of(report(EVIL, EVIL))
    assert "<script" not in page
    assert "<img src=http" not in page
    assert '"doubly"' not in page
    assert "&lt;script&gt;" in page
    assert set(re.findall(r"<img [^>]*?src=\"([^\"]{10})", page)) == {"data:image"}
    text = markdown_of(report(EVIL, EVIL))
    assert "<script" not in text
    assert "<img" not in text


def test_markdown_cells_keep_their_columns():
    """Label, two arms and a control are 4 cells, the differences 9; a row splits at its bars into 2 parts more."""
    text = markdown_of(report(arm="a|b\n`c`"))
    assert "a\\|b \\`c\\`" in text
    rows = [line for line in text.splitlines() if line.startswith("| edit accuracy")]
    assert rows
    assert all(len(re.split(r"(?<!\\)\|", row)) == count for row, count in zip(rows, (6, 11), strict=True))


def test_page_is_self_contained():
    """The only address-like attributes are data: images; the policy forbids everything else, and there is no script."""
    page = html_of(report())
    for address in re.findall(r"(?:src|href|url|action)\s*[=(]\s*[\"']?([^\"')> ]+)", page):
        assert address.startswith("data:image/png;base64,")
    assert f'content="{CONTENT_POLICY.replace(chr(39), "&#39;")}"' in page
    assert "http:" not in page
    assert "https:" not in page
    assert "@import" not in page
    assert "<script" not in page
    assert "image-rendering: pixelated" in page
    assert "prefers-color-scheme: dark" in page


def test_three_files_show_the_same_numbers(tmp_path: Path):
    """Estimate 6.43 with one digit is +6.4, limits +1.7 to +11.0; 60.81 is 60.8; step cost 12.1 / 11 = 1.10."""
    page_path = write_report(report(), tmp_path / "out")
    page, text = page_path.read_text("utf-8"), (tmp_path / "out" / "report.md").read_text("utf-8")
    table = json.loads((tmp_path / "out" / "report.json").read_text("utf-8"))
    step = table["differences"][0]
    shown = [
        figures.number(step["estimate"], 1, True),
        figures.span(step["low"], step["high"], 1, True),
        figures.number(table["estimates"][0]["value"], 1),
        "1.10×",
        "2 min 28 s",
        "3.00 GiB",
    ]
    assert shown[:3] == ["+6.4", "+1.7 to +11.0", "60.8"]
    for number in shown:
        assert number in page
        assert number in text
    assert "seed-limited" in page
    assert "seed-limited" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["report.html", "report.json", "report.md"]


def test_json_round_trip_and_undefined_values():
    """NaN becomes null with a note; no NaN word, which JSON does not know, is written."""
    whole = report()
    text = to_json(whole)
    assert "NaN" not in text
    assert from_json(text) == whole
    value = json.loads(text)["estimates"][2]
    assert value["value"] is None
    assert value["note"] == "undefined"
    assert "undefined" in html_of(whole)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"headline": "accuracy"', '"headlin": "accuracy"', "headline"),
        ('"schema_version": 1', '"schema_version": 2', "schema version 2"),
        ('"seeds": [', '"seeds": ["x",', "seeds"),
        ('"value": 60.81', '"value": NaN', "NaN"),
        ('"value": 60.81', '"value": "60.81"', "60.81"),
        ('"headline": "accuracy"', '"headline": "acuracy"', "acuracy"),
        ("iVBORw0KGgo", "AAAAAAAAAAA", "expected a PNG"),
        ("iVBORw0KGgo", "!!!!", "not base64"),
    ],
)
def test_json_is_strict(old: str, new: str, words: str):
    text = to_json(report())
    assert old in text
    with pytest.raises(DataError, match=words):
        from_json(text.replace(old, new, 1))


def test_unknown_arm_and_repeated_arm_are_refused():
    whole = report()
    with pytest.raises(DataError, match="'ghost' is not one of its arms"):
        replace(whole, cost={"ghost": Cost(1.0, 1.0)})
    with pytest.raises(DataError, match="each once"):
        replace(whole, arms=(*whole.arms, whole.arms[0]))


def test_tables_have_neutral_headings_and_the_source_s_own():
    whole = replace(report(), source_title="The source's <video> table")
    page, text = html_of(whole), markdown_of(whole)
    assert re.findall("<h2>(.*?)</h2>", page)[:2] == ["The source&#39;s &lt;video&gt; table", "Measures"]
    assert [line for line in text.splitlines() if line.startswith("## ")][:2] == [
        "## The source's &lt;video&gt; table",
        "## Measures",
    ]
    assert "Over the steps" not in page
    assert "@keyframes" in page
    assert 'class="films"' not in page


def test_legend_of_loss_curves_names_every_arm():
    """Eight arms: the legend is text beside the plot, so that none of them runs out of it; the seventh line is dashed."""
    bins = report().loss_by_level["mse"]
    svg = figures.loss_curves({f"arm {i}": bins for i in range(8)})
    assert re.findall(r"</svg>(arm \d)</li>", svg) == [f"arm {i}" for i in range(8)]
    assert svg.count('<polyline class="curve c0 s1"') == 1


def test_picture_that_is_not_ascii_is_refused():
    with pytest.raises(DataError, match="grid row 'r', image 'source': not base64"):
        Row("r", images={"source": "\N{BULLET}"})


def test_a_report_of_one_arm_and_nothing_else_renders(tmp_path: Path):
    bare = Report("bare", "now", "m", (Arm("only"),), (0,), (Measure("m", "m", "lower"),), ())
    assert "No arm was compared" in html_of(bare)
    assert markdown_of(bare).startswith("# bare")


def test_failed_write_leaves_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_report(report(), tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(DataError, match="disk is full"):
        write_report(report("other"), tmp_path)
    assert (tmp_path / "report.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]


def test_forest_is_turned_so_that_right_is_better():
    """kd, lower is better, falls by .2 of a reach of .3: the dot stands right of the middle, at 120 + .2/.3 * 112 = 194.7."""
    fall = Difference("b", "a", "kd", -0.2, -0.3, -0.1, 3, 10, (-0.2,))
    svg = figures.forest(fall, Measure("kd", "kd", "lower"))
    assert 'class="dot" cx="194.7"' in svg
    rise = figures.forest(fall, Measure("kd", "kd", "higher"))
    assert 'class="dot" cx="45.3"' in rise


def test_loss_curves_scale():
    """.9 against .02 is 45-fold: a logarithmic axis with ticks at 1, 2, 5 steps. Equal arms are 0 % apart."""
    curves = report().loss_by_level
    assert ">0.05<" in figures.loss_curves(curves)
    assert [b.loss for b in figures.relative(curves, "mse")["robust"]] == [0.0, 0.0]
    assert "No loss" in figures.loss_curves({})


def test_number_words():
    assert figures.number(-0.04, 1) == "0.0"
    assert figures.number(-1.26, 1, True) == "\N{MINUS SIGN}1.3"
    assert [figures.p_value(p) for p in (None, 0.0001, 0.25, 1.0)] == ["–", "<.001", ".250", "1"]
    assert [figures.duration(s) for s in (59.0, 148.0, 3700.0)] == ["59.0 s", "2 min 28 s", "1 h 01 min"]
