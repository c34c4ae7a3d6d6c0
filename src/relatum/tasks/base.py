"""What a task is: it says which columns of a row it needs and turns a batch of encoded rows into an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from ..core.draws import Draws
from ..core.outcome import Ask
from ..core.shapes import Chosen, Joined, Latents, Masks, NullTokens, PerSample, Pixels, Tokens
from ..models.codec import Codec, Moments
from ..models.denoiser import Conditioning

__all__ = ["Batch", "Episode", "Needs", "Task"]


@dataclass(frozen=True)
class Needs:
    """Columns of a row, by kind. numbers: of its facts. `optional_masks` are used where every row of the data set has them.

    clips: frames at equal distances in time. looks: clips whose first frame the network looks at.
    """

    images: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    optional_masks: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    clips: tuple[str, ...] = ()
    looks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Batch:
    """Encoded rows. moments: cached autoencoder moments by image or clip name, (b c h w) or (b c t h w).

    tokens: cached text states by text name; null: (1 n d). masks: on the latent grid. numbers: by name ("offset" in seconds).
    joined: of clips, by name, which neighboring frames belong together. looks: an image tower's tokens of clips' first frames.
    pixels: of those frames. pixels, texts: also for tasks that train the encoders themselves. where: file and row of each sample.
    """

    ids: Sequence[str]
    groups: Sequence[str]
    where: Sequence[str]
    moments: Mapping[str, Moments] = field(default_factory=dict)
    tokens: Mapping[str, Tokens] = field(default_factory=dict)
    null: NullTokens | None = None
    masks: Mapping[str, Masks] = field(default_factory=dict)
    pixels: Mapping[str, Pixels] = field(default_factory=dict)
    texts: Mapping[str, Sequence[str]] = field(default_factory=dict)
    numbers: Mapping[str, PerSample] = field(default_factory=dict)
    joined: Mapping[str, Joined] = field(default_factory=dict)
    looks: Mapping[str, Tokens] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch with its tensors on `device`."""

        def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {name: tensor.to(device) for name, tensor in tensors.items()}

        return replace(
            self,
            moments={k: Moments(m.mean.to(device), m.logvar.to(device)) for k, m in self.moments.items()},
            tokens=moved(self.tokens),
            null=None if self.null is None else self.null.to(device),
            masks=moved(self.masks),
            pixels=moved(self.pixels),
            numbers=moved(self.numbers),
            joined=moved(self.joined),
            looks=moved(self.looks),
        )


@dataclass(frozen=True)
class Episode:
    """target: what is noised and predicted. anchors: what objectives compare with, in the target's space.

    conditionings: by view name; always "matched", and "null" (no text) beside it. ids: equal for samples that are the same thing.
    targets: of the views that look at another picture than the target. told: of views that not every sample has, those that do.
    joined: of clips, which neighboring frames belong together. frames: how many noise levels a sample has, one for each of its
    frames; 0 for one that all share.
    """

    target: Latents
    anchors: Mapping[str, Latents]
    conditionings: Mapping[str, Conditioning]
    ids: Sequence[str]
    masks: Mapping[str, Masks] = field(default_factory=dict)
    targets: Mapping[str, Latents] = field(default_factory=dict)
    told: Mapping[str, Chosen] = field(default_factory=dict)
    joined: Joined | None = None
    frames: int = 0


@runtime_checkable
class Task(Protocol):
    """Registered with `@task(name)`; a dataclass whose fields are the recipe's [task] settings.

    images: how many pictures' latents are concatenated to the noisy ones: 0 text to image, 1 edits, k given frames. features: how
    many numbers the network is told beside the noise level. makes: what a trained model is judged by: single pictures,
    the frames of a rollout, or clips that are made as a whole. views: the names in an episode's conditionings.
    """

    @property
    def needs(self) -> Needs: ...
    @property
    def images(self) -> int: ...
    @property
    def features(self) -> int: ...
    @property
    def views(self) -> tuple[str, ...]: ...
    @property
    def makes(self) -> Literal["pictures", "rollouts", "clips"]: ...

    def episode(self, batch: Batch, codec: Codec, asks: Sequence[Ask], draws: Draws) -> Episode: ...
