"""The bundled base does what its README says: sharp reconstructions, words with meaning, folders that stock libraries load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import relatum
from relatum.core.shapes import Pixels
from relatum.data.toy import ToyEdits, ToyScenes
from relatum.data.toy.grammar import ground_words
from relatum.data.toy.scene import COLORS, SHAPES, grounds_of
from relatum.engine.sample import Sampling, generate
from relatum.models.families.clip import image_features, normalize, text_features
from relatum.models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from relatum.pretrained import load_tinyconv
from relatum.pretrained.loading import quiet

BASE = Path(relatum.__file__).parent / "base"


@pytest.fixture(scope="module")
def edit_model() -> StableDiffusion:
    return open_stable_diffusion("relatum:toy-edit", 1)


@pytest.fixture(scope="module")
def clip() -> Any:
    from transformers import CLIPModel

    with quiet():
        model: Any = CLIPModel.from_pretrained(BASE / "clip", dtype=torch.float32)
    return model.eval()


def scenes(count: int, **settings: Any) -> tuple[Pixels, list[dict[str, Any]]]:
    rows = ToyScenes(split="test", count=count, seed=77, **settings).rows()
    return torch.stack([row.images["target"].pixels(32) for row in rows]), [row.facts["scene_target"] for row in rows]


def psnr(a: Pixels, b: Pixels) -> torch.Tensor:
    """dB an image, for pixels in [-1, 1]."""
    return 10 * torch.log10(4 / (a - b).square().flatten(1).mean(1))


def test_size() -> None:
    total = sum(file.stat().st_size for file in BASE.rglob("*") if file.is_file())
    assert total <= 20 * 2**20


def test_weights_are_half_precision_safetensors() -> None:
    from safetensors import safe_open

    files = sorted(BASE.rglob("*.safetensors"))
    assert len(files) == 6  # toy: unet, vae, text encoder; toy-edit: unet; clip; tinyconv
    for file in files:
        with safe_open(file, "pt") as opened:
            kinds = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
        assert kinds <= {"F16", "I64"}, file
    assert not [*BASE.rglob("*.bin"), *BASE.rglob("*.pt")]


def test_reconstructions_are_sharp(edit_model: StableDiffusion) -> None:
    """At least 30 dB on held-out scenes, and the latents' deviation is about 1."""
    pixels, _ = scenes(64)
    codec = edit_model.codec
    latents = codec.latents(codec.encode(pixels), None)
    assert psnr(codec.decode(latents), pixels).mean().item() >= 30
    assert 0.85 < latents.std().item() < 1.15


def test_zero_shot_shapes_and_colors(clip: Any) -> None:
    """Label texts alone classify held-out scenes of one object: chance is 1 of 6 shapes, 1 of 8 colors."""
    from transformers import CLIPTokenizer

    tokenizer: Any = CLIPTokenizer.from_pretrained(BASE / "clip")
    pixels, facts = scenes(128, max_objects=1)
    words = torch.zeros(len(SHAPES) * len(COLORS), clip.config.projection_dim)
    with torch.no_grad():
        for ground in grounds_of("plain"):  # the mean over sentences, as Radford et al. 2021, section 3.1.4
            labels = [f"a {color} {shape} on {ground_words(ground)}" for shape in SHAPES for color in COLORS]
            words += text_features(clip, tokenizer(labels, padding=True, return_tensors="pt").input_ids)
        best = (image_features(clip, pixels) @ normalize(words).T).argmax(1)
    shape = torch.tensor([SHAPES.index(f["objects"][0]["shape"]) for f in facts])
    color = torch.tensor([list(COLORS).index(f["objects"][0]["color"]) for f in facts])
    assert (best // len(COLORS) == shape).float().mean().item() > 0.6
    assert (best % len(COLORS) == color).float().mean().item() > 0.9


def test_stock_pipeline_loads_and_paints() -> None:
    from diffusers import StableDiffusionPipeline

    with quiet():
        pipeline: Any = StableDiffusionPipeline.from_pretrained(BASE / "toy", dtype=torch.float32, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    picture = pipeline(
        "a large red circle on a white ground", height=32, width=32, num_inference_steps=10, latents=noise, output_type="pt"
    ).images
    assert picture.shape == (1, 3, 32, 32)
    red = (picture[0, 0] > 0.6) & (picture[0, 1] < 0.45) & (picture[0, 2] < 0.45)
    assert 0.02 < red.float().mean().item() < 0.4


def test_edits_beat_copying(edit_model: StableDiffusion) -> None:
    """On 24 held-out edits: the share of those whose error where something changes is under a quarter of copying's."""
    rows = ToyEdits(split="test", count=24, seed=5).rows()
    source = torch.stack([row.images["source"].pixels(32) for row in rows])
    target = torch.stack([row.images["target"].pixels(32) for row in rows])
    mask = torch.stack([row.masks["changed"].mask(32) for row in rows])
    made = generate(
        edit_model,
        Sampling(num_inference_steps=10, guidance_scale=3.0, image_guidance_scale=1.5),
        seed=0,
        ids=[row.id for row in rows],
        tokens=edit_model.text.encode([row.texts["instruction"] for row in rows]),
        size=32,
        image=edit_model.codec.source(edit_model.codec.encode(source)),
        batch=24,
    )
    error = ((made - target).square() * mask).flatten(1).sum(1)
    copying = ((source - target).square() * mask).flatten(1).sum(1)
    assert (error < copying / 4).float().mean().item() >= 0.5
    assert psnr(made, target).mean() > psnr(source, target).mean() + 3


def test_any_text_encodes(edit_model: StableDiffusion) -> None:
    tokenizer = edit_model.text.tokenizer
    for text in ("a zebra, 77 umbrellas & one naïve 日本 quokka", "REMOVE the hat"):
        ids = tokenizer(text).input_ids
        assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "")
    rows = ToyEdits(split="test", count=64).rows()
    texts = [text for row in rows for text in row.texts.values()]
    assert edit_model.text.cut(texts) == []
    words = {word.strip(",") for text in texts for word in text.split()}
    assert all(len(tokenizer(word).input_ids) == 3 for word in words)


def test_text_encoder_is_the_clips(clip: Any, edit_model: StableDiffusion) -> None:
    """The text tower was locked while the image tower was trained on."""
    ids = edit_model.text.tokenizer(["a red ring"], padding="max_length", return_tensors="pt").input_ids
    with torch.no_grad():
        states = clip.text_model(input_ids=ids)[0]
    assert torch.allclose(edit_model.text.encode(["a red ring"]), states, atol=1e-5)


def test_tinyconv_knows_its_attributes() -> None:
    pixels, facts = scenes(64, max_objects=1)
    model = load_tinyconv(BASE / "tinyconv.safetensors")
    best = model(pixels)["pairs"].argmax(1)
    pairs = [SHAPES.index(f["objects"][0]["shape"]) * len(COLORS) + list(COLORS).index(f["objects"][0]["color"]) for f in facts]
    assert (best == torch.tensor(pairs)).float().mean().item() > 0.8  # chance: 1 of 48
