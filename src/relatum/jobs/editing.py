"""Held-out edits, or captions, through a trained model: pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from ..engine.sample import generate
from ..metrics.base import Samples
from ..models.codec import Codec
from ..models.families.stable_diffusion import StableDiffusion
from ..recipe import Recipe
from ..tasks.base import Task
from .suite import NOISE, Suite

__all__ = ["Pictures"]


class Pictures(Suite):
    """One picture (3 h w) a row."""

    copying = "copy the source"
    guessing = "guess (shuffled instructions)"

    def make(self, model: StableDiffusion, task: Task, recipe: Recipe, shuffled: bool) -> Iterator[Tensor]:
        text, size = task.needs.texts[0], recipe.evaluate.batch_size
        for start in range(0, len(self.rows), size):
            indices = list(range(start, min(start + size, len(self.rows))))
            batch = self.encoded.batch(indices)
            words = self.encoded.batch([(i + 1) % len(self.rows) for i in indices]) if shuffled else batch
            image = model.codec.source(batch.moments["source"]) if task.images else None
            yield from generate(
                model,
                recipe.sample,
                seed=NOISE,
                ids=batch.ids,
                tokens=words.tokens[text],
                size=self.size,
                image=image,
                batch=size,
            )

    def about(self, recipe: Recipe) -> Any:
        return "pictures"

    def picture(self, made: Tensor) -> Tensor:
        return made

    def restored(self, picture: Tensor) -> Tensor | None:
        return picture if picture.shape[1:] == (self.size, self.size) else None

    def samples(self, made: Tensor, batch: int) -> Iterator[Samples]:
        columns, masked = self.columns(("source", "target")), all("changed" in row.masks for row in self.rows)
        made = made if made.ndim else made.expand(len(self.rows), 3, self.size, self.size)
        for start in range(0, len(self.rows), batch):
            rows = self.rows[start : start + batch]
            pixels = {name: torch.stack([row.images[name].pixels(self.size) for row in rows]) for name in columns}
            masks = {"changed": torch.stack([row.masks["changed"].mask(self.size) for row in rows])} if masked else {}
            yield Samples(
                [row.id for row in rows],
                {"generated": made[start : start + batch], **pixels},
                masks,
                self.texts(rows),
                facts=[row.facts for row in rows],
            )

    def controls(self, codec: Codec) -> dict[str, Tensor]:
        found = {name: torch.stack([row.images[name].pixels(self.size) for row in self.rows]) for name in self.columns(("source",))}
        out = {self.copying: found["source"]} if found else {}
        if self.columns(("target",)):
            parts = [row.images["target"].pixels(self.size)[None] for row in self.rows]
            out["round trip of the target"] = torch.cat([trip(part, codec) for part in torch.cat(parts).split(64)])
        return out


def trip(pixels: Tensor, codec: Codec) -> Tensor:
    """Pictures through the autoencoder and back."""
    return codec.decode(codec.latents(codec.encode(pixels), None)).cpu()
