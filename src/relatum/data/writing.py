"""Training sets as others read them: WebDataset shards, parquet as Hugging Face lays it out, a folder with metadata.jsonl."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_bytes, write_text
from ..core.errors import DataError, MissingExtra
from ..imaging import SUFFIXES
from .shards import MIB, Sample, Shard, Unit, Written, write_shards

__all__ = ["INDEX", "parquet_bytes", "write_folder", "write_parquet", "write_webdataset"]

INDEX = "index.parquet"
GROUP = 100  # rows that a reader of parquet must take at once


def write_webdataset(units: Sequence[Unit], folder: Path, shard_bytes: int = 256 * MIB, shard_rows: int = 2000) -> Written:
    """USTAR tars with members KEY.ENDING; the value "text" is KEY.txt, others are KEY.json. Equal samples give equal bytes.

    index.parquet, written last, says where each member's bytes lie: key, ending, shard, offset, size.
    """

    def seal(number: int, samples: Sequence[Sample]) -> tuple[str, list[Any]]:
        name = f"shard-{number:05}.tar"
        data, entries = _tar(samples)
        write_bytes(folder / name, data)
        return name, entries

    def finish(shards: Sequence[Shard]) -> bytes:
        rows = [(key, ending, shard.file, at, size) for shard in shards for key, ending, at, size in shard.entries]
        return parquet_bytes(dict(zip(("key", "ending", "shard", "offset", "size"), zip(*rows, strict=True), strict=True)))

    _card(folder, "*.tar")
    return write_shards(units, folder, INDEX, seal, finish, shard_bytes, shard_rows)


def write_parquet(units: Sequence[Unit], folder: Path, shard_bytes: int = 256 * MIB, shard_rows: int = 2000) -> Written:
    """data-00000.parquet ... with images as struct{bytes, path}: a column a file ("image" for "jpg") and one a value.

    The schema carries the features that `datasets` reads, so that images come back as images. keys.json is written last.
    """

    def seal(number: int, samples: Sequence[Sample]) -> tuple[str, list[Any]]:
        name = f"data-{number:05}.parquet"
        columns: dict[str, list[Any]] = {}
        for sample in samples:
            images = {_column(ending): {"bytes": data, "path": sample.name(ending)} for ending, data in sample.files.items()}
            for column, value in {**images, **sample.values}.items():
                columns.setdefault(column, []).append(value)
        if short := [column for column, values in columns.items() if len(values) != len(samples)]:
            raise DataError(f"{folder / name}: not every sample has the column {short[0]!r}")
        write_bytes(folder / name, parquet_bytes(columns))
        return name, []

    def finish(shards: Sequence[Shard]) -> bytes:
        return json.dumps({shard.file: shard.keys for shard in shards}).encode()

    _card(folder, "*.parquet")
    return write_shards(units, folder, "keys.json", seal, finish, shard_bytes, shard_rows)


def write_folder(units: Sequence[Unit], folder: Path, shard_bytes: int = 256 * MIB, shard_rows: int = 2000) -> Written:
    """Files in folders 00000, 00001 ... and metadata.jsonl, written last: file_name for "jpg", NAME_file_name for "NAME.jpg", and
    the values. Hugging Face's imagefolder and videofolder take it, and the readers folder, frame_pairs, videos and frame_folders.
    """

    def seal(number: int, samples: Sequence[Sample]) -> tuple[str, list[Any]]:
        place = f"{number:05}"
        for sample in samples:
            for ending, data in sample.files.items():
                write_bytes(folder / place / sample.name(ending), data)
        return place, [{**_names(sample, place), **sample.values} for sample in samples]

    def finish(shards: Sequence[Shard]) -> bytes:
        return "".join(f"{json.dumps(line)}\n" for shard in shards for line in shard.entries).encode()

    return write_shards(units, folder, "metadata.jsonl", seal, finish, shard_bytes, shard_rows)


def _card(folder: Path, files: str) -> None:
    """By which `datasets` tells the data from what lies beside it."""
    write_text(folder / "README.md", f'---\nconfigs:\n- config_name: default\n  data_files: "{files}"\n---\n')


def _names(sample: Sample, place: str) -> dict[str, str]:
    found = {}
    for ending in sample.files:
        if ending.startswith("/"):
            found["file_name"] = f"{place}/{sample.key}"
        else:
            found[f"{_column(ending)}_file_name" if "." in ending else "file_name"] = f"{place}/{sample.name(ending)}"
    return found


def _column(ending: str) -> str:
    """The column of a file: "source" of "source.jpg", "image" of "jpg", "video" of "mp4"."""
    name, _, kind = ending.rpartition(".")
    return name or ("image" if f".{kind}" in SUFFIXES else "video")


def _tar(samples: Sequence[Sample]) -> tuple[bytes, list[Any]]:
    """The archive, and [key, ending, offset, size] of each member."""
    chunks, entries, at = list[bytes](), list[Any](), 0
    for sample in samples:
        for ending, data in _members(sample).items():
            info = tarfile.TarInfo(sample.name(ending))  # by default: time 0, owner 0 without a name, mode 0644
            info.size = len(data)
            padding = bytes(-len(data) % tarfile.BLOCKSIZE)
            head = info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
            chunks += [head, data, padding]
            entries.append([sample.key, ending, at + len(head), len(data)])
            at += len(head) + len(data) + len(padding)
    end = 2 * tarfile.BLOCKSIZE
    chunks.append(bytes(end + -(at + end) % tarfile.RECORDSIZE))
    return b"".join(chunks), entries


def _members(sample: Sample) -> dict[str, bytes]:
    rest = {name: value for name, value in sample.values.items() if name != "text"}
    members = dict(sample.files)
    if "text" in sample.values:
        members["txt"] = str(sample.values["text"]).encode()
    if rest:
        members["json"] = json.dumps(rest, sort_keys=True).encode()
    return members


def parquet_bytes(columns: Mapping[str, Sequence[Any]]) -> bytes:
    """A parquet file with Hugging Face's features: images from {"bytes", "path"}, texts, numbers, truths, and lists of them."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "writing parquet") from None
    found = {name: _typed(pa, name, values) for name, values in columns.items()}
    arrays = {name: pa.array(list(values), found[name][0]) for name, values in columns.items()}
    features = {"info": {"features": {name: feature for name, (_, feature) in found.items()}}}
    table = pa.table(arrays).replace_schema_metadata({"huggingface": json.dumps(features)})
    out = io.BytesIO()
    parquet.write_table(table, out, row_group_size=GROUP, compression="zstd")
    return out.getvalue()


def _typed(pa: Any, name: str, values: Sequence[Any]) -> tuple[Any, dict[str, Any]]:
    """(Arrow's type, Hugging Face's feature) of a column."""
    first = values[0] if len(values) else ""
    if isinstance(first, dict):
        return pa.struct({"bytes": pa.binary(), "path": pa.string()}), {"_type": "Image"}
    if isinstance(first, list | tuple):
        inner, feature = _typed(pa, name, [item for value in values for item in value])
        return pa.list_(inner), {"feature": feature, "_type": "List"}
    kinds = {bool: (pa.bool_(), "bool"), int: (pa.int64(), "int64"), float: (pa.float64(), "float64"), str: (pa.string(), "string")}
    if type(first) not in kinds:
        raise DataError(f"column {name!r}: {type(first).__name__} cannot be written; expected text, numbers, or lists of them")
    kind, word = kinds[type(first)]
    return kind, {"dtype": word, "_type": "Value"}
