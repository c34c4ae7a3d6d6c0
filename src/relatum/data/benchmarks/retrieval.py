"""Benchmark "retrieval": all images of a set against all their captions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Literal

from ...core.errors import DataError
from ...core.registry import benchmark
from ..folder import Folder
from ..refs import shown
from ..rows import ImageRef
from ..tables import Line, read_csv
from .files import blocks, check_line, check_path, entries, picture, pictures_in, texts_of
from .item import Ask, Item

__all__ = ["Retrieval", "retrieval_items"]

Captioned = tuple[ImageRef, tuple[str, ...]]
_IMAGES = ("file_name", "image", "image_file_name", "file", "filepath")
_CAPTIONS = ("caption", "captions", "text", "texts")
_METADATA = ("metadata.jsonl", "metadata.json", "metadata.csv")


@benchmark("retrieval")
@dataclass
class Retrieval:
    """One item of n images and all their captions, or with `candidates` one for each block of so many random images.

    path: a .jsonl, .json or .csv file with a column file_name, image, file or filepath and a column caption, captions, text or
    texts (a text or a list; lines with the same file name are joined); a folder with metadata.jsonl, .json or .csv; or a folder of
    images with a .txt file each. Captions that are the same belong to every image that has them. images: the folder that file names
    are relative to (default: the file's own). seed: of the blocks; images beyond the last full block are listed as skipped. limit:
    the first n images; 0: all. on_bad_row: "stop", or "skip" (every image is decoded at listing).
    """

    asks: ClassVar[tuple[Ask, ...]] = ("text", "image")
    strict: ClassVar[bool] = False

    path: str | Path
    images: str = ""
    candidates: int = 0
    seed: int = 0
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int = 0
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.candidates < 0 or self.candidates == 1:
            raise ValueError(f"candidates: found {self.candidates}, expected 0 (all) or at least 2")

    def items(self) -> Sequence[Item]:
        self.skipped.clear()
        path = check_path(self.path, self.limit)
        file = next((path / name for name in _METADATA if (path / name).is_file()), path)
        found = list(self._sidecars(path) if file.is_dir() else self._listed(file))
        if len(found) < 2:
            raise DataError(f"{shown(str(path))}: found {len(found)} images with captions, retrieval needs two or more")
        cut = blocks(len(found), self.candidates, self.seed)
        if left := len(found) - sum(map(len, cut)):
            self.skipped.append(f"{left} of {len(found)} images: they do not fill a block of {self.candidates}")
        return retrieval_items(path.stem, found, cut)

    def _sidecars(self, path: Path) -> Iterator[Captioned]:
        reader = Folder(path, on_bad_row=self.on_bad_row)
        rows = reader.rows()
        self.skipped += reader.skipped
        for row in rows[: self.limit or None]:
            yield row.images["target"], (row.texts["target"],)

    def _listed(self, file: Path) -> Iterator[Captioned]:
        root = pictures_in(file, self.images, "")
        found: dict[str, Captioned] = {}
        for line in read_csv(file) if file.suffix.lower() == ".csv" else entries(file):
            try:
                name, image, captions = _captioned(root, line)
                if self.limit and len(found) == self.limit and name not in found:
                    continue
                if self.on_bad_row == "skip" and name not in found:
                    image.pixels(8)
            except DataError as error:
                if self.on_bad_row == "stop":
                    raise
                self.skipped.append(str(error))
            else:
                known = found.get(name, (image, ()))
                found[name] = known[0], (*known[1], *captions)
        yield from found.values()


def _captioned(root: Path, line: Line) -> tuple[str, ImageRef, list[str]]:
    check_line(line)
    name, captions = _column(line, _IMAGES), _column(line, _CAPTIONS)
    texts = texts_of(line.values[captions], line.where, captions)
    image = picture(root, line.values[name], line.where)
    return line.values[name], image, texts


def _column(line: Line, names: Sequence[str]) -> str:
    here = [name for name in names if name in line.values]
    if len(here) != 1:
        found = " and ".join(here) or "none"
        raise DataError(f"{line.where}: expected one of the columns {', '.join(names)}, found {found}")
    return here[0]


def retrieval_items(name: str, found: Sequence[Captioned], cut: Sequence[Sequence[int]]) -> list[Item]:
    """An item of the images and captions of each block of indices. Equal captions are one text."""
    items = []
    for number, block in enumerate(cut):
        texts = dict.fromkeys(text for index in block for text in found[index][1])
        places = {text: place for place, text in enumerate(texts)}
        matches = [(i, places[text]) for i, index in enumerate(block) for text in dict.fromkeys(found[index][1])]
        id = f"{name}-{number}"
        items.append(Item(id, tuple(found[index][0] for index in block), tuple(texts), tuple(matches), "", id))
    return items
