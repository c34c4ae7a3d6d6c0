"""relatum curate from the command line: raw files in; a manifest, reasons, a report out, however often it is killed on the way."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as parquet
import pytest
import tomli_w

from relatum.cli import main
from support.bad_films import bad_films
from support.curation import MISCHIEF, OFF
from support.films import bars, film

# A keep that cannot judge.
NEVER = """
from dataclasses import dataclass
from relatum.core.errors import DataError
from relatum.core.registry import stage

@stage("never")
@dataclass
class Never:
    needs = ()

    def judge(self, table):
        raise DataError("planted")
"""
TABLES = ("sources", "videos", "clips", "captions", "decisions")


def table_of(run: Path, name: str) -> list[dict[str, Any]]:
    return parquet.read_table(run / f"{name}.parquet").to_pylist()


def digests(run: Path) -> dict[str, str]:
    """Of everything that says what was found, but for times."""
    return {name: hashlib.sha256((run / f"{name}.parquet").read_bytes()).hexdigest() for name in TABLES}


def run_of(folder: Path, name: str = "run") -> dict[str, Any]:
    return json.loads((folder / name / "run.json").read_text())


def said(*arguments: str) -> tuple[int, str]:
    """(exit code, what was printed)."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = main(["curate", *arguments])
    return code, out.getvalue()


def recipe(folder: Path, **tables: Any) -> Path:
    whole = {"name": "films", "input": {"path": "videos"}, "output_dir": str(folder / "run"), "engine": {"workers": 2}, **tables}
    path = folder / "films.toml"
    path.write_text(tomli_w.dumps(whole))
    return path


def scene(seed: int, seconds: float, still: bool = False) -> Iterator[np.ndarray]:
    """25 frames a second of 160 x 96: smooth shapes of a color of their own that drift by 4 pixels a frame."""
    random = np.random.default_rng(seed)
    color, phase = random.integers(60, 200, 3), random.uniform(0, 9, 3)
    y, x = np.mgrid[:96, :160]
    for i in range(round(25 * seconds)):
        at = 0 if still else 4 * i
        shape = np.sin((x + at) / 13 + phase[0]) + np.cos(y / 9 + phase[1]) + np.sin((x + y + at) / 23 + phase[2])
        yield (color + 20 * shape[..., None]).clip(0, 255).astype(np.uint8)


@pytest.fixture
def footage(tmp_path: Path) -> Path:
    """Two shots of 3 s each with a cut between; a copy of the first of them under another encoding; a still one; a caption."""
    (tmp_path / "videos").mkdir()
    first, second, third = ([*scene(seed, 3)] for seed in (1, 2, 3))
    film(tmp_path / "videos" / "two.mp4", [*first, *second])
    film(tmp_path / "videos" / "again.mp4", first, options={"crf": "24"})
    film(tmp_path / "videos" / "other.mkv", third)
    film(tmp_path / "videos" / "still.mp4", [*scene(4, 3, still=True)])
    (tmp_path / "videos" / "two.txt").write_text("waves of one color\n")
    return tmp_path


def test_footage_becomes_clips_with_reasons(footage: Path) -> None:
    path = recipe(footage)
    code, words = said(str(path))
    assert code == 0, words
    run = footage / "run"
    clips = table_of(run, "clips")
    name_of = {row["clip_id"]: Path(row["uri"]).name for row in clips}
    assert Counter(name_of.values()) == {"two.mp4": 2, "again.mp4": 1, "other.mkv": 1, "still.mp4": 1}
    two = sorted((row["start_s"], row["end_s"]) for row in clips if row["uri"].endswith("two.mp4"))
    assert two[0][1] <= 3.0 <= two[1][0]
    assert abs(two[0][1] - 3.0) < 0.1
    assert abs(two[1][0] - 3.0) < 0.1
    assert all(row["error"] == "" for row in clips)
    decided = {row["clip_id"]: row for row in table_of(run, "decisions")}
    dropped = {name_of[id]: row["reasons"] for id, row in decided.items() if not row["keep"]}
    assert set(dropped) == {"still.mp4", "again.mp4"} or set(dropped) == {"still.mp4", "two.mp4"}
    assert any(reason.startswith("motion: ") for reason in dropped["still.mp4"])
    twin = next(row for id, row in decided.items() if row["dup_of"])
    assert {name_of[twin["clip_id"]], name_of[twin["dup_of"]]} == {"two.mp4", "again.mp4"}
    assert {(row["kind"], row["text"]) for row in table_of(run, "captions")} == {("sidecar", "waves of one color")}
    page = (run / "report.html").read_text("utf-8")
    assert "two.mp4" in page
    assert "<script" not in page


