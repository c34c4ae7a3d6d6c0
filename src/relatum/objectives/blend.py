"""The objective of a run: named terms, each with its weight, warm-up, noise-level weighting and cap, added up."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity

from ..core.errors import RecipeError
from ..core.load import load, near
from ..core.outcome import MATCHED, Ask, Objective, Outcome
from ..core.path import NoiseLevel, over_frames
from ..core.prediction import Parametrization
from ..core.registry import objective
from ..core.shapes import Features, Leveled, PerSample

__all__ = ["Blend", "Judgement", "Weighted", "min_snr", "read_blend"]

TINY = torch.finfo(torch.float32).tiny


def min_snr(kind: Parametrization, level: NoiseLevel, gamma: float) -> Leveled:
    """Min-SNR weights of a raw-output error (Hang et al. 2023): min(SNR, gamma) in x0 space, read back into the model's own.

    eps: min(S, g) / S; v: min(S, g) / (S + 1); x0: min(S, g). RecipeError for eps at zero terminal SNR, where it is undefined.
    """
    a, b = kind.mix(level)
    if kind is Parametrization.EPS and bool((level.alpha <= 0).any()):
        raise RecipeError("snr_gamma: an eps prediction has no x0 at zero terminal SNR; use v_prediction or another schedule")
    to_x0 = level.sigma / (a * level.sigma - b * level.alpha)
    capped = level.snr.clamp_max(gamma)
    at_zero = level.sigma <= 0  # the ratio is 0/0 there for x0; the limit is 1
    return capped * torch.where(at_zero & (kind is Parametrization.X0), torch.ones_like(to_x0), to_x0).square()


@dataclass(frozen=True)
class Weighted:
    """One term of a blend.

    weight: its factor. warmup_steps: the factor rises linearly from 0. snr_gamma: min-SNR weighting of a raw-output error.
    level_weight: "snr" multiplies by min(SNR, 1), "abar" by 1 where alpha^2 > .1 and else 0; for terms in x0 space.
    cap: the term's gradient at the prediction is held at this share of that of the uncapped terms, sample by sample.
    two_pass: of an objective that knows where it acts (`active`): wrong captions are first answered without gradient, and asked
    again where they act only. The same gradient at 1.33 + the active share of an MSE step instead of 2.
    """

    objective: Objective
    weight: float = 1.0
    warmup_steps: int = 0
    snr_gamma: float | None = None
    level_weight: Literal["none", "snr", "abar"] = "none"
    cap: float | None = None
    two_pass: bool = False

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise RecipeError(f"weight is {self.weight}, expected a finite number")
        if self.warmup_steps < 0:
            raise RecipeError(f"warmup_steps is {self.warmup_steps}, expected 0 or more")
        if self.two_pass and not hasattr(self.objective, "active"):
            raise RecipeError("two_pass: this objective does not know where it acts; leave it out")
        for name in ("snr_gamma", "cap"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise RecipeError(f"{name} is {value}, expected a finite number above 0; leave it out for none")

    def factor(self, outcome: Outcome, step: int) -> PerSample:
        """What each sample's loss is multiplied by, before the cap; of noise levels a frame, the mean over the frames."""
        level = outcome.level
        factor = torch.full_like(over_frames(level.alpha), self.weight)
        if self.warmup_steps:
            factor = factor * min(1.0, step / self.warmup_steps)
        if self.snr_gamma is not None:
            factor = factor * over_frames(min_snr(outcome.matched.kind, level, self.snr_gamma))
        if self.level_weight == "snr":
            factor = factor * over_frames(level.snr.clamp_max(1))
        elif self.level_weight == "abar":
            factor = factor * over_frames((level.alpha.square() > 0.1).float())
        return factor


@dataclass(frozen=True)
class Judgement:
    """losses: every term by name, unweighted, (b,). total: the weighted, capped sum, (b,).

    balance: norm of a capped or measured term's gradient at the prediction over that of the base terms, (b,), after weights and
    before caps. cosine: between the two gradients, for measured terms.
    """

    losses: Mapping[str, PerSample]
    total: PerSample
    balance: Mapping[str, PerSample] = field(default_factory=dict)
    cosine: Mapping[str, PerSample] = field(default_factory=dict)


