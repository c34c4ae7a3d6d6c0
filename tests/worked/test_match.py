"""Matching: the score is a plain double loop's, whatever the batches, the order or what stands beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError, ShapeError
from relatum.core.path import DiscretePath
from relatum.engine.match import ClipScorer, DiffusionScorer, Matching, Scorer, every_pair, match_errors, match_levels
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.tiny import tiny_stable_diffusion
from relatum.pretrained import Extractor

TEXTS = ["a red ring", "a blue star", "nothing of the kind"]


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_stable_diffusion(0, seed=3, prediction_type="v_prediction")


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


def double_loop(model: StableDiffusion, images: Tensor, texts: Sequence[str], settings: Matching) -> Tensor:
    """score(x, w) = -mean_k mean((raw - (alpha eps - sigma x0))^2), one UNet call a pair and level, from diffusers' parts alone."""
    scores = torch.zeros(len(images), len(texts))
    abar = model.scheduler.alphas_cumprod
    for i, image in enumerate(images):
        vae: Any = model.codec.vae
        x0 = vae.encode(image[None]).latent_dist.mean * 0.18215
        for j, text in enumerate(texts):
            states = model.text.encode([text])
            for k in range(settings.levels):
                time = int(match_levels(settings, model.path, [k]).time[0])
                eps = Draws(settings.seed, [k]).normal("match", x0.shape[1:])
                alpha, sigma = abar[time].sqrt(), (1 - abar[time]).sqrt()
                with torch.no_grad():
                    raw = model.unet(alpha * x0 + sigma * eps, time, encoder_hidden_states=states).sample
                d = (raw - (alpha * eps - sigma * x0)).square().mean()
                scores[i, j] -= (d if settings.error == "squared" else d.sqrt()) / settings.levels
    return scores


@pytest.mark.parametrize("error", ["squared", "norm"])
def test_score_is_the_plain_double_loop(model: StableDiffusion, images: Tensor, error: Any) -> None:
    settings = Matching(levels=5, seed=7, error=error, batch_size=7)
    scorer = DiffusionScorer(model, settings)
    assert isinstance(scorer, Scorer)
    ours = scorer(images[:2], TEXTS, every_pair(2, 3)).reshape(2, 3)
    truth = double_loop(model, images[:2], TEXTS, settings)
    torch.testing.assert_close(ours, truth, atol=1e-5, rtol=0)
    assert (truth[0] - truth[1]).abs().min() > 1e-4  # the scores differ, or agreeing would say little
    assert scorer.evaluations == 2 * 3 * 5
    torch.testing.assert_close(scorer.null(images[:2]), double_loop(model, images[:2], [""], settings)[:, 0], atol=1e-5, rtol=0)


def test_batch_and_order_do_not_matter(model: StableDiffusion, images: Tensor) -> None:
    one, many = (DiffusionScorer(model, Matching(levels=3, batch_size=size)) for size in (1, 50))
    scores = one(images, TEXTS, every_pair(4, 3)).reshape(4, 3)
    torch.testing.assert_close(many(images, TEXTS, every_pair(4, 3)).reshape(4, 3), scores, atol=1e-5, rtol=0)
    turned = many(images.flip(0), TEXTS[::-1], every_pair(4, 3)).reshape(4, 3).flip(0, 1)
    torch.testing.assert_close(turned, scores, atol=1e-5, rtol=0)
    alone = many(images[2:3], TEXTS[1:2], every_pair(1, 1))
    torch.testing.assert_close(alone, scores[2, 1:2], atol=1e-5, rtol=0)


def test_equal_candidates_tie_exactly_and_cost_once(model: StableDiffusion, images: Tensor) -> None:
    """Four texts of which two are one to the tokenizer, five images of which two are equal: 4 x 3 pairs of 2 levels."""
    scorer = DiffusionScorer(model, Matching(levels=2, batch_size=3))
    long = "x" * 60
    texts = ["a red ring", long + "one", "a blue star", long + "two"]  # both are cut after 46 letters
    scores = scorer(torch.cat([images, images[1:2]]), texts, every_pair(5, 4)).reshape(5, 4)
    assert torch.equal(scores[:, 1], scores[:, 3])
    assert torch.equal(scores[1], scores[4])
    assert len(scores.unique()) == 12
    assert scorer.evaluations == 4 * 3 * 2


