"""Reader "parquet": tables with Hugging Face's image structs {bytes, path}, read by `datasets` without network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..core.errors import DataError, MissingExtra
from ..core.registry import reader
from ..imaging import MEGAPIXELS
from .columns import check_roles, resolve
from .records import Policy, Record, files_of, list_rows
from .refs import Content, shown
from .rows import Row

__all__ = ["Parquet"]


@reader("parquet")
@dataclass
class Parquet:
    """Parquet files, or a folder written by `datasets`' save_to_disk.

    path: a file, a folder, a glob pattern, or a list of them; files are taken in the order of their names. split: which one of a
    saved dictionary of splits. cache: where `datasets` keeps its memory-mapped copy (its own default if empty).
    columns, on_bad_row, ground, max_megapixels: as in Folder. Images must carry their bytes: a struct with a path alone is refused.
    Ids default to file name and row number (from 0), groups to the digest of the source image.
    """

    path: str | Path | list[str]
    columns: dict[str, str] = field(default_factory=dict)
    split: str = ""
    cache: str = ""
    on_bad_row: Literal["stop", "skip"] = "stop"
    ground: Literal["white", "gray", "black"] = "white"
    max_megapixels: float = MEGAPIXELS
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        check_roles(self.columns)

    def rows(self) -> list[Row]:
        try:
            import datasets  # noqa: F401
        except ImportError:
            raise MissingExtra("datasets", "data", "reading parquet") from None
        self.skipped.clear()
        folder = None if isinstance(self.path, list) else Path(self.path)
        saved = folder is not None and any((folder / name).is_file() for name in ("dataset_info.json", "dataset_dict.json"))
        table, files = self._saved(folder) if saved and folder is not None else self._files()
        if len(table) == 0:
            raise DataError(f"{files[0][0]}: no rows")
        roles = resolve(table.column_names, self.columns, files[0][0])
        policy = Policy(roles, self.on_bad_row == "skip", self.ground, self.max_megapixels)
        return list_rows(_records(table, files), policy, self.skipped)

    def _saved(self, folder: Path) -> tuple[Any, list[tuple[str, int]]]:
        from datasets import DatasetDict, load_from_disk

        name = shown(str(folder))
        try:
            data = load_from_disk(str(folder))
        except Exception as error:  # datasets raises what its readers raise
            raise DataError(f"{name}: cannot be read as a saved data set ({type(error).__name__}: {error})") from error
        if isinstance(data, DatasetDict):
            if self.split not in data:
                raise DataError(
                    f"{name}: has the splits {', '.join(map(str, data))}; set split to one of them (found {self.split!r})"
                )
            data = data[self.split]
        return data, [(name, len(data))]

    def _files(self) -> tuple[Any, list[tuple[str, int]]]:
        import pyarrow.parquet as pq
        from datasets import Dataset

        paths = files_of(self.path, (".parquet",), "parquet file")
        counts: list[tuple[str, int]] = []
        for path in paths:
            try:
                counts.append((shown(str(path)), pq.read_metadata(path).num_rows))
            except Exception as error:  # pyarrow's own tree, and OSError
                raise DataError(f"{shown(str(path))}: is not a whole parquet file ({error})") from error
        if sum(count for _, count in counts) == 0:
            raise DataError(f"{counts[0][0]}: no rows")
        try:
            settings: dict[str, Any] = {"cache_dir": self.cache} if self.cache else {}
            table = Dataset.from_parquet([str(path) for path in paths], **settings)
        except Exception as error:
            raise DataError(f"{counts[0][0]}: cannot be read by datasets ({type(error).__name__}: {error})") from error
        return table, counts


@dataclass(frozen=True)
class _Cell:
    column: Any  # a data set of one column
    name: str
    index: int

    def read(self, where: str) -> bytes:
        value = self.column[self.index][self.name]
        data = value.get("bytes") if isinstance(value, dict) else value
        if isinstance(data, bytes):
            return data
        hint = "; it has a path alone, embed the files with datasets' to_parquet" if isinstance(value, dict) else ""
        raise DataError(f"{where}: holds no image bytes{hint}")

    def __hash__(self) -> int:
        return hash((id(self.column), self.index))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Cell) and (self.column, self.index) == (other.column, other.index)


def _records(table: Any, files: Sequence[tuple[str, int]]) -> Iterator[Record]:
    from datasets import Image

    for name, feature in table.features.items():
        if isinstance(feature, Image):
            table = table.cast_column(name, Image(decode=False))
    images = [name for name, feature in table.features.items() if _is_image(feature)]
    columns = {name: table.select_columns([name]) for name in images}
    present = {name: table.data.column(name).is_valid().to_pylist() for name in images}
    texts = table.select_columns([name for name in table.column_names if name not in images])
    index = 0
    for file, count in files:
        for number in range(count):
            rest = texts[index] if texts.column_names else {}
            values = {name: (present[name][index] or None) if name in images else rest[name] for name in table.column_names}
            yield _record(file, number, index, values, columns)
            index += 1


def _record(file: str, number: int, index: int, values: dict[str, Any], columns: dict[str, Any]) -> Record:
    def content(column: str) -> tuple[Content, str]:
        if column not in columns:
            raise DataError(f"{file} row {number}: {column} is no image column; expected a struct with bytes and path")
        return _Cell(columns[column], column, index), column

    return Record(f"{Path(file).name}:{number}", f"{file} row {number}", values, content)


def _is_image(feature: Any) -> bool:
    from datasets import Image

    plain = getattr(feature, "dtype", "") in ("binary", "large_binary")
    return isinstance(feature, Image) or plain or (isinstance(feature, dict) and "bytes" in feature)
