"""What a curation's inputs list, and what they hold."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from ..core.load import load
from ..curation.manifest import Input
from ..curation.probe import classify
from ..curation.settings import Curation
from ..data.sources import Inputs
from ..video.opening import VideoError
from ..video.source import Hashes, Source, content_of

__all__ = ["Listed", "Shard", "list_sources"]

Shard = tuple[int, int]
"""(i, n): the i-th of n parts, from 0."""


@dataclass(frozen=True)
class Listed:
    """What the inputs list, in order. contents: SHA-256 of each, "" of one that cannot be read; faults: then why, by place."""

    sources: Sequence[Source]
    contents: Sequence[str]
    faults: Mapping[int, VideoError]

    def distinct(self) -> dict[str, Source]:
        """The first source of each content, in ascending order of the contents."""
        found: dict[str, Source] = {}
        for source, content in zip(self.sources, self.contents, strict=True):
            if content:
                found.setdefault(content, source)
        return dict(sorted(found.items()))

    def inputs(self) -> Iterator[Input]:
        """As the manifest has them."""
        first: dict[str, str] = {}
        for place, (source, content) in enumerate(zip(self.sources, self.contents, strict=True)):
            status, reason, detail, of = "ok", "", "", ""
            if source.fault or place in self.faults:
                fault = self.faults.get(place)
                status, reason = (source.status, source.reason) if fault is None else classify(fault)
                detail = source.fault or str(fault)
            elif (of := first.setdefault(content, source.uri)) != source.uri:
                status, reason, detail = "duplicate", "same_content", f"the same bytes as {of}"
            offset, size = source.member or (0, 0)
            told = (source.title, source.captions, source.license, source.tag, source.group, source.note)
            path = os.fsencode(source.path).decode("utf-8", "backslashreplace")
            dup = of if status == "duplicate" else ""
            yield Input(source.uri, content, status, path, offset, size, reason, detail, dup, *told)


def list_sources(recipe: Curation, shard: Shard | None = None) -> Listed:
    """What the recipe's inputs are, or those of a shard, and what they hold. A file that was hashed before, by any shard, and has
    not changed is not read again."""
    sources = list(load(Inputs, recipe.input, "input").sources(recipe.folder))
    file = recipe.run / "hashes.json"
    if shard is not None:
        sources = [source for source in sources if _part(source.uri, shard[1]) == shard[0]]
        file = recipe.run / f"hashes-{shard[0]}-of-{shard[1]}.json"
    contents, faults = ["" for _ in sources], {}
    with Hashes(file, sorted(recipe.run.glob("hashes*.json"))) as hashes, ThreadPoolExecutor(4) as pool:
        asked = {}
        for place, source in enumerate(sources):
            if source.fault:
                continue
            try:
                _refuse_large(source, recipe.limits.max_bytes)
                contents[place] = hashes.known(source) or ""
            except VideoError as error:
                faults[place] = error
                continue
            if not contents[place]:
                asked[place] = pool.submit(content_of, source)
        for place, found in asked.items():
            try:
                contents[place] = hashes.add(sources[place], found.result())
            except VideoError as error:
                faults[place] = error
    return Listed(sources, contents, faults)


def _part(uri: str, count: int) -> int:
    """Of so many, the one that a source belongs to: by its name, as its content is not known before it is hashed."""
    return int.from_bytes(hashlib.sha256(uri.encode("utf-8", "backslashreplace")).digest()) % count


def _refuse_large(source: Source, most: int) -> None:
    """VideoError for a file that is not even to be hashed."""
    if most and source.size > most:
        words = f"has {source.size:,} bytes, the limit is {most:,}; cut the video, or raise limits.max_bytes"
        raise VideoError(f"{source.uri}: {words}", "too_large")
