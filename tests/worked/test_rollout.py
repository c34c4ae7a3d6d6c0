"""Rollouts: each frame the next one's conditioning, noise by address, frames between frames on the great circle."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.errors import RecipeError, ShapeError
from relatum.engine.rollout import Rolling, along, decoded, roll_out, rolled
from relatum.engine.sample import Sampling, sample
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.tiny import tiny_stable_diffusion
from relatum.tasks.frames import Frames

PLAIN = Sampling(num_inference_steps=3, guidance_scale=1.0, image_guidance_scale=1.0)


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_stable_diffusion(seed=3)


@pytest.fixture(scope="module")
def wide() -> StableDiffusion:
    return tiny_stable_diffusion(3, seed=3, features=32)


def given_of(count: int = 2, past: int = 1) -> Tensor:
    return torch.randn(count, past, 4, 4, 4, generator=torch.Generator().manual_seed(0))


def run(model: StableDiffusion, task: Frames, rolling: Rolling, given: Tensor, **more: Any) -> Tensor:
    count = len(given)
    settings: dict[str, Any] = {"seed": 5, "ids": list(range(count)), "tokens": model.text.encode(["a ball"] * count), **more}
    return rolled(roll_out(model, task, PLAIN, rolling, given=given, **settings))


def test_each_frame_continues_the_one_before(model: StableDiffusion) -> None:
    """With the same noise at every step, a rollout of four is one step from its own third frame."""
    whole = run(model, Frames(), Rolling(4, noise="fixed"), given_of())
    assert whole.shape == (2, 4, 4, 4, 4)
    last = run(model, Frames(), Rolling(1, noise="fixed"), whole[:, 2:3])
    torch.testing.assert_close(last[:, 0], whole[:, 3])
    assert not torch.allclose(whole[:, 2], whole[:, 3])


def test_three_given_frames_move_on_by_one(wide: StableDiffusion) -> None:
    """Newest first: after two steps the network is given frame 2, frame 1 and the source."""
    task = Frames(past=3, noise="log_normal", time_offset=True)
    rolling, given = Rolling(3, noise="fixed", given_noise=0.0, offset=0.4), given_of(2, 3)
    whole = run(wide, task, rolling, given)
    window = torch.stack([whole[:, 1], whole[:, 0], given[:, 0]], 1)
    once = Rolling(1, noise="fixed", given_noise=0.0, offset=0.4)
    torch.testing.assert_close(run(wide, task, once, window)[:, 0], whole[:, 2])
    with pytest.raises(ShapeError, match="the task takes 3"):
        run(wide, task, rolling, given_of(2, 2))


def test_a_rollout_depends_on_its_own_address_alone(model: StableDiffusion) -> None:
    given, words = given_of(3), model.text.encode(["red", "green", "blue"])
    together = run(model, Frames(), Rolling(2), given, tokens=words)
    alone = run(model, Frames(), Rolling(2), given[1:2], tokens=words[1:2], ids=[1])
    torch.testing.assert_close(alone[0], together[1], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(run(model, Frames(), Rolling(2), given, tokens=words, seed=6), together)


def test_fresh_noise_a_step_and_fixed_noise_differ_from_the_second_frame_on(model: StableDiffusion) -> None:
    fixed, fresh = (run(model, Frames(), Rolling(2, noise=kind), given_of()) for kind in ("fixed", "per_step"))  # type: ignore[arg-type]
    torch.testing.assert_close(fixed[:, 0], fresh[:, 0])
    assert not torch.allclose(fixed[:, 1], fresh[:, 1])


def test_instructions_may_change_on_the_way(model: StableDiffusion) -> None:
    """Texts A, B for three steps: A, B, B. The first frame is A's own, the second is not."""
    a, b = (model.text.encode([word] * 2) for word in ("up", "down"))
    first = run(model, Frames(), Rolling(3), given_of(), tokens=a)
    mixed = run(model, Frames(), Rolling(3), given_of(), tokens=[a, b])
    same = run(model, Frames(), Rolling(3), given_of(), tokens=[a, b, b])
    torch.testing.assert_close(mixed, same)
    torch.testing.assert_close(mixed[:, 0], first[:, 0])
    assert not torch.allclose(mixed[:, 1], first[:, 1])


