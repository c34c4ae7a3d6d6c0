"""The task of the next frame: what is given, how noisy, what is told, and whose negatives are whose."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError
from relatum.core.outcome import MATCHED
from relatum.core.prediction import Parametrization
from relatum.engine.own_frames import own_frames_step
from relatum.engine.step import DiffusionParts, Moment, diffusion_step
from relatum.models.codec import Codec, Moments
from relatum.models.denoiser import Denoiser
from relatum.models.families.stable_diffusion import open_stable_diffusion
from relatum.models.tiny import tiny_stable_diffusion
from relatum.models.trainable import Trainable, make_trainable
from relatum.objectives.blend import Blend, Weighted
from relatum.objectives.contrast import Contrast
from relatum.objectives.denoise import Denoise
from relatum.tasks.base import Batch
from relatum.tasks.frames import Frames, past_names, waves
from support.outcomes import stable_diffusion_path


def codec() -> Codec:
    vae = nn.Linear(1, 1)
    vae.config = SimpleNamespace(scaling_factor=0.5, shift_factor=None, latent_channels=4, block_out_channels=(8, 8, 8))  # type: ignore[assignment]
    return Codec(vae)


def batch_of(count: int = 6, past: int = 3, seed: int = 0) -> Batch:
    """Rows in pairs of one video; every image its own; offsets of .2, .4, ... seconds."""
    g = torch.Generator().manual_seed(seed)
    names = [f"row-{i}" for i in range(count)]
    images = (*past_names(past), "target")
    return Batch(
        ids=names,
        groups=[f"video-{i // 2}" for i in range(count)],
        where=names,
        moments={n: Moments(torch.randn(count, 4, 3, 5, generator=g), torch.full((count, 4, 3, 5), -30.0)) for n in images},
        tokens={"instruction": torch.randn(count, 2, 3, generator=g) + 5},
        null=torch.zeros(1, 2, 3),
        numbers={"offset": 0.2 * torch.arange(1.0, count + 1), "spacing": torch.full((count,), 0.2)},
    )


def episode(task: Frames, batch: Batch | None = None, seed: int = 1) -> Any:
    batch = batch or batch_of()
    return task.episode(batch, codec(), (MATCHED,), Draws(seed, range(len(batch))))


def test_names_of_the_given_frames() -> None:
    assert past_names(1) == ("source",)
    assert past_names(3) == ("source", "past.2", "past.3")
    assert Frames(past=2).needs.images == ("source", "past.2", "target")
    assert Frames(past=2, own_frames=0.5).needs.images == ("source", "past.2", "past.3", "target")
    assert Frames(time_offset=True).needs.numbers == ("offset",)


def test_given_frames_are_unscaled_modes_newest_first() -> None:
    """Three frames of four channels: source, past.2, past.3, as InstructPix2Pix gives its one picture. Anchors are scaled."""
    batch = batch_of()
    made = episode(Frames(past=3, conditioning_dropout_prob=0.0), batch)
    expected = torch.cat([batch.moments[n].mean for n in ("source", "past.2", "past.3")], 1)
    torch.testing.assert_close(made.conditionings["matched"].image, expected)
    assert made.conditionings["matched"].features is None
    torch.testing.assert_close(made.anchors["past.2"], 0.5 * batch.moments["past.2"].mean)
    assert set(made.anchors) == {"source", "past.2", "past.3", "target"}


def test_all_given_frames_drop_together_and_the_text_as_in_edits() -> None:
    batch = batch_of(3000)
    view = episode(Frames(past=3, conditioning_dropout_prob=0.1), batch).conditionings["matched"]
    by_frame = view.image.unflatten(1, (3, 4)).flatten(2).any(2)
    assert torch.equal(by_frame.all(1), by_frame.any(1))
    no_image, no_text = ~by_frame.any(1), ~view.tokens.flatten(1).any(1)
    for share in (no_image, no_text):  # c <= p < 3c and p < 2c; 4 standard errors of a share of .2 among 3000
        assert abs(share.float().mean() - 0.2) < 4 * math.sqrt(0.16 / 3000)
    assert abs((no_image & no_text).float().mean() - 0.1) < 4 * math.sqrt(0.09 / 3000)


def test_log_normal_noise_is_one_sigma_a_sample() -> None:
    """ln sigma of N(-1, .3): the noise added to scaled latents has that spread, the same for all frames of a sample."""
    batch, task = batch_of(400), Frames(past=3, noise="log_normal", noise_mean=-1.0, noise_std=0.3, conditioning_dropout_prob=0.0)
    draws = Draws(1, range(400))
    levels = task.training_levels(draws)
    assert torch.equal(levels, levels[:, :1].expand(400, 3))
    logs = levels[:, 0].log()
    assert abs(logs.mean() + 1) < 4 * 0.3 / 20
    assert abs(logs.std() - 0.3) < 0.05
    view = episode(task, batch).conditionings["matched"]
    clean = torch.cat([batch.moments[n].mean for n in task.names], 1)
    added = 0.5 * (view.image - clean)  # scaled
    ratio = added.flatten(1).std(1) / levels[:, 0]  # 180 numbers a sample: 1 within 1/sqrt(360)
    assert abs(ratio.mean() - 1) < 4 / math.sqrt(360 * 400) + 0.01
    assert view.features.shape == (400, task.features) == (400, 16)


def test_per_frame_levels_are_independent_and_keep_the_variance() -> None:
    """cos(pi u / 2) x + sin(pi u / 2) eps of a unit x has unit variance at every u; u is uniform on [0, .5] for each frame."""
    task = Frames(past=2, noise="per_frame", conditioning_dropout_prob=0.0)
    levels = task.training_levels(Draws(0, range(2000)))
    assert 0 <= levels.min() < 0.01 < 0.49 < levels.max() <= 0.5
    assert abs(torch.corrcoef(levels.T)[0, 1]) < 4 / math.sqrt(2000)
    given, eps = torch.randn(2000, 2, 4, 3, 5), torch.randn(2000, 2, 4, 3, 5)
    image, told = task.given(given, codec(), levels, eps, None)
    assert abs((0.5 * image).std() - 1) < 0.01
    assert told is not None
    assert told.shape == (2000, 32)
    torch.testing.assert_close(told[:, 16:], waves(levels[:, 1]))
    quiet, _ = task.given(given, codec(), torch.zeros(2000, 2), eps, None)
    torch.testing.assert_close(0.5 * quiet, given.flatten(1, 2))


def test_what_is_told_tells_levels_and_offsets_apart() -> None:
    task = Frames(time_offset=True, noise="log_normal")
    assert task.features == 32
    given, eps = torch.zeros(3, 1, 4, 3, 5), torch.zeros(3, 1, 4, 3, 5)
    told = task.given(given, codec(), torch.tensor([[0.05], [0.05], [0.2]]), eps, torch.tensor([0.2, 0.4, 0.2]))[1]
    assert told is not None
    assert torch.equal(told[0, :16], told[1, :16])
    assert not torch.equal(told[0, 16:], told[1, 16:])
    assert torch.equal(told[0, 16:], told[2, 16:])
    assert not torch.equal(told[0, :16], told[2, :16])
    with pytest.raises(RecipeError, match="no offset"):
        task.given(given, codec(), torch.zeros(3, 1), eps, None)


def test_waves_by_hand() -> None:
    """A quarter: sin and cos of 2 pi / 4 * 1/4 = pi/8 first, and the last of 2 pi / 4 * 32: sine 0, cosine 1."""
    told = waves(torch.tensor([0.25]))[0]
    assert told[0] == pytest.approx(math.sin(math.pi / 8))
    assert told[8] == pytest.approx(math.cos(math.pi / 8))
    assert told[15] == pytest.approx(1.0, abs=1e-5)


def test_frames_of_one_video_are_no_negatives_unless_asked() -> None:
    """Six rows of three videos: five others, of which one is of the same video."""
    counts = {}
    for hard in (False, True):
        task = Frames(hard_keys=hard)
        parts = parts_of(task, blend=Blend({"c": Weighted(Contrast(similar=0.0))}))
        step = diffusion_step(parts, batch_of(), Draws(0, range(6)))
        counts[hard] = step.watched["c/effective_negatives"].tolist() if "c/effective_negatives" in step.watched else None
        if counts[hard] is None:
            counts[hard] = next(v for k, v in step.watched.items() if k.endswith("effective_negatives")).tolist()
    assert counts == {False: [4.0] * 6, True: [5.0] * 6}


def test_levels_at_inference() -> None:
    assert Frames(noise="log_normal", noise_mean=-2.0).sampling_levels(None, 2)[0, 0] == pytest.approx(math.exp(-2))
    assert Frames(noise="per_frame").sampling_levels(None, 2).tolist() == [[0.0], [0.0]]
    assert Frames(past=2).sampling_levels(0.3, 1).tolist() == [[pytest.approx(0.3)] * 2]
    with pytest.raises(RecipeError, match=r"given_noise is 0.7, expected 0 to 0.5"):
        Frames(noise="per_frame").sampling_levels(0.7, 1)


class Network(nn.Module):
    """Predicts v: 0.5 * noisy + the mean of each given frame's channels; remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.given: list[Tensor] = []
        self.graded: list[bool] = []

    def forward(self, sample: Tensor, time: Tensor, encoder_hidden_states: Tensor, return_dict: bool, **more: Any) -> tuple[Tensor]:
        self.given.append(sample[:, 4:].detach())
        out = self.scale * sample[:, :4] + sample[:, 4:].mean(1, keepdim=True)
        self.graded.append(out.requires_grad)
        return (out,)


