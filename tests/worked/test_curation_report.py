"""The page about a curation run: its numbers, its pictures, its bounds, and no way for a name to become markup."""

import base64
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relatum.core.errors import DataError
from relatum.curation.report import Clips, Curated, Filter, Rung, Step, Threshold, html_of, write_page
from relatum.curation.report.charts import bar, figure, histogram_chart
from relatum.curation.report.numbers import groups, histogram, independent, marks, numbers_of
from relatum.curation.report.page import clock, visible
from relatum.curation.report.thumbnails import first, nearest, rails, shares, strip
from relatum.page import CONTENT_POLICY
from support.curated import EVIL, NAMES, curated, jpeg

KNOWN = np.array([True, False, True, True])


class Tags(HTMLParser):
    """Every tag of a page with its attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def tiny(**changes: object) -> Curated:
    """Four clips of 2, 3, 4, 5 s; "motion" drops the first two, "text" the second and third; d is kept."""
    clips = Clips(["a", "b", "c", "d"], ["v", "v", "w", "w"], np.array([0.0, 2, 0, 4]), np.array([2.0, 5, 4, 9]), np.arange(4) == 3)
    filters = (
        Filter("motion", "motion.mean >= 0.2", ["0.1 < 0.2", "0.15 < 0.2", None, None]),
        Filter("text", "text.area <= 0.07", [None, "0.5 > 0.07", "0.6 > 0.07", None], 1, "kept"),
    )
    facts = {"motion.mean": np.array([0.1, 0.15, 0.25, 0.3]), "text.area": np.array([np.nan, 0.5, 0.6, 0.07])}
    ladder = (Rung(0.1, 4, 2, 0.0), Rung(0.2, 2, 1, 0.5, True))
    lines = (Threshold("motion", "motion.mean", 0.2, None, "as given", ladder), Threshold("text", "text.area", None, 0.07))
    steps = (Step("sources", 5), Step("videos read", 2, {"error: open_failed": 3}, 20.0))
    given = {"steps": steps, "filters": filters, "thresholds": lines, "facts": facts} | changes
    return Curated("four", "2026-01-01", clips, **given)  # type: ignore[arg-type]


def test_the_sentence_and_the_counts():
    """Motion drops 2 (alone 1, as both drop b), text 2 (alone 1); 1 of 4 kept, 5 of 14 s; independent: 1/2 x 1/2 = 25 %."""
    view = tiny()
    text = " ".join(Tags(html_of(view)).text.replace("\u00a0", " ").split())
    assert "5 sources came in, 20.0 s of footage; 4 clips were made, of which 1 is kept (25.0 %): 5.0 s." in text
    assert "− 3 error: open_failed" in text
    assert "If they dropped independently of each other, 25.0 % would be left; 25.0 % are." in text
    assert "motion.mean ≥ 0.2 (as given)" in text
    assert "text.area ≤ 0.07 · 1 clip without this fact" in text
    assert independent(view.filters) == 0.25
    numbers = numbers_of(view)
    assert numbers["clips"] == {"count": 4, "seconds": 14.0, "kept": 1, "kept_seconds": 5.0}
    assert [(f["dropped"], f["only_by_this"], f["missing"]) for f in numbers["filters"]] == [(2, 1, 0), (2, 1, 1)]
    rung = numbers["thresholds"][0]["ladder"][1]
    assert rung == {"value": 0.2, "alone": 2, "together": 1, "share": 0.5, "current": True, "sign": ""}


def test_the_clips_beside_a_threshold():
    """Motion keeps from .2: d is the only kept clip, a is dropped by motion alone and so stands before the nearer b."""
    found = {(rail.about, rail.of): [tiny().clips.id[at] for at in rail.clips] for rail in rails(tiny())}
    assert found[("near", "motion")] == ["d"]
    assert found[("past", "motion")] == ["a", "b"]
    assert found[("past", "text")] == ["c", "b"]
    assert found[("kept", "")] == ["d"]
    assert len(rails(tiny(), most=3)) == 3


def test_a_range_without_a_threshold():
    """Too few clips for a percentile: its fact is drawn, without a line, and nothing stands near to it."""
    view = tiny(thresholds=(Threshold("motion", "motion.mean", ladder=[Rung(0.3, 1, 1, 0.75, False, "≤")]),))
    page = html_of(view)
    assert "motion.mean has no threshold" in page
    assert "≤ 0.3" in page
    assert 'class="limit"' not in page
    assert {rail.about for rail in rails(view)} == {"dropped", "kept"}


def test_text_from_users_is_escaped_everywhere():
    """Names, captions, reasons, lines, units, words, commands of the run are the attack: no tag and no attribute comes of them."""
    view = curated(120, units={"motion.mean": EVIL, "seconds": EVIL})
    page = html_of(view)
    tags = Tags(page)
    assert {tag for tag, _ in tags.found}.isdisjoint({"script", "iframe", "object", "link", "base", "form"})
    names = {name for _, attributes in tags.found for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    assert {attributes["src"][:10] for tag, attributes in tags.found if tag == "img"} == {"data:image"}  # type: ignore[index]
    assert all(attributes["href"].startswith("#") for _, attributes in tags.found if attributes.get("href"))  # type: ignore[union-attr]
    assert "url(" not in page
    policies = [a["content"] for tag, a in tags.found if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy"]
    assert policies == [CONTENT_POLICY]
    for place in ("is gone", "a list of clips; ", "crash: ", "# "):
        assert (EVIL + " " + place if place == "is gone" else place + EVIL) in tags.text
    assert EVIL in {a.get("aria-label", "").split(":")[0] for _, a in tags.found} or f"0.02 {EVIL}" in tags.text  # type: ignore[union-attr]


def test_names_that_act_on_their_neighbors_are_shown_as_escapes():
    """A line break, a mark that turns the writing, half a surrogate pair; letters and joined emoji stay."""
    assert visible("a\nb\u202ec\udcffd\x00") == "a\\nb\\u202ec\\udcffd\\x00"
    family = "Ζεύς 日本\u00a0👨\u200d👩\u200d👧"
    assert visible(family) == family
    page = html_of(curated(60))
    assert "\u202e" not in page
    assert "kite\\nfestival.mkv" in page
    assert "surrogate \\udcff.avi" in page
    page.encode()


def test_files(tmp_path: Path):
    """report.json has what the page has, strictly JSON although facts are NaN; the same run gives the same bytes."""
    path = write_page(tmp_path / "run", curated(60))
    assert path == tmp_path / "run" / "report.html"
    numbers = json.loads((tmp_path / "run" / "report.json").read_text(), parse_constant=lambda word: pytest.fail(word))
    assert numbers["clips"]["count"] == 60
    assert numbers["facts"]["aesthetic.score"]["missing"] == 60
    assert numbers["troubles"][0] == {"status": "error", "reason": "open_failed", "count": len(NAMES)}
    assert path.read_text() == html_of(curated(60))
    assert sorted(file.name for file in path.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize("count", [0, 1])
def test_runs_of_nothing(count: int):
    page = html_of(curated(count))
    assert ("no clip was made of them" in page) == (count == 0)
    assert ("1 clip was made, of which 1 is kept" in page) == (count == 1)
    clips = Clips([], [], np.zeros(0), np.zeros(0), np.zeros(0, bool))
    assert "No clip was made." in html_of(Curated("bare", "today", clips))


def test_arrays_of_another_length_are_refused():
    with pytest.raises(DataError, match=r"motion\.mean has 3 entries, expected one for each of 4 clips"):
        tiny(facts={"motion.mean": np.zeros(3), "text.area": np.zeros(4)})
    with pytest.raises(DataError, match="no such filter or fact"):
        tiny(thresholds=(Threshold("motion", "motion.median", 1.0),))


def test_bins_by_hand():
    """0, 1.5, missing, 6 over three bins of 2: two in the first, none, one at the closed end; the second clip is dropped."""
    bins = histogram(np.array([0, 1.5, np.nan, 6]), KNOWN, count=3)
    assert bins.edges.tolist() == [0, 2, 4, 6]
    assert (bins.kept.tolist(), bins.dropped.tolist(), bins.missing, bins.count) == ([1, 0, 1], [1, 0, 0], 1, 3)


def test_a_threshold_is_an_edge():
    """0 to 10 in 4 bins is 2.5 a bin: from 2 on 4.5, 7 and not 9.5, too near to 10. Of 2 and 8 the 6 between are two bins of 3.

    One at 10 has a bin of its own beyond, as what equals it is kept; one at 20 makes the bins 5 wide, and one more.
    """
    values = np.array([0, 1.25, 3, 10.0])
    assert histogram(values, KNOWN, [2.0], 4).edges.tolist() == [0, 2, 4.5, 7, 10]
    assert histogram(values, KNOWN, [2.0], 4).kept.tolist() == [1, 1, 0, 1]
    assert histogram(values, KNOWN, [2.0, 8.0], 4).edges.tolist() == [0, 2, 5, 8, 10]
    assert histogram(values, KNOWN, [10.0], 4).edges.tolist() == [0, 2.5, 5, 7.5, 10, 12.5]
    assert histogram(values, KNOWN, [10.0], 4).kept.tolist() == [1, 1, 0, 0, 1]
    assert histogram(values, KNOWN, [20.0], 4).edges.tolist() == [0, 5, 10, 15, 20, 25]
    near = histogram(values, KNOWN, [2.0, 2.001], 4).edges.tolist()
    assert (near, len(near)) == (sorted({*near, 2.0, 2.001}), 6)


def test_what_equals_an_upper_limit_lies_on_the_kept_side():
    """text.area .07 is kept at a limit of .07: no bin right of the line has it. Its three values reach from .07 to .6."""
    view = tiny()
    bins = histogram(view.facts["text.area"], view.clips.keep, marks(view, "text.area"))
    right = bins.edges[:-1] > 0.07
    assert (bins.kept[right].sum(), bins.kept.sum(), bins.edges[0] < 0.06) == (0, 1, True)


def test_whole_numbers_have_a_bin_each():
    bins = histogram(np.array([0, 2, 2, 3.0]), KNOWN)
    assert bins.edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert (bins.kept + bins.dropped).tolist() == [1, 0, 2, 1]


def test_wide_positive_values_have_a_logarithmic_scale_and_zeros_their_own_place():
    """.001, .01, ..., 100 and two zeros, thresholds at .1: edges grow by one factor, and .1 is among them to the bit."""
    values = np.concatenate([[0, 0], 10.0 ** np.arange(-3, 3)])
    bins = histogram(values, np.arange(8) != 1, [0.1], 10)
    assert bins.log
    assert bins.below == (1, 1)
    assert 0.1 in bins.edges
    assert np.allclose(np.diff(np.log10(bins.edges)), np.log10(bins.edges[1] / bins.edges[0]))
    assert bins.count == 8
    assert not histogram(values, np.arange(8) != 1, [0.0], 10).log
    assert not histogram(values - 0.5, np.arange(8) != 1, count=10).log


def test_a_value_far_outside_does_not_squeeze_the_others():
    """999 values in [0, 1] and 1,000: the .5th to 99.5th percentile reach about 1, a quarter more is left; one clip is above."""
    values = np.append(np.linspace(0, 1, 999), 1000)
    bins = histogram(values, np.ones(1000, bool))
    assert bins.edges[-1] < 1.3
    assert (bins.above, bins.count) == ((1, 0), 1000)
    assert histogram(np.full(4, 7.25), KNOWN).count == 4


def test_charts():
    """Bars: 1/4 and 1/2 of 100. Threshold .25 of values 0 to 1 stands a quarter of the way from 52 to 608: at 191."""
    pieces = str(bar([("only", 0.25), ("also", 0.5)], "<b>"))
    assert '<rect class="only" x="0" width="25" height="10"/><rect class="also" x="25" width="50" height="10"/>' in pieces
    assert "&lt;b&gt;" in pieces
    bins = histogram(np.array([0, 0.3, 0.5, 1]), KNOWN, [0.25], 4)
    drawn = str(histogram_chart(bins, EVIL, 0.25))
    assert '<line class="limit" x1="191" x2="191"' in drawn
    assert "threshold at least 0.25" in drawn
    assert drawn.count("<path") == 3  # what is left out, kept, dropped
    assert "<script" not in drawn
    tall = str(histogram_chart(histogram(np.repeat([0, 1, 2, 3.0], [900, 3, 2, 4]), np.ones(909, bool)), "x"))
    assert ">900</text>" in tall  # cut off, with its count
    mixed = histogram_chart(histogram(np.repeat([0, 1, 2, 3.0], [900, 3, 2, 4]), np.arange(909) % 3 > 0), "x")
    tops = [float(top) for top in re.findall(r'class="dropped" d="M[\d.]+ ([\d.]+)H[\d.]+V', str(mixed))]
    feet = [float(foot) for foot in re.findall(r'class="dropped" d="M[\d.]+ [\d.]+H[\d.]+V([\d.]+)', str(mixed))]
    assert (tops[0], feet[0]) == (24.0, 84.0)  # a third of 24 to 204 is dropped, of the bar that is cut off, too
    assert "No clip has this fact" in histogram_chart(histogram(np.full(4, np.nan), KNOWN), "x")


def test_numbers_in_words():
    assert [figure(v) for v in (0, 0.0213, -0.5, 1234.5, 2e7, 3e-6, np.nan, None)] == [
        "0",
        "0.0213",
        "−0.5",
        "1,234",
        "2.00e+07",
        "3.00e−06",
        "–",
        "–",
    ]
    assert [clock(s) for s in (0, 59.96, 754.25, 3723.4)] == ["0:00.0", "1:00.0", "12:34.2", "1:02:03.4"]


def test_samples_are_the_same_every_time():
    """Nearest: one of each video first (places 0 and 2), then place 1; `first` goes by the clips' ids, not by their order."""
    away = np.array([0.1, 0.2, 0.3, 0.4])
    assert nearest(away, np.array([True, True, True, False]), ["v", "v", "w", "w"], 2) == [0, 2]
    assert nearest(away, np.array([True, True, True, False]), ["v", "v", "w", "w"], 3) == [0, 1, 2]
    ids = [f"clip{i}" for i in range(20)]
    chosen = {ids[at] for at in first(range(20), ids, "motion", 5)}
    back = ids[::-1]
    assert {back[at] for at in first(range(20), back, "motion", 5)} == chosen
    assert shares([4, 1, 0, 9], 8) == [4, 1, 0, 3]
    assert shares([1, 1], 8) == [1, 1]


