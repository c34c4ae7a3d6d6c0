"""The readers of matching benchmarks on small files in the layouts that their authors publish, and what bad ones say."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.errors import DataError, RecipeError
from relatum.data.benchmarks.aro import Aro
from relatum.data.benchmarks.gdbench import GDBench
from relatum.data.benchmarks.imagecode import ImageCode
from relatum.data.benchmarks.retrieval import Retrieval
from relatum.data.benchmarks.winoground import Winoground
from relatum.imaging import decode, fit
from support.pictures import noise, parquet, png

CAPTIONS = {"caption_0": "an old person kisses a young person", "caption_1": "a young person kisses an old person"}


def pictures(root: Path, *names: str) -> Path:
    for i, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(png(noise(i)))
    return root


def written(path: Path, content: Any) -> Path:
    """JSON, or JSON lines where the name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "\n".join(json.dumps(line) for line in content) if path.suffix == ".jsonl" else json.dumps(content)
    path.write_text(lines, encoding="utf-8")
    return path


def shows(image: Any, seed: int) -> bool:
    return torch.equal(image.pixels(16), fit(decode(png(noise(seed)), "x"), 16))


# Winoground


def test_winoground_parquet(tmp_path: Path) -> None:
    rows = [
        {
            "id": i + 7,
            "image_0": png(noise(2 * i)),
            "image_1": png(noise(2 * i + 1)),
            **CAPTIONS,
            "tag": "Noun",
            "collapsed_tag": "Object",
        }
        for i in range(3)
    ]
    made = Winoground(parquet(tmp_path / "test.parquet", rows), cache=str(tmp_path / "cache"), limit=2)
    items = made.items()
    assert [(item.id, item.tag, item.texts) for item in items] == [(str(i), "Noun", tuple(CAPTIONS.values())) for i in (7, 8)]
    assert items[1].matches == ((0, 0), (1, 1))
    assert shows(items[1].images[0], 2)
    assert shows(items[1].images[1], 3)
    assert Winoground(tmp_path, cache=str(tmp_path / "cache"), tag="collapsed_tag").items()[2].tag == "Object"
    assert (made.asks, made.strict) == (("text", "image", "group"), True)


def test_winoground_lines(tmp_path: Path) -> None:
    """Its examples.jsonl names pictures without their ending."""
    pictures(tmp_path / "images", "ex_0_img_0.png", "ex_0_img_1.png")
    lines = [{"id": 0, "image_0": "ex_0_img_0", "image_1": "ex_0_img_1", **CAPTIONS, "tag": "Adjective-Age"}]
    written(tmp_path / "examples.jsonl", lines)
    (item,) = Winoground(tmp_path).items()
    assert (item.id, item.tag) == ("examples.jsonl:0", "Adjective-Age")
    assert shows(item.images[1], 1)


def test_winoground_on_real_photographs(tmp_path: Path, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "aurora_bench" / "images_dev.zip") as archive:
        archive.extractall(tmp_path)
    items = Winoground(shared_data / "aurora_bench" / "whatsup_2x2_dev.jsonl", images=str(tmp_path)).items()
    assert len(items) == 20
    assert items[1].texts == ("a book to the left of a cup", "a book to the right of a cup")
    assert all(image.pixels(32).std() > 0.1 for item in items for image in item.images)
    assert len({image.digest() for image in items[1].images}) == 2


def test_missing_pictures_stop_or_are_listed(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    names = [("a.png", "b.png"), ("a.png", "gone.png"), ("broken.png", "b.png"), ("a.png", "../b.png")]
    file = written(tmp_path / "metadata.jsonl", [{"image_0": x, "image_1": y, **CAPTIONS} for x, y in names])
    with pytest.raises(DataError, match=r"metadata\.jsonl:2 \(image: gone\.png\): no such file; names are relative to .* images"):
        Winoground(file).items()
    made = Winoground(file, on_bad_row="skip")
    assert [item.id for item in made.items()] == ["metadata.jsonl:1"]
    assert len(made.skipped) == 3
    assert "gone.png): no such file" in made.skipped[0]
    assert "broken.png): is not an image" in made.skipped[1]
    assert "leads out of" in made.skipped[2]
    assert len(made.items()) == len(made.skipped) - 2 == 1


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"image_0": "a.png", "image_1": "a.png", "caption_0": "x"}, r"metadata\.jsonl:1: caption_1 is missing, expected text"),
        ({"image_0": 3, "image_1": "a.png", **CAPTIONS}, r"image_0 is int 3, expected text"),
        ({"image_1": "a.png", **CAPTIONS}, r"image_0 is missing"),
        ([1], r"expected a JSON object, found list"),
        ({"image_0": "a.png", "image_1": "a.png", "caption_0": "x", "caption_1": "\ud800"}, "is not valid Unicode"),
        ({"image_0": "a.png", "image_1": "a.png", "caption_0": "x", "caption_1": "   "}, "caption_1 is empty"),
        ({"image_0": "a.png", "image_1": "\ud800.png", "caption_0": "x", "caption_1": "y"}, "is not valid Unicode"),
    ],
)
def test_bad_lines_of_winoground(tmp_path: Path, line: Any, message: str) -> None:
    pictures(tmp_path, "a.png")
    with pytest.raises(DataError, match=message):
        Winoground(written(tmp_path / "metadata.jsonl", [line])).items()


