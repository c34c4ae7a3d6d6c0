"""Views of a step: wrong captions, wrong pictures, some samples only, two passes, the frozen copy, layers that are listened to."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from relatum.core.draws import Draws
from relatum.core.errors import RecipeError
from relatum.core.outcome import Ask
from relatum.core.path import NoiseLevel
from relatum.core.prediction import Parametrization
from relatum.engine.step import DiffusionParts, Moment, Step, diffusion_step
from relatum.models.codec import Moments
from relatum.models.correction import Correction, read_correction
from relatum.models.denoiser import Conditioning, Denoiser, Plan
from relatum.objectives.blend import Blend, Weighted, read_blend
from relatum.tasks.base import Batch
from relatum.tasks.image import Image
from support.outcomes import stable_diffusion_path
from worked.test_step import codec


class Reader(nn.Module):
    """Answers 0.5 * the sample + the mean token, through a layer that can be listened to; counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.5))
        self.shift = nn.Parameter(torch.tensor(0.3))
        self.mid_block = nn.Identity()
        self.calls: list[int] = []

    def forward(self, sample: Tensor, time: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Tensor]:
        assert not return_dict
        self.calls.append(len(sample))
        told = encoder_hidden_states.mean((1, 2))[:, None, None, None]
        return (self.scale * self.mid_block(sample) + self.shift * told,)


def batch_of(count: int = 8, seed: int = 0) -> Batch:
    g = torch.Generator().manual_seed(seed)
    names = [f"row-{i}" for i in range(count)]

    def moments() -> Moments:
        return Moments(torch.randn(count, 4, 2, 2, generator=g), torch.randn(count, 4, 2, 2, generator=g) - 3)

    words = ("target", "negative.1", "negative.2", "random")
    tokens = {name: torch.randn(count, 2, 3, generator=g) for name in words}
    return Batch(names, names, names, {"target": moments(), "negative": moments()}, tokens, torch.zeros(1, 2, 3))


def parts(term: dict[str, Any], **task: Any) -> DiffusionParts:
    network = Denoiser(Reader(), Parametrization.EPS, reference=Reader())
    blend = read_blend({"term": term})
    job = Image(**{"conditioning_dropout_prob": 0.0, "negatives": 2, **task})
    return DiffusionParts(network, Parametrization.EPS, stable_diffusion_path(), job, blend, codec())


def gradients(made: DiffusionParts, step: Step) -> list[Tensor]:
    made.network.zero_grad()
    step.total.mean().backward()
    return [torch.zeros(()) if p.grad is None else p.grad.clone() for p in made.network.parameters()]


def calls(made: DiffusionParts) -> list[int]:
    return made.network.network.calls  # type: ignore[union-attr, return-value]


def test_negative_views_of_a_task() -> None:
    """Texts in order; .3 of the first view look at the wrong picture under the right caption, .2 have a random caption."""
    batch, draws = batch_of(4000), Draws(0, range(4000))
    task = Image(0.0, negatives=2, negative_image=0.3, negative_random=0.2)
    assert task.needs.texts == ("target", "negative.1", "negative.2", "random")
    assert task.needs.images == ("target", "negative")
    assert task.views == ("matched", "null", "negative", "negative.2")
    episode = task.episode(batch, codec(), (), draws)
    view = episode.conditionings["negative"].tokens
    right, hard, random = ((view == batch.tokens[name]).all((1, 2)) for name in ("target", "negative.1", "random"))
    assert [abs(int(kind.sum()) - expected) < 120 for kind, expected in ((right, 1200), (hard, 2000), (random, 800))] == [True] * 3
    assert int((right | hard | random).sum()) == 4000
    moved = (episode.targets["negative"] != episode.target).flatten(1).any(1)
    assert torch.equal(moved, right)
    mean, logvar = batch.moments["negative"]
    shown = 0.5 * (mean + (0.5 * logvar).exp() * draws.normal("posterior target", (4, 2, 2)))
    torch.testing.assert_close(episode.targets["negative"][right], shown[right])
    assert torch.equal(episode.conditionings["negative.2"].tokens, batch.tokens["negative.2"])


