"""Every objective, also one added tomorrow, keeps this contract, the example outside the package too. Found by registration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import relatum.objectives  # noqa: F401  registers them
from relatum.core.errors import RecipeError
from relatum.core.outcome import Objective, Outcome
from relatum.core.prediction import Parametrization
from relatum.core.registry import objective
from relatum.core.toml import import_plugin
from support.outcomes import in_ranks, make_outcome, only, take
from support.settings import alternatives

import_plugin(Path(__file__).parents[2] / "examples/ten_line_objective.py")
NAMES = sorted(objective.classes)
# Each objective as it comes and, where it has both, in its source's form.
FORMS = [
    pytest.param(name, settings, id="-".join([name, *(["faithful"] if settings else [])]))
    for name in NAMES
    for settings in ({}, {"faithful": True})
    if not settings or "faithful" in {f.name for f in dataclasses.fields(objective.classes[name])}
]


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
    outcome, _ = make_outcome(kind=kind)
    loss = build(name, settings)(outcome)
    assert loss.shape == (6,)
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_samples_differ(name: str, settings: dict[str, Any]) -> None:
    """A batch mean handed to every sample passes every other test of shape."""
    outcome, _ = make_outcome()
    assert build(name, settings)(outcome).unique().numel() > 1


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_order_of_the_batch_does_not_matter(name: str, settings: dict[str, Any]) -> None:
    outcome, _ = make_outcome()
    order = [3, 0, 5, 4, 1, 2]
    torch.testing.assert_close(
        build(name, settings)(outcome)[order], build(name, settings)(take(outcome, order)), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_gradient_reaches_exactly_the_views_it_asks_for(name: str, settings: dict[str, Any]) -> None:
    outcome, raws = make_outcome()
    term = build(name, settings)
    reached = {view for view, g in gradients(term(outcome).sum(), raws).items() if g.abs().sum() > 0}
    assert reached == {ask.key for ask in term.asks if ask.grad and ask.model == "student"}


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_reads_only_the_views_it_asks_for(name: str, settings: dict[str, Any]) -> None:
    outcome, _ = make_outcome()
    term = build(name, settings)
    term(only(outcome, asked(term)))


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_a_sample_is_judged_by_its_own_prediction(name: str, settings: dict[str, Any]) -> None:
    for sample in (0, 4):
        outcome, raws = make_outcome()
        for g in gradients(build(name, settings)(outcome)[sample], raws).values():
            assert g[[i for i in range(6) if i != sample]].abs().sum() == 0


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_leaves_its_input_alone(name: str, settings: dict[str, Any]) -> None:
    outcome, raws = make_outcome()
    before = [x.detach().clone() for x in (outcome.clean, outcome.noise, *outcome.anchors.values(), *raws.values())]
    build(name, settings)(outcome)
    after = [outcome.clean, outcome.noise, *outcome.anchors.values(), *raws.values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize(("name", "settings"), FORMS)
def test_watches_have_one_number_a_sample_and_no_gradient(name: str, settings: dict[str, Any]) -> None:
    outcome, _ = make_outcome()
    build(name, settings)(outcome)
    assert all(value.shape == (6,) and not value.requires_grad for value in outcome.watched.values())


@pytest.mark.parametrize(("name", "settings"), FORMS)
@pytest.mark.parametrize("ids", [None, list("aabacd")], ids=["distinct", "repeated"])
def test_two_ranks_agree_with_one(name: str, settings: dict[str, Any], ids: list[str] | None) -> None:
    """Two processes with three samples each give the losses of one process with six, own keys and false negatives included."""
    outcome, _ = make_outcome(ids=ids)
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

SITUATIONS: list[Callable[[], tuple[Outcome, dict[str, Tensor]]]] = [
    make_outcome,
    lambda: make_outcome(spread=1.0, error=0.3),
    lambda: make_outcome(spread=0.05, error=1.0),
    lambda: make_outcome(ids=list("aabacd"), spread=0.2, error=1.0),
    lambda: make_outcome(timesteps=[700, 800, 900, 950, 990, 999]),
    lambda: make_outcome(spread=0.3, error=3.0, kind=Parametrization.V),
]


def readings(name: str, settings: dict[str, Any], situation: Callable[[], tuple[Outcome, dict[str, Tensor]]]) -> Tensor | None:
    """Loss and gradient of a second step, what it asks and remembers; None where these settings are refused together."""
    outcome, raws = situation()
    try:
        term = build(name, settings)
        term(make_outcome(seed=1, ids=[f"earlier-{i}" for i in range(6)])[0])
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
