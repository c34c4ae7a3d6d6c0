"""Stable Video Diffusion from rows to films: the task "animation" by hand, its cache, training, sampling, and what is refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.cli import main
from relatum.core.draws import Draws
from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.data.toy.clips import ToyClips
from relatum.engine.cache import encode_rows, gc, used_by, verify
from relatum.engine.sample import Sampling
from relatum.engine.sample_svd import Animating, animate_pictures
from relatum.engine.step import DiffusionParts, diffusion_step
from relatum.imaging import decode, save_png
from relatum.models.families.stable_video_diffusion import (
    StableVideoDiffusion,
    StableVideoDiffusionSettings,
    call_told,
    open_stable_video_diffusion,
)
from relatum.models.tiny_video import tiny_stable_video_diffusion
from relatum.models.trainable import Trainable
from relatum.objectives.blend import read_blend
from relatum.tasks.animation import Animation, motion_bucket
from support.runs import records, tiny_recipe, weights

# diffusers 0.42 hands torch tensors to numpy's __array__ in its sigma schedules
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ROWS = ToyClips(count=3, frames=4, step=0.2).rows()


@pytest.fixture(scope="module")
def model() -> StableVideoDiffusion:
    return tiny_stable_video_diffusion(seed=1)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory, model: StableVideoDiffusion) -> Path:
    folder = tmp_path_factory.mktemp("svd") / "tiny"
    model.save_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


def rows_of(model: StableVideoDiffusion, cache: Path) -> Any:
    return encode_rows(ROWS, Animation().needs, 32, model.codec, None, cache, tower=model.tower)


def test_a_motion_bucket_by_hand() -> None:
    """Two channels, frames (0, 0), (.6, .8), (.6, 0): squares .36, .64 and 0, .64, means .5 and .32 a pair, .41 over both.

    255 sqrt(.41 / 2) = 115.46; with the second pair cut, 255 sqrt(.5 / 2) = 127.5; with both cut 0.
    """
    frames = torch.tensor([[0.0, 0.6, 0.6], [0.0, 0.8, 0.0]]).reshape(1, 2, 3, 1, 1)
    for joined, expected in (([True, True], 255 * math.sqrt(0.205)), ([True, False], 127.5), ([False, False], 0.0)):
        assert motion_bucket(frames, torch.tensor([joined])).item() == pytest.approx(expected)
    assert motion_bucket(100 * frames, torch.tensor([[True, True]])).item() == 255


def test_the_cache_holds_the_first_frame_and_its_token(model: StableVideoDiffusion, cache: Path) -> None:
    """The frame to half a step of 8 bits, the tower's token of it, and the clip's moments; verified, kept and freed by use."""
    rows = rows_of(model, cache)
    batch = rows.batch([2, 0])
    frames = torch.stack([ROWS[i].clips["target"].shot(32).frames[0] for i in (2, 0)])
    assert (batch.pixels["target"] - frames).abs().max() <= 0.5 / 127.5 + 1e-6
    torch.testing.assert_close(batch.looks["target"], model.tower.encode(frames), atol=1e-6, rtol=0)
    assert batch.looks["target"].shape == (2, 1, 32)
    assert batch.moments["target"].mean.shape == (2, 4, 4, 8, 8)
    assert batch.numbers["spacing"].tolist() == pytest.approx([0.2, 0.2])
    assert verify(cache) == []
    used = used_by(ROWS, Animation().needs, 32, model.codec, None, tower=model.tower)
    assert used == rows.used
    assert gc(cache, [used]) == 0
    with pytest.raises(ValueError, match="looks need an image tower"):
        encode_rows(ROWS, Animation().needs, 32, model.codec, None, cache)


def test_an_episode_is_what_the_stock_pipeline_shows(model: StableVideoDiffusion, cache: Path) -> None:
    """Noise on the pixels, encoded, unscaled, on every frame; told fps - 1 = 1 / .2 - 1 = 4, the measured bucket, the noise."""
    batch, draws = rows_of(model, cache).batch([0, 1]), Draws(7, [0, 1])
    job = Animation(conditioning_dropout_prob=0.0)
    episode = job.episode(batch, model.codec, (), draws)
    matched, null = episode.conditionings["matched"], episode.conditionings["null"]
    strength = torch.exp(-3 + 0.5 * draws.normal("augmentation strength", ()))
    noisy = batch.pixels["target"] + strength[:, None, None, None] * draws.normal("augmentation", (3, 32, 32))
    first = model.codec.encode(noisy).mean
    assert matched.image is not None
    assert matched.features is not None
    assert null.image is not None
    for time in range(4):
        torch.testing.assert_close(matched.image[:, :, time], first)
    torch.testing.assert_close(matched.tokens, batch.looks["target"])
    bucket = motion_bucket(model.codec.latents(batch.moments["target"], None), batch.joined["target"])
    torch.testing.assert_close(matched.features, torch.stack([torch.tensor([4.0, 4.0]), bucket, strength], 1))
    assert not null.image.any()
    assert not null.tokens.any()
    assert null.features is matched.features  # what is told stays, as in the stock pipeline
    assert episode.frames == 0
    assert episode.joined is batch.joined["target"]


def test_noise_on_cached_latents_and_none(model: StableVideoDiffusion, cache: Path) -> None:
    """ "latents": mean + 2 s e, e of the latents' shape; "none": the mode itself, told 0; "given": the same bucket for all."""
    batch, draws = rows_of(model, cache).batch([0, 1]), Draws(7, [0, 1])
    mean = batch.moments["target"].mean[:, :, 0]
    first, strength = Animation(augmentation="latents", spread=2.0).beside(batch, model.codec, draws)
    torch.testing.assert_close(first, mean + 2 * strength[:, None, None, None] * draws.normal("augmentation", (4, 8, 8)))
    still = Animation(augmentation="none", motion="given", motion_bucket_id=40.0)
    first, strength = still.beside(batch, model.codec, draws)
    assert torch.equal(first, mean)
    assert not strength.any()
    assert still.usual_noise == 0
    assert still.pace(batch, model.codec)[1].tolist() == [40.0, 40.0]


