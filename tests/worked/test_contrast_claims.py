"""What contrast promises about any batch: its sign, where it vanishes, how hard it may pull, and what it must not look at."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from relatum.core.outcome import Outcome
from relatum.core.prediction import Parametrization, Prediction
from relatum.core.ranks import ONE
from relatum.engine.monitors import Monitors
from relatum.engine.step import Step
from relatum.objectives.blend import read_blend
from relatum.objectives.contrast import Contrast
from relatum.objectives.key_queue import KeyQueue
from support.outcomes import in_ranks, make_outcome, take

FORMS: list[Any] = [{}, {"similarity": "cosine"}, {"similarity": "dot"}, {"temperature": 0.05}, {"faithful": True}]
NEAR = 0.012**0.5  # latents that lie a mean square of .024 apart


def predicting(outcome: Outcome, x0: Tensor) -> tuple[Outcome, Tensor]:
    """The outcome of a network that predicts this x0, and the leaf that collects the gradient."""
    raw = x0.detach().clone().requires_grad_()
    told = Prediction(raw, outcome.matched.noisy, outcome.level, Parametrization.X0)
    return dataclasses.replace(outcome, predictions={"matched": told}, watched={}), raw


def pull(term: Contrast, outcome: Outcome, x0: Tensor) -> Tensor:
    """The gradient at this predicted x0."""
    told, raw = predicting(outcome, x0)
    return torch.autograd.grad(term(told).sum(), raw)[0]


def edited(outcome: Outcome) -> Outcome:
    """Sources as an edit leaves them: the target but for one corner."""
    source = outcome.clean.clone()
    source[..., :3, :3] = outcome.anchors["source"][..., :3, :3]
    return dataclasses.replace(outcome, anchors={**outcome.anchors, "source": source})


@pytest.mark.parametrize("to", ["source", "target"])
@pytest.mark.parametrize("settings", FORMS, ids=str)
def test_falls_towards_its_own_key_and_rises_towards_another(settings: dict[str, Any], to: Any) -> None:
    """From the middle of two keys, a tenth of the way to either."""
    outcome = edited(make_outcome(batch=2, kind=Parametrization.X0, spread=0.1)[0])
    term, keys = Contrast(to=to, **settings), outcome.anchors[to]
    mean = keys.mean(0, keepdim=True).expand_as(keys)
    own, here, other = (term(predicting(outcome, mean.lerp(k, 0.1))[0]) for k in (keys, mean, keys.roll(1, 0)))
    assert (own < here).all()
    assert (here < other).all()


@pytest.mark.parametrize(
    ("to", "spread"), [(to, spread) for to in ("source", "target") for spread in (1.0, NEAR, 1e-2)] + [("target", 1e-4)]
)
def test_stationary_at_the_truth(to: Any, spread: float) -> None:
    """The gradient at x0_hat = x0 is at most 1 % of that at x0_hat = the batch mean, however near the batch's latents lie.

    To the source it holds down to a mean square of about 1e-5: below, the edit is so much larger than what tells the sources
    apart that being at the mean instead of the truth makes no difference to the term.
    """
    outcome = edited(make_outcome(batch=16, spread=spread, kind=Parametrization.X0)[0])
    mean = outcome.clean.mean(0, keepdim=True).expand_as(outcome.clean)
    at_mean = pull(Contrast(to=to), outcome, mean).norm()
    assert at_mean > 0
    assert pull(Contrast(to=to), outcome, outcome.clean).norm() <= 0.01 * at_mean


def test_cosine_is_not_stationary_at_the_truth() -> None:
    """The form that was measured to harm: among near-duplicates it goes on pushing at the truth. So the test above can fail."""
    outcome = edited(make_outcome(batch=16, spread=NEAR, kind=Parametrization.X0)[0])
    mean = outcome.clean.mean(0, keepdim=True).expand_as(outcome.clean)
    term = Contrast(similarity="cosine")
    assert pull(term, outcome, outcome.clean).norm() > 0.1 * pull(term, outcome, mean).norm()


@pytest.mark.parametrize("spread", [0.3, 1e-3])
def test_near_duplicates_keep_their_digits(spread: float) -> None:
    """The loss is that of distances from differences, in float64, also where the keys lie a millionth of their squares apart."""
    outcome, _ = make_outcome(kind=Parametrization.X0, spread=spread)
    x0 = outcome.clean.roll(1, 0).lerp(outcome.clean, 0.6)
    tau = spread**2
    mine, keys = x0.double(), outcome.clean.double()
    logits = -(mine[:, None] - keys[None]).square().flatten(2).mean(2) / tau
    want = torch.nn.functional.cross_entropy(logits, torch.arange(6), reduction="none").float()
    got = Contrast(temperature=tau, similar=0.0)(predicting(outcome, x0)[0])
    torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("spread", [1.0, NEAR, 1e-4])
@pytest.mark.parametrize("kind", [Parametrization.EPS, Parametrization.V])
def test_as_advised_it_never_pulls_harder_than_a_tenth_of_the_base(kind: Parametrization, spread: float) -> None:
    """Sample by sample, whatever its weight, at low and high noise."""
    tables = {"base": {"kind": "denoise"}, "pull": {"kind": "contrast", "weight": 1e3}}
    outcome, raws = make_outcome(spread=spread, kind=kind, timesteps=[5, 100, 400, 700, 900, 999])

    def gradient(names: set[str]) -> Tensor:
        blend = read_blend({name: table for name, table in tables.items() if name in names})
        return torch.autograd.grad(blend(outcome).total.sum(), raws["matched"], retain_graph=True)[0].flatten(1)

    base = gradient({"base"})
    extra = gradient({"base", "pull"}) - base
    assert (extra.norm(dim=1) <= 0.1001 * base.norm(dim=1)).all()
    assert extra.norm(dim=1).max() > 0.09 * base.norm(dim=1).min()


@pytest.mark.parametrize("to", ["source", "target"])
def test_learns_at_high_noise(to: str) -> None:
    """At t = 900 of 1000, where the SNR weight is .01, a network that tells x0 = the batch mean gets a gradient from the term as
    advised: over a thousandth of the base term's.
    """
    outcome = edited(make_outcome(timesteps=[900] * 6)[0])
    mean = outcome.clean.mean(0, keepdim=True).expand_as(outcome.clean)
    alpha, sigma = (coefficient[:, None, None, None] for coefficient in (outcome.level.alpha, outcome.level.sigma))
    raw = ((outcome.matched.noisy - alpha * mean) / sigma).requires_grad_()
    told = Prediction(raw, outcome.matched.noisy, outcome.level, Parametrization.EPS)
    outcome = dataclasses.replace(outcome, predictions={"matched": told})
    blend = read_blend({"base": {"kind": "denoise"}, "pull": {"kind": "contrast", "to": to}})
    base = torch.autograd.grad(outcome.error().sum(), raw, retain_graph=True)[0]
    extra = torch.autograd.grad(blend(outcome).total.sum(), raw)[0] - base
    assert extra.norm() > 1e-3 * base.norm()


def test_faithful_saturates_on_strangers_and_shouts_at_near_duplicates() -> None:
    """4 x 32 x 32 latents, predictions a tenth of a standard deviation off. Strangers: own logits lead by thousands, the gradient
    is 0. Near-duplicates, as the frames of a clip: hundreds of times the gradient of the mean squared error.
    """
    pulls = {}
    for spread in (1.0, 0.02):
        outcome, _ = make_outcome(batch=4, shape=(4, 32, 32), spread=spread, error=0.1, kind=Parametrization.X0)
        told, raw = predicting(outcome, outcome.matched.raw)
        base = torch.autograd.grad(told.error().sum(), raw)[0].norm()
        pulls[spread] = float(pull(Contrast(faithful=True), outcome, raw).norm() / base)
    assert pulls[1.0] == 0
    assert pulls[0.02] > 100


@pytest.mark.parametrize("masked", [True, False], ids=["by mask", "by difference"])
@pytest.mark.parametrize("similarity", ["distance", "cosine", "dot"])
def test_region_unchanged_does_not_look_at_the_change(similarity: Any, masked: bool) -> None:
    """The gradient is 0 in the changed corner and nowhere else; without the setting it is there too."""
    outcome = edited(make_outcome(kind=Parametrization.X0, spread=0.5)[0])
    corner = torch.zeros(6, 1, 6, 6)
    corner[..., :3, :3] = 1
    if not masked:
        moved = (outcome.anchors["source"] - outcome.clean).square().mean(1, keepdim=True)
        corner = (moved >= 0.1).float()
    outcome = dataclasses.replace(outcome, masks={"changed": corner} if masked else {})
    at = outcome.clean.mean(0, keepdim=True).expand_as(outcome.clean)
    for region, looks in (("unchanged", False), ("all", True)):
        g = pull(Contrast(to="source", similarity=similarity, region=region), outcome, at)  # type: ignore[arg-type]
        assert bool((g * corner).abs().sum() > 0) is looks
        assert (g * (1 - corner)).abs().sum() > 0


def test_half_precision_gives_finite_gradients() -> None:
    """Unscaled 64 x 64 source latents in float16, whose dot products reach 5e5, against 65,504 that float16 holds."""
    generator = torch.Generator().manual_seed(0)
    big = (5.5 * torch.randn(3, 4, 64, 64, generator=generator)).half()
    outcome, _ = make_outcome(batch=3, shape=(4, 64, 64), kind=Parametrization.X0)
    outcome = dataclasses.replace(outcome, anchors={"source": big, "target": big}, clean=big)
    for settings in FORMS:
        assert pull(Contrast(to="source", **settings), outcome, big.roll(1, 0)).isfinite().all()


@pytest.mark.parametrize("settings", [{"faithful": True}, {"similarity": "cosine"}], ids=str)
def test_autocast_does_not_round_the_products(settings: dict[str, Any]) -> None:
    """Mixed precision is for the network: inside its region the blend's losses are the same to the last digit."""
    blend = read_blend({"base": {"kind": "denoise"}, "pull": {"kind": "contrast", **settings}})
    outcome, _ = make_outcome(spread=0.3)
    plain = blend(outcome).losses["pull"]
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(blend(outcome).losses["pull"], plain)


