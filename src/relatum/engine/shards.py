"""A store of small groups of tensors under content keys, in safetensors shards. The shards' own headers are the index."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ..atomic import remove_stale, write_bytes
from ..core.errors import DataError

__all__ = ["ShardStore"]

OPEN_SHARDS = 64  # mapped at a time


class ShardStore:
    """`folder` holds shard-*.safetensors; an entry is a key without "/" and its tensors by part ("mean", "logvar").

    A shard is named by the hash of its keys and written whole or not at all, so processes may add to one store side by side.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: OrderedDict[Path, Any] = OrderedDict()
        self._where: dict[str, tuple[Path, tuple[str, ...]]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Reads the headers of all shards again. DataError names a damaged one."""
        self._where.clear()
        if not self.folder.is_dir():
            return
        remove_stale(self.folder)
        for path in self.shards():
            self._index(path)

    def shards(self) -> list[Path]:
        return sorted(self.folder.glob("shard-*.safetensors"))

    def __contains__(self, key: str) -> bool:
        return key in self._where

    def __iter__(self) -> Iterator[str]:
        return iter(self._where)

    def __len__(self) -> int:
        return len(self._where)

    def get(self, key: str) -> dict[str, Tensor]:
        """The entry's tensors, read from the mapped shard."""
        path, parts = self._where[key]
        handle = self._handle(path)
        return {part: handle.get_tensor(f"{key}/{part}") for part in parts}

    def add(self, entries: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Writes one shard. DataError if the disk is full: nothing half-written stays."""
        from safetensors.torch import save

        if not entries:
            return
        name = hashlib.sha256("\n".join(sorted(entries)).encode()).hexdigest()[:16]
        path = self.folder / f"shard-{name}.safetensors"
        flat = {f"{key}/{part}": tensor.contiguous() for key, parts in entries.items() for part, tensor in parts.items()}
        self._open.pop(path, None)
        write_bytes(path, save(flat))
        self._index(path)

    def keep_only(self, keys: Iterable[str]) -> int:
        """Drops all other entries, rewriting the shards that hold some of both; gives the bytes freed."""
        keys, before = set(keys), self._bytes()
        for path in self.shards():
            here = [key for key, (place, _) in self._where.items() if place == path]
            kept = [key for key in here if key in keys]
            if len(kept) == len(here):
                continue
            entries = {key: self.get(key) for key in kept}
            self._open.pop(path, None)
            self.add(entries)
            path.unlink()
        self._open.clear()
        self.refresh()
        return before - self._bytes()

    def _bytes(self) -> int:
        return sum(path.stat().st_size for path in self.shards())

    def _index(self, path: Path) -> None:
        parts: dict[str, list[str]] = {}
        for name in self._handle(path).keys():  # noqa: SIM118  (a handle, not a dict)
            key, _, part = name.rpartition("/")
            parts.setdefault(key, []).append(part)
        self._where.update({key: (path, tuple(names)) for key, names in parts.items()})

    def _handle(self, path: Path) -> Any:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        from safetensors import SafetensorError, safe_open

        try:
            handle = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise DataError(
                f"{path}: the shard is truncated or damaged ({error}); delete it, its entries are encoded again"
            ) from error
        self._open[path] = handle
        if len(self._open) > OPEN_SHARDS:
            self._open.popitem(last=False)
        return handle
