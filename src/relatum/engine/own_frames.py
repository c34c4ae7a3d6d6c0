"""A step function that trains on the network's own frames: what it is given in a rollout, it is given in training too.

The newest given frame is replaced, with the task's probability, by what the network itself makes of the frames before it, so errors
that it will feed itself are errors that it has seen ("reverse rollout"; Bengio et al. 2015, scheduled sampling, for the idea).
"""

from __future__ import annotations

import dataclasses
import itertools

import torch

from ..core.draws import Draws
from ..core.errors import RecipeError
from ..core.outcome import MATCHED
from ..core.path import DiscretePath, expand
from ..core.ranks import ONE, Ranks
from ..core.shapes import Latents
from ..models.codec import Moments
from ..models.denoiser import Conditioning
from ..tasks.base import Batch
from ..tasks.frames import OWN, Frames, past_names
from .step import DiffusionParts, Moment, Step, diffusion_step

FIRST = Moment()

__all__ = ["own_frames_step"]


def own_frames_step(parts: DiffusionParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = FIRST) -> Step:
    """`diffusion_step` on a batch whose newest given frames are partly the network's own; held-out rows stay as they are."""
    task = parts.task
    if not isinstance(task, Frames) or not task.own_frames:
        raise RecipeError("train.step: own_frames_step takes the task frames with own_frames above 0")
    if not isinstance(parts.path, DiscretePath):
        raise RecipeError("train.step: own_frames_step takes a model of the DDPM family")
    if moment.training:
        batch = _with_own_frames(parts, task, parts.path, batch, draws)
    return diffusion_step(parts, batch, draws, ranks, moment)


def _with_own_frames(parts: DiffusionParts, task: Frames, path: DiscretePath, batch: Batch, draws: Draws) -> Batch:
    real = batch.moments["source"]
    chosen = (draws.uniform("own frame") < task.own_frames).to(real.mean.device)
    if not bool(chosen.any()):
        return batch
    made = _predicted(parts, task, path, batch, draws)
    mean = parts.codec.unscaled(made)
    here = expand(chosen.float(), mean).bool()
    own = Moments(torch.where(here, mean, real.mean), torch.where(here, torch.full_like(mean, -30.0), real.logvar))
    return dataclasses.replace(batch, moments={**batch.moments, OWN: own})


@torch.no_grad()
def _predicted(parts: DiffusionParts, task: Frames, path: DiscretePath, batch: Batch, draws: Draws) -> Latents:
    """The frame "source" as the network sees it coming from those before it: `own_steps` of DDIM without guidance, (b c h w)."""
    older = torch.stack([parts.codec.latents(batch.moments[name], None) for name in past_names(task.past + 1)[1:]], 1)
    levels = task.training_levels(draws).to(older.device)
    eps = draws.normal("own given", older.shape[1:]).to(older.device)
    image, told = task.given(older, parts.codec, levels, eps, batch.numbers.get("spacing"))  # from past.2 to the source
    view = {"matched": Conditioning(batch.tokens["instruction"], image, told)}
    noisy = draws.normal("own noise", older.shape[2:]).to(older.device)
    times = torch.linspace(len(path.abar) - 1, 0, task.own_steps + 1).long()
    clean = noisy
    for now, then in itertools.pairwise(times):
        level, after = (path.at(time.expand(len(noisy))).to(noisy.device) for time in (now, then))
        prediction = parts.network(noisy, level, view, (MATCHED,))["matched"]
        clean = prediction.x0
        noisy = after.blend(clean, prediction.eps)
    return clean.float()
