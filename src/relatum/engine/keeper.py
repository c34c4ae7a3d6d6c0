"""What a run needs to go on from: its checkpoints written, found again, and gone back to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .checkpoint import latest, write_checkpoint
from .meter import Meter
from .monitors import Monitors
from .settings import TrainSettings
from .snapshot import Snapshot
from .vigil import Vigil

__all__ = ["Keeper"]


class Keeper:
    """held_out: the last validation, see `held_out_loss`. scaler: of fp16 training, else None."""

    def __init__(self, folder: Path, settings: TrainSettings, snapshot: Snapshot, vigil: Vigil, monitors: Monitors, meter: Meter):
        self.folder, self.settings, self.snapshot = folder, settings, snapshot
        self.vigil, self.monitors, self.meter = vigil, monitors, meter
        self.held_out: dict[str, Any] = {}
        self._best: float | None = None

    def write(self, updates: int, samples_seen: int, seed: int, scaler: Any, main: bool, planned: bool) -> None:
        """A checkpoint, by the first process; the others count along. planned: not because of a signal."""
        now = self.held_out.get("held_out", {}).get("matched_error", {}).get("mean")
        better = now is not None and (self._best is None or now < self._best)
        self._best = now if better else self._best
        self.vigil.at_checkpoint(updates, planned)
        if not main:
            return
        extra = {"held_out": self.held_out, "best": self._best, "seconds": self.meter.seconds, "vigil": self.vigil.state()}
        extra |= {"monitors": self.monitors.state(), "scaler": {} if scaler is None else scaler.state_dict()}
        write_checkpoint(
            self.folder,
            updates,
            lambda folder: self.snapshot.write(folder, updates, samples_seen, seed, extra),
            self.settings.checkpoints_total_limit,
            good=self.vigil.good,
            best=better,
            keep=self.vigil.newest,
        )

    def resume(self, scaler: Any) -> int:
        """Puts the newest checkpoint back, if there is one; gives the updates made."""
        found = latest(self.folder)
        if found is None:
            return 0
        state = self.snapshot.read(found)
        self.held_out, self._best = state.extra["held_out"], state.extra["best"]
        self.meter.before = float(state.extra["seconds"])
        self.monitors.restore(state.extra["monitors"])
        self.vigil.restore(state.extra["vigil"])
        if scaler is not None:
            scaler.load_state_dict(state.extra["scaler"])
        return state.step

    def roll_back(self) -> None:
        """Weights, their average, the optimizer and what objectives remember are those of the last good checkpoint again."""
        self.snapshot.read(self.vigil.calm_checkpoint())
