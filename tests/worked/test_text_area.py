"""Text area: drawn captions of known boxes, patterns that are no text, and the union of boxes by hand."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from relatum.core.errors import DataError, MissingExtra, RecipeError
from relatum.curation.base import Shown
from relatum.curation.lines import find_lines, share
from relatum.curation.stages.ocr import Ocr
from relatum.curation.stages.text import Text
from support.passes import clip, facts, texture


def area(picture: np.ndarray) -> float:
    return share(*find_lines(picture), picture.shape)


def caption(
    width: int,
    height: int,
    size: int,
    words: str = "News from the studio",
    x: float = 0.1,
    y: float = 0.8,
    ink: int = 240,
    under: int = 10,
) -> tuple[np.ndarray, tuple[float, ...]]:
    """(h w) uint8 with a line of text on a soft texture, outlined; and left, top, width, height of ink and outline as shares."""
    behind = 128 + 0.5 * (texture(3, height, width) - 128)
    picture = Image.fromarray(behind.clip(0, 255).astype(np.uint8))
    draw, font, at = ImageDraw.Draw(picture), ImageFont.load_default(size), (x * width, y * height)
    edge = max(size // 12, 1)
    left, top, right, bottom = draw.textbbox(at, words, font=font, stroke_width=edge)
    draw.text(at, words, font=font, fill=ink, stroke_width=edge, stroke_fill=under)
    return np.asarray(picture), (left / width, top / height, (right - left) / width, (bottom - top) / height)


def test_the_union_counts_each_cell_once_by_the_likelier_box() -> None:
    """A quarter of the frame for sure, .25, and another quarter at one half that shares a sixteenth: .25 + .5 (.25 - .0625)."""
    boxes = np.array([[0, 0, 0.5, 0.5], [0.25, 0.25, 0.5, 0.5]])
    expected = 0.25 + 0.5 * (0.25 - 0.0625)
    assert share(boxes, np.array([1.0, 0.5]), (360, 640)) == pytest.approx(expected, abs=1e-6)
    assert share(boxes[::-1], np.array([0.5, 1.0]), (360, 640)) == pytest.approx(expected, abs=1e-6)
    assert share(boxes[:0], np.zeros(0), (360, 640)) == 0


@pytest.mark.parametrize(
    ("width", "height", "size"), [(320, 240, 14), (426, 240, 20), (640, 360, 24), (640, 360, 56), (360, 640, 30), (641, 363, 33)]
)
def test_a_drawn_caption_has_about_its_own_area(width: int, height: int, size: int) -> None:
    """w x h; cells of two or four pixels on each side more, and descenders that few letters have less, stay within a third."""
    picture, (left, top, wide, high) = caption(width, height, size)
    found = area(picture)
    assert 0.67 * wide * high < found < 1.33 * wide * high
    boxes, weights = find_lines(picture)
    best = boxes[weights.argmax()]
    assert weights.max() > 0.9
    assert left - 0.03 < best[0] < best[0] + best[2] < left + wide + 0.03
    assert top - 0.03 < best[1] < best[1] + best[3] < top + high + 0.03


@pytest.mark.parametrize(("y", "ink", "under"), [(0.05, 240, 10), (0.45, 240, 10), (0.85, 15, 245)])
def test_wherever_it_stands_and_dark_on_bright(y: float, ink: int, under: int) -> None:
    picture, (_, _, wide, high) = caption(640, 360, 28, y=y, ink=ink, under=under)
    assert 0.67 * wide * high < area(picture) < 1.33 * wide * high


def test_text_in_the_black_bar_of_a_letterboxed_frame() -> None:
    """Two lines in the lower bar, each about .5 x .06 of the frame."""
    picture = texture(5, 360, 640).clip(0, 255).astype(np.uint8)
    picture[:48], picture[-48:] = 0, 0
    canvas = Image.fromarray(picture)
    draw, font, spans = ImageDraw.Draw(canvas), ImageFont.load_default(18), []
    for row in (314, 336):
        draw.text((160, row), "what was said here, and by whom", font=font, fill=235)
        spans.append(draw.textbbox((160, row), "what was said here, and by whom", font=font))
    truth = sum((c - a) * (d - b) for a, b, c, d in spans) / (640 * 360)
    assert 0.7 * truth < area(np.asarray(canvas)) < 1.4 * truth


def fence(period: int) -> np.ndarray:
    x = np.arange(640)
    picture = np.full((360, 640), 90, np.uint8)
    picture[120:260, x % period < period * 0.45] = 220
    return picture


def board(size: int) -> np.ndarray:
    y, x = np.mgrid[:360, :640]
    return np.where((y // size + x // size) % 2, 210, 40).astype(np.uint8)


def leaves(seed: int) -> np.ndarray:
    import cv2

    draw, picture = np.random.default_rng(seed), np.full((360, 640), 90, np.uint8)
    for _ in range(1500):
        x, y, long = int(draw.integers(640)), int(draw.integers(360)), int(draw.integers(2, 16))
        cv2.ellipse(
            picture, (x, y), (long, max(long // 3, 1)), float(draw.uniform(0, 180)), 0, 360, int(draw.integers(20, 230)), -1
        )
    return picture


@pytest.mark.parametrize("period", [9, 16, 40])
def test_a_fence_is_no_text(period: int) -> None:
    assert area(fence(period)) < 0.01


@pytest.mark.parametrize("size", [4, 9, 24])
def test_a_checkerboard_is_no_text(size: int) -> None:
    assert area(board(size)) < 0.01


@pytest.mark.parametrize("seed", [1, 2])
def test_foliage_and_soft_texture_are_hardly_text(seed: int) -> None:
    """Leaves with edges sharper than a camera's; now and then a few in a row."""
    assert area(leaves(seed)) < 0.03
    assert area(texture(seed, 360, 640, 60).clip(0, 255).astype(np.uint8)) < 0.01


