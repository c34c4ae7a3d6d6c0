"""The cache: rows encoded once, under the hash of their content, the preprocessing and the encoder's weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import torch

from ..core.errors import DataError
from ..data.rows import Row
from ..tasks.base import Needs
from .cells import Entry, ImageEncoder, Looker, Plan, WordEncoder
from .encoded import Column, EncodedRows, RawRows
from .shards import ShardStore

__all__ = ["EncodedRows", "RawRows", "encode_rows", "gc", "used_by", "verify"]

SHARD_BYTES, SHARD_SECONDS = 128 << 20, 30.0  # a shard is written when either is passed: an interruption loses no more


def encode_rows(
    rows: Sequence[Row],
    needs: Needs,
    size: int,
    codec: ImageEncoder | None,
    text: WordEncoder | None,
    folder: Path,
    *,
    batch_size: int = 32,
    dtype: Literal["float32", "float16"] = "float32",
    progress: Callable[[int, int], None] | None = None,
    on_bad_row: Literal["stop", "skip"] = "stop",
    ram_bytes: int = 512 << 20,
    tower: Looker | None = None,
) -> EncodedRows:
    """The rows as cached moments, text states, looks and masks; encodes only what `folder` does not hold yet, each content once.

    size: edge of the images in pixels. dtype: how entries are stored. progress(done, total) counts entries that had to be encoded.
    Interrupted, it goes on where it stopped, with the same batches. Raises DataError that names file and row for a cell that
    is missing, unreadable or not finite (or skips its row: `EncodedRows.skipped`), for a damaged shard and for a full disk.
    """
    plan = Plan(rows, needs, size, codec, text, dtype, tower)
    stores = {kind: ShardStore(folder / group) for kind, group in plan.groups.items()}
    kept, skipped, addresses = _address(rows, plan, on_bad_row)
    missing: dict[str, dict[str, tuple[Row, Column]]] = {kind: {} for kind in stores}
    for row, keys in zip(kept, addresses, strict=True):
        for column, key in zip(plan.columns, keys, strict=True):
            if key not in stores[column[0]]:
                missing[column[0]].setdefault(key, (row, column))
    bad = _fill(plan, stores, missing, batch_size, progress, on_bad_row)
    good = []
    for i, keys in enumerate(addresses):
        reasons = [bad[cell] for cell in zip((kind for kind, _ in plan.columns), keys, strict=True) if cell in bad]
        skipped += reasons[:1]
        if not reasons:
            good.append(i)
    columns = {column: [addresses[i][c] for i in good] for c, column in enumerate(plan.columns)}
    null = text.null.detach().cpu().float() if text is not None and needs.texts else None
    numbers = {name: torch.tensor([_number(kept[i], name) for i in good]) for name in needs.numbers}
    return EncodedRows([kept[i] for i in good], columns, stores, null, skipped, ram_bytes, numbers)


def _number(row: Row, name: str) -> float:
    value = row.facts.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise DataError(f"{row.where or row.id}: {name} is {value!r}, and the task needs a finite number")
    return float(value)


def _address(rows: Sequence[Row], plan: Plan, on_bad_row: str) -> tuple[list[Row], list[str], list[tuple[str, ...]]]:
    kept, skipped, addresses = [], [], []
    for row in rows:
        try:
            addresses.append(tuple(plan.key(row, column) for column in plan.columns))
            kept.append(row)
        except DataError as error:
            if on_bad_row == "stop":
                raise
            skipped.append(str(error))
    return kept, skipped, addresses


def _fill(
    plan: Plan,
    stores: Mapping[str, ShardStore],
    missing: Mapping[str, Mapping[str, tuple[Row, Column]]],
    batch_size: int,
    progress: Callable[[int, int], None] | None,
    on_bad_row: str,
) -> dict[tuple[str, str], str]:
    """Encodes what is missing; gives the reason of each entry that could not be, or raises it."""
    bad: dict[tuple[str, str], str] = {}
    done, total = 0, sum(len(cells) for cells in missing.values())
    for kind, cells in missing.items():
        pending: dict[str, Entry] = {}
        size, since, items = 0, time.monotonic(), list(cells.items())
        at_once = 1 if kind == "clip" else batch_size  # a clip is a batch of frames already
        for start in range(0, len(items), at_once):
            part = items[start : start + at_once]
            fresh, reasons = _encode_batch(plan, kind, part)
            pending |= fresh
            size += sum(t.numel() * t.element_size() for entry in fresh.values() for t in entry.values())
            stop = bool(reasons) and on_bad_row == "stop"
            if stop or size > SHARD_BYTES or time.monotonic() - since > SHARD_SECONDS:
                stores[kind].add(pending)
                pending, size, since = {}, 0, time.monotonic()
            if stop:
                raise DataError(next(iter(reasons.values())))
            bad |= {(kind, key): reason for key, reason in reasons.items()}
            done += len(part)
            if progress is not None:
                progress(done, total)
        stores[kind].add(pending)
    return bad


def _encode_batch(plan: Plan, kind: str, part: list[tuple[str, tuple[Row, Column]]]) -> tuple[dict[str, Entry], dict[str, str]]:
    cells, reasons = {}, {}
    for key, (row, column) in part:
        try:
            cells[key] = plan.read(row, column)
        except DataError as error:
            reasons[key] = str(error)
    encoded = plan.encode(kind, list(cells.values())) if cells else []
    entries = dict(zip(cells, encoded, strict=True))
    for key, (row, column) in part:
        if key in entries and not all(bool(torch.isfinite(t).all()) for t in entries[key].values()):
            reasons[key] = f"{row.where or row.id}: {kind} {column[1]!r} is not finite once encoded; check the file"
            del entries[key]
    return entries, reasons


def used_by(
    rows: Sequence[Row],
    needs: Needs,
    size: int,
    codec: ImageEncoder | None,
    text: WordEncoder | None,
    dtype: Literal["float32", "float16"] = "float32",
    tower: Looker | None = None,
) -> dict[str, set[str]]:
    """The cache entries that these rows read, by group: what `gc` is to keep. Unreadable rows use nothing."""
    plan = Plan(rows, needs, size, codec, text, dtype, tower)
    used: dict[str, set[str]] = {group: set() for group in plan.groups.values()}
    for keys in _address(rows, plan, "skip")[2]:
        for (kind, _), key in zip(plan.columns, keys, strict=True):
            used[plan.groups[kind]].add(key)
    return used


def verify(folder: Path) -> list[str]:
    """Reads every entry under `folder`; one line for each damaged shard, non-finite entry or odd shape."""
    found: list[str] = []
    for group in _group_folders(folder):
        shapes: dict[str, tuple[int, ...]] = {}
        for path in sorted(group.glob("shard-*.safetensors")):
            try:
                found += _verify_shard(path, shapes)
            except DataError as error:
                found.append(str(error))
    return found


def _verify_shard(path: Path, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    from safetensors import SafetensorError, safe_open

    found = []
    try:
        with safe_open(path, framework="pt") as shard:
            for name in shard.keys():  # noqa: SIM118  (a handle, not a dict)
                tensor, part = shard.get_tensor(name), name.rpartition("/")[2]
                if not torch.isfinite(tensor).all():
                    found.append(f"{path}: {name} is not finite; delete the shard, its entries are encoded again")
                if tuple(tensor.shape) != shapes.setdefault(part, tuple(tensor.shape)):
                    found.append(f"{path}: {name} has shape {tuple(tensor.shape)}, the others {shapes[part]}; delete the shard")
    except (SafetensorError, OSError) as error:
        found.append(f"{path}: the shard is truncated or damaged ({error}); delete it, its entries are encoded again")
    return found


def gc(folder: Path, used: Iterable[Mapping[str, set[str]]]) -> int:
    """Deletes every entry that none of `used` (see `used_by`, `EncodedRows.used`) names; gives the bytes freed."""
    keep: dict[str, set[str]] = {}
    for mapping in used:
        for group, keys in mapping.items():
            keep.setdefault(group, set()).update(keys)
    freed = 0
    for group in _group_folders(folder):
        freed += ShardStore(group).keep_only(keep.get(group.name, set()))
        if not any(group.iterdir()):
            group.rmdir()
    return freed


def _group_folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    kinds = ("image", "clip", "look", "mask", "text")
    return sorted(path for path in folder.iterdir() if path.is_dir() and path.name.split("-")[0] in kinds)