def test_again_measures_nothing_and_retune_decides_anew(footage: Path) -> None:
    path = recipe(footage)
    said(str(path))
    before = digests(footage / "run")
    code, words = said(str(path))
    assert code == 0
    assert words.splitlines()[1] == "nothing has changed"
    assert words.splitlines()[2] == f"report: {footage / 'run' / 'report.html'}"
    (footage / "run" / "videos.parquet").unlink()
    code, words = said(str(path))
    assert code == 0
    assert "4 videos measured already, 0 to measure" in words
    assert digests(footage / "run") == before
    code, words = said(str(path), "--retune", "-o", "keep.motion.at_least=100.0")
    assert code == 0
    assert words.startswith("0 of 5 clips are kept")
    assert "keep.motion.at_least (motion.mean)" in words
    after = digests(footage / "run")
    assert {name for name in after if after[name] != before[name]} == {"decisions"}
    resolved = tomllib.loads((footage / "run" / "curation.resolved.toml").read_text())
    assert resolved["keep"]["motion"]["at_least"] == 100.0
    assert run_of(footage)["counts"]["kept"] == 0
    clip = table_of(footage / "run", "clips")[0]["clip_id"]
    code, words = said(str(path), "--explain", clip[:10])
    assert code == 0
    assert "dropped: " in words
    assert "motion.mean: " in words
    assert said(str(path), "--status")[1].splitlines()[0] == "sources: 4"
    assert "nothing has changed" not in said(str(path))[1]
    assert digests(footage / "run") == before
    (footage / "videos" / "two.txt").write_text("other waves\n")
    assert "nothing has changed" not in said(str(path))[1]
    assert {row["text"] for row in table_of(footage / "run", "captions")} == {"other waves"}


def test_what_a_run_was_made_of_is_told_however_it_ends(footage: Path) -> None:
    """A keep that finds no facts ends the run after the tables are written; costs of runs before it stay."""
    path = recipe(footage, preset="off")
    code, words = said(str(path), "--retune")
    assert code == 3
    assert "nothing is measured there yet: run relatum curate" in words
    assert not (footage / "run").exists()
    assert said(str(path))[0] == 0
    whole = run_of(footage)
    assert whole["complete"]
    assert whole["schema_version"] == 1
    assert whole["counts"] == {
        **{"sources": {"ok": 4}, "videos": {"ok": 4}, "clips": 5, "kept": 5, "dropped": {}},
        "captions": 2,
    }
    assert whole["throughput"]["videos"] == 4
    assert whole["spent"]["motion"][1] == 4
    assert {"av", "libavcodec", "ffmpeg", "cv2", "scenedetect", "numpy", "relatum", "python"} <= set(whole["versions"])
    assert set(whole["keys"]["measure"]) == {"cuts", "motion", "text", "picture", "frozen", "hash"}
    bad = recipe(footage, preset="off", plugins=["stages.py"], keep={"never": {"kind": "never"}})
    (footage / "stages.py").write_text(NEVER)
    code, words = said(str(bad))
    assert code == 3
    assert "planted" in words
    ended = run_of(footage)
    assert not ended["complete"]
    assert ended["config"] != whole["config"]
    assert ended["spent"] == whole["spent"]
    assert ended["counts"]["clips"] == 5
    assert not [name for name in ("report.html", "decisions.parquet", "decision.json") if (footage / "run" / name).exists()]
    code, words = said(str(bad), "--status")
    assert code == 0
    assert "nothing is decided: " in words


