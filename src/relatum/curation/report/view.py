"""What the page shows of one curation run: plain numbers, arrays with one entry a clip, and a way to ask for a clip's stills."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from ...core.errors import DataError

__all__ = ["Clips", "Cost", "Curated", "Filter", "Rung", "Step", "Threshold", "Trouble"]


@dataclass(frozen=True)
class Step:
    """A step of the funnel before there are clips ("sources", "distinct videos", "videos read").

    lost: what fell since the step before, by reason. seconds: of footage, None where unknown.
    """

    name: str
    count: int
    lost: Mapping[str, int] = field(default_factory=dict)
    seconds: float | None = None


@dataclass(frozen=True)
class Rung:
    """If the threshold stood at `value`: clips kept were it the only one, and with all others as they are. share: of the clips
    that it alone would drop, 0 to 1. sign: "≥" or "≤", where a threshold has both."""

    value: float
    alone: int
    together: int
    share: float | None = None
    current: bool = False
    sign: str = ""


@dataclass(frozen=True)
class Threshold:
    """What a filter asks of a fact: low <= fact <= high; None is no limit. words: where the value is from ("lowest 25 %")."""

    filter: str
    fact: str
    low: float | None = None
    high: float | None = None
    words: str = ""
    ladder: Sequence[Rung] = ()


@dataclass(frozen=True)
class Filter:
    """A keep of the recipe. line: its verdict in words. why: a clip, why it is dropped, or None. missing: clips without a fact that
    it needs; note: what the recipe says happens to them. seen: how many clips it judged, if not all."""

    name: str
    line: str
    why: Sequence[str | None]
    missing: int = 0
    note: str = ""
    seen: int | None = None

    @cached_property
    def drops(self) -> np.ndarray:
        """(n,) bool"""
        return np.array([words is not None for words in self.why], bool)


@dataclass(frozen=True)
class Clips:
    """All clips, in the order of their ids. video: each clip's video, as people call it. start, end: seconds. keep: bool.

    twin: for a near-duplicate the id of the clip that stands for it, "" for all others; may be empty. errors: why facts of a clip
    are missing, by id. captions: of a clip, as (kind, text); asked of few.
    """

    id: Sequence[str]
    video: Sequence[str]
    start: np.ndarray
    end: np.ndarray
    keep: np.ndarray
    twin: Sequence[str] = ()
    errors: Mapping[str, str] = field(default_factory=dict)
    captions: Callable[[str], Sequence[tuple[str, str]]] = lambda clip: ()

    def __len__(self) -> int:
        return len(self.id)

    @property
    def seconds(self) -> float:
        return float((self.end - self.start).sum())

    @property
    def kept(self) -> int:
        return int(self.keep.sum())

    @property
    def kept_seconds(self) -> float:
        return float((self.end - self.start)[self.keep].sum())


@dataclass(frozen=True)
class Trouble:
    """A source or video that was not used, or only in part."""

    name: str
    status: str
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Cost:
    """Seconds that one stage took, over all workers. items: what went through it, in words of `unit`."""

    stage: str
    seconds: float
    items: int = 0
    unit: str = "videos"


@dataclass(frozen=True)
class Curated:
    """One run. commands: by what they do ("Run again"). wall: seconds that the run took; None after a retune alone.

    facts: (n,) float arrays by full name, NaN where missing. units: by fact. labels: facts that are words, and other kinds, as
    (clips, kept) by word. unused: seconds of footage in no clip, by reason. stills: JPEG files of a clip in order of time.
    """

    name: str
    created: str
    clips: Clips
    steps: Sequence[Step] = ()
    filters: Sequence[Filter] = ()
    thresholds: Sequence[Threshold] = ()
    facts: Mapping[str, np.ndarray] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    unused: Mapping[str, float] = field(default_factory=dict)
    troubles: Sequence[Trouble] = ()
    warnings: Sequence[str] = ()
    costs: Sequence[Cost] = ()
    wall: float | None = None
    workers: int = 0
    commands: Mapping[str, str] = field(default_factory=dict)
    identities: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    recipe: str = ""
    stills: Callable[[str], Sequence[bytes]] = lambda clip: ()

    def __post_init__(self) -> None:
        n = len(self.clips)
        arrays = {name: getattr(self.clips, name) for name in ("video", "start", "end", "keep")}
        arrays |= {"twin": self.clips.twin} if len(self.clips.twin) else {}
        arrays |= {f"why of {found.name}": found.why for found in self.filters} | dict(self.facts)
        for name, values in arrays.items():
            if len(values) != n:
                raise DataError(f"report of {self.name!r}: {name} has {len(values)} entries, expected one for each of {n} clips")
        names = {found.name for found in self.filters}
        for line in self.thresholds:
            if line.filter not in names or line.fact not in self.facts:
                raise DataError(f"report of {self.name!r}: threshold of {line.filter!r} on {line.fact!r}: no such filter or fact")
