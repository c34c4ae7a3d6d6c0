"""Readers "msrvtt", "webvid" and "open_sora": videos whose captions lie in the files of those data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ..core.errors import DataError
from ..core.load import near
from ..core.registry import reader
from .clips import Entry, captions_of
from .refs import shown
from .tables import Line, read_csv, read_json, text_of
from .video_readers import VideoReader

__all__ = ["MsrVtt", "OpenSora", "WebVid"]


@reader("msrvtt")
@dataclass
class MsrVtt(VideoReader):
    """MSR-VTT (Xu et al. 2016) as released: a JSON file with "videos" and "sentences", the clips as VIDEO_ID.mp4.

    Several clips are cut from one YouTube video: those of one url are one group.
    metadata: the JSON file, relative to path (train_val_videodatainfo.json). folder: where the clips lie, relative to path.
    split: "train", "validate" or "test"; all if empty.
    """

    metadata: str = field(kw_only=True)
    folder: str = field(default="", kw_only=True)
    split: str = field(default="", kw_only=True)

    def entries(self) -> Iterator[Entry]:
        file = Path(self.path) / self.metadata
        name, table = shown(str(file)), read_json(file)
        if not isinstance(table, dict):
            raise DataError(f"{name}: expected an object with videos and sentences, found {type(table).__name__}")
        captions, faults = _sentences(name, _listed(name, table, "sentences"))
        yield from faults
        videos = _listed(name, table, "videos")
        known = [video.get("video_id") if isinstance(video, dict) else None for video in videos]
        yield from _strangers(captions, set(map(str, known)))
        splits = [str(video.get("split")) for video in videos if isinstance(video, dict)]
        if self.split and self.split not in splits:
            raise DataError(f"{name}: no video of split {self.split!r}{near(self.split, set(splits))}")
        for number, video in enumerate(videos):
            where = f"{name}: videos[{number}]"
            if not isinstance(video, dict) or not isinstance(id := video.get("video_id"), str) or not id:
                found = f"video_id is {video.get('video_id')!r}" if isinstance(video, dict) else f"found {type(video).__name__}"
                yield Entry("", where, fault=f"{found}, expected an object with a text as video_id")
            elif not self.split or video.get("split") == self.split:
                clip = str(PurePosixPath(self.folder, f"{id}.mp4"))
                url = video.get("url")
                recording = url if isinstance(url, str) else ""
                texts = [text for _, text in captions.get(id, [])]
                yield Entry(id, f"{where} ({shown(clip)})", texts, clip, recording=recording)


def _listed(name: str, table: Mapping[str, Any], key: str) -> Sequence[Any]:
    if not isinstance(table.get(key), list):
        found = type(table[key]).__name__ if key in table else "nothing"
        raise DataError(f"{name}: {key}: expected a list, found {found}; is it MSR-VTT's videodatainfo.json?")
    return table[key]


def _sentences(name: str, sentences: Sequence[Any]) -> tuple[dict[str, list[tuple[str, str]]], list[Entry]]:
    """(place and caption by video id, those that are broken)."""
    captions: dict[str, list[tuple[str, str]]] = {}
    faults: list[Entry] = []
    for number, sentence in enumerate(sentences):
        where = f"{name}: sentences[{number}]"
        try:
            if not isinstance(sentence, dict):
                raise DataError(f"{where}: found {type(sentence).__name__}, expected an object with caption and video_id")
            line = Line(number, where, sentence)
            id, caption = text_of(line, "video_id"), text_of(line, "caption")
            texts = captions_of([caption], f"{where}: caption")
            captions.setdefault(id, []).extend((where, text) for text in texts)
        except DataError as error:
            faults.append(Entry("", where, fault=str(error).removeprefix(f"{where}: ")))
    return captions, faults


def _strangers(captions: Mapping[str, Sequence[tuple[str, str]]], known: set[str]) -> Iterator[Entry]:
    for id in captions:
        if id not in known:
            where, count = captions[id][0][0], len(captions[id])
            yield Entry("", where, fault=f"video_id {id!r} is not among the videos ({count} sentences name it)")


@reader("webvid")
@dataclass
class WebVid(VideoReader):
    """WebVid (Bain et al. 2021): a CSV file with videoid, page_dir and name (the caption).

    The clips are PAGE_DIR/VIDEOID.mp4, as its download script lays them, or VIDEOID.mp4.
    metadata: the CSV file (results_2M_train.csv), relative to path. folder: where the clips lie, relative to path.
    """

    metadata: str = field(kw_only=True)
    folder: str = field(default="", kw_only=True)

    def entries(self) -> Iterator[Entry]:
        for line in read_csv(Path(self.path) / self.metadata, ("videoid", "name", "page_dir")):
            yield _entry(line, "videoid", "name", self._file)

    def _file(self, line: Line, id: str) -> str:
        plain = PurePosixPath(self.folder, f"{id}.mp4")
        deep = PurePosixPath(self.folder, line.values["page_dir"], f"{id}.mp4")
        return str(plain if os.path.isfile(Path(self.path) / plain) else deep)


@reader("open_sora")
@dataclass
class OpenSora(VideoReader):
    """Open-Sora's CSV files: columns path (relative to the reader's path, or absolute inside of it) and text (the caption)."""

    metadata: str = field(kw_only=True)

    def entries(self) -> Iterator[Entry]:
        for line in read_csv(Path(self.path) / self.metadata, ("path", "text")):
            yield _entry(line, "path", "text", lambda _, name: name)


def _entry(line: Line, name: str, caption: str, file: Any) -> Entry:
    try:
        if line.fault:
            raise DataError(f"{line.where}: {line.fault}")
        id = text_of(line, name)
        clip = file(line, id)
        return Entry(id, f"{line.where} ({shown(clip)})", captions_of(line.values[caption], f"{line.where}: {caption}"), clip)
    except DataError as error:
        return Entry("", line.where, fault=str(error).removeprefix(f"{line.where}: "))
