"""What a run says of itself while it goes: journal, progress, terms by noise level, warnings."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from ..core.ranks import Ranks
from .job import Job
from .journal import Journal
from .levels import LevelBins
from .monitors import Monitors
from .progress import Progress
from .step import Step

__all__ = ["Recorder"]


class Recorder:
    """On processes other than the first it counts along and stays silent; `log` and `validated` are called by all of them.

    track: a tracker's log, or None. samples: seen in one update.
    """

    def __init__(self, job: Job, ranks: Ranks, device: torch.device, samples: int) -> None:
        self.job, self.ranks, self.device, self.samples = job, ranks, device, samples
        self.main = ranks.rank == 0
        self.monitors = Monitors()
        self._bins = None if job.levels is None else LevelBins(job.levels)
        self._journal: Journal | None = None

    def open(self, updates: int, track: Callable[..., Any] | None) -> None:
        """Starts at this update; what the journal held after it is dropped."""
        self._journal = Journal(self.job.folder, updates or None, track) if self.main else None
        quiet = self.job.quiet or not self.main
        self._progress = Progress("train", self.job.settings.max_train_steps, updates, quiet=quiet)
        self._progress.start()

    def close(self) -> None:
        self._progress.stop()
        if self._journal is not None:
            self._journal.close()

    def write(self, updates: int, record: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.record(updates, record)

    def log(self, updates: int, steps: Sequence[Step], grad_norm: Any, counts: Mapping[str, int]) -> None:
        """After every update: takes in its steps (none where it was left out), and journals their means now and then.

        counts: of what went wrong so far.
        """
        settings, terms = self.job.settings, None
        for step in steps:
            self.monitors.see(step)
            if self._bins is not None and step.level is not None:
                self._bins.add(step.level, {**step.losses, **step.watched})
        if updates % settings.logging_steps == 0 or updates == settings.max_train_steps:
            said = len(self.monitors.warnings)
            terms = self.monitors.record(self.ranks)
            about = {
                "grad_norm": float(grad_norm),
                "lr": settings.learning_rate_at(updates - 1),
                "samples_seen": updates * self.samples,
            }
            self.write(updates, {**terms, **about, **counts})
            self._warn(updates, said)
            terms = {name: value for name, value in terms.items() if "/" not in name}
        self._progress.advance(terms, samples=self.samples)

    def validated(self, updates: int, held_out: Mapping[str, Any]) -> None:
        """Journals a validation beside the training terms by noise level since the one before."""
        record: dict[str, Any] = {"event": "validation"}
        said = len(self.monitors.warnings)
        if self._bins is not None:
            record["train_by_level"] = self._bins.gather(self.ranks, self.device).rows()
            self._bins.clear()
        if held_out:
            self.monitors.see_held_out(held_out["held_out"])
        self.write(updates, {**record, **held_out})
        self._warn(updates, said)

    def warn(self, updates: int, text: str) -> None:
        """Says a warning once in a run."""
        if text not in self.monitors.warnings:
            self.monitors.warnings.append(text)
            self._warn(updates, len(self.monitors.warnings) - 1)

    def _warn(self, updates: int, said: int) -> None:
        """Journals and prints the warnings after the first `said`."""
        for text in self.monitors.warnings[said:]:
            self.write(updates, {"event": "warning", "warning": text})
            if self.main and not self.job.quiet:
                warnings.warn(text, stacklevel=2)