def parts_of(task: Frames, **more: Any) -> DiffusionParts:
    given: dict[str, Any] = {
        "network": Denoiser(Network(), Parametrization.V),
        "kind": Parametrization.V,
        "path": stable_diffusion_path(),
        "task": task,
        "blend": Blend({"base": Weighted(Denoise())}),
        "codec": codec(),
    }
    return DiffusionParts(**{**given, **more})


def test_own_frames_replace_the_newest_frame_of_some_samples() -> None:
    """Half of the samples get the network's own prediction from the two frames before; those are asked without gradient."""
    task = Frames(past=2, own_frames=0.5, own_steps=3, conditioning_dropout_prob=0.0)
    parts, batch, draws = parts_of(task), batch_of(64), Draws(0, range(64))
    own_frames_step(parts, batch, draws)
    network: Any = parts.network.network
    assert len(network.given) == 4
    assert network.graded == [False, False, False, True]
    older = torch.cat([batch.moments[n].mean for n in ("past.2", "past.3")], 1)
    torch.testing.assert_close(network.given[0], older)
    last, real = network.given[3], torch.cat([batch.moments[n].mean for n in ("source", "past.2")], 1)
    torch.testing.assert_close(last[:, 4:], real[:, 4:])
    own = ~torch.isclose(last[:, :4], real[:, :4]).flatten(1).all(1)
    assert torch.equal(own, draws.uniform("own frame") < 0.5)


