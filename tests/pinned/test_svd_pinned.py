"""Stable Video Diffusion against stock diffusers: levels, preconditioning, what the tower sees, the same frames for one noise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from relatum.core.draws import Draws, key_of
from relatum.core.path import EDMPath
from relatum.core.prediction import Parametrization, Prediction
from relatum.engine.sample_svd import Animating, animate_pictures
from relatum.models.families.stable_video_diffusion import SAMPLERS, StableVideoDiffusion, open_stable_video_diffusion
from relatum.models.tiny_video import tiny_stable_video_diffusion
from relatum.models.vision import smoothly

# diffusers 0.42 hands torch tensors to numpy's __array__ in its sigma schedules
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

IDS, SEED, STEPS, FRAMES = ["a", "b"], 3, 3, 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("svd") / "tiny"
    tiny_stable_video_diffusion(seed=1).save_pipeline(place)
    return place


@pytest.fixture(scope="module")
def model(folder: Path) -> StableVideoDiffusion:
    return open_stable_video_diffusion(str(folder))


@pytest.fixture(scope="module")
def pipe(folder: Path) -> Any:
    import diffusers

    pipe = diffusers.StableVideoDiffusionPipeline.from_pretrained(folder)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pictures() -> np.ndarray:
    """Two pictures, wider than high."""
    return np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)


def ours(model: StableVideoDiffusion, settings: Animating, rows: slice = slice(None)) -> torch.Tensor:
    pixels = torch.from_numpy(pictures()).permute(0, 3, 1, 2).float() / 127.5 - 1
    return animate_pictures(model, settings, seed=SEED, ids=IDS[rows], pictures=pixels[rows], frames=FRAMES)


@pytest.mark.parametrize(("strength", "low", "high", "chunk"), [(0.0, 1.0, 3.0, 0), (0.3, 0.5, 2.0, 4), (0.3, 1.0, 1.0, 0)])
def test_the_stock_pipeline_makes_the_same_frames(
    strength: float, low: float, high: float, chunk: int, model: StableVideoDiffusion, pipe: Any
) -> None:
    """With and without noise on the picture, with a ramp of guidance and without guidance, from our addressed draws."""
    from PIL import Image

    settings = Animating(STEPS, low, high, fps=6, motion_bucket_id=90, noise_aug_strength=strength, decode_chunk_size=chunk)
    out = pipe(
        [Image.fromarray(picture) for picture in pictures()],
        height=32,
        width=48,
        num_frames=FRAMES,
        num_inference_steps=STEPS,
        min_guidance_scale=low,
        max_guidance_scale=high,
        fps=6,
        motion_bucket_id=90,
        noise_aug_strength=strength,
        decode_chunk_size=chunk or None,
        latents=Draws(SEED, IDS).normal("sample", (4, FRAMES, 8, 12)).transpose(1, 2),
        generator=[torch.Generator().manual_seed(key_of(SEED, "augmentation", name)) for name in IDS],
        output_type="pt",
    ).frames
    made = ours(model, settings)
    assert made.shape == (2, 3, FRAMES, 32, 48)
    torch.testing.assert_close(made.transpose(1, 2), out * 2 - 1, atol=1e-5, rtol=0)
    assert made.std() > 0.1  # not a constant


def test_a_clip_of_one_is_decoded_in_the_stock_pipelines_chunks(model: StableVideoDiffusion, pipe: Any) -> None:
    """Three of four frames, then one; the stock pipeline fills its chunks across clips, so it is compared on one."""
    latents = Draws(SEED, ["a"]).normal("sample", (4, FRAMES, 4, 4))
    with torch.no_grad():
        stock = pipe.decode_latents(latents.transpose(1, 2), FRAMES, 3).clamp(-1, 1)
    chunked = model.codec.decode_clips(latents, 3)
    torch.testing.assert_close(chunked, stock, atol=1e-6, rtol=0)
    assert (model.codec.decode_clips(latents) - chunked).abs().max() > 0.01  # the decoder does look at neighbors


def test_other_schedulers_of_these_levels_go_the_same_way(model: StableVideoDiffusion) -> None:
    """EDM's own Euler steps, written by others, are the same clip; its second-order solver comes near (another solution method)."""
    euler, edm, second = (ours(model, Animating(6, scheduler=name)) for name in SAMPLERS)
    torch.testing.assert_close(edm, euler, atol=2e-5, rtol=0)
    assert 0 < (second - euler).abs().mean() < euler.std() / 2


