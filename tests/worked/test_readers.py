"""The three readers of edits give the same rows, lazily and in order; splits keep groups together."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import reader
from relatum.data.columns import require, resolve
from relatum.data.folder import Folder
from relatum.data.parquet import Parquet
from relatum.data.refs import StoredImage, StoredMask
from relatum.data.rows import Row
from relatum.data.splits import split
from relatum.data.webdataset import WebDataset
from relatum.imaging import decode, fit
from support.pictures import add, edits, folder, noise, parquet, png, tar


@dataclass(frozen=True)
class Bytes:
    data: bytes

    def read(self, where: str) -> bytes:
        return self.data


EXAMPLES = Path(__file__).parents[2] / "examples"


def layouts(tmp_path: Path, rows: list[dict[str, object]]) -> dict[str, Callable[[], list[Row]]]:
    return {
        "folder": Folder(folder(tmp_path / "folder", rows)).rows,
        "parquet": Parquet(parquet(tmp_path / "a.parquet", rows), cache=str(tmp_path / "cache")).rows,
        "webdataset": WebDataset(tar(tmp_path / "a.tar", rows)).rows,
    }


@pytest.mark.parametrize("layout", ["folder", "parquet", "webdataset"])
def test_three_layouts_one_content(tmp_path: Path, layout: str) -> None:
    stored = edits()
    rows = layouts(tmp_path, stored)[layout]()
    assert len(rows) == len(stored)
    for row, raw in zip(rows, stored, strict=True):
        for name, column in (("source", "input_image"), ("target", "edited_image")):
            assert torch.equal(row.images[name].pixels(16), fit(decode(raw[column], "x"), 16))
        assert row.texts == {
            "instruction": raw["edit_prompt"],
            "source": raw["original_prompt"],
            "target": raw["edited_prompt"],
        }
        # columns 4..27 stay of 32; there the mask covers rows 2..8 and columns 10..24 of 24 x 24: 7 * 15 cells
        assert row.masks["changed"].mask(24).sum() == 7 * 15
    assert len({row.id for row in rows}) == len(rows)
    assert rows[0].group == rows[1].group == rows[0].images["source"].stored_digest()
    assert len({row.group for row in rows}) == len(rows) - 1
    require(rows, ("source", "target"), ("instruction", "source", "target"))
    assert all(image.pixels(8).isfinite().all() for row in rows for image in row.images.values())
    again = pickle.loads(pickle.dumps(rows[2]))
    assert torch.equal(again.images["source"].pixels(8), rows[2].images["source"].pixels(8))


def test_layouts_agree_on_digests_and_groups(tmp_path: Path) -> None:
    found = [[(row.group, row.images["target"].digest()) for row in rows()] for rows in layouts(tmp_path, edits()).values()]
    assert found[0] == found[1] == found[2]


def test_listing_decodes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decoding(*_: object, **__: object) -> None:
        raise AssertionError("decoded")

    readers = layouts(tmp_path, edits())
    monkeypatch.setattr("relatum.imaging._with_image", decoding)
    for rows in readers.values():
        assert len(rows()) == 4


def test_an_edited_file_changes_its_digest(tmp_path: Path) -> None:
    rows = Folder(folder(tmp_path, edits())).rows()
    before = rows[0].images["target"].digest()
    (tmp_path / "0_edited_image.png").write_bytes(png(noise(7)))
    assert rows[0].images["target"].digest() != before


def test_the_ground_is_in_the_digest_and_not_in_the_group(tmp_path: Path) -> None:
    """Another ground gives other pixels behind transparency: the cache must not find the old ones. Splits stay where they were."""
    path = folder(tmp_path, edits())
    white, black = Folder(path).rows()[0], Folder(path, ground="black").rows()[0]
    assert white.images["source"].digest() != black.images["source"].digest()
    assert white.group == black.group
    assert white.images["source"].digest() == Folder(path).rows()[0].images["source"].digest()


def test_a_mask_is_another_one_for_an_image_of_another_size() -> None:
    """Else a mask that is cached for one image is never set against the size of the other."""
    mask, same, other = (Bytes(png(np.zeros(shape, np.uint8))) for shape in ((8, 8), (8, 8), (8, 9)))
    digests = [StoredMask(mask, "m", StoredImage(image, "i")).digest() for image in (mask, same, other)]
    assert digests[0] == digests[1] != digests[2]


def test_csv_and_own_columns(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(png(noise(len(name))))
    (tmp_path / "metadata.csv").write_text('before,after,do,who,n\na.png,b.png,"make it\nred",ann,7\nb.png,a.png,undo,bob,8\n')
    columns = {"source": "before", "target": "after", "instruction": "do", "group": "who", "id": "n"}
    rows = Folder(tmp_path, columns=columns).rows()
    assert [(row.id, row.group, row.texts["instruction"]) for row in rows] == [("7", "ann", "make it\nred"), ("8", "bob", "undo")]
    assert [row.where.rsplit(":", 1)[1] for row in rows] == ["2", "4"]


def test_sidecar_text_folder(tmp_path: Path) -> None:
    for name in "cab":
        (tmp_path / name).mkdir()
    for name in ("z.png", "b/é.png", "c/x.png", "a/x.png"):
        (tmp_path / name).write_bytes(png(noise(2)))
        (tmp_path / name).with_suffix(".txt").write_text(f"caption of {name}\n", encoding="utf-8")
    rows = Folder(tmp_path).rows()
    assert [(row.id, dict(row.texts)) for row in rows] == [
        ("z.png", {"target": "caption of z.png"}),
        ("a/x.png", {"target": "caption of a/x.png"}),
        ("b/é.png", {"target": "caption of b/é.png"}),
        ("c/x.png", {"target": "caption of c/x.png"}),
    ]
    assert set(rows[0].images) == {"target"}


def test_text_to_image_columns(tmp_path: Path) -> None:
    stored = [{"image": png(noise(i)), "text": f"t{i}", "extra": "kept"} for i in range(2)]
    for rows in layouts(tmp_path, stored).values():
        for i, row in enumerate(rows()):
            assert set(row.images) == {"target"}
            assert row.texts == {"target": f"t{i}"}
            assert row.facts["extra"] == "kept"


def test_saved_data_set_and_splits(tmp_path: Path) -> None:
    """save_to_disk, also of a selection in another order, and of a dictionary of splits."""
    from datasets import Dataset, DatasetDict

    data = Dataset.from_parquet(str(parquet(tmp_path / "a.parquet", edits())), cache_dir=str(tmp_path / "cache"))
    data.select([2, 0]).save_to_disk(tmp_path / "one")
    DatasetDict(train=data, test=data.select([3])).save_to_disk(tmp_path / "two")
    assert [row.texts["source"] for row in Parquet(tmp_path / "one").rows()] == ["a scene 2", "a scene 0"]
    assert [row.texts["source"] for row in Parquet(tmp_path / "two", split="test").rows()] == ["a scene 3"]
    with pytest.raises(DataError, match="splits train, test"):
        Parquet(tmp_path / "two").rows()


def test_many_shards_and_json_members(tmp_path: Path) -> None:
    import tarfile

    for s in range(2):
        with tarfile.open(tmp_path / f"{s}.tar", "w") as shard:
            add(shard, "x.jpg", png(noise(s), "JPEG"))
            add(shard, "x.json", json.dumps({"caption": f"shard {s}"}).encode())
            add(shard, "README", b"of no sample")
    for path in (tmp_path, str(tmp_path / "?.tar"), [str(tmp_path / "0.tar"), str(tmp_path / "1.tar")]):
        rows = WebDataset(path).rows()
        assert [(row.id, row.texts["target"]) for row in rows] == [("0.tar:x", "shard 0"), ("1.tar:x", "shard 1")]


def test_recipe_builds_readers(tmp_path: Path) -> None:
    path = str(folder(tmp_path, edits()))
    assert len(reader.build({"kind": "folder", "path": path}, "data").rows()) == 4
    with pytest.raises(
        RecipeError, match=r"data: columns: no role 'sorce'; did you mean 'source'|no role 'sorce'; did you mean 'source'"
    ):
        reader.build({"kind": "folder", "path": path, "columns": {"sorce": "x"}}, "data")


def test_columns_by_role() -> None:
    stock = resolve(["original_image", "edited_image", "original_prompt", "edited_prompt", "edit_prompt"], {}, "x")
    assert stock == {
        "source": "original_image",
        "target": "edited_image",
        "instruction": "edit_prompt",
        "source_caption": "original_prompt",
        "target_caption": "edited_prompt",
    }
    with pytest.raises(DataError, match="input_image, original_image could each be source"):
        resolve(["input_image", "original_image"], {}, "x")
    assert resolve(["input_image", "original_image"], {"source": "original_image"}, "x")["source"] == "original_image"


def rows_of(groups: list[int]) -> list[Row]:
    return [Row(str(i), f"g{group}", {}, {}) for i, group in enumerate(groups)]


def test_split_keeps_groups_and_is_stable() -> None:
    """3,000 groups at 0.2: 600 held out, standard error 22; adding rows moves no old row."""
    rows = rows_of([i // 2 for i in range(6000)])
    train, test = split(rows, 0.2, 1)
    assert {row.group for row in train}.isdisjoint(row.group for row in test)
    assert len(train) + len(test) == 6000
    assert abs(len(test) / 2 - 600) < 5 * 22
    more_train, more_test = split(rows + rows_of([9000 + i for i in range(500)]), 0.2, 1)
    assert {row.group for row in train} <= {row.group for row in more_train}
    assert {row.group for row in test} <= {row.group for row in more_test}
    grown = split([*rows, *(Row(f"new {i}", row.group, {}, {}) for i, row in enumerate(rows))], 0.2, 1)[1]
    assert {row.group for row in grown} == {row.group for row in test}
    assert split(rows, 0.2, 2)[1] != test


def test_split_by_count_takes_whole_groups() -> None:
    rows = rows_of([0, 0, 0, 1, 1, 1, 2, 2, 2])
    assert len(split(rows, 4, 0)[1]) == 6
    assert len(split(rows, 3, 0)[1]) == 3


@pytest.mark.parametrize("held_out", [0.0, 1.0, 0, 9])
def test_an_empty_side_is_an_error_with_counts(held_out: float) -> None:
    with pytest.raises(DataError, match=r"leaves (0|9) rows to train on and (0|9) to test, of 9 rows in 3 groups"):
        split(rows_of([0, 0, 0, 1, 1, 1, 2, 2, 2]), held_out, 0)


@pytest.mark.parametrize("held_out", [-0.1, 1.5, True])
def test_held_out_must_make_sense(held_out: float) -> None:
    with pytest.raises(RecipeError, match="held_out"):
        split(rows_of([0, 1]), held_out, 0)


REAL = {"lpc": ("lpc_sprites", 12, "text"), "emoji": ("twemoji", 40, ""), "aurora": ("aurora_bench", 124, "")}


@pytest.mark.parametrize("name", REAL)
def test_real_edits_through_the_examples(shared_data: Path, tmp_path: Path, name: str) -> None:
    """The example scripts as a user runs them, their folders through the reader, every image decoded."""
    folder_name, count, _ = REAL[name]
    source = shared_data / folder_name
    if not source.is_dir():
        pytest.skip(f"no {source}")
    command = [sys.executable, str(EXAMPLES / f"prepare_{name}.py"), str(source), str(tmp_path / "out")]
    command += [] if name == "aurora" else ["--count", str(count)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)
    assert done.returncode == 0, done.stderr
    rows = Folder(tmp_path / "out").rows()
    assert len(rows) == count
    require(rows, ("source", "target"), ("instruction",))
    assert all(image.pixels(8).isfinite().all() for row in rows for image in row.images.values())
    train, test = split(rows, 0.3, 0)
    assert {row.group for row in train}.isdisjoint(row.group for row in test)
    for row in rows[:20]:
        source_pixels, target_pixels = row.images["source"].pixels(64), row.images["target"].pixels(64)
        assert not torch.equal(source_pixels, target_pixels)
        if name == "lpc":  # a true mask: outside of it nothing changes, inside something does
            changed = (source_pixels != target_pixels).any(0)
            mask = row.masks["changed"].mask(64)[0] > 0
            assert changed.any()
            assert not (changed & ~mask).any()
            assert mask.float().mean() < 0.25