def test_shards_of_a_job_array_make_the_same_run(footage: Path) -> None:
    path = recipe(footage)
    said(str(path))
    whole = digests(footage / "run")
    apart = recipe(footage, output_dir=str(footage / "apart"))
    told = [said(str(apart), "--shard", part) for part in ("0/2", "1/2")]
    assert [code for code, _ in told] == [0, 0]
    assert sum(int(words.split()[0]) for _, words in told) == 4
    assert not (footage / "apart" / "clips.parquet").exists()
    hashed = [key for file in (footage / "apart").glob("hashes-*-of-2.json") for key in json.loads(file.read_text())]
    assert len(hashed) == len(set(hashed))
    _, words = said(str(apart))
    assert "4 videos measured already, 0 to measure" in words
    assert digests(footage / "apart") == whole
    assert run_of(footage, "apart")["spent"]["motion"][1] == 4
    assert not list((footage / "apart").glob("run-*.json"))


def test_killed_at_any_moment_it_ends_as_if_it_had_not_been(footage: Path) -> None:
    """SIGKILL to the driving process after 0, 1, 2 and 3 of the videos are there, then the same command to its end."""
    whole = recipe(footage)
    said(str(whole))
    expected = digests(footage / "run")
    killed = recipe(footage, output_dir=str(footage / "killed"), engine={"workers": 1})
    for count in (0, 1, 2, 3):
        process = subprocess.Popen([sys.executable, "-m", "relatum", "curate", str(killed)], stdout=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while len(list((footage / "killed" / "store").glob("??/*[0-9a-f].safetensors"))) < count + 1 and process.poll() is None:
            assert time.monotonic() < until
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
        told = footage / "killed" / "run.json"
        assert not told.exists() or process.returncode == 0 or not json.loads(told.read_text())["complete"]
    code, words = said(str(killed))
    assert code == 0, words
    assert digests(footage / "killed") == expected
    ids = [row["clip_id"] for row in table_of(footage / "killed", "clips")]
    assert len(ids) == len(set(ids)) == 5


def test_bad_files_are_all_listed_and_none_is_fatal(tmp_path: Path) -> None:
    """Every file of the corpus ends as it must; good ones among them are measured; names with HTML are harmless on the page."""
    expected = bad_films(tmp_path / "videos")
    path = recipe(tmp_path, limits={"timeout": 60.0})
    code, words = said(str(path))
    assert code == 3
    assert "inputs are bad, more than limits.max_bad = 0.01" in words
    assert "everything else is written" in words
    assert said(str(path), "-o", "limits.max_bad=1.0")[0] == 0
    sources = {row["uri"]: row for row in table_of(tmp_path / "run", "sources")}
    videos = {row["video_id"]: row for row in table_of(tmp_path / "run", "videos")}
    wrong = {}
    for uri, how in expected.items():
        source = next((row for name, row in sources.items() if name.endswith(uri.partition("/")[2])), None)
        if source is None:
            wrong[uri] = "is not listed"
            continue
        video = videos.get(source["content"])
        found = video if video is not None and source["status"] == "ok" else source
        if (found["status"], found["reason"]) != (how.status, how.reason):
            wrong[uri] = (found["status"], found["reason"], found["detail"], how)
    assert not wrong
    assert len(sources) == len(expected)
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "<img src=x" not in page


def test_a_planted_crash_loses_one_clip_of_one_video(tmp_path: Path) -> None:
    """The process is ended by a stage at frame 30 of the only video that is 80 wide: its second clip of three has an error."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "stages.py").write_text(MISCHIEF)
    film(tmp_path / "videos" / "a.mp4", [bars(i, 72, 80) for i in range(75)])
    film(tmp_path / "videos" / "b.mp4", [bars(i, 72, 96) for i in range(75)])
    measure = {**OFF, "mischief": {"at": 30, "does": "abort", "width": 80}}
    path = recipe(tmp_path, plugins=["stages.py"], measure=measure, split={"kind": "fixed", "seconds": 1.0}, preset="off")
    code, words = said(str(path))
    assert code == 0, words
    clips = sorted(table_of(tmp_path / "run", "clips"), key=lambda row: (row["uri"], row["start_s"]))
    assert [bool(row["error"]) for row in clips] == [False, True, False, False, False, False]
    assert [row["mischief.luma"] is None for row in clips] == [False, True, False, False, False, False]
    dropped = [row for row in table_of(tmp_path / "run", "decisions") if not row["keep"]]
    assert len(dropped) == 1
    assert dropped[0]["reasons"][0].startswith("error: mischief at 1.20 s")


# A measure whose facts, and a split whose clips, go wrong for some videos.
AFTERWARDS = """
from dataclasses import dataclass

import numpy as np

from relatum.core.registry import stage
from relatum.curation.stages.shots import Shots


@stage("later")
@dataclass
class Later:
    version = 1
    writes = ("start",)
    cheap = ()
    rate: float = 1.0

    def watch(self, video):
        return self

    def see(self, frame):
        pass

    def track(self):
        return {"time": np.zeros(0)}

    def facts(self, track, clip):
        if clip.start > 1:
            raise ArithmeticError("planted")
        return {"start": clip.start}


@stage("twice")
@dataclass
class Twice:
    def clips(self, video, tracks):
        found = Shots().clips(video, tracks)
        if len(found) == 2:
            raise LookupError("no third")
        return found
"""


def test_what_goes_wrong_after_the_pass_costs_a_clip_or_a_video(footage: Path) -> None:
    """Facts of the clip that starts at 3 s raise; then a split raises of the only video that has two shots."""
    (footage / "stages.py").write_text(AFTERWARDS)
    about = {"plugins": ["stages.py"], "measure": {"later": {}}, "limits": {"max_bad": 1.0}}
    code, words = said(str(recipe(footage, **about)))
    assert code == 0, words
    clips = table_of(footage / "run", "clips")
    assert [(row["error"], row["later.start"]) for row in clips if row["start_s"] > 1] == [
        ("later: ArithmeticError: planted", None)
    ]
    assert [row["later.start"] for row in clips if row["start_s"] < 1] == [0.0] * 4
    code, words = said(str(recipe(footage, **about, split={"kind": "twice"})))
    assert code == 0, words
    videos = {Path(row["uri"]).name: row for row in table_of(footage / "run", "videos")}
    assert {name: (row["status"], row["reason"]) for name, row in videos.items()} == {
        **dict.fromkeys(("again.mp4", "other.mkv", "still.mp4"), ("ok", "")),
        "two.mp4": ("error", "split_failed"),
    }
    assert "LookupError: no third" in videos["two.mp4"]["detail"]
    assert len(table_of(footage / "run", "clips")) == 3


def test_a_stage_that_fails_outside_of_all_clips_is_told(tmp_path: Path) -> None:
    """At frame 60 of 25 a second, where the only clip is [0, 1)."""
    (tmp_path / "videos").mkdir()
    (tmp_path / "stages.py").write_text(MISCHIEF)
    film(tmp_path / "videos" / "a.mp4", [bars(i, 72, 80) for i in range(75)])
    measure = {**OFF, "mischief": {"at": 60, "width": 80}}
    split = {"kind": "fixed", "seconds": 1.0, "every": 5.0}
    code, words = said(str(recipe(tmp_path, plugins=["stages.py"], measure=measure, split=split, preset="off")))
    assert code == 0, words
    (clip,) = table_of(tmp_path / "run", "clips")
    assert clip["error"] == ""
    (video,) = table_of(tmp_path / "run", "videos")
    assert video["notes"] == ["mischief failed at 2.40 s: ArithmeticError: planted"]
    assert "mischief failed at 2.40 s" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"input": {"path": "nowhere"}}, "nowhere"),
        ({"measure": {"motoin": {}}}, "did you mean 'motion'"),
        ({"keep": {"speed": {"fact": "motion.maen", "at_least": 1.0}}}, "motion.maen"),
        ({"split": {"kind": "motion"}}, "is not what [split] takes"),
        ({"limits": {"max_lost": 2.0}}, "max_lost"),
        ({"preset": "svt"}, "did you mean 'svd'"),
        ({"look": {"motion": {"kind": "clip_score", "model": "clip"}}}, "a measure has that name already"),
    ],
)
def test_a_wrong_recipe_is_told_before_anything_is_decoded(footage: Path, tables: dict[str, Any], words: str) -> None:
    code, out = said(str(recipe(footage, **tables)))
    assert code in (2, 3)
    assert words in out
    assert not (footage / "run" / "clips.parquet").exists()


def test_two_processes_do_not_share_a_run(footage: Path) -> None:
    import fcntl

    path = recipe(footage)
    (footage / "run").mkdir()
    with (footage / "run" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, out = said(str(path))
    assert code == 3
    assert "another process works on this curation" in out


@pytest.mark.parametrize(
    ("held", "asked", "free"),
    [
        ([(".lock", "EX")], ["--shard", "0/2"], False),
        ([(".lock", "SH"), (".lock-0-of-2", "EX")], ["--shard", "0/2"], False),
        ([(".lock", "SH"), (".lock-0-of-2", "EX")], ["--shard", "1/2"], True),
        ([(".lock", "SH"), (".lock-0-of-2", "EX")], [], False),
    ],
)
def test_shards_work_beside_each_other_and_not_beside_the_whole(
    tmp_path: Path, held: list[tuple[str, str]], asked: list[str], free: bool
) -> None:
    import fcntl

    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / "no.mp4").write_text("no video")
    path = recipe(tmp_path, limits={"max_bad": 1.0})
    (tmp_path / "run").mkdir()
    with contextlib.ExitStack() as stack:
        for name, how in held:
            fcntl.flock(stack.enter_context((tmp_path / "run" / name).open("a+")), getattr(fcntl, f"LOCK_{how}"))
        assert (said(str(path), *asked)[0] == 0) == free


# A look whose answers hang on the batch that it is shown, and on a file that it opens by a relative path.
TOGETHER = """
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from relatum.core.registry import stage


@stage("together")
@dataclass
class Together:
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("text",)
    model: str
    stills: int = 1
    batch_size: int = 2

    def open(self, device):
        self.words = Path(self.model).read_text()

    def identity(self):
        return self.words

    def __call__(self, clips):
        return [{"text": f"{self.words} {i} of {len(clips)}, {clip.stills[0].mean():.6f}"} for i, clip in enumerate(clips)]
"""

# Ray is started in one folder, and the curation runs in another.
ELSEWHERE = """
import os, sys
import ray
ray.init(include_dashboard=False, log_to_driver=False, num_cpus=2)
os.chdir(sys.argv[1])
from relatum.cli import main
sys.exit(main(["curate", *sys.argv[2:]]))
"""


def test_the_same_on_ray(footage: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same manifest, byte for byte, from actors that were started in another folder than the one that paths are relative to."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'relatum[ray]'")
    (footage / "stages.py").write_text(TOGETHER)
    (footage / "here").mkdir()
    (footage / "there").mkdir()
    (footage / "here" / "model.txt").write_text("clip")
    monkeypatch.chdir(footage / "here")
    about = {"plugins": ["stages.py"], "look": {"together": {"model": "model.txt"}}}
    code, words = said(str(recipe(footage, **about)))
    assert code == 0, words
    path = recipe(footage, **about, engine={"kind": "ray", "workers": 2}, output_dir="runs/ray")
    done = subprocess.run(
        [sys.executable, "-c", ELSEWHERE, str(footage / "here"), str(path)],
        cwd=footage / "there",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr
    assert digests(footage / "here" / "runs" / "ray") == digests(footage / "run")
    assert not list((footage / "there").iterdir())
    wrote = [row for row in table_of(footage / "run", "captions") if row["kind"] == "together"]
    batches = Counter(row["text"].partition(",")[0] for row in wrote)
    assert batches == {"clip 0 of 2": 2, "clip 1 of 2": 2, "clip 0 of 1": 1}  # five clips of four videos
    assert len({row["identity"] for row in wrote}) == 1
    assert len(wrote[0]["identity"]) == 16


def test_a_video_that_is_replaced_meanwhile_is_not_stored_under_its_old_content(footage: Path) -> None:
    """A stage overwrites the file while it is watched: the video's facts would be those of another one."""
    victim = footage / "videos" / "other.mkv"
    plugin = f"""
import shutil
from relatum.curation.item import measure
import relatum.curation.item as item

def swapped(found, *about):
    if found.path.endswith("other.mkv"):
        shutil.copy({str(footage / "videos" / "still.mp4")!r}, found.path)
    return measure(found, *about)

item.measure = swapped
"""
    (footage / "swap.py").write_text(plugin)
    before = victim.read_bytes()
    code, words = said(str(recipe(footage, plugins=["swap.py"])))
    assert code == 3
    assert "was changed while it was measured" in "".join(row["detail"] for row in table_of(footage / "run", "videos")), words
    victim.write_bytes(before)
    assert said(str(recipe(footage)))[0] == 0
    assert all(row["status"] == "ok" for row in table_of(footage / "run", "videos"))


def test_a_crash_is_forgotten_when_the_stage_is_another(footage: Path) -> None:
    (footage / "stages.py").write_text(MISCHIEF.replace("return Watch(self)", "os._exit(1)"))
    table = {"plugins": ["stages.py"], "measure": {**OFF, "mischief": {}}, "split": {"kind": "whole"}, "preset": "off"}
    command = [sys.executable, "-m", "relatum", "curate", str(recipe(footage, **table))]  # plug-ins stay in a process
    assert subprocess.run(command, capture_output=True, check=False).returncode == 3
    assert {row["status"] for row in table_of(footage / "run", "videos")} == {"crash"}
    (footage / "stages.py").write_text(MISCHIEF.replace("version = 1", "version = 2"))
    again = subprocess.run(command, capture_output=True, check=False)
    assert again.returncode == 0, again.stderr
    assert {row["status"] for row in table_of(footage / "run", "videos")} == {"ok"}


def test_the_toy_world_as_raw_footage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example's first two films, by the shipped recipe: four shots of 4 s each, of which the one that stands still falls."""
    example = Path(__file__).parents[2] / "examples" / "make_footage.py"
    done = subprocess.run([sys.executable, str(example), str(tmp_path / "films"), "--films", "2"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    monkeypatch.chdir(tmp_path)
    code, words = said("footage", "-o", "input.path=films", "-o", "output.pairs.size=32")
    assert code == 0, words
    run = tmp_path / "runs" / "footage"
    clips = {row["clip_id"]: row for row in table_of(run, "clips")}
    assert Counter(Path(row["uri"]).name for row in clips.values()) == {"000-none.mp4": 4, "001-still.mp4": 4}
    assert all(abs(row["end_s"] - row["start_s"] - 4) < 0.2 for row in clips.values())
    dropped = [clips[row["clip_id"]] for row in table_of(run, "decisions") if not row["keep"]]
    assert [(Path(row["uri"]).name, round(row["start_s"])) for row in dropped] == [("001-still.mp4", 4)]
    assert any((run / "exports" / "pairs").glob("*.tar"))
