"""Training sets on disk: legal for those who read them, the same bytes each time, and gone on with after a kill."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from relatum.core.errors import DataError
from relatum.data import shards
from relatum.data.shards import Made, Sample, Unit, forget
from relatum.data.writing import write_folder, write_parquet, write_webdataset

WRITERS = (write_webdataset, write_parquet, write_folder)


def picture(number: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(np.full((8, 12, 3), number, np.uint8)).save(out, "PNG")
    return out.getvalue()


def sample(number: int, **values: Any) -> Sample:
    files = {"source.png": picture(number), "target.png": picture(number + 100)}
    return Sample(f"clip_{number:03}", files, {"text": f"caption {number} é", "offset": number / 8, "tags": ["a", "b"], **values})


def units(count: int, each: int = 2, calls: list[int] | None = None) -> list[Unit]:
    """Units of `each` samples, the second of every unit dropped from the third on; calls: which were asked."""

    def unit(number: int) -> Made:
        if calls is not None:
            calls.append(number)
        return Made([sample(number * each + i) for i in range(each)], {"dull": number % 2}, [f"unit {number}"])

    return [lambda number=number: unit(number) for number in range(count)]


def test_shards_are_webdatasets_and_the_index_leads_to_their_bytes(tmp_path: Path) -> None:
    """Six samples in shards of at most four rows: two units, then one. Members in turn: images, then txt, then json."""
    written = write_webdataset(units(3), tmp_path, shard_rows=4)
    assert (written.samples, written.dropped, written.notes) == (6, {"dull": 1}, ["unit 0", "unit 1", "unit 2"])
    assert [(shard.file, len(shard.keys)) for shard in written.shards] == [("shard-00000.tar", 4), ("shard-00001.tar", 2)]
    with tarfile.open(tmp_path / "shard-00001.tar", "r:") as tar:
        members = tar.getmembers()
    assert [member.name for member in members[:4]] == [f"clip_004.{e}" for e in ("source.png", "target.png", "txt", "json")]
    assert {(member.mtime, member.uid, member.uname, member.mode) for member in members} == {(0, 0, "", 0o644)}
    assert (tmp_path / "shard-00000.tar").stat().st_size % 10240 == 0
    from pyarrow import parquet

    index = parquet.read_table(tmp_path / "index.parquet").to_pylist()
    assert len(index) == 6 * 4
    row = next(row for row in index if (row["key"], row["ending"]) == ("clip_005", "target.png"))
    data = (tmp_path / row["shard"]).read_bytes()[row["offset"] : row["offset"] + row["size"]]
    assert data == picture(105)


@pytest.mark.filterwarnings("ignore")
def test_other_libraries_read_the_shards(tmp_path: Path) -> None:
    write_webdataset(units(2), tmp_path / "set")
    import webdataset as wds
    from datasets import load_dataset

    found = list(wds.WebDataset(str(tmp_path / "set" / "shard-00000.tar"), shardshuffle=False).decode("rgb8"))
    assert [one["__key__"] for one in found] == [f"clip_{i:03}" for i in range(4)]
    assert found[3]["txt"] == "caption 3 é"
    assert found[3]["json"] == {"offset": 0.375, "tags": ["a", "b"]}
    assert (found[3]["target.png"] == 103).all()
    files = str(tmp_path / "set" / "*.tar")
    table = load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert table[1]["source.png"].size == (12, 8)


@pytest.mark.filterwarnings("ignore")
def test_datasets_reads_parquet_and_folders_as_images(tmp_path: Path) -> None:
    write_parquet(units(2), tmp_path / "parquet", shard_rows=2)
    write_folder(units(2), tmp_path / "folder", shard_rows=2)
    from datasets import load_dataset
    from datasets.features import Image as Picture

    cache = str(tmp_path / "cache")
    table = load_dataset("parquet", data_files=str(tmp_path / "parquet" / "*.parquet"), split="train", cache_dir=cache)
    assert isinstance(table.features["source"], Picture)
    assert [row["offset"] for row in table] == [0.0, 0.125, 0.25, 0.375]
    assert (table[2]["text"], table[2]["tags"]) == ("caption 2 é", ["a", "b"])
    assert np.array(table[2]["target"])[0, 0].tolist() == [102] * 3
    assert len(load_dataset(str(tmp_path / "parquet"), split="train", cache_dir=cache)) == 4
    folder = load_dataset("imagefolder", data_dir=str(tmp_path / "folder"), split="train", cache_dir=cache)
    assert np.array(folder[1]["source"])[0, 0].tolist() == [1] * 3


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("write", WRITERS)
def test_a_killed_run_goes_on_to_the_same_bytes(tmp_path: Path, write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five units in three shards; the run ends when the second is there but not yet noted. No unit of a whole shard is asked
    again, nothing that ends a set is there meanwhile, and a finished set given again is left as it is."""
    whole = write(units(5), tmp_path / "whole", shard_rows=4)
    calls: list[int] = []
    folder = tmp_path / "parts"
    real = shards.write_text

    def killed(path: Path, text: str) -> None:
        if path.name == ".shard-00001.json":
            raise KeyboardInterrupt
        real(path, text)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_text", killed)
        with pytest.raises(KeyboardInterrupt):
            write(units(5, calls=calls), folder, shard_rows=4)
    assert calls == [0, 1, 2, 3, 4]
    assert not any((folder / name).exists() for name in ("index.parquet", "keys.json", "metadata.jsonl"))
    calls.clear()
    again = write(units(5, calls=calls), folder, shard_rows=4)
    assert calls == [2, 3, 4]
    assert again == whole
    assert content(folder) == content(tmp_path / "whole")
    calls.clear()
    assert write(units(5, calls=calls), folder, shard_rows=4) == whole
    assert calls == []
    forget(folder)
    assert not list(folder.glob(".*"))
    with pytest.raises(DataError, match="holds a set already"):
        write(units(5), folder)


def test_a_shard_is_closed_by_bytes_and_never_splits_a_unit(tmp_path: Path) -> None:
    size = sum(len(data) for number in (0, 1) for data in sample(number).files.values())
    written = write_webdataset(units(3), tmp_path, shard_bytes=size + 10)
    assert [len(shard.keys) for shard in written.shards] == [2, 2, 2]


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        ([Sample("a.b", {"png": b""}, {})], "not of 1 to 80 letters"),
        ([Sample("../a", {"png": b""}, {})], "not of 1 to 80 letters"),
        ([Sample("a\n", {"png": b""}, {})], "not of 1 to 80 letters"),
        ([sample(1), sample(1)], "two samples have the key clip_001"),
        ([Sample("a", {"../b.png": b""}, {})], "cannot be a file of a shard"),
        ([Sample("a" * 80, {f"{'b' * 20}.png": b""}, {})], "cannot be a file of a shard"),
    ],
)
def test_what_would_be_no_legal_shard_is_refused(tmp_path: Path, samples: Sequence[Sample], words: str) -> None:
    with pytest.raises(DataError, match=words):
        write_webdataset([lambda: Made(samples)], tmp_path)
    assert not list(tmp_path.glob("*.tar"))


def test_samples_of_one_table_have_the_same_columns(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not every sample has the column 'flow'"):
        write_parquet([lambda: Made([sample(0), sample(1, flow=0.1)])], tmp_path)
    with pytest.raises(DataError, match="column 'flow': NoneType cannot be written"):
        write_parquet([lambda: Made([sample(0, flow=None)])], tmp_path)