@dataclass(frozen=True)
class Blend:
    """The terms by name. A capped term is measured against the sum of the uncapped ones, of which there must be one."""

    terms: Mapping[str, Weighted]

    def __post_init__(self) -> None:
        if not self.terms:
            raise RecipeError('objectives: a run needs at least one term, for example [objectives.denoise] kind = "denoise"')
        if all(term.cap is not None for term in self.terms.values()):
            raise RecipeError(
                'objectives: every term is capped, so there is no base term to cap against; add one of kind "denoise"'
            )
        corrected = [name for name, term in self.terms.items() if hasattr(term.objective, "correction")]
        if corrected and len(self.terms) > 1:
            others = ", ".join(name for name in self.terms if name != corrected[0])
            raise RecipeError(
                f"objectives.{corrected[0]}: delta_fm is undone at sampling by what is known of it alone; leave out {others}"
            )
        for name, term in self.terms.items():
            if term.two_pass and (rivals := [n for n in self._wanting("negative") if n != name]):
                raise RecipeError(f"objectives.{name}.two_pass: {rivals[0]} wants the same view's gradient anyway; leave it out")

    @property
    def asks(self) -> tuple[Ask, ...]:
        """Each view of each model once, the matched one first: with gradient if any objective wants it, of the largest share."""
        wanted: dict[str, Ask] = {"matched": MATCHED._replace(grad=False)}
        for term in self.terms.values():
            for ask in term.objective.asks:
                had = wanted.get(ask.key, ask)
                wanted[ask.key] = ask._replace(grad=had.grad or ask.grad, share=max(had.share, ask.share))
        return tuple(wanted.values())

    @property
    def screens(self) -> dict[str, Objective]:
        """The terms whose views are screened (two passes), by `Ask.key`."""
        asking = [(ask, term) for term in self.terms.values() for ask in term.objective.asks if term.two_pass]
        return {ask.key: term.objective for ask, term in asking if ask.grad and ask.view != "matched"}

    def _wanting(self, key: str) -> list[str]:
        """Terms that want this view's gradient."""
        return [n for n, term in self.terms.items() if any(ask.grad and ask.key == key for ask in term.objective.asks)]

    @property
    def features(self) -> tuple[str, ...]:
        """Layers of the network that some objective listens to."""
        return tuple(dict.fromkeys(name for t in self.terms.values() for name in getattr(t.objective, "features", ())))

    @property
    def attends(self) -> tuple[str, ...]:
        """Regular expressions of the attention layers whose entropies some objective reads."""
        return tuple(dict.fromkeys(name for t in self.terms.values() for name in getattr(t.objective, "attends", ())))

    def __call__(self, outcome: Outcome, step: int = 0, measure_balance: bool = False) -> Judgement:
        """step: updates made so far, for warm-ups. measure_balance: measure every term's gradient, not only the capped ones'.

        Judges in the tensors' own precision, also inside an autocast region: products of latents overflow or round in half.
        """
        with torch.autocast(outcome.clean.device.type, enabled=False):
            return self._judge(outcome, step, measure_balance)

    def _judge(self, outcome: Outcome, step: int, measure_balance: bool) -> Judgement:
        losses = {name: term.objective(_named(outcome, name)) for name, term in self.terms.items()}
        parts = {name: losses[name] * term.factor(outcome, step) for name, term in self.terms.items()}
        capped = [name for name, term in self.terms.items() if term.cap is not None]
        base = torch.stack([parts[name] for name in parts if name not in capped]).sum(0)
        watched = list(parts) if measure_balance and len(parts) > 1 else capped
        if not watched or not base.requires_grad:
            return Judgement(losses, torch.stack(list(parts.values())).sum(0))
        own = _pull(base, outcome)
        pulls = {name: _pull(parts[name], outcome) for name in watched}
        balance = {name: pull.norm(dim=1) / own.norm(dim=1).clamp_min(TINY) for name, pull in pulls.items()}
        cosine = {name: cosine_similarity(pull, own) for name, pull in pulls.items()} if measure_balance else {}
        for name in capped:
            parts[name] = parts[name] * _held(balance[name], float(self.terms[name].cap or 0))
        return Judgement(losses, torch.stack(list(parts.values())).sum(0), balance, cosine)

    def learned(self) -> nn.ModuleDict:
        """The objectives that have weights of their own (a temperature, a projector), by term: the engine trains them too."""
        return nn.ModuleDict({n: t.objective for n, t in self.terms.items() if isinstance(t.objective, nn.Module)})

    def state(self) -> dict[str, Tensor]:
        """What objectives remember from step to step, for checkpoints: {"term.name": tensor}."""
        remember = {n: t.objective.state() for n, t in self.terms.items() if hasattr(t.objective, "state")}  # type: ignore[attr-defined]
        remember |= {name: module.state_dict() for name, module in self.learned().items()}
        return {f"{name}.{key}": value for name, state in remember.items() for key, value in state.items()}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        for name, term in self.terms.items():
            own = hasattr(term.objective, "load_state")
            if own or isinstance(term.objective, nn.Module):
                mine = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
                (term.objective.load_state if own else term.objective.load_state_dict)(mine)  # type: ignore[attr-defined]