def test_levels_asked_are_levels_used_and_nested(model: StableDiffusion, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """K calls of one pair, at K levels; a longer request begins with the shorter one's errors."""
    seen: list[float] = []
    forward = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, t, **more: (seen.extend(t.tolist()), forward(x, t, **more))[1])
    scorer = DiffusionScorer(model, Matching(levels=13, batch_size=4))
    errors = scorer.errors(images[:1], TEXTS[:1], every_pair(1, 1))
    assert seen == match_levels(scorer.settings, model.path, range(13)).time.tolist()
    assert errors.shape == (1, 13)
    longer = DiffusionScorer(model, Matching(levels=20)).errors(images[:1], TEXTS[:1], every_pair(1, 1))
    torch.testing.assert_close(longer[:, :13], errors, atol=1e-5, rtol=0)
    part = scorer.errors(images[:1], TEXTS[:1], every_pair(1, 1), [3, 17])
    torch.testing.assert_close(part, longer[:, [3, 17]], atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_first_levels_are_stratified(seed: int) -> None:
    """Of 1024 timesteps, from a quarter to three quarters: the first 2^j fall one in each 2^-j of 256..768, for every j up to 9."""
    path = DiscretePath(torch.linspace(0.99, 0.01, 1024))
    times = match_levels(Matching(low=0.25, high=0.75, seed=seed), path, range(512)).time - 256
    for j in range(10):
        assert sorted((times[: 2**j] * 2**j / 512).floor().tolist()) == list(range(2**j))
    other = match_levels(Matching(low=0.25, high=0.75, seed=seed + 1), path, range(8)).time - 256
    assert not torch.equal(other, times[:8])


def test_levels_are_uniform_over_seeds() -> None:
    """The third place of 400 seeds: mean 1/2, standard error sqrt(1/12/400) = .0144."""
    path = DiscretePath(torch.linspace(0.99, 0.01, 1000))
    times = torch.cat([match_levels(Matching(seed=seed), path, [2]).time for seed in range(400)])
    assert abs(float(times.mean()) / 1000 - 0.5) < 4 * math.sqrt(1 / 12 / 400)


def test_null_is_the_same_for_every_text(model: StableDiffusion, images: Tensor) -> None:
    """So that subtracting it cannot change which text fits an image best, but may change which image fits a text."""
    scorer = DiffusionScorer(model, Matching(levels=2))
    scores, null = scorer(images, TEXTS, every_pair(4, 3)).reshape(4, 3), scorer.null(images)
    assert torch.equal(scores.argsort(1), (scores - null[:, None]).argsort(1))
    assert null.std() > 1e-4


def test_half_precision_models_are_scored_in_float32(images: Tensor) -> None:
    half = tiny_stable_diffusion(0, seed=3)
    half.unet.to(torch.bfloat16)
    rounded = tiny_stable_diffusion(0, seed=3)
    rounded.unet.to(torch.bfloat16).float()
    settings, pairs = Matching(levels=3), every_pair(2, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = DiffusionScorer(half, settings)(images[:2], TEXTS, pairs)
    torch.testing.assert_close(scores, DiffusionScorer(rounded, settings)(images[:2], TEXTS, pairs), atol=1e-5, rtol=0)
    assert next(half.unet.parameters()).dtype == torch.bfloat16


def test_edit_models_need_their_source(images: Tensor) -> None:
    edit = tiny_stable_diffusion(1, seed=3)
    latents, tokens, pairs = torch.randn(2, 4, 4, 4), edit.text.encode(TEXTS), every_pair(2, 3)
    with pytest.raises(RecipeError, match="the model is given 1 pictures"):
        match_errors(edit, latents, tokens, pairs, Matching(levels=2))
    source = torch.randn(2, 4, 4, 4)
    errors = match_errors(edit, latents, tokens, pairs, Matching(levels=2), image=source)
    other = match_errors(edit, latents, tokens, pairs, Matching(levels=2), image=source.flip(0))
    assert errors.shape == (6, 2)
    assert not torch.allclose(errors, other)


def test_what_cannot_be_is_refused(model: StableDiffusion) -> None:
    for settings in ({"levels": 0}, {"low": 0.5, "high": 0.5}, {"high": 1.5}, {"batch_size": 0}):
        with pytest.raises(RecipeError, match=r"match: "):
            Matching(**settings)  # type: ignore[arg-type]
    with pytest.raises(ShapeError, match="of 1 images and 3 texts"):
        match_errors(model, torch.randn(1, 4, 4, 4), model.text.encode(TEXTS), torch.tensor([[1, 0]]), Matching())


def test_clip_control_is_the_cosine() -> None:
    """Image features (3, 4) against text features (1, 0) and (0, 2): cosines .6 and .8; equal texts tie."""
    table = {"a": [1.0, 0.0], "b": [0.0, 2.0]}
    clip = Extractor(
        "stub",
        "0" * 16,
        "none",
        lambda p: torch.tensor([[3.0, 4.0]]).repeat(len(p), 1),
        lambda t: torch.tensor([table[w] for w in t]),
    )
    scorer = ClipScorer(clip)
    scores = scorer(torch.zeros(1, 3, 8, 8), ["a", "b", "a"], every_pair(1, 3))
    torch.testing.assert_close(scores, torch.tensor([0.6, 0.8, 0.6]))
    assert scores[0] == scores[2]
    assert scorer.null(torch.zeros(1, 3, 8, 8)) is None
    with pytest.raises(RecipeError, match="no text tower"):
        ClipScorer(Extractor("blind", "0" * 16, "none", lambda p: p.flatten(1)))
