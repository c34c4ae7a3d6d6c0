"""Widening, trainable parts, the codec, the text encoder, and the refusals of what is no Stable Diffusion."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.errors import DataError, RecipeError, RelatumError, ShapeError
from relatum.core.load import load
from relatum.engine.sample import Sampling, generate
from relatum.models.bundled import resolve
from relatum.models.families.stable_diffusion import open_stable_diffusion
from relatum.models.folder import SHARED_KEY
from relatum.models.schedulers import build_scheduler
from relatum.models.tiny import tiny_stable_diffusion
from relatum.models.trainable import Trainable, load_lora, make_trainable, save_lora
from relatum.models.widen import widen


def ask(unet: Any, latents: torch.Tensor) -> torch.Tensor:
    tokens = torch.randn(len(latents), 3, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return unet(latents, torch.tensor(500.0), encoder_hidden_states=tokens, return_dict=False)[0]


def test_a_widened_network_is_the_old_one_until_it_is_trained() -> None:
    """For any source latents; the bias is not zero here, so that a widening that drops it would show."""
    unet: Any = tiny_stable_diffusion(0, seed=1).unet
    torch.nn.init.normal_(unet.conv_in.bias)
    noisy, image = torch.randn(2, 4, 8, 8), 30 * torch.randn(2, 4, 8, 8)
    before = ask(unet, noisy)
    widen(unet, 4, 4)
    assert (ask(unet, torch.cat([noisy, image], 1)) - before).abs().max() < 1e-5
    assert unet.config.in_channels == 8
    with pytest.raises(RecipeError, match="already widened"):
        widen(unet, 4, 4)
    with pytest.raises(RecipeError, match="another task"):
        widen(unet, 9, 4)


def test_opening_an_image_model_for_edits_widens_it_and_saves_as_edit(tmp_path: Path) -> None:
    tiny_stable_diffusion(0, seed=1).save_pipeline(tmp_path / "image")
    model = open_stable_diffusion(str(tmp_path / "image"), 1)
    assert model.widened
    model.save_pipeline(tmp_path / "edit")
    again = open_stable_diffusion(str(tmp_path / "edit"), 1)
    assert not again.widened
    assert again.unet.config.in_channels == 8  # type: ignore[union-attr]
    with pytest.raises(RecipeError, match=r"8 input channels \(an edit model\); a task that gives it 0 pictures needs 4"):
        open_stable_diffusion(str(tmp_path / "edit"), 0)


def test_partial_training_takes_what_the_pattern_matches() -> None:
    unet = tiny_stable_diffusion().unet
    trained = make_trainable(unet, Trainable("partial", pattern=r"attn2.*to_k"))
    assert trained.parameters
    assert all("attn2" in name and "to_k" in name for name in trained.parameters)
    assert {n for n, p in unet.named_parameters() if p.requires_grad} == set(trained.parameters)
    with pytest.raises(RecipeError, match=r"matches none of the network's \d+ parameters; near: .*conv_in\.weight"):
        make_trainable(unet, Trainable("partial", pattern="conv_im.weight"))
    with pytest.raises(RecipeError, match="not a regular expression"):
        make_trainable(unet, Trainable("partial", pattern="("))
    assert len(make_trainable(unet, Trainable()).parameters) == len(list(unet.parameters()))


@pytest.mark.parametrize("table", [{"kind": "partial"}, {"pattern": "x"}, {"kind": "lora", "rank": 0}, {"kind": "lorra"}])
def test_trainable_settings_are_checked(table: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"^model\.train"):
        load(Trainable, table, "model.train")


def test_lora_trains_adapters_only_and_can_be_left_for_the_base() -> None:
    unet: Any = tiny_stable_diffusion(1, seed=1).unet
    latents = torch.randn(2, 8, 8, 8)
    before = ask(unet, latents)
    trained = make_trainable(unet, Trainable("lora", rank=2), seed=5)
    assert trained.parameters
    assert all(".lora_" in name for name in trained.parameters)
    assert torch.equal(ask(unet, latents), before)
    with torch.no_grad():
        for parameter in trained.parameters.values():
            parameter.normal_()
    assert (ask(unet, latents) - before).abs().max() > 1e-3
    assert trained.without_adapters is not None
    with trained.without_adapters():
        assert torch.equal(ask(unet, latents), before)
    assert (ask(unet, latents) - before).abs().max() > 1e-3


def test_lora_starts_from_its_seed_alone(tmp_path: Path) -> None:
    def first(seed: int) -> dict[str, torch.Tensor]:
        torch.rand(seed)  # whatever was drawn before
        return dict(make_trainable(tiny_stable_diffusion().unet, Trainable("lora"), seed=seed).parameters)

    one, same, other = first(3), first(3), first(4)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert any(not torch.equal(one[name], other[name]) for name in one)
    with pytest.raises(RecipeError, match="no layer of the network is named 'to_w'"):
        make_trainable(tiny_stable_diffusion().unet, Trainable("lora", targets=("to_w",)))
    with pytest.raises(RecipeError, match="no LoRA adapters"):
        save_lora(tiny_stable_diffusion().unet, tmp_path)
    small, large = (tiny_stable_diffusion().unet for _ in range(2))
    make_trainable(small, Trainable("lora", rank=2))
    make_trainable(large, Trainable("lora", rank=3))
    save_lora(small, tmp_path)
    with pytest.raises(RecipeError, match="does not fit the adapters"):
        load_lora(large, tmp_path)


def test_codec_scales_the_target_and_not_the_source() -> None:
    """mean 2, logvar ln 4 (std 2), noise 3: the target is (2 + 2 * 3) * 0.18215 = 1.4572, its mode 0.3643, the source 2."""
    from relatum.models.codec import Moments

    codec = tiny_stable_diffusion().codec
    one = torch.ones(1, 4, 2, 2)
    moments = Moments(2 * one, torch.tensor(4.0).log() * one)
    assert torch.allclose(codec.latents(moments, 3 * one), 1.4572 * one)
    assert torch.allclose(codec.latents(moments, None), 0.3643 * one)
    assert torch.equal(codec.source(moments), 2 * one)


def test_codec_in_batches_and_its_shapes() -> None:
    model = tiny_stable_diffusion(factor=4)
    pixels = torch.rand(5, 3, 16, 24) * 2 - 1
    moments = model.codec.encode(pixels)
    assert moments.mean.shape == (5, 4, 4, 6)
    want = model.codec.vae.encode(pixels).latent_dist  # type: ignore[operator]
    model.codec.batch = 2
    small = model.codec.encode(pixels)
    assert torch.allclose(small.mean, want.mean, atol=1e-5)
    assert torch.allclose(small.logvar, want.logvar, atol=1e-5)
    assert not small.mean.requires_grad
    picture = model.codec.decode(100 * model.codec.latents(small, None))
    assert picture.shape == pixels.shape
    assert picture.abs().max() <= 1
    with pytest.raises(ShapeError, match="multiples of 4"):
        model.codec.encode(torch.zeros(1, 3, 16, 18))


def test_fingerprints_follow_the_weights_and_the_words(tmp_path: Path) -> None:
    one, same, other = tiny_stable_diffusion(seed=1), tiny_stable_diffusion(seed=1), tiny_stable_diffusion(seed=2)
    assert one.codec.fingerprint == same.codec.fingerprint != other.codec.fingerprint
    same.text.encode(["padding and truncation are the call's"])
    assert one.text.fingerprint == same.text.fingerprint != other.text.fingerprint
    one.save_pipeline(tmp_path / "p")
    read = open_stable_diffusion(str(tmp_path / "p"), 1)
    assert (read.codec.fingerprint, read.text.fingerprint) == (one.codec.fingerprint, one.text.fingerprint)
    with torch.no_grad():
        next(same.codec.vae.parameters()).view(-1)[0] += 1e-3
    same.codec._fingerprint = None
    assert same.codec.fingerprint != one.codec.fingerprint


def test_text_states_are_those_of_the_encoder_in_any_batch() -> None:
    text = tiny_stable_diffusion().text
    texts = ["red", "a blue square", "x" * 60]
    states = text.encode(texts)
    assert states.shape == (3, 48, 32)
    text.batch = 1
    assert torch.allclose(text.encode(texts), states, atol=1e-5)
    assert torch.equal(text.null, text.encode([""]))
    assert text.cut(texts) == [2]


def test_a_shared_folder_takes_the_rest_from_its_sibling(tmp_path: Path) -> None:
    base, edit = tiny_stable_diffusion(0, seed=1), tiny_stable_diffusion(1, seed=1)
    base.save_pipeline(tmp_path / "toy")
    edit.save_pipeline(tmp_path / "toy-edit", shared="toy")
    assert {p.name for p in (tmp_path / "toy-edit").iterdir()} == {"unet", "scheduler", "model_index.json"}
    model = open_stable_diffusion(str(tmp_path / "toy-edit"), 1)
    assert model.codec.fingerprint == base.codec.fingerprint
    model.save_pipeline(tmp_path / "whole")
    assert (tmp_path / "whole" / "vae").is_dir()
    index = tmp_path / "toy-edit" / "model_index.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), SHARED_KEY: "../toy"}))
    with pytest.raises(DataError, match="expected the name of a folder beside"):
        open_stable_diffusion(str(tmp_path / "toy-edit"), 1)


def test_saving_is_all_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_stable_diffusion(0, seed=1)
    model.save_pipeline(tmp_path / "final")
    before = {p: p.read_bytes() for p in (tmp_path / "final").rglob("*") if p.is_file()}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("relatum.models.saving.plain_vocabulary", full)
    with pytest.raises(DataError, match="No space left"):
        tiny_stable_diffusion(0, seed=2).save_pipeline(tmp_path / "final")
    assert {p: p.read_bytes() for p in (tmp_path / "final").rglob("*") if p.is_file()} == before
    assert os.listdir(tmp_path) == ["final"]


def test_a_safety_checker_is_kept(tmp_path: Path) -> None:
    tiny_stable_diffusion(0, seed=1).save_pipeline(tmp_path / "base")
    for name, file in (("safety_checker", "model.safetensors"), ("feature_extractor", "preprocessor_config.json")):
        (tmp_path / "base" / name).mkdir()
        (tmp_path / "base" / name / file).write_text("{}")
    (tmp_path / "base" / "safety_checker" / "pytorch_model.bin").write_text("a pickle")
    index = tmp_path / "base" / "model_index.json"
    kept = {
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
    }
    index.write_text(json.dumps({**json.loads(index.read_text()), **kept, "requires_safety_checker": True}))
    open_stable_diffusion(str(tmp_path / "base"), 1).save_pipeline(tmp_path / "final")
    saved = json.loads((tmp_path / "final" / "model_index.json").read_text())
    assert {name: saved[name] for name in kept} == kept
    assert saved["requires_safety_checker"] is True
    assert [p.name for p in (tmp_path / "final" / "safety_checker").iterdir()] == ["model.safetensors"]


def _edit_json(file: str, **changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return change


def _pickled(folder: Path) -> None:
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(folder / "unet" / "diffusion_pytorch_model.bin")


def _truncated(folder: Path) -> None:
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:1000])


@pytest.mark.parametrize(
    ("spoil", "error", "words"),
    [
        (lambda f: (f / "model_index.json").unlink(), RecipeError, "not a diffusers pipeline: it has no model_index.json"),
        (lambda f: (f / "model_index.json").write_text("{"), DataError, "model_index.json cannot be read"),
        (lambda f: shutil.rmtree(f / "vae"), DataError, "has no vae"),
        (lambda f: (f / "unet" / "config.json").unlink(), DataError, "config.json is missing"),
        (_pickled, DataError, "weights are pickled"),
        (_truncated, DataError, "unet cannot be loaded"),
        (_edit_json("model_index.json", _class_name="StableDiffusionXLPipeline"), RecipeError, "is a StableDiffusionXLPipeline"),
        (
            _edit_json("model_index.json", _class_name="FluxPipeline"),
            RecipeError,
            "is a FluxPipeline; expected Stable Diffusion 1.x",
        ),
        (_edit_json("unet/config.json", addition_embed_type="text_time"), RecipeError, "text_time embeddings, as SDXL has"),
        (_edit_json("unet/config.json", _class_name="FluxTransformer2DModel"), RecipeError, "unet is a FluxTransformer2DModel"),
        (
            _edit_json("unet/config.json", in_channels=9),
            RecipeError,
            r"9 input channels \(an inpainting model\); a task that gives it 1 pictures needs 4 or 8",
        ),
        (_edit_json("unet/config.json", cross_attention_dim=768), RecipeError, "width 768, the text encoder gives 32"),
        (_edit_json("vae/config.json", latent_channels=16), RecipeError, "the unet makes 4 channels, the vae has 16"),
        (_edit_json("vae/config.json", _class_name="AutoencoderTiny"), RecipeError, "vae is a AutoencoderTiny"),
        (_edit_json("scheduler/scheduler_config.json", _class_name="NoSuchScheduler"), RecipeError, "NoSuchScheduler"),
        (_edit_json("scheduler/scheduler_config.json", prediction_type="flow_prediction"), RecipeError, "flow_prediction"),
        (
            _edit_json("scheduler/scheduler_config.json", rescale_betas_zero_snr=True),
            RecipeError,
            "use prediction_type v_prediction",
        ),
    ],
)
def test_what_is_no_stable_diffusion_is_refused(
    tmp_path: Path, tiny_folder: Path, spoil: Callable[[Path], Any], error: type[RelatumError], words: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_folder, folder)
    spoil(folder)
    with pytest.raises(error, match=words):
        open_stable_diffusion(str(folder), 1)


@pytest.fixture(scope="module")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "model"
    tiny_stable_diffusion(0, seed=1).save_pipeline(folder)
    return folder


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"no folder '\./nothing'"):
        open_stable_diffusion("./nothing", 1)
    (tmp_path / "model.safetensors").write_bytes(b"")
    with pytest.raises(RecipeError, match="is a single file"):
        open_stable_diffusion(str(tmp_path / "model.safetensors"), 1)
    with pytest.raises(RecipeError, match=r"'nobody/nothing' .* in the local cache \(offline\)"):
        open_stable_diffusion("nobody/nothing", 1, offline=True)
    with pytest.raises(RecipeError, match=r"no bundled model 'relatum:toi'; did you mean 'toy'"):
        resolve("relatum:toi")
    assert resolve("owner/name") == "owner/name"


def test_schedule_overrides_reach_training_and_the_saved_sampler(tmp_path: Path, tiny_folder: Path) -> None:
    model = open_stable_diffusion(str(tiny_folder), 0, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    assert model.kind.value == "v"
    assert model.path.zero_terminal_snr
    model.save_pipeline(tmp_path / "v")
    again = open_stable_diffusion(str(tmp_path / "v"), 0)
    assert again.kind.value == "v"
    assert torch.equal(again.path.abar, model.path.abar)
    assert again.scheduler.config.timestep_spacing == "trailing"


def test_sampling_settings_are_checked() -> None:
    for table, words in (
        ({"num_inference_steps": 0}, "at least 1"),
        ({"eta": 2.0}, "0 to 1"),
        ({"eta": 0.5, "scheduler": "EulerDiscreteScheduler"}, "DDIMScheduler only"),
        ({"guidance": 3.0}, "did you mean 'guidance_scale'"),
    ):
        with pytest.raises(RecipeError, match=words):
            load(Sampling, table, "sample")
    config = tiny_stable_diffusion().scheduler.config
    with pytest.raises(RecipeError, match="did you mean 'EulerDiscreteScheduler'"):
        build_scheduler("EulerDiscretScheduler", config)
    with pytest.raises(RecipeError, match="did you mean 'use_karras_sigmas'"):
        build_scheduler("EulerDiscreteScheduler", config, {"use_karras_sigma": True})
    assert build_scheduler("EulerDiscreteScheduler", config, {"use_karras_sigmas": True}).config.use_karras_sigmas
    model = tiny_stable_diffusion()
    with pytest.raises(ShapeError, match="2 ids, 1 texts"):
        generate(model, Sampling(), seed=0, ids=["a", "b"], tokens=model.text.encode(["x"]), size=16)
