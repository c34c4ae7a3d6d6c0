"""Wrong captions and wrong pictures pass through every reader."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import pytest
import torch

from relatum.core.errors import DataError
from relatum.data.columns import require
from relatum.data.folder import Folder
from relatum.data.parquet import Parquet
from relatum.data.rows import Row
from relatum.data.webdataset import WebDataset
from relatum.imaging import decode, fit
from support.pictures import add, folder, noise, parquet, png


def stored() -> list[dict]:
    first = {"image": png(noise(1)), "text": "a dog bites a man", "negative_caption": ["a man bites a dog", " a dog pats a man "]}
    return [first | {"negative_image": png(noise(2))}, {"image": png(noise(3)), "text": "a cat", "negative_caption": ["a bat"]}]


def tar_with_json(path: Path, rows: list[dict]) -> Path:
    with tarfile.open(path, "w") as shard:
        for i, row in enumerate(rows):
            for name, value in row.items():
                if isinstance(value, bytes):
                    add(shard, f"{i}.{name}.png", value)
            add(shard, f"{i}.json", json.dumps({k: v for k, v in row.items() if not isinstance(v, bytes)}).encode())
    return path


def read(layout: str, tmp_path: Path, rows: list[dict]) -> list[Row]:
    if layout == "folder":
        return Folder(folder(tmp_path / "folder", rows)).rows()
    if layout == "parquet":
        return Parquet(parquet(tmp_path / "a.parquet", rows), cache=str(tmp_path / "cache")).rows()
    return WebDataset(tar_with_json(tmp_path / "a.tar", rows)).rows()


@pytest.mark.parametrize("layout", ["folder", "parquet", "webdataset"])
def test_negatives_pass_through(tmp_path: Path, layout: str) -> None:
    first, second = read(layout, tmp_path, stored())
    assert first.texts == {"target": "a dog bites a man", "negative.1": "a man bites a dog", "negative.2": "a dog pats a man"}
    assert torch.equal(first.images["negative"].pixels(16), fit(decode(png(noise(2)), "x"), 16))
    assert second.texts == {"target": "a cat", "negative.1": "a bat"}
    assert set(second.images) == {"target"}
    require([first], ("target", "negative"), ("negative.1", "negative.2"))
    with pytest.raises(DataError, match=r"no image 'negative'; looked for a column named negative_image"):
        require([first, second], ("negative",))
    with pytest.raises(DataError, match=r"no text 'negative.2'; looked for a column named negative_caption, negative_captions"):
        require([first, second], texts=("negative.2",))


def test_one_text_and_other_names(tmp_path: Path) -> None:
    rows = [{"image": png(noise(i)), "text": "yes", "wrong": wrong} for i, wrong in enumerate(("no", "", None))]
    path = folder(tmp_path, rows)
    found = [row.texts for row in Folder(path, columns={"negative_caption": "wrong"}).rows()]
    assert found == [{"target": "yes", "negative.1": "no"}, {"target": "yes"}, {"target": "yes"}]
    assert Folder(path).rows()[0].texts == {"target": "yes"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["no", 3], r"negative caption \(negative_captions\): number 2 is 3, expected text"),
        (["no", " "], r"number 2 is ' ', expected text"),
        (7, r"negative caption \(negative_captions\) is int 7, expected text"),
    ],
)
def test_bad_negatives(tmp_path: Path, wrong: object, message: str) -> None:
    rows = [{"image": png(noise(i)), "text": "yes", "negative_captions": value} for i, value in enumerate((["no"], wrong))]
    with pytest.raises(DataError, match=rf"metadata\.jsonl:2.*{message}"):
        Folder(folder(tmp_path, rows)).rows()
    reader = Folder(tmp_path, on_bad_row="skip")
    assert [row.texts["negative.1"] for row in reader.rows()] == ["no"]
    assert len(reader.skipped) == 1


def test_two_columns_of_negatives(tmp_path: Path) -> None:
    rows = [{"image": png(noise(1)), "text": "yes", "negative_caption": "no", "negative_captions": ["no"]}]
    with pytest.raises(DataError, match="negative_caption, negative_captions could each be negative_caption"):
        Folder(folder(tmp_path, rows)).rows()
