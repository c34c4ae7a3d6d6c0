"""What the benchmarks that lie in files share: entries of JSON files, pictures beside them, and what happens to a bad entry."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from ...core.draws import key_of
from ...core.errors import DataError, RecipeError
from ...imaging import GROUNDS, decode, fit
from ..refs import FileContent, StoredImage, brief, inside, shown
from ..tables import Line, read_json, read_jsonl, utf8
from .item import Item

__all__ = [
    "CroppedImage",
    "Draft",
    "NoQuestionError",
    "blocks",
    "check_line",
    "check_path",
    "entries",
    "list_items",
    "number",
    "picture",
    "pictures_in",
    "texts_of",
]

Draft = Callable[[], Item]  # DataError naming file and entry where it cannot be made


class NoQuestionError(DataError):
    """An entry that is as it should be, and yet nothing can be asked about it. It is left out with its reason, always."""


@dataclass(frozen=True)
class CroppedImage:
    """A box of an image, as an ImageRef. box: left, top, width, height in pixels; what lies outside of the image is left out."""

    image: StoredImage
    box: tuple[int, int, int, int]

    @property
    def where(self) -> str:
        return self.image.where

    def digest(self) -> str:
        return hashlib.sha256(f"{self.image.digest()} {self.box}".encode()).hexdigest()

    def pixels(self, size: int) -> Float[Tensor, "3 size size"]:
        """The box, center-cropped and resized, float32 in [-1, 1]."""
        data, ground = self.image.content.read(self.where), GROUNDS[self.image.ground]
        whole = decode(data, self.where, ground, self.image.max_megapixels)
        left, top, width, height = self.box
        part = whole[:, max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
        if 0 in part.shape:
            raise DataError(f"{self.where}: the box {self.box} lies outside of an image of {whole.shape[2]} x {whole.shape[1]}")
        return fit(part, size)


def check_line(line: Line) -> None:
    """DataError for a line that cannot be used."""
    if line.fault:
        raise DataError(f"{line.where}: {line.fault}")


def list_items(where: Path, drafts: Iterable[Draft], skip: bool, limit: int, skipped: list[str]) -> list[Item]:
    """The items in their order, at most `limit` (0: all). A bad one is an error, or with `skip` a line in `skipped`.

    As in the readers of rows, every image is decoded where bad ones are to be skipped, because only that tells.
    """
    items: list[Item] = []
    ids: set[str] = set()
    decoded: set[object] = set()
    for draft in drafts:
        if limit and len(items) == limit:
            break
        try:
            item = draft()
            if item.id in ids:
                raise DataError(f"{shown(str(where))}: two items have the id {brief(item.id)}; ids must be unique")
            _check_texts(item, where)
            for image in item.images if skip else ():
                content = image.content if isinstance(image, StoredImage) else image
                if content not in decoded:
                    image.pixels(8)
                    decoded.add(content)
        except DataError as error:
            if not (skip or isinstance(error, NoQuestionError)):
                raise
            skipped.append(str(error))
        else:
            ids.add(item.id)
            items.append(item)
    if not items:
        left_out = f"; the first of {len(skipped)} that were left out: {skipped[0]}" if skipped else ""
        raise DataError(f"{shown(str(where))}: no items{left_out}")
    return items


def _check_texts(item: Item, where: Path) -> None:
    name = f"{shown(str(where))}: {brief(item.id)}"
    if not all(text.strip() for text in item.texts):
        raise DataError(f"{name}: one of its captions is empty")
    if twice := [text for text in dict.fromkeys(item.texts) if item.texts.count(text) > 1]:
        raise DataError(f"{name}: two of its captions are {brief(twice[0])!r}, so that none can be right")


def check_path(path: str | Path, limit: int) -> Path:
    """The path as it is. DataError if nothing is there, RecipeError for a negative limit."""
    if limit < 0:
        raise RecipeError(f"benchmark.limit: found {limit}, expected 0 (all) or more")
    if not Path(path).exists():
        raise DataError(f"{shown(str(path))}: no such file or folder")
    return Path(path)


def entries(file: Path) -> Iterator[Line]:
    """The objects of a JSON list or of JSON lines, numbered from 1."""
    if file.suffix.lower() == ".jsonl":
        yield from read_jsonl(file)
        return
    found = read_json(file)
    if not isinstance(found, list):
        raise DataError(f"{shown(str(file))}: expected a list of entries, found {type(found).__name__}")
    for index, values in enumerate(found, 1):
        where = f"{shown(str(file))}: entry {index}"
        if isinstance(values, dict):
            yield Line(index, where, values)
        else:
            yield Line(index, where, {}, f"expected an object, found {type(values).__name__}")


def picture(root: Path, name: Any, where: str) -> StoredImage:
    """The image file `name` under `root`. DataError if there is none."""
    if not isinstance(name, str) or not name:
        raise DataError(f"{where}: the image is {name!r:.80}, expected a file name")
    here = f"{where} (image: {brief(name)})"
    try:
        return StoredImage(FileContent(inside(root, utf8(name, f"{where}: the image"), here)), here)
    except DataError as error:
        raise DataError(f"{error}; names are relative to {shown(str(root))}, or to the setting images") from None


def pictures_in(path: Path, images: str | Path, usual: str) -> Path:
    """The folder that file names are relative to: `images`, else the folder `usual` beside the file, else the file's own."""
    if images:
        if not Path(images).is_dir():
            raise DataError(f"images: {shown(str(images))} is no folder")
        return Path(images)
    beside = path.parent / usual
    return beside if usual and beside.is_dir() else path.parent


def texts_of(found: Any, where: str, what: str) -> list[str]:
    """One text or a list of texts, stripped. DataError for anything else, for none, and for empty ones."""
    texts = [found] if isinstance(found, str) else found
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: {what} is {found!r:.80}, expected a text or a list of texts")
    return [utf8(text, f"{where}: {what}").strip() for text in texts]


def number(line: Line, key: str) -> int:
    """A whole number that must be there."""
    value = line.values.get(key)
    fraction = isinstance(value, float) and not value.is_integer()
    if isinstance(value, bool) or not isinstance(value, int | float) or fraction or abs(value) >= 2**31:
        raise DataError(f"{line.where}: {key} is {value!r:.80}, expected a whole number below 2**31")
    return int(value)


def blocks(count: int, size: int, seed: int) -> list[list[int]]:
    """0 to count - 1 in random order, cut into blocks of `size`; the rest is left out. size 0: all in one block, in order."""
    if not size or size >= count:
        return [list(range(count))]
    order = sorted(range(count), key=lambda index: key_of("blocks", seed, index))
    return [order[start : start + size] for start in range(0, count - size + 1, size)]