def test_conditionings_are_dropped_apart_and_together(model: StableVideoDiffusion, cache: Path) -> None:
    """With c = .2 of p: below .2 the embedding, .2 to .4 both, .4 to .6 the latents; else neither. The same draws as in edits."""
    batch = rows_of(model, cache).batch([0] * 60)
    draws = Draws(1, range(60))
    episode = Animation(conditioning_dropout_prob=0.2, augmentation="none").episode(batch, model.codec, (), draws)
    matched, p = episode.conditionings["matched"], draws.uniform("dropout")
    assert matched.image is not None
    assert torch.equal(matched.tokens.flatten(1).any(1), p >= 0.4)
    assert torch.equal(matched.image.flatten(1).any(1), (p < 0.2) | (p >= 0.6))
    assert {*((p >= 0.2).long() + (p >= 0.4).long() + (p >= 0.6).long()).tolist()} == {0, 1, 2, 3}


def test_a_step_trains_temporal_layers_only(base: Path, cache: Path) -> None:
    """Every temporal parameter has a gradient, no spatial one; and the loss is the error of v."""
    opened, trained = StableVideoDiffusionSettings(str(base), offline=True).open(1, 3, 0)
    job, blend = Animation(), read_blend({"main": {"kind": "denoise"}})
    parts = DiffusionParts(opened.denoiser(), opened.kind, opened.path, job, blend, opened.codec)
    batch, draws = rows_of(opened, cache).batch([0, 1, 2]), Draws(0, range(3))
    step = diffusion_step(parts, batch, draws)
    step.total.mean().backward()
    assert trained.parameters
    assert all("temporal" in n or "time_pos" in n or "time_mixer" in n for n in trained.parameters)
    assert all(p.grad is not None for p in trained.parameters.values())
    rest = {name: p for name, p in opened.unet.named_parameters() if name not in trained.parameters}
    assert any("spatial_res_block" in name for name in rest)
    assert all(p.grad is None for p in rest.values())
    episode, level = job.episode(batch, opened.codec, (), draws), opened.path.draw(draws)
    noise, seen = draws.normal("noise", (4, 4, 8, 8)), episode.conditionings["matched"]
    assert seen.image is not None
    alpha, sigma = (number[:, None, None, None, None] for number in (level.alpha, level.sigma))
    inputs = torch.cat([alpha * episode.target + sigma * noise, seen.image], 1)
    with torch.no_grad():
        raw = call_told(opened.unet, inputs, level.time, seen.tokens, seen.features)
    expected = (raw - (alpha * noise - sigma * episode.target)).square().flatten(1).mean(1)
    torch.testing.assert_close(step.total.detach(), expected)


