"""Checkpoints: written beside, renamed, pointed to by text files, then pruned. A folder without its list of files is not one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..atomic import make_folder, needs_disk, remove_stale, sync_folder, temporary, write_text
from ..core.errors import DataError
from ..core.load import load

__all__ = [
    "TrainerState",
    "latest",
    "pointed",
    "problem_of",
    "read_state",
    "replace_folder",
    "write_checkpoint",
    "write_state",
]

MARKER = "complete.json"
NAME = re.compile(r"checkpoint-[0-9]{1,18}")
Pointer = Literal["latest", "last-good", "best"]


@dataclass(frozen=True)
class TrainerState:
    """Where a run stands. recipe_hash: of the settings that decide the weights. extra: anything JSON holds."""

    step: int
    samples_seen: int
    seed: int
    recipe_hash: str
    versions: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


def write_state(folder: Path, state: TrainerState) -> None:
    """`trainer_state.json` in a checkpoint's folder."""
    write_text(folder / "trainer_state.json", json.dumps(dataclasses.asdict(state), indent=2) + "\n")


def read_state(folder: Path) -> TrainerState:
    """The state of a checkpoint; DataError if it is missing, not one, or of another step than the folder's name."""
    path = folder / "trainer_state.json"
    try:
        state = load(TrainerState, json.loads(path.read_text(encoding="utf-8")), str(path))
        if NAME.fullmatch(folder.name) and folder.name != f"checkpoint-{state.step}":
            raise ValueError(f"it says step {state.step}")
        return state
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not a trainer state ({error}); delete the folder, the run goes on from the checkpoint before"
        ) from error


def write_checkpoint(
    root: Path,
    step: int,
    write: Callable[[Path], None],
    limit: int | None,
    good: int | None = None,
    best: bool = False,
    keep: int | None = None,
) -> Path:
    """Lets `write` fill a folder and makes it `root/checkpoints/checkpoint-<step>`; gives its path.

    A reader sees the whole checkpoint or none. good: the step that last-good names from now on, None for this one. best: that
    pointer names this one too. Then the oldest beyond `limit` are deleted, never one that a pointer names, nor that of step
    `keep`. DataError if the disk is full; what stood before is untouched whatever `write` raises.
    """
    folder = root / "checkpoints"
    make_folder(folder)
    remove_stale(folder)
    final = folder / f"checkpoint-{step}"
    beside = temporary(final)
    try:
        with needs_disk(folder):
            beside.mkdir()
            write(beside)
            _mark(beside, step)
        replace_folder(beside, final)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    write_text(folder / "last-good", f"checkpoint-{step if good is None else good}\n")
    for pointer in ("best", "latest") if best else ("latest",):
        write_text(folder / pointer, final.name + "\n")
    _prune(folder, limit, keep)
    return final


def latest(root: Path) -> Path | None:
    """The checkpoint to go on from; None where there is none. Half-written ones do not count.

    Warns and falls back to the newest whole one if the pointer names a broken one; DataError if none is whole.
    """
    return pointed(root, "latest")


def pointed(root: Path, pointer: Pointer) -> Path | None:
    """The checkpoint that a pointer names, as `latest`. Only "latest" and "last-good" fall back to others."""
    folder = root / "checkpoints"
    named = _read_pointer(folder, pointer)
    if named is None and pointer == "best":
        return None
    problem = None if named is None else problem_of(named)
    if named is not None and problem is None:
        return named
    whole = next((path for path in reversed(_checkpoints(folder)) if path != named and problem_of(path) is None), None)
    if named is None:
        return whole
    if whole is None or pointer == "best":
        raise DataError(f"{folder / pointer} names {named.name}, which is not whole: {problem}; delete {folder} to start again")
    warnings.warn(f"{named} is not whole ({problem}); {whole.name} is used instead", stacklevel=2)
    return whole


def problem_of(checkpoint: Path) -> str | None:
    """Why a checkpoint is not whole: a file that is missing or holds other bytes than when it was written. None if it is."""
    try:
        marker = load(_Marker, json.loads((checkpoint / MARKER).read_text(encoding="utf-8")), MARKER)
        if checkpoint.name != f"checkpoint-{marker.step}":
            return f"{MARKER} is of step {marker.step}"
        for name, size in marker.files.items():
            path = checkpoint / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has {path.stat().st_size} bytes, {size} were written"
        for name, written in marker.sha256.items():
            if _sha256(checkpoint / name) != written:
                return f"{name} holds other bytes than were written"
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        return f"{missing} is missing" if checkpoint.is_dir() else "the folder is missing"
    except (OSError, ValueError, RecursionError) as error:
        return f"it cannot be read ({error})"
    return None


@dataclass(frozen=True)
class _Marker:
    """What complete.json holds: sizes in bytes and hashes by file name. Those of earlier versions have no hashes."""

    step: int
    files: dict[str, int]
    sha256: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in (*self.files, *self.sha256):
            if Path(name).is_absolute() or ".." in Path(name).parts or "\0" in name:
                raise ValueError(f"{name!r} lies outside the checkpoint")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(folder: Path, step: int) -> None:
    """Syncs every file to the disk, then lists them with their sizes and hashes."""
    sizes, hashes = {}, {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            name = path.relative_to(folder).as_posix()
            sizes[name], hashes[name] = path.stat().st_size, _sha256(path)
        else:
            sync_folder(path)
    write_text(folder / MARKER, json.dumps({"step": step, "files": sizes, "sha256": hashes}, indent=2) + "\n")


def replace_folder(beside: Path, final: Path) -> None:
    """Renames, moving a folder of that name (a checkpoint of a run that went on from an earlier one) out of the way first."""
    old = final.with_name(f".{final.name}.old-{os.getpid()}")
    if final.exists():
        os.replace(final, old)
    os.replace(beside, final)
    sync_folder(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _prune(folder: Path, limit: int | None, keep: int | None) -> None:
    if limit is None:
        return
    named = {_read_pointer(folder, pointer) for pointer in ("latest", "last-good", "best")} | {folder / f"checkpoint-{keep}"}
    checkpoints = _checkpoints(folder)
    for path in checkpoints[: max(0, len(checkpoints) - limit)]:
        if path not in named:
            gone = path.with_name(f".{path.name}.old-{os.getpid()}")  # renamed first: a half-deleted one is never found
            os.replace(path, gone)
            shutil.rmtree(gone)


def _read_pointer(folder: Path, pointer: str) -> Path | None:
    path = folder / pointer
    if not path.is_file():
        return None
    name = path.read_bytes().decode("utf-8", errors="replace").strip()
    if not NAME.fullmatch(name):
        found = name if len(name) <= 60 else name[:60] + "..."
        raise DataError(f"{path}: expected the name of a checkpoint beside it, found {found!r}; delete {path}")
    return folder / name


def _checkpoints(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("checkpoint-*") if NAME.fullmatch(path.name)]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))
