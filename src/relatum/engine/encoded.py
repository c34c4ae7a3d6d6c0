"""Rows in the form that training reads: encoded, or raw for the tasks that train the encoders themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.shapes import NullTokens, PerSample
from ..data.rows import Row
from ..models.codec import Moments
from ..tasks.base import Batch, Needs
from .shards import ShardStore

__all__ = ["Column", "EncodedRows", "RawRows"]

Column = tuple[str, str]  # kind ("image", "clip", "look", "mask", "text") and name ("source")


class _Pool:
    """The entries of one kind that a data set uses, each once: stacked in memory where they fit, else read from shards."""

    def __init__(self, store: ShardStore, keys: Sequence[str]) -> None:
        self.store, self.keys = store, keys
        self.parts: dict[str, Tensor] | None = None

    def bytes(self) -> int:
        return len(self.keys) * sum(t.numel() * t.element_size() for t in self.store.get(self.keys[0]).values()) if self.keys else 0

    def load(self) -> None:
        self.parts = self._read(range(len(self.keys)))

    def take(self, index: Tensor) -> dict[str, Tensor]:
        """Float32 (or boolean) tensors of the entries at `index` (b,), by part."""
        if self.parts is not None:
            return {part: _plain(tensor.index_select(0, index)) for part, tensor in self.parts.items()}
        return {part: _plain(tensor) for part, tensor in self._read(index.tolist()).items()}

    def _read(self, index: Sequence[int]) -> dict[str, Tensor]:
        """Stacked without a second copy of the whole: a data set may nearly fill the memory that it was given."""
        first = self.store.get(self.keys[index[0]])
        stacked = {part: torch.empty(len(index), *tensor.shape, dtype=tensor.dtype) for part, tensor in first.items()}
        for row, i in enumerate(index):
            for part, tensor in self.store.get(self.keys[i]).items():
                stacked[part][row] = tensor
        return stacked


def _plain(tensor: Tensor) -> Tensor:
    return tensor if tensor.dtype == torch.bool else tensor.float()


class EncodedRows:
    """Encoded rows by position. Kinds that fit into `ram_bytes` together are held stacked: a batch is one index_select a tensor.

    ids, groups, where: of each row. null: (1 n d) states of the empty text. skipped: reasons of the rows left out.
    used: entries by cache group, for `gc`.
    """

    def __init__(
        self,
        rows: Sequence[Row],
        columns: Mapping[Column, Sequence[str]],
        stores: Mapping[str, ShardStore],
        null: NullTokens | None,
        skipped: list[str],
        ram_bytes: int,
        numbers: Mapping[str, PerSample] | None = None,
    ) -> None:
        self.ids = [row.id for row in rows]
        self.groups = [row.group for row in rows]
        self.where = [row.where for row in rows]
        self.null, self.skipped, self.numbers = null, skipped, dict(numbers or {})
        self._pools: dict[str, _Pool] = {}
        self._index: dict[Column, Tensor] = {}
        for kind, store in stores.items():
            keys = list(dict.fromkeys(key for (k, _), column in columns.items() if k == kind for key in column))
            place = {key: i for i, key in enumerate(keys)}
            pool = self._pools[kind] = _Pool(store, keys)
            for column, cells in columns.items():
                if column[0] == kind:
                    self._index[column] = torch.tensor([place[key] for key in cells], dtype=torch.long)
            size = pool.bytes()
            if keys and size <= ram_bytes:
                pool.load()
                ram_bytes -= size

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def used(self) -> dict[str, set[str]]:
        return {pool.store.folder.name: set(pool.keys) for pool in self._pools.values()}

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows at `indices`, float32 on the CPU."""
        picked = torch.as_tensor(list(indices), dtype=torch.long)
        moments, tokens, masks, joined, looks, pixels = {}, {}, {}, {}, {}, {}
        for (kind, name), index in self._index.items():
            taken = self._pools[kind].take(index[picked])
            if kind in ("image", "clip"):
                moments[name] = Moments(taken["mean"], taken["logvar"])
                joined |= {name: taken["joined"]} if kind == "clip" else {}
            elif kind == "text":
                tokens[name] = taken["tokens"]
            elif kind == "look":
                looks[name], pixels[name] = taken["look"], taken["frame"] / 127.5 - 1
            else:
                masks[name] = taken["mask"]
        return Batch(
            [self.ids[i] for i in indices],
            [self.groups[i] for i in indices],
            [self.where[i] for i in indices],
            moments,
            tokens,
            self.null,
            masks,
            pixels,
            numbers={name: values[picked] for name, values in self.numbers.items()},
            joined=joined,
            looks=looks,
        )


class RawRows:
    """Rows as pixels and texts, for tasks that train encoders. Images are read once and kept in 8 bits while `ram_bytes` last.

    on_bad_row "skip" reads all at once and leaves out those that cannot be read (`skipped`); "stop" raises DataError then.
    """

    null: NullTokens | None = None

    def __init__(self, rows: Sequence[Row], needs: Needs, size: int, *, on_bad_row: str = "stop", ram_bytes: int = 2 << 30) -> None:
        self.needs, self.size, self.skipped = needs, size, list[str]()
        self._left, self._kept = ram_bytes, dict[tuple[int, str], Tensor]()
        self._rows: list[Row] = []
        for row in rows:
            try:
                self._check(row)
                self._rows.append(row)
                if on_bad_row == "skip":
                    for name in needs.images:
                        self._pixels(len(self._rows) - 1, name)
            except DataError as error:
                if on_bad_row != "skip":
                    raise
                self.skipped.append(str(error))
                if self._rows and self._rows[-1] is row:
                    self._forget_last()
        self.ids = [row.id for row in self._rows]
        self.groups = [row.group for row in self._rows]
        self.where = [row.where for row in self._rows]

    def __len__(self) -> int:
        return len(self._rows)

    def batch(self, indices: Sequence[int]) -> Batch:
        """The rows at `indices`: pixels (b 3 size size) float32 in [-1, 1] and texts."""
        pixels = {
            name: torch.stack([self._pixels(i, name) for i in indices]).float() / 127.5 - 1 for name in self.needs.images
        }  # 8-bit steps, as files hold them
        texts = {name: [self._rows[i].texts[name] for i in indices] for name in self.needs.texts}
        ids, groups, where = ([names[i] for i in indices] for names in (self.ids, self.groups, self.where))
        return Batch(ids, groups, where, pixels=pixels, texts=texts)

    def _check(self, row: Row) -> None:
        for kind, names, cells in (("image", self.needs.images, row.images), ("text", self.needs.texts, row.texts)):
            for name in names:
                if name not in cells:
                    found = ", ".join(sorted(cells)) or "none"
                    raise DataError(f"{row.where or row.id}: no {kind} {name!r}, which the task needs; found: {found}")

    def _pixels(self, i: int, name: str) -> Tensor:
        if (i, name) in self._kept:
            return self._kept[i, name]
        ref = self._rows[i].images[name]
        try:
            pixels = ref.pixels(self.size)
        except OSError as error:
            raise DataError(f"{ref.where or self._rows[i].where}: cannot be read ({error})") from error
        if not torch.isfinite(pixels).all():
            raise DataError(f"{ref.where or self._rows[i].where}: image {name!r} holds values that are not finite")
        eight = ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        if eight.numel() <= self._left:
            self._left -= eight.numel()
            self._kept[i, name] = eight
        return eight

    def _forget_last(self) -> None:
        last = len(self._rows) - 1
        self._rows.pop()
        for name in self.needs.images:
            dropped = self._kept.pop((last, name), None)
            self._left += 0 if dropped is None else dropped.numel()
