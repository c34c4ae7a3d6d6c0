"""Our models and sampling against stock diffusers: the folder loads without us and gives the same picture for the same noise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.draws import Draws, key_of
from relatum.engine.sample import Sampling, generate, guidance, sample
from relatum.models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from relatum.models.tiny import tiny_stable_diffusion
from relatum.models.trainable import Trainable, load_lora, make_trainable, save_lora

# diffusers 0.42 hands torch tensors to numpy's __array__ in its sigma schedules
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXTS = ["make the circle red", "remove the square"]
IDS = ["a", "b"]
SIZE = 16
STEPS = 4


def source_pixels(count: int = 2) -> torch.Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) * 2 - 1


def stock(folder: Path, edit: bool, scheduler: str | None = None) -> Any:
    import diffusers

    cls = diffusers.StableDiffusionInstructPix2PixPipeline if edit else diffusers.StableDiffusionPipeline
    pipe = cls.from_pretrained(folder)
    if scheduler:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def stock_pictures(pipe: Any, settings: Sampling, image: torch.Tensor | None, seed: int = 3) -> torch.Tensor:
    """The stock pipeline's pictures in [-1, 1] from our addressed noise; the image goes in as [0, 1] pixels."""
    more: dict[str, Any] = {}
    if image is not None:
        more = {"image": image / 2 + 0.5, "image_guidance_scale": settings.image_guidance_scale}
    else:
        more = {"height": SIZE, "width": SIZE}
    out = pipe(
        TEXTS,
        guidance_scale=settings.guidance_scale,
        num_inference_steps=settings.num_inference_steps,
        latents=Draws(seed, IDS).normal("sample", (4, 4, 4)),
        generator=[torch.Generator().manual_seed(key_of(seed, "sampler", name)) for name in IDS],
        eta=settings.eta,
        output_type="pt",
        return_dict=False,
        **more,
    )[0]
    return out.float() * 2 - 1


def ours(model: StableDiffusion, settings: Sampling, image: torch.Tensor | None, seed: int = 3, **more: Any) -> torch.Tensor:
    latents = None if image is None else model.codec.source(model.codec.encode(image))
    return generate(model, settings, seed=seed, ids=IDS, tokens=model.text.encode(TEXTS), size=SIZE, image=latents, **more)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("pipelines")
    for name, images, prediction in (
        ("edit", 1, "epsilon"),
        ("edit-v", 1, "v_prediction"),
        ("image", 0, "epsilon"),
        ("image-v", 0, "v_prediction"),
    ):
        tiny_stable_diffusion(images, seed=1, prediction_type=prediction).save_pipeline(root / name)  # type: ignore[arg-type]
    return {path.name: path for path in root.iterdir()}


SCHEDULERS = (
    "DDIMScheduler",
    "DDPMScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
    "PNDMScheduler",
    "HeunDiscreteScheduler",
    "LMSDiscreteScheduler",
)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("name", ["edit", "image"])
def test_stock_pipeline_gives_the_same_picture(folders: dict[str, Path], name: str, scheduler: str) -> None:
    image = source_pixels() if name == "edit" else None
    settings = Sampling(scheduler, STEPS, guidance_scale=5.0, image_guidance_scale=1.7)
    theirs = stock_pictures(stock(folders[name], name == "edit", scheduler), settings, image)
    mine = ours(open_stable_diffusion(str(folders[name]), int(name == "edit")), settings, image)
    assert theirs.std() > 0.01
    assert (mine - theirs).abs().max() < 1e-4


@pytest.mark.parametrize(("text", "image_scale"), [(7.5, 1.0), (1.5, 1.5), (1.01, 3.0)])
def test_stock_pipeline_at_other_scales(folders: dict[str, Path], text: float, image_scale: float) -> None:
    """image_guidance_scale = 1 and equal scales leave out one of the three forwards here, none in the stock pipeline."""
    settings = Sampling("EulerDiscreteScheduler", STEPS, text, image_scale)
    theirs = stock_pictures(stock(folders["edit"], True, settings.scheduler), settings, source_pixels())
    assert (ours(open_stable_diffusion(str(folders["edit"]), 1), settings, source_pixels()) - theirs).abs().max() < 1e-4