def test_own_frames_are_told_the_time_between_past_frames_and_leave_the_anchors_real() -> None:
    """The own frame comes over the spacing, .2 s, the target over each row's offset. The anchor "source" stays the true one."""
    task = Frames(own_frames=1.0, own_steps=1, time_offset=True, conditioning_dropout_prob=0.0)
    seen: list[Tensor] = []

    class Told(Network):
        def forward(
            self, sample: Tensor, time: Tensor, encoder_hidden_states: Tensor, return_dict: bool, **more: Any
        ) -> tuple[Tensor]:
            seen.append(more["timestep_cond"])
            return super().forward(sample, time, encoder_hidden_states, return_dict)

    batch, anchors = batch_of(past=2), []
    parts = parts_of(task, network=Denoiser(Told(), Parametrization.V))
    episode_of = Frames.episode

    def watched(self: Frames, *args: Any) -> Any:
        made = episode_of(self, *args)
        anchors.append(made.anchors["source"])
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Frames, "episode", watched)
        own_frames_step(parts, batch, Draws(0, range(6)))
    torch.testing.assert_close(seen[0], waves(torch.full((6,), 0.2 / 8)))
    torch.testing.assert_close(seen[1], waves(batch.numbers["offset"] / 8))
    torch.testing.assert_close(anchors[0], 0.5 * batch.moments["source"].mean)


