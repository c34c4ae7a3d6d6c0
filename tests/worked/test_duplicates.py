"""Near-duplicates against comparing all with all, and by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relatum.core.errors import DataError, RecipeError
from relatum.curation import twins
from relatum.curation.deciding import Decisions, decide
from relatum.curation.stages.duplicates import Duplicates
from relatum.curation.stages.threshold import Range
from relatum.curation.twins import Embeddings, Hashes, Overlaps, first_alike

A, B = "0f1e2d3c4b5a6978", "f00dfacecafe1234"
PLAIN = "0000000000000001"


def off(word: str, *bits: int) -> str:
    """The hash with these bits turned."""
    value = int(word, 16)
    for bit in bits:
        value ^= 1 << bit
    return f"{value:016x}"


def clips(*rows: tuple[str, float, Sequence[str] | None], **facts: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """(id, seconds, hashes), each of its own video."""
    return {
        "id": [row[0] for row in rows],
        "video": [row[0] for row in rows],
        "start": [0.0] * len(rows),
        "end": [row[1] for row in rows],
        "seconds": [row[1] for row in rows],
        "hash.dhash": [row[2] for row in rows],
        **facts,
    }


def twins_of(found: Decisions) -> dict[str, str]:
    return {name: twin for name, twin in zip(found.ids, found.dup_of, strict=True) if twin}


def test_the_longest_is_kept_and_named() -> None:
    """b is 6, 0 and 1 bits from c, which is longer; a is 7 bits from c in its last hash."""
    table = clips(
        ("a", 4.0, [A, B, off(A, 1, 9, 17, 25, 33, 41, 49)]),
        ("b", 3.0, [off(A, 0, 1, 2, 3, 4, 5), B, off(A, 63)]),
        ("c", 5.0, [A, B, A]),
    )
    found = decide(table, {"duplicates": Duplicates()})
    assert found.keep.tolist() == [True, False, True]
    assert found.reasons[1] == ["duplicates: like clip c, which is kept (hashes differ in 6, 0, 1 bits)"]
    assert twins_of(found) == {"b": "c"}
    assert twins_of(decide(table, {"duplicates": Duplicates(distance=7)})) == {"a": "c", "b": "c"}
    assert twins_of(decide(table, {"duplicates": Duplicates(distance=5)})) == {}


def test_equally_long_ones_go_by_id() -> None:
    assert twins_of(decide(clips(("b", 2.0, [A]), ("a", 2.0, [A]), ("c", 2.0, [A])), {"d": Duplicates()})) == {"b": "a", "c": "a"}


def test_nothing_is_dropped_through_a_chain() -> None:
    """b is 6 bits from a, c 6 from b and 12 from a: b is dropped for a, and c stays."""
    b = off(A, 0, 1, 2, 3, 4, 5)
    table = clips(("a", 5.0, [A]), ("b", 4.0, [b]), ("c", 3.0, [off(b, 10, 11, 12, 13, 14, 15)]))
    assert twins_of(decide(table, {"d": Duplicates()})) == {"b": "a"}


def test_a_twin_that_something_else_drops_loses_nobody() -> None:
    table = {**clips(("a", 5.0, [A]), ("b", 4.0, [A])), "motion.mean": [0.0, 1.0]}
    found = decide(table, {"d": Duplicates(), "motion": Range("motion.mean", at_least=0.5)})
    assert [list(reasons) for reasons in found.reasons] == [["motion: 0 < 0.5"], []]


def test_plain_pictures_are_not_told_apart_by_hashes() -> None:
    """More than half of a clip's hashes must be farther than the distance from all zeros and all ones."""
    table = clips(
        ("a", 5.0, [PLAIN, PLAIN, PLAIN]), ("b", 4.0, [PLAIN, PLAIN, PLAIN]),
        ("c", 5.0, [PLAIN, PLAIN, A]), ("d", 4.0, [PLAIN, PLAIN, A]),
        ("e", 5.0, [PLAIN, B, A]), ("f", 4.0, [PLAIN, B, A]),
    )  # fmt: skip
    found = decide(table, {"d": Duplicates()})
    assert twins_of(found) == {"f": "e"}
    assert "4 too plain" in found.lines[1]
    vectors = [[1.0, 0.0], [1.0, 0.1]] + [[0.0, 1.0]] * 4
    found = decide({**table, "clip.embedding": vectors}, {"d": Duplicates(embeddings="clip.embedding", cosine=0.99)})
    assert twins_of(found) == {"b": "a", "d": "c", "e": "c", "f": "c"}
    # (1, 0) and (1, .1) have a cosine of 1 / sqrt(1.01) = .995
    assert found.reasons[1] == ["d: like clip a, which is kept (cosine 0.995)"]


