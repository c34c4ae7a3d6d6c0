"""What a run shows while it trains: the first batch as the model sees it, and what it makes of held-out rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from ..atomic import make_folder, write_text
from ..core.draws import Draws
from ..core.path import NoiseLevel
from ..core.shapes import Latents, Pixels, Videos
from ..engine.order import Order
from ..engine.rollout import roll_out
from ..engine.sample import generate, generate_clips
from ..engine.sample_svd import Animating, animate_pictures
from ..imaging import grid, save_png
from ..models.codec import Codec
from ..models.families.stable_video_diffusion import StableVideoDiffusion
from ..recipe import Recipe
from ..tasks.animation import Animation
from ..tasks.base import Batch, Task
from ..tasks.frames import Frames
from ..tasks.video import Video
from .opening import Opened, Sides

__all__ = ["show_run"]

SHOWN = 4  # frames of a rollout


def show_run(recipe: Recipe, opened: Opened, data: Sides, folder: Path, what: str, step: int) -> None:
    """sanity/: the first batch as the model sees it. samples/: held-out rows after this many steps.

    One line of pictures a row; of clips, one line for each of the given, the noisy and the generated frames.
    """
    side = data.train if what == "sanity" else data.test
    count = min(recipe.train.sample_rows, len(side))
    if count == 0:
        return
    order = Order(len(side), recipe.seed, recipe.train.train_batch_size)
    positions = order.positions(0, 0, 0)[:count] if what == "sanity" else list(range(count))
    batch, draws = side.batch(order.indices(positions) if what == "sanity" else positions), Draws(recipe.seed, positions)
    make_folder(folder / what)
    if what == "sanity":
        lines = [f"{name}\t{where}" for name, where in zip(batch.ids, batch.where, strict=True)]
        write_text(folder / what / "batch.tsv", "\n".join(lines) + "\n")
    batch = batch.to(next(opened.model.unet.parameters()).device)
    codec = opened.model.codec
    needs = opened.task.needs
    columns = [_decoded(codec, codec.latents(batch.moments[name], None)) for name in (*needs.images, *needs.clips)]
    columns += [_noised(opened, batch, draws)] if what == "sanity" else _held_out(recipe, opened, batch)
    save_png(folder / what / f"step-{step:06d}.png", _laid_out(columns))


def _decoded(codec: Codec, latents: Latents) -> Tensor:
    return (codec.decode_clips(latents) if latents.ndim == 5 else codec.decode(latents)).cpu()


def _noised(opened: Opened, batch: Batch, draws: Draws) -> Tensor:
    """The noisy input of the first training step, as pixels."""
    episode = opened.task.episode(batch, opened.model.codec, opened.blend.asks, draws)
    level: NoiseLevel = opened.parts.path.draw(draws, episode.frames).to(episode.target.device)
    noise = draws.normal("noise", episode.target.shape[1:]).to(episode.target.device)
    return _decoded(opened.model.codec, level.blend(episode.target, noise))


def _laid_out(columns: list[Tensor]) -> Tensor:
    """Pictures (n 3 h w) side by side; clips (n 3 t h w) below each other, the frames of one in a line."""
    if columns[0].ndim == 5:
        frames = torch.stack([clip.transpose(1, 2) for clip in columns], 1)  # n, kind, t, 3, h, w
        return grid(frames.flatten(0, 2), frames.shape[2])
    return grid(torch.stack(columns, 1).flatten(0, 1), len(columns))


def _held_out(recipe: Recipe, opened: Opened, batch: Batch) -> list[Pixels] | list[Videos]:
    """What the model makes of held-out rows: one picture each, the first frames of a rollout, or a clip."""
    model, task, sample = opened.model, opened.task, recipe.sample
    if isinstance(model, StableVideoDiffusion):
        return [_animated(recipe, model, task, batch)]
    text = batch.tokens[task.needs.texts[0]]
    if isinstance(task, Frames):
        few = dataclasses.replace(recipe.rollout, steps=min(SHOWN, recipe.rollout.steps))
        given = torch.stack([model.codec.latents(batch.moments[name], None) for name in task.names], 1)
        seconds = batch.numbers.get("offset")
        frames = roll_out(model, task, sample, few, seed=recipe.seed, ids=batch.ids, tokens=text, given=given, offset=seconds)
        return [model.codec.decode(frame).cpu() for frame in frames]
    size = recipe.data.resolution
    if isinstance(task, Video):
        mean = batch.moments["target"].mean
        beside = task.beside(mean) if task.images else None
        ids, count = batch.ids, mean.shape[2]
        return [generate_clips(model, sample, seed=recipe.seed, ids=ids, tokens=text, frames=count, size=size, image=beside)]
    image = model.codec.source(batch.moments["source"]) if task.images else None
    return [generate(model, sample, seed=recipe.seed, ids=batch.ids, tokens=text, size=size, image=image)]


def _animated(recipe: Recipe, model: StableVideoDiffusion, task: Task, batch: Batch) -> Videos:
    """The clips that the rows' first frames become, told the rows' own pace and motion."""
    assert isinstance(task, Animation)  # the family refuses other tasks
    settings = Animating.of(recipe.sample, noise_aug_strength=task.usual_noise)
    rate, motion = task.pace(batch, model.codec)
    ids, first, frames = batch.ids, batch.pixels["target"], batch.moments["target"].mean.shape[2]
    return animate_pictures(model, settings, seed=recipe.seed, ids=ids, pictures=first, frames=frames, fps=rate + 1, motion=motion)
