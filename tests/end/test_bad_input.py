"""What goes wrong on the way from a recipe to a run: one message with file and row, the right exit code, nothing half-written."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
import torch

from relatum.cli import main
from relatum.core.draws import Draws
from relatum.engine.order import Order
from relatum.models.codec import Codec
from relatum.models.text import TextEncoder
from relatum.models.tiny import tiny_stable_diffusion
from relatum.recipe import read_recipe
from support.pictures import add, edits, folder, png, tar
from support.runs import records, tiny_recipe

Say = Callable[..., tuple[int, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Runs `relatum ...`; gives the exit code and what it said on standard error."""

    def run(*arguments: object) -> tuple[int, str]:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return code, capsys.readouterr().err

    return run


RECIPE_FAULTS = {
    "train.learning_rat=1e-4": ("train.learning_rat", "did you mean 'learning_rate'"),
    "train.max_train_steps=many": ("train.max_train_steps", "expected a whole number, found the string 'many'"),
    "train.use_ema=1": ("train.use_ema", "expected true or false"),
    "data.on_bad_row=slip": ("data.on_bad_row", "did you mean 'skip'"),
    "objectives.denoise.kind=denoize": ("objectives.denoise.kind", "did you mean 'denoise'"),
    "objectives.denoise.weight=2": ("objectives.denoise.kind", "say which objective; known: "),
    "objectives.denoise={kind='denoise', gamma=5}": ("objectives.denoise.gamma", "no setting 'gamma'"),
    "data.train.kind=toi": ("data.train.kind", "did you mean 'toy'"),
    "data.train.cuont=5": ("data.train.cuont", "did you mean 'count'"),
    "task.kind=edits": ("task.kind", "did you mean 'edit'"),
    "model.train.kind=lore": ("model.train.kind", "did you mean 'lora'"),
    "evaluate.metrics=['pnsr']": ("evaluate.pnsr", "did you mean 'psnr'"),
    "train.step=nowhere:at_all": ("train.step", "not module:function"),
    "plugins=['mine.py']": ("plugins", "no file"),
}


@pytest.mark.parametrize("fault", RECIPE_FAULTS)
def test_a_recipe_that_asks_for_what_is_not_there(tmp_path: Path, tiny: Path, cache: Path, say: Say, fault: str) -> None:
    """Exit code 2, the place, the near name; `check` says it too, and no run folder is begun."""
    recipe = tiny_recipe(tmp_path, tiny, cache)
    code, said = say("train", recipe, "-o", fault)
    assert code == 2, said
    assert all(words in said for words in RECIPE_FAULTS[fault]), said
    assert say("check", recipe, "-o", fault)[0] == 2
    assert not recipe.with_suffix("").exists()


def test_no_recipe_and_no_toml(tmp_path: Path, say: Say) -> None:
    assert say("train", tmp_path / "none.toml")[0] == 2
    (tmp_path / "odd.toml").write_text("name = [")
    code, said = say("train", tmp_path / "odd.toml")
    assert code == 2
    assert "odd.toml: not valid TOML" in said
    code, said = say("train", "demmo")
    assert code == 2
    assert "did you mean 'demo'" in said


def of_folder(tmp_path: Path, tiny: Path, cache: Path, rows: list[dict[str, Any]], **data: Any) -> Path:
    """A recipe that reads these edits from a folder, one group of them held out; resolved relative to the recipe."""
    folder(tmp_path / "edits", rows)
    recipe = tiny_recipe(tmp_path, tiny, cache, train={"train_batch_size": 2, "max_train_steps": 1, "validation_steps": 1})
    table = read_recipe(recipe).table()
    table["data"] = {"train": {"kind": "folder", "path": "edits"}, "held_out": 1, "resolution": 16, **data}
    recipe.write_text(tomli_w.dumps(table))
    return recipe


