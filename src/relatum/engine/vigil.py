"""What a run does about an update that broke: judge it, count it, say it, and know which checkpoint to go back to."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch

from ..core.errors import DataError, Diverged
from ..core.ranks import Ranks
from .checkpoint import problem_of
from .guard import Spike, Spikes, find_nonfinite
from .job import Job
from .postmortem import FOLDER, History, write_post_mortem
from .recorder import Recorder
from .step import Step

__all__ = ["Action", "Vigil"]

Action = Literal["go", "skip", "rollback"]
SPIKES = "spikes: the gradient norm or the total rose far above its median; see the events in metrics.jsonl, and train.on_spike"
CALM = 50  # updates after a checkpoint in which none may be left out before last-good names it


class Vigil:
    """Every process has one, and all judge alike. Its `state` goes into checkpoints: a resumed run repeats what it did."""

    def __init__(self, job: Job, ranks: Ranks, recorder: Recorder) -> None:
        self.job, self.ranks, self.recorder = job, ranks, recorder
        self.skipped = self.spiked = self.rollbacks = 0
        self.good: int | None = None  # the checkpoint to go back to, by its step
        self.newest: int | None = None  # the newest checkpoint that may become it
        self._trouble: int | None = None  # first update after `newest` that was left out
        self.history = History()
        self._steps: list[Step] = []
        self._where: list[str] = []
        self._problem: str | None = None
        self._spikes = Spikes(job.settings.spike_z, job.settings.spike_window)

    def see(self, step: Step, where: Sequence[str], norm: Any) -> None:
        """Takes in a micro-batch after its backward pass. norm: of the update's whole gradient, None before the last one."""
        found = find_nonfinite(step.losses, step.total, norm, where, step.level, self.ranks)
        self._problem = self._problem or found
        self._steps.append(step)
        self._where += where

    def judge(self, updates: int, norm: Any, seen: Mapping[str, Any] | None) -> tuple[list[Step], Action]:
        """(what the journal's means take in, what is to be done with the gradients). Diverged where the run is to stop.

        seen: inside the network, at this update; see `Sight`.
        """
        settings, steps, where, problem = self.job.settings, self._steps, self._where, self._problem
        self._steps, self._where, self._problem = [], [], None
        self.history.see(updates, steps, where, norm, settings.learning_rate_at(updates))
        if seen is not None:
            self.history.look(updates, seen)
            self.recorder.write(updates + 1, {"event": "monitor", **seen})
        action: Action = "go"
        if problem is not None:
            action = self._act(updates, problem, "not finite", settings.on_nonfinite)
        elif settings.spike_z and (spike := self._spike(steps, norm)) is not None:
            self.spiked += 1
            action = self._act(updates, str(spike), "spike", settings.on_spike, spike)
        return (steps if action == "go" else []), action

    def _spike(self, steps: Sequence[Step], norm: Any) -> Spike | None:
        """Judged on the means over all processes; reads two numbers from the device."""
        total = torch.stack([step.total.detach().float().mean() for step in steps]).mean()
        pair = torch.stack([torch.as_tensor(norm, device=total.device).detach().float().reshape(()), total])
        norm, total = self.ranks.gather(pair[None]).mean(0).tolist()
        return self._spikes.see({"gradient norm": norm, "total": total})

    def _act(self, updates: int, problem: str, event: str, wanted: str, spike: Spike | None = None) -> Action:
        about = {} if spike is None else dataclasses.asdict(spike)
        self.recorder.write(updates + 1, {"event": event, "problem": problem, "action": wanted, **about})
        if wanted == "warn":
            self.recorder.warn(updates + 1, SPIKES)
            return "go"
        where = f"{problem}. No update was made"
        if wanted == "stop":
            self.stop(f"{where}; {self._before()}", updates)
        if wanted == "skip":
            self.skipped += 1
            self._trouble = updates if self._trouble is None else self._trouble
            return "skip"
        if self.rollbacks >= self.job.settings.most_rollbacks:
            self.stop(f"{where}, and the run was rolled back {self.rollbacks} times before (train.most_rollbacks)", updates)
        self.rollbacks += 1
        self._trouble = self.newest
        self.recorder.write(updates + 1, {"event": "rollback", "to": self.good, "rollbacks": self.rollbacks})
        return "rollback"

    def _before(self) -> str:
        known = (self.job.folder / "checkpoints" / "last-good").is_file()
        return "checkpoints/last-good is from before" if known else "there is no checkpoint yet"

    def stop(self, words: str, updates: int) -> None:
        """Ends the run on all processes, which call it together."""
        self.history.gather(self.ranks)
        raise Diverged(f"update {updates}: {words}", updates)

    def calm_checkpoint(self) -> Path:
        """The folder to go back to; DataError where it is not whole."""
        folder = self.job.folder / "checkpoints" / f"checkpoint-{self.good}"
        if problem := problem_of(folder):
            raise DataError(f"{folder}: a rollback needs it, and it is not whole: {problem}; start again in another output_dir")
        return folder

    def at_checkpoint(self, step: int, planned: bool) -> None:
        """Before a checkpoint is written. One that a signal asked for is never gone back to: a run without the signal has none.

        The one before is good if no update was left out in the `CALM` ones that followed it, and none since was rolled back.
        """
        if self.good is None:
            self.good = step
        if planned:
            if self.newest is not None and (self._trouble is None or self._trouble - self.newest >= CALM):
                self.good = self.newest
            self.newest, self._trouble = step, None

    def counts(self) -> dict[str, int]:
        """What happened so far, of what happened at all; for a journal."""
        counts = {"skipped_updates": self.skipped, "spikes": self.spiked, "rollbacks": self.rollbacks}
        return {name: count for name, count in counts.items() if count}

    def state(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON holds it."""
        counts = {"skipped": self.skipped, "spiked": self.spiked, "rollbacks": self.rollbacks}
        return {**counts, "good": self.good, "newest": self.newest, "trouble": self._trouble, "spikes": self._spikes.state()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.skipped, self.spiked, self.rollbacks = (int(state[name]) for name in ("skipped", "spiked", "rollbacks"))
        self.good, self.newest, self._trouble = state["good"], state["newest"], state["trouble"]
        self._spikes.restore(state["spikes"])

    def bury(self, error: Diverged) -> Diverged:
        """The error that also says where the post-mortem lies; on the first process it is written."""
        job = self.job
        about = {"update": error.update, "settings": dataclasses.asdict(job.settings), "seed": job.seed, "last_good": self.good}
        if self.ranks.rank == 0:
            write_post_mortem(job.folder, str(error), {**about, "counts": self.counts()}, self.history)
        return Diverged(f"{error}; what led to it is in {job.folder / FOLDER}", error.update)
