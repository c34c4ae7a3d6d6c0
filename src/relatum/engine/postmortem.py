"""What led to a run's end: its last updates are kept at hand, and written to a folder of the run when it diverges."""

from __future__ import annotations

import json
import math
import shutil
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..atomic import make_folder, remove_stale, temporary, write_text
from ..core.path import over_frames
from ..core.ranks import ONE, Ranks
from .checkpoint import replace_folder
from .guard import gather_words
from .step import Step

__all__ = ["FOLDER", "History", "write_post_mortem"]

FOLDER = "postmortem"
UPDATES = 32
LOOKS = 100
NAMED = 8


@dataclass
class _Update:
    """One update's samples. update: those made before it. terms, level: (b,) tensors where they were made, until written down."""

    update: int
    learning_rate: float
    gradient_norm: Any
    where: Sequence[str]
    level: Tensor | None
    terms: Mapping[str, Tensor]

    def gather(self, ranks: Ranks) -> None:
        """The samples of all processes, in rank order."""
        device = next(iter(self.terms.values())).device
        self.where = gather_words(self.where, ranks, device)
        self.level = None if self.level is None else ranks.gather(self.level)
        self.terms = {name: ranks.gather(term) for name, term in self.terms.items()}

    def plain(self) -> dict[str, Any]:
        samples: dict[str, Any] = {"where": list(self.where), "level": None if self.level is None else self.level.tolist()}
        samples |= {"terms": {name: term.tolist() for name, term in self.terms.items()}}
        return {"update": self.update, "learning_rate": self.learning_rate, "gradient_norm": float(self.gradient_norm), **samples}


class History:
    """The last updates, this process's samples, and the last things seen at monitored updates; of this sitting, bounded.

    Tensors stay on their device until `plain`, so that no update waits for them.
    """

    def __init__(self) -> None:
        self._updates: deque[_Update] = deque(maxlen=UPDATES)
        self._looks: deque[dict[str, Any]] = deque(maxlen=LOOKS)

    def see(self, update: int, steps: Sequence[Step], where: Sequence[str], norm: Any, learning_rate: float) -> None:
        """Takes in one update's micro-batches."""
        kept = [{**one.losses, "total": one.total} for one in steps]
        terms = {name: _joined([losses[name].detach().reshape(-1).float() for losses in kept]) for name in kept[0]}
        levels = [over_frames(one.level.time.detach()).float() for one in steps if one.level is not None]
        level = _joined(levels) if len(levels) == len(steps) else None
        self._updates.append(_Update(update, learning_rate, norm, where, level, terms))

    def look(self, update: int, seen: Mapping[str, Any]) -> None:
        """Takes in what was seen at a monitored update."""
        self._looks.append({"update": update, **seen})

    def gather(self, ranks: Ranks = ONE) -> None:
        """Takes in the samples of the other processes; called by all of them, once, when the run ends."""
        if ranks.size > 1:
            for update in self._updates:
                update.gather(ranks)

    def plain(self) -> dict[str, list[dict[str, Any]]]:
        """{"updates": oldest first, "monitors"} as JSON holds them but for numbers that are not finite."""
        return {"updates": [update.plain() for update in self._updates], "monitors": list(self._looks)}


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def write_post_mortem(root: Path, problem: str, about: Mapping[str, Any], history: History) -> Path:
    """`root/postmortem`, whole or absent: postmortem.json and a README.md of it in words. Gives the folder.

    about: what else is kept, such as settings and counts. Numbers that are not finite are the words "NaN", "Infinity" and
    "-Infinity", so that the file is JSON.
    """
    final = root / FOLDER
    make_folder(root)
    remove_stale(root)
    beside = temporary(final)
    beside.mkdir()
    told = {"problem": problem, **about, **history.plain()}
    try:
        write_text(beside / "postmortem.json", json.dumps(_said(told), indent=1, allow_nan=False) + "\n")
        write_text(beside / "README.md", _words(told))
        replace_folder(beside, final)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return final


def _said(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {str(key): _said(item) for key, item in value.items()}
    return [_said(item) for item in value] if isinstance(value, list | tuple) else value


def _words(told: Mapping[str, Any]) -> str:
    parts = ["# Why this run stopped", told["problem"]]
    if told["updates"]:
        parts += ["## Its last updates", *_updates(told["updates"])]
    if told["monitors"]:
        parts += ["## What was seen inside", *_looks(told["monitors"])]
    parts += ["## What to try", "\n".join(f"- {one}" for one in _advice(told))]
    parts.append("`postmortem.json` holds all of it: terms, rows and noise levels sample by sample, learning rates, settings.")
    return "\n\n".join(parts) + "\n"


def _updates(updates: Sequence[Mapping[str, Any]]) -> list[str]:
    """How norm and total went, and the samples with the largest totals; NaN counts as the largest."""
    first, last = updates[0], updates[-1]
    before, now = (sum(one["terms"]["total"]) / len(one["terms"]["total"]) for one in (first, last))
    said = (
        f"From update {first['update']} to {last['update']} the gradient's norm went from {first['gradient_norm']:.4g} to "
        f"{last['gradient_norm']:.4g} and the total from {before:.4g} to {now:.4g}; the learning rate was "
        f"{last['learning_rate']:.3g}."
    )
    samples = [(total, i, one) for one in updates for i, total in enumerate(one["terms"]["total"])]
    samples.sort(key=lambda sample: math.inf if math.isnan(sample[0]) else sample[0], reverse=True)
    table = ["| total | row | noise level | update |", "|---|---|---|---|"]
    for total, i, one in samples[:NAMED]:
        level = "" if one["level"] is None else f"{one['level'][i]:g}"
        table.append(f"| {total:.4g} | {one['where'][i]} | {level} | {one['update']} |")
    return [said, "\n".join(table)]


def _looks(looks: Sequence[Mapping[str, Any]]) -> list[str]:
    first, last, said = looks[0], looks[-1], []
    times = first["update"], last["update"]
    if attention := last.get("attention"):
        name = min(attention, key=lambda layer: attention[layer]["mean"])
        before, now = first.get("attention", attention).get(name, attention[name]), attention[name]
        said.append(
            f"Attention entropy (1: everywhere alike, 0: at one key) is lowest in `{name}`: {before['mean']:.3f} at update "
            f"{times[0]}, {now['mean']:.3f} at {times[1]}, where {now['low']:.0%} of its rows are below .1."
        )
    if gradient := last.get("gradient"):
        block = max(gradient, key=lambda name: -1.0 if math.isnan(gradient[name]) else gradient[name])
        before = first.get("gradient", gradient).get(block, math.nan)
        said.append(
            f"The gradient is largest in `{block}`: {before:.4g} at update {times[0]}, {gradient[block]:.4g} at {times[1]}."
        )
    return said


def _advice(told: Mapping[str, Any]) -> list[str]:
    """A run that was calm until some of a batch's samples broke met bad rows; another blew up."""
    calm = [one["gradient_norm"] for one in told["updates"][:-1]]
    last = told["updates"][-1]["terms"]["total"] if told["updates"] else []
    grew = not any(math.isfinite(total) for total in last) or (len(calm) > 1 and not calm[-1] < 10 * calm[0])
    row = "look at the rows named above; `relatum cache RECIPE --action verify` finds encodings that are not finite"
    lower = "a lower `train.learning_rate`, a longer `lr_warmup_steps` or a smaller `max_grad_norm`"
    steady = 'for motion modules: a stabilizer, or `train.on_nonfinite = "rollback"` to go on past a single bad batch'
    return [lower, steady, row] if grew else [row, lower, steady]
