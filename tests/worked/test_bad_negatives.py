"""`relatum negatives` and the readers of wrong captions against files, options, models and kept rewrites that are not as hoped."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from relatum.cli import main
from relatum.core.errors import DataError, RecipeError
from relatum.data.folder import Folder
from relatum.data.negatives import RuleTagger, perturb
from relatum.data.negatives.captions import read_captions
from relatum.data.negatives.nearest import nearest_captions
from relatum.data.negatives.rows import NegativeSettings
from relatum.jobs.negatives import RewriteCache, lines_of, make_negatives, rewrites
from relatum.pretrained.rewriter import Decoding, Rewriter, Template, find_template, open_rewriter
from support.pictures import folder, noise, png

PLAIN = Template("plain", "Caption: {caption}\nWrong caption:")
RULES = NegativeSettings(count=2, tagger="rules")


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def fails(capsys: pytest.CaptureFixture[str], code: int, words: str, *call: str | Path) -> None:
    assert main(["negatives", *map(str, call)]) == code
    assert words in capsys.readouterr().err


def test_two_columns_that_fit_are_asked_about(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "c.jsonl", {"caption": "a red cat"}, {"text": "other"}, {"caption": "a dog"})
    fails(capsys, 3, "say which: --column text", path, "--output", tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists()
    assert [line.caption for line in read_captions(path, "caption")] == ["a red cat", "", "a dog"]


@pytest.mark.parametrize("how", ["itself", "symlink", "hard link", "kept rewrites"])
def test_the_input_is_never_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str], how: str) -> None:
    path = write(tmp_path / ("o.jsonl.rewrites.jsonl" if how == "kept rewrites" else "c.jsonl"), {"text": "a red cat on a mat"})
    before, output = path.read_bytes(), path if how == "itself" else tmp_path / "o.jsonl"
    if how == "symlink":
        output.symlink_to(path)
    elif how == "hard link":
        output.hardlink_to(path)
    fails(capsys, 2, "the file of captions itself", path, "--output", output)
    assert path.read_bytes() == before


def test_what_a_line_holds_is_kept(tmp_path: Path) -> None:
    """Two given ones are kept first, in their order; one equals the caption, one is no text; a rule's that was given is not made
    twice: after "a blue cat on a red mat" the next is "under" for "on"."""
    given = ["A red cat, on a blue mat.", "a dog", 5, "a blue cat on a red mat"]
    row = {"edited_prompt": "a red cat on a blue mat", "negative_captions": given, "rules": 3, "refused": "q", "x": float("nan")}
    path = write(tmp_path / "c.jsonl", row | {"caption": "other"}, {"edited_prompt": "a cat", "negative_captions": "a bat"})
    made = make_negatives(read_captions(path, "edited_prompt"), tmp_path / "o.jsonl", NegativeSettings(count=3, tagger="rules"))
    first, second = read(tmp_path / "o.jsonl")
    assert first["negative_caption"] == ["a dog", "a blue cat on a red mat", "a red cat under a blue mat"]
    assert first["rules"] == ["given", "given", "swap_relation"]
    assert (first["input_rules"], first["input_refused"], first["input_caption"], first["x"]) == (3, "q", "other", None)
    assert first["edited_prompt"] == first["caption"] == "a red cat on a blue mat"
    assert "negative_captions" not in first
    assert second["negative_caption"][0] == "a bat"
    assert made.refused["given", "equals the caption"] == made.refused["given", "is no text"] == 1
    assert made.refused["swap_attributes", "equals another negative"] == 1


def test_parquet_keeps_what_json_holds(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    columns = {
        "caption": pyarrow.array(["a red cat on a mat", "a dog"]).dictionary_encode(),
        "score": [1.5, float("nan")],
        "when": [datetime.datetime(2020, 5, 4, 3), None],
        "tags": [["a"], []],
        "image": [{"bytes": b"\x00", "path": "a.png"}] * 2,
    }
    pytest.importorskip("pyarrow.parquet").write_table(pyarrow.table(columns), tmp_path / "c.parquet")
    made = make_negatives(read_captions(tmp_path / "c.parquet"), tmp_path / "o.jsonl", RULES)
    first, second = read(tmp_path / "o.jsonl")
    assert (first["caption"], first["score"], first["when"], first["tags"]) == (
        "a red cat on a mat",
        1.5,
        "2020-05-04 03:00:00",
        ["a"],
    )
    assert (second["caption"], second["score"], second["when"]) == ("a dog", None, None)
    assert "  not kept: image: JSON holds no bytes" in lines_of(made)


def test_list_captions_of_parquet_are_named(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"caption": [["a"], ["b"]]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match=r"no caption with words in 2 lines.*caption is list, expected text"):
        read_captions(tmp_path / "c.parquet")
    parquet.write_table(pyarrow.table({"caption": [b"a"]}), tmp_path / "c.parquet")
    with pytest.raises(DataError, match="'caption' holds bytes, expected text"):
        read_captions(tmp_path / "c.parquet")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("c.jsonl", bytes(range(256)) * 20, "is not JSON"),
        ("c.jsonl", b"", "no caption with words in 0 lines"),
        ("c.txt", b"\n \n...\n", "no caption with words in 3 lines"),
        ("c.csv", b"id,caption\n", "no caption with words in 0 lines"),
        ("c.jsonl", b'{"caption": 5}\n', "caption is int, expected text"),
    ],
)
def test_no_usable_caption(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    fails(capsys, 3, words, tmp_path / name, "--output", tmp_path / "o.jsonl")
    assert not (tmp_path / "o.jsonl").exists()


def test_options_that_do_nothing_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "c.txt", tmp_path / "o.jsonl"
    path.write_text("a red cat on a mat\n")
    (tmp_path / "bad.txt").write_bytes(b"\xff {caption}")
    fails(capsys, 2, "a .txt has none", path, "--output", out, "--column", "foo")
    fails(capsys, 2, "--model is empty", path, "--output", out, "--model", "")
    fails(capsys, 2, "--tagger is for rules", path, "--output", out, "--model", "m", "--tagger", "rules")
    fails(capsys, 2, "ends with .jsonl", path, "--output", tmp_path / "o.csv")
    fails(capsys, 2, "is not UTF-8", path, "--output", out, "--model", "m", "--template", tmp_path / "bad.txt")
    for temperature in ("nan", "inf"):
        fails(capsys, 2, "finite temperature", path, "--output", out, "--model", "m", "--temperature", temperature)
    fails(capsys, 3, "is a folder; name a file in it", tmp_path, "--output", out)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bad.txt", "c.txt"]


class Stub:
    """Writes a dog for a cat; longer captions than 20 letters it cannot read."""

    fingerprint, batch_size = "stub", 2

    def __call__(self, captions: Sequence[str], template: Template) -> list[str | None]:
        return [None if len(caption) > 20 else caption.replace("cat", "dog") for caption in captions]


def test_what_the_model_cannot_read_is_counted(tmp_path: Path) -> None:
    cache = RewriteCache(tmp_path / "c.jsonl")
    long, short = rewrites(["a cat with a very long tail", "a red cat"], Stub(), PLAIN, cache)
    assert [refused.reason for refused in long.refused] == ["longer than the model reads"]
    assert [negative.text for negative in short.negatives] == ["a red dog"]
    assert len(RewriteCache(tmp_path / "c.jsonl").texts) == 1


@pytest.mark.parametrize("line", ['{"key": "a", "text": 5}', '{"key": "a", "text": null}', "[" * 50000, "my notes", '["key"]'])
def test_kept_rewrites_of_another_kind_are_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"key": "b", "text": "c"}) + f"\n{line}\n")
    with pytest.raises(DataError, match=r"c\.jsonl:2: is no kept rewrite"):
        RewriteCache(path)
    path.write_text("my notes")
    with pytest.raises(DataError, match=r"c\.jsonl:1: is no kept rewrite"):
        RewriteCache(path)
    assert path.read_text() == "my notes"


def test_a_cut_line_is_dropped_and_counted(tmp_path: Path) -> None:
    path, out = tmp_path / "o.jsonl.rewrites.jsonl", tmp_path / "o.jsonl"
    (tmp_path / "c.txt").write_text("a cat\na red cat\n")
    captions = read_captions(tmp_path / "c.txt")
    assert make_negatives(captions, out, RULES, Stub(), [PLAIN], ruled=False).cut == 0
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    made = make_negatives(captions, out, RULES, Stub(), [PLAIN], ruled=False)
    assert "  kept rewrites: 1 was cut and is made again" in lines_of(made)
    assert path.read_bytes() == whole


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 40 positions over 9 words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    raw = Tokenizer(
        models.WordLevel(
            {word: i for i, word in enumerate(("<end>", "?", "a", "cat", "Caption", "Wrong", "caption", ":", "on"))}, unk_token="?"
        )
    )
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=9, n_positions=40, n_embd=8, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0)
    path = tmp_path_factory.mktemp("tiny")
    GPT2LMHeadModel(config).save_pretrained(path)
    PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="?", eos_token="<end>").save_pretrained(path)
    return path


def test_prompts_beyond_the_positions_are_not_read(tiny: Path) -> None:
    """The prompt has 5 words beside the caption's; with 6 new ones, captions to 40 - 11 = 29 words fit."""
    writer = open_rewriter(str(tiny), Decoding(tokens=6, batch_size=2))
    texts = writer([" ".join(["cat"] * count) for count in (29, 30, 2)], PLAIN)
    assert [text is None for text in texts] == [False, True, False]
    assert texts[2] == writer(["cat cat"], PLAIN)[0]


