"""What is known of each video, on disk by its content: its record with the tracks, stills of its clips, what looks said of them.

Every file is whole or absent, and its name follows from content and settings, so that work done twice overwrites itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import write_bytes, write_pieces, write_text
from .base import Facts, Track

__all__ = ["FAILED", "Fault", "Record", "Store"]

FAILED = ("reject", "error", "crash", "timeout")  # of a video's status, besides "ok" and "partial"


@dataclass(frozen=True)
class Fault:
    """A stage that failed at a frame. seconds: when that frame is shown."""

    stage: str
    seconds: float
    words: str


@dataclass(frozen=True)
class Record:
    """All that the pass over a video left. facts: of the file (codec, size, rate, ...). keys: by track, what it was made with.

    limits: key of the limits that it was held against. faults: of stages; they cost clips, not the video.
    """

    content: str
    status: str
    reason: str = ""
    detail: str = ""
    limits: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)
    faults: Sequence[Fault] = ()
    tracks: Mapping[str, Track] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return self.status in FAILED


@dataclass(frozen=True)
class Store:
    folder: Path

    def has(self, content: str) -> bool:
        return self._file(content, "safetensors").is_file()

    def read(self, content: str, tracks: bool = True) -> Record | None:
        """None where there is none, or none that can be read: then it is made again. Without tracks it costs next to nothing."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(content, "safetensors"), framework="numpy") as file:
                about = json.loads((file.metadata() or {})["record"])
                found: dict[str, dict[str, np.ndarray]] = {name: {} for name in about["keys"]}
                for key in file.keys() if tracks else ():
                    name, _, array = key.rpartition("/")
                    found[name][array] = file.get_tensor(key)
            about["faults"] = [Fault(**fault) for fault in about["faults"]]
            return Record(**about, tracks=found)
        except (OSError, SafetensorError, ValueError, KeyError, TypeError):
            return None

    def write(self, record: Record) -> None:
        from safetensors.numpy import save

        about = {key: value for key, value in vars(record).items() if key != "tracks"}
        about["faults"] = [asdict(fault) for fault in record.faults]
        arrays = {
            f"{name}/{key}": np.ascontiguousarray(array) for name, track in record.tracks.items() for key, array in track.items()
        }
        text = json.dumps(about, sort_keys=True, ensure_ascii=True)
        write_bytes(self._file(record.content, "safetensors"), save(arrays, {"record": text}))

    def stilled(self, content: str, key: str) -> tuple[str, set[str]]:
        """(the key of the split whose clips' stills are there, "" where there are none; ids of clips that have some)."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(content, f"stills-{key}.safetensors"), framework="numpy") as file:
                return (file.metadata() or {}).get("split", ""), {name.rpartition("/")[0] for name in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return "", set()

    def stills(self, content: str, key: str, clip: str) -> list[bytes]:
        """JPEG files of one clip's stills in order of time; none where there are none."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(self._file(content, f"stills-{key}.safetensors"), framework="numpy") as file:
                names = sorted(name for name in file.keys() if name.startswith(f"{clip}/"))  # noqa: SIM118
                return [file.get_tensor(name).tobytes() for name in names]
        except (OSError, SafetensorError):
            return []

    def write_stills(
        self, content: str, key: str, stills: Mapping[str, Sequence[bytes]], split: str = "", kept: Collection[str] = ()
    ) -> None:
        """Those of all clips of a video, in place of all that there are of it, also under other keys.

        Each clip's are asked for twice, and never held longer than that. split: key of what made the clips. kept: clips whose
        stills are taken over from the file that is there.
        """
        from safetensors import safe_open

        file = self._file(content, f"stills-{key}.safetensors")
        with ExitStack() as stack:
            old: Any = stack.enter_context(safe_open(file, framework="numpy")) if kept else None
            names = [name for name in (old.keys() if kept else ()) if name.rpartition("/")[0] in kept]
            sizes = {name: old.get_slice(name).get_shape()[0] for name in names}
            sizes |= {f"{clip}/{i:03}": len(data) for clip, found in stills.items() for i, data in enumerate(found)}
            data = chain((old.get_tensor(name).tobytes() for name in names), chain.from_iterable(stills.values()))
            write_pieces(file, chain([_header(sizes, {"split": split})], data))
        for other in file.parent.glob(f"{content}.stills-*.safetensors"):
            if other != file:
                other.unlink(missing_ok=True)

    def look(self, content: str, name: str, key: str) -> dict[str, Facts] | None:
        """What a look said of the clips of a video, by clip id; None where it was not asked yet."""
        try:
            return json.loads(self._file(content, f"{name}-{key}.json").read_text("utf-8"))
        except (OSError, ValueError):
            return None

    def write_look(self, content: str, name: str, key: str, facts: Mapping[str, Facts]) -> None:
        write_text(self._file(content, f"{name}-{key}.json"), json.dumps(facts, sort_keys=True))

    def crashes(self, content: str) -> list[list[Any]]:
        """[stage, frame, the stage's key] where a process that watched this video ended; the next attempt goes round them."""
        try:
            return json.loads(self._file(content, "crashes.json").read_text("utf-8"))
        except (OSError, ValueError):
            return []

    def write_crashes(self, content: str, crashes: Sequence[Sequence[Any]]) -> None:
        file = self._file(content, "crashes.json")
        if crashes:
            write_text(file, json.dumps(crashes))
        else:
            file.unlink(missing_ok=True)

    def forget(self, content: str) -> None:
        """Removes a video's record and its crashes, so that it is tried again."""
        for ending in ("safetensors", "crashes.json"):
            self._file(content, ending).unlink(missing_ok=True)

    def _file(self, content: str, ending: str) -> Path:
        return self.folder / content[:2] / f"{content}.{ending}"


def _header(sizes: Mapping[str, int], about: Mapping[str, str]) -> bytes:
    """What a file of safetensors begins with: its length, names and places of what follows, uint8 each, spaces up to 8 bytes."""
    places, end = {}, 0
    for name, size in sizes.items():
        places[name] = {"dtype": "U8", "shape": [size], "data_offsets": [end, end + size]}
        end += size
    text = json.dumps({"__metadata__": dict(about), **places}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