def test_paths_that_are_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        Winoground(tmp_path / "gone.jsonl").items()
    with pytest.raises(DataError, match="no parquet file here"):
        Winoground(tmp_path).items()
    with pytest.raises(DataError, match="no items"):
        Winoground(written(tmp_path / "data.json", [])).items()
    with pytest.raises(DataError, match="expected a list of entries, found dict"):
        Winoground(written(tmp_path / "data.json", {})).items()
    with pytest.raises(DataError, match="is no folder"):
        Winoground(written(tmp_path / "data.json", []), images=str(tmp_path / "gone")).items()
    with pytest.raises(DataError, match=r"expected a \.parquet"):
        Winoground(pictures(tmp_path, "a.png") / "a.png").items()
    with pytest.raises(DataError, match=rf"^{tmp_path}: cannot be read \(Is a directory\)"):
        Aro(tmp_path).items()
    with pytest.raises(RecipeError, match="limit: found -1"):
        Winoground(tmp_path, limit=-1).items()


def test_ids_must_be_unique(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png")
    line = {"id": 1, "image_0": "a.png", "image_1": "a.png", **CAPTIONS}
    with pytest.raises(DataError, match=r"data\.json: two items have the id data\.json:1; ids must be unique"):
        Winoground(written(tmp_path / "data.json", [line, line])).items()


# ARO

BOX = {"bbox_x": 5, "bbox_y": 3, "bbox_w": 10, "bbox_h": 8}


def test_aro_relation_shows_the_box(tmp_path: Path) -> None:
    """The box is columns 5 to 14 and rows 3 to 10 of 32 x 24, of which the middle 8 x 8 is seen: columns 6 to 13."""
    pictures(tmp_path / "images", "1.jpg")
    entry = {"image_path": "1.jpg", **BOX, "true_caption": "the dog is on the bed", "false_caption": "the bed is on the dog"}
    file = written(tmp_path / "visual_genome_relation.json", [entry | {"relation_name": "on"}])
    (item,) = Aro(file).items()
    assert item.texts == ("the dog is on the bed", "the bed is on the dog")
    assert (item.id, item.tag, item.group, item.matches) == ("visual_genome_relation.json:1", "on", "1.jpg", ((0, 0),))
    whole = decode(png(noise(0)), "x")
    assert torch.equal(item.images[0].pixels(8), whole[:, 3:11, 6:14])
    assert item.images[0].digest() != Aro(file, task="vg_attribution").items()[0].images[0].image.digest()  # type: ignore[attr-defined]
    other = [entry | {"attributes": ["brown", "white"]}]
    assert Aro(written(file, other), task="vg_attribution").items()[0].tag == "brown_white"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox_w": 0}, "a box of 0 x 8 pixels shows nothing"),
        ({"bbox_h": "8"}, "bbox_h is '8', expected a whole number"),
        ({"bbox_x": None}, "bbox_x is None, expected a whole number"),
        ({"bbox_y": float("nan")}, "bbox_y is nan, expected a whole number"),
        ({"bbox_w": 10**400}, r"bbox_w is 10{79}, expected a whole number below 2\*\*31"),
        ({"false_caption": ""}, "false_caption is empty, expected text"),
        ({"image_path": None}, "the image is None, expected a file name"),
    ],
)
def test_bad_entries_of_aro(tmp_path: Path, change: dict, message: str) -> None:
    pictures(tmp_path, "1.jpg")
    entry = {"image_path": "1.jpg", **BOX, "true_caption": "a", "false_caption": "b"}
    with pytest.raises(DataError, match=rf"r\.json: entry 2: {message}"):
        Aro(written(tmp_path / "r.json", [entry, entry | change])).items()


