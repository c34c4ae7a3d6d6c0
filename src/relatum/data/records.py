"""Raw records of any layout made into rows: roles, ids, groups, and what happens to a bad one. The three readers share it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .columns import IMAGES, TEXTS
from .negatives.sentence import normal
from .refs import Content, StoredImage, StoredMask, shown
from .rows import Row
from .tables import utf8

__all__ = ["Policy", "Record", "files_of", "list_rows"]


@dataclass(frozen=True)
class Record:
    """One entry as stored. content(column) gives the bytes of an image column and how to name it; fault: why it cannot be used."""

    id: str
    where: str
    values: Mapping[str, Any]
    content: Callable[[str], tuple[Content, str]]
    fault: str = ""


@dataclass(frozen=True)
class Policy:
    """What a reader was told: roles by column, what to do with bad rows, how to decode."""

    roles: Mapping[str, str]
    skip: bool
    ground: str
    max_megapixels: float


def list_rows(records: Iterable[Record], policy: Policy, skipped: list[str]) -> list[Row]:
    """The rows in their order. A bad record is an error, or where the policy says so a line in `skipped`.

    Nothing is decoded, unless bad rows are to be skipped: then every image is decoded once, because only that tells.
    """
    rows: list[Row] = []
    seen: dict[str, str] = {}
    digests: dict[Any, str] = {}
    for record in records:
        try:
            row = _row(record, policy, digests)
            if row.id in seen:
                raise DataError(f"{record.where}: the id {shown(row.id)!r} is taken by {seen[row.id]}; ids must be unique")
            if policy.skip:
                _decode(row)
        except DataError as error:
            if not policy.skip:
                raise
            skipped.append(str(error))
        else:
            seen[row.id] = record.where
            rows.append(row)
    return rows


def files_of(path: str | Path | list[str], suffixes: tuple[str, ...], noun: str) -> list[Path]:
    """The files that a setting means, sorted: a file, a folder (its files with one of `suffixes`), a glob pattern, or a list."""
    if isinstance(path, list):
        if not path:
            raise DataError(f"path: the list is empty; name at least one {noun}, folder or pattern")
        files = [file for item in path for file in files_of(item, suffixes, noun)]
        if twice := sorted({shown(str(file)) for file in files if files.count(file) > 1}):
            raise DataError(f"path: {twice[0]} is named twice")
        return files
    here = Path(path)
    if here.is_file():
        return [here]
    if here.is_dir():
        files = sorted(file for file in here.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
    elif any(sign in here.name for sign in "*?[") and here.parent.is_dir():
        files = sorted(file for file in here.parent.glob(here.name) if file.is_file())
    else:
        raise DataError(f"{shown(str(here))}: no such file or folder")
    if not files:
        raise DataError(f"{shown(str(here))}: no {noun} here (looked for {', '.join(suffixes)})")
    return files


def _row(record: Record, policy: Policy, digests: dict[Any, str]) -> Row:
    if record.fault:
        raise DataError(f"{record.where}: {record.fault}")
    roles, values = policy.roles, record.values
    images = {role: _image(record, roles[role], role, policy) for role in IMAGES if role in roles}
    if not images:
        raise DataError(f"{record.where}: no image column among {', '.join(values) or 'none'}; say it: columns = {{target = ...}}")
    masks = {}
    if _present(values, roles.get("mask")):
        content, name = record.content(roles["mask"])
        masks["changed"] = StoredMask(content, f"{record.where} (mask: {shown(name)})", images.get("source") or images["target"])
    if _present(values, roles.get("negative")):
        images["negative"] = _image(record, roles["negative"], "negative", policy)
    texts = {name: text for role, name in TEXTS.items() if role in roles and (text := _text(record, roles[role], role))}
    texts |= _negatives(record, roles.get("negative_caption"), texts.get("target"))
    needed = "instruction" if "instruction" in roles else "target_caption" if "source" not in roles else ""
    if needed in roles and TEXTS[needed] not in texts:
        raise DataError(f"{record.where}: no {needed.replace('_', ' ')} ({roles[needed]} is missing or empty)")
    id = _word(record, roles["id"]) if "id" in roles else record.id
    group = _word(record, roles["group"]) if "group" in roles else _digest(images.get("source") or images["target"], digests)
    rest = {name: value for name, value in values.items() if name not in roles.values() and isinstance(value, str | int | float)}
    return Row(id, group, images, texts, masks, {**rest, "columns": tuple(values)}, record.where)


def _image(record: Record, column: str, role: str, policy: Policy) -> StoredImage:
    if not _present(record.values, column):
        raise DataError(f"{record.where}: no {role} image ({column} is missing or empty)")
    content, name = record.content(column)
    return StoredImage(content, f"{record.where} ({role}: {shown(name)})", policy.ground, policy.max_megapixels)


def _present(values: Mapping[str, Any], column: str | None) -> bool:
    return column is not None and values.get(column) not in (None, "")


def _text(record: Record, column: str, role: str) -> str:
    value = record.values.get(column)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{record.where}: {role} ({column}) is {type(value).__name__} {value!r}, expected text")
    return utf8(value, f"{record.where}: {role} ({column})").strip()


def _negatives(record: Record, column: str | None, caption: str | None) -> dict[str, str]:
    """Wrong captions as "negative.1" and so on, from one text or a list of them. DataError for one that equals the caption but for
    case, spaces and punctuation."""
    found = record.values.get(column) if column else None
    what = f"{record.where}: negative caption ({column})"
    if isinstance(found, list | tuple):
        for number, text in enumerate(found, 1):
            if not isinstance(text, str) or not text.strip():
                raise DataError(f"{what}: number {number} is {text!r}, expected text")
        texts = [utf8(text, what).strip() for text in found]
    else:
        text = _text(record, column, "negative caption") if column else ""
        texts = [text] if text else []
    for text in texts if caption is not None else []:
        if normal(text) == normal(caption or "") and (normal(text) or text == caption):
            raise DataError(f"{what}: {text!r:.80} says the same as the caption {caption!r:.80}; correct it or leave it out")
    return {f"negative.{number}": text for number, text in enumerate(texts, 1)}


def _word(record: Record, column: str) -> str:
    value = record.values.get(column)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{record.where}: {column} is {value!r}, expected a word or a whole number")
    return utf8(str(value), f"{record.where}: {column}")


def _digest(image: StoredImage, digests: dict[Any, str]) -> str:
    """The digest of the image as stored, read once for rows that share a file."""
    if image.content not in digests:
        digests[image.content] = image.stored_digest()
    return digests[image.content]


def _decode(row: Row) -> None:
    for image in row.images.values():
        image.pixels(8)
    for mask in row.masks.values():
        mask.mask(8)
