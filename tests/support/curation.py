"""Stages that misbehave, and small curation recipes, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from relatum.curation.recipe import curation_of
from relatum.curation.settings import Curation

__all__ = ["MISCHIEF", "small_curation"]

# A measure of the mean luma that does something bad at one frame of videos whose frames are `width` wide.
MISCHIEF = """
import os
import time
from dataclasses import dataclass

import numpy as np

from relatum.core.registry import stage
from relatum.curation.base import inside


@stage("mischief")
@dataclass
class Mischief:
    at: int = -1
    does: str = "raise"
    width: int = 64
    rate: float = 0.0
    version = 1
    writes = ("luma",)
    cheap = ()

    def watch(self, video):
        return Watch(self)

    def facts(self, track, clip):
        found = track["luma"][inside(track, clip)]
        return {"luma": float(found.mean()) if len(found) else None}


class Watch:
    def __init__(self, settings):
        self.settings, self.times, self.values = settings, [], []

    def see(self, frame):
        if frame.index == self.settings.at and frame.width == self.settings.width:
            if self.settings.does == "raise":
                raise ArithmeticError("planted")
            if self.settings.does == "abort":
                os.abort()
            if self.settings.does == "hang":
                time.sleep(600)
            if self.settings.does == "eat":
                self.eaten = bytearray(2**40)
        self.times.append(frame.seconds)
        self.values.append(frame.luma(16).mean())

    def track(self):
        return {"time": np.array(self.times), "luma": np.array(self.values)}
"""

OFF = {name: {"kind": "off"} for name in ("cuts", "motion", "text", "picture", "frozen", "hash")}


def small_curation(folder: Path, plugin: str = MISCHIEF, edit: Callable[[dict[str, Any]], None] | None = None) -> Curation:
    """A recipe with one measure (mischief), clips of one second, no keeps; the run's folder is `folder`/run."""
    (folder / "stages.py").write_text(plugin)
    table: dict[str, Any] = {
        "name": "small",
        "plugins": ["stages.py"],
        "output_dir": str(folder / "run"),
        "input": {"path": str(folder / "videos")},
        "measure": {**OFF, "mischief": {}},
        "split": {"kind": "fixed", "seconds": 1.0},
        "limits": {"min_short_side": 16, "timeout": 60.0},
        "preset": "off",
        "engine": {"workers": 1},
    }
    if edit is not None:
        edit(table)
    return curation_of(table, folder)
