"""Who is alike among many: each is kept unless it is like one kept before it. Exact, without comparing all with all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Protocol, runtime_checkable

import numpy as np

__all__ = ["Embeddings", "Hashes", "Likeness", "Overlaps", "first_alike"]

_ODD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: spreads masked bits over the upper ones
_PLACE = np.uint64(2**32 - 1)  # the lower half of a word: a place, of which there are fewer
_CHUNK = 2**21  # candidates at once
_BLOCK = 2048  # embeddings at once


@runtime_checkable
class Likeness(Protocol):
    """A symmetric relation between things known by their places."""

    def within(self, items: np.ndarray) -> np.ndarray | None:
        """(p, 2) places a < b that are alike, each pair once, of ascending items; None where they are too many to look at at once
        (never for two)."""
        ...

    def between(self, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        """(len(late),) the first of the ascending `early` that is like each of `late`, or -1."""
        ...


def first_alike(count: int, likenesses: Sequence[Likeness]) -> np.ndarray:
    """(count,) for each place the first kept place that it is like, by any of the likenesses; itself, if it is kept.

    What going through them in order and comparing each with all that were kept before would give. Where a group is so dense that
    its pairs are too many, the first half is settled alone, so that the second is compared with what was kept of it only.
    """
    kept_for = np.arange(count)

    def settle(items: np.ndarray) -> None:
        if len(items) < 2:
            return
        found = []
        for likeness in likenesses:
            pairs = likeness.within(items)
            if pairs is None:
                break
            found.append(pairs)
        else:
            _keep_first(kept_for, np.concatenate(found))
            return
        half = len(items) // 2
        settle(items[:half])
        early, late = items[:half], items[half:]
        early = early[kept_for[early] == early]
        firsts = np.stack([likeness.between(early, late) for likeness in likenesses])
        first = np.where(firsts < 0, count, firsts).min(0)
        kept_for[late] = np.where(first < count, first, late)
        settle(late[first == count])

    settle(np.arange(count))
    return kept_for


def _keep_first(kept_for: np.ndarray, pairs: np.ndarray) -> None:
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    firsts, starts = np.unique(pairs[:, 0], return_index=True)
    for a, later in zip(firsts.tolist(), np.split(pairs[:, 1], starts[1:]), strict=False):
        if kept_for[a] == a:
            kept_for[later[kept_for[later] == later]] = a


@dataclass(frozen=True)
class Hashes:
    """Things with k hashes of 64 bits that differ in at most `distance` bits each. hashes: (n, k). usable: (n,) those that count.

    Two words that differ in at most d bits are equal in at least m of d + m bands of bits, whichever these are. So pairs are looked
    for among those that are equal in some m bands of the middle hash: for each choice of bands one sort.
    """

    hashes: np.ndarray
    distance: int
    usable: np.ndarray

    def within(self, items: np.ndarray) -> np.ndarray | None:
        items = items[self.usable[items]]
        found, looked_at, most = [np.empty((0, 2), np.int64)], 0, 2**16 + 16 * len(items)
        for choice, mask in self._choices(len(items)):
            bucket, order = self._sorted(items, mask)
            step, at = 1, np.flatnonzero(bucket[1:] == bucket[:-1])
            while len(at):
                looked_at += len(at)
                if looked_at > most and len(items) > 2:
                    return None
                a, b = items[order[at]], items[order[at + step]]
                near = self._near(a, b, choice, mask)
                found.append(np.stack([np.minimum(a[near], b[near]), np.maximum(a[near], b[near])], 1))
                step += 1
                at = at[at < len(items) - step]
                at = at[bucket[at + step] == bucket[at]]
        return np.concatenate(found)

    def between(self, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        none = len(self.hashes)
        first = np.full(len(late), none)
        early, places = early[self.usable[early]], np.flatnonzero(self.usable[late])
        for choice, mask in self._choices(len(early) + len(places)):
            (keys, order), (wanted, asking) = self._sorted(early, mask), self._sorted(late[places], mask)
            starts = np.searchsorted(keys, wanted, "left")
            counts = np.searchsorted(keys, wanted, "right") - starts
            for part, at in _expanded(starts, counts):
                a, b = early[order[at]], places[asking[part]]
                near = self._near(a, late[b], choice, mask)
                np.minimum.at(first, b[near], a[near])
        return np.where(first < none, first, -1)

    def _sorted(self, items: np.ndarray, mask: np.uint64) -> tuple[np.ndarray, np.ndarray]:
        """(ascending keys, which item each is of). Keys are equal where the masked bits are; seldom else, which `_near` sees."""
        keys = ((self._middle[items] & mask) * _ODD) & ~_PLACE
        keys |= np.arange(len(items), dtype=np.uint64)
        keys.sort()  # of single words, which is far faster than sorting places by their keys
        return keys & ~_PLACE, (keys & _PLACE).astype(np.int64)

    @cached_property
    def _middle(self) -> np.ndarray:
        return np.ascontiguousarray(self.hashes[:, self.hashes.shape[1] // 2])

    def _choices(self, count: int) -> list[tuple[tuple[np.uint64, ...], np.uint64]]:
        """For each choice of m bands: the bands before its last one that it leaves out, and the mask of its own.

        m: the more things, the longer the keys, so that few are alike by chance; and the more sorts.
        """
        m = next(m for m, most in ((1, 500), (2, 30_000), (3, 300_000), (4, math.inf)) if count <= most)
        while m > 1 and math.comb(self.distance + m, m) > 256:
            m -= 1
        bands = [np.uint64(sum(1 << bit for bit in range(i, 64, self.distance + m))) for i in range(self.distance + m)]
        out = []
        for choice in combinations(range(len(bands)), m):
            left_out = tuple(bands[i] for i in range(choice[-1]) if i not in choice)
            out.append((left_out, np.bitwise_or.reduce([bands[i] for i in choice])))
        return out

    def _near(self, a: np.ndarray, b: np.ndarray, left_out: Sequence[np.uint64], mask: np.uint64) -> np.ndarray:
        """Which pairs are alike, and were not met under an earlier choice of bands."""
        differ = self._middle[a] ^ self._middle[b]
        near = np.flatnonzero((np.bitwise_count(differ) <= self.distance) & ((differ & mask) == 0))
        for k in range(self.hashes.shape[1]):
            near = near[np.bitwise_count(self.hashes[a[near], k] ^ self.hashes[b[near], k]) <= self.distance]
        for band in left_out:
            near = near[(differ[near] & band) != 0]
        return near


def _expanded(starts: np.ndarray, counts: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each i its counts[i] places from starts[i] on, as (i, place), in parts that fit into memory."""
    some = np.flatnonzero(counts)
    cuts = np.searchsorted(np.cumsum(counts[some]), np.arange(_CHUNK, counts.sum() + _CHUNK, _CHUNK), "left") + 1
    for part in np.split(some, np.unique(np.minimum(cuts, len(some)))):
        repeat = counts[part]
        ends = np.cumsum(repeat)
        inside = np.arange(repeat.sum()) - np.repeat(ends - repeat, repeat)
        yield np.repeat(part, repeat), np.repeat(starts[part], repeat) + inside


