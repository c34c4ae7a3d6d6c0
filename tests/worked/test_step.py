"""From a batch to a judged outcome, with a network small enough to know its answers: tasks, the denoiser, the pure step."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError
from relatum.core.outcome import Ask, Outcome
from relatum.core.path import StraightPath
from relatum.core.prediction import Parametrization
from relatum.core.shapes import PerSample
from relatum.engine.step import DiffusionParts, Moment, diffusion_step
from relatum.models.codec import Codec, Moments
from relatum.models.denoiser import Conditioning, Denoiser
from relatum.objectives.blend import Blend, Weighted
from relatum.objectives.denoise import Denoise
from relatum.tasks.base import Batch
from relatum.tasks.edit import Edit
from relatum.tasks.image import Image
from support.outcomes import stable_diffusion_path


class Network(nn.Module):
    """Answers 0.5 * the first four channels + the mean of the image channels + the mean token + time / 1000; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.calls: list[int] = []

    def forward(self, sample: Tensor, time: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert not return_dict
        self.calls.append(len(sample))
        extra = encoder_hidden_states.mean((1, 2)) + time / 1000
        image = sample[:, 4:].mean(1, keepdim=True) if sample.shape[1] > 4 else 0.0
        return (self.scale * sample[:, :4] + image + extra[:, None, None, None],)


def codec() -> Codec:
    vae = nn.Linear(1, 1)
    vae.config = SimpleNamespace(scaling_factor=0.5, shift_factor=None, latent_channels=4, block_out_channels=(8, 8, 8))  # type: ignore[assignment]
    return Codec(vae)


def batch_of(count: int = 6, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)

    def moments() -> Moments:
        return Moments(torch.randn(count, 4, 3, 5, generator=g), torch.randn(count, 4, 3, 5, generator=g) - 3)

    names = [f"row-{i}" for i in range(count)]
    return Batch(
        ids=names,
        groups=[f"group-{i // 2}" for i in range(count)],
        where=names,
        moments={"source": moments(), "target": moments()},
        tokens={"instruction": torch.randn(count, 2, 3, generator=g), "target": torch.randn(count, 2, 3, generator=g)},
        null=torch.zeros(1, 2, 3),
    )


def test_episode_of_an_edit() -> None:
    """Target: a scaled posterior sample. Anchor "source": the scaled mode. Concatenated image: the *unscaled* mode."""
    batch, draws = batch_of(), Draws(1, range(6))
    episode = Edit(conditioning_dropout_prob=0.0).episode(batch, codec(), (), draws)
    mean, logvar = batch.moments["target"]
    noise = draws.normal("posterior target", (4, 3, 5))
    torch.testing.assert_close(episode.target, 0.5 * (mean + (0.5 * logvar).exp() * noise))
    torch.testing.assert_close(episode.anchors["source"], 0.5 * batch.moments["source"].mean)
    assert episode.anchors["target"] is episode.target
    image = episode.conditionings["matched"].image
    assert image is not None
    torch.testing.assert_close(image, batch.moments["source"].mean)
    assert torch.equal(episode.conditionings["matched"].tokens, batch.tokens["instruction"])
    assert not episode.conditionings["null"].tokens.any()
    assert list(episode.ids) == list(batch.groups)


def test_dropout_of_an_edit_has_the_stock_scripts_joint_frequencies() -> None:
    """One uniform p, c = .1: text alone p < c, both c <= p < 2c, image alone 2c <= p < 3c. Of 4,000: 400 +- 19 each."""
    batch = batch_of(4000)
    draws = Draws(2, range(4000))
    episode = Edit(conditioning_dropout_prob=0.1).episode(batch, codec(), (), draws)
    view = episode.conditionings["matched"]
    assert view.image is not None
    no_text, no_image = ~view.tokens.flatten(1).any(1), ~view.image.flatten(1).any(1)
    p = draws.uniform("dropout")
    assert torch.equal(no_text, p < 0.2)
    assert torch.equal(no_image, (p >= 0.1) & (p < 0.3))
    for both in (no_text & ~no_image, no_text & no_image, ~no_text & no_image):
        assert abs(int(both.sum()) - 400) < 76


@pytest.mark.parametrize("probability", [-0.1, 0.4])
def test_impossible_dropout_is_refused(probability: float) -> None:
    with pytest.raises(RecipeError, match=r"conditioning_dropout_prob is .*, expected 0 to 1/3"):
        Edit(conditioning_dropout_prob=probability)


def test_dropout_of_text_to_image() -> None:
    """c = .25 of 4,000 captions: 1,000 +- 27."""
    episode = Image(conditioning_dropout_prob=0.25).episode(batch_of(4000), codec(), (), Draws(0, range(4000)))
    dropped = int((~episode.conditionings["matched"].tokens.flatten(1).any(1)).sum())
    assert abs(dropped - 1000) < 110
    assert set(episode.anchors) == {"target"}


def ask(denoiser: Denoiser, asks: list[Ask]) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(3)
    level = stable_diffusion_path().at(torch.tensor([10, 500, 900]))
    views = {
        "matched": Conditioning(torch.ones(3, 2, 3), torch.ones(3, 4, 2, 2)),
        "null": Conditioning(torch.zeros(3, 2, 3), torch.arange(3.0)[:, None, None, None].expand(3, 4, 2, 2)),
    }
    return {k: p.raw for k, p in denoiser.ask(torch.randn(3, 4, 2, 2, generator=g), level, views, asks).items()}


def test_asking_together_is_asking_apart() -> None:
    """The views of one stacked pass come back under their own names, with their own times and images."""
    together = ask(Denoiser(Network(), Parametrization.EPS), [Ask("matched"), Ask("null")])
    for name in ("matched", "null"):
        torch.testing.assert_close(together[name], ask(Denoiser(Network(), Parametrization.EPS), [Ask(name)])[name])
    torch.testing.assert_close(
        together["matched"] - together["null"], (2 - torch.arange(3.0))[:, None, None, None].expand(3, 4, 2, 2)
    )


def test_views_with_gradient_share_one_pass() -> None:
    network = Network()
    raws = ask(Denoiser(network, Parametrization.EPS), [Ask("matched"), Ask("null", grad=False)])
    assert network.calls == [3, 3]
    assert raws["matched"].requires_grad
    assert not raws["null"].requires_grad
    network.calls.clear()
    ask(Denoiser(network, Parametrization.EPS), [Ask("matched"), Ask("null")])
    assert network.calls == [6]


def test_a_view_that_the_task_lacks_is_named() -> None:
    with pytest.raises(KeyError, match="negative"):
        ask(Denoiser(Network(), Parametrization.EPS), [Ask("negative")])


def parts(**more: Any) -> DiffusionParts:
    given: dict[str, Any] = {
        "network": Denoiser(Network(), Parametrization.EPS),
        "kind": Parametrization.EPS,
        "path": stable_diffusion_path(),
        "task": Edit(),
        "blend": Blend({"base": Weighted(Denoise())}),
        "codec": codec(),
    }
    return DiffusionParts(**{**given, **more})


def test_the_step_is_the_stock_scripts_formula() -> None:
    """noisy = add_noise(scaled target); the unscaled source mode beside it; mean squared error to the noise; same draws."""
    batch, draws, path = batch_of(), Draws(5, range(6)), stable_diffusion_path()
    step = diffusion_step(parts(), batch, draws)
    mean, logvar = batch.moments["target"]
    target = (mean + (0.5 * logvar).exp() * draws.normal("posterior target", (4, 3, 5))) * 0.5
    noise, t = draws.normal("noise", (4, 3, 5)), (draws.uniform("level") * 1000).long()
    abar = path.abar[t][:, None, None, None]
    noisy = abar.sqrt() * target + (1 - abar).sqrt() * noise
    p = draws.uniform("dropout")[:, None, None, None]
    image = batch.moments["source"].mean * (1 - ((p >= 0.05) & (p < 0.15)).float())
    tokens = torch.where(p[..., 0] < 0.1, torch.zeros(1, 2, 3), batch.tokens["instruction"])
    raw = Network()(torch.cat([noisy, image], 1), t.float(), tokens, return_dict=False)[0]
    torch.testing.assert_close(step.losses["base"], (raw - noise).square().flatten(1).mean(1), rtol=1e-6, atol=1e-6)
    assert step.level is not None
    assert torch.equal(step.level.time, t.float())


def test_a_batch_is_its_samples() -> None:
    """The same rows at the same addresses cost the same in two halves."""
    whole = diffusion_step(parts(), batch_of(), Draws(5, range(6)))
    batch = batch_of()
    left = Batch(
        batch.ids[:3],
        batch.groups[:3],
        batch.where[:3],
        {k: Moments(m.mean[:3], m.logvar[:3]) for k, m in batch.moments.items()},
        {k: v[:3] for k, v in batch.tokens.items()},
        batch.null,
    )
    torch.testing.assert_close(diffusion_step(parts(), left, Draws(5, range(3))).total, whole.total[:3])


def test_an_objective_sees_what_it_may_see() -> None:
    seen: list[Outcome] = []

    class Look:
        asks = (Ask("matched"), Ask("null", grad=False))

        def __call__(self, outcome: Outcome) -> PerSample:
            seen.append(outcome)
            return outcome.error("null")

    look = Blend({"look": Weighted(Look())})
    diffusion_step(parts(blend=look, path=StraightPath()), batch_of(), Draws(0, range(6)), moment=Moment(training=False))
    assert set(seen[0].predictions) == {"matched", "null"}
    assert set(seen[0].anchors) == {"source", "target"}
    assert not seen[0].training
    assert len(seen[0].draws) == 6


def test_eps_at_zero_terminal_snr_is_refused() -> None:
    path = stable_diffusion_path()
    path.abar[-1] = 0
    with pytest.raises(RecipeError, match="zero terminal SNR"):
        parts(path=path)
    parts(path=path, kind=Parametrization.V)