def test_queue_over_two_processes() -> None:
    """Two steps of 4 + 4 with a queue of 12 are two steps of 8: the same losses, the same queue on every process."""
    batches = [make_outcome(seed=seed, batch=8, ids=[f"{seed}-{i}" for i in range(8)])[0] for seed in (0, 1)]

    def run(ranks: Any) -> tuple[list[Tensor], Tensor]:
        term = Contrast(queue=12, similar=0.0)
        mine = range(8) if ranks is ONE else range(4 * ranks.rank, 4 * ranks.rank + 4)
        losses = [term(dataclasses.replace(take(batch, mine), ranks=ranks)) for batch in batches]
        return losses, term.state()["names"]

    whole, names = run(ONE)
    halves = in_ranks(2, run)
    for i in (0, 1):
        torch.testing.assert_close(torch.cat([losses[i] for losses, _ in halves]), whole[i], rtol=1e-5, atol=1e-6)
    assert all(torch.equal(held, names) for _, held in halves)
    assert not torch.allclose(whole[1], Contrast(similar=0.0)(batches[1]))  # the queue counts


def test_temperature_is_not_learned() -> None:
    """What it was told is what it uses, on any batch: no parameter, no state."""
    term = Contrast(temperature=0.3)
    for seed in range(3):
        term(make_outcome(seed=seed)[0]).sum().backward()
    assert (term.temperature, term.state()) == (0.3, {})


@pytest.mark.parametrize(("accuracy", "steps", "warns"), [(1.0, 200, True), (1.0, 199, False), (0.985, 200, False)])
def test_an_inactive_objective_is_named(accuracy: float, steps: int, warns: bool) -> None:
    """In-batch accuracy above .99 for 200 steps."""
    monitors = Monitors()
    for _ in range(steps):
        one = torch.ones(2)
        monitors.see(Step({"denoise": one}, one, {"pull/nce_accuracy": torch.full((2,), accuracy)}))
    monitors.record(ONE)
    assert [warning.startswith("objective inactive: pull's") for warning in monitors.warnings] == [True] * warns


def test_the_queue_keeps_the_newest() -> None:
    """Batches (0, 1), (2, 3), (4, 5) into three places: 3, 4, 5 are left, latents and names alike."""
    queue = KeyQueue()
    for first in (0, 2, 4):
        numbers = torch.arange(first, first + 2)
        queue.push(numbers.float().reshape(2, 1, 1, 1), numbers, 3)
    latents, names = queue.read(torch.zeros(1, 1, 1, 1), torch.zeros(1, dtype=torch.long))
    assert names.tolist() == [3, 4, 5]
    assert latents.flatten().tolist() == [3.0, 4.0, 5.0]