def test_the_tower_sees_what_the_stock_pipeline_shows_it(model: StableVideoDiffusion, pipe: Any) -> None:
    """Enlarged, shrunk in one direction, and shrunk in both: the token of the stock pipeline, from bytes."""
    from diffusers.pipelines.stable_video_diffusion import pipeline_stable_video_diffusion as stock
    from PIL import Image

    for height, width in ((32, 48), (180, 460), (900, 300)):
        array = np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)
        pixels = torch.from_numpy(array).permute(2, 0, 1)[None].float() / 127.5 - 1
        theirs = stock._resize_with_antialiasing(pixels, (224, 224))
        torch.testing.assert_close(smoothly(pixels, 224), theirs, atol=2e-6, rtol=0)
        with torch.no_grad():
            token = pipe._encode_image(Image.fromarray(array), "cpu", 1, False)
        torch.testing.assert_close(model.tower.encode(pixels), token, atol=2e-5, rtol=0)


def test_levels_are_those_of_eulers_steps() -> None:
    """At each sigma of a schedule: time, the scaled input and the estimate of the clean sample are EulerDiscreteScheduler's."""
    scheduler = tiny_stable_video_diffusion().scheduler
    scheduler.set_timesteps(7)
    g = torch.Generator().manual_seed(2)
    x0, eps, raw = (torch.randn(1, 4, 3, 2, 2, generator=g) for _ in range(3))
    for time, sigma in zip(scheduler.timesteps, scheduler.sigmas[:-1], strict=True):
        level = EDMPath().at(sigma[None])
        torch.testing.assert_close(level.time[0], time, atol=1e-6, rtol=0)
        sample = x0 + sigma * eps
        noisy = scheduler.scale_model_input(sample, time)
        torch.testing.assert_close(level.blend(x0, eps), noisy, atol=1e-5, rtol=1e-5)
        clean = scheduler.step(raw, time, sample).pred_original_sample
        x0_read = Prediction(raw, noisy, level, Parametrization.V).x0
        torch.testing.assert_close(x0_read, clean, atol=1e-4, rtol=1e-4)


def test_the_plain_error_of_v_is_edms_weighted_error() -> None:
    """Karras et al. 2022, table 1, for unit data: D = c_skip x + c_out F(c_in x), weight (s^2 + 1) / s^2; by hand at s = 2.

    c_skip = 1/5, c_out = -2/sqrt 5 (v's sign), c_in = 1/sqrt 5, weight = 5/4. x0 = 1, eps = 3: x = 7, F = .5:
    D = 1.4 - .4472 = .9528, and 5/4 (D - 1)^2 = .002786. v = (eps - 2 x0)/sqrt 5 = .44721, (F - v)^2 = .002786.
    """
    level = EDMPath().at(torch.tensor([2.0]))
    x0, eps, raw = (torch.full((1, 1, 1, 1, 1), value) for value in (1.0, 3.0, 0.5))
    noisy = level.blend(x0, eps)
    assert noisy.item() == pytest.approx(7 / 5**0.5)
    prediction = Prediction(raw, noisy, level, Parametrization.V)
    denoised = 7 / 5 - 2 / 5**0.5 * 0.5
    assert prediction.x0.item() == pytest.approx(denoised, abs=1e-6)
    weighted = (4 + 1) / 4 * (denoised - 1) ** 2
    v = (3 - 2 * 1) / 5**0.5
    assert (0.5 - v) ** 2 == pytest.approx(weighted)
    assert weighted == pytest.approx(0.002786, abs=1e-6)
    assert level.time.item() == pytest.approx(np.log(2) / 4)
