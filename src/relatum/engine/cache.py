"""The cache: rows encoded once, under the hash of their content, the preprocessing and the encoder's weights."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..core.errors import DataError
from ..core.shapes import NullTokens, Pixels, Tokens
from ..data.rows import Row, Shot
from ..models.codec import Moments
from ..tasks.base import Needs
from .encoded import Column, EncodedRows, RawRows
from .shards import ShardStore

__all__ = ["PREPROCESSING", "EncodedRows", "ImageEncoder", "RawRows", "WordEncoder", "encode_rows", "gc", "used_by", "verify"]

PREPROCESSING = 1  # raise it when decoding, cropping or resizing of images changes
SHARD_BYTES, SHARD_SECONDS = 128 << 20, 30.0  # a shard is written when either is passed: an interruption loses no more

READ = {"image": "pixels", "clip": "shot", "look": "shot", "mask": "mask"}  # the methods that read them

Entry = dict[str, Tensor]


@runtime_checkable
class ImageEncoder(Protocol):
    """What the cache needs of a codec. fingerprint: hash of its weights. factor: pixels along one edge of a latent cell."""

    factor: int

    @property
    def fingerprint(self) -> str: ...

    def encode(self, pixels: Pixels) -> Moments: ...


@runtime_checkable
class WordEncoder(Protocol):
    """What the cache needs of a text encoder. null: (1 n d), the states of the empty text."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def null(self) -> NullTokens: ...

    def encode(self, texts: Sequence[str]) -> Tokens: ...


@runtime_checkable
class Looker(Protocol):
    """What the cache needs of an image tower: (b 1 d) of images in [-1, 1]."""

    @property
    def fingerprint(self) -> str: ...

    def encode(self, pixels: Pixels) -> Tokens: ...


