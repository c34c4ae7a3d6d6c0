"""Run folders, files and words that somebody broke: each ends in one message that says what to do, and nothing is lost."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from relatum.atomic import remove_stale
from relatum.cli import main
from relatum.core.errors import DataError, Diverged
from relatum.engine.checkpoint import TrainerState, latest, pointed, problem_of, read_state, write_checkpoint, write_state
from relatum.engine.journal import Journal, read_journal
from relatum.engine.lock import locked
from relatum.engine.snapshot import require_finite
from relatum.models.tiny import tiny_stable_diffusion
from support.runs import tiny_recipe

GONE = 99999999  # no process has this number
DEEP = "[" * 200_000


def fill(folder: Path) -> None:
    (folder / "weights.safetensors").write_bytes(b"12345678")


def test_other_bytes_of_the_same_size_are_not_resumed(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, fill, limit=None)
    damaged = write_checkpoint(tmp_path, 2, fill, limit=None)
    (damaged / "weights.safetensors").write_bytes(b"12345679")
    with pytest.warns(UserWarning, match=r"weights.safetensors holds other bytes than were written\); checkpoint-1 is used"):
        found = latest(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-1"


def test_a_renamed_checkpoint_is_refused(tmp_path: Path) -> None:
    written = write_checkpoint(tmp_path, 4, lambda folder: write_state(folder, TrainerState(4, 16, 0, "a")), limit=None)
    assert read_state(written).step == 4
    renamed = written.rename(written.with_name("checkpoint-9"))
    assert problem_of(renamed) == "complete.json is of step 4"
    with pytest.raises(DataError, match="it says step 4"):
        read_state(renamed)


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "3",
        '{"step": 1}',
        '{"step": 1, "files": [1]}',
        '{"step": "1", "files": {}}',
        '{"step": 1, "files": {"a": "b"}}',
        DEEP,
        '{"step": 1, "files": {"../x": 1}}',
        '{"step": 1, "files": {"/etc/passwd": 1}}',
        '{"step": 1, "files": {}, "sha256": {"a": 1}}',
    ],
)
def test_a_list_of_files_that_is_none_is_a_problem(tmp_path: Path, text: str) -> None:
    written = write_checkpoint(tmp_path, 1, fill, limit=None)
    (written / "complete.json").write_text(text)
    assert str(problem_of(written)).startswith("it cannot be read")
    with pytest.raises(DataError, match="not whole"):
        latest(tmp_path)


@pytest.mark.parametrize("content", [b"\xff\xfe", b"../../elsewhere", b"", b"checkpoint-1/../..", b"checkpoint-\xc2\xb2"])
def test_a_pointer_that_names_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    write_checkpoint(tmp_path, 1, fill, limit=None, best=True)
    for name in ("latest", "best"):
        (tmp_path / "checkpoints" / name).write_bytes(content)
        with pytest.raises(DataError, match=f"checkpoints/{name}: expected the name of a checkpoint"):
            pointed(tmp_path, name)  # type: ignore[arg-type]
        (tmp_path / "checkpoints" / name).unlink()
    assert latest(tmp_path) == tmp_path / "checkpoints" / "checkpoint-1"


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    names = [f".checkpoint-1.tmp-{os.getppid()}", f".checkpoint-2.tmp-{GONE}", f".checkpoint-3.old-{GONE}", ".x.tmp-9" + "9" * 30]
    for name in names:
        (tmp_path / name).mkdir()
    remove_stale(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == names[:1]


@pytest.mark.parametrize("line", [b'{"step": "3"}', b'{"step": true}', b'{"step": 1.5}', b"[]", b"\xff\xff", DEEP.encode()])
def test_a_diary_with_a_line_that_is_none_names_the_line(tmp_path: Path, line: bytes) -> None:
    with Journal(tmp_path) as journal:
        journal.record(1, {"total": 2.0})
    with (tmp_path / "metrics.jsonl").open("ab") as file:
        file.write(line + b'\n{"step": 2}\n')
    with pytest.raises(DataError, match=r"metrics.jsonl:2: not a record with a step .* delete the line"):
        read_journal(tmp_path)


def test_weights_that_are_not_finite_are_named() -> None:
    network = nn.Linear(2, 2)
    require_finite(network, "final")
    with torch.no_grad():
        network.bias[1] = torch.inf
    with pytest.raises(Diverged, match="final: not written, 1 of 2 weights are not finite, first bias"):
        require_finite(network, "final")


def test_a_folder_has_one_process(tmp_path: Path) -> None:
    run = tmp_path / "run"
    with locked(run):
        with pytest.raises(DataError, match=f"another process trains in {run}"), locked(run):
            pass
        assert (run / ".lock").is_file()
    assert not run.exists()
    with locked(run):
        (run / "kept").write_text("x")
    assert [path.name for path in run.iterdir()] == ["kept"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recipe, its finished run of one step, and its edits."""
    base = tmp_path_factory.mktemp("base") / "tiny"
    tiny_stable_diffusion().save_pipeline(base)
    home = tmp_path_factory.mktemp("home")
    recipe = tiny_recipe(home, base, home / "cache", train={"max_train_steps": 1}, evaluate={"rows": 2, "metrics": ["psnr"]})
    assert main(["train", str(recipe)]) == 0
    assert main(["evaluate", str(recipe)]) == 0
    return recipe


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the finished run; its recipe lies beside it."""
    home = tmp_path / "home"
    shutil.copytree(trained.parent, home)
    recipe = home / trained.name
    recipe.write_text(recipe.read_text().replace(str(trained.parent), str(home)))
    return recipe.with_suffix("")


def said(words: list[Any], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    return main([str(word) for word in words]), capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"signature": 1, "steps": "1"}', '{"signature": "x", "odd": 1}', DEEP, "\x00"])
def test_a_broken_end_of_a_run_says_what_to_delete(run: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "done.json").write_text(text)
    code, words = said(["train", run.with_suffix(".toml")], capsys)
    assert code == 3
    assert f"delete {run / 'done.json'}; relatum train then goes on from its last checkpoint" in words


def test_a_run_that_another_process_trains_is_left_alone(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (run / "done.json").unlink()
    with locked(run):
        code, words = said(["train", run.with_suffix(".toml")], capsys)
    assert (code, "another process trains in" in words) == (3, True)
    assert not (run / "done.json").exists()
    assert main(["train", str(run.with_suffix(".toml"))]) == 0
    assert not (run / ".lock").exists()


def test_a_run_that_ends_in_infinity_leaves_no_model(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def explode(loop: Any) -> None:
        with torch.no_grad():
            loop.parameters[0].fill_(torch.inf)

    shutil.rmtree(run)
    monkeypatch.setattr("relatum.engine.train._Loop._apply", explode)
    code, words = said(["train", run.with_suffix(".toml")], capsys)
    assert code == 4
    assert "weights are not finite" in words
    assert not (run / "final").exists()
    assert latest(run) is None


def test_damaged_edits_say_which_folder_is_made_again(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (picture,) = (run / "made").glob("*/000001.png")
    whole, recipe = picture.read_bytes(), run.with_suffix(".toml")
    for data in (b"", whole[:40], None, other_size()):
        picture.unlink(missing_ok=True)
        if data is not None:
            picture.write_bytes(data)
        code, words = said(["evaluate", recipe], capsys)
        assert code == 3
        assert f"delete {picture.parent}, it is made again" in words
    shutil.rmtree(picture.parent)
    assert main(["evaluate", str(recipe)]) == 0
    assert picture.read_bytes() == whole


def other_size() -> bytes:
    from relatum.imaging import png_bytes

    return png_bytes(torch.zeros(3, 17, 16))


def test_a_folder_that_cannot_be_made_and_a_cache_that_is_none_are_said(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe, file = run.with_suffix(".toml"), run / "README.md"
    code, words = said(["train", recipe, "-o", f'output_dir="{file / "under"}"'], capsys)
    assert code == 3
    assert f"{file / 'under'}: cannot be written (Not a directory)" in words
    for place, what in ((file, "is a file, no folder"), (run / "none", "no such folder")):
        code, words = said(["cache", recipe, "--action", "verify", "-o", f'cache_dir="{place}"'], capsys)
        assert (code, f"{place}: " in words, what in words) == (3, True, True)


def test_what_the_system_refuses_is_a_message(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "some/file")

    monkeypatch.setattr("relatum.cli.recipes._doctor", refuse)
    assert said(["doctor"], capsys) == (
        3,
        "relatum doctor: some/file: Permission denied; choose another file or folder, or change this one\n",
    )


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("c.json", '{"a": "x", "a": "y"}', "two captions for 'a'"),
        ("c.json", '{"a": null}', "the caption of 'a' is no text: None"),
        ("c.json", '{"a": "\\ud800"}', "is no text"),
        ("c.json", "[1]", "expected {stem: caption}"),
        ("c.json", DEEP, "expected {stem: caption}"),
        ("c.jsonl", '{"file_name": "a.png", "text": 3}', "is no text: 3"),
        ("c.jsonl", '{"file_name": "a.png", "text": "x"}\n{"file_name": "a.jpg", "text": "y"}', "two captions for 'a'"),
        ("c.jsonl", '{"file_name": 3, "text": "x"}', "expected {stem: caption}"),
    ],
)
def test_captions_are_texts(tmp_path: Path, name: str, text: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / name).write_text(text)
    code, words = said(["evaluate", "--generated", tmp_path, "--captions", tmp_path / name, "--clip", "clip"], capsys)
    assert (code, expected in words) == (3, True), words


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate", "demo", "--target", "t"], "takes no --target"),
        (["evaluate", "demo", "--unpaired", "--extractor", "randconv"], "takes no --extractor, --unpaired"),
        (["evaluate", "--generated", "g", "-o", "seed=1"], "takes no -o"),
        (["evaluate", "--generated", "g", "--captions", "c.json"], "captions need --clip clip"),
        (["evaluate", "--generated", "g", "--clip", "clip"], "--clip needs --captions"),
        (["edit", "m", "--image", "i.png", "--instruction", "x", "--resolution", "0"], "resolution is 0, expected 8 to 4096"),
        (["edit", "m", "--image", "i.png", "--instruction", "x", "--resolution", "5000"], "resolution is 5000"),
        (["edit", "m", "--image", "i.png", "--instruction", "a\udcff"], "no valid text at character 2"),
    ],
)
def test_words_that_would_be_ignored_are_refused(words: list[str], expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, message = said(words, capsys)
    assert (code, expected in message) == (2, True), message