@pytest.mark.parametrize("shape", [(1, 1), (2, 500), (360, 3), (23, 23), (360, 640)])
def test_a_blank_frame_of_any_size_has_none(shape: tuple[int, int]) -> None:
    assert area(np.full(shape, 77, np.uint8)) == 0


def test_facts_are_the_largest_and_the_mean_over_the_clips_frames() -> None:
    """Of areas 0, .125, .5, .25 at 0, 1, 2, 3 s, the clip [1, 3) has the second and third: .5 and .3125."""
    track = {"time": np.array([0.0, 1, 2, 3]), "area": np.array([0.0, 0.125, 0.5, 0.25])}
    assert Text().facts(track, clip(1, 3)) == {"area_max": 0.5, "area_mean": 0.3125, "method": "heuristic"}
    assert Text().facts(track, clip(3.5, 4)) == {"area_max": None, "area_mean": None, "method": "heuristic"}


def test_one_frame_a_second_of_a_pass() -> None:
    """75 frames, 3 s: captioned in the last second alone, so of three frames one has text."""
    bare, (picture, _) = texture(3, 240, 320, 20), caption(320, 240, 16)
    found = facts(Text(), [bare] * 50 + [picture] * 25)
    assert found["area_max"] == pytest.approx(area(picture), rel=0.2)
    assert found["area_mean"] == pytest.approx(found["area_max"] / 3, rel=1e-6)


@pytest.fixture(scope="module")
def ocr() -> Ocr:
    pytest.importorskip("rapidocr", reason="the extra ocr is not installed")
    pytest.importorskip("onnxruntime", reason="the extra ocr is not installed")
    look = Ocr(stills=1, short=256)
    look.open("cpu")
    return look


def shown(*stills: np.ndarray, facts: dict[str, Any] | None = None) -> Shown:
    return Shown(clip(), [np.dstack([still] * 3) if still.ndim == 2 else still for still in stills], {}, facts or {})


def test_ocr_finds_a_caption_and_none_in_a_blank_or_tiny_still(ocr: Ocr) -> None:
    picture, (_, _, wide, high) = caption(426, 256, 22)
    first, second = ocr([shown(picture, np.full((256, 426), 80, np.uint8)), shown(np.zeros((1, 1), np.uint8))])
    assert 0.7 * wide * high < first["area_max"] < 1.4 * wide * high
    assert first == {"area_max": first["area_max"], "area_mean": first["area_max"] / 2, "method": "rapidocr"}
    assert second["area_max"] == 0
    assert ocr([shown()])[0] == {"area_max": None, "area_mean": None, "method": "rapidocr"}


class Boxes:
    """A detector that finds these, in (left, top, right, bottom)."""

    def __init__(self, *boxes: tuple[int, int, int, int]) -> None:
        self.boxes = np.array([[[a, b], [c, b], [c, d], [a, d]] for a, b, c, d in boxes], np.float32)

    def __call__(self, still: np.ndarray, **options: bool) -> Any:
        assert options == {"use_det": True, "use_cls": False, "use_rec": False}
        return self


def test_boxes_of_ocr_count_where_they_overlap_once_and_whole_pictures_not() -> None:
    """Rasterized with their outlines: columns 10 to 59 and 40 to 89 of rows 20 to 29, together 80 x 10 of 100 x 100."""
    look = Ocr()
    look._detector = Boxes((10, 20, 59, 29), (40, 20, 89, 29), (0, 0, 99, 99))
    assert look([shown(np.zeros((100, 100), np.uint8))])[0]["area_max"] == pytest.approx(0.08)
    upright = Ocr()
    upright._detector = Boxes((20, 10, 29, 59))
    assert upright([shown(np.zeros((100, 100), np.uint8))])[0]["area_max"] == pytest.approx(0.05)


def test_a_band_looks_only_where_the_heuristic_is_undecided() -> None:
    look = Ocr(band=(0.02, 0.15))
    look._detector = Boxes((10, 20, 59, 29))
    still = np.zeros((100, 100), np.uint8)

    def said(area: float | None) -> dict[str, Any]:
        return {"text.area_max": area, "text.area_mean": 0.01, "text.method": "heuristic"}

    answers = look([shown(still, facts=said(area)) for area in (0.019, 0.02, 0.15, 0.151, None)])
    assert [answer["method"] for answer in answers] == ["heuristic", "rapidocr", "rapidocr", "heuristic", "rapidocr"]
    assert answers[0] == {"area_max": 0.019, "area_mean": 0.01, "method": "heuristic"}
    assert answers[1]["area_max"] == pytest.approx(0.05)
    with pytest.raises(DataError, match=r"text\.area_max"):
        look([shown(still)])
    assert look.reads is None
    assert Ocr().reads == ()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "rapidocr", None)
    with pytest.raises(MissingExtra, match=r"relatum\[ocr\]"):
        Ocr().open("cpu")


def test_a_detector_that_is_not_there_is_named(ocr: Ocr) -> None:
    with pytest.raises(DataError, match=r"none\.onnx"):
        Ocr(model="none.onnx").open("cpu")


@pytest.mark.parametrize("settings", [{"band": (0.1,)}, {"band": (0.2, 0.1)}, {"stills": 0}, {"short": 8}])
def test_ocr_settings_that_cannot_work(settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError):
        Ocr(**settings)


@pytest.mark.parametrize("fps", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_cannot_work(fps: float) -> None:
    with pytest.raises(RecipeError, match="fps"):
        Text(fps=fps)