def test_a_box_outside_of_its_image(tmp_path: Path) -> None:
    pictures(tmp_path, "1.jpg")
    entry = {"image_path": "1.jpg", **BOX, "bbox_x": 40, "true_caption": "a", "false_caption": "b"}
    (item,) = Aro(written(tmp_path / "r.json", [entry])).items()
    with pytest.raises(DataError, match=r"lies outside of an image of 32 x 24"):
        item.images[0].pixels(8)
    made = Aro(written(tmp_path / "r.json", [entry, entry | {"bbox_x": 25}]), on_bad_row="skip")
    assert len(made.items()) == len(made.skipped) == 1


def test_aro_orders(tmp_path: Path) -> None:
    """Captions of Karpathy's COCO file, one item each; one of a single word has no other order and is listed."""
    pictures(tmp_path, "val2014/a.jpg", "val2014/b.jpg")
    captions = ["A brown dog chases a small cat under the old table.", "Dog.", "Two men ride red bikes down a steep hill!"]
    content = [
        {"image": "val2014/a.jpg", "caption": captions},
        {"image": "val2014/b.jpg", "caption": "A tall boy eats a green apple."},
    ]
    made = Aro(written(tmp_path / "coco_karpathy_test.json", content), task="coco_order", tagger="rules")
    items = made.items()
    assert [item.id.partition(":")[2] for item in items] == ["1.1", "1.3", "2.1"]
    assert len(made.skipped) == 1
    assert "entry 1, caption 2: has no other order" in made.skipped[0]
    for item in items:
        assert len(item.texts) == len(item.facts["rules"]) + 1 > 2
        assert all(sorted(text.split()) == sorted(item.texts[0].split()) for text in item.texts if "an" not in text.split())
    assert items[0].texts[0] == "a brown dog chases a small cat under the old table"
    assert items[0].group == items[1].group == "val2014/a.jpg"
    assert [item.texts for item in items] == [item.texts for item in made.items()]
    assert items[0].texts[1:] != Aro(made.path, task="coco_order", tagger="rules", seed=1).items()[0].texts[1:]
    assert Aro(made.path, task="flickr_order", tagger="rules", max_words=0, limit=1).items()[0].texts[0] == captions[0]


def test_aro_options_that_are_ready(tmp_path: Path) -> None:
    pictures(tmp_path, "a.jpg")
    content = [{"image": "a.jpg", "caption_options": ["A dog.", "Dog a!"]}]
    (item,) = Aro(written(tmp_path / "a.json", content), task="flickr_order").items()
    assert item.texts == ("a dog", "dog a")
    with pytest.raises(DataError, match="two of its captions are 'a dog'"):
        Aro(written(tmp_path / "a.json", [{"image": "a.jpg", "caption_options": ["A dog.", "a dog"]}]), task="coco_order").items()
    with pytest.raises(DataError, match="entry 1: caption 1 is None, expected text"):
        Aro(written(tmp_path / "a.json", [{"image": "a.jpg"}]), task="coco_order").items()


# ImageCoDe


def image_sets(tmp_path: Path) -> Path:
    for name in ("open-images-1_a", "MSR-VTT-video_1"):
        pictures(tmp_path / "image-sets" / name, *(f"img{i}.jpg" for i in range(11)))
    content = {"open-images-1_a": {"10": "A deer head. ", "2": "Some grass."}, "MSR-VTT-video_1": {"7": "two girls"}}
    return written(tmp_path / "valid_data.json", content)


def test_imagecode(tmp_path: Path) -> None:
    """Eleven images: img10 comes after img9, not after img1."""
    made = ImageCode(image_sets(tmp_path))
    items = made.items()
    assert [(i.id, i.texts, i.matches, i.tag) for i in items] == [
        ("open-images-1_a:10", ("A deer head.",), ((10, 0),), "static"),
        ("open-images-1_a:2", ("Some grass.",), ((2, 0),), "static"),
        ("MSR-VTT-video_1:7", ("two girls",), ((7, 0),), "video"),
    ]
    assert all(shows(items[0].images[i], i) for i in (1, 2, 10))
    assert (made.asks, made.strict, items[0].group) == (("image",), False, "open-images-1_a")
    assert [i.tag for i in ImageCode(made.path, sets="video").items()] == ["video"]
    assert len(ImageCode(made.path, sets="static", limit=1).items()) == 1


