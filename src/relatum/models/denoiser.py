"""A network that is told what its output means, and may be asked under many conditionings at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..core.outcome import Ask
from ..core.path import NoiseLevel
from ..core.prediction import Parametrization, Prediction
from ..core.shapes import Latents, Stacked, Tokens, Told

__all__ = ["Conditioning", "Denoiser"]


@dataclass(frozen=True)
class Conditioning:
    """tokens: (b n d) text states for cross-attention. image: latents concatenated after the noisy ones over the channels.

    features: numbers that the network is told beside the noise level (see `widen.tell`).
    """

    tokens: Tokens
    image: Stacked | None = None
    features: Told | None = None


class Denoiser(nn.Module):
    """Any diffusers network `network(sample, timestep, encoder_hidden_states[, timestep_cond])` behind one call.

    without_adapters: enters the frozen base (LoRA off), for asks of model "reference"; None where there is none.
    """

    def __init__(
        self,
        network: nn.Module,
        kind: Parametrization,
        without_adapters: Callable[[], AbstractContextManager[None]] | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.kind = kind
        self.without_adapters = without_adapters
        self.learned = nn.ModuleDict()  # objectives with weights of their own, so that one module holds all that is trained

    def forward(
        self, noisy: Latents, level: NoiseLevel, conditionings: Mapping[str, Conditioning], asks: Sequence[Ask]
    ) -> dict[str, Prediction]:
        """All predictions by `Ask.key`: one stacked forward pass for the views with gradient, one for those without.

        KeyError names a view that the task does not provide.
        """
        out: dict[str, Prediction] = {}
        for model, grad in (("student", True), ("student", False), ("reference", False)):
            chosen = [ask for ask in asks if ask.model == model and (ask.grad and model == "student") is grad]
            if chosen:
                out.update(self._ask(noisy, level, conditionings, chosen, grad, model))
        return out

    ask = forward  # the word of the design; `forward` so that accelerate's wrappers see the call

    def _ask(
        self,
        noisy: Latents,
        level: NoiseLevel,
        conditionings: Mapping[str, Conditioning],
        asks: Sequence[Ask],
        grad: bool,
        model: str,
    ) -> dict[str, Prediction]:
        views = [conditionings[ask.view] for ask in asks]
        k = len(views)
        inputs = torch.cat([noisy if view.image is None else torch.cat([noisy, view.image], 1) for view in views])
        tokens = torch.cat([view.tokens for view in views])
        told = [view.features for view in views if view.features is not None]
        more = {"timestep_cond": torch.cat(told)} if told else {}
        mode = self._reference() if model == "reference" else nullcontext()
        with mode, torch.set_grad_enabled(grad and torch.is_grad_enabled()):
            raw: Tensor = self.network(inputs, level.time.repeat(k), encoder_hidden_states=tokens, return_dict=False, **more)[0]
        parts = raw.chunk(k)
        return {ask.key: Prediction(part, noisy, level, self.kind) for ask, part in zip(asks, parts, strict=True)}

    def _reference(self) -> AbstractContextManager[None]:
        if self.without_adapters is None:
            raise RuntimeError("an objective asks the reference model, which exists only for LoRA training")
        return self.without_adapters()