def test_a_dropped_caption_has_no_wrong_one() -> None:
    draws = Draws(0, range(400))
    episode = Image(0.25, negatives=1).episode(batch_of(400), codec(), (), draws)
    assert torch.equal(episode.told["negative"], draws.uniform("dropout") >= 0.25)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"negatives": -1}, "negatives is -1"),
        ({"negative_image": 0.5}, "negatives is 0, expected 1 or more"),
        ({"negatives": 1, "negative_image": 0.7, "negative_random": 0.4}, "together they exceed 1"),
        ({"negatives": 1, "negative_random": 1.5}, "negative_random is 1.5, expected 0 to 1"),
    ],
)
def test_impossible_negatives_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        Image(**settings)


@pytest.mark.parametrize("faithful", [{}, {"faithful": True, "micro_batch": 2}], ids=["robust", "faithful"])
@pytest.mark.parametrize("task", [{}, {"negative_image": 0.5, "conditioning_dropout_prob": 0.4}], ids=["captions", "pictures"])
def test_two_passes_give_the_gradient_of_one(faithful: dict[str, Any], task: dict[str, Any]) -> None:
    """Same loss, same gradient, same journal; the second pass asks for the active samples only."""
    term = {"kind": "hard_negative", **faithful}
    one, two = parts(term, **task), parts({**term, "two_pass": True}, **task)
    batch, draws = batch_of(), Draws(3, range(8))
    first, second = diffusion_step(one, batch, draws), diffusion_step(two, batch, draws)
    torch.testing.assert_close(first.total, second.total)
    torch.testing.assert_close(first.watched["term/active_fraction"], second.watched["term/active_fraction"])
    for a, b in zip(gradients(one, first), gradients(two, second), strict=True):
        torch.testing.assert_close(a, b)
    asked = calls(two)
    assert asked[0] == 8
    assert asked[1] == calls(one)[0] - 8
    assert 0 <= sum(asked[2:]) < asked[1]


def test_two_passes_are_refused_where_the_view_is_wanted_anyway() -> None:
    with pytest.raises(RecipeError, match=r"objectives\.a\.two_pass: b wants the same view's gradient anyway"):
        read_blend({"a": {"kind": "hard_negative", "two_pass": True}, "b": {"kind": "caption_preference"}})


def test_a_share_of_the_samples_costs_a_share_of_the_passes() -> None:
    """Of 400 samples about 100 are asked for the two wrong captions; the rows are those of the draw "chosen" below .25."""
    made = parts({"kind": "caption_contrast", "captions": 3, "share": 0.25, "tau": 1.0})
    draws = Draws(1, range(400))
    step = diffusion_step(made, batch_of(400), draws)
    chosen = draws.uniform("chosen") < 0.25
    assert calls(made) == [400 + 2 * int(chosen.sum())]
    assert torch.equal(step.losses["term"] > 0, chosen)


def test_shares_of_two_terms_do_not_mix() -> None:
    """Beside a term that asks all samples for one wrong caption, contrast keeps to its own share and scale."""
    term = {"kind": "caption_contrast", "captions": 3, "share": 0.25, "tau": 1.0}
    alone, beside = parts(term), parts(term)
    beside.blend = read_blend({"term": term, "other": {"kind": "hard_negative"}})
    batch, draws = batch_of(64), Draws(1, range(64))
    losses = [diffusion_step(made, batch, draws).losses["term"] for made in (alone, beside)]
    torch.testing.assert_close(*losses)


def test_held_out_rows_tell_the_errors_of_all_views() -> None:
    """All samples whatever the share; the mean over those that have a wrong caption."""
    made = parts({"kind": "caption_contrast", "share": 0.25, "tau": 1.0}, conditioning_dropout_prob=0.5, negatives=1)
    draws = Draws(1, range(64))
    with torch.no_grad():
        step = diffusion_step(made, batch_of(64), draws, moment=Moment(training=False))
    assert {"matched_error", "null_error", "negative_error"} <= set(step.watched)
    kept = draws.uniform("dropout") >= 0.5
    assert torch.equal(step.losses["term"] > 0, kept)
    error = step.watched["negative_error"]
    torch.testing.assert_close(error[~kept], error[kept].mean().expand(int((~kept).sum())))


