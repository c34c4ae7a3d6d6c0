"""Trials whose training diverged: an outcome that is kept beside the run, is not tried again, and is told in the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..atomic import make_folder, write_text
from ..core.errors import DataError, Diverged, RecipeError
from ..engine.journal import read_journal

__all__ = ["Divergence", "diverged_words", "divergence_of", "shown_seed", "surviving", "write_divergence"]

FILE = "diverged.json"
POST_MORTEM = "postmortem"


@dataclass(frozen=True)
class Divergence:
    """A trial that broke off. update: the one that was not made, None where nothing tells. reason: what the run said.

    post_mortem: where the run left what it knew, from the comparison's folder; "" for nowhere.
    """

    arm: str
    seed: int
    update: int | None
    reason: str
    post_mortem: str = ""


def write_divergence(folder: Path, error: Diverged, signature: str) -> None:
    """Keeps in the trial's folder that, where and why it diverged."""
    journal = read_journal(folder)
    update = getattr(error, "update", None)
    reason = error.__cause__ if isinstance(error.__cause__, Diverged) else error  # without the path of the post-mortem
    if update is None and journal:
        update = journal[-1]["step"]
    bundle = POST_MORTEM if (folder / POST_MORTEM).is_dir() else ""
    make_folder(folder)
    kept = {"update": update, "reason": str(reason), "post_mortem": bundle, "signature": signature}
    write_text(folder / FILE, json.dumps(kept, indent=2) + "\n")


def divergence_of(folder: Path, arm: str, seed: int, signature: str, root: Path | None = None) -> Divergence | None:
    """How the trial in this folder diverged; None where it did not. root: the comparison's folder.

    RecipeError where a run of other settings did, DataError for a file that is not one of ours.
    """
    path = folder / FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
        theirs, reason, bundle, update = (table[key] for key in ("signature", "reason", "post_mortem", "update"))
        words = all(isinstance(word, str) for word in (theirs, reason, bundle))
        if not words or not (update is None or type(update) is int):
            raise ValueError("its fields have other types")
        if bundle not in ("", POST_MORTEM):
            raise ValueError(f"post_mortem is {bundle!r}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: not the end of a trial ({error!r}); delete {folder}, it is trained again") from error
    if theirs != signature:
        raise RecipeError(f"{folder} holds a run of other settings, which diverged; give another output_dir or delete it")
    place = (folder / bundle).relative_to(root or folder).as_posix() if bundle else ""
    return Divergence(arm, seed, update, reason, place)


def surviving(arm: str, seeds: Sequence[int], divergences: Iterable[Divergence]) -> list[int]:
    """The seeds with which the arm's training came to its end, in their order."""
    lost = {found.seed for found in divergences if found.arm == arm}
    return [seed for seed in seeds if seed not in lost]


def shown_seed(arms: Iterable[str], seeds: Sequence[int], divergences: Sequence[Divergence]) -> int:
    """The seed whose results the report shows: the first of those with which most arms came to their end."""
    alive = [seed for arm in arms for seed in surviving(arm, seeds, divergences)]
    return max(seeds, key=alive.count)


def diverged_words(arm: str, seeds: Sequence[int], divergences: Iterable[Divergence]) -> str:
    """ "robust diverged in 2 of 3 seeds (at updates 7 and 12)"; nothing for an arm that did not."""
    found = [one for one in divergences if one.arm == arm]
    if not found:
        return ""
    updates = [f"{one.update}" for one in sorted(found, key=lambda one: seeds.index(one.seed)) if one.update is not None]
    listed = " and ".join(filter(None, [", ".join(updates[:-1]), *updates[-1:]]))
    at = f" (at update{'s' if len(updates) > 1 else ''} {listed})" if updates else ""
    return f"{arm} diverged in {len(found)} of {len(seeds)} seed{'s' if len(seeds) > 1 else ''}{at}"