def test_a_chat_template_that_raises(tiny: Path) -> None:
    writer = open_rewriter(str(tiny))
    writer.tokenizer.chat_template = "{{ raise_exception('only system') }}"
    with pytest.raises(DataError, match=r"chat template does not take one message of a user .only system"):
        Rewriter(writer.model, writer.tokenizer, Decoding())(["a cat"], PLAIN)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("cut", "damaged or cut"),
        ("width", "weights do not fit its config"),
        ("tokenizer", "tokenizer"),
        ("nan", "wte.weight has NaN"),
    ],
)
def test_damaged_models(tiny: Path, tmp_path: Path, fault: str, words: str) -> None:
    from safetensors.torch import load_file, save_file

    path = tmp_path / fault
    shutil.copytree(tiny, path)
    weights = path / "model.safetensors"
    if fault == "cut":
        weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    elif fault == "width":
        config = json.loads((path / "config.json").read_text())
        (path / "config.json").write_text(json.dumps(config | {"n_embd": 16}))
    elif fault == "tokenizer":
        for file in path.glob("*token*"):
            file.unlink()
    else:
        found = load_file(weights)
        found["transformer.wte.weight"][3, 1] = float("nan")
        save_file(found, weights, {"format": "pt"})
    with pytest.raises(DataError, match=words):
        open_rewriter(str(path))