def test_groups_of_duplicates():
    """b and d are like a, e is like c; z was dropped from the run: its twin f stands alone, after the others."""
    assert groups(list("abcdef"), ["", "a", "", "a", "c", "z"]) == [[0, 1, 3], [2, 4], [5]]


def test_strips_are_small_whatever_the_stills():
    """Three stills of 320 x 180 become 160 x 90 each with 2 pixels between them: 484 x 90; what is no picture is left out."""
    found = strip([jpeg(1, at, 0.1) for at in range(5)])
    assert found is not None
    assert found[1:] == (484, 90)
    assert Image.open(io.BytesIO(base64.b64decode(found[0].partition(",")[2]))).size == (484, 90)
    assert strip([jpeg(1, 0, 0, 90, 160)]) == strip([jpeg(1, 0, 0, 90, 160), b"not a picture"])
    assert strip([b"not a picture"]) is None
    assert strip([]) is None


def test_the_page_is_below_6_mb_whatever_the_run():
    """30 filters with thresholds on 5,000 clips whose stills are noise: at most 100 strips of three stills."""
    draw = np.random.default_rng(0)
    stream = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (120, 160, 3), np.uint8)).save(stream, "JPEG", quality=95)
    view = curated(5000, stills=lambda clip: [stream.getvalue()] * 3)
    facts = {f"fact{i}.mean": draw.normal(size=5000) for i in range(30)}
    filters = [Filter(f"fact{i}", "x", ["no" if v < -1 else None for v in facts[f"fact{i}.mean"]]) for i in range(30)]
    lines = [Threshold(f"fact{i}", f"fact{i}.mean", -1.0) for i in range(30)]
    page = html_of(Curated("noise", "today", view.clips, filters=filters, thresholds=lines, facts=facts, stills=view.stills))
    assert len(re.findall("<img ", page)) == 100
    assert len(page.encode()) < 6e6
