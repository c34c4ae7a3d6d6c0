"""Decisions of a run: its clips as keeps see them, what is kept, and what other thresholds would keep."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..core.errors import DataError, RecipeError
from ..core.load import near
from ..core.registry import stage
from .base import Keep
from .deciding import Decisions, decide
from .manifest import CLIP_COLUMNS, read_columns, write_columns
from .plan import Plan, build_all
from .presets import merged
from .settings import Curation
from .stages.threshold import Range

__all__ = ["judge", "judged", "keeps_for", "table_of_clips"]


ABOUT = ("id", "video", "start", "end", "seconds", "kept")  # what a keep sees of a clip besides facts


def keeps_for(recipe: Curation, plan: Plan) -> dict[str, Keep]:
    """The preset's keeps and the recipe's. Without a kind it is of that which its name says, if that is a keep's, else a range."""
    tables = merged(recipe.preset, plan.facts, recipe.keep)
    for name, table in tables.items():
        table.setdefault("kind", name if hasattr(stage.classes.get(name), "judge") else "range")
    keeps = build_all("keep", tables, Keep)
    for name, keep in keeps.items():
        known = [*plan.facts, *(("seconds", "start", "end") if isinstance(keep, Range) else ABOUT)]
        for fact in keep.needs:
            if fact not in known:
                raise RecipeError(f"keep.{name}: no stage of the recipe writes the fact {fact!r}{near(fact, known)}")
    return keeps


def table_of_clips(run: Path) -> dict[str, Sequence[Any]]:
    """Columns as a Keep sees them, and "error", from clips.parquet."""
    columns = read_columns(run / "clips.parquet")
    facts = {name: column for name, column in columns.items() if name not in CLIP_COLUMNS}
    start, end = columns["start_s"], columns["end_s"]
    seconds = [b - a for a, b in zip(start, end, strict=True)]
    about = {"id": columns["clip_id"], "video": columns["video_id"], "start": start, "end": end, "seconds": seconds}
    return {**about, "error": columns["error"], **facts}


def judge(run: Path, keeps: Mapping[str, Keep]) -> tuple[dict[str, Sequence[Any]], Decisions]:
    """(the clips, what is decided), which is written to decisions.parquet and decision.json."""
    table = table_of_clips(run)
    decisions = decide(table, keeps)
    write_columns(run / "decisions.parquet", decisions.columns())
    write_text(run / "decision.json", json.dumps(decisions.document(), indent=1, sort_keys=True) + "\n")
    return table, decisions


def judged(run: Path) -> Decisions:
    """What was decided. DataError where nothing was."""
    try:
        document = json.loads((run / "decision.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{run / 'decision.json'}: cannot be read ({error}); run the curation first") from None
    return Decisions.read(read_columns(run / "decisions.parquet"), document)
