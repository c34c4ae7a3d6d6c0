"""Benchmark "winoground": two images and two captions, from parquet or from JSON beside the images (Thrush et al. 2022)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from ...core.errors import DataError
from ...core.registry import benchmark
from ..parquet import Parquet
from ..refs import shown
from ..rows import Row
from ..tables import Line, text_of
from .files import Draft, check_line, check_path, entries, list_items, picture, pictures_in
from .item import Ask, Item

__all__ = ["Winoground"]

_FILES = ("metadata.jsonl", "examples.jsonl", "data.json")


@benchmark("winoground")
@dataclass
class Winoground:
    """Columns image_0, image_1, caption_0, caption_1; caption i belongs to image i. tag and id where they are there.

    path: parquet with Hugging Face's image structs (a file, or a folder of them), a .jsonl or .json file, or a folder with
    metadata.jsonl, examples.jsonl or data.json. images: the folder that file names in JSON are relative to (default: "images"
    beside the file, else its own); a name without an ending is completed (.png, .jpg). tag: the column that tables are made by.
    cache: as of the reader "parquet". on_bad_row: "stop", or "skip" (every image is decoded at listing). limit: the first n
    items; 0: all.
    """

    asks: ClassVar[tuple[Ask, ...]] = ("text", "image", "group")
    strict: ClassVar[bool] = True

    path: str | Path
    images: str = ""
    tag: str = "tag"
    cache: str = ""
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int = 0
    skipped: list[str] = field(default_factory=list, init=False)

    def items(self) -> Sequence[Item]:
        self.skipped.clear()
        path = check_path(self.path, self.limit)
        file = next((path / name for name in _FILES if (path / name).is_file()), path)
        drafts = self._listed(file) if file.suffix.lower() in (".json", ".jsonl") else self._table(path)
        return list_items(path, drafts, self.on_bad_row == "skip", self.limit, self.skipped)

    def _listed(self, file: Path) -> Iterator[Draft]:
        root = pictures_in(file, self.images, "images")
        return (lambda line=line: self._of_line(file, root, line) for line in entries(file))

    def _of_line(self, file: Path, root: Path, line: Line) -> Item:
        check_line(line)
        images = tuple(picture(root, _completed(root, text_of(line, f"image_{i}")), line.where) for i in range(2))
        captions = text_of(line, "caption_0"), text_of(line, "caption_1")
        name = f"{file.name}:{line.values.get('id', line.number)}"
        return Item(name, images, captions, ((0, 0), (1, 1)), str(line.values.get(self.tag) or ""), name)

    def _table(self, path: Path) -> Iterator[Draft]:
        if path.is_file() and path.suffix.lower() != ".parquet":
            raise DataError(f"{shown(str(path))}: expected a .parquet, .jsonl or .json file, or a folder")
        columns = {"source": "image_0", "target": "image_1", "source_caption": "caption_0", "target_caption": "caption_1"}
        table = Parquet(path, columns, cache=self.cache, on_bad_row=self.on_bad_row)
        rows = table.rows()
        self.skipped += table.skipped
        return (lambda row=row: self._of_row(row) for row in rows)

    def _of_row(self, row: Row) -> Item:
        for i, name in enumerate(("source", "target")):
            if name not in row.texts:
                raise DataError(f"{row.where}: no caption_{i} (it is missing or empty)")
        images = row.images["source"], row.images["target"]
        captions = row.texts["source"], row.texts["target"]
        return Item(row.id, images, captions, ((0, 0), (1, 1)), str(row.facts.get(self.tag, "")), row.id)


def _completed(root: Path, name: str) -> str:
    """examples.jsonl of Winoground says ex_0_img_0 for ex_0_img_0.png."""
    return next((name + end for end in (".png", ".jpg") if not Path(name).suffix and (root / (name + end)).is_file()), name)
