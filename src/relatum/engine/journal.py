"""The run's diary: metrics.jsonl, one line a record, and env.json. A run that was killed and went on has no line twice."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..atomic import make_folder, needs_disk, write_text
from ..core.errors import DataError

__all__ = ["Journal", "environment", "read_journal", "write_environment"]

PACKAGES = ("relatum", "torch", "diffusers", "transformers", "accelerate", "peft", "safetensors", "numpy", "datasets")


class Journal:
    """Appends to `folder/metrics.jsonl`; `with Journal(...) as journal` closes it. Only the first process keeps one.

    resume_step: the checkpoint's step; records after it, and a last line that was cut off, are dropped first. None starts anew.
    track(values, step): a tracker (accelerate's `log`); gets the finite numbers of every record.
    """

    def __init__(self, folder: Path, resume_step: int | None = None, track: Callable[..., Any] | None = None) -> None:
        make_folder(folder)
        self.path, self._track = folder / "metrics.jsonl", track
        kept = [] if resume_step is None else [record for record in read_journal(folder) if record["step"] <= resume_step]
        write_text(self.path, "".join(json.dumps(record) + "\n" for record in kept))
        self._file = self.path.open("a", encoding="utf-8")

    def record(self, step: int, values: Mapping[str, Any]) -> None:
        """One line, flushed: {"step": step, **values}. Numbers that are not finite become null and are listed under "nonfinite"."""
        nonfinite: list[str] = []
        plain = {name: _plain(value, name, nonfinite) for name, value in values.items()}
        line: dict[str, Any] = {"step": step, **plain}
        if nonfinite:
            line["nonfinite"] = nonfinite
        with needs_disk(self.path.parent):
            self._file.write(json.dumps(line, allow_nan=False) + "\n")
            self._file.flush()
        if self._track is not None:
            numbers = {k: v for k, v in _flat(plain).items() if isinstance(v, int | float) and not isinstance(v, bool)}
            if numbers:
                self._track(numbers, step=step)

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested numbers under joined names ("held_out/denoise/mean"), as trackers take them."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}/") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return out


def read_journal(folder: Path) -> list[dict[str, Any]]:
    """The records of a run; a last line that was cut off is left out. DataError names any other line that is not one."""
    path = folder / "metrics.jsonl"
    return _records(path) if path.is_file() else []


def _records(path: Path) -> list[dict[str, Any]]:
    lines = path.read_bytes().split(b"\n")
    cut = lines.pop()  # what follows the last line break: nothing, or a line that a kill cut off
    records = []
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line.decode("utf-8"))
            if not isinstance(record, dict) or type(record.get("step")) is not int:
                raise ValueError("it needs a whole number under step")
        except (ValueError, RecursionError) as error:
            if number == len(lines) and not cut:
                break
            raise DataError(f"{path}:{number}: not a record with a step ({error}); delete the line") from error
        records.append(record)
    return records


def _plain(value: Any, name: str, nonfinite: list[str]) -> Any:
    """A value as JSON holds it; 0-dimensional tensors and numpy numbers become numbers."""
    if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        nonfinite.append(name)
        return None
    if isinstance(value, Mapping):
        return {str(key): _plain(item, f"{name}/{key}", nonfinite) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item, f"{name}[{i}]", nonfinite) for i, item in enumerate(value)]
    return value


def environment() -> dict[str, Any]:
    """Versions, hardware and the command, for env.json. Says nothing about the user, the host or the version control."""
    import torch

    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpus": gpus,
        "cuda": torch.version.cuda,
        "versions": versions,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
    }


def write_environment(folder: Path) -> None:
    """`env.json` of a run folder."""
    write_text(folder / "env.json", json.dumps(environment(), indent=2) + "\n")