@dataclass(frozen=True)
class Embeddings:
    """Things whose unit vectors have a scalar product of at least `cosine`. vectors: (n, d) float32; zero: none, like nothing."""

    vectors: np.ndarray
    cosine: float

    def within(self, items: np.ndarray) -> np.ndarray | None:
        if len(items) > _BLOCK:
            return None
        alike = np.triu(self.vectors[items] @ self.vectors[items].T >= self.cosine, 1)
        return items[np.argwhere(alike)]

    def between(self, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        first = np.full(len(late), -1)
        for i in range(0, len(early), _BLOCK):
            vectors = self.vectors[early[i : i + _BLOCK]].T
            for j in range(0, len(late), _BLOCK):
                alike = self.vectors[late[j : j + _BLOCK]] @ vectors >= self.cosine
                found = np.where(alike.any(1), early[i + alike.argmax(1)], -1)
                part = first[j : j + _BLOCK]
                part[:] = np.where(part < 0, found, part)
        return first


@dataclass(frozen=True)
class Overlaps:
    """Ranges of time that share at least `share` of the shorter one with another of the same video.

    videos: (n,) any integers. starts, ends: (n,) seconds.
    """

    videos: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    share: float

    @cached_property
    def pairs(self) -> np.ndarray:
        """(p, 2) places a < b that overlap so much."""
        order = np.lexsort((self.starts, self.videos))
        videos, starts, ends = self.videos[order], self.starts[order], self.ends[order]
        found, step, at = [np.empty((0, 2), np.int64)], 1, np.arange(len(order) - 1)
        while len(at):
            at = at[(videos[at + step] == videos[at]) & (starts[at + step] < ends[at])]
            shared = np.minimum(ends[at], ends[at + step]) - starts[at + step]
            shorter = np.minimum(ends[at] - starts[at], ends[at + step] - starts[at + step])
            much = at[shared >= self.share * shorter]
            found.append(np.sort(np.stack([order[much], order[much + step]], 1), axis=1))
            step += 1
            at = at[at < len(order) - step]
        return np.concatenate(found)

    def within(self, items: np.ndarray) -> np.ndarray | None:
        among = self._are(items)
        return self.pairs[among[self.pairs].all(1)]

    def between(self, early: np.ndarray, late: np.ndarray) -> np.ndarray:
        first = np.full(len(self.videos), len(self.videos))
        pairs = self.pairs[self._are(early)[self.pairs[:, 0]] & self._are(late)[self.pairs[:, 1]]]
        np.minimum.at(first, pairs[:, 1], pairs[:, 0])
        return np.where(first[late] < len(self.videos), first[late], -1)

    def _are(self, items: np.ndarray) -> np.ndarray:
        out = np.zeros(len(self.videos), bool)
        out[items] = True
        return out