def _named(outcome: Outcome, name: str) -> Outcome:
    """The same outcome; what the term watches is journaled under its own name."""
    return dataclasses.replace(outcome, watched=_Prefixed(outcome.watched, name))


class _Prefixed(dict[str, Tensor]):
    def __init__(self, into: dict[str, Tensor], prefix: str) -> None:
        super().__init__()
        self._into, self._prefix = into, prefix

    def __setitem__(self, key: str, value: Tensor) -> None:
        self._into[f"{self._prefix}/{key}"] = value


def _pull(loss: PerSample, outcome: Outcome) -> Features:
    """A loss's gradient at the predictions, a row a sample; the network's backward pass is not run."""
    raws = [p.raw for p in outcome.predictions.values() if p.raw.requires_grad]
    if not loss.requires_grad:
        return torch.zeros(len(loss), sum(raw[0].numel() for raw in raws), device=loss.device)
    grads = torch.autograd.grad(loss.sum(), raws, retain_graph=True, allow_unused=True)
    filled = [torch.zeros_like(raw) if g is None else g for raw, g in zip(raws, grads, strict=True)]
    return torch.cat([g.float().flatten(1) for g in filled], 1)


def _held(balance: PerSample, cap: float) -> PerSample:
    return (cap / balance.clamp_min(TINY)).clamp_max(1)


def read_blend(tables: Mapping[str, Mapping[str, Any]]) -> Blend:
    """A blend from the recipe's [objectives.NAME] tables: `kind`, the objective's settings, and the settings of Weighted."""
    of_term = {f.name for f in dataclasses.fields(Weighted)} - {"objective"}
    terms: dict[str, Weighted] = {}
    for name, table in tables.items():
        where = f"objectives.{name}"
        if not isinstance(table, Mapping):
            raise RecipeError(f"{where}: expected a table, found {table!r}")
        judging = objective.find(table.get("kind"), f"{where}.kind")
        of_judge = {f.name for f in dataclasses.fields(judging) if f.init}
        both = of_term & of_judge
        for key in table:
            if key not in of_term | of_judge | {"kind"}:
                hint = near(str(key), of_term | of_judge)
                raise RecipeError(f"{where}.{key}: {judging.__name__} has no setting {key!r}, nor has a term{hint}")
        judge: Objective = objective.build({k: v for k, v in table.items() if k not in of_term - both}, where)
        said = {**getattr(judge, "advice", {}), **{k: v for k, v in table.items() if k in of_term}}
        try:
            terms[name] = load(Weighted, {"objective": judge, **said}, where)
        except RecipeError as error:
            raise error if str(error).startswith(where) else RecipeError(f"{where}: {error}") from error
    return Blend(terms)