def no_column(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        del row["edit_prompt"]


def no_instruction(rows: list[dict[str, Any]]) -> None:
    rows[2]["edit_prompt"] = " "


def truncated(rows: list[dict[str, Any]]) -> None:
    rows[2]["edited_image"] = rows[2]["edited_image"][:600]


def other_mask(rows: list[dict[str, Any]]) -> None:
    rows[2]["mask"] = png(np.zeros((24, 31), np.uint8))


def one_group(rows: list[dict[str, Any]]) -> None:
    for row in rows:
        row["input_image"] = rows[0]["input_image"]


DATA_FAULTS: dict[Callable[[list[dict[str, Any]]], None], tuple[str, ...]] = {
    no_column: ("metadata.jsonl:", "no text 'instruction'", "edit_prompt", "original_prompt", "columns = {instruction = ...}"),
    no_instruction: ("metadata.jsonl:3", "no instruction"),
    truncated: ("metadata.jsonl:3", "2_edited_image.png", "truncated"),
    other_mask: ("metadata.jsonl:3", "24 x 31", "24 x 32"),
    one_group: ("group",),
}


@pytest.mark.parametrize("fault", DATA_FAULTS, ids=lambda fault: fault.__name__)
def test_bad_data_stops_with_file_and_row(
    tmp_path: Path, tiny: Path, cache: Path, say: Say, fault: Callable[[list[dict[str, Any]]], None]
) -> None:
    rows = edits(5)
    fault(rows)
    recipe = of_folder(tmp_path, tiny, cache, rows)
    code, said = say("train", recipe)
    assert code == 3, said
    assert all(words in said for words in DATA_FAULTS[fault]), said
    assert not (recipe.with_suffix("") / "final").exists()


def test_a_missing_image_and_a_bomb(tmp_path: Path, tiny: Path, cache: Path, say: Say) -> None:
    rows = edits(4)
    rows[3]["edited_image"] = png(np.zeros((1100, 1000), np.uint8))
    recipe = of_folder(tmp_path, tiny, cache, rows)
    code, said = say("cache", recipe, "-o", "data.train.max_megapixels=1.0")
    assert code == 3
    assert "metadata.jsonl:4" in said
    assert "1000 x 1100" in said
    (tmp_path / "edits" / "1_input_image.png").unlink()
    code, said = say("cache", recipe)
    assert code == 3
    assert "metadata.jsonl:2" in said
    assert "1_input_image.png" in said
    assert "no such file" in said


def test_bad_rows_are_skipped_and_counted_where_the_recipe_says_so(
    tmp_path: Path, tiny: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = edits(6)
    truncated(rows)
    no_instruction(rows)
    rows[4]["input_image"] = b"<html>404</html>"
    recipe = of_folder(tmp_path, tiny, cache, rows, on_bad_row="skip")
    assert main(["check", str(recipe)]) == 0
    assert "2 skipped" in capsys.readouterr().out
    assert main(["cache", str(recipe)]) == 0
    said = capsys.readouterr().out
    assert "metadata.jsonl:3" in said
    assert "metadata.jsonl:5" in said
    assert main(["train", str(recipe)]) == 0
    assert [r["samples_seen"] for r in records(recipe) if "total" in r] == [2]


def test_fewer_rows_than_a_batch(tmp_path: Path, tiny: Path, cache: Path, say: Say) -> None:
    code, said = say("train", tiny_recipe(tmp_path, tiny, cache), "-o", "train.train_batch_size=13")
    assert code == 3
    assert "12 training rows are fewer than one batch (13" in said


def test_a_tar_member_that_escapes(tmp_path: Path, tiny: Path, cache: Path, say: Say) -> None:
    import tarfile

    tar(tmp_path / "a.tar", edits(4))
    with tarfile.open(tmp_path / "a.tar", "a") as shard:
        add(shard, "../../evil.png", png(np.zeros((8, 8), np.uint8)))
    recipe = tiny_recipe(tmp_path, tiny, cache)
    table = read_recipe(recipe).table()
    table["data"] = {"train": {"kind": "webdataset", "path": "a.tar"}, "held_out": 1, "resolution": 16}
    recipe.write_text(tomli_w.dumps(table))
    code, said = say("cache", recipe)
    assert code == 3, said
    assert "a.tar" in said
    assert "evil.png" in said
    assert not [*tmp_path.parent.rglob("evil.png")]


# A reader outside the package, one of whose images holds a NaN.
SPOILED = """
from dataclasses import dataclass, field, replace

import torch

from relatum.core.registry import reader
from relatum.data.toy.readers import ToyEdits


class Spoiled:
    where = "spoiled.toml row 5 (target)"

    def digest(self):
        return "f" * 64

    def pixels(self, size):
        return torch.full((3, size, size), float("nan"))


@reader("spoiled")
@dataclass
class SpoiledReader:
    skipped: list[str] = field(default_factory=list, init=False)

    def rows(self):
        rows = list(ToyEdits(count=12).rows())
        rows[5] = replace(rows[5], images={**rows[5].images, "target": Spoiled()}, where="spoiled.toml row 5")
        return rows
"""


def test_a_picture_that_holds_nan_never_reaches_the_cache(
    tmp_path: Path, tiny: Path, tmp_path_factory: pytest.TempPathFactory, say: Say, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "spoiled.py").write_text(SPOILED)
    fresh = tmp_path / "cache"
    recipe = tiny_recipe(tmp_path, tiny, fresh, plugins=["spoiled.py"])
    text = recipe.read_text().replace('kind = "toy"\nsplit = "train"\ncount = 12', 'kind = "spoiled"')
    recipe.write_text(text)
    assert 'kind = "spoiled"' in text
    code, said = say("train", recipe)
    assert code == 3, said
    assert "spoiled.toml row 5" in said
    assert "finite" in said
    assert main(["cache", str(recipe), "--action", "verify"]) == 0
    assert capsys.readouterr().out == "every entry is whole\n"
    assert main(["cache", str(recipe), "-o", "data.on_bad_row=skip"]) == 0
    out = capsys.readouterr().out
    assert "11 training rows" in out
    assert "skipped: spoiled.toml row 5" in out


@pytest.fixture
def poisoned(tmp_path: Path, tiny: Path) -> tuple[Path, str, float]:
    """A recipe whose cache holds NaN for one row (of its second update); the row's name and its noise level there."""
    recipe = tiny_recipe(tmp_path, tiny, tmp_path / "cache", train={"checkpointing_steps": 1, "max_train_steps": 6})
    assert main(["cache", str(recipe)]) == 0
    position = 6
    from relatum.jobs.opening import open_rows

    row = open_rows(read_recipe(recipe)).train[Order(12, 0, 4).indices([position])[0]]
    spoil(tmp_path / "cache", row.images["target"].digest())
    level = tiny_stable_diffusion().path.draw(Draws(0, [position]))
    return recipe, row.where, float(level.time)


def spoil(cache: Path, key: str) -> None:
    from safetensors.torch import load_file, save_file

    for shard in cache.rglob("shard-*.safetensors"):
        tensors = load_file(shard)
        if f"{key}/mean" in tensors:
            tensors[f"{key}/mean"][0, 1, 2] = torch.nan
            save_file(tensors, shard)
            return
    raise AssertionError("the row is not in the cache")


def test_a_poisoned_row_stops_before_the_update_and_the_last_good_loads(poisoned: tuple[Path, str, float], say: Say) -> None:
    from diffusers import UNet2DConditionModel

    recipe, where, level = poisoned
    code, said = say("train", recipe)
    assert code == 4, said
    assert f"term 'denoise' is not finite for {where} at noise level {level:g}" in said
    assert said.count("toy-train") == 1
    assert "last-good is from before" in said
    checkpoints = recipe.with_suffix("") / "checkpoints"
    good = checkpoints / (checkpoints / "last-good").read_text().strip()
    assert good.name == "checkpoint-1"
    unet: Any = UNet2DConditionModel.from_pretrained(good / "unet")
    assert all(bool(torch.isfinite(p).all()) for p in unet.parameters())
    assert not (recipe.with_suffix("") / "final").exists()
    assert any(r.get("event") == "not finite" and where in r["problem"] for r in records(recipe))
    assert say("train", recipe)[0] == 4  # it is not trained past by trying again
    assert say("cache", recipe, "--action", "verify")[0] == 3


def test_the_first_update_may_already_break(poisoned: tuple[Path, str, float], say: Say) -> None:
    """With batches of eight the row is in update 0: nothing was saved before it."""
    code, said = say("train", poisoned[0], "-o", "train.train_batch_size=8")
    assert code == 4
    assert "update 0" in said
    assert "there is no checkpoint yet" in said
    assert not (poisoned[0].with_suffix("") / "checkpoints").exists()


@pytest.mark.parametrize("queue", [0, 6])
def test_skipping_counts_the_updates_that_were_left_out(poisoned: tuple[Path, str, float], say: Say, queue: int) -> None:
    """Six updates are two epochs of twelve rows by four: two updates hold the row. Nothing of it stays in a queue."""
    recipe, _, _ = poisoned
    table = read_recipe(recipe).table()
    table["objectives"]["contrast"] = {"kind": "contrast", "to": "target", "queue": queue}
    table["train"]["on_nonfinite"] = "skip"
    recipe.write_text(tomli_w.dumps(table))
    code, said = say("train", recipe)
    assert code == 0, said
    lines = records(recipe)
    assert sum(r.get("event") == "not finite" for r in lines) == 2
    assert [r["skipped_updates"] for r in lines if "skipped_updates" in r][-1] == 2
    assert next(r["step"] for r in lines if r.get("nonfinite")) == 2


def test_the_cache_verifier_names_the_shard(poisoned: tuple[Path, str, float], capsys: pytest.CaptureFixture[str]) -> None:
    recipe, _, _ = poisoned
    capsys.readouterr()
    assert main(["cache", str(recipe), "--action", "verify"]) == 3
    said = capsys.readouterr().err
    assert "shard-" in said
    assert "not finite" in said


def test_a_model_of_another_architecture(tmp_path: Path, tiny: Path, cache: Path, say: Say) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny, other)
    index = other / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionInstructPix2PixPipeline", "FluxPipeline"))
    code, said = say("train", tiny_recipe(tmp_path, other, cache))
    assert code == 2
    assert f"{other} is a FluxPipeline" in said
    code, said = say("train", tiny_recipe(tmp_path, tiny, cache, task={"kind": "image"}))
    assert code == 2
    assert "8 input channels (an edit model)" in said


def test_a_checkpoint_of_another_architecture(tmp_path: Path, cache: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model's folder was replaced by a wider one between two halves of a run."""
    model = tmp_path / "model"
    tiny_stable_diffusion().save_pipeline(model)
    recipe = tiny_recipe(tmp_path, model, cache, train={"checkpointing_steps": 1})
    with monkeypatch.context() as patch:
        patch.setattr("relatum.engine.recorder.Recorder.log", lambda *_: signal.raise_signal(signal.SIGTERM))
        assert say("train", recipe)[0] == 130
    tiny_stable_diffusion(1, width=24).save_pipeline(model)
    code, said = say("train", recipe)
    assert code == 3, said
    assert "checkpoint-1" in said
    assert "another architecture" in said
    assert not (recipe.with_suffix("") / "final").exists()


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], pytest.MonkeyPatch]:
    """From now on no file of `room` bytes or more can be brought to the disk."""
    real = os.fsync

    def fill(room: int) -> pytest.MonkeyPatch:
        def fsync(handle: int) -> None:
            about = os.fstat(handle)
            if stat.S_ISREG(about.st_mode) and about.st_size >= room:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(handle)

        monkeypatch.setattr("os.fsync", fsync)
        return monkeypatch

    return fill


