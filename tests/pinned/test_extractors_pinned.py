"""CLIP, DINOv2 and the safety checker through our doors against transformers' and diffusers' own, on tiny random networks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError
from relatum.metrics import open_extractor
from relatum.pretrained.safety_checker import open_safety_checker

TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
VISION = {**TOWER, "image_size": 32, "patch_size": 16, "projection_dim": 8}


def images(count: int) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.fixture(scope="module")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("clip")
    letters = [*"abcdefghijklmnopqrstuvwxyz"]
    words = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[]).save_pretrained(folder)
    text = {
        **TOWER,
        "vocab_size": len(words),
        "max_position_embeddings": 12,
        "eos_token_id": len(words) - 1,
        "bos_token_id": len(words) - 2,
    }
    CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=8)).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.4]}))
    return folder


def test_clip_equals_the_whole_models_embeddings(clip_folder: Path) -> None:
    from transformers import AutoTokenizer, CLIPModel

    ours, model = open_extractor(str(clip_folder)), CLIPModel.from_pretrained(clip_folder).eval()
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ([0.4, 0.5, 0.6], [0.2, 0.3, 0.4]))
    pixels, texts = images(2), ["a red cat", "dog"]
    tokens = AutoTokenizer.from_pretrained(clip_folder)(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        both = model(pixel_values=((pixels + 1) / 2 - mean) / std, **tokens)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(ours.images(pixels)), both.image_embeds, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(unit(ours.texts(texts)), both.text_embeds, rtol=1e-4, atol=1e-5)


def test_a_long_text_is_cut_and_keeps_its_end(clip_folder: Path) -> None:
    """The model takes 12 tokens: start, 10 letters, end. Without the end token the pooled state would be another."""
    ours = open_extractor(str(clip_folder))
    long, cut = ours.texts(["abcdefghijklmnop"]), ours.texts(["abcdefghij" + "klmnopqrstuvw"])
    torch.testing.assert_close(long, cut)
    assert not torch.allclose(long, ours.texts(["abcdefghi"]))


def test_dino_gives_its_class_token(tmp_path: Path) -> None:
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(0)
    model = Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    ).eval()
    model.save_pretrained(tmp_path)
    features = open_extractor(str(tmp_path)).images(images(2)[..., :28, :28])
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    with torch.no_grad():
        expected = model(pixel_values=((images(2)[..., :28, :28] + 1) / 2 - mean) / std).last_hidden_state[:, 0]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-5)


def test_safety_checker_flags_what_diffusers_flags(tmp_path: Path) -> None:
    import numpy as np
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    from relatum.pretrained import preprocess

    torch.manual_seed(0)
    model = StableDiffusionSafetyChecker(CLIPConfig(vision_config=VISION, projection_dim=8)).eval()
    model.concept_embeds.data = torch.randn(17, 8)
    model.special_care_embeds.data = torch.randn(3, 8)
    pixels = images(12) * torch.linspace(0.05, 1, 12)[:, None, None, None]
    clip = preprocess(pixels, 32, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
    with torch.no_grad():
        embedded = torch.nn.functional.normalize(model.visual_projection(model.vision_model(clip)[1]))
    scores = embedded @ torch.nn.functional.normalize(model.concept_embeds).T
    model.concept_embeds_weights.data = scores.amax(1).median().expand(17).clone()  # about half are flagged
    model.special_care_embeds_weights.data = torch.full((3,), 0.2)
    model.save_pretrained(tmp_path)
    _, flags = model(clip, [np.zeros(1)] * 12)
    assert 0 < sum(flags) < 12
    before = pixels.clone()
    assert open_safety_checker(str(tmp_path))(pixels) == flags
    assert torch.equal(pixels, before)
    with pytest.raises(DataError, match="no safety checker there"):
        open_safety_checker(str(tmp_path / "none"))
