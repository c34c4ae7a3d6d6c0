"""A network that is told what its output means, and may be asked under many conditionings at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import RecipeError
from ..core.outcome import Ask
from ..core.path import NoiseLevel, expand
from ..core.prediction import Parametrization, Prediction
from ..core.shapes import Chosen, Latents, Stacked, Tokens, Told
from ..probes.entropy import Look, attention_layers, entropies_of, looks_of
from ..probes.outputs import outputs_of
from .calls import Call, call_image

__all__ = ["Conditioning", "Denoiser", "Plan", "Screen"]


@dataclass(frozen=True)
class Conditioning:
    """tokens: (b n d) text states for cross-attention. image: latents concatenated after the noisy ones over the channels.

    features: numbers that the network is told beside the noise level (see `widen.tell`).
    """

    tokens: Tokens
    image: Stacked | None = None
    features: Told | None = None


Screen = Callable[[Mapping[str, Prediction]], Chosen]


@dataclass(frozen=True)
class Plan:
    """What differs from asking every view about every sample of one noisy input. All by `Ask.key`.

    noisy: inputs of the views that look at another picture. chosen: the samples that a view is asked for; rows of the others are 0.
    screens: of views that are first answered without gradient; the function then says for which samples it matters, and only
    those are asked again, with gradient. features: layers whose outputs go with the matched prediction. attention: regular
    expressions of the attention layers whose entropies do.
    """

    noisy: Mapping[str, Latents] = field(default_factory=dict)
    chosen: Mapping[str, Chosen] = field(default_factory=dict)
    screens: Mapping[str, Screen] = field(default_factory=dict)
    features: tuple[str, ...] = ()
    attention: tuple[str, ...] = ()


PLAIN = Plan()


class Denoiser(nn.Module):
    """Any diffusers network behind one call. call: how it is asked, see `calls`.

    Asks of model "reference" go to the frozen base: `without_adapters` enters it where LoRA is trained, else `reference` is a copy.
    """

    def __init__(
        self,
        network: nn.Module,
        kind: Parametrization,
        without_adapters: Callable[[], AbstractContextManager[None]] | None = None,
        reference: nn.Module | None = None,
        call: Call = call_image,
    ) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.call = call
        self.without_adapters = without_adapters
        self._copy = (reference,)  # in a tuple: no submodule, so it is neither trained nor saved
        self.learned = nn.ModuleDict()  # objectives with weights of their own, so that one module holds all that is trained

    def forward(
        self,
        noisy: Latents,
        level: NoiseLevel,
        conditionings: Mapping[str, Conditioning],
        asks: Sequence[Ask],
        plan: Plan = PLAIN,
    ) -> dict[str, Prediction]:
        """All predictions by `Ask.key`: one stacked forward pass for the views with gradient, one for those without.

        A screened view costs one more of each, for the samples that pass. KeyError names a view that the task does not provide.
        """
        out: dict[str, Prediction] = {}
        screened = [ask for ask in asks if ask.key in plan.screens]
        for model, grad in (("student", True), ("student", False), ("reference", False)):
            chosen = [ask for ask in asks if ask.model == model and self._learns(ask, plan) is grad]
            if chosen:
                out.update(self._ask(noisy, level, conditionings, chosen, plan, grad, model))
        if screened and torch.is_grad_enabled():
            passed = {ask.key: plan.screens[ask.key](out) for ask in screened}
            again = self._ask(noisy, level, conditionings, screened, Plan(plan.noisy, passed), True, "student")
            for key, rows in passed.items():
                raw = torch.where(expand(rows, out[key].raw), again[key].raw, out[key].raw)
                out[key] = Prediction(raw, again[key].noisy, level, self.kind)
        return out

    ask = forward  # the word of the design; `forward` so that accelerate's wrappers see the call

    def _learns(self, ask: Ask, plan: Plan) -> bool:
        """Whether the view is answered with gradient at once."""
        return ask.grad and ask.model == "student" and ask.key not in plan.screens

    def _ask(
        self,
        noisy: Latents,
        level: NoiseLevel,
        conditionings: Mapping[str, Conditioning],
        asks: Sequence[Ask],
        plan: Plan,
        grad: bool,
        model: str,
    ) -> dict[str, Prediction]:
        rows = [plan.chosen.get(ask.key) for ask in asks]
        views = [conditionings[ask.view] for ask in asks]
        starts = [plan.noisy.get(ask.view, noisy) for ask in asks]
        inputs = [x if view.image is None else torch.cat([x, view.image], 1) for x, view in zip(starts, views, strict=True)]
        told = [view.features for view in views]
        numbers = None if told[0] is None else _stack(told, rows)
        stacked, tokens = _stack(inputs, rows), _stack([view.tokens for view in views], rows)
        sizes = [len(noisy) if chosen is None else int(chosen.sum()) for chosen in rows]
        mode = self._reference() if model == "reference" else nullcontext(self.network)
        seen: tuple[dict[str, Tensor], dict[str, Tensor]] = {}, {}
        if len(stacked):
            listening = plan if asks[0].key == "matched" else PLAIN
            with mode as network, torch.set_grad_enabled(grad and torch.is_grad_enabled()):
                times = _stack([level.time] * len(asks), rows)
                with outputs_of(network, listening.features) as outputs, _attending(network, listening) as looks:
                    raw = self.call(network, stacked, times, tokens, numbers)
                seen = {name: output[: sizes[0]] for name, output in outputs.items()}, entropies_of(looks, sizes[0], len(stacked))
        else:
            raw = noisy[:0]
        parts = [_spread(part, chosen) for part, chosen in zip(raw.split(sizes), rows, strict=True)]
        return {
            ask.key: Prediction(part, x, level, self.kind, *(seen if ask.key == "matched" else ()))
            for ask, part, x in zip(asks, parts, starts, strict=True)
        }

    @contextmanager
    def _reference(self) -> Iterator[nn.Module]:
        if self.without_adapters is not None:
            with self.without_adapters():
                yield self.network
        elif self._copy[0] is not None:
            yield self._copy[0]
        else:
            raise RuntimeError("an objective asks the reference model, and this denoiser was given none")


def _stack(parts: Sequence[Any], rows: Sequence[Chosen | None]) -> Tensor:
    """The chosen samples of all views, one view after the other."""
    return torch.cat([part if chosen is None else part[chosen] for part, chosen in zip(parts, rows, strict=True)])


def _spread(part: Tensor, chosen: Chosen | None) -> Tensor:
    """Answers at the places of their samples, 0 elsewhere."""
    if chosen is None:
        return part
    return part.new_zeros(len(chosen), *part.shape[1:]).index_put((chosen.nonzero()[:, 0],), part)


def _attending(network: nn.Module, plan: Plan) -> AbstractContextManager[dict[str, Look]]:
    """Listens to the attention layers that the plan names. RecipeError where the network has none of them."""
    if plan.attention and not attention_layers(network, plan.attention):
        known = [name for name in attention_layers(network, ("",)) if name.endswith("attn1")]
        raise RecipeError(
            f"an objective attends to {', '.join(plan.attention)}, and no attention layer of this network has such a name; "
            f"it has {', '.join(known[:4]) or 'none'}"
        )
    return looks_of(network, plan.attention) if plan.attention else nullcontext({})