def test_stock_pipelines_of_v_prediction_and_eta(folders: dict[str, Path]) -> None:
    settings = Sampling("DDIMScheduler", STEPS, 4.0, 1.3, eta=0.7)
    for name in ("edit-v", "image-v"):
        image = source_pixels() if name.startswith("edit") else None
        model = open_stable_diffusion(str(folders[name]), int(name.startswith("edit")))
        assert model.kind.value == "v"
        theirs = stock_pictures(stock(folders[name], image is not None), settings, image)
        assert (ours(model, settings, image) - theirs).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("text", "image_scale"), [(0.0, 0.0), (1.0, 1.0), (0.5, 0.3), (3.0, 0.0), (0.0, 2.0), (7.5, 0.9), (1.0, 0.0)]
)
def test_every_scale_follows_the_formula(text: float, image_scale: float) -> None:
    """One DDIM step against all three forwards written out; below 1 the stock pipeline would drop all guidance silently."""
    model = tiny_stable_diffusion(1, seed=2)
    settings = Sampling("DDIMScheduler", 1, text, image_scale)
    scheduler = model.sampler("DDIMScheduler")
    tokens, null = model.text.encode(TEXTS), model.text.null
    image = model.codec.source(model.codec.encode(source_pixels()))
    noise = Draws(0, IDS).normal("sample", (4, 4, 4))
    got = sample(model.unet, scheduler, settings, tokens, null, image, noise, [torch.Generator() for _ in IDS])
    scheduler.set_timesteps(1)
    time = scheduler.timesteps[0]
    with torch.no_grad():

        def ask(states: torch.Tensor, picture: torch.Tensor) -> torch.Tensor:
            return model.unet(torch.cat([noise, picture], 1), time, encoder_hidden_states=states, return_dict=False)[0]

        empty = null.expand_as(tokens)
        with_text, with_image, uncond = ask(tokens, image), ask(empty, image), ask(empty, torch.zeros_like(image))
    guided = uncond + text * (with_text - with_image) + image_scale * (with_image - uncond)
    want = scheduler.step(guided, time, noise, return_dict=False)[0]
    assert (got - want).abs().max() < 1e-4
    assert (with_text - uncond).abs().max() > 1e-3  # the views differ, so that a wrong weight would show