def test_bad_image_sets(tmp_path: Path) -> None:
    file = image_sets(tmp_path)
    (tmp_path / "image-sets" / "open-images-1_a" / "img4.jpg").unlink()
    with pytest.raises(DataError, match=r"open-images-1_a: expected img0, img1 and so on in .*, found \[0, 1, 2, 3, 5"):
        ImageCode(file).items()
    made = ImageCode(file, on_bad_row="skip")
    assert [item.tag for item in made.items()] == ["video"]
    assert len(made.skipped) == 2
    for content, message in (
        ({"MSR-VTT-video_1": {"11": "x"}}, "the index '11' is none of 0 to 10"),
        ({"MSR-VTT-video_1": ["x"]}, "sets without labels cannot be judged"),
        ({"MSR-VTT-video_1": {"1": ""}}, "description 1 is '', expected text"),
        ({"../image-sets/MSR-VTT-video_1/../../..": {"1": "x"}}, "expected img0"),
        ([], "expected an object of image sets, found list"),
    ):
        with pytest.raises(DataError, match=message):
            ImageCode(written(tmp_path / "valid_data.json", content)).items()
    with pytest.raises(DataError, match="set images to the one that holds the image sets"):
        ImageCode(written(tmp_path / "other" / "valid_data.json", {})).items()


# GDBench

PAIRS = [["A gray cylinder.", "A purple cylinder."], ["A purple sphere.", "A gray sphere."]]


@pytest.mark.parametrize("layout", ["spatial.json", "spatial.jsonl"])
def test_gdbench_clevr(tmp_path: Path, layout: str) -> None:
    pictures(tmp_path / "images", "a.png", "b.png")
    lines = [{"image": "a.png", "pairs": PAIRS}, {"image": "b.png", "pairs": PAIRS[:1]}]
    file = written(tmp_path / layout, lines if layout.endswith("l") else {line["image"]: line["pairs"] for line in lines})
    made = GDBench(file)
    items = made.items()
    assert [item.id for item in items] == ["spatial:a.png:1", "spatial:a.png:2", "spatial:b.png:1"]
    assert [item.texts for item in items[:2]] == [tuple(pair) for pair in PAIRS]
    assert {item.tag for item in items} == {"spatial"}
    assert [item.group for item in items] == ["a.png", "a.png", "b.png"]
    assert (made.asks, made.strict, items[0].matches) == (("text",), False, ((0, 0),))
    written(tmp_path / "pair_binding_color.json", {"b.png": PAIRS})
    written(tmp_path / "CLEVR_scenes.json", [])
    assert [item.tag for item in GDBench(tmp_path).items()] == ["pair_binding_color"] * 2 + ["spatial"] * 3


