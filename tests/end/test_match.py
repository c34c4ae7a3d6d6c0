"""`relatum match`: benchmarks and folders through the command line, gone on with, and what it says of bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from relatum.cli import main
from relatum.engine.match import DiffusionScorer

ODD = "<b>🐈</b> " + 400 * "word "


@pytest.fixture
def pipeline(tiny_image: Path) -> str:
    return str(tiny_image)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for i, value in enumerate(np.random.default_rng(0).integers(0, 255, (3, 20, 24, 3))):
        Image.fromarray(value.astype(np.uint8)).save(folder / f"{i}.png")
    return folder


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many pairs the scorer was asked for, call by call."""
    counted: list[int] = []
    errors = DiffusionScorer.errors

    def count(self: DiffusionScorer, images: object, texts: object, pairs: object, *more: object) -> object:
        counted.append(len(pairs))  # type: ignore[arg-type]
        return errors(self, images, texts, pairs, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(DiffusionScorer, "errors", count)
    return counted


def test_a_benchmark_is_put_and_gone_on_with(
    pipeline: str, tmp_path: Path, calls: list[int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three items of 2 x 2 pairs and 2 empty texts, 2 levels: 36 evaluations. First with a limit of one, then all: two are new."""
    monkeypatch.chdir(tmp_path)
    words = ["match", pipeline, "--benchmark", "winoworld", "-o", "count=3", "--levels", "2", "--resolution", "16"]
    assert main([*words, "--limit", "1"]) == 0
    assert calls == [4, 2]
    assert main(words) == 0
    assert calls == [4, 2] * 3
    said = capsys.readouterr().out.splitlines()
    assert "3 items, 36 network evaluations" in said
    (store,) = (tmp_path / "runs" / "match").glob("*.jsonl")
    lines = [json.loads(line) for line in store.read_text().splitlines()]
    assert [line["tag"] for line in lines] == ["binding", "relation", "order"]
    assert len(lines[0]["errors"]) == len(lines[0]["errors"][0]) == len(lines[0]["null"]) == 2
    assert said[-1] == str(store.relative_to(tmp_path))
    assert main([*words, "--seed", "1"]) == 0
    assert len([*(tmp_path / "runs" / "match").glob("*.jsonl")]) == 2
    assert main([*words, "--seed", "1", "--output", str(store)]) == 2
    assert "holds results of another model" in capsys.readouterr().err


def test_any_images_and_captions(
    pipeline: str, images: Path, tmp_path: Path, calls: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    captions, output = tmp_path / "captions.txt", tmp_path / "scores.csv"
    captions.write_text('a "red", ring\n\na star\n')
    words = ["match", pipeline, "--images", str(images), "--captions", str(captions), "--text", ODD, "--levels", "2"]
    assert main([*words, "--output", str(output)]) == 0
    rows = [*csv.DictReader(output.read_text().splitlines())]
    assert [(row["image"], row["text"]) for row in rows[2:4]] == [("0", ODD), ("1", 'a "red", ring')]
    said = capsys.readouterr().out.splitlines()
    best = max(rows[:3], key=lambda row: float(row["score"]))
    assert said[:2] == ["texts longer than the encoder reads, whose ends do not count: 1", f"  {ODD[:237]}..."]
    assert said[2] == f"0: {float(best['score']):.5f} {best['text']}"
    stored = json.loads((tmp_path / "scores.jsonl").read_text().splitlines()[0])
    assert float(rows[0]["above_empty"]) == pytest.approx(stored["null"][0] - stored["errors"][0][0])
    before = len(calls)
    assert main([*words, "--output", str(output)]) == 0
    assert len(calls) == before


def test_the_best_by_elimination_is_the_full_rankings(
    pipeline: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "match",
        pipeline,
        "--images",
        str(images),
        "--text",
        "a red ring",
        "--text",
        "a star",
        "--text",
        "no",
        "--levels",
        "8",
    ]
    assert main(words) == 0
    full = [line.split(" ", 2)[2] for line in capsys.readouterr().out.splitlines()]
    output = tmp_path / "fast.jsonl"
    assert main([*words, "--fast", "--output", str(output)]) == 0
    found = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["winner"] for line in found] == full
    assert all(line["evaluations"] <= line["full"] == 24 for line in found)
    assert found[0]["rounds"][-1]["levels"] <= 8
    text = output.read_text()
    assert main([*words, "--fast", "--output", str(output)]) == 0
    assert output.read_text() == text
    assert main([*words, "--fast", "image"]) == 0
    assert capsys.readouterr().out.splitlines()[-2].endswith("times fewer")


def test_captions_of_a_table_and_pictures_of_every_kind(
    pipeline: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A GIF and a TIFF beside three PNGs are pictures too; levels from the cleaner half give other scores."""
    for name in ("3.gif", "4.tif"):
        Image.new("RGB", (20, 20), "red").save(images / name)
    captions = tmp_path / "captions.CSV"
    captions.write_text('id,caption\n1,"a red, ring"\n2,a star\n')
    words = ["match", pipeline, "--images", str(images), "--captions", str(captions), "--levels", "1"]
    assert main(words) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line[:2] for line in said] == ["0:", "1:", "2:", "3:", "4:"]
    assert {line.split(" ", 2)[2] for line in said} <= {"a red, ring", "a star"}
    assert main([*words, "--high", "0.5"]) == 0
    assert capsys.readouterr().out.splitlines() != said


def test_ranks_are_said_where_there_are_many_candidates(
    pipeline: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six scenes: R@1 is the table's share, R@5 lies above, and R@10 of six would be 1. Results of another seed are refused."""
    monkeypatch.chdir(tmp_path)
    words = ["match", pipeline, "--benchmark", "toy_retrieval", "-o", "count=6", "--levels", "1", "--resolution", "16"]
    assert main([*words, "--output", "found.jsonl"]) == 0
    said = capsys.readouterr().out.splitlines()
    text = [line.split() for line in said if line.startswith("text   ")]
    assert text[1][::2][:2] == ["text", text[0][2]]
    assert (text[1][1], text[1][3]) == ("R@1", "R@5")
    assert " ".join(text[1][5:]) == "(6 questions of up to 6 candidates)"
    assert main([*words, "-o", "seed=5", "--output", "found.jsonl"]) == 2
    assert "holds results of another model, benchmark or setting" in capsys.readouterr().err


def test_the_control(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "clip", "--scorer", "clip", "--images", str(images), "--text", "a red ring", "--text", "a star"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_bad_input_is_said(pipeline: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.txt").write_text("\n\n")
    (tmp_path / "odd.json").write_text('["a", 3]')
    (tmp_path / "lone.jsonl").write_text('{"text": "a \\ud800"}\n')
    (tmp_path / "null.JSONL").write_text('{"text": "a"}\n{"text": null}\n')
    (tmp_path / "plain.csv").write_text("id,words\n1,a\n")
    (tmp_path / "captions.md").write_text("a\n")
    (images / "broken.png").write_bytes(b"no image")
    some = ["--images", str(images)]
    for words, code, message in (
        ([], 2, "match takes --benchmark"),
        ([*some, "--benchmark", "winoworld"], 2, "match takes --benchmark"),
        (some, 3, "no captions"),
        ([*some, "--text", "a", "--text", "a"], 3, "captions 1 and 2 are the same"),
        ([*some, "--text", " "], 2, "the caption is empty"),
        ([*some, "--text", "a", "--limit", "2"], 2, "--limit does not go with --images"),
        (["--benchmark", "winoworld", "--fast"], 2, "--fast does not go with --benchmark"),
        (["--benchmark", "winowrld"], 2, "did you mean 'winoworld'"),
        (["--benchmark", "winoworld", "-o", "cout=3"], 2, "did you mean 'count'"),
        (["--benchmark", "winoworld", "-o", "count"], 2, "expected key=value"),
        (["--benchmark", "winoworld", "--levels", "0"], 2, "levels is 0"),
        (["--benchmark", "winoworld", "--resolution", "18"], 2, "multiple of 4"),
        ([*some, "--captions", str(tmp_path / "gone.txt")], 3, "cannot be read"),
        ([*some, "--captions", str(tmp_path / "empty.txt")], 3, "holds no captions"),
        ([*some, "--captions", str(tmp_path / "odd.json")], 3, "odd.json: caption 2: text is int 3"),
        ([*some, "--captions", str(tmp_path / "lone.jsonl")], 3, "lone.jsonl:1: text 'a \\ud800' is not valid Unicode"),
        ([*some, "--captions", str(tmp_path / "null.JSONL")], 3, "null.JSONL:2: text is missing"),
        ([*some, "--captions", str(tmp_path / "plain.csv")], 3, "plain.csv:2: no text or caption; found id, words"),
        ([*some, "--captions", str(tmp_path / "captions.md")], 3, "not from .md"),
        ([*some, "--text", "a", "--delta", ".1"], 2, "--delta does not go with all pairs"),
        ([*some, "--text", "a", "--low", ".5", "--high", ".5"], 2, "expected 0 <= low < high <= 1"),
        ([*some, "--text", "a", "--scorer", "clip", "--seed", "0"], 2, "--seed does not go with --scorer clip"),
        ([*some, "--text", "a", "--scorer", "clip", "--fast"], 2, "--fast does not go with --scorer clip"),
        (["--benchmark", "winoworld", "-o", "kind=toy_order"], 2, "-o kind does not go with --benchmark winoworld"),
        (["--benchmark", "winoworld", "--output", "results.csv"], 2, "expected a name in .jsonl"),
        (["--benchmark", "winoground", "-o", f"path={tmp_path}", "-o", "limit=-1"], 2, "benchmark.limit: found -1"),
        (["--benchmark", "aro", "-o", f"path={tmp_path}"], 3, f"{tmp_path}: cannot be read (Is a directory)"),
        ([*some, "--text", "a", "--output", str(tmp_path / "scores.txt")], 2, "expected a name in .csv or .jsonl"),
        ([*some, "--text", "a", "--output", str(tmp_path / "s.jsonl")], 3, "broken.png"),
        (["--images", str(tmp_path / "gone"), "--text", "a"], 3, "is no folder"),
    ):
        assert main(["match", pipeline, *words]) == code, words
        assert message in capsys.readouterr().err
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 3  # what was known before the broken file is kept


def test_an_edit_model_is_no_matcher(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["match", "relatum:toy-edit", "--images", str(images), "--text", "a"]) == 2
    assert "match takes a text-to-image model" in capsys.readouterr().err
