"""Benchmark "aro": one image, its caption, and captions with other attributes, relations or order (Yuksekgonul et al. 2023)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

from ...core.draws import key_of
from ...core.errors import DataError
from ...core.registry import benchmark
from ..tables import Line, text_of
from .files import (
    CroppedImage,
    Draft,
    NoQuestionError,
    check_line,
    check_path,
    entries,
    list_items,
    number,
    picture,
    pictures_in,
    texts_of,
)
from .item import Ask, Item

__all__ = ["Aro"]

Task = Literal["vg_relation", "vg_attribution", "coco_order", "flickr_order"]


@benchmark("aro")
@dataclass
class Aro:
    """The four tasks from ARO's own files. The right caption comes first; a constant scorer gets 1 / k whatever the order.

    task: "vg_relation", "vg_attribution": visual_genome_*.json, a list of image_path, bbox_x, bbox_y, bbox_w, bbox_h (the part of
    the image that is shown), true_caption, false_caption. "coco_order", "flickr_order": a list of image and caption (a text or a
    list of them), of which an item each; wrong ones by the four rules of `data.negatives`, or, where the entry has them, from
    caption_options (the first is right). As there, captions are lower case, without punctuation, cut to max_words (0: as they are).
    A rule that has nothing to change gives no candidate (facts "refused"); a caption for which none has is skipped with its reason.

    images: the folder that file names are relative to (default: "images" beside the file, else its own). tagger: "auto", "textblob"
    or "rules". Facts "rules": what made each wrong caption. on_bad_row: "stop", or "skip" (every image is decoded at listing).
    """

    asks: ClassVar[tuple[Ask, ...]] = ("text",)
    strict: ClassVar[bool] = False

    path: str | Path
    task: Task = "vg_relation"
    images: str = ""
    max_words: int = 30
    seed: int = 0
    tagger: str = "auto"
    on_bad_row: Literal["stop", "skip"] = "stop"
    limit: int = 0
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.task not in get_args(Task):
            raise ValueError(f"task: found {self.task!r}, expected one of {', '.join(get_args(Task))}")

    def items(self) -> Sequence[Item]:
        self.skipped.clear()
        path = check_path(self.path, self.limit)
        genome = self.task.startswith("vg_")
        root = pictures_in(path, self.images, "images")
        drafts = self._genome(path, root) if genome else self._order(path, root)
        return list_items(path, drafts, self.on_bad_row == "skip", self.limit, self.skipped)

    def _genome(self, file: Path, root: Path) -> Iterator[Draft]:
        return (lambda line=line: self._pair(file, root, line) for line in entries(file))

    def _pair(self, file: Path, root: Path, line: Line) -> Item:
        check_line(line)
        image = picture(root, line.values.get("image_path"), line.where)
        left, top, width, height = (number(line, f"bbox_{side}") for side in "xywh")
        if width < 1 or height < 1:
            raise DataError(f"{line.where}: a box of {width} x {height} pixels shows nothing")
        texts = text_of(line, "true_caption"), text_of(line, "false_caption")
        tag = line.values.get("relation_name", "") if self.task == "vg_relation" else line.values.get("attributes", "")
        words = "_".join(map(str, tag)) if isinstance(tag, list) else str(tag)
        shown = CroppedImage(image, (left, top, width, height))
        return Item(f"{file.name}:{line.number}", (shown,), texts, ((0, 0),), words, line.values["image_path"])

    def _order(self, file: Path, root: Path) -> Iterator[Draft]:
        for line in entries(file):
            found = line.values.get("caption")
            captions = found if isinstance(found, list) and found else [found]
            if line.fault or "caption_options" in line.values:
                yield lambda line=line: self._ready(file, root, line)
                continue
            for index, caption in enumerate(captions):
                yield lambda line=line, index=index, caption=caption: self._perturbed(file, root, line, index, caption)

    def _ready(self, file: Path, root: Path, line: Line) -> Item:
        check_line(line)
        texts = [self._plain(text) for text in texts_of(line.values["caption_options"], line.where, "caption_options")]
        return self._item(f"{file.name}:{line.number}", root, line, texts, {})

    def _perturbed(self, file: Path, root: Path, line: Line, index: int, caption: Any) -> Item:
        from ..negatives import ORDER_RULES, open_tagger, perturb

        if not isinstance(caption, str) or not caption.strip():
            raise DataError(f"{line.where}: caption {index + 1} is {caption!r:.80}, expected text")
        found = perturb(caption, ORDER_RULES, key_of("aro", self.seed, line.number, index), open_tagger(self.tagger))
        rules = {self._plain(caption): ""}  # by text: two rules may give the same within max_words
        for negative in found.negatives:
            rules.setdefault(self._plain(negative.text), negative.rule)
        refused = {refused.rule: refused.reason for refused in found.refused}
        if len(rules) < 2:
            raise NoQuestionError(f"{line.where}, caption {index + 1}: has no other order ({refused or 'cut to max_words'})")
        facts = {"rules": list(rules.values())[1:], "refused": refused}
        return self._item(f"{file.name}:{line.number}.{index + 1}", root, line, list(rules), facts)

    def _item(self, name: str, root: Path, line: Line, texts: list[str], facts: dict[str, Any]) -> Item:
        if len(texts) < 2:
            raise DataError(f"{line.where}: expected two or more captions, found {texts!r:.120}")
        image = picture(root, line.values.get("image"), line.where)
        return Item(name, (image,), tuple(texts), ((0, 0),), "", str(line.values["image"]), facts)

    def _plain(self, caption: str) -> str:
        """ARO's pre_caption: lower case, some punctuation as spaces, the first max_words words."""
        if not self.max_words:
            return caption
        words = re.sub(r"[.!\"()*#:;~]", " ", caption.lower()).split()
        return " ".join(words[: self.max_words])
