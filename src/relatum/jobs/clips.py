"""Held-out captions through a trained model: clips, made as a whole."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..core.shapes import Videos
from ..data.rows import Row
from ..engine.sample import generate_clips
from ..imaging import to_uint8
from ..metrics.base import Samples
from ..models.codec import Codec
from ..models.families.stable_diffusion import StableDiffusion
from ..recipe import Recipe
from ..tasks.base import Task
from ..tasks.video import Video
from .editing import trip
from .suite import NOISE, Suite

__all__ = ["Clips"]


@dataclasses.dataclass(frozen=True)
class Clips(Suite):
    """One clip (3 t h w) a row, of `frames` frames as the row's own.

    step: the frame that metrics of single pictures look at, counted from 0. given: 1 where the model is given the first frame.
    """

    frames: int = 1
    step: int = 0
    given: int = 0

    copying = "still clip"
    guessing = "another row's caption"

    def make(self, model: StableDiffusion, task: Task, recipe: Recipe, shuffled: bool) -> Iterator[Tensor]:
        assert isinstance(task, Video)
        size, device = max(1, recipe.evaluate.batch_size // self.frames), next(model.unet.parameters()).device
        for start in range(0, len(self.rows), size):
            indices = list(range(start, min(start + size, len(self.rows))))
            batch = self.encoded.batch(indices).to(device)
            words = self.encoded.batch([(i + 1) % len(self.rows) for i in indices]) if shuffled else batch
            yield from generate_clips(
                model,
                recipe.sample,
                seed=NOISE,
                ids=batch.ids,
                tokens=words.tokens["target"].to(device),
                frames=self.frames,
                size=self.size,
                image=task.beside(batch.moments["target"].mean) if task.images else None,
                batch=size,
            )

    def about(self, recipe: Recipe) -> Any:
        return ["clips", self.frames, self.given]

    def pace(self, recipe: Recipe) -> float | None:
        return self.rate()

    def picture(self, made: Tensor) -> Tensor:
        return torch.cat(list(made.unbind(1)), 2)

    def restored(self, picture: Tensor) -> Tensor | None:
        wide = self.frames * self.size
        return torch.stack(picture.split(self.size, 2), 1) if picture.shape[1:] == (self.size, wide) else None

    def samples(self, made: Tensor, batch: int) -> Iterator[Samples]:
        made = made if made.ndim else made.expand(len(self.rows), 3, self.frames, self.size, self.size)
        flowing = all("motion" in row.facts and "scenes" in row.facts for row in self.rows)
        for start in range(0, len(self.rows), batch):
            rows = self.rows[start : start + batch]
            videos = {"generated": made[start : start + batch], "target": self.truth(rows)}
            pixels = {name: video[:, :, self.step] for name, video in videos.items()}
            flows = {"target": self._flows(rows)} if flowing else {}
            facts, given = [row.facts for row in rows], self.given
            yield Samples([row.id for row in rows], pixels, {}, self.texts(rows), {}, facts, videos, flows, given)

    def controls(self, codec: Codec) -> dict[str, Tensor]:
        """The real clips, the same behind this codec, and their first frame standing still."""
        real = self.truth(self.rows)
        parts = [trip(part, codec) for part in real.transpose(1, 2).flatten(0, 1).split(64)]
        trips = torch.cat(parts).unflatten(0, (len(real), -1)).transpose(1, 2)
        return {self.copying: real[:, :, :1].expand_as(real), "round trip of the clip": trips, "real video": real}

    def truth(self, rows: Sequence[Row]) -> Videos:
        """The rows' own clips, (n 3 t h w)."""
        return torch.stack([self._real[row.id] for row in rows]).permute(0, 4, 1, 2, 3) / 127.5 - 1

    @cached_property
    def _real(self) -> dict[str, Tensor]:
        """Real clips by row, (t h w 3) in 8 bits: read once for all that is measured against them."""
        return {row.id: torch.from_numpy(to_uint8(row.clips["target"].shot(self.size).frames)) for row in self.rows}

    def _flows(self, rows: Sequence[Row]) -> Tensor:
        from ..data.toy.videos import true_flows

        return torch.stack([true_flows(row, self.size)[:, : self.frames - 1] for row in rows])
