"""What the tables of a curation say of splits, models, and files; what actors do with a row that fails."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from relatum.core.draws import key_of
from relatum.curation.asking import VIDEOS, chunks_of
from relatum.curation.item import Item, Job, measure
from relatum.curation.manifest import Input, part_of, read_columns, split_of, write_manifest
from relatum.curation.on_ray import Actor, blocks_of
from relatum.curation.plan import plan_of
from relatum.curation.probe import probe
from relatum.curation.recipe import table_of
from relatum.curation.settings import Limits
from relatum.curation.store import Record
from support.curation import small_curation
from support.films import bars, film


@pytest.fixture
def job(tmp_path: Path) -> Job:
    recipe = small_curation(tmp_path)
    return Job(recipe, plan_of(recipe), 3)


def test_a_group_is_of_one_split_and_two_in_a_hundred_are_held_out() -> None:
    """Of 20,000 groups 1 % is 200, and the deviation of such a count 14; a reader that holds out .02 holds out just these."""
    parts = {f"group {i}": part_of(f"group {i}") for i in range(20000)}
    counts = Counter(parts.values())
    assert abs(counts["test"] - 200) < 60
    assert abs(counts["validation"] - 200) < 60
    assert {group for group in parts if key_of(0, "split", group) / 2**63 < 0.02} == {g for g in parts if parts[g] != "train"}


def test_all_clips_of_a_group_stand_in_its_split(job: Job, tmp_path: Path) -> None:
    """Two videos of one group; one of its own, whose split is that of its content."""
    inputs = []
    for number, group in enumerate(("tape", "tape", "")):
        path = film(tmp_path / f"{number}.mp4", [bars(i + 7 * number) for i in range(30)])
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        measure(Item(content, str(path)), job, lambda stage, frame: None)
        inputs.append(Input(path.name, content, "ok", group=group))
    write_manifest(tmp_path / "run", inputs, job.plan, job.store, lambda content: {})
    clips = read_columns(tmp_path / "run" / "clips.parquet")
    want = {"0.mp4": part_of("tape"), "1.mp4": part_of("tape"), "2.mp4": part_of(inputs[2].content)}
    assert dict(zip(clips["uri"], clips["split"], strict=True)) == want
    videos = read_columns(tmp_path / "run" / "videos.parquet")
    assert {"sar", "color_space", "start_pts", "max_gop_s", "has_audio"} <= set(videos)
    assert set(videos["has_audio"]) == {False}


def test_what_a_file_says_of_its_pixels_and_keyframes(tmp_path: Path) -> None:
    """40 frames at 25 a second, a keyframe every 12: 0, 12, 24 and 36, so .48 s at most; then 4 frames to the end."""
    path = film(tmp_path / "a.mp4", [bars(i) for i in range(40)])
    timeline, facts = probe(path, Limits(min_short_side=16))
    assert timeline.keyframes == (0, 12, 24, 36)
    assert facts["max_gop_s"] == pytest.approx(0.48)
    assert facts["start_pts"] == timeline.stamps[0]
    assert facts["sar"] in ("", "1:1")
    assert facts["color_space"] == ""


def test_a_split_that_fails_is_told_in_words(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = film(tmp_path / "a.mp4", [bars(i) for i in range(60)])
    item = Item(hashlib.sha256(path.read_bytes()).hexdigest(), str(path))
    measure(item, job, lambda stage, frame: None)
    record = job.store.read(item.content)
    assert record is not None
    clips, fault = split_of(record, job.plan)
    assert (len(clips), fault) == (2, "")
    for wrong in (clips[::-1], [clips[0], clips[0]]):
        monkeypatch.setattr(type(job.plan.split), "clips", lambda *_, found=wrong: found)
        found, words = split_of(record, job.plan)
        assert found == []
        assert "do not overlap" in words


class _Halves(Actor):
    def open(self) -> None:
        self.opened = True

    def done(self, row: Any) -> Any:
        return 10 // row


def test_a_row_that_fails_costs_no_other(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And an actor works where the recipe was started, if it has that folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "from").mkdir()
    actor = _Halves(table_of(job.recipe), str(tmp_path), 3, str(tmp_path / "from"))
    assert Path.cwd() == tmp_path / "from"
    answers = [json.loads(actor({"row": json.dumps(row)})["row"]) for row in (5, 0, 2)]
    assert answers[0::2] == [{"answer": 2}, {"answer": 5}]
    assert answers[1]["error"].startswith("ZeroDivisionError: ")
    _Halves(table_of(job.recipe), str(tmp_path), 3, str(tmp_path / "gone"))
    assert Path.cwd() == tmp_path / "from"


class _Unopened(Actor):
    def open(self) -> None:
        raise LookupError("no model")

    def done(self, row: Any) -> Any:
        return row


def test_an_actor_that_cannot_begin_says_so_of_each_row(job: Job, tmp_path: Path) -> None:
    actor = _Unopened(table_of(job.recipe), str(tmp_path), 3, str(Path.cwd()))
    assert json.loads(actor({"row": "5"})["row"]) == {"error": "LookupError: no model"}


@pytest.mark.parametrize(("rows", "actors", "blocks"), [(1, 8, 1), (20, 2, 20), (100, 2, 32), (6400, 2, 100), (10**6, 4, 15625)])
def test_few_rows_keep_all_actors_busy_and_many_make_few_blocks(rows: int, actors: int, blocks: int) -> None:
    assert blocks_of(rows, actors) == blocks


def test_chunks_are_of_so_much_video_in_the_order_of_contents(job: Job) -> None:
    """Videos of 200 s: two make 300 s or more. One that failed counts nothing. 64 short ones are a chunk of their own."""
    for number in range(5):
        job.store.write(Record(f"{number:064x}", "reject" if number == 1 else "ok", facts={"duration_s": 200.0}))
    texts = {f"{number:064x}": {} for number in (3, 1, 4, 0, 2)}
    assert [[int(content, 16) for content in chunk] for chunk in chunks_of(texts, job)] == [[0, 1, 2], [3, 4]]
    many = {f"{number:064x}": {} for number in range(100, 100 + VIDEOS + 1)}
    assert [len(chunk) for chunk in chunks_of(many, job)] == [VIDEOS, 1]