def test_a_full_disk_at_the_cache(tmp_path: Path, tiny: Path, say: Say, full_disk: Any) -> None:
    recipe = tiny_recipe(tmp_path, tiny, tmp_path / "cache")
    full = full_disk(2000)
    code, said = say("train", recipe)
    full.undo()
    assert code == 3, said
    assert "the disk is full" in said
    assert str(tmp_path / "cache") in said
    assert not [p for p in (tmp_path / "cache").rglob("*") if p.is_file()]
    assert say("train", recipe)[0] == 0


def test_a_full_disk_at_a_checkpoint(tmp_path: Path, tiny: Path, cache: Path, say: Say, full_disk: Any) -> None:
    """What stood before is untouched, nothing half-written stays, and the same command goes on once there is room."""
    recipe = tiny_recipe(tmp_path, tiny, cache)
    assert say("cache", recipe)[0] == 0
    full = full_disk(100_000)
    code, said = say("train", recipe)
    full.undo()
    assert code == 3, said
    assert "the disk is full" in said
    checkpoints = recipe.with_suffix("") / "checkpoints"
    assert [*checkpoints.iterdir()] == []
    assert say("train", recipe)[0] == 0


def test_a_full_disk_at_the_end(tmp_path: Path, tiny: Path, cache: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """safetensors has an error class of its own, which is no OSError."""
    from safetensors import SafetensorError

    recipe = tiny_recipe(tmp_path, tiny, cache)

    def full(*_: object, **__: object) -> None:
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    with monkeypatch.context() as patch:
        patch.setattr("safetensors.torch.save_file", full)
        code, said = say("train", recipe)
    assert code == 3, said
    assert str(recipe.with_suffix("") / "final") in said
    assert "No space left" in said
    assert not [p for p in recipe.with_suffix("").iterdir() if "final" in p.name]
    assert say("train", recipe)[0] == 0


def test_an_interrupted_cache_goes_on_with_the_rest(tmp_path: Path, tiny: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    """80 images in batches of 32; stopped in the third, so 64 are kept and 16 are left (and the 12 of the held-out rows)."""
    recipe = tiny_recipe(tmp_path, tiny, tmp_path / "cache", data={"train": {"count": 40}})
    monkeypatch.setattr("relatum.engine.cache.SHARD_BYTES", 1)
    seen: list[int] = []
    encode = Codec.encode

    def counted(self: Codec, pixels: torch.Tensor) -> Any:
        if sum(seen) == 64 and len(seen) == 2:
            seen.append(0)
            raise KeyboardInterrupt
        seen.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(Codec, "encode", counted)
    assert say("cache", recipe)[0] == 130
    assert seen == [32, 32, 0]
    seen[:] = [0, 0, 0, 0]
    assert say("cache", recipe)[0] == 0
    assert seen[4:] == [16, 12]
    words: list[int] = []
    text = TextEncoder.encode
    monkeypatch.setattr(TextEncoder, "encode", lambda self, texts: (words.append(len(texts)), text(self, texts))[1])
    assert say("cache", recipe)[0] == 0
    assert seen[6:] == []
    assert [n for n in words if n > 1] == []