def test_forwards_of_zero_weight_are_not_made(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_stable_diffusion(1, seed=2)
    sizes: list[int] = []
    forward = model.unet.forward

    def counted(inputs: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        sizes.append(len(inputs))
        return forward(inputs, *args, **kwargs)

    monkeypatch.setattr(model.unet, "forward", counted)
    for text, image_scale, views in ((1.0, 1.0, 1), (7.5, 1.0, 2), (2.0, 2.0, 2), (0.0, 1.0, 1), (7.5, 1.5, 3), (0.0, 0.0, 1)):
        sizes.clear()
        ours(model, Sampling(num_inference_steps=2, guidance_scale=text, image_guidance_scale=image_scale), source_pixels())
        assert sizes == [2 * views] * 2
        weights = guidance(Sampling(guidance_scale=text, image_guidance_scale=image_scale), edit=True)
        assert len(weights) == views
        assert sum(weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("scheduler", ["EulerAncestralDiscreteScheduler", "DDPMScheduler", "DDIMScheduler"])
def test_a_picture_does_not_depend_on_its_batch(scheduler: str) -> None:
    model = tiny_stable_diffusion(1, seed=2)
    settings = Sampling(scheduler, STEPS, 3.0, 1.5, eta=0.5 if scheduler == "DDIMScheduler" else 0.0)
    together = ours(model, settings, source_pixels())
    assert (together - ours(model, settings, source_pixels(), batch=1)).abs().max() < 1e-5
    image = model.codec.source(model.codec.encode(source_pixels()))
    second = generate(model, settings, seed=3, ids=["b"], tokens=model.text.encode(TEXTS[1:]), size=SIZE, image=image[1:])
    assert (together[1:] - second).abs().max() < 1e-5
    other = generate(model, settings, seed=4, ids=["b"], tokens=model.text.encode(TEXTS[1:]), size=SIZE, image=image[1:])
    assert (other - second).abs().max() > 1e-3


def test_lora_reads_in_the_stock_pipeline(folders: dict[str, Path], tmp_path: Path) -> None:
    """alpha differs from rank, so a lost alpha would show; the merged pipeline gives the same picture again."""
    model = open_stable_diffusion(str(folders["edit"]), 1)
    settings = Sampling("EulerDiscreteScheduler", STEPS, 4.0, 1.5)
    before = ours(model, settings, source_pixels())
    trained = make_trainable(model.unet, Trainable("lora", rank=4, alpha=10.0), seed=1)
    with torch.no_grad():
        for name, parameter in trained.parameters.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    mine = ours(model, settings, source_pixels())
    assert (mine - before).abs().max() > 1e-2
    save_lora(model.unet, tmp_path / "lora")
    assert [p.name for p in (tmp_path / "lora").iterdir()] == ["pytorch_lora_weights.safetensors"]
    pipe = stock(folders["edit"], True, settings.scheduler)
    pipe.load_lora_weights(tmp_path / "lora")
    assert (stock_pictures(pipe, settings, source_pixels()) - mine).abs().max() < 1e-4
    model.save_pipeline(tmp_path / "merged")
    merged = stock(tmp_path / "merged", True, settings.scheduler)
    assert (stock_pictures(merged, settings, source_pixels()) - mine).abs().max() < 1e-4
    again = open_stable_diffusion(str(folders["edit"]), 1)
    make_trainable(again.unet, Trainable("lora", rank=4, alpha=10.0), seed=7)
    load_lora(again.unet, tmp_path / "lora")
    assert torch.equal(ours(again, settings, source_pixels()), mine)


def test_lora_of_a_widened_network_learns_and_saves_its_input_layer(tmp_path: Path) -> None:
    """The source image reaches the network only through conv_in's new channels: without their training it could never matter."""
    model = tiny_stable_diffusion(1, seed=3, widened=True)
    model.save_pipeline(tmp_path / "base")
    trained = make_trainable(model.unet, Trainable("lora", rank=4), seed=1, widened=model.widened)
    assert {name for name in trained.parameters if name.startswith("conv_in")} == {
        "conv_in.lora_A.default.weight",
        "conv_in.lora_B.default.weight",
    }
    with torch.no_grad():
        for name, parameter in trained.parameters.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    settings = Sampling("DDIMScheduler", STEPS, 4.0, 1.5)
    mine = ours(model, settings, source_pixels())
    assert (mine - ours(model, settings, source_pixels().flip(-1))).abs().max() > 1e-3
    save_lora(model.unet, tmp_path / "lora")
    pipe = stock(tmp_path / "base", True)
    pipe.load_lora_weights(tmp_path / "lora")
    assert (stock_pictures(pipe, settings, source_pixels()) - mine).abs().max() < 1e-4
    model.save_pipeline(tmp_path / "final")
    assert (stock_pictures(stock(tmp_path / "final", True), settings, source_pixels()) - mine).abs().max() < 1e-4


def test_tokenizer_and_half_precision_survive_the_folder(folders: dict[str, Path], tmp_path: Path) -> None:
    """transformers 5 writes tokenizer.json alone; vocab.json and merges.txt lie beside it and give the same words."""
    from transformers import CLIPTokenizer

    model = tiny_stable_diffusion(0, seed=1)
    folder = folders["image"] / "tokenizer"
    assert {p.name for p in folder.iterdir()} >= {"tokenizer.json", "vocab.json", "merges.txt"}
    text = "A Red  circle, left-of 2 squares' edge é"
    words = model.text.tokenizer(text).input_ids
    assert stock(folders["image"], False).tokenizer(text).input_ids == words
    plain = CLIPTokenizer(vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"))
    assert plain(text).input_ids == words
    model.save_pipeline(tmp_path / "half", dtype=torch.float16)
    assert next(model.unet.parameters()).dtype is torch.float32  # the one in training is untouched
    half = open_stable_diffusion(str(tmp_path / "half"), 0)
    assert half.unet.dtype is torch.float32
    sizes = [sum(p.stat().st_size for p in f.rglob("*.safetensors")) for f in (tmp_path / "half", folders["image"])]
    assert sizes[0] < 0.6 * sizes[1]
    assert json.loads((tmp_path / "half" / "model_index.json").read_text())["requires_safety_checker"] is False


def stock_step(model: StableDiffusion, batch: dict[str, Any], noise_scheduler: Any, dropout: float) -> torch.Tensor:
    """The loss of diffusers' examples/instruct_pix2pix/train_instruct_pix2pix.py (0.42), with the draws given."""
    vae, unet = model.codec.vae, model.unet
    with torch.no_grad():
        posterior = vae.encode(batch["edited"]).latent_dist
        latents = (posterior.mean + posterior.std * batch["posterior"]) * vae.config.scaling_factor
        embeds = vae.encode(batch["original"]).latent_dist.mode()
        states, null = model.text.encode(batch["texts"]), model.text.encode([""])
    noise, times, p = batch["noise"], batch["times"], batch["p"]
    noisy = noise_scheduler.add_noise(latents, noise, times)
    states = torch.where((p < 2 * dropout).reshape(-1, 1, 1), null, states)
    mask = 1 - (p >= dropout).to(embeds.dtype) * (p < 3 * dropout).to(embeds.dtype)
    embeds = mask.reshape(-1, 1, 1, 1) * embeds
    eps = noise_scheduler.config.prediction_type == "epsilon"
    target = noise if eps else noise_scheduler.get_velocity(latents, noise, times)
    pred = unet(torch.cat([noisy, embeds], 1), times, encoder_hidden_states=states, return_dict=False)[0]
    return torch.nn.functional.mse_loss(pred.float(), target.float())


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_the_step_has_the_stock_scripts_loss_and_gradients(prediction: Any) -> None:
    """Same weights, same draws: to 1e-6 in float32. Sixteen samples and a dropout of .2 visit all four kinds of conditioning."""
    from diffusers import DDPMScheduler

    from relatum.engine.step import DiffusionParts, diffusion_step
    from relatum.objectives.blend import Blend, Weighted
    from relatum.objectives.denoise import Denoise
    from relatum.tasks.base import Batch
    from relatum.tasks.edit import Edit

    model = tiny_stable_diffusion(1, seed=4, prediction_type=prediction)
    count, dropout = 16, 0.2
    texts = [f"edit number {i}" for i in range(count)]
    generator = torch.Generator().manual_seed(9)
    before, after = (torch.rand(count, 3, SIZE, SIZE, generator=generator) * 2 - 1 for _ in range(2))
    draws = Draws(11, list(range(count)))
    moments = {"source": model.codec.encode(before), "target": model.codec.encode(after)}
    ids = [str(i) for i in range(count)]
    batch = Batch(ids, ids, ids, moments, {"instruction": model.text.encode(texts)}, model.text.null)
    blend = Blend({"denoise": Weighted(Denoise())})
    parts = DiffusionParts(model.denoiser(), model.kind, model.path, Edit(dropout), blend, model.codec)
    mine = diffusion_step(parts, batch, draws).total.mean()
    mine.backward()
    ours_gradient = {name: p.grad.clone() for name, p in model.unet.named_parameters() if p.grad is not None}
    model.unet.zero_grad()

    given = {
        "edited": after,
        "original": before,
        "texts": texts,
        "posterior": draws.normal("posterior target", (4, 4, 4)),
        "noise": draws.normal("noise", (4, 4, 4)),
        "times": model.path.draw(draws).time.long(),
        "p": draws.uniform("dropout"),
    }
    p = given["p"]
    kinds = set(zip((p < 2 * dropout).tolist(), ((p >= dropout) & (p < 3 * dropout)).tolist(), strict=True))
    assert len(kinds) == 4
    theirs = stock_step(model, given, DDPMScheduler.from_config(model.scheduler.config), dropout)
    theirs.backward()
    assert mine.item() == pytest.approx(theirs.item(), abs=1e-6)
    assert ours_gradient.keys() == {name for name, p in model.unet.named_parameters() if p.grad is not None}
    for name, parameter in model.unet.named_parameters():
        if parameter.grad is not None:
            assert (ours_gradient[name] - parameter.grad).abs().max() < 1e-6, name
