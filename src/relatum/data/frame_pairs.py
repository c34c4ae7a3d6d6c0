"""Reader "frame_pairs": pairs of frames that somebody has drawn already, as image files with a caption each."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.registry import reader
from ..imaging import MEGAPIXELS
from .clips import captions_of
from .refs import FileContent, StoredImage, inside, shown
from .rows import Row
from .tables import Line, read_jsonl, text_of

__all__ = ["FramePairs"]


@reader("frame_pairs")
@dataclass
class FramePairs:
    """A folder with metadata.jsonl: {"source": a.jpg, "target": b.jpg, "text": ..., "offset": seconds, "video": ...} a line.

    source, target (or source_file_name, target_file_name): image files inside the folder. text: a caption, or a list of which one
    is drawn. video: by default the content of the source image; it is the group, unless the line has one. offset: seconds between
    both, by default the setting's; source_time: of the source in its video.
    on_bad_row: "stop", or "skip" (every image is decoded at listing).
    """

    path: str | Path
    offset: float = 1.0
    on_bad_row: Literal["stop", "skip"] = "stop"
    max_megapixels: float = MEGAPIXELS
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        if self.offset <= 0:
            raise RecipeError(f"frame_pairs: offset is {self.offset}, expected seconds above 0")

    def rows(self) -> list[Row]:
        self.skipped.clear()
        file = Path(self.path) / "metadata.jsonl"
        if not file.is_file():
            raise DataError(f"{shown(str(self.path))}: no metadata.jsonl in it")
        rows: list[Row] = []
        for line in read_jsonl(file):
            try:
                rows.append(self._row(line))
            except DataError as error:
                if self.on_bad_row == "stop":
                    raise
                self.skipped.append(str(error))
        return rows

    def _row(self, line: Line) -> Row:
        if line.fault:
            raise DataError(f"{line.where}: {line.fault}")
        source, target = (self._image(line, role) for role in ("source", "target"))
        captions = captions_of(line.values.get("text"), f"{line.where}: text")
        if not captions:
            raise DataError(f"{line.where}: no caption (text is missing or empty)")
        offset = _seconds(line, "offset", self.offset)
        if offset == 0:
            raise DataError(f"{line.where}: offset is 0, expected seconds above 0")
        if self.on_bad_row == "skip":
            for image in (source, target):
                image.pixels(8)
        video = text_of(line, "video") if "video" in line.values else source.stored_digest()
        group = text_of(line, "group") if line.values.get("group") else video
        facts = {"offset": offset, "spacing": offset, "video": video, "source_time": _seconds(line, "source_time", 0.0)}
        id = f"metadata.jsonl:{line.number}"
        caption = captions[key_of("caption", id) % len(captions)]
        texts = {"instruction": caption, "target": caption}
        return Row(id, group, {"source": source, "target": target}, texts, facts=facts, where=line.where)

    def _image(self, line: Line, role: str) -> StoredImage:
        name = text_of(line, role if role in line.values else f"{role}_file_name" if f"{role}_file_name" in line.values else role)
        where = f"{line.where} ({role}: {shown(name)})"
        return StoredImage(FileContent(inside(Path(self.path), name, where)), where, max_megapixels=self.max_megapixels)


def _seconds(line: Line, column: str, default: float) -> float:
    value = line.values.get(column, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise DataError(f"{line.where}: {column} is {value!r}, expected seconds{' above 0' if column == 'offset' else ''}")
    return float(value)