def test_ranges_of_one_video() -> None:
    """[0, 4) and [2, 5) share 2 s of 3, [3, 9) and [2, 5) 2 of 3, [0, 4) and [3, 9) 1 of 4; other videos share nothing."""
    table = clips(("a", 4.0, [A]), ("b", 3.0, [B]), ("c", 6.0, [off(A, *range(9))]), ("d", 4.0, [off(B, *range(9))]))
    table |= {"video": ["v", "v", "v", "w"], "start": [0.0, 2.0, 3.0, 0.0], "end": [4.0, 5.0, 9.0, 4.0]}
    found = decide(table, {"d": Duplicates()})
    assert twins_of(found) == {"b": "c"}
    assert found.reasons[1] == ["d: like clip c, which is kept (the same 2.00 s of one video)"]
    assert twins_of(decide(table, {"d": Duplicates(overlap=0.25)})) == {"a": "c", "b": "c"}
    assert twins_of(decide(table, {"d": Duplicates(overlap=0.0)})) == {}


def test_missing_and_wrong_facts() -> None:
    table = clips(("a", 5.0, [A]), ("b", 4.0, None))
    with pytest.raises(DataError, match=r"keep\.d: hash\.dhash is missing of 1 of 2 clips, the first is b"):
        decide(table, {"d": Duplicates()})
    assert decide(table, {"d": Duplicates(on_missing="keep")}).keep.all()
    assert decide(table, {"d": Duplicates(on_missing="drop")}).reasons[1] == ["d: the fact is missing (hash.dhash)"]
    for wrong in ([[A], [A, B]], [[A], ["xy"]], [[A], ["0" * 15 + "g"]], [A, A], [[A], [7]]):
        with pytest.raises(DataError, match="hexadecimal"):
            decide({**table, "hash.dhash": wrong}, {"d": Duplicates()})
    for wrong in ([[1.0], [1.0, 2.0]], [["x"], ["y"]], [1.0, 2.0]):
        with pytest.raises(DataError, match="numbers"):
            decide({**table, "e.v": wrong}, {"d": Duplicates(hashes="", embeddings="e.v")})
    with pytest.raises(DataError, match=r"2 clips are too many .* go by hashes"):
        decide({**table, "e.v": [[1.0], [1.0]]}, {"d": Duplicates(hashes="", embeddings="e.v", embeddings_up_to=1)})
    for settings_ in ({"distance": 17}, {"cosine": 0.0}, {"overlap": 2.0}, {"hashes": "", "overlap": 0.0}):
        with pytest.raises(RecipeError):
            Duplicates(**settings_)


def slowly(hashes: np.ndarray, usable: np.ndarray, distance: int, vectors: np.ndarray, cosine: float) -> list[int]:
    """Each in turn against all that were kept before it."""
    out: list[int] = []
    for b in range(len(hashes)):
        alike = [
            a
            for a in range(b)
            if out[a] == a
            and (
                (usable[a] and usable[b] and (np.bitwise_count(hashes[a] ^ hashes[b]) <= distance).all())
                or vectors[a] @ vectors[b] >= cosine
            )
        ]
        out.append(alike[0] if alike else b)
    return out


