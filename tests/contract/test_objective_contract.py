"""Every objective, also one added tomorrow, keeps this contract, the examples outside the package too. Found by registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import relatum.objectives  # noqa: F401  registers them
from relatum.core.errors import RecipeError, ShapeError
from relatum.core.outcome import Objective, Outcome
from relatum.core.prediction import Parametrization
from relatum.core.registry import objective
from relatum.core.toml import import_plugin
from support.outcomes import in_ranks, make_outcome, only, take
from support.settings import alternatives

for _example in ("ten_line_objective", "ten_line_clip_objective"):
    import_plugin(Path(__file__).parents[2] / f"examples/{_example}.py")
NAMES = sorted(objective.classes)
# Each objective as it comes and, where it has both, in its source's form.
FORMS = [
    pytest.param(name, settings, id="-".join([name, *(["faithful"] if settings else [])]))
    for name in NAMES
    for settings in ({}, {"faithful": True})
    if not settings or "faithful" in {f.name for f in dataclasses.fields(objective.classes[name])}
]

CLIPS = [form for form in FORMS if getattr(objective.classes[form.values[0]], "needs_clips", False)]
CLIP = (3, 5, 4, 4)  # c t h w


def made(name: str, **settings: Any) -> tuple[Outcome, dict[str, Tensor]]:
    """An outcome that this objective can judge: of clips where it needs them, and of those one in three has a cut."""
    if not getattr(objective.classes[name], "needs_clips", False):
        return make_outcome(**settings)
    return make_outcome(shape=CLIP, **{"joined": [[i % 3 != 1 or step != 2 for step in range(4)] for i in range(6)], **settings})


def build(name: str, settings: dict[str, Any]) -> Objective:
    return objective.build({"kind": name, **settings}, f"objectives.{name}")


def asked(term: Objective) -> set[str]:
    return {ask.key for ask in term.asks}


def gradients(loss: Tensor, raws: dict[str, Tensor]) -> dict[str, Tensor]:
    found = torch.autograd.grad(loss, list(raws.values()), allow_unused=True)
    return {view: torch.zeros_like(raw) if g is None else g for (view, raw), g in zip(raws.items(), found, strict=True)}


def test_some_are_registered() -> None:
    assert {"denoise", "contrast", "charbonnier"} <= set(NAMES)


@pytest.mark.parametrize(("name", "settings"), FORMS)
@pytest.mark.parametrize("kind", list(Parametrization))
def test_one_finite_number_a_sample(name: str, settings: dict[str, Any], kind: Parametrization) -> None:
    outcome, _ = made(name, kind=kind)
    loss = build(name, settings)(outcome)
    assert loss.shape == (6,)
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_samples_differ(name: str, settings: dict[str, Any]) -> None:
    """A batch mean handed to every sample passes every other test of shape."""
    outcome, _ = made(name)
    assert build(name, settings)(outcome).unique().numel() > 1


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_order_of_the_batch_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    outcome, _ = made(name)
    order = [3, 0, 5, 4, 1, 2]
    torch.testing.assert_close(
        build(name, settings)(outcome)[order], build(name, settings)(take(outcome, order)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_gradient_reaches_exactly_the_views_it_asks_for(name: str, settings: dict[str, Any]) -> None:
    outcome, raws = made(name)
    term = build(name, settings)
    reached = {view for view, g in gradients(term(outcome).sum(), raws).items() if g.abs().sum() > 0}
    assert reached == {ask.key for ask in term.asks if ask.grad and ask.model == "student"}


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_reads_only_the_views_it_asks_for(name: str, settings: dict[str, Any]) -> None:
    outcome, _ = made(name)
    term = build(name, settings)
    term(only(outcome, asked(term)))


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_a_sample_is_judged_by_its_own_prediction(name: str, settings: dict[str, Any]) -> None:
    for sample in (0, 4):
        outcome, raws = made(name)
        for g in gradients(build(name, settings)(outcome)[sample], raws).values():
            assert g[[i for i in range(6) if i != sample]].abs().sum() == 0


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_leaves_its_input_alone(name: str, settings: dict[str, Any]) -> None:
    outcome, raws = made(name)
    before = [x.detach().clone() for x in (outcome.clean, outcome.noise, *outcome.anchors.values(), *raws.values())]
    build(name, settings)(outcome)
    after = [outcome.clean, outcome.noise, *outcome.anchors.values(), *raws.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_watches_have_one_number_a_sample_and_no_gradient(name: str, settings: dict[str, Any]) -> None:
    outcome, _ = made(name)
    build(name, settings)(outcome)
    assert all(value.shape == (6,) and not value.requires_grad for value in outcome.watched.values())


@pytest.mark.parametrize(("name", "settings"), FORMS)
@pytest.mark.parametrize("ids", [None, list("aabacd")], ids=["distinct", "repeated"])
def test_two_ranks_agree_with_one(name: str, settings: dict[str, Any], ids: list[str] | None) -> None:
    """Two processes with three samples each give the losses of one process with six, own keys and false negatives included."""
    outcome, _ = made(name, ids=ids)
    whole = build(name, settings)(outcome)

    def half(ranks: Any) -> Tensor:
        samples = range(3 * ranks.rank, 3 * ranks.rank + 3)
        return build(name, settings)(dataclasses.replace(take(outcome, samples), ranks=ranks))

    torch.testing.assert_close(torch.cat(in_ranks(2, half)), whole, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_unknown_settings_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=f"objectives.{name}.no_such: .* has no setting 'no_such'"):
        build(name, {**settings, "no_such": 1})


# A setting that is read from the recipe and then never used is a lie: every one must change the loss or its gradient in some
# situation, or be refused. Situations: strangers, near-duplicates, repeated ids, low and high noise; beside each other setting.

SITUATIONS: list[dict[str, Any]] = [
    {},
    {"spread": 1.0, "error": 0.3},
    {"spread": 0.05, "error": 1.0},
    {"ids": list("aabacd"), "spread": 0.2, "error": 1.0},
    {"timesteps": [700, 800, 900, 950, 990, 999]},
    {"spread": 0.3, "error": 3.0, "kind": Parametrization.V},
]


def readings(name: str, settings: dict[str, Any], situation: dict[str, Any]) -> Tensor | None:
    """Loss and gradient of a second step, what it asks and remembers; None where these settings are refused together."""
    outcome, raws = made(name, **situation)
    try:
        term = build(name, settings)
        term(made(name, seed=1, ids=[f"earlier-{i}" for i in range(6)])[0])
        loss = term(outcome)
    except RecipeError:
        return None
    shares = torch.tensor([ask.share for ask in term.asks])
    remembered = [value.float().flatten() for value in (term.state() if hasattr(term, "state") else {}).values()]  # type: ignore[attr-defined]
    return torch.cat([loss.detach(), shares, *remembered, *(g.flatten() for g in gradients(loss.sum(), raws).values())])


def companies(name: str, settings: dict[str, Any], field: str) -> Iterator[dict[str, Any]]:
    """The form as it is, then with each other setting turned: some knobs act only when another one is on."""
    yield settings
    cls = objective.classes[name]
    for other in dataclasses.fields(cls):
        if other.init and other.name not in {field, "faithful"}:
            for value in alternatives(cls, other.name, getattr(build(name, settings), other.name)):
                yield {**settings, other.name: value}


def close(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and torch.allclose(before, after, rtol=1e-3, atol=1e-7)


def turns_something(name: str, settings: dict[str, Any], field: str) -> bool:
    for beside in companies(name, settings, field):
        try:
            current = getattr(build(name, beside), field)
        except RecipeError:
            continue
        for value in alternatives(objective.classes[name], field, current):
            for situation in SITUATIONS:
                before, after = readings(name, beside, situation), readings(name, {**beside, field: value}, situation)
                if before is not None and after is not None and not close(before, after):
                    return True
    return False


def is_refused(name: str, settings: dict[str, Any], field: str) -> bool:
    """Whether this form refuses the setting, naming it."""
    current = getattr(build(name, settings), field)
    for value in alternatives(objective.classes[name], field, current):
        try:
            build(name, {**settings, field: value})
        except RecipeError as error:
            if field in str(error):
                continue
        return False
    return True


@pytest.mark.parametrize(
    ("name", "settings", "field"),
    [
        pytest.param(*form.values, f.name, id=f"{form.id}-{f.name}")
        for form in FORMS
        for f in dataclasses.fields(objective.classes[form.values[0]])
        if f.init and f.name not in form.values[1]
    ],
)
def test_every_setting_changes_something_or_is_refused(name: str, settings: dict[str, Any], field: str) -> None:
    assert turns_something(name, settings, field) or is_refused(name, settings, field)


# Objectives of clips.

ONE_A_FRAME = [[20 + 100 * i + 70 * ((i + t) % 4) for t in range(5)] for i in range(6)]


def test_some_need_clips() -> None:
    names = "frame_difference", "anchored_difference", "temporal_residual", "motion_weighted", "temporal_spectrum", "entropy_floor"
    assert {form.values[0] for form in CLIPS} >= set(names)


@pytest.mark.parametrize(("name", "settings"), CLIPS)
def test_pictures_are_refused(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(ShapeError, match="clips"):
        build(name, settings)(make_outcome()[0])


@pytest.mark.parametrize(("name", "settings"), CLIPS)
@pytest.mark.parametrize("kind", list(Parametrization))
def test_noise_levels_of_frames(name: str, settings: dict[str, Any], kind: Parametrization) -> None:
    """Finite, and, where all frames have the sample's level, the same as one level for all."""
    outcome, raws = made(name, kind=kind, timesteps=ONE_A_FRAME)
    loss = build(name, settings)(outcome)
    assert loss.shape == (6,)
    assert all(g.isfinite().all() for g in [loss, *gradients(loss.sum(), raws).values()])
    alike = [[row[0]] * 5 for row in ONE_A_FRAME]
    many, one = (made(name, kind=kind, timesteps=steps)[0] for steps in (alike, [row[0] for row in alike]))
    torch.testing.assert_close(build(name, settings)(many), build(name, settings)(one), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("name", "settings"), CLIPS)
def test_frames_that_all_stand_alone(name: str, settings: dict[str, Any]) -> None:
    outcome, raws = made(name, joined=[[False] * 4] * 6)
    loss = build(name, settings)(outcome)
    assert all(x.isfinite().all() for x in [loss, *outcome.watched.values(), *gradients(loss.sum(), raws).values()])


@pytest.mark.parametrize(("name", "settings"), CLIPS)
def test_no_joined_pairs_means_all_of_them(name: str, settings: dict[str, Any]) -> None:
    said, unsaid = (made(name, joined=joined)[0] for joined in ([[True] * 4] * 6, None))
    torch.testing.assert_close(build(name, settings)(said), build(name, settings)(unsaid), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "settings"), CLIPS)
def test_a_cut_changes_only_its_own_sample(name: str, settings: dict[str, Any]) -> None:
    whole = build(name, settings)(made(name, joined=[[True] * 4] * 6)[0])
    cut = build(name, settings)(made(name, joined=[[True, i != 4, True, True] for i in range(6)])[0])
    assert torch.equal(whole[[0, 1, 2, 3, 5]], cut[[0, 1, 2, 3, 5]])
    assert bool(whole[4] != cut[4]) == (name != "entropy_floor")
