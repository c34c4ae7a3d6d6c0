"""Rollouts: a video made frame by frame in latent space, each frame the conditioning of the next."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..core.draws import Draws, key_of
from ..core.errors import RecipeError, ShapeError
from ..core.shapes import Latents, PerSample, Stacked, Tokens, Told, Videos
from ..models.codec import Codec
from ..models.families.stable_diffusion import StableDiffusion
from ..tasks.frames import Frames, Given
from .sample import Sampling, sample

__all__ = ["Rolling", "along", "decoded", "roll_out", "rolled"]

Trajectory = Float[Tensor, "b t c y x"]  # latents of a video; time before channels: frames are made one by one
MOST = 10_000


@dataclass(frozen=True)
class Rolling:
    """How a rollout goes.

    steps: frames that are made. offset: seconds from a frame to the next; None takes each row's own. noise: the same starting
    noise for every step ("fixed", as in the source's figures) or a fresh one ("per_step"). given_noise: level of the noise that is
    added to the given frames, in the units of the task's `noise`; None is what the task was trained at. refine: strength from 0 to
    1; above 0 each frame is noised to that share of the schedule and denoised once more, given the same frames.
    """

    steps: int = 16
    offset: float | None = None
    noise: Literal["fixed", "per_step"] = "per_step"
    given_noise: float | None = None
    refine: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.steps <= MOST:
            raise RecipeError(f"rollout.steps is {self.steps}, expected 1 to {MOST}")
        if self.offset is not None and not 0 < self.offset < math.inf:
            raise RecipeError(f"rollout.offset is {self.offset}, expected seconds above 0")
        if self.given_noise is not None and not 0 <= self.given_noise < math.inf:
            raise RecipeError(f"rollout.given_noise is {self.given_noise}, expected 0 or more")
        if not 0 <= self.refine < 1:
            raise RecipeError(f"rollout.refine is {self.refine}, expected 0 (off) to below 1")


def roll_out(
    model: StableDiffusion,
    task: Frames,
    sampling: Sampling,
    rolling: Rolling,
    *,
    seed: int,
    ids: Sequence[int | str],
    tokens: Tokens | Sequence[Tokens],
    given: Given,
    offset: PerSample | None = None,
    network: nn.Module | None = None,
) -> Iterator[Latents]:
    """Scaled latents (b c h w) of one frame after the other, each depending on `seed`, its id, its given frames and text alone.

    tokens: of the captions, or one a step for instructions that change on the way (the last one stays). given: the frames to
    continue, newest first, as many as the task takes; ShapeError for others. offset: seconds a sample, for tasks that are told it.
    """
    if given.shape[1] != task.past or len(given) != len(ids):
        raise ShapeError(f"{tuple(given.shape)} given frames for {len(ids)} ids: the task takes {task.past} a sample")
    told: list[Tokens] = [tokens] if isinstance(tokens, Tensor) else list(tokens)
    levels = task.sampling_levels(rolling.given_noise, len(ids)).to(given.device)
    seconds = torch.full((len(ids),), rolling.offset) if rolling.offset is not None else offset
    seconds = None if seconds is None else seconds.to(given.device)
    scheduler = model.sampler(sampling.scheduler, sampling.scheduler_options)
    draws, shape = Draws(seed, ids), given.shape[2:]

    def denoised(
        words: Tokens, seen: tuple[Stacked, Told | None], purpose: str, start: tuple[Latents, float] | None = None
    ) -> Latents:
        makers = [torch.Generator().manual_seed(key_of(seed, "sampler", purpose, name)) for name in ids]
        noise, net = draws.normal(purpose, shape), network or model.unet
        image, features = seen
        return sample(net, scheduler, sampling, words, model.text.null, image, noise, makers, features=features, start=start)

    for step in range(1, rolling.steps + 1):
        eps = draws.normal(f"given {step}", given.shape[1:]).to(given.device)
        words, seen = told[min(step, len(told)) - 1], task.given(given, model.codec, levels, eps, seconds)
        frame = denoised(words, seen, "sample" if rolling.noise == "fixed" or step == 1 else f"sample {step}")
        if rolling.refine:
            frame = denoised(words, seen, f"refine {step}", (frame, rolling.refine))
        yield frame
        given = torch.cat([frame[:, None], given[:, :-1]], 1)


def rolled(frames: Iterator[Latents]) -> Trajectory:
    """All frames of a rollout, (b t c h w)."""
    return torch.stack(list(frames), 1)


def decoded(path: Trajectory, codec: Codec) -> Videos:
    """Pixels (b 3 t h w) on the CPU."""
    return torch.stack([codec.decode(frame).cpu() for frame in path.unbind(1)], 2)


def along(path: Trajectory, positions: Float[Tensor, "s"]) -> Float[Tensor, "b s c y x"]:
    """Frames at any positions from 0, the first, to t - 1, the last: on great circles between neighbors (Shoemake 1985, slerp).

    Latents of neighbors have about one length; on the straight line between them the middle would be shorter, and gray. The lengths
    are interpolated linearly; where two are parallel the line is taken. ShapeError for a position outside.
    """
    last = path.shape[1] - 1
    if bool(((positions < 0) | (positions > last)).any()):
        raise ShapeError(f"positions from {float(positions.min())} to {float(positions.max())}: the path has 0 to {last}")
    out = []
    for position in positions.tolist():
        before = min(int(position), max(last - 1, 0))
        share = position - before
        out.append(path[:, before] if share == 0 else _slerp(path[:, before], path[:, before + 1], share))
    return torch.stack(out, 1)


def _slerp(first: Latents, second: Latents, share: float) -> Latents:
    a, b = first.flatten(1).double(), second.flatten(1).double()
    lengths = [x.norm(dim=1, keepdim=True).clamp_min(1e-12) for x in (a, b)]
    cosine = ((a / lengths[0]) * (b / lengths[1])).sum(1, keepdim=True).clamp(-1, 1)
    angle = torch.arccos(cosine)
    sine = torch.sin(angle)
    straight = sine < 1e-6
    safe = torch.where(straight, torch.ones_like(sine), sine)
    weights = [torch.where(straight, torch.full_like(sine, w), torch.sin(w * angle) / safe) for w in (1 - share, share)]
    length = (1 - share) * lengths[0] + share * lengths[1]
    unit = weights[0] * a / lengths[0] + weights[1] * b / lengths[1]
    return (length * unit).reshape(first.shape).float()