@settings(deadline=None, max_examples=80)
@given(
    st.integers(0, 2**32 - 1), st.integers(2, 60), st.sampled_from([0, 1, 3, 6, 10]), st.booleans(), st.sampled_from([2, 16, 10**9])
)
def test_the_search_is_exact(seed: int, count: int, distance: int, both: bool, most: int) -> None:
    """Families of hashes some bits apart, and of vectors; whether pairs are looked at together or by halves."""
    random = np.random.default_rng(seed)
    hashes = random.integers(0, 2**63, (3, 3), dtype=np.uint64)[random.integers(0, 3, count)]
    for _ in range(int(random.integers(0, 7))):
        hashes ^= np.uint64(1) << random.integers(0, 64, hashes.shape, dtype=np.uint64)
    usable = random.random(count) < 0.9
    vectors = np.where(both, np.eye(9, dtype=np.float32)[random.integers(0, 9, count)], np.float32(0))
    block, twins._BLOCK = twins._BLOCK, most
    try:
        found = first_alike(count, [Hashes(hashes, distance, usable), Embeddings(vectors, 0.9)])
    finally:
        twins._BLOCK = block
    assert found.tolist() == slowly(hashes, usable, distance, vectors, 0.9)


@pytest.mark.parametrize("count", [400, 3000])
def test_a_dense_group_costs_no_square(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """All are 2 bits of 16 from one word: many pairs are within 3, so that the search halves. It gives what each in turn would."""
    random = np.random.default_rng(0)
    hashes = np.full((count, 3), int(A, 16), np.uint64)
    for _ in range(2):
        hashes ^= np.uint64(1) << random.integers(0, 16, hashes.shape, dtype=np.uint64)
    looked = []
    near = Hashes._near
    monkeypatch.setattr(Hashes, "_near", lambda self, a, b, *rest: looked.append(len(a)) or near(self, a, b, *rest))
    found = first_alike(count, [Hashes(hashes, 3, np.ones(count, bool))])
    if count > 1000:
        assert sum(looked) < count**2 / 4
    else:
        assert found.tolist() == slowly(hashes, np.ones(count, bool), 3, np.zeros((count, 1)), 1.0)
    kept = np.flatnonzero(found == np.arange(count))
    for place, first in enumerate(found):
        assert (np.bitwise_count(hashes[place] ^ hashes[first]) <= 3).all()
    for i, a in enumerate(kept):
        assert not (np.bitwise_count(hashes[kept[i + 1 :]] ^ hashes[a]) <= 3).all(1).any()


def test_overlaps_are_all_found() -> None:
    random = np.random.default_rng(1)
    videos, starts = random.integers(0, 3, 200), random.random(200) * 60
    ends = starts + 1 + 9 * random.random(200)
    pairs = {(int(a), int(b)) for a, b in Overlaps(videos, starts, ends, 0.5).pairs}
    slow = set()
    for b in range(200):
        for a in range(b):
            shared = min(ends[a], ends[b]) - max(starts[a], starts[b])
            if videos[a] == videos[b] and shared > 0 and shared >= 0.5 * min(ends[a] - starts[a], ends[b] - starts[b]):
                slow.add((a, b))
    assert pairs == slow
    assert len(pairs) > 50


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.randoms())
def test_the_order_of_clips_does_not_matter(seed: int, shuffler: Any) -> None:
    random = np.random.default_rng(seed)
    words = [A, off(A, 3, 40), off(A, 3, 40, 9, 8, 7, 50), off(A, 1, 2, 5, 6, 3, 40), B]
    rows = [(f"{i:02}", float(random.integers(2, 5)), [words[j] for j in random.integers(0, 5, 3)]) for i in range(20)]
    found = decide(clips(*rows), {"d": Duplicates(distance=4)})
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    again = decide(clips(*shuffled), {"d": Duplicates(distance=4)})
    assert twins_of(again) == twins_of(found)
    assert again.lines == found.lines
    seconds = {row[0]: row[1] for row in rows}
    for twin, first in twins_of(found).items():
        assert seconds[first] >= seconds[twin]
        assert not twins_of(found).get(first)
