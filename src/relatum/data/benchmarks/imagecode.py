"""Benchmark "imagecode": one description, ten pictures that look alike (Krojer et al. 2022)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from ...core.errors import DataError
from ...core.registry import benchmark
from ..refs import shown
from ..tables import read_json
from .files import Draft, check_path, list_items, picture
from .item import Ask, Item

__all__ = ["ImageCode"]

_NAME = re.compile(r"img(\d+)\.(?:jpg|jpeg|png|webp)", re.IGNORECASE)


@benchmark("imagecode")
@dataclass
class ImageCode:
    """path: valid_data.json, {set: {index: description}}; images: the folder with a folder a set, img0.jpg to img9.jpg in it
    (default: "image-sets" beside the file).

    sets: "static" (photographs, named open-images-...), "video" (frames of one video, which need context), or "all"; the tag says
    which. on_bad_row: "stop", or "skip" (every image is decoded at listing). limit: the first n items; 0: all.
    """

    asks: ClassVar[tuple[Ask, ...]] = ("image",)
    strict: ClassVar[bool] = False

    path: str | Path
    images: str = ""
    sets: Literal["all", "static", "video"] = "all"
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int = 0
    skipped: list[str] = field(default_factory=list, init=False)

    def items(self) -> Sequence[Item]:
        self.skipped.clear()
        path = check_path(self.path, self.limit)
        root = Path(self.images) if self.images else path.parent / "image-sets"
        if not root.is_dir():
            raise DataError(f"{shown(str(root))}: no such folder; set images to the one that holds the image sets")
        found = read_json(path)
        if not isinstance(found, dict):
            raise DataError(f"{shown(str(path))}: expected an object of image sets, found {type(found).__name__}")
        return list_items(path, self._drafts(path, root, found), self.on_bad_row == "skip", self.limit, self.skipped)

    def _drafts(self, file: Path, root: Path, found: dict[str, Any]) -> Iterator[Draft]:
        for name, captions in found.items():
            tag = "static" if "open-images" in name else "video"
            if self.sets not in ("all", tag):
                continue
            where = f"{shown(str(file))}: {shown(name)}"
            if not isinstance(captions, dict):
                yield lambda where=where, captions=captions: _refuse(where, captions)
                continue
            for index, caption in captions.items():
                yield lambda w=where, n=name, t=tag, i=index, c=caption: _item(root, w, n, t, i, c)


def _refuse(where: str, captions: Any) -> Item:
    kind = type(captions).__name__
    raise DataError(f"{where}: expected descriptions by index, found {kind}; sets without labels cannot be judged")


def _item(root: Path, where: str, name: str, tag: str, index: str, caption: Any) -> Item:
    if not isinstance(caption, str) or not caption.strip():
        raise DataError(f"{where}: description {index} is {caption!r:.80}, expected text")
    folder = root / name
    files = (
        {int(found[1]): path.name for path in folder.iterdir() if (found := _NAME.fullmatch(path.name))} if folder.is_dir() else {}
    )
    if sorted(files) != list(range(len(files))) or len(files) < 2:
        raise DataError(f"{where}: expected img0, img1 and so on in {shown(str(folder))}, found {sorted(files) or 'none'}")
    if not index.isdecimal() or int(index) not in files:
        raise DataError(f"{where}: the index {index!r} is none of 0 to {len(files) - 1}")
    images = tuple(picture(root, f"{name}/{files[i]}", where) for i in range(len(files)))
    return Item(f"{name}:{index}", images, (caption.strip(),), ((int(index), 0),), tag, name)
