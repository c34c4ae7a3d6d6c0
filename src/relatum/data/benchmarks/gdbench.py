"""Benchmark "gdbench": the tasks that GDBench adds to others' benchmarks, from its own JSON (Krojer et al. 2023)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Literal, get_args

from ...core.errors import DataError
from ...core.registry import benchmark
from ..refs import shown
from ..tables import Line, read_json, text_of
from .files import Draft, check_line, check_path, entries, list_items, picture, pictures_in, texts_of
from .item import Ask, Item

__all__ = ["GDBench"]

Task = Literal["clevr", "svo", "flickr30k_text", "flickr30k_image"]
_LEFT_OUT = ("CLEVR_questions", "CLEVR_scenes")  # lie beside the captions


@benchmark("gdbench")
@dataclass
class GDBench:
    """task: "clevr": {image: [[right, wrong], ...]} of one subtask, or lines {"image": ..., "pairs": ...}, or a folder of such
    files; an item a pair, the tag is the file's name, the image the group. "svo": svo.json, a list of pos_id, neg_id, sentence,
    neg_type (the tag): one sentence, two images. "flickr30k_text": {image: [caption, ...]}, "flickr30k_image": {caption: [image,
    ...]}: ten candidates, the first is right; of the image's path only the file name counts.

    images: the folder that file names are relative to (default: "images" beside the file, else its own). on_bad_row: "stop", or
    "skip" (every image is decoded at listing). limit: the first n items; 0: all.
    """

    path: str | Path
    task: Task = "clevr"
    images: str = ""
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int = 0
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ValueError(f"task: found {self.task!r}, expected one of {', '.join(get_args(Task))}")

    @property
    def asks(self) -> tuple[Ask, ...]:
        return ("image",) if self.task in ("svo", "flickr30k_image") else ("text",)

    @property
    def strict(self) -> bool:
        return False

    def items(self) -> Sequence[Item]:
        self.skipped.clear()
        path = check_path(self.path, self.limit)
        drafts = [draft for file in _files(path) for draft in self._drafts(file, pictures_in(file, self.images, "images"))]
        return list_items(path, drafts, self.on_bad_row == "skip", self.limit, self.skipped)

    def _drafts(self, file: Path, root: Path) -> Iterator[Draft]:
        if self.task == "svo":
            return (lambda line=line: _verb(file, root, line) for line in entries(file))
        if self.task == "clevr":
            return (draft for line in _pictures(file) for draft in _pairs(file, root, line))
        one = _one_image if self.task == "flickr30k_text" else _one_text
        return (lambda i=i, k=k, v=v: one(file, root, i, k, v) for i, (k, v) in enumerate(_object(file).items(), 1))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    found = sorted(f for f in path.iterdir() if f.suffix.lower() in (".json", ".jsonl") and f.stem not in _LEFT_OUT)
    if not found:
        raise DataError(f"{shown(str(path))}: no .json or .jsonl file here")
    return found


def _object(file: Path) -> dict[str, Any]:
    found = read_json(file)
    if not isinstance(found, dict):
        raise DataError(f"{shown(str(file))}: expected an object, found {type(found).__name__}")
    return found


def _pictures(file: Path) -> Iterator[Line]:
    """The two layouts of CLEVR as lines of image and pairs."""
    if file.suffix.lower() == ".jsonl":
        yield from entries(file)
        return
    for number, (image, pairs) in enumerate(_object(file).items(), 1):
        yield Line(number, f"{shown(str(file))}: {shown(image)}", {"image": image, "pairs": pairs})


def _pairs(file: Path, root: Path, line: Line) -> Iterator[Draft]:
    pairs = line.values.get("pairs")
    if line.fault or not isinstance(pairs, list) or not pairs:
        yield lambda: _refuse(line, pairs)
        return
    for index, pair in enumerate(pairs, 1):
        yield lambda index=index, pair=pair: _pair(file, root, line, index, pair)


def _refuse(line: Line, pairs: Any) -> Item:
    check_line(line)
    raise DataError(f"{line.where}: pairs is {pairs!r:.80}, expected a list of [right, wrong]")


def _pair(file: Path, root: Path, line: Line, index: int, pair: Any) -> Item:
    texts = texts_of(pair, f"{line.where}, pair {index}", "the pair")
    if len(texts) != 2:
        raise DataError(f"{line.where}, pair {index}: found {texts!r:.120}, expected two captions")
    image = picture(root, line.values.get("image"), line.where)
    return Item(f"{file.stem}:{line.values['image']}:{index}", (image,), tuple(texts), ((0, 0),), file.stem, line.values["image"])


def _verb(file: Path, root: Path, line: Line) -> Item:
    check_line(line)
    images = tuple(picture(root, str(line.values.get(key) or ""), line.where) for key in ("pos_id", "neg_id"))
    sentence, tag = text_of(line, "sentence"), str(line.values.get("neg_type", ""))
    return Item(f"{file.stem}:{line.number}", images, (sentence,), ((0, 0),), tag, str(line.values["pos_id"]))


def _one_image(file: Path, root: Path, number: int, name: str, captions: Any) -> Item:
    where = f"{shown(str(file))}: {shown(name)}"
    texts = dict.fromkeys(texts_of(captions, where, "the list of captions"))  # some of its lists name a wrong one twice
    return Item(f"{file.stem}:{number}", (_flickr(root, name, where),), tuple(texts), ((0, 0),), "", name)


def _one_text(file: Path, root: Path, number: int, caption: str, names: Any) -> Item:
    where = f"{shown(str(file))}: caption {number}"
    images = tuple(_flickr(root, name, where) for name in texts_of(names, where, "the list of images"))
    return Item(f"{file.stem}:{number}", images, (caption,), ((0, 0),), "", names[0])


def _flickr(root: Path, name: str, where: str) -> Any:
    return picture(root, PurePosixPath(name).name, where)
