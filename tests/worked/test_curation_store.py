"""What is stored of a video: stills that are written as a stream and sought once; clips, facts and notes read off its record."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from relatum.core.errors import DataError, RecipeError
from relatum.curation import item as items
from relatum.curation.base import Clip, Video
from relatum.curation.item import Item, Job, measure
from relatum.curation.plan import Plan, plan_of
from relatum.curation.reading import TIMELINE, clips_of, errors_of, facts_of, notes_of, timeline_parts
from relatum.curation.settings import Stills
from relatum.curation.stages.shots import Fixed
from relatum.curation.stills import Spool
from relatum.curation.store import Fault, Record, Store
from relatum.video.timeline import Timeline
from support.curation import small_curation
from support.films import bars, film

CONTENT = "ab" * 32


def stills_in(store: Store, key: str) -> dict[str, bytes]:
    (file,) = store.folder.glob(f"??/*.stills-{key}.safetensors")
    with safe_open(file, framework="numpy") as found:
        return {name: found.get_tensor(name).tobytes() for name in found.keys()}  # noqa: SIM118


def test_stills_are_written_one_after_the_other(tmp_path: Path) -> None:
    """Sizes 1, 3 and 0 bytes; then "b" is taken over, "a" left out, "c" new; a file under another key goes."""
    store = Store(tmp_path)
    store.write_stills(CONTENT, "old", {"a": [b"x"]})
    store.write_stills(CONTENT, "key", {"a": [b"1", b"234"], "b": [b"", b"56"], "none": []}, "split1")
    assert stills_in(store, "key") == {"a/000": b"1", "a/001": b"234", "b/000": b"", "b/001": b"56"}
    assert store.stilled(CONTENT, "key") == ("split1", {"a", "b"})
    assert store.stilled(CONTENT, "old") == ("", set())
    store.write_stills(CONTENT, "key", {"c": [b"78"]}, "split2", kept={"b"})
    assert stills_in(store, "key") == {"b/000": b"", "b/001": b"56", "c/000": b"78"}
    assert store.stilled(CONTENT, "key") == ("split2", {"b", "c"})
    assert store.stills(CONTENT, "key", "b") == [b"", b"56"]


def test_stills_that_cannot_be_made_leave_the_old_ones(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.write_stills(CONTENT, "key", {"a": [b"1"]}, "split1")

    class Failing(dict[str, Sequence[bytes]]):
        def values(self) -> Any:
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        store.write_stills(CONTENT, "key", Failing(b=[b"2"]), "split2")
    assert store.stilled(CONTENT, "key") == ("split1", {"a"})
    assert [file.name for file in (tmp_path / "ab").iterdir()] == [f"{CONTENT}.stills-key.safetensors"]


@pytest.fixture
def video(tmp_path: Path) -> Item:
    """Three seconds of 64 x 48, 25 frames each, another picture in each frame."""
    path = film(tmp_path / "three.mp4", [bars(i) for i in range(75)])
    return Item(hashlib.sha256(path.read_bytes()).hexdigest(), str(path))


def job_of(folder: Path, **tables: Any) -> Job:
    recipe = small_curation(folder, edit=lambda table: table.update(tables))
    return Job(recipe, plan_of(recipe), 3)


def notes_while(item: Item, job: Job) -> list[tuple[str, int]]:
    noted: list[tuple[str, int]] = []
    measure(item, job, lambda stage, frame: noted.append((stage, frame)))
    return noted


def test_a_measure_more_leaves_stills_and_their_key_as_they_are(tmp_path: Path, video: Item) -> None:
    """Clips of 1 s, then the same with a measure that the split does not read, then of 1.5 s: only of these stills are sought."""
    job = job_of(tmp_path)
    assert {stage for stage, _ in notes_while(video, job)} == {"probe", "mischief", "decoding"}
    before = stills_in(job.store, job.stills_key)
    assert len(before) == 6  # one each half second
    more = job_of(tmp_path, measure={**job.recipe.measure, "hash": {}})
    assert more.stills_key == job.stills_key
    assert not more.is_done(video.content)
    assert not any(stage == "stills" for stage, _ in notes_while(video, more))
    assert more.is_done(video.content)
    assert stills_in(more.store, more.stills_key) == before
    other = job_of(tmp_path, split={"kind": "fixed", "seconds": 1.5})
    assert other.stills_key == job.stills_key
    noted = notes_while(video, other)
    assert {stage for stage, _ in noted} == {"probe", "stills"}
    assert len(stills_in(other.store, other.stills_key)) == 6
    fresh = replace(other, recipe=replace(other.recipe, output_dir=str(tmp_path / "fresh")))
    measure(video, fresh, lambda stage, frame: None)
    assert stills_in(fresh.store, fresh.stills_key) == stills_in(other.store, other.stills_key)


def test_a_split_of_another_version_makes_other_clips() -> None:
    class Newer(Fixed):
        version = 2

    old, same, new = (Plan({}, split, {}) for split in (Fixed(), Fixed(), Newer()))
    Newer.__name__ = "Fixed"
    assert old.split_key == same.split_key != new.split_key


def test_a_spool_gives_what_was_added_in_any_order(tmp_path: Path, video: Item) -> None:
    from relatum.video.reader import Reader
    from relatum.video.timeline import read_timeline

    spool = Spool(Stills(short=32), tmp_path)
    with Reader(read_timeline(Path(video.path)), seeks=False) as reader:
        frames = {index: reader.frame(index, picture) for index, picture in reader.frames()}
    spool.add(frames[7])
    first = spool.read(7)
    spool.add(frames[3])
    assert spool.read(7) == first
    assert spool.read(3) != first
    assert 3 in spool
    assert 4 not in spool
    spool.close()


def record(**changes: Any) -> Record:
    """40 frames, ten a second, and a track with a value a frame."""
    times = tuple(i / 10 for i in range(40))
    single = {"width": 64, "height": 48, "rotation": 0, "rate": 10.0, "duration": 4.0, "variable": False, "notes": ("odd",)}
    timeline = Timeline(Path(), times, (0,), stamps=tuple(range(40)), seekable=True, by_order=False, **single)
    facts, frames = timeline_parts(timeline)
    tracks = {TIMELINE: frames, "m": {"time": np.array(times), "value": np.arange(40.0)}}
    return Record(CONTENT, "ok", facts={"timeline": facts}, keys={"m": "", TIMELINE: ""}, tracks=tracks, **changes)


class Given:
    """A measure that gives, or raises, what it was told for the clip that begins at 1 s."""

    version, writes, cheap, rate = 1, ("a", "b"), (), 1.0

    def __init__(self, value: Any) -> None:
        self.value = value

    def watch(self, video: Video) -> Any:
        raise NotImplementedError

    def facts(self, track: Any, clip: Clip) -> Any:
        if clip.start != 1.0:
            return {"a": 1.0, "b": "words"}
        if isinstance(self.value, Exception):
            raise self.value
        return self.value


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (ZeroDivisionError("planted"), "m: ZeroDivisionError: planted"),
        ({"a": math.nan, "b": 1}, "m: DataError: a is not finite"),
        ({"a": [1.0, math.inf], "b": 1}, "m: DataError: a is not finite"),
        ({"a": np.float32(1), "b": 1}, "m: DataError: a is of type float32"),
        ({"a": {"x": 1}, "b": 1}, "m: DataError: a is of type dict"),
        ({"a": 1}, "m: DataError: gave a; it writes a, b"),
        ({"a": 1, "b": 2, "c": 3}, "m: DataError: gave a, b, c; it writes a, b"),
        ({"a": 2**63, "b": 2}, "m: DataError: a is a whole number of more than 64 bits"),
        ({"a": "\ud800", "b": 2}, "m: UnicodeEncodeError"),
        (None, "m: TypeError"),
    ],
)
def test_facts_that_are_none_cost_one_clip(value: Any, words: str) -> None:
    measures: Any = {"m": Given(value)}
    plan = Plan(measures, Fixed(1.0), {})
    clips = clips_of(record(), plan)
    first, second, *others = facts_of(record(), clips, plan)
    assert first == others[0] == others[1] == {"m.a": 1.0, "m.b": "words"}
    assert {key: second[key] for key in ("m.a", "m.b")} == {"m.a": None, "m.b": None}
    assert second["error"].startswith(words)


class Said:
    """A split that gives what it was told."""

    def __init__(self, *spans: tuple[int, int], content: str = CONTENT, error: Exception | None = None) -> None:
        self.spans, self.content, self.error = spans, content, error

    def clips(self, video: Video, tracks: Mapping[str, Any]) -> list[Clip]:
        if self.error is not None:
            raise self.error
        return [Clip(str(a), self.content, a, b, a / 10, b / 10, a, b, "edge", "edge") for a, b in self.spans]


@pytest.mark.parametrize(
    ("split", "words"),
    [
        (Said((0, 10), (9, 20)), r"frames \[9, 20\) after one that ends at 10"),
        (Said((20, 30), (0, 10)), r"frames \[0, 10\) after one that ends at 30"),
        (Said((30, 41)), "of 40 frames"),
        (Said((-1, 5)), r"frames \[-1, 5\)"),
        (Said((5, 5)), r"frames \[5, 5\)"),
        (Said((0, 5), content="cd"), "of another video, 'cd'"),
        (Said(error=KeyError("planted")), "split Said of video abababababab: KeyError: 'planted'"),
    ],
)
def test_a_split_that_gives_no_clips_of_the_video_is_told(split: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        clips_of(record(), Plan({}, split, {}))


def test_a_recipe_that_a_split_refuses_is_the_recipes_error() -> None:
    with pytest.raises(RecipeError, match="planted"):
        clips_of(record(), Plan({}, Said(error=RecipeError("planted")), {}))


def test_a_split_that_fails_costs_the_video_until_it_is_mended(tmp_path: Path, video: Item) -> None:
    good = job_of(tmp_path)
    bad = replace(good, plan=Plan(good.plan.measures, Said(error=KeyError("planted")), {}))
    measure(video, bad, lambda stage, frame: None)
    found = bad.store.read(video.content)
    assert found is not None
    assert (found.status, found.reason) == ("error", "split_failed")
    assert "KeyError: 'planted'" in found.detail
    assert not any(stage == "decoding" for stage, _ in notes_while(video, good))
    found = good.store.read(video.content)
    assert found is not None
    assert (found.status, found.detail) == ("ok", "")
    assert len(clips_of(found, good.plan)) == 3


def test_faults_outside_of_clips_are_notes_of_the_video() -> None:
    """Clips of [0, 1) and [1, 2) s: faults at 2.5 and 3 s lie in none, one at .5 s in the first, one without a time in all."""
    faults = [Fault("a", 0.5, "in"), Fault("a", 2.5, "out"), Fault("a", 3.0, "later"), Fault("b", math.nan, "all of it")]
    found = record(faults=faults)
    clips = clips_of(found, Plan({}, Said((0, 10), (10, 20)), {}))
    assert notes_of(found, clips) == ["odd", "a failed at 2.50 s: out (and 1 more)"]
    assert notes_of(found) == ["odd", "a failed at 0.50 s: in (and 2 more)", "b failed: all of it"]
    assert [errors_of(found, clip) for clip in clips] == ["a at 0.50 s: in; b: all of it", "b: all of it"]
    assert notes_of(replace(found, facts={"notes": ["of the file"]}, faults=())) == ["of the file"]


def test_copying_out_of_a_tar_is_noted(tmp_path: Path, video: Item, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces of a third of it, rounded up: three, between one note before them and one before the file is probed."""
    from relatum.video import source

    data = Path(video.path).read_bytes()
    (tmp_path / "all.tar").write_bytes(b"12345" + data)
    monkeypatch.setattr(source, "PIECE", -(-len(data) // 3))
    member = replace(video, path=str(tmp_path / "all.tar"), member=(5, len(data)))
    noted = notes_while(member, job_of(tmp_path))
    assert [frame for stage, frame in noted if stage == items.PROBE] == [0, 1, 2, 3, 0]