class _Plan:
    """The columns that rows are encoded to, their stores, and how an entry of each kind is made."""

    def __init__(
        self,
        rows: Sequence[Row],
        needs: Needs,
        size: int,
        codec: ImageEncoder | None,
        text: WordEncoder | None,
        dtype: str,
        tower: Looker | None = None,
    ) -> None:
        if dtype not in ("float32", "float16"):
            raise ValueError(f"the cache stores float32 or float16, not {dtype!r}")
        if ((needs.images or needs.clips) and codec is None) or (needs.texts and text is None):
            raise ValueError("images need a codec and texts a text encoder")
        if needs.looks and tower is None:
            raise ValueError("looks need an image tower")
        self.size, self.codec, self.text, self.tower = size, codec, text, tower
        self.dtype = torch.float16 if dtype == "float16" else torch.float32
        masks = [name for name in needs.optional_masks if codec is not None and rows and all(name in row.masks for row in rows)]
        kinds = (("image", needs.images), ("clip", needs.clips), ("look", needs.looks), ("mask", masks), ("text", needs.texts))
        self.columns: list[Column] = [(kind, name) for kind, names in kinds for name in names]
        self.frames: dict[str, tuple[int, str]] = {}  # of clips by name: how many frames the first one has, and where it is
        self.groups: dict[str, str] = {}
        if codec is not None:
            self.groups["image"] = f"image-{codec.fingerprint}-p{PREPROCESSING}-{size}-{dtype}"
            self.groups["clip"] = f"clip-{codec.fingerprint}-p{PREPROCESSING}-{size}-{dtype}"
            self.groups["mask"] = f"mask-p{PREPROCESSING}-{size}-{codec.factor}-{dtype}"
        if text is not None:
            self.groups["text"] = f"text-{text.fingerprint}-{dtype}"
        if tower is not None:
            self.groups["look"] = f"look-{tower.fingerprint}-p{PREPROCESSING}-{size}-{dtype}"
        self.groups = {kind: self.groups[kind] for kind in dict(self.columns)}

    def key(self, row: Row, column: Column) -> str:
        """The content hash of one cell. DataError if the row lacks it or the file cannot be read."""
        kind, name = column
        cells: Mapping[str, Any] = {**_pictured(row), "text": row.texts}[kind]
        if name not in cells:
            found = ", ".join(sorted(cells)) or "none"
            what = "clip" if kind == "look" else kind
            hint = "; readers of videos give clips where they are told frames and stride" if what == "clip" else ""
            raise DataError(f"{row.where or row.id}: no {what} {name!r}, which the task needs; found: {found}{hint}")
        if kind == "clip":
            self._check_frames(row, name)
        if kind == "text":
            return hashlib.sha256(cells[name].encode()).hexdigest()[:32]
        try:
            return cells[name].digest()
        except OSError as error:
            raise DataError(f"{cells[name].where or row.where}: cannot be read ({error})") from error

    def _check_frames(self, row: Row, name: str) -> None:
        """DataError unless the clip is as long as the first one was: batches hold clips of one length."""
        count, where = row.clips[name].frames, row.where or row.id
        most, first = self.frames.setdefault(name, (count, where))
        if count != most:
            words = f"{where}: the clip {name!r} has {count} frames, that of {first} {most}"
            raise DataError(f"{words}; all clips of a data set have the same number, so cut them to it or leave this one out")

    def read(self, row: Row, column: Column) -> Any:
        """The cell's content: pixels, mask or text."""
        kind, name = column
        if kind == "text":
            return row.texts[name]
        ref: Any = _pictured(row)[kind][name]
        try:
            return getattr(ref, READ[kind])(self.size)
        except OSError as error:
            raise DataError(f"{ref.where or row.where}: cannot be read ({error})") from error

    def encode(self, kind: str, cells: list[Any]) -> list[Entry]:
        """Entries of cells of one kind, on the CPU in the stored type."""
        if kind == "clip":
            return [self._clip(cell) for cell in cells]
        if kind == "look":
            return self._looks([cell.frames[0] for cell in cells])
        if kind == "image":
            assert self.codec is not None
            stacked: Entry = self.codec.encode(torch.stack(cells))._asdict()
        elif kind == "mask":
            assert self.codec is not None
            stacked = {"mask": avg_pool2d(torch.stack(cells).float(), self.codec.factor)}  # the share of marked pixels
        else:
            assert self.text is not None
            stacked = {"tokens": self.text.encode(cells)}
        stored = {part: tensor.detach().cpu().to(self.dtype) for part, tensor in stacked.items()}
        return [{part: tensor[i].clone() for part, tensor in stored.items()} for i in range(len(cells))]

    def _clip(self, shot: Shot) -> Entry:
        """Moments (c t h w), and which neighboring frames belong together."""
        assert self.codec is not None
        moments = {part: tensor.transpose(0, 1).contiguous() for part, tensor in self.codec.encode(shot.frames)._asdict().items()}
        return {**{part: tensor.detach().cpu().to(self.dtype) for part, tensor in moments.items()}, "joined": shot.joined.clone()}

    def _looks(self, frames: list[Tensor]) -> list[Entry]:
        """What the tower sees in first frames, (1 d), and the frames themselves in 8 bits."""
        assert self.tower is not None
        pixels = torch.stack(frames)
        looks, eight = self.tower.encode(pixels).cpu().to(self.dtype), ((pixels + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
        return [{"look": look.clone(), "frame": frame.clone()} for look, frame in zip(looks, eight, strict=True)]


def _pictured(row: Row) -> dict[str, Mapping[str, Any]]:
    """The cells that are read from files, by kind."""
    return {"image": row.images, "clip": row.clips, "look": row.clips, "mask": row.masks}


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
    plan = _Plan(rows, needs, size, codec, text, dtype, tower)
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


def _address(rows: Sequence[Row], plan: _Plan, on_bad_row: str) -> tuple[list[Row], list[str], list[tuple[str, ...]]]:
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
    plan: _Plan,
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
        for start in range(0, len(items), batch_size):
            part = items[start : start + batch_size]
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


def _encode_batch(plan: _Plan, kind: str, part: list[tuple[str, tuple[Row, Column]]]) -> tuple[dict[str, Entry], dict[str, str]]:
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
    plan = _Plan(rows, needs, size, codec, text, dtype, tower)
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
