"""What is known once the network has been asked: all that an objective may see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor

from .draws import Draws, key_of
from .errors import ShapeError
from .path import NoiseLevel
from .prediction import Parametrization, Prediction
from .ranks import ONE, Ranks
from .shapes import Chosen, Joined, Keys, Latents, Masks, PerSample

__all__ = ["MATCHED", "NEGATIVE", "NULL", "Ask", "Objective", "Outcome"]


class Ask(NamedTuple):
    """A reading that an objective needs: the same noisy input under another conditioning, or from another network.

    share: of the samples for which it is wanted, drawn anew each step; see `Outcome.chosen`.
    """

    view: str
    grad: bool = True
    model: str = "student"  # or "reference": the frozen base
    share: float = 1.0

    @property
    def key(self) -> str:
        """Its name in `Outcome.predictions`: "matched", or "reference:matched"."""
        return self.view if self.model == "student" else f"{self.model}:{self.view}"


MATCHED, NEGATIVE, NULL = Ask("matched"), Ask("negative"), Ask("null")


@dataclass(frozen=True)
class Outcome:
    """One training step as the objectives see it.

    clean, noise: (b c *grid). anchors: latents to compare with, by name ("source", "target"), in the space of `clean`.
    ids: one name a sample; samples of equal id are the same thing and never each other's negatives.
    masks: (b 1 h w) in [0, 1] on the latent grid, by name ("changed").
    cleans: clean latents of the views that look at another picture, under the same noise and level.
    chosen: which samples a view was asked for, by `Ask.key`; all where it is missing. Its other rows hold nothing.
    joined: of clips, which neighboring frames belong together; see `neighbors`.
    """

    clean: Latents
    noise: Latents
    level: NoiseLevel
    predictions: Mapping[str, Prediction]
    anchors: Mapping[str, Latents]
    ids: Sequence[str]
    draws: Draws
    masks: Mapping[str, Masks] = field(default_factory=dict)
    cleans: Mapping[str, Latents] = field(default_factory=dict)
    chosen: Mapping[str, Chosen] = field(default_factory=dict)
    joined: Joined | None = None
    ranks: Ranks = ONE
    decode: Callable[[Latents], Tensor] | None = None
    training: bool = True
    watched: dict[str, PerSample] = field(default_factory=dict)

    @property
    def matched(self) -> Prediction:
        return self.predictions["matched"]

    @property
    def keys(self) -> Keys:
        """(b,) integers that are equal where ids are, so that they can be gathered."""
        return torch.tensor([key_of(name) for name in self.ids], device=self.clean.device)

    @property
    def attention(self) -> Mapping[str, Tensor]:
        """Entropies in nats, (b heads) by layer: of the layers that an objective's `attends` names, see `Prediction`."""
        return self.matched.attention

    @property
    def neighbors(self) -> Joined:
        """(b, t - 1): whether frames i and i + 1 may be compared. False across a cut, and where a frame is shown twice.

        ShapeError for outcomes that are no clips (b c t h w).
        """
        if self.clean.ndim != 5:
            raise ShapeError(f"latents of shape {tuple(self.clean.shape)} have no frames; differences between frames need clips")
        steps = self.clean.shape[2] - 1
        if self.joined is None:
            return torch.ones(len(self.clean), steps, dtype=torch.bool, device=self.clean.device)
        return self.joined

    def truth(self, kind: Parametrization, view: str = "matched") -> Latents:
        """What a perfect network of this kind would output."""
        return kind.target(self.cleans.get(view, self.clean), self.noise, self.level)

    def error(self, key: str = "matched") -> PerSample:
        """Mean squared error of a view's raw output against its target, one float32 number a sample (DDPM, eq. 14).

        key: of the ask, such as "reference:matched". 0 for samples that it was not asked for.
        """
        prediction = self.predictions[key]
        error = (prediction.raw.float() - self.truth(prediction.kind, key.rpartition(":")[2])).square().flatten(1).mean(1)
        return torch.where(self.chosen[key], error, 0.0) if key in self.chosen else error

    def asked(self, key: str) -> Chosen:
        """Which samples a view was asked for: some have no wrong caption, and some terms want a share only."""
        return self.chosen.get(key, torch.ones(len(self.clean), dtype=torch.bool, device=self.clean.device))

    def drawn(self, share: float) -> Chosen:
        """The samples that an ask of this share is for; all of them on held-out rows."""
        if share >= 1 or not self.training:
            return torch.ones(len(self.clean), dtype=torch.bool, device=self.clean.device)
        return (self.draws.uniform("chosen") < share).to(self.clean.device)

    def watch(self, name: str, value: PerSample, among: Chosen | None = None) -> None:
        """Journal a diagnostic: not a loss, no gradient. among: samples that it is known of; the others get their mean."""
        value = value.detach()
        if among is not None and not bool(among.all()):
            value = torch.where(among, value, value[among].mean() if bool(among.any()) else torch.zeros_like(value))
        self.watched[name] = value


@runtime_checkable
class Objective(Protocol):
    """Judges an outcome: (b,) float32, one number a sample, never reduced over the batch. `asks` says which views it reads."""

    asks: ClassVar[tuple[Ask, ...]]

    def __call__(self, outcome: Outcome) -> PerSample: ...
