"""One training step, from encoded rows to losses. Knows no optimizer, device or logging."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from ..core.draws import Draws
from ..core.errors import RecipeError
from ..core.outcome import Ask, Outcome
from ..core.path import NoiseLevel, Path
from ..core.prediction import Parametrization
from ..core.ranks import ONE, Ranks
from ..core.shapes import Chosen, PerSample
from ..models.codec import Codec
from ..models.denoiser import Denoiser, Plan, Screen
from ..objectives.blend import Blend
from ..tasks.base import Batch, Task

__all__ = ["DiffusionParts", "Moment", "Parts", "Step", "StepFunction", "diffusion_step", "replace_network"]

HELD_OUT = ("null", "negative")  # views whose errors are told of held-out rows, beside the matched one


@runtime_checkable
class Parts(Protocol):
    """What a run trains. `network` holds every trainable parameter: accelerate wraps it, EMA and checkpoints save it."""

    network: nn.Module


@dataclass(frozen=True)
class Step:
    """losses: every term by name, unweighted, (b,). total: (b,), what is minimized. watched: diagnostics, (b,).

    level: the noise levels; None for steps that have none. by_frame: (b t) squared errors of held-out clips.
    """

    losses: Mapping[str, PerSample]
    total: PerSample
    watched: Mapping[str, PerSample] = field(default_factory=dict)
    level: NoiseLevel | None = None
    by_frame: Float[Tensor, "b t"] | None = None


@dataclass(frozen=True)
class Moment:
    """Where a run stands. updates: made so far. measure: take diagnostics that cost something. training: False on held-out rows."""

    updates: int = 0
    measure: bool = False
    training: bool = True


@runtime_checkable
class StepFunction(Protocol):
    """The escape hatch: a recipe may name its own, `step = "module:function"`."""

    def __call__(self, parts: Any, batch: Batch, draws: Draws, ranks: Ranks, moment: Moment) -> Step: ...


@dataclass
class DiffusionParts:
    """Everything a diffusion training step needs. `network` is the denoiser, wrapped by accelerate once training starts."""

    network: Denoiser | nn.Module
    kind: Parametrization
    path: Path
    task: Task
    blend: Blend
    codec: Codec

    def __post_init__(self) -> None:
        if self.kind is Parametrization.EPS and getattr(self.path, "zero_terminal_snr", False):
            raise RecipeError(
                "model: the schedule has zero terminal SNR, where an eps prediction cannot be read; "
                "use a v_prediction checkpoint or rescale_betas_zero_snr = false"
            )


def diffusion_step(parts: DiffusionParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = Moment()) -> Step:
    """rows -> episode -> noise level -> one forward for all views -> outcome -> judgement.

    All randomness comes from `draws`: "level", "noise", "dropout", "posterior NAME".
    """
    asks = parts.blend.asks
    if not moment.training:  # held-out rows also tell how the errors without text and of wrong texts move
        keys = {ask.key for ask in asks}
        asks = (*asks, *(Ask(view, grad=False) for view in HELD_OUT if view in parts.task.views and view not in keys))
    episode = parts.task.episode(batch, parts.codec, asks, draws)
    target = episode.target
    level = parts.path.draw(draws, episode.frames).to(target.device)
    noise = draws.normal("noise", target.shape[1:]).to(target.device)
    noisy = level.blend(target, noise)
    unasked = Outcome(
        clean=target,
        noise=noise,
        level=level,
        predictions={},
        anchors=episode.anchors,
        ids=episode.ids,
        draws=draws,
        masks=episode.masks,
        cleans=episode.targets,
        joined=episode.joined,
        ranks=ranks,
        decode=parts.codec.decode,
        training=moment.training,
    )
    unasked = dataclasses.replace(unasked, chosen=_chosen(asks, episode.told, unasked))
    plan = Plan(
        {view: level.blend(other, noise) for view, other in episode.targets.items()},
        unasked.chosen,
        {key: _screen(judge, unasked) for key, judge in parts.blend.screens.items()} if moment.training else {},
        parts.blend.features,
        parts.blend.attends,
    )
    outcome = dataclasses.replace(unasked, predictions=parts.network(noisy, level, episode.conditionings, asks, plan))
    judged = parts.blend(outcome, moment.updates, moment.measure)
    watched = {**outcome.watched, **{f"{name}/balance": value for name, value in judged.balance.items()}}
    watched |= {f"{name}/cosine": value for name, value in judged.cosine.items()}
    if not moment.training:
        for view in ("matched", *HELD_OUT):
            if view in outcome.predictions:
                outcome.watch(f"{view}_error", outcome.error(view), among=outcome.asked(view))
        watched |= outcome.watched
    if moment.measure or not moment.training:
        watched["x0_rms"] = outcome.matched.x0.detach().square().flatten(1).mean(1).sqrt()
    return Step(judged.losses, judged.total, watched, level, None if moment.training else _by_frame(outcome))


def _by_frame(outcome: Outcome) -> Float[Tensor, "b t"] | None:
    """The matched view's squared error of every frame; None where there are no clips."""
    if outcome.clean.ndim != 5:
        return None
    matched = outcome.matched
    return (matched.raw.float() - outcome.truth(matched.kind)).square().mean((1, 3, 4))


def _chosen(asks: Sequence[Ask], told: Mapping[str, Chosen], outcome: Outcome) -> dict[str, Chosen]:
    """The samples of each view that some do not have, or that is wanted for a share only: one draw for all views."""
    partial = [ask for ask in asks if ask.view in told or (ask.share < 1 and outcome.training)]
    return {ask.key: outcome.drawn(ask.share) & told.get(ask.view, outcome.drawn(1.0)) for ask in partial}


def _screen(judge: Any, unasked: Outcome) -> Screen:
    """Which samples' gradient matters to this objective, from answers without gradient; it watches nothing yet."""
    return lambda predictions: judge.active(dataclasses.replace(unasked, predictions=predictions, watched={})).detach()


def replace_network(parts: Any, network: nn.Module) -> Any:
    """The same parts around another (wrapped) network."""
    return dataclasses.replace(parts, network=network)