def test_own_frames_leave_held_out_rows_and_refuse_other_tasks() -> None:
    task = Frames(past=2, own_frames=1.0, conditioning_dropout_prob=0.0)
    parts, batch, draws = parts_of(task), batch_of(), Draws(0, range(6))
    held = own_frames_step(parts, batch, draws, moment=Moment(training=False))
    plain = diffusion_step(parts, batch, draws, moment=Moment(training=False))
    torch.testing.assert_close(held.total, plain.total)
    with pytest.raises(RecipeError, match="own_frames above 0"):
        own_frames_step(parts_of(Frames()), batch, draws)


def test_a_perfect_predictor_of_its_own_frame_changes_nothing() -> None:
    """A network whose x0 reading is the constant frame c, on videos that are c throughout: own frames equal real ones."""

    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Parameter(torch.tensor(1.0))

        def forward(self, sample: Tensor, time: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Tensor]:
            return (self.one * torch.full_like(sample[:, :4], 0.35),)

    task = Frames(own_frames=1.0, conditioning_dropout_prob=0.0)
    batch = batch_of(past=2)
    flat = {n: Moments(torch.full((6, 4, 3, 5), 0.7), m.logvar) for n, m in batch.moments.items()}
    batch = dataclasses.replace(batch, moments=flat)
    parts = parts_of(task, network=Denoiser(Constant(), Parametrization.X0), kind=Parametrization.X0)
    own = own_frames_step(parts, batch, Draws(0, range(6)))
    assert own.total.max() < 1e-10
    torch.testing.assert_close(own.total, diffusion_step(parts, batch, Draws(0, range(6))).total)


@pytest.mark.parametrize("images", [1, 3])
def test_a_widened_and_told_network_is_the_old_one(tmp_path: Any, images: int) -> None:
    """4 + 4k input channels and told numbers through zero weights: the output is the old network's, saved and opened again too."""
    tiny_stable_diffusion(seed=1).save_pipeline(tmp_path / "edit")
    old: Any = open_stable_diffusion(str(tmp_path / "edit"), 1)
    new: Any = open_stable_diffusion(str(tmp_path / "edit"), images, features=16)
    assert new.widened
    assert new.unet.config.in_channels == 4 * (1 + images)
    g = torch.Generator().manual_seed(0)
    sample, tokens = torch.randn(2, 4 * (1 + images), 8, 8, generator=g), torch.randn(2, 5, 32, generator=g)
    told = torch.randn(2, 16, generator=g)
    with torch.no_grad():
        before = old.unet(sample[:, :8], 500, tokens, return_dict=False)[0]
        after = new.unet(sample, 500, tokens, timestep_cond=told, return_dict=False)[0]
        torch.testing.assert_close(after, before, atol=1e-6, rtol=0)
        new.unet.time_embedding.cond_proj.weight.fill_(0.1)
        assert not torch.allclose(new.unet(sample, 500, tokens, timestep_cond=told, return_dict=False)[0], before, atol=1e-3)
        changed = new.unet(sample, 500, tokens, timestep_cond=told, return_dict=False)[0]
    new.save_pipeline(tmp_path / "new")
    again: Any = open_stable_diffusion(str(tmp_path / "new"), images, features=16)
    assert not again.widened
    with torch.no_grad():
        torch.testing.assert_close(again.unet(sample, 500, tokens, timestep_cond=told, return_dict=False)[0], changed)
    with pytest.raises(RecipeError, match="told 16 numbers"):
        open_stable_diffusion(str(tmp_path / "new"), images)
    with pytest.raises(RecipeError, match="input channels"):
        open_stable_diffusion(str(tmp_path / "new"), images - 1, features=16)


def test_lora_learns_the_new_inputs() -> None:
    model = tiny_stable_diffusion(3, widened=True, features=16)
    names = make_trainable(model.unet, Trainable("lora"), widened=True).parameters
    assert any("cond_proj" in name for name in names)
    assert any("conv_in" in name for name in names)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"past": 0}, "past is 0"),
        ({"own_frames": 1.5}, "own_frames is 1.5"),
        ({"noise_mean": 2.0}, "noise_mean is 2.0"),
        ({"noise_most": -0.1}, "noise_most is -0.1"),
        ({"own_steps": 0}, "own_steps is 0"),
        ({"conditioning_dropout_prob": 0.5}, "conditioning_dropout_prob is 0.5"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Frames(**settings)
