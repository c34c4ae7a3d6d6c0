"""One video through a watched process: what a stage may do wrong costs the clip that it does it in."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import tomli_w

from relatum.curation.item import Item, Job
from relatum.curation.local import run_local
from relatum.curation.plan import plan_of
from relatum.curation.probe import probe
from relatum.curation.reading import clips_of, errors_of, facts_of
from relatum.curation.recipe import table_of
from relatum.curation.worker import NOTE
from support.curation import small_curation
from support.films import bars, film


def job_with(folder: Path, **mischief: Any) -> Job:
    def edit(table: dict[str, Any]) -> None:
        table["measure"]["mischief"] = mischief
        table["limits"] |= {"timeout": 3.0}

    recipe = small_curation(folder, edit=edit)
    return Job(recipe, plan_of(recipe), 3)


def item_of(path: Path) -> Item:
    return Item(hashlib.sha256(path.read_bytes()).hexdigest(), str(path))


@pytest.fixture
def videos(tmp_path: Path) -> list[Item]:
    """Three seconds of 64 x 48, and one second of 80 x 48."""
    long = film(tmp_path / "long.mp4", [bars(i) for i in range(75)])
    other = film(tmp_path / "other.mp4", [bars(i, width=80) for i in range(30)])
    return [item_of(long), item_of(other)]


def read(job: Job, item: Item) -> tuple[str, list[Any], list[str]]:
    record = job.store.read(item.content)
    assert record is not None
    clips = clips_of(record, job.plan)
    luma = [facts["mischief.luma"] for facts in facts_of(record, clips, job.plan)]
    return record.status, luma, [errors_of(record, clip) for clip in clips]


@pytest.mark.parametrize("does", ["raise", "abort", "hang", "eat"])
def test_a_stage_that_misbehaves_at_one_frame_costs_one_clip(tmp_path: Path, videos: list[Item], does: str) -> None:
    """Frame 30 of 25 a second lies in the second clip, [1 s, 2 s); the other clips and the other video keep their facts."""
    job = job_with(tmp_path, at=30, does=does)
    assert len(list(run_local(videos, job))) == 2
    status, luma, errors = read(job, videos[0])
    assert status == "ok"
    assert [value is None for value in luma] == [False, True, False]
    assert errors[0] == errors[2] == ""
    assert "mischief at 1.20 s" in errors[1]
    assert ("planted" in errors[1]) == (does == "raise")
    assert read(job, videos[1])[1][0] is not None


def test_what_was_measured_is_not_measured_again(tmp_path: Path, videos: list[Item]) -> None:
    job = job_with(tmp_path)
    first = {item.path: cost["spent"] for item, cost in run_local(videos, job)}
    assert all("decode" in spent for spent in first.values())
    again = [cost["spent"] for _, cost in run_local(videos, job)]
    assert again == [{}, {}]
    changed = job_with(tmp_path, rate=5.0)  # another track of the same measure
    assert all("decode" in cost["spent"] for _, cost in run_local(videos, changed))


def interruptible() -> None:
    """A shell that starts tests in the background has them ignore Ctrl-C, and what they start too."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize("whom", ["group", "alone"])
def test_an_interrupt_says_nothing_of_the_video(tmp_path: Path, videos: list[Item], whom: str) -> None:
    """Ctrl-C while a stage hangs: exit 130 at once, no process is left, and the stage is not blamed."""
    job = job_with(tmp_path, at=30, does="hang")
    table = {
        **table_of(job.recipe),
        "input": {"path": str(tmp_path / "long.mp4")},
        "limits": {"timeout": 300.0, "min_short_side": 16},
    }
    recipe = tmp_path / "small.toml"
    recipe.write_text(tomli_w.dumps(table))
    command = [sys.executable, "-m", "relatum", "curate", str(recipe)]
    process = subprocess.Popen(command, start_new_session=True, preexec_fn=interruptible)
    store, until = tmp_path / "run" / "store", time.monotonic() + 60
    try:
        while not any(NOTE.unpack(file.read_bytes())[1] == 30 for file in store.glob("scratch/note-*") if file.stat().st_size):
            assert time.monotonic() < until
            os.sched_yield()
        workers = psutil.Process(process.pid).children()
        assert workers
        if whom == "group":
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert not psutil.wait_procs(workers, 30)[1]
    finally:
        process.kill()
        process.wait()
    assert not list(store.glob("*/*.crashes.json"))


def test_a_process_that_cannot_be_helped_ends_the_video_not_the_run(
    tmp_path: Path, videos: list[Item], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies whenever it is to decode: after two attempts the video's status is "crash", with what was seen."""
    plugin = "import relatum.curation.item as item\nimport os\n\ndef probe(path, limits):\n    os.abort()\n\nitem.probe = probe\n"
    monkeypatch.setattr("relatum.curation.item.probe", probe)  # put back: the plug-in is imported here too
    recipe = small_curation(tmp_path, plugin=plugin, edit=lambda table: table["measure"].pop("mischief"))
    monkeypatch.undo()
    job = Job(recipe, plan_of(recipe), 3)
    list(run_local(videos[:1], job))
    record = job.store.read(videos[0].content)
    assert record is not None
    assert (record.status, record.reason) == ("crash", "crash")
    assert "tried 2 times" in record.detail
