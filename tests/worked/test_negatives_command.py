"""`relatum negatives`: files in and out, rewrites by stub and by a tiny model, the cache after a kill, images by features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from relatum.cli import main
from relatum.core.errors import DataError, RecipeError
from relatum.data.negatives.captions import read_captions
from relatum.data.negatives.rows import NegativeSettings
from relatum.data.rows import Row
from relatum.imaging import save_png
from relatum.jobs.negatives import RewriteCache, lines_of, make_negatives, rewrites, with_alike_images
from relatum.pretrained.rewriter import TEMPLATES, Decoding, Rewriter, Template, find_template, open_rewriter

PLAIN = Template("plain", "Caption: {caption}\nWrong caption:")


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


class Stub:
    """Writes from a table; says what it was asked; dies at the batch that holds `dies`."""

    fingerprint = "stub"
    batch_size = 2

    def __init__(self, table: dict[str, str], dies: str = "") -> None:
        self.table, self.dies, self.asked = table, dies, list[str]()

    def __call__(self, captions: Sequence[str], template: Template) -> list[str]:
        if self.dies in captions:
            raise KeyboardInterrupt
        self.asked += captions
        return [self.table.get(caption, "") for caption in captions]


def test_text_file_to_jsonl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    captions = tmp_path / "captions.txt"
    captions.write_bytes("\ufeffA red cat on a blue mat\n\n<b>猫</b> 🐱\ncat\n".encode())
    out = tmp_path / "deep" / "wrong.jsonl"
    arguments = ["negatives", str(captions), "--output", str(out), "--tagger", "rules", "--count", "2", "--report"]
    assert main(arguments) == 0
    lines = read(out)
    assert [line["caption"] for line in lines] == ["A red cat on a blue mat", "", "<b>猫</b> 🐱", "cat"]
    assert lines[0]["negative_caption"] == ["A blue cat on a red mat", "A red cat under a blue mat"]
    assert lines[0]["rules"] == ["swap_attributes", "swap_relation"]
    assert {"rule": "quantity", "reason": "the caption has no words"} in lines[1]["refused"]
    assert "猫</b> 🐱" in out.read_text(encoding="utf-8")  # nothing is escaped
    said = capsys.readouterr().out
    assert "2 wrong captions of 4 captions; 3 captions have none; tags: plain rules" in said
    assert "swap_attributes: 1 pairs of 1 captions, more probable bigrams" in said


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_tables_keep_their_columns(tmp_path: Path, kind: str) -> None:
    rows = [{"image": "a.png", "text": "A red cat on a blue mat"}, {"image": "b.png", "text": "Größe 1"}]
    path = tmp_path / f"captions.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "csv":
        path.write_text("image,text\na.png,A red cat on a blue mat\nb.png,Größe 1\n", encoding="utf-8")
    else:
        pyarrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(pyarrow.Table.from_pylist([{**r, "bytes": b"\x00"} for r in rows]), path)
    captions = read_captions(path)
    assert [line.caption for line in captions] == ["A red cat on a blue mat", "Größe 1"]
    make_negatives(captions, tmp_path / "out.jsonl", NegativeSettings(count=1, tagger="rules"))
    assert [line["image"] for line in read(tmp_path / "out.jsonl")] == ["a.png", "b.png"]


def test_lines_without_a_caption_are_listed(tmp_path: Path) -> None:
    path = tmp_path / "captions.jsonl"
    path.write_text('{"caption": "a cat on a mat"}\n{"caption": 3}\n{"other": 1}\nnonsense\n{"caption": "half \\ud83d"}\n')
    made = make_negatives(read_captions(path), tmp_path / "out.jsonl", NegativeSettings(tagger="rules"))
    assert [fault.split(": ", 1)[0] for fault in made.faults] == [f"{path}:{i}" for i in (2, 3, 4, 5)]
    assert "caption is int, expected text" in made.faults[0]
    assert "surrogate" in made.faults[3]
    assert len(read(tmp_path / "out.jsonl")) == 5
    assert any(f"no caption: {path}:4" in line for line in lines_of(made))


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("missing.txt", None, "no such file"),
        ("words.docx", b"x", "captions are read from"),
        ("bad.txt", b"\xff\xfe", "not UTF-8"),
        ("none.csv", b"image,title\na,b\n", "no column called text, caption"),
        ("bad.parquet", b"PAR1", "no parquet file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: bytes | None, words: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_captions(tmp_path / name)


def test_command_refuses_what_does_not_go_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.txt").write_text("a cat\n")
    call = ["negatives", str(tmp_path / "c.txt"), "--output", str(tmp_path / "o.jsonl")]
    assert main([*call, "--template", "object"]) == 2
    assert "name one with --model" in capsys.readouterr().err
    assert main([*call, "--rules", "swap_noun"]) == 2
    assert "did you mean 'swap_nouns'" in capsys.readouterr().err
    assert main([*call, "--model", str(tmp_path / "nowhere")]) == 3
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "o.jsonl").exists()


def test_rewrites_are_judged_and_kept(tmp_path: Path) -> None:
    """Five captions, one of them twice and one empty: three batches of at most two, the empty one never asked about."""
    table = {
        "a red cat": 'Wrong caption: "a blue cat"',
        "a dog runs": "",
        "a hat": "A hat.",
        "a tall man": "Sure! Here is a caption.",
    }
    stub = Stub(table)
    captions = ["a red cat", "a dog runs", "", "a hat", "a red cat", "a tall man"]
    cache = RewriteCache(tmp_path / "cache.jsonl")
    made = rewrites(captions, stub, PLAIN, cache)
    assert stub.asked == ["a red cat", "a dog runs", "a hat", "a tall man"]
    assert [[negative.text for negative in one.negatives] for one in made] == [["a blue cat"], [], [], [], ["a blue cat"], []]
    found = [one.refused[0].reason for one in made if one.refused]
    assert found == ["empty", "the caption has no words", "equals the caption", "speaks of the task"]
    again = Stub({})
    assert rewrites(captions, again, PLAIN, RewriteCache(tmp_path / "cache.jsonl")) == made
    assert again.asked == []
    other = Template("plain", "Change {caption}:")  # another prompt of the same name is another rewrite
    rewrites(captions[:1], again, other, RewriteCache(tmp_path / "cache.jsonl"))
    assert again.asked == ["a red cat"]


def test_a_kill_loses_one_batch_at_most(tmp_path: Path) -> None:
    """Batches of two: killed in the third, four are kept; of the last line half is lost, as by a power cut: one more is asked."""
    captions = [f"a cat number {i}" for i in range(6)]
    table = {caption: caption.replace("cat", "dog") for caption in captions}
    path = tmp_path / "cache.jsonl"
    with pytest.raises(KeyboardInterrupt):
        rewrites(captions, Stub(table, dies=captions[4]), PLAIN, RewriteCache(path))
    path.write_bytes(path.read_bytes()[:-20])
    later = Stub(table)
    made = rewrites(captions, later, PLAIN, RewriteCache(path))
    assert later.asked == captions[3:]
    assert [one.negatives[0].text for one in made] == list(table.values())
    assert len(RewriteCache(path).texts) == 6


def test_a_model_of_another_count_is_an_error(tmp_path: Path) -> None:
    class Short(Stub):
        def __call__(self, captions: Sequence[str], template: Template) -> list[str]:
            return ["one"]

    with pytest.raises(DataError, match="1 texts for 2 captions"):
        rewrites(["a cat", "a dog"], Short({}), PLAIN, RewriteCache(tmp_path / "c.jsonl"))


def test_rewrites_stand_before_rules(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("a red cat on a blue mat\n")
    stub = Stub({"a red cat on a blue mat": "a red dog on a blue mat"})
    settings = NegativeSettings(count=2, tagger="rules")
    out = tmp_path / "o.jsonl"
    make_negatives(read_captions(tmp_path / "c.txt"), out, settings, stub, [PLAIN])
    assert read(out)[0]["negative_caption"] == ["a red dog on a blue mat", "a blue cat on a red mat"]
    assert read(out)[0]["rules"] == ["rewrite:plain", "swap_attributes"]
    made = make_negatives(read_captions(tmp_path / "c.txt"), out, settings, stub, [PLAIN], ruled=False)
    assert made.made == {"rewrite:plain": 1}


def test_templates() -> None:
    assert set(TEMPLATES) == {"attribute", "relation", "object", "confusing"}
    filled = TEMPLATES["attribute"].fill("a {caption} {0} cat")
    assert filled.endswith("Caption: a {caption} {0} cat\nWrong caption:")  # braces of a caption are its own
    assert "{" not in filled.replace("{caption} {0}", "")
    with pytest.raises(RecipeError, match=r"no \{caption\}"):
        Template("deaf", "Write something.")
    with pytest.raises(RecipeError, match="did you mean 'object'"):
        find_template("objekt")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random GPT-2 of 2 layers over 40 words, with its tokenizer, as files."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = "<end> ? a the cat dog mat red blue old on under Caption Wrong caption : of user what"
    vocabulary = {word: i for i, word in enumerate(words.split())}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="?", eos_token="<end>")
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=len(vocabulary), n_positions=256, n_embd=16, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0)
    folder = tmp_path_factory.mktemp("tiny")
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_a_model_from_a_folder_writes(tiny: Path) -> None:
    captions = ["a cat on the mat", "the old dog", "a blue cat under a red mat on the old mat"]
    writer = open_rewriter(str(tiny), Decoding(tokens=6, batch_size=2))
    texts = writer(captions, PLAIN)
    assert len(texts) == 3
    assert all(isinstance(text, str) and "\n" not in text for text in texts)
    alone = open_rewriter(str(tiny), Decoding(tokens=6, batch_size=1))
    assert [alone([caption], PLAIN)[0] for caption in captions] == texts  # the padding of a batch changes nothing


def test_sampling_depends_on_seed_and_caption_alone(tiny: Path) -> None:
    captions = ["a cat on the mat", "the old dog"]
    drawn = open_rewriter(str(tiny), Decoding(tokens=12, temperature=1.5, seed=1))
    before = torch.get_rng_state()
    texts = drawn(captions, PLAIN)
    assert torch.equal(before, torch.get_rng_state())
    assert drawn(captions[::-1], PLAIN) == texts[::-1]
    assert open_rewriter(str(tiny), Decoding(tokens=12, temperature=1.5, seed=2))(captions, PLAIN) != texts


def test_fingerprint_knows_weights_and_decoding(tiny: Path) -> None:
    writer = open_rewriter(str(tiny))
    assert writer.fingerprint == open_rewriter(str(tiny), Decoding(batch_size=3)).fingerprint
    assert writer.fingerprint != open_rewriter(str(tiny), Decoding(tokens=3)).fingerprint
    other = open_rewriter(str(tiny))
    next(other.model.parameters()).data += 1
    assert writer.fingerprint != Rewriter(other.model, other.tokenizer).fingerprint


def test_a_chat_model_is_asked_in_its_chat(tiny: Path) -> None:
    writer = open_rewriter(str(tiny), Decoding(tokens=3))
    writer.tokenizer.chat_template = "user : {{ messages[0]['content'] }} what"
    chat = Rewriter(writer.model, writer.tokenizer, Decoding(tokens=3))
    assert chat.chat
    assert chat._prompt("a cat<end> on", PLAIN) == "user : Caption: a cat  on\nWrong caption: what"  # it cannot end its message
    assert len(chat(["a cat"], PLAIN)) == 1


def test_models_without_safetensors_are_refused(tiny: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "pickled"
    shutil.copytree(tiny, folder)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(DataError, match="safetensors"):
        open_rewriter(str(folder))


def test_command_with_a_model_goes_on(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "c.txt").write_text("a cat on the mat\nthe old dog\n")
    out = tmp_path / "o.jsonl"
    call = ["negatives", str(tmp_path / "c.txt"), "--output", str(out), "--model", str(tiny), "--template", "object"]
    assert main(call) == 0
    first, kept = out.read_bytes(), (tmp_path / "o.jsonl.rewrites.jsonl").read_bytes()
    assert "tags: none" in capsys.readouterr().out
    assert main(call) == 0
    assert (out.read_bytes(), (tmp_path / "o.jsonl.rewrites.jsonl").read_bytes()) == (first, kept)


def test_negative_images_by_features(tmp_path: Path) -> None:
    """Three images of one color and one of another: the nearest of red 0 is red 2, as red 1 bears the same caption."""
    from relatum.data.folder import Folder

    pictures = {"a": (0.9, -0.9, -0.9), "b": (0.88, -0.9, -0.9), "c": (0.7, -0.9, -0.8), "d": (-0.9, -0.9, 0.9)}
    for name, color in pictures.items():
        save_png(tmp_path / f"{name}.png", torch.tensor(color).view(3, 1, 1).expand(3, 32, 32).contiguous())
    captions = {"a": "a red field", "b": "A red field.", "c": "a dark red field", "d": "a blue field"}
    (tmp_path / "metadata.jsonl").write_text(
        "".join(json.dumps({"file_name": f"{name}.png", "text": text}) + "\n" for name, text in captions.items())
    )
    rows: list[Row] = Folder(tmp_path).rows()
    made, lacking = with_alike_images(rows, "randconv", size=32, batch_size=3)
    assert not lacking
    assert made[0].facts["negative_row"] == rows[2].id
    assert made[0].images["negative"].digest() == rows[2].images["target"].digest()
