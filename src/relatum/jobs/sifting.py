"""Which pairs of frames are worth storing: with motion between them, without a jolt, and not nearly the same as another pair."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..curation.stages.hash import dhash
from ..data.pairs import Pair, PairLaw, draw_pairs, valid_frames
from ..video.decode import Reader, Timeline, visit
from ..video.flow import dis_flow

__all__ = ["Sieve", "Sifted", "sift"]

SHORT = 128  # pixels of the shorter edge on which motion is measured
CANDIDATES = 4  # pairs drawn for each that is wanted, at most
ADJACENT = 0.1  # seconds: frames farther apart say nothing about a jolt
ALIKE = 6  # of 64 bits, and
SAME = 0.01  # short sides of flow: frames that differ by no more are nearly the same


@dataclass(frozen=True)
class Sieve:
    """What a pair must have. Lengths are in short sides of the frame; 0 asks for nothing.

    least_flow: mean length of the optical flow (DIS) from source to target. most_jitter: of a jolt at either of them, which is how
    far the median flow from the frame before to it, and from it to the frame after, differ; steady motion has none, however fast.
    distinct: no two pairs of a video whose sources and whose targets are nearly the same: hashes up to 6 bits of 64 apart, and a
    mean flow under .01.
    """

    least_flow: float = 0.01
    most_jitter: float = 0.02
    distinct: bool = True


@dataclass(frozen=True)
class Sifted:
    """A pair that passed. number: among those drawn, which gives the caption; shot: its clip; flow: in short sides."""

    pair: Pair
    number: int
    shot: int
    flow: float
    source: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class _Seen:
    luma: np.ndarray  # (h w), small
    pixels: np.ndarray  # (h w 3) as it is stored; of frames that are only beside one, none

    @cached_property
    def hash(self) -> int:
        return dhash(self.luma)[0]


def sift(
    timeline: Timeline, shots: Sequence[tuple[int, int]], law: PairLaw, video: str, sieve: Sieve, size: int = 0
) -> tuple[list[Sifted], Counter[str]]:
    """The first `law.per_video` pairs that pass, of up to four times as many, in the order in which readers draw them; and how many
    did not, by reason. size: the shorter edge of the pixels; 0, or more than there is: as they are.
    """
    slots = valid_frames(timeline.times, law.grid, shots)
    drawn: Iterator[tuple[int, Pair]] = enumerate(draw_pairs(slots, replace(law, per_video=CANDIDATES * law.per_video), video))
    taken: list[tuple[Sifted, _Seen, _Seen]] = []
    dropped: Counter[str] = Counter()
    while batch := list(islice(drawn, law.per_video - len(taken))):
        seen = _look(timeline, shots, slots.shots, [pair for _, pair in batch], sieve, size)
        for number, pair in batch:
            shot = int(slots.shots[pair.slot])
            found = _judged(timeline, shots[shot], pair, seen, sieve, taken)
            if isinstance(found, str):
                dropped[found] += 1
                continue
            source, target = seen[pair.past[0]], seen[pair.future[0]]
            taken.append((Sifted(pair, number, shot, found, source.pixels, target.pixels), source, target))
    return [one for one, _, _ in taken], dropped


def _look(
    timeline: Timeline, shots: Sequence[tuple[int, int]], shot_of: np.ndarray, pairs: Sequence[Pair], sieve: Sieve, size: int
) -> dict[int, _Seen]:
    """The frames of the pairs, and, small, those beside them, in one pass."""
    wanted = {pair.past[0] for pair in pairs} | {pair.future[0] for pair in pairs}
    beside: set[int] = set()
    for pair in pairs if sieve.most_jitter else ():
        first, stop = shots[shot_of[pair.slot]]
        near = {index + step for index in (pair.past[0], pair.future[0]) for step in (-1, 1)}
        beside |= {index for index in near if first <= index < stop}

    def see(reader: Reader, index: int, frame: Any) -> _Seen:
        pixels = reader.rgb(frame, size or None) if index in wanted else np.zeros((0, 0, 3), np.uint8)
        return _Seen(reader.frame(index, frame).luma(SHORT), pixels)

    return visit(timeline, wanted | beside, see)


def _judged(
    timeline: Timeline,
    shot: tuple[int, int],
    pair: Pair,
    seen: Mapping[int, _Seen],
    sieve: Sieve,
    taken: Sequence[tuple[Sifted, _Seen, _Seen]],
) -> float | str:
    """The pair's flow, or why it is dropped."""
    ends = pair.past[0], pair.future[0]
    if any(index not in seen for index in ends):
        return "a frame cannot be decoded"
    source, target = (seen[index] for index in ends)
    flow = _mean(source, target)
    if flow < sieve.least_flow:
        return "too little motion"
    if sieve.most_jitter and max(_jolt(timeline, shot, index, seen) for index in ends) > sieve.most_jitter:
        return "jitter"
    if sieve.distinct and any(_alike(source, before) and _alike(target, after) for _, before, after in taken):
        return "nearly the same as another pair"
    return flow


def _jolt(timeline: Timeline, shot: tuple[int, int], index: int, seen: Mapping[int, _Seen]) -> float:
    times, (before, after) = timeline.times, (index - 1, index + 1)
    if not (shot[0] <= before and after < shot[1] and before in seen and after in seen):
        return 0.0
    if max(times[index] - times[before], times[after] - times[index]) > ADJACENT:
        return 0.0
    into, out = (np.median(_flow(seen[a], seen[b]), axis=(1, 2)) for a, b in ((before, index), (index, after)))
    return float(np.hypot(*(out - into)))


def _alike(a: _Seen, b: _Seen) -> bool:
    return (a.hash ^ b.hash).bit_count() <= ALIKE and _mean(a, b) < SAME


def _mean(a: _Seen, b: _Seen) -> float:
    return float(np.hypot(*_flow(a, b)).mean())


def _flow(a: _Seen, b: _Seen) -> np.ndarray:
    """(2 h w) in short sides."""
    first, second = (torch.from_numpy(one.luma.astype(np.float32))[None] / 127.5 - 1 for one in (a, b))
    return dis_flow(first, second).numpy() / min(a.luma.shape)