def test_probabilities_that_are_no_numbers(tiny: Path) -> None:
    writer = open_rewriter(str(tiny), Decoding(tokens=3, temperature=1e-44))
    with pytest.raises(DataError, match="no numbers at temperature"):
        writer(["a cat"], PLAIN)


def test_templates_are_utf8(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("\ufeffÄndere {caption}".encode())
    assert find_template(str(tmp_path / "t.txt")).prompt == "Ändere {caption}"
    (tmp_path / "t.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="is not UTF-8"):
        find_template(str(tmp_path / "t.txt"))


def test_a_dotted_capital_comes_back() -> None:
    made = perturb("İstanbul has a red cat on a blue mat", ["swap_attributes"], tagger=RuleTagger())
    assert [negative.text for negative in made.negatives] == ["İstanbul has a blue cat on a red mat"]


def test_a_negative_that_equals_its_caption_is_a_bad_row(tmp_path: Path) -> None:
    wrong = ["a bat", ["a dog", " A cat! "], "An cat"]
    rows = [{"image": png(noise(i)), "text": "a cat", "negative_caption": text} for i, text in enumerate(wrong)]
    with pytest.raises(DataError, match=r"metadata\.jsonl:2: negative caption .*'A cat!' says the same as the caption 'a cat'"):
        Folder(folder(tmp_path, rows)).rows()
    reader = Folder(tmp_path, on_bad_row="skip")
    assert [row.texts["negative.1"] for row in reader.rows()] == ["a bat"]
    assert len(reader.skipped) == 2


def test_captions_that_share_all_but_one_word_are_alike() -> None:
    """Every other word is in every caption, and all are equally alike: each gets the next, the last the first."""
    captions = [f"a red cat {i} on a blue mat" for i in range(12)]
    groups = [str(i) for i in range(12)]
    assert nearest_captions(captions, groups) == [*range(1, 12), 0]


def test_common_words_count_where_nothing_else_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of many captions, "a" and "cat" are common; only 0 and 3 share another word. The rest are nearest to 0, of which "sleeps",
    in two captions, makes the least that differs: 1 + log(6 / 3) = 1.69 against 1 + log(6 / 2) = 2.10."""
    from relatum.data.negatives import nearest

    monkeypatch.setattr(nearest, "MANY", 4)
    captions = ["a cat sleeps", "a cat 1", "a cat 2", "a tall cat sleeps", "a cat 4"]
    monkeypatch.setattr(nearest, "COMMON", 0.5)
    assert nearest_captions(captions, list("abcde")) == [3, 0, 0, 0, 0]
