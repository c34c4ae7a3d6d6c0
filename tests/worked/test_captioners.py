"""Captioners and aesthetic heads of others, by path, as tiny random models; what of their words is a caption."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relatum.core.errors import DataError
from relatum.curation.captions import clean, fault_of, loops, merge
from relatum.pretrained.aesthetic import open_aesthetic
from relatum.pretrained.captioner import open_captioner, whole_sentences
from relatum.pretrained.rewriter import open_rewriter
from support.captioners import save_all, save_blip, save_head


def still(number: int, height: int = 20, width: int = 30) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_all(tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize(
    ("said", "caption"),
    [
        ("This video shows a dog running.", "a dog running."),
        ("arafed man on an araffe bike", "man on a bike"),
        ("there is an arafed elephant", "there is an elephant"),
        ("In this video, we can see a cat.", "a cat."),
        ("The image depicts: this short clip shows a red car", "a red car"),
        ('Sure! Here is a caption: "This video shows an arafed dog."', "a dog."),
        ("<|im_start|>a dog[SEP]\n on \u200bgrass", "a dog on grass"),
        ("Arafat leaves a picture frame on a wall", "Arafat leaves a picture frame on a wall"),
        ("a still life, filmed at night", "a still life, filmed at night"),
        ("an hour on an SUV", "an hour on an SUV"),
        ('"yes" and "no"', '"yes" and "no"'),
    ],
)
def test_what_models_put_before_a_caption_is_cut_off(said: str, caption: str) -> None:
    assert clean(said) == caption


def test_loops() -> None:
    assert loops("a dog " * 2 + "runs") == ""
    assert loops("a dog " * 3) == "a dog"  # two words, three times
    assert loops("so very very very tall") == ""
    assert loops("so very very very Very tall") == "very"
    assert loops("狗在狗在狗在") == "狗 在"  # no spaces between words
    # Ten words again and again, other words between: of three legs 32 - 3 = 29 runs of four, 7 + 2 * 4 = 15 of them different; of
    # four 43 - 3 = 40, and 7 + 3 * 4 = 19.
    legs = "the old man in red walks slowly on one side"
    assert loops(f"{legs} and {legs} while {legs}") == ""
    assert loops(f"{legs} and {legs} while {legs} but {legs}") == "the old man in"


def test_what_is_no_caption_has_a_reason() -> None:
    assert fault_of("a dog", 2) == ""
    assert fault_of("a dog runs", 2) == "long: 3 words, at most 2 are taken"
    assert fault_of(" . !", 2) == "empty"
    assert fault_of("dog dog dog dog", 9) == "loop: 'dog' over and over"


def test_two_captions_become_one_without_a_model() -> None:
    assert merge("a dog on grass", "a dog runs") == "A dog on grass. A dog runs."
    assert merge("a brown dog!", "a dog") == "A brown dog!"
    assert merge("a dog", "a dog") == "A dog."
    assert whole_sentences("one two") == "one two"


@pytest.mark.parametrize(("name", "stills"), [("blip", 1), ("video_git", 8), ("llava", 5)])
@pytest.mark.parametrize("prompt", ["", "a red ball"])
def test_a_caption_depends_on_its_clip_alone(models: Path, name: str, stills: int, prompt: str) -> None:
    captioner = open_captioner(str(models / name), prompt, 12, several=stills > 1)
    clips = [[still(10 * i + k) for k in range(stills)] for i in range(4)]
    said = captioner(clips)
    assert len(set(said)) > 1  # it depends on what is seen
    assert captioner(clips[::-1]) == said[::-1]
    captioner.together = True  # as on a GPU
    assert captioner(clips) == said
    assert captioner(clips[2:]) == said[2:]
    assert not any(text.startswith("a red ball") for text in said)  # the prompt is no part of it


def test_frames_are_spread_over_the_clip(models: Path) -> None:
    """The model has 6 frames: of 8 the places k 7/5 = 0, 1.4, 2.8, 4.2, 5.6, 7; of 2, k/5: three times each."""
    captioner = open_captioner(str(models / "video_git"), tokens=12, several=True)
    clips = [[still(10 * i + k) for k in range(8)] for i in range(4)]
    assert captioner(clips) == captioner([[clip[k] for k in (0, 1, 3, 4, 6, 7)] for clip in clips])
    assert captioner(clips) != captioner([clip[::-1] for clip in clips])
    assert captioner([clip[:2] for clip in clips]) == captioner([[clip[k] for k in (0, 0, 0, 1, 1, 1)] for clip in clips])


def test_clips_of_unequal_stills_go_together(models: Path) -> None:
    """Their prompts are of other lengths, so that one is padded, on the left."""
    captioner = open_captioner(str(models / "llava"), tokens=12, several=True)
    clips = [[still(10 * i + k) for k in range(count)] for i, count in enumerate((5, 2, 3))]
    said = captioner(clips)
    captioner.together = True
    assert captioner(clips) == said


def test_captioner_fingerprints(models: Path, tmp_path: Path) -> None:
    name = str(models / "blip")
    same = open_captioner(name).fingerprint
    assert open_captioner(name).fingerprint == same
    assert open_captioner(name, prompt="a").fingerprint != same
    assert open_captioner(name, tokens=5).fingerprint != same
    assert open_captioner(str(save_blip(tmp_path / "other", seed=1))).fingerprint != same
    shutil.copytree(models / "blip", tmp_path / "pictures")
    file = tmp_path / "pictures" / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["image_mean"] = [0.1, 0.2, 0.3]
    file.write_text(json.dumps(settings))
    assert open_captioner(str(tmp_path / "pictures")).fingerprint != same


def _pickled(folder: Path) -> None:
    from safetensors.torch import load_file

    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _lacking(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["vision_model.post_layernorm.weight"]
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def _needy(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "qwen2_vl"}')
    (folder / "processor_config.json").write_text('{"processor_class": "Qwen2VLProcessor"}')
    (folder / "preprocessor_config.json").write_text('{"image_processor_type": "Qwen2VLImageProcessor"}')


def _wordless(folder: Path) -> None:
    for file in folder.glob("token*"):
        file.unlink()


def _own_code(folder: Path) -> None:
    config = {"model_type": "mine", "auto_map": {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('was run')")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_pickled, "neither a folder with safetensors"),
        (_lacking, r"lack 1 weights \(vision_model.post_layernorm.weight"),
        (_needy, "torchvision, which has to fit"),
        (_wordless, "its tokenizer knows no words"),
        (_own_code, "no captioner of transformers"),
    ],
)
def test_captioners_that_cannot_be_opened(models: Path, tmp_path: Path, change: Callable[[Path], None], words: str) -> None:
    if change is _needy and find_spec("torchvision"):
        pytest.skip("torchvision is installed")
    folder = tmp_path / "model"
    shutil.copytree(models / "blip", folder)
    change(folder)
    with pytest.raises(DataError, match=words):
        open_captioner(str(folder))


def test_names_of_captioners(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match=r"\./none: no such folder; give a captioner"):
        open_captioner("./none")
    with pytest.raises(DataError, match=r"blip is a folder, which has no revisions"):
        open_captioner(f"{models / 'blip'}@main")
    with pytest.raises(DataError, match="a blip takes one picture and has no chat template"):
        open_captioner(str(models / "blip"), several=True)
    with pytest.raises(DataError, match="no captioner of transformers"):
        open_captioner(str(models / "gpt"))
    cache = tmp_path / "models--owner--tiny"
    shutil.copytree(models / "blip", cache / "snapshots" / ("1" * 40))
    (cache / "refs").mkdir()
    (cache / "refs" / "v1").write_text("1" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert open_captioner("owner/tiny@v1").fingerprint == open_captioner(str(models / "blip")).fingerprint
    with pytest.raises(DataError, match=r"captioner 'owner/tiny@v2': neither a folder with safetensors nor a reachable hub id"):
        open_captioner("owner/tiny@v2")
    assert open_rewriter(str(models / "gpt")).fingerprint


def test_a_linear_head_by_hand(tmp_path: Path) -> None:
    """.6 * 1 + .8 * 2 + .5 = 2.7; 0 * 1 + 1 * 2 + .5 = 2.5."""
    path = save_head(tmp_path / "head.safetensors", {"weight": [[1.0, 2.0]], "bias": [0.5]})
    head = open_aesthetic(path, 2)
    torch.testing.assert_close(head(torch.tensor([[0.6, 0.8], [0.0, 1.0]])), torch.tensor([2.7, 2.5]))


def test_the_layout_of_laion_by_hand(tmp_path: Path) -> None:
    """First layer of (.6, .8): (.6 - .8 - 1, 2 * .6 + .1) = (-1.2, 1.3); second: -1.2 * 3 + 1.3 * 10 + 4 = 13.4.

    With a ReLU between: 0 * 3 + 1.3 * 10 + 4 = 17. Layer 10 comes after layer 2.
    """
    layers = {"layers.2.weight": [[1.0, -1.0], [2.0, 0.0]], "layers.2.bias": [-1.0, 0.1]}
    path = save_head(tmp_path / "head.safetensors", layers | {"layers.10.weight": [[3.0, 10.0]], "layers.10.bias": [4.0]})
    seen = torch.tensor([[0.6, 0.8]])
    torch.testing.assert_close(open_aesthetic(path, 2)(seen), torch.tensor([13.4]))
    torch.testing.assert_close(open_aesthetic(path, 2, "relu")(seen), torch.tensor([17.0]))
    assert open_aesthetic(path, 2).fingerprint != open_aesthetic(path, 2, "relu").fingerprint


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"weight": [[1.0, 2.0, 3.0]], "bias": [0.0]}, r"weight of shape \(1, 3\).*CLIP model's embedding has 2 numbers"),
        ({"weight": [[1.0, 2.0], [1.0, 2.0]], "bias": [0.0, 0.0]}, "gives 2 numbers a picture"),
        ({"weight": [[1.0, 2.0]]}, r"bias of \(0,\)"),
        ({"layers.0.weight": [[1.0, 2.0]], "layers.0.bias": [0.0], "layers.1.weight": [[1.0, 2.0]], "layers.1.bias": [0.0]},
         r"layers.1 has a weight .*the layer before it has 1 numbers"),
        ({"weight": [[1.0, 2.0]], "bias": [0.0], "vision.weight": [0.0]}, "has bias, vision.weight, weight; expected"),
        ({"weight": [[1.0, float("nan")]], "bias": [0.0]}, "weight has NaN"),
        ({}, "has nothing"),
    ],
)  # fmt: skip
def test_heads_that_do_not_fit(tmp_path: Path, tensors: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        open_aesthetic(save_head(tmp_path / "head.safetensors", tensors), 2)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    for name in ("head.pth", "head.pt", "head.ckpt", "head"):
        with pytest.raises(DataError, match=r"opening a pickle .* can run any program\. Convert"):
            open_aesthetic(tmp_path / name, 2)
    (tmp_path / "cut.safetensors").write_bytes(b"\x08\0\0\0\0\0\0\0{")
    for name, words in (("cut", "damaged or cut"), ("none", "cannot be read")):
        with pytest.raises(DataError, match=words):
            open_aesthetic(tmp_path / f"{name}.safetensors", 2)
