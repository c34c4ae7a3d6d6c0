"""Bad input: each fault is one clear error that names file and row, or is skipped with a count where the reader is told so."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from relatum.core.errors import DataError, ShapeError
from relatum.data.columns import require
from relatum.data.folder import Folder
from relatum.data.parquet import Parquet
from relatum.data.rows import Row
from relatum.data.webdataset import WebDataset
from support.pictures import add, edits, folder, noise, parquet, png, tar

LAYOUTS = ["folder", "parquet", "webdataset"]


def read(layout: str, root: Path, rows: list[dict[str, Any]], **settings: Any) -> tuple[list[Row], list[str]]:
    """The rows and what was skipped, of these edits stored in this layout."""
    root.mkdir(exist_ok=True)
    if layout == "folder":
        reader: Any = Folder(folder(root, rows), **settings)
    elif layout == "parquet":
        reader = Parquet(parquet(root / "a.parquet", rows), cache=str(root / "cache"), **settings)
    else:
        reader = WebDataset(tar(root / "a.tar", rows), **settings)
    return reader.rows(), reader.skipped


def place(layout: str, index: int) -> str:
    """How a message names row `index`, as a pattern."""
    return {
        "folder": rf"metadata\.jsonl:{index + 1}\b",
        "parquet": rf"a\.parquet row {index}\b",
        "webdataset": rf"a\.tar:a/{index:04}\b",
    }[layout]


def break_instruction(rows: list[dict[str, Any]]) -> None:
    rows[2]["edit_prompt"] = "  \n"


def break_truncated(rows: list[dict[str, Any]]) -> None:
    rows[2]["edited_image"] = rows[2]["edited_image"][:600]


def break_not_image(rows: list[dict[str, Any]]) -> None:
    rows[2]["input_image"] = b"<html>404</html>"


def break_mask(rows: list[dict[str, Any]]) -> None:
    rows[2]["mask"] = png(np.zeros((24, 31), np.uint8))


def break_bomb(rows: list[dict[str, Any]]) -> None:
    rows[2]["edited_image"] = png(np.zeros((1100, 1000), np.uint8))


FAULTS: dict[Callable[[list[dict[str, Any]]], None], str] = {
    break_instruction: r"no instruction \(edit_prompt is missing or empty\)",
    break_truncated: r"\(target: .*truncated",
    break_not_image: r"\(source: .*is not an image",
    break_mask: r"\(mask: .*the mask is 24 x 31, its image .* 24 x 32",
    break_bomb: r"\(target: .*1000 x 1100 = 1\.1 megapixels, the limit is 1",
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.removeprefix("break_"))
def test_a_bad_row_is_named_or_skipped(tmp_path: Path, layout: str, fault: Callable[[list[dict[str, Any]]], None]) -> None:
    """Stop: the error, at listing or when read, names file and row. Skip: the other rows, and one line that says the same."""
    rows = edits()
    fault(rows)
    message = place(layout, 2) + ".*" + FAULTS[fault]

    def use() -> None:
        for row in read(layout, tmp_path / "stop", rows, max_megapixels=1.0)[0]:
            for image in row.images.values():
                image.pixels(16)
            row.masks["changed"].mask(16)

    with pytest.raises(DataError, match=message):
        use()
    kept, skipped = read(layout, tmp_path / "skip", rows, max_megapixels=1.0, on_bad_row="skip")
    assert [row.texts["source"] for row in kept] == ["a scene 0", "a scene 1", "a scene 3"]
    assert len(skipped) == 1
    with pytest.raises(DataError, match=message):
        raise DataError(skipped[0])


def test_mask_of_other_size_is_a_shape_error(tmp_path: Path) -> None:
    rows = edits()
    break_mask(rows)
    with pytest.raises(ShapeError):
        read("folder", tmp_path, rows)[0][2].masks["changed"].mask(8)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_missing_column(tmp_path: Path, layout: str) -> None:
    """Asked for by the recipe: named with its near name. Needed by the task: with the columns that there are."""
    rows = [{name.replace("edit_prompt", "edit_promt"): value for name, value in row.items()} for row in edits()]
    with pytest.raises(DataError, match=r"no column 'edited_imag' for target; did you mean 'edited_image'\?"):
        read(layout, tmp_path, rows, columns={"target": "edited_imag"})
    found, _ = read(layout, tmp_path, rows)
    message = place(layout, 0) + r".*no text 'instruction'.*edit_prompt, instruction.*original_prompt.*did you mean 'edit_promt'"
    with pytest.raises(DataError, match=message):
        require(found, ("source", "target"), ("instruction",))


def test_require_names_the_image_and_an_empty_set() -> None:
    with pytest.raises(DataError, match="no image 'source'; looked for a column named input_image"):
        require([Row("a", "a", {}, {}, where="x:1")], images=("source",))
    with pytest.raises(DataError, match="my data: no rows"):
        require([], where="my data")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_duplicate_ids(tmp_path: Path, layout: str) -> None:
    rows = [{**row, "id": name} for row, name in zip(edits(), ("a", "b", "a", "c"), strict=True)]
    with pytest.raises(DataError, match=place(layout, 2) + ".*the id 'a' is taken by .*" + place(layout, 0)):
        read(layout, tmp_path / "stop", rows)
    kept, skipped = read(layout, tmp_path / "skip", rows, on_bad_row="skip")
    assert [row.id for row in kept] == ["a", "b", "c"]
    assert len(skipped) == 1


def test_null_cells(tmp_path: Path) -> None:
    """A null image is a bad row, a null mask is no mask, a null instruction is a bad row."""
    rows = edits()
    rows[1]["mask"] = rows[2]["edited_image"] = rows[3]["edit_prompt"] = None
    kept, skipped = read("parquet", tmp_path, rows, on_bad_row="skip")
    assert [set(row.masks) for row in kept] == [{"changed"}, set()]
    assert len(skipped) == 2
    assert "no target image" in skipped[0]


def write(root: Path, *lines: str | bytes, name: str = "metadata.jsonl") -> Folder:
    root.mkdir(exist_ok=True)
    (root / "a.png").write_bytes(png(noise(0)))
    (root / name).write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n")
    return Folder(root)


def line(source: Any = "a.png", **rest: Any) -> str:
    return json.dumps({"input_image": source, "edited_image": "a.png", "edit_prompt": "x", **rest})


BROKEN_LINES = {
    '{"input_image": ': "is not JSON",
    "[1, 2]": "expected a JSON object, found list",
    b'{"edit_prompt": "\xff"}': "is not UTF-8",
    line(edit_prompt=7): r"instruction \(edit_prompt\) is int 7, expected text",
    line(edit_prompt="\ud800"): "not valid Unicode",
    line(source=3): "input_image is int 3, expected a file name",
    line(source=None): "no source image",
    line(source="none.png"): "no such file",
    line(source="."): "is not a regular file",
    line(source="a\0.png"): "is no file name",
    line(source="x" * 5000): "File name too long|no such file",
    line(source="../secret.png"): "the path leads out of",
    line(source="/etc/hostname"): "the path leads out of",
    line(source="link.png"): "the path leads out of",
    line(source="away/secret.png"): "the path leads out of",
    line(id=[1]): "id is .1., expected a word",
    line(input_image_file_name="a.png"): "two columns mean the same",
}


@pytest.mark.parametrize("bad", BROKEN_LINES, ids=str)
def test_a_broken_line_is_named(tmp_path: Path, bad: str | bytes) -> None:
    (tmp_path / "secret.png").write_bytes(png(noise(1)))
    root = tmp_path / "data"
    reader = write(root, line(id="1"), "", bad, line(id="2"))
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "away").symlink_to(tmp_path)
    with pytest.raises(DataError, match=rf"metadata\.jsonl:3\b.*({BROKEN_LINES[bad]})"):
        reader.rows()
    reader.on_bad_row = "skip"
    reader.rows()
    assert len(reader.rows()) + len(reader.skipped) == 3
    assert any("metadata.jsonl:3" in reason for reason in reader.skipped)


def test_a_link_inside_the_folder_is_fine(tmp_path: Path) -> None:
    reader = write(tmp_path, line("link.png"))
    (tmp_path / "link.png").symlink_to("a.png")
    assert len(reader.rows()) == 1


@pytest.mark.parametrize(("text", "message"), [("", "no rows"), ("\n\n", "no rows"), ("{", r"jsonl:1: is not JSON")])
def test_empty_metadata(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path, text).rows()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("input_image,edited_image,edit_prompt\na.png,a.png", r"csv:2: has 2 fields, the heading 3"),
        ("input_image,input_image\na.png,a.png", r"csv:1: two columns are named 'input_image'"),
        ('input_image,edit_prompt\na.png,"x', r"csv:2: is not CSV"),
        ("input_image,edit_prompt", "no rows"),
    ],
)
def test_broken_csv(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        write(tmp_path, text, name="metadata.csv").rows()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        Folder(tmp_path / "none").rows()
    with pytest.raises(DataError, match="no images"):
        Folder(tmp_path).rows()
    for reader, noun in ((Parquet, "parquet file"), (WebDataset, "tar shard")):
        with pytest.raises(DataError, match="no such file or folder"):
            reader(tmp_path / "none").rows()
        with pytest.raises(DataError, match=f"no {noun} here"):
            reader(tmp_path).rows()
    (tmp_path / "metadata.jsonl").touch()
    (tmp_path / "metadata.csv").touch()
    with pytest.raises(DataError, match="set path to the one that is meant"):
        Folder(tmp_path).rows()


def test_a_sidecar_without_text(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(noise(0)))
    with pytest.raises(DataError, match=r"a\.png: no target caption"):
        Folder(tmp_path).rows()


AWKWARD = [
    "two\nlines.png",
    "ünï çødé 画.png",
    "<script>alert(1)</script>&amp;.png".replace("/", "_"),
    "a b'\"%s{x}.png",
    "-rf.png",
    "\u202e.png",
]


@pytest.mark.parametrize("name", AWKWARD)
def test_awkward_file_names(tmp_path: Path, name: str) -> None:
    """They work; and where such a file is broken its message is one line without control characters."""
    reader = write(tmp_path, line(name))
    (tmp_path / name).write_bytes(png(noise(1)))
    rows = reader.rows()
    assert rows[0].images["source"].pixels(8).shape == (3, 8, 8)
    (tmp_path / name).write_bytes(b"no")
    with pytest.raises(DataError) as error:
        rows[0].images["source"].pixels(8)
    assert str(error.value).isprintable()
    (tmp_path / "metadata.jsonl").unlink()
    (tmp_path / name).with_suffix(".txt").write_text("caption")
    (tmp_path / "a.txt").write_text("caption")
    assert name in {row.id for row in Folder(tmp_path).rows()}


def test_a_file_name_that_is_no_text(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.png")).write_bytes(png(noise(1)))
    except OSError:
        pytest.skip("this file system takes text names alone")
    with pytest.raises(DataError, match="not UTF-8; rename it"):
        Folder(tmp_path).rows()


ESCAPES = {
    "parent": ("../x.png", {}),
    "inner parent": ("a/../../x.png", {}),
    "absolute": ("/tmp/x.png", {}),
    "symbolic link": ("x.png", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"}),
    "hard link": ("x.png", {"type": tarfile.LNKTYPE, "linkname": "0.png"}),
    "device": ("x.png", {"type": tarfile.CHRTYPE}),
    "pipe": ("x.png", {"type": tarfile.FIFOTYPE}),
}


@pytest.mark.parametrize("kind", ESCAPES)
@pytest.mark.parametrize("policy", ["stop", "skip"])
def test_a_member_that_escapes_refuses_the_shard(tmp_path: Path, kind: str, policy: Any) -> None:
    name, fields = ESCAPES[kind]
    with tarfile.open(tmp_path / "a.tar", "w") as shard:
        add(shard, "0.png", png(noise(0)))
        add(shard, "0.txt", b"fine")
        add(shard, name, **fields)
    with pytest.raises(DataError, match=r"a\.tar: member .*x\.png.*the shard is refused"):
        WebDataset(tmp_path, on_bad_row=policy).rows()
    assert [file.name for file in tmp_path.iterdir()] == ["a.tar"]


def test_every_cut_of_a_shard_is_refused(tmp_path: Path) -> None:
    data = tar(tmp_path / "a.tar", edits(2)).read_bytes()
    with tarfile.open(tmp_path / "a.tar") as shard:
        end = max(member.offset_data + member.size for member in shard)
    for cut in range(0, end, 512 - 7):
        (tmp_path / "a.tar").write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"a\.tar"):
            WebDataset(tmp_path).rows()


def test_a_header_broken_in_the_middle(tmp_path: Path) -> None:
    """tarfile alone would take it for the end and give the rows before it."""
    path = tar(tmp_path / "a.tar", edits(3))
    with tarfile.open(path) as shard:
        offset = shard.getmembers()[9].offset
    data = bytearray(path.read_bytes())
    data[offset + 148 : offset + 156] = b"7777777\0"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"broken at byte {offset}"):
        WebDataset(tmp_path).rows()


@pytest.mark.parametrize("mode", ["w:gz", "w"])
def test_compressed_or_ambiguous_shards(tmp_path: Path, mode: Any) -> None:
    with tarfile.open(tmp_path / "a.tar", mode) as shard:
        add(shard, "0.png", png(noise(0)))
        add(shard, "0.PNG", png(noise(0)))
    message = "unpack .tar.gz shards first" if mode == "w:gz" else "two members are named 0.PNG"
    with pytest.raises(DataError, match=message):
        WebDataset(tmp_path).rows()


def test_broken_parquet(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", edits())
    data = path.read_bytes()
    for cut in (0, 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:cut])
        with pytest.raises(DataError, match=r"a\.parquet: is not a whole parquet file"):
            Parquet(path, cache=str(tmp_path / "cache")).rows()


def test_a_struct_with_a_path_alone_is_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "x.png").write_bytes(png(noise(0)))
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    image = pa.array([{"bytes": None, "path": "x.png"}], kind)
    pq.write_table(pa.table({"image": image, "text": ["t"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="holds no image bytes; it has a path alone"):
        Parquet(tmp_path, cache=str(tmp_path / "cache")).rows()


def test_an_image_column_without_images(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"image": ["x.png"], "text": ["t"]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="image is no image column"):
        Parquet(tmp_path, cache=str(tmp_path / "cache")).rows()


def test_pillow_limit_is_untouched() -> None:
    """Reading changes no global setting of Pillow."""
    from PIL import ImageFile

    assert Image.MAX_IMAGE_PIXELS == 89478485
    assert not ImageFile.LOAD_TRUNCATED_IMAGES
