"""The law by which pairs of frames are drawn from a video: which frames may be drawn, and how far a target lies after its source.

Nothing here opens a file: a video is its time stamps and its shots. All draws are addressed by (seed, video, number of the pair).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import Literal, NamedTuple

import numpy as np

from ..core.draws import key_of
from ..core.errors import RecipeError

__all__ = ["Pair", "PairLaw", "Slots", "draw_pairs", "nearest_frames", "pair_of", "valid_frames"]

TAIL = 8.0  # standard deviations: a normal draw lies beyond once in 10^15
TRIES = 1000  # sources drawn for one pair before the video counts as exhausted


class Pair(NamedTuple):
    """Frames of one row, as indices into the video's time stamps. past: the source, then older ones; future: the target first.

    slot: place of the source on the grid; steps: grid steps from source to target, and from each future frame to the next.
    """

    slot: int
    steps: int
    past: tuple[int, ...]
    future: tuple[int, ...]


@dataclass(frozen=True)
class PairLaw:
    """How pairs are drawn, in seconds; all frames of a pair are valid frames (one each `grid` seconds) of one shot.

    kind: how far the target lies after its source. "half_normal": |N(0, sd)| rounded to whole grid steps, a half upwards; what
    rounds to 0 counts as 1, so one step has the probability of |N(0, sd)| < 1.5 grid. "next": `offset`. "uniform": each whole
    number of grid steps from `grid` to `horizon` alike. A source is a uniformly drawn valid frame; an offset that leaves the shot
    is redrawn, never clamped, at most `redraws` times, then the source is drawn again.
    past: frames that are known, the source among them, `spacing` seconds apart (0: as far as the pair's own offset).
    future: true frames after the source, at multiples of the offset. per_video: pairs of each video, all different.
    max_seconds: longer videos are left out (0: none is). With sd = 2 and grid = .2 this is, at 25 frames/s, the source's
    "one frame in five, |N(0, 10)| frames later, videos up to 30 s".
    """

    kind: Literal["half_normal", "next", "uniform"] = "half_normal"
    per_video: int = 8
    grid: float = 0.2
    sd: float = 2.0
    offset: float = 0.2
    horizon: float = 6.0
    past: int = 1
    spacing: float = 0.0
    future: int = 1
    max_seconds: float = 30.0
    redraws: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("per_video", 1), ("past", 1), ("future", 1), ("redraws", 0)):
            if getattr(self, name) < least:
                raise RecipeError(f"pairs: {name} is {getattr(self, name)}, expected {least} or more")
        for name in ("grid", "sd", "offset", "horizon"):
            if not 0 < getattr(self, name) < math.inf:
                raise RecipeError(f"pairs: {name} is {getattr(self, name)}, expected seconds above 0")
        for name in ("spacing", "max_seconds"):
            if not 0 <= getattr(self, name) < math.inf:
                raise RecipeError(f"pairs: {name} is {getattr(self, name)}, expected seconds, 0 or more")
        used = {"next": ("offset",), "uniform": ("horizon",)}.get(self.kind, ())
        for name in (*used, *(("spacing",) if self.past > 1 else ())):
            self.steps_of(name)

    def steps_of(self, name: str) -> int:
        """A setting in seconds as grid steps. RecipeError unless it is a whole number of them."""
        seconds = getattr(self, name)
        steps = round(seconds / self.grid)
        if abs(seconds - steps * self.grid) > 1e-6 * max(1.0, seconds) or (steps == 0 and seconds > 0):
            raise RecipeError(
                f"pairs: {name} is {seconds:g} s, no whole multiple of grid = {self.grid:g} s; frames are drawn from that grid, "
                "so change one of them"
            )
        return steps

    def draw_steps(self, random: Random) -> int:
        """One offset in grid steps, 1 or more; it may lead out of the shot."""
        if self.kind == "next":
            return self.steps_of("offset")
        if self.kind == "uniform":
            return 1 + random.randrange(self.steps_of("horizon"))
        return max(1, math.floor(abs(random.gauss(0.0, self.sd / self.grid)) + 0.5))

    def support(self) -> range:
        """The offsets in grid steps that can be drawn at all."""
        if self.kind == "next":
            return range(self.steps_of("offset"), self.steps_of("offset") + 1)
        last = self.steps_of("horizon") if self.kind == "uniform" else math.ceil(TAIL * self.sd / self.grid)
        return range(1, last + 1)

    def reach(self, steps: int) -> list[int]:
        """Where the frames of a pair lie on the grid, from the source: known ones (0 first), then future ones."""
        apart = self.steps_of("spacing") if self.past > 1 and self.spacing else steps
        return [-j * apart for j in range(self.past)] + [j * steps for j in range(1, self.future + 1)]


@dataclass(frozen=True)
class Slots:
    """The valid frames of a video. frames[j]: the frame at grid time j, -1 where there is none; shots[j]: its shot's number."""

    frames: np.ndarray
    shots: np.ndarray

    @cached_property
    def valid(self) -> np.ndarray:
        """Places on the grid that have a frame."""
        return np.flatnonzero(self.frames >= 0)

    def fits(self, reach: Sequence[int]) -> np.ndarray:
        """Sources whose frames at these distances all exist and lie in the source's shot."""
        low, high = -min(reach), len(self.frames) - max(reach)
        if low >= high:
            return np.zeros(0, np.int64)
        shot = self.shots[low:high]
        good = shot >= 0
        for distance in reach:
            good = good & (self.shots[low + distance : high + distance] == shot)
        return np.flatnonzero(good) + low

    def sources(self, law: PairLaw) -> tuple[np.ndarray, int]:
        """(sources that have at least one pair, number of different pairs)."""
        able, count = np.zeros(len(self.frames), bool), 0
        for steps in law.support():
            if max(law.reach(steps)) >= len(self.frames):
                break
            found = self.fits(law.reach(steps))
            able[found] = True
            count += len(found)
        return np.flatnonzero(able), count


def valid_frames(times: Sequence[float], grid: float, shots: Sequence[tuple[int, int]]) -> Slots:
    """The frame nearest to each multiple of `grid` seconds, the earlier of two that are equally near.

    times: ascending seconds from the first frame. shots: half-open ranges of frames. A grid time has no valid frame if the nearest
    one lies outside of all shots, is more than half a grid step away, or serves the grid time before.
    """
    shot_of = np.full(len(times), -1)
    for number, (start, stop) in enumerate(shots):
        shot_of[start:stop] = number
    stamps = np.asarray(times, np.float64)
    wanted = np.arange(math.floor(stamps[-1] / grid + 1e-6) + 1) * grid
    nearest = nearest_frames(stamps, wanted)
    keep = abs(stamps[nearest] - wanted) <= grid / 2 + 1e-6
    keep[1:] &= ~(keep[:-1] & (nearest[1:] == nearest[:-1]))
    keep &= shot_of[nearest] >= 0
    return Slots(np.where(keep, nearest, -1), np.where(keep, shot_of[nearest], -1))


def nearest_frames(stamps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The frame shown nearest to each wanted time, the earlier of two that are equally near. stamps: ascending."""
    right = np.searchsorted(stamps, wanted).clip(0, len(stamps) - 1)
    left = (right - 1).clip(0)
    return np.where(abs(stamps[right] - wanted) + 1e-6 < abs(stamps[left] - wanted), right, left)


def draw_pairs(slots: Slots, law: PairLaw, video: str) -> Iterator[Pair]:
    """At most `law.per_video` different pairs of the video; fewer only where it has no more (or none that is ever drawn).

    Pair i is a function of (law, slots, video, i and the pairs before it): other videos, and how many pairs follow, do not matter.
    """
    sources, available = slots.sources(law)
    taken: set[tuple[int, int]] = set()
    for number in range(min(law.per_video, available)):
        random = Random(key_of(law.seed, "pairs", video, number))
        for _ in range(TRIES):
            found = pair_of(slots, sources, law, random)
            if found is not None and found[:2] not in taken:
                taken.add(found[:2])
                yield found
                break
        else:
            return


def pair_of(slots: Slots, sources: np.ndarray, law: PairLaw, random: Random) -> Pair | None:
    """One draw: a source from `sources`, then offsets until one fits; None where `1 + law.redraws` of them do not."""
    slot = int(sources[random.randrange(len(sources))])
    shot, size = slots.shots[slot], len(slots.shots)
    for _ in range(1 + law.redraws):
        steps = law.draw_steps(random)
        places = [slot + distance for distance in law.reach(steps)]
        if all(0 <= place < size and slots.shots[place] == shot for place in places):
            frames = tuple(int(slots.frames[place]) for place in places)
            return Pair(slot, steps, frames[: law.past], frames[law.past :])
    return None