def test_the_reference_is_a_frozen_copy() -> None:
    """It is asked without gradient, is no parameter, and stays as it was when the student moves."""
    made = parts({"kind": "caption_preference", "beta": 3.0})
    batch, draws = batch_of(), Draws(0, range(8))
    assert len(list(made.network.parameters())) == 2
    before = diffusion_step(made, batch, draws)
    gradients(made, before)
    with torch.no_grad():
        made.network.network.scale.add_(0.4)  # type: ignore[union-attr, operator]
    after = diffusion_step(made, batch, draws)
    assert not torch.allclose(after.total, before.total)
    plain = torch.tensor(2.0).log()
    torch.testing.assert_close(before.losses["term"] - plain, diffusion_step(parts({"kind": "denoise"}), batch, draws).total)
    with pytest.raises(RuntimeError, match="this denoiser was given none"):
        Denoiser(Reader(), Parametrization.EPS).ask(
            torch.zeros(1, 4, 2, 2), stable_diffusion_path().at(torch.tensor([5])),
            {"null": Conditioning(torch.zeros(1, 2, 3))}, [Ask("null", model="reference")],
        )  # fmt: skip


def test_layers_are_heard_of_the_matched_view_alone() -> None:
    network = Reader()
    level = stable_diffusion_path().at(torch.tensor([5, 50]))
    views = {"matched": Conditioning(torch.ones(2, 2, 3)), "null": Conditioning(torch.zeros(2, 2, 3))}
    noisy = torch.arange(32.0).reshape(2, 4, 2, 2)
    out = Denoiser(network, Parametrization.EPS).ask(
        noisy, level, views, [Ask("matched"), Ask("null")], Plan(features=("mid_block",))
    )
    assert torch.equal(out["matched"].features["mid_block"], noisy)
    assert not out["null"].features
    assert not network.mid_block._forward_hooks


class Line(nn.Module):
    """Answers the same number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))

    def forward(self, sample: Tensor, time: Tensor) -> tuple[Tensor]:
        return (self.value.expand_as(sample),)


def test_the_correction_undoes_the_bias(tmp_path: Any) -> None:
    """v = alpha eps - sigma x0, so m = -sigma * mean. At y = 2, mean 3, strength .25 the optimum is (2 + .25 sigma 3) / .75."""
    path = stable_diffusion_path()
    level: NoiseLevel = path.at(torch.tensor([700]))
    mean = torch.full((1, 4, 2, 2), 3.0)
    biased = (2 + 0.25 * level.sigma.item() * 3) / 0.75
    network = Line(biased)
    Correction(0.25, mean).save(tmp_path)
    read = read_correction(tmp_path)
    assert read is not None
    handle = read.attach(network, Parametrization.V, path)
    sample = torch.zeros(3, 4, 2, 2)
    for time in (torch.tensor(700), torch.tensor([700.0] * 3)):
        torch.testing.assert_close(network(sample, time)[0], torch.full((3, 4, 2, 2), 2.0))
    handle.remove()
    torch.testing.assert_close(network(sample, torch.tensor(700))[0], torch.full((3, 4, 2, 2), biased))
    assert read_correction(tmp_path / "nowhere") is None


def test_delta_fm_goes_on_exactly_from_its_state() -> None:
    term, other = (read_blend({"t": {"kind": "delta_fm", "strength": 0.3, "decay": 0.5}}) for _ in range(2))
    batch = batch_of()
    made = parts({"kind": "denoise"})
    for i in range(3):
        if i == 2:
            other.load_state(copy.deepcopy(term.state()))
        for blend in [term] + [other] * (i == 2):
            made.blend = blend
            diffusion_step(made, batch, Draws(i, range(8)))
    assert {key: value.tolist() for key, value in term.state().items()} == {k: v.tolist() for k, v in other.state().items()}


def test_delta_fm_stands_alone() -> None:
    with pytest.raises(RecipeError, match=r"objectives\.b: delta_fm is undone at sampling by what is known .* leave out a"):
        Blend({n: Weighted(read_blend({n: {"kind": k}}).terms[n].objective) for n, k in (("a", "denoise"), ("b", "delta_fm"))})
