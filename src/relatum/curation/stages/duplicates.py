"""Of clips that are nearly the same keeps the longest: by perceptual hashes, embeddings, and time ranges of the same video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ...core.errors import DataError, RecipeError
from ...core.registry import stage
from ..base import Verdict
from ..twins import Embeddings, Hashes, Likeness, Overlaps, first_alike

__all__ = ["Duplicates"]


@dataclass(frozen=True)
class _Clips:
    """Those that are still in, longest first, then by id. places: in the table."""

    places: np.ndarray
    ids: Sequence[str]
    hashes: Hashes | None
    embeddings: Embeddings | None
    overlaps: Overlaps | None
    missing: list[int]

    @property
    def likenesses(self) -> list[Likeness]:
        return [likeness for likeness in (self.hashes, self.embeddings, self.overlaps) if likeness is not None]

    def why(self, a: int, b: int) -> str:
        """What makes clip a like clip b; only what it is by."""
        parts = []
        if self.hashes is not None and self.hashes.usable[a] and self.hashes.usable[b]:
            bits = np.bitwise_count(self.hashes.hashes[a] ^ self.hashes.hashes[b]).tolist()
            if max(bits) <= self.hashes.distance:
                parts.append(f"hashes differ in {', '.join(map(str, bits))} bits")
        if self.embeddings is not None:
            cosine = float(self.embeddings.vectors[a] @ self.embeddings.vectors[b])
            if cosine >= self.embeddings.cosine:
                parts.append(f"cosine {cosine:.3f}")
        if self.overlaps is not None and self.overlaps.videos[a] == self.overlaps.videos[b]:
            shared = min(self.overlaps.ends[[a, b]]) - max(self.overlaps.starts[[a, b]])
            if shared > 0:
                parts.append(f"the same {shared:.2f} s of one video")
        return "; ".join(parts)


@stage("duplicates")
@dataclass(frozen=True)
class Duplicates:
    """Drops each clip that is like one that is kept and no shorter; of equally long ones the first by id is kept.

    Judged among clips that all else keeps, so that none is lost for a twin that is dropped itself. Every dropped clip is itself
    like the one that is kept for it: nothing is dropped through a chain of others.
    hashes: fact with hexadecimal hashes of 64 bits, as many for every clip; "" for none. distance: bits by which each of them may
    differ. A hash within `distance` of all zeros or all ones is of a plain picture; clips are compared only if more than half of
    theirs are not. embeddings: fact with a vector; "" for none. cosine: at least. embeddings_up_to: so many clips, as all are
    multiplied with all. overlap: share of the shorter of two ranges of one video; 0 for not.
    """

    hashes: str = "hash.dhash"
    distance: int = 6
    embeddings: str = ""
    cosine: float = 0.95
    embeddings_up_to: int = 100_000
    overlap: float = 0.5
    on_missing: Literal["error", "keep", "drop"] = "error"

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= 16:
            raise RecipeError(f"distance is {self.distance}, expected 0 to 16 of 64 bits")
        if not 0 < self.cosine <= 1:
            raise RecipeError(f"cosine is {self.cosine}, expected above 0 and at most 1")
        if not 0 <= self.overlap <= 1:
            raise RecipeError(f"overlap is {self.overlap}, expected a share from 0 to 1")
        if not (self.hashes or self.embeddings or self.overlap):
            raise RecipeError("nothing to tell duplicates by: name a fact for hashes or embeddings, or an overlap above 0")

    @property
    def needs(self) -> tuple[str, ...]:
        return (*(fact for fact in (self.hashes, self.embeddings) if fact), "kept")

    def judge(self, table: Mapping[str, Sequence[Any]]) -> Verdict:
        """DataError for facts of another form, or missing where the recipe does not say what then."""
        clips = self._clips(table)
        first = first_alike(len(clips.places), clips.likenesses)
        twins = np.flatnonzero(first != np.arange(len(first))).tolist()
        drops: list[str | None] = [None] * len(table["id"])
        for b in twins:
            a = int(first[b])
            drops[int(clips.places[b])] = f"like clip {clips.ids[a]}, which is kept ({clips.why(a, b)})"
        if self.on_missing == "drop":
            for place in clips.missing:
                drops[place] = drops[place] or f"the fact is missing ({' or '.join(self.needs[:-1])})"
        dup_of = {int(clips.places[b]): int(clips.places[first[b]]) for b in twins}
        plain = int((~clips.hashes.usable).sum()) if clips.hashes is not None else 0
        found = {
            "hashes": self.hashes,
            "distance": self.distance if self.hashes else None,
            "embeddings": self.embeddings,
            "cosine": self.cosine if self.embeddings else None,
            "overlap": self.overlap or None,
            "clips_compared": len(first),
            "groups": len(set(dup_of.values())),
            "clips_too_plain": plain,
            "clips_without_it": len(clips.missing),
        }
        return Verdict(drops, self._line(len(first), plain, len(clips.missing)), clips.missing, found, dup_of)

    def _line(self, count: int, plain: int, missing: int) -> str:
        parts = [f"{self.hashes} within {self.distance} of 64 bits"] if self.hashes else []
        parts += [f"{self.embeddings} with a cosine of at least {self.cosine:g}"] if self.embeddings else []
        parts += [f"{100 * self.overlap:g} % of the same time"] if self.overlap else []
        line = f"{' or '.join(parts)}, among {count:,} clips"
        if plain:
            line += f"; {plain:,} too plain for hashes, or without"
        if missing:
            line += f"; missing of {missing:,} clips, which are {'kept' if self.on_missing == 'keep' else 'dropped'}"
        return line

    def _clips(self, table: Mapping[str, Sequence[Any]]) -> _Clips:
        count = len(table["id"])
        kept = [bool(value) for value in table["kept"]] if "kept" in table else [True] * count
        lengths = [-round(float(value), 3) for value in table["seconds"]]
        places = sorted((i for i in range(count) if kept[i]), key=lambda i: (lengths[i], table["id"][i]))
        facts = {fact: [table[fact][i] for i in places] for fact in (self.hashes, self.embeddings) if fact}
        missing = sorted({place for column in facts.values() for place, value in zip(places, column, strict=True) if value is None})
        if missing and self.on_missing == "error":
            raise DataError(
                f"{' or '.join(facts)} is missing of {len(missing):,} of {len(places):,} clips, "
                f"the first is {table['id'][missing[0]]}; "
                'find out why, or say on_missing = "keep" or "drop"'
            )
        numbers = {video: number for number, video in enumerate(sorted({table["video"][i] for i in places}))}
        videos = np.array([numbers[table["video"][i]] for i in places], dtype=np.int64)
        starts, ends = (np.array([table[name][i] for i in places], dtype=np.float64) for name in ("start", "end"))
        return _Clips(
            np.array(places, dtype=np.int64),
            [table["id"][i] for i in places],
            self._hashes(facts[self.hashes]) if self.hashes else None,
            self._embeddings(facts[self.embeddings]) if self.embeddings else None,
            Overlaps(videos, starts, ends, self.overlap) if self.overlap else None,
            missing,
        )

    def _hashes(self, column: Sequence[Any]) -> Hashes:
        try:
            size = next((len(value) for value in column if value is not None), 1)
            blank = ["0" * 16] * size
            joined = "".join("".join(value if value is not None else blank) for value in column)
            words = np.frombuffer(bytes.fromhex(joined), ">u8").astype(np.uint64).reshape(len(column), size)
            if any(value is not None and [len(word) for word in value] != [16] * size for value in column):
                raise ValueError
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.hashes}: expected lists of equally many hashes of 16 hexadecimal digits each") from error
        ones = np.bitwise_count(words)
        telling = (ones > self.distance) & (ones < 64 - self.distance)
        return Hashes(words, self.distance, 2 * telling.sum(1) > size)

    def _embeddings(self, column: Sequence[Any]) -> Embeddings:
        if len(column) > self.embeddings_up_to:
            raise DataError(
                f"{len(column):,} clips are too many to compare all embeddings with all "
                f"(embeddings_up_to = {self.embeddings_up_to:,}): "
                'set embeddings = "" and go by hashes, or allow more and wait'
            )
        try:
            size = next((len(value) for value in column if value is not None), 1)
            vectors = np.array([[0.0] * size if value is None else value for value in column], dtype=np.float32).reshape(-1, size)
        except (TypeError, ValueError) as error:
            raise DataError(f"{self.embeddings}: expected lists of equally many numbers") from error
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return Embeddings(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0), self.cosine)
