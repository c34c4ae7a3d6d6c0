"""Held-out first frames through a trained model: videos, made frame by frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.shapes import PerSample
from ..data.rows import Row
from ..engine.rollout import decoded, roll_out, rolled
from ..imaging import to_uint8
from ..metrics.base import Samples
from ..models.codec import Codec
from ..models.families.stable_diffusion import StableDiffusion
from ..recipe import Recipe
from ..tasks.base import Task
from ..tasks.frames import Frames
from .editing import trip
from .suite import NOISE, Suite

__all__ = ["Rollouts", "future_names"]


def future_names(count: int) -> tuple[str, ...]:
    """The images of a row that the `count` frames after its source are: target, future.2, future.3, ..."""
    return ("target", *(f"future.{i}" for i in range(2, count + 1)))


@dataclasses.dataclass(frozen=True)
class Rollouts(Suite):
    """One video (3 t h w) a row; frame 0 is the row's source as it is. steps: frames that are made. step: the one that metrics of
    single pictures look at."""

    steps: int = 1
    step: int = 1

    copying = "copy the first frame"
    guessing = "another row's caption"

    def make(self, model: StableDiffusion, task: Task, recipe: Recipe, shuffled: bool) -> Iterator[Tensor]:
        assert isinstance(task, Frames)
        size, device = recipe.evaluate.batch_size, next(model.unet.parameters()).device
        for start in range(0, len(self.rows), size):
            indices = list(range(start, min(start + size, len(self.rows))))
            batch = self.encoded.batch(indices).to(device)
            words = self.encoded.batch([(i + 1) % len(self.rows) for i in indices]) if shuffled else batch
            frames = roll_out(
                model,
                task,
                recipe.sample,
                recipe.rollout,
                seed=NOISE,
                ids=batch.ids,
                tokens=words.tokens["instruction"].to(device),
                given=torch.stack([model.codec.latents(batch.moments[name], None) for name in task.names], 1),
                offset=offsets([self.rows[i] for i in indices]) if task.time_offset else None,
            )
            videos = decoded(rolled(frames), model.codec)
            for i, video in zip(indices, videos, strict=True):
                yield torch.cat([self.rows[i].images["source"].pixels(self.size)[:, None], video], 1)

    def about(self, recipe: Recipe) -> Any:
        return dataclasses.asdict(recipe.rollout)

    def pace(self, recipe: Recipe) -> float | None:
        """1 / offset: the recipe's, else the rows' where they agree to 1 %."""
        return self.rate([recipe.rollout.offset] if recipe.rollout.offset else ())

    def picture(self, made: Tensor) -> Tensor:
        return torch.cat(list(made.unbind(1)), 2)

    def restored(self, picture: Tensor) -> Tensor | None:
        wide = (self.steps + 1) * self.size
        return torch.stack(picture.split(self.size, 2), 1) if picture.shape[1:] == (self.size, wide) else None

    def samples(self, made: Tensor, batch: int) -> Iterator[Samples]:
        made = made if made.ndim else made.expand(len(self.rows), 3, self.steps + 1, self.size, self.size)
        flowing = all("motion" in row.facts for row in self.rows) and self._known()
        for start in range(0, len(self.rows), batch):
            rows, generated = self.rows[start : start + batch], made[start : start + batch]
            videos, pixels = {"generated": generated}, {"generated": generated[:, :, self.step], "source": generated[:, :, 0]}
            if self._known():
                videos["target"] = self._truth(rows)
                pixels["target"] = videos["target"][:, :, self.step]
            elif self.step == 1 and self.columns(("target",)):
                pixels["target"] = torch.stack([row.images["target"].pixels(self.size) for row in rows])
            flows = {"target": self._flows(rows)} if flowing else {}
            facts = [row.facts for row in rows]
            yield Samples([row.id for row in rows], pixels, {}, self.texts(rows), facts=facts, videos=videos, flows=flows)

    def controls(self, codec: Codec) -> dict[str, Tensor]:
        first = torch.stack([row.images["source"].pixels(self.size) for row in self.rows])
        trips = [first]
        for _ in range(self.steps):
            trips.append(torch.cat([trip(part, codec) for part in trips[-1].split(64)]))
        out = {self.copying: torch.stack([first] * (self.steps + 1), 2), "round trip × k": torch.stack(trips, 2)}
        return {**out, "real video": self._truth(self.rows)} if self._known() else out

    def _known(self) -> bool:
        """Whether every row tells all the frames that a rollout makes."""
        names = future_names(self.steps)
        return self.columns(names) == list(names)

    def truth(self, rows: Sequence[Row]) -> Tensor | None:
        """The real videos (n 3 t h w) of these rows, first frame included; None where they are not known."""
        return self._truth(rows) if self._known() else None

    @cached_property
    def _real(self) -> dict[str, Tensor]:
        """Real videos by row, (t 3 h w) in 8 bits: decoded once for all that is measured against them."""
        names = ("source", *future_names(self.steps))
        frames = {row.id: torch.stack([row.images[name].pixels(self.size) for name in names]) for row in self.rows}
        return {name: torch.from_numpy(to_uint8(video)) for name, video in frames.items()}

    def _truth(self, rows: Sequence[Row]) -> Tensor:
        """(n 3 t h w), the first frame included."""
        return torch.stack([self._real[row.id] for row in rows]).permute(0, 4, 1, 2, 3) / 127.5 - 1

    def _flows(self, rows: Sequence[Row]) -> Tensor:
        from ..data.toy.videos import true_flows

        return torch.stack([true_flows(row, self.size)[:, : self.steps] for row in rows])


def offsets(rows: Sequence[Row]) -> PerSample:
    """Seconds from a row's source to its target. DataError for a row that does not tell."""
    for row in rows:
        if "offset" not in row.facts:
            raise DataError(f"{row.where or row.id}: no offset, which a task with time_offset needs")
    return torch.tensor([float(row.facts["offset"]) for row in rows])
