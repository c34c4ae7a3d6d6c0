"""A curation recipe's settings, but for those of its stages, which belong to the registered classes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ..core.errors import RecipeError

__all__ = ["MEASURES", "Curation", "Engine", "Limits", "Stills"]

MEASURES = ("cuts", "motion", "text", "picture", "frozen", "hash")  # what a recipe has that names no others


@dataclass(frozen=True)
class Limits:
    """[limits]: what is refused, before or after it is decoded. 0 is no limit.

    min_short_side: pixels. max_lost: share of the frames that may fail to decode; above it a video is rejected as corrupt, below
    it is partial. timeout: seconds without a further frame after which a video counts as hung. attempts: at a video that hung or
    ended its process. max_memory_gib: address space of the process that decodes.
    max_bad: share of the inputs that may end in error, crash or timeout before the command fails, with everything else written.
    """

    max_bytes: int = 8 * 2**30
    max_megapixels: float = 50.0
    max_seconds: float = 0.0
    min_seconds: float = 1.0
    min_short_side: int = 64
    max_lost: float = 0.02
    timeout: float = 120.0
    attempts: int = 2
    max_memory_gib: float = 0.0
    max_bad: float = 0.01

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 <= value < math.inf:
                raise RecipeError(f"limits.{name} is {value}, expected a finite number, 0 or more")
        if self.max_lost > 1 or self.max_bad > 1 or self.attempts < 1 or self.timeout <= 0:
            raise RecipeError(
                "limits: expected max_lost and max_bad of at most 1, attempts of at least 1, and a timeout above 0 seconds"
            )


@dataclass(frozen=True)
class Stills:
    """[stills]: pictures that are kept of each clip, for models and for the report. short: their shorter edge in pixels.

    every: seconds between those taken while the video is decoded; a clip's are the nearest to where they belong. quality: of JPEG.
    """

    short: int = 256
    every: float = 0.5
    quality: int = 90

    def __post_init__(self) -> None:
        if self.short < 8 or not 0 < self.every < math.inf or not 1 <= self.quality <= 100:
            raise RecipeError(f"stills: {self}: expected short of 8 pixels or more, every above 0 seconds, quality 1 to 100")


@dataclass(frozen=True)
class Engine:
    """[engine]. kind: "local" processes of this machine, or "ray", a cluster (or this machine) through Ray Data.

    workers: processes that decode (0: one a core). gpus: of each actor that runs models, under Ray. address: of the Ray cluster; ""
    starts one here. device: where models run.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int = 0
    gpus: float = 0.0
    actors: int = 1
    address: str = ""
    device: str = ""

    def __post_init__(self) -> None:
        if self.workers < 0 or not 0 <= self.gpus < math.inf or self.actors < 1:
            raise RecipeError(f"engine: {self}: expected workers and gpus of 0 or more, actors of 1 or more")


@dataclass(frozen=True)
class Curation:
    """Everything that a curation needs, in one TOML file. Tables under measure, look, keep and output go by a name of the recipe's
    choice and a `kind`, which is the name where it is left out; kind = "off" takes out what would be there by default.

    preset: keeps that are there without being named. output_dir: the run's folder (runs/NAME if empty). folder, source, origin:
    where relative paths begin, the file's text, and the word by which it was asked for.
    """

    name: str
    input: dict[str, Any]
    limits: Limits = field(default_factory=Limits)
    measure: dict[str, dict[str, Any]] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=lambda: {"kind": "shots"})
    stills: Stills = field(default_factory=Stills)
    look: dict[str, dict[str, Any]] = field(default_factory=dict)
    preset: str = "svd"
    keep: dict[str, dict[str, Any]] = field(default_factory=dict)
    output: dict[str, dict[str, Any]] = field(default_factory=dict)
    engine: Engine = field(default_factory=Engine)
    plugins: tuple[str, ...] = ()
    output_dir: str = ""
    folder: Path = field(default=Path("."))
    source: str = ""
    origin: str = ""

    @property
    def run(self) -> Path:
        """The folder that everything is written to."""
        return Path(self.output_dir) if self.output_dir else Path("runs") / self.name
