"""Every keep of a curation, also one added tomorrow, keeps this contract. Keeps are found by their registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

import relatum.curation.stages  # noqa: F401  registers
from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import stage
from relatum.curation.base import Keep, Verdict
from relatum.curation.deciding import decide
from relatum.curation.what_if import what_if
from support.settings import alternatives

COUNT = 240
NAMES = [name for name, cls in sorted(stage.classes.items()) if hasattr(cls, "judge") and cls.__module__.startswith("relatum.")]
SETTINGS: dict[str, dict[str, Any]] = {
    "range": {"fact": "one.scores", "at_least": 0.2, "at_most": 0.9, "drop_lowest": 0.3, "drop_highest": 0.2, "on_missing": "drop"},
    "duplicates": {"embeddings": "clip.embedding", "embeddings_up_to": COUNT, "on_missing": "drop"},
}
"""What a keep needs, or what makes all its settings matter."""
FACTS = {"fact": "two.scores", "hashes": "other.dhash", "embeddings": "other.embedding"}


def make_table(count: int = COUNT) -> dict[str, Sequence[Any]]:
    """Families of four clips that are alike, some of the same video and time; the last lacks every fact."""
    random = np.random.default_rng(0)
    numbers = range(count)

    def hashes() -> list[Any]:
        words = random.integers(0, 2**63, (count // 4 + 1, 3), dtype=np.uint64)
        flips = [
            np.bitwise_or.reduce(np.uint64(1) << random.integers(0, 64, int(random.integers(1, 9)), dtype=np.uint64))
            for _ in numbers
        ]
        return [[f"{int(word ^ flips[i] * np.uint64(i % 2)):016x}" for word in words[i // 4]] for i in numbers[:-1]] + [None] * (
            count > 0
        )

    def vectors() -> list[Any]:
        own = random.standard_normal((count // 3 + 1, 8))
        noise = random.standard_normal((count, 8)) * random.random((count, 1)) * 0.5
        return [(own[i // 3] + noise[i]).tolist() for i in numbers[:-1]] + [None] * (count > 0)

    def scores() -> list[Any]:
        return [random.random(3).tolist() for _ in numbers[:-1]] + [None] * (count > 0)

    start = [float(i % 5) for i in numbers]
    seconds = [float(random.integers(2, 5)) for _ in numbers]
    return {
        "id": [f"{i * 7919 % 100_003:08x}" for i in numbers],
        "video": [f"v{i // 5}" for i in numbers],
        "start": start,
        "end": [a + b for a, b in zip(start, seconds, strict=True)],
        "seconds": seconds,
        "error": [""] * count,
        **{name: scores() for name in ("one.scores", "two.scores")},
        **{name: hashes() for name in ("hash.dhash", "other.dhash")},
        **{name: vectors() for name in ("clip.embedding", "other.embedding")},
    }


def build(name: str, **changes: Any) -> Keep:
    return stage.build({"kind": name, **SETTINGS.get(name, {}), **changes}, "keep")


def judge(keep: Keep, table: dict[str, Sequence[Any]]) -> Verdict:
    return keep.judge({**table, "kept": [True] * len(table["id"])})


def test_all_are_here() -> None:
    assert {"range", "duplicates"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_verdict_is_whole(name: str) -> None:
    keep, table = build(name), make_table()
    assert isinstance(keep, Keep)
    assert dataclasses.is_dataclass(keep)
    assert set(keep.needs) <= {*table, "kept"}
    verdict = judge(keep, table)
    assert len(verdict.drops) == COUNT
    assert 0 < sum(drop is not None for drop in verdict.drops) < COUNT
    assert all(drop is None or drop.strip() for drop in verdict.drops)
    assert verdict.line
    assert "\n" not in verdict.line
    assert all(0 <= place < COUNT for place in verdict.missing)
    for place, twin in (verdict.dup_of or {}).items():
        assert verdict.drops[place] is not None
        assert verdict.drops[twin] is None
    assert judge(keep, table) == verdict


@pytest.mark.parametrize("name", NAMES)
def test_the_order_of_clips_does_not_matter(name: str) -> None:
    table = make_table()
    order = np.random.default_rng(1).permutation(COUNT).tolist()
    shuffled = {column: [values[i] for i in order] for column, values in table.items()}
    plain, other = (decide(one, {"it": build(name)}) for one in (table, shuffled))
    assert [list(other.reasons[at]) for at in range(COUNT)] == [list(plain.reasons[i]) for i in order]
    assert other.document() == plain.document()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [0, 1])
def test_few_clips_are_no_error(name: str, count: int) -> None:
    table = make_table(count)
    keeps = {"it": build(name)}
    assert len(what_if(table, keeps, decide(table, keeps))) > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_changes_something(name: str) -> None:
    """What is dropped, or why; tried with other values that the keep allows."""
    table = make_table()
    plain = judge(build(name), table)
    for f in dataclasses.fields(stage.classes[name]):
        current = getattr(build(name), f.name)
        values = [FACTS[f.name]] if f.name in FACTS else alternatives(stage.classes[name], f.name, current)
        changed = False
        for value in values:
            try:
                changed = changed or judge(build(name, **{f.name: value}), table) != plain
            except RecipeError:
                continue
            except DataError:  # a missing fact, or too many clips, is now one
                changed = True
        assert changed, f"{name}.{f.name} is {current!r}; none of {values} changes anything"
