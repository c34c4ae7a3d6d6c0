"""What a run watches while it trains: term means for the journal, and warnings that an objective does nothing."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..core.ranks import Ranks
from .step import Step

__all__ = ["Monitors"]

WINDOW = 200  # steps of which the in-batch accuracy is judged
TOO_EASY = 0.99
NULL_DRIFT = 0.1


class Monitors:
    """Keeps (b,) tensors on their device until `record`, so that no step waits for a number.

    warnings: each once; "objective inactive" where a term's in-batch accuracy was above .99 on average over 200 steps; "null error
    drifts" where the held-out error without text rose by a tenth since the first validation.
    """

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self._pending: dict[str, list[Tensor]] = {}
        self._accuracy: dict[str, deque[Tensor]] = {}
        self._first_null: Mapping[str, Any] | None = None

    def see(self, step: Step) -> None:
        """Takes in one (micro-)step."""
        for name, value in {**step.losses, **step.watched, "total": step.total}.items():
            mean = value.detach().float().mean()
            self._pending.setdefault(name, []).append(mean)
            if name.endswith("nce_accuracy"):
                self._accuracy.setdefault(name, deque(maxlen=WINDOW)).append(mean)

    def state(self) -> dict[str, Any]:
        """What a resumed run must know, as JSON holds it."""
        return {"warnings": self.warnings, "first_null": self._first_null}

    def restore(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state`."""
        self.warnings, self._first_null = list(state["warnings"]), state["first_null"]

    def see_held_out(self, losses: Mapping[str, Mapping[str, Any]]) -> None:
        """Takes in a validation's {"null_error": {"mean", "stderr"}}; the first one is what later ones are set against."""
        now = losses.get("null_error")
        if now is None:
            return
        self._first_null = self._first_null or now
        rise = now["mean"] / self._first_null["mean"] - 1
        text = "null error drifts: the held-out error without text rose, which weakens classifier-free guidance"
        if rise > NULL_DRIFT and text not in self.warnings:
            self.warnings.append(text)

    def record(self, ranks: Ranks) -> dict[str, float]:
        """Means since the last record, over all processes; terms are unweighted, "total" is what was minimized."""
        means = {name: torch.stack(values).mean() for name, values in self._pending.items()}
        self._pending.clear()
        for name, window in self._accuracy.items():
            term = name.rpartition("/")[0] or name
            text = f"objective inactive: {term}'s in-batch accuracy stayed above {TOO_EASY} for {WINDOW} steps"
            if len(window) == WINDOW and text not in self.warnings and float(torch.stack(list(window)).mean()) > TOO_EASY:
                self.warnings.append(text)
        return {name: float(ranks.gather(value.reshape(1)).mean()) for name, value in means.items()}