def test_a_clip_depends_on_its_own_address_only(model: StableVideoDiffusion) -> None:
    """Alone and beside another, in batches of one; another seed, picture, pace, motion or noise makes another clip.

    Sampling starts at 700 times the noise, of which float32 keeps 1e-4.
    """
    pictures = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(4)) * 2 - 1
    settings = Animating(2, max_guidance_scale=2.0)

    def made(settings: Animating = settings, rows: slice = slice(None), **more: Any) -> torch.Tensor:
        given = {"seed": 5, "ids": ["a", "b"][rows], "pictures": pictures[rows], "frames": 3, **more}
        return animate_pictures(model, settings, **given)

    clips = made()
    assert clips.shape == (2, 3, 3, 16, 24)
    torch.testing.assert_close(made(rows=slice(1, 2)), clips[1:], atol=1e-4, rtol=0)
    torch.testing.assert_close(made(batch=1), clips, atol=1e-4, rtol=0)
    others = [made(seed=6), made(pictures=pictures.flip(0)), made(fps=torch.tensor([2.0, 3.0]))]
    others += [made(motion=torch.tensor([9.0, 200.0])), made(Animating(2, max_guidance_scale=2.0, noise_aug_strength=0.5))]
    for other in others:
        assert (other - clips).flatten(1).abs().amax(1).min() > 1e-3
    with pytest.raises(ShapeError, match="1 ids, 2 pictures"):
        made(ids=["a"])


def test_what_sampling_says_for_this_family() -> None:
    """guidance_scale is the last frame's; DDIM, the default, stands for the model's own scheduler; nothing else is guessed."""
    known = Animating.of(Sampling(num_inference_steps=4, guidance_scale=2.5), fps=5.0)
    assert (known.min_guidance_scale, known.max_guidance_scale, known.scheduler, known.fps) == (1.0, 2.5, "", 5.0)
    assert known.ramp(4).tolist() == [1.0, 1.5, 2.0, 2.5]
    for sampling, words in (
        (Sampling("DPMSolverMultistepScheduler"), "cannot sample a Stable Video Diffusion"),
        (Sampling(eta=0.5), "eta is 0.5"),
    ):
        with pytest.raises(RecipeError, match=words):
            Animating.of(sampling)


# From a recipe to a film


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """The recipe of a finished run of three steps."""
    folder = tmp_path_factory.mktemp("trained")
    rows = {"kind": "toy_clips", "frames": 4}
    recipe = tiny_recipe(
        folder,
        base,
        folder / "cache",
        "film",
        data={"train": {**rows, "split": "train", "count": 6}, "test": {**rows, "split": "test", "count": 3}, "resolution": 32},
        model={"kind": "stable_video_diffusion"},
        task={"kind": "animation", "conditioning_dropout_prob": 0.2},
        train={"max_train_steps": 3, "validation_steps": 3, "checkpointing_steps": 3, "sample_rows": 2},
    )
    assert main(["train", str(recipe)]) == 0
    return recipe


def test_a_run_trains_shows_and_saves(trained: Path, base: Path) -> None:
    """Losses are finite, spatial weights stay, temporal ones move; two clips are shown in two lines each, of four frames; the stock
    pipeline loads what is saved."""
    import diffusers

    run = trained.with_suffix("")
    losses = [record["total"] for record in records(trained) if "total" in record]
    assert losses
    assert all(math.isfinite(loss) for loss in losses)
    before, after = weights(base), weights(run / "final")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved
    assert all("temporal" in name or "time_" in name for name in moved)
    for what, lines in (("sanity/step-000000.png", 4), ("samples/step-000003.png", 4)):
        assert decode(run / what, what).shape[1:] == (lines * 34 + 2, 4 * 34 + 2)
    pipe = diffusers.StableVideoDiffusionPipeline.from_pretrained(run / "final")
    assert torch.equal(pipe.unet.state_dict()[min(moved)], after[min(moved)])
    assert json.loads((run / "final" / "model_index.json").read_text())["feature_extractor"] == [
        "transformers",
        "CLIPImageProcessor",
    ]
    assert main(["train", str(trained)]) == 0  # finished: nothing is done again