def test_gdbench_on_its_own_captions(tmp_path: Path, shared_data: Path) -> None:
    """The captions as published, every picture replaced by the same noise."""
    for file in sorted((shared_data / "text" / "dev").glob("gdbench_clevr_*.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines()]
        pictures(tmp_path, *(line["image"] for line in lines[:20]))
        items = GDBench(file, images=str(tmp_path), limit=40).items()
        assert len(items) == 40
        assert all(len(item.texts) == 2 for item in items)


def test_gdbench_other_tasks(tmp_path: Path) -> None:
    pictures(tmp_path / "images", "0.jpg", "1.jpg")
    svo = [{"pos_id": "1.jpg", "neg_id": "0.jpg", "sentence": "Girl is standing.", "neg_type": "subj", "pos_triplet": "x"}]
    made = GDBench(written(tmp_path / "svo.json", svo), task="svo")
    (item,) = made.items()
    assert (item.tag, item.texts, item.matches, made.asks) == ("subj", ("Girl is standing.",), ((0, 0),), ("image",))
    assert shows(item.images[0], 1)
    path = "datasets/flickr30k/images"
    text = GDBench(written(tmp_path / "t.json", {f"{path}/1.jpg": ["right", "wrong", "worse", "wrong"]}), task="flickr30k_text")
    assert (text.items()[0].texts, text.asks) == (("right", "wrong", "worse"), ("text",))
    image = GDBench(written(tmp_path / "i.json", {"right": [f"{path}/1.jpg", f"{path}/0.jpg"]}), task="flickr30k_image")
    assert (len(image.items()[0].images), image.asks) == (2, ("image",))
    assert shows(image.items()[0].images[0], 1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a.png": [["x", "x"]]}, r"a\.png:1: two of its captions are 'x', so that none can be right"),
        ({"a.png": [["x"]]}, r"a\.png, pair 1: found \['x'\], expected two captions"),
        ({"a.png": [["x", 3]]}, "expected a text or a list of texts"),
        ({"a.png": "x"}, r"expected a list of \[right, wrong\]"),
        ({"gone.png": [["x", "y"]]}, r"gone\.png\): no such file"),
        ([], "expected an object, found list"),
    ],
)
def test_bad_pairs(tmp_path: Path, content: Any, message: str) -> None:
    pictures(tmp_path, "a.png")
    with pytest.raises(DataError, match=message):
        GDBench(written(tmp_path / "spatial.json", content)).items()


# Retrieval


def test_retrieval_lines(tmp_path: Path) -> None:
    """Image a has two captions, over two lines; the caption of c is also b's."""
    pictures(tmp_path, "a.png", "b.png", "c.png")
    lines = [
        {"file_name": "a.png", "captions": ["a dog", "an animal"]},
        {"file_name": "b.png", "text": "a cat"},
        {"file_name": "a.png", "caption": "a dog"},
        {"file_name": "c.png", "texts": ["a cat", "a bat"]},
    ]
    made = Retrieval(written(tmp_path / "metadata.jsonl", lines).parent)
    (item,) = made.items()
    assert item.texts == ("a dog", "an animal", "a cat", "a bat")
    assert item.matches == ((0, 0), (0, 1), (1, 2), (2, 2), (2, 3))
    assert shows(item.images[2], 2)
    assert made.asks == ("text", "image")
    assert len(Retrieval(tmp_path, limit=2).items()[0].texts) == 3


def test_retrieval_of_other_layouts(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    for name in "ab":
        (tmp_path / f"{name}.txt").write_text(f"picture {name}")
    assert Retrieval(tmp_path).items()[0].texts == ("picture a", "picture b")
    (tmp_path / "metadata.csv").write_text("image,caption\na.png,first\nb.png,second\n")
    assert Retrieval(tmp_path).items()[0].texts == ("first", "second")
    karpathy = written(tmp_path / "karpathy.json", [{"image": f"{n}.png", "caption": [n, n * 2]} for n in "ab"])
    assert Retrieval(karpathy).items()[0].texts == ("a", "aa", "b", "bb")


def test_retrieval_of_real_photographs(tmp_path: Path, shared_data: Path) -> None:
    with zipfile.ZipFile(shared_data / "photos" / "skimage_14.zip") as archive:
        archive.extractall(tmp_path)
    folder = next(tmp_path.rglob("chelsea.*")).parent
    (item,) = Retrieval(shared_data / "photos" / "skimage_14.jsonl", images=str(folder)).items()
    assert len(item.images) == len(item.texts) == len(item.matches) == 14


def test_retrieval_in_blocks(tmp_path: Path) -> None:
    """11 images in blocks of 4: two blocks, three images left out and said so; no image twice."""
    names = [f"{i}.png" for i in range(11)]
    pictures(tmp_path, *names)
    written(tmp_path / "metadata.jsonl", [{"image": name, "caption": f"number {name}"} for name in names])
    made = Retrieval(tmp_path, candidates=4)
    items = made.items()
    assert [len(item.images) for item in items] == [4, 4]
    assert len({text for item in items for text in item.texts}) == 8
    assert made.skipped == ["3 of 11 images: they do not fill a block of 4"]
    assert all(f"{item.images[i].where.partition('image: ')[2][:-1]}" in item.texts[j] for item in items for i, j in item.matches)
    assert [item.texts for item in items] == [item.texts for item in made.items()]
    assert items[0].texts != Retrieval(tmp_path, candidates=4, seed=1).items()[0].texts
    assert len(Retrieval(tmp_path, candidates=50).items()[0].images) == 11


def test_bad_retrieval(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png", "c.png")
    lines: list[Any] = [{"image": f"{n}.png", "caption": n} for n in "abc"]
    for bad, message in (
        ({"image": "gone.png", "caption": "x"}, r"metadata\.jsonl:4 \(image: gone\.png\): no such file"),
        ({"image": "a.png"}, "expected one of the columns caption, captions, text, texts, found none"),
        ({"image": "a.png", "caption": "x", "text": "y"}, "found caption and text"),
        ({"image": "a.png", "caption": ["x", "\ud800"]}, r"metadata\.jsonl:4: caption '\\ud800' is not valid Unicode"),
        ({"image": "\ud800.png", "caption": "x"}, r"metadata\.jsonl:4: the image '\\ud800\.png' is not valid Unicode"),
        ({"image": "a.png", "caption": []}, r"caption is \[\], expected a text or a list of texts"),
    ):
        written(tmp_path / "metadata.jsonl", [*lines, bad])
        with pytest.raises(DataError, match=message):
            Retrieval(tmp_path).items()
        made = Retrieval(tmp_path, on_bad_row="skip")
        assert len(made.items()[0].images) == 3
        assert len(made.skipped) == 1
    with pytest.raises(DataError, match="found 1 images with captions"):
        Retrieval(written(tmp_path / "metadata.jsonl", lines[:1])).items()
    with pytest.raises(ValueError, match="candidates: found 1"):
        Retrieval(tmp_path, candidates=1)