def test_noise_on_given_frames_and_offsets_reach_the_network(wide: StableDiffusion) -> None:
    """The tiny network's told numbers pass through zero weights until they are set."""
    task = Frames(past=3, noise="log_normal", time_offset=True)
    with torch.no_grad():
        wide.unet.time_embedding.cond_proj.weight.normal_(generator=torch.Generator().manual_seed(0))  # type: ignore[union-attr]
    base = run(wide, task, Rolling(1, given_noise=0.05, offset=0.2), given_of(2, 3))
    for other in (Rolling(1, given_noise=0.3, offset=0.2), Rolling(1, given_noise=0.05, offset=1.0)):
        assert not torch.allclose(run(wide, task, other, given_of(2, 3)), base)
    rows = run(wide, task, Rolling(1, given_noise=0.05), given_of(2, 3), offset=torch.tensor([0.2, 1.0]))
    torch.testing.assert_close(rows[0], base[0])
    assert not torch.allclose(rows[1], base[1])


def test_refinement_starts_from_the_frame_noised_to_its_share_of_the_schedule(model: StableDiffusion) -> None:
    """Strength .4 of 5 steps: the last two timesteps of the five. A frame refined with nothing to add keeps its neighborhood."""
    scheduler, given = model.sampler("DDIMScheduler"), given_of()
    seen: list[int] = []

    class Watch(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = torch.nn.Parameter(torch.ones(1))

        def forward(self, inputs: Tensor, time: Tensor, **_: Any) -> tuple[Tensor]:
            seen.append(int(time))
            return (torch.zeros_like(inputs[:, :4]),)

    settings = Sampling(num_inference_steps=5, guidance_scale=1.0, image_guidance_scale=1.0)
    words, noise = model.text.encode(["x"] * 2), torch.zeros(2, 4, 4, 4)
    makers = [torch.Generator() for _ in range(2)]
    image = model.codec.unscaled(given[:, 0])
    out = sample(Watch(), scheduler, settings, words, model.text.null, image, noise, makers, start=(given[:, 0], 0.4))
    assert seen == [201, 1]
    # eps = 0 throughout, no noise: x_t = sqrt(abar_201) x0 is read as x0 again, and the last step (alpha of timestep 0) keeps it
    scale = math.sqrt(float(scheduler.alphas_cumprod[0]))
    torch.testing.assert_close(out, given[:, 0] * scale, atol=1e-4, rtol=1e-4)
    plain = run(model, Frames(), Rolling(2), given)
    assert not torch.allclose(run(model, Frames(), Rolling(2, refine=0.4), given), plain)


def test_decoding_is_frame_by_frame(model: StableDiffusion) -> None:
    path = torch.randn(2, 3, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    video = decoded(path, model.codec)
    assert video.shape == (2, 3, 3, 16, 16)
    torch.testing.assert_close(video[:, :, 1], model.codec.decode(path[:, 1]))


def test_half_way_on_the_great_circle() -> None:
    """(1, 0) and (0, 2): half way the direction is 45 degrees and the length 1.5, where the straight line has 1.118."""
    a, b = torch.zeros(1, 1, 4, 1, 1), torch.zeros(1, 1, 4, 1, 1)
    a[0, 0, 0], b[0, 0, 1] = 1.0, 2.0
    two = torch.cat([a, b], 1)
    path = along(two, torch.tensor([0.0, 0.5, 1.0]))
    assert path.shape == (1, 3, 4, 1, 1)
    torch.testing.assert_close(path[0, 1, :2, 0, 0], torch.tensor([1.5 / math.sqrt(2)] * 2))
    torch.testing.assert_close(path[:, [0, 2]], two)
    third = along(two, torch.tensor([1 / 3]))[0, 0, :2, 0, 0]  # 30 degrees, length 4/3
    torch.testing.assert_close(third, 4 / 3 * torch.tensor([math.cos(math.pi / 6), 0.5]))


def test_any_rate_along_three_frames() -> None:
    """Position 1.25 lies a quarter of the way from the second to the third frame; the end is the last frame itself."""
    three = torch.randn(2, 3, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    path = along(three, torch.tensor([0.7, 1.25, 2.0]))
    torch.testing.assert_close(path[:, 1], along(three[:, 1:], torch.tensor([0.25]))[:, 0])
    assert torch.equal(path[:, 2], three[:, 2])
    with pytest.raises(ShapeError, match="0 to 2"):
        along(three, torch.tensor([2.1]))


def test_equal_opposite_and_empty_neighbors_stay_finite() -> None:
    one = torch.randn(1, 1, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(along(torch.cat([one, one], 1), torch.tensor([0.5]))[:, 0], one[:, 0])
    for other in (-one, torch.zeros_like(one)):
        assert along(torch.cat([one, other], 1), torch.tensor([0.2, 0.5, 0.9])).isfinite().all()
    assert torch.equal(along(one, torch.tensor([0.0])), one)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "rollout.steps is 0"),
        ({"offset": 0.0}, "rollout.offset is 0.0"),
        ({"given_noise": -1.0}, "given_noise is -1.0"),
        ({"refine": 1.0}, "refine is 1.0"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Rolling(**settings)