def test_animate_continues_a_picture(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Three frames after the first, the same for one seed; told another pace or noise, another film; from a pipeline too."""
    save_png(tmp_path / "first.png", torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    run = trained.with_suffix("")
    plain = ["--image", str(tmp_path / "first.png"), "--steps", "3", "--num-inference-steps", "2"]
    strips = []
    for name, more in (("a", []), ("b", []), ("c", ["--offset", "0.1"]), ("d", ["--given-noise", "0.5"]), ("e", ["--seed", "1"])):
        assert main(["animate", str(run), *plain, "--output", str(tmp_path / f"{name}.png"), *more]) == 0
        strips.append(decode(tmp_path / f"{name}.png", name))
    assert "a.png (4 frames)" in capsys.readouterr().out
    assert strips[0].shape[2] > 3.8 * strips[0].shape[1]
    assert torch.equal(strips[0], strips[1])
    assert not any(torch.equal(strips[0], strip) for strip in strips[2:])
    film = tmp_path / "film.gif"
    assert main(["animate", str(run / "final"), *plain, "--output", str(film), "--count", "2", "--guidance-scale", "2"]) == 0
    assert film.read_bytes()[:6] == b"GIF89a"
    for more, words in (
        (["--caption", "a"], "takes no captions"),
        (["--image", "b.png"], "more than one picture"),
        (["--rate", "15"], "--rate"),
        (["--refine", "0.2"], "--refine"),
        (["--noise", "fixed"], "--noise"),
        (["--scheduler", "LCMScheduler"], "cannot sample a Stable Video Diffusion"),
    ):
        assert main(["animate", str(run), *plain, "--output", str(tmp_path / "none.png"), *more]) == 2
        assert words in capsys.readouterr().err
    assert not (tmp_path / "none.png").exists()


def test_verbs_that_need_texts_say_so(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No suite judges clips without captions; other tasks and other families do not go together with this one."""
    assert main(["evaluate", str(trained)]) == 2
    assert "relatum animate" in capsys.readouterr().err
    for table, words in (
        ('task = {kind = "video"}', 'on task "animation"'),
        ('model = {kind = "stable_diffusion"}', "which has an image tower"),
        ('sample = {scheduler = "DDPMScheduler"}', "cannot sample a Stable Video Diffusion"),
        ("arms = {a = {seed = 1}}", "no suite judges"),
    ):
        assert main(["train", str(trained), "-o", table, "-o", f"output_dir = '{tmp_path / 'other'}'"]) == 2
        assert words in capsys.readouterr().err


# What is refused


def index_of(folder: Path, **changes: Any) -> None:
    edit(folder / "model_index.json", **changes)


def edit(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def schedule(folder: Path, **changes: Any) -> None:
    edit(folder / "scheduler" / "scheduler_config.json", **changes)


FAULTS: dict[str, tuple[Any, type[Exception], str]] = {
    "another pipeline": (lambda f: index_of(f, _class_name="TextToVideoSDPipeline"), RecipeError, "is a TextToVideoSDPipeline"),
    "another unet": (lambda f: edit(f / "unet/config.json", _class_name="UNet3DConditionModel"), RecipeError, "is a UNet3D"),
    "another vae": (lambda f: edit(f / "vae/config.json", _class_name="AutoencoderKL"), RecipeError, "KLTemporalDecoder"),
    "channels": (lambda f: edit(f / "unet/config.json", in_channels=9), RecipeError, "takes 9 channels and makes 4"),
    "width": (lambda f: edit(f / "unet/config.json", cross_attention_dim=64), RecipeError, "reads states of width 64"),
    "told": (lambda f: edit(f / "unet/config.json", addition_time_embed_dim=24), RecipeError, "told 2 numbers"),
    "prediction": (lambda f: schedule(f, prediction_type="epsilon"), RecipeError, "prediction_type is 'epsilon'"),
    "timesteps": (lambda f: schedule(f, timestep_type="discrete"), RecipeError, "timestep_type is 'discrete'"),
    "no tower": (lambda f: (f / "image_encoder").rename(f / "lost"), DataError, "has no image_encoder"),
    "no processor": (lambda f: (f / "feature_extractor/preprocessor_config.json").unlink(), DataError, "is missing"),
    "mean": (lambda f: edit(f / "feature_extractor/preprocessor_config.json", image_mean=[0.5]), DataError, "image_mean is"),
    "pickled": (
        lambda f: (f / "unet/diffusion_pytorch_model.safetensors").rename(f / "unet/diffusion_pytorch_model.bin"),
        DataError,
        "pickled, which is not read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FAULTS)
def test_what_is_no_stable_video_diffusion(case: str, base: Path, tmp_path: Path) -> None:
    import shutil

    fault, error, words = FAULTS[case]
    folder = tmp_path / "bad"
    shutil.copytree(base, folder)
    fault(folder)
    with pytest.raises(error, match=words):
        open_stable_video_diffusion(str(folder))


def test_a_tower_that_lacks_weights_is_refused(base: Path, tmp_path: Path) -> None:
    """transformers would draw them anew."""
    import shutil

    from safetensors.torch import load_file, save_file

    folder = tmp_path / "bad"
    shutil.copytree(base, folder)
    file = folder / "image_encoder" / "model.safetensors"
    save_file({name: t for name, t in load_file(file).items() if "visual_projection" not in name}, file, {"format": "pt"})
    with pytest.raises(DataError, match=r"lack 1 weights \(visual_projection"):
        open_stable_video_diffusion(str(folder))


def test_settings_that_cannot_be(model: StableVideoDiffusion, cache: Path) -> None:
    """Each names what was found; levels a frame and other numbers told are refused where the network is called."""
    batch = rows_of(model, cache).batch([0])
    batch.numbers["spacing"].zero_()
    for build, error, words in (
        (lambda: Animation(conditioning_dropout_prob=0.4), RecipeError, "conditioning_dropout_prob is 0.4"),
        (lambda: Animation(noise_mean=math.nan), RecipeError, "noise_mean nan"),
        (lambda: Animation(motion_bucket_id=256.0), RecipeError, "motion_bucket_id is 256"),
        (lambda: Animation(spread=-1.0), RecipeError, "spread is -1"),
        (lambda: Animation().pace(batch, model.codec), DataError, "spacing is 0, expected seconds above 0"),
        (lambda: Animating(scheduler="DDIMScheduler"), RecipeError, "take one of EulerDiscreteScheduler"),
        (lambda: Animating(max_guidance_scale=math.inf), RecipeError, "max_guidance_scale is inf"),
        (lambda: Animating(fps=0.0), RecipeError, "fps is 0"),
        (lambda: model.sampler("", {"prediction_type": "epsilon"}), RecipeError, "it cannot be chosen"),
        (lambda: model.sampler("EDMEulerScheduler", {"rhoo": 1.0}), RecipeError, "no setting 'rhoo'"),
        (lambda: StableVideoDiffusionSettings("x", noise_std=0.0), RecipeError, "std 0"),
        (lambda: StableVideoDiffusionSettings("x", train=Trainable("lora")), RecipeError, "takes no LoRA"),
        (lambda: call_told(model.unet, torch.zeros(1, 8, 2, 4, 4), torch.zeros(1, 2), torch.zeros(1, 1, 32), torch.zeros(1, 3)),
         ShapeError, "one noise level a clip"),
        (lambda: call_told(model.unet, torch.zeros(1, 8, 2, 4, 4), torch.zeros(1), torch.zeros(1, 1, 32), None),
         ShapeError, "found nothing"),
    ):  # fmt: skip
        with pytest.raises(error, match=words):
            build()
