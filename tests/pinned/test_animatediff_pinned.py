"""Clips of ours against stock AnimateDiff: what we save loads without us, and gives the same frames for the same noise."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.draws import Draws
from relatum.engine.sample import Sampling, generate_clips
from relatum.models.families.animatediff import open_animatediff
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.motion import MotionSize
from relatum.models.tiny import tiny_animatediff, tiny_stable_diffusion
from relatum.models.trainable import Trainable, make_trainable, save_lora

TEXTS = ["a red circle moves left", "two squares"]
IDS = ["a", "b"]
SIZE, FRAMES, STEPS = 16, 5, 3
SETTINGS = Sampling("DDIMScheduler", STEPS, guidance_scale=5.0)


def ours(model: StableDiffusion, settings: Sampling = SETTINGS) -> torch.Tensor:
    tokens = model.text.encode(TEXTS)
    return generate_clips(model, settings, seed=3, ids=IDS, tokens=tokens, frames=FRAMES, size=SIZE)


def theirs(pipe: Any, settings: Sampling = SETTINGS) -> torch.Tensor:
    """The stock pipeline's clips (b 3 t h w) in [-1, 1] from our addressed noise."""
    pipe.set_progress_bar_config(disable=True)
    out = pipe(
        TEXTS,
        num_frames=FRAMES,
        height=SIZE,
        width=SIZE,
        guidance_scale=settings.guidance_scale,
        num_inference_steps=settings.num_inference_steps,
        latents=Draws(3, IDS).normal("sample", (4, FRAMES, 4, 4)),
        output_type="pt",
        return_dict=False,
    )[0]
    return out.float().transpose(1, 2) * 2 - 1


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[StableDiffusion, Path]:
    """Modules of two transformer layers a block, three in the middle: what diffusers' save_motion_modules would forget."""
    size = MotionSize(heads=2, most_frames=8, layers=2, mid_layers=3)
    model = tiny_animatediff(seed=1, fresh=False, motion=size)
    folder = tmp_path_factory.mktemp("clips")
    model.save_pipeline(folder / "clips")
    tiny_stable_diffusion(0, seed=1).save_pipeline(folder / "base")
    return model, folder


def test_stock_animatediff_gives_the_same_frames(saved: tuple[StableDiffusion, Path]) -> None:
    from diffusers import AnimateDiffPipeline

    model, folder = saved
    mine = ours(model)
    got = theirs(AnimateDiffPipeline.from_pretrained(folder / "clips"))
    assert got.std() > 0.01
    assert (got[:, :, 0] - got[:, :, 1]).abs().max() > 0.01
    assert (mine - got).abs().max() < 1e-4
    assert torch.equal(ours(open_animatediff(str(folder / "clips"), 0)), mine)


def test_the_adapter_gives_the_same_frames_on_a_stock_base(saved: tuple[StableDiffusion, Path]) -> None:
    """The image's layers are those of the base, so its own folder and the motion modules make the whole; modules do something."""
    from diffusers import AnimateDiffPipeline, MotionAdapter

    model, folder = saved
    adapter = MotionAdapter.from_pretrained(folder / "clips" / "motion_adapter")
    got = theirs(_quietly(AnimateDiffPipeline, folder / "base", motion_adapter=adapter))
    assert (ours(model) - got).abs().max() < 1e-4
    again = open_animatediff(str(folder / "base"), 0, adapter=str(folder / "clips"))
    assert (ours(again) - ours(model)).abs().max() < 1e-6
    assert (ours(open_animatediff(str(folder / "base"), 0)) - got).abs().max() > 1e-2


def _quietly(cls: Any, folder: Path, **parts: Any) -> Any:
    """from_pretrained without the line that diffusers logs where it casts a motion network."""
    import logging

    log = logging.getLogger("diffusers.models.modeling_utils")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        return cls.from_pretrained(folder, **parts)
    finally:
        log.setLevel(level)


def test_lora_of_the_image_layers_reads_in_stock_animatediff(saved: tuple[StableDiffusion, Path], tmp_path: Path) -> None:
    """As a file of its own beside the folder that it was trained on, and merged into the folder that is saved."""
    from diffusers import AnimateDiffPipeline

    model = open_animatediff(str(saved[1] / "clips"), 0)
    trained = make_trainable(model.unet, Trainable("lora", rank=4, alpha=10.0, pattern="attentions"), seed=1)
    assert trained.parameters
    assert not [name for name in trained.parameters if "motion_modules" in name]
    with torch.no_grad():
        for name, parameter in trained.parameters.items():
            if "lora_B" in name:
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(1))
    mine = ours(model)
    assert (mine - ours(saved[0])).abs().max() > 1e-2
    save_lora(model.unet, tmp_path / "lora")
    pipe = AnimateDiffPipeline.from_pretrained(saved[1] / "clips")
    pipe.load_lora_weights(tmp_path / "lora")
    assert (theirs(pipe) - mine).abs().max() < 1e-4
    model.save_pipeline(tmp_path / "merged")
    assert (theirs(AnimateDiffPipeline.from_pretrained(tmp_path / "merged")) - mine).abs().max() < 1e-4


def test_an_overridden_schedule_is_the_stock_pipelines_too(saved: tuple[StableDiffusion, Path], tmp_path: Path) -> None:
    from diffusers import AnimateDiffPipeline

    model = open_animatediff(str(saved[1] / "base"), 0, adapter=str(saved[1] / "clips"), beta_schedule="linear")
    model.save_pipeline(tmp_path / "linear")
    pipe = AnimateDiffPipeline.from_pretrained(tmp_path / "linear")
    assert pipe.scheduler.config.beta_schedule == "linear"
    got = theirs(pipe)
    assert (ours(model) - got).abs().max() < 1e-4
    assert (ours(saved[0]) - got).abs().max() > 1e-3


def test_stock_parts_of_an_image_to_video_folder(tmp_path: Path) -> None:
    """Stock diffusers reads its network and adapter; its AnimateDiffPipeline knows no picture, so only relatum samples it."""
    from diffusers import MotionAdapter, UNetMotionModel

    model = tiny_animatediff(1, seed=2, fresh=False)
    model.save_pipeline(tmp_path / "clips")
    unet = UNetMotionModel.from_pretrained(tmp_path / "clips", subfolder="unet")
    assert unet.config.in_channels == 8
    sample, tokens = torch.randn(2, 8, 3, 4, 4), torch.randn(2, 7, 32)
    with torch.no_grad():
        stock = unet(sample, torch.tensor([9, 500]), encoder_hidden_states=tokens.repeat_interleave(3, 0)).sample
        assert torch.equal(model.call(model.unet, sample, torch.tensor([9, 500]), tokens, None), stock)
    adapter = MotionAdapter.from_pretrained(tmp_path / "clips" / "motion_adapter")
    assert all(torch.equal(tensor, unet.state_dict()[name]) for name, tensor in adapter.state_dict().items())
    again = open_animatediff(str(tmp_path / "clips"), 1)
    assert not again.widened
    assert dataclasses.astuple(again)[6] == 1
