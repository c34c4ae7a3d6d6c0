"""Keeps that a recipe has without naming them, as published filters have them, with their sources."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from ..core.errors import RecipeError
from ..core.load import near

__all__ = ["PRESETS", "Preset", "keeps_of", "left_out", "merged"]


@dataclass(frozen=True)
class Preset:
    """Tables of keeps by name. source: where their numbers are from, and what is ours."""

    source: str
    keeps: Mapping[str, Mapping[str, Any]]


STATIC = 0.003
"""Short sides a second. Our flow leaves out what does not move: static clips with noise read at most .002, people who sign .004.
Stable Video Diffusion's, on 16 pixels, gives .043 pixels in half a second (.0054) to its example of a static clip."""

_RANGE = {"kind": "range", "on_missing": "drop"}  # with that reason: a clip too short or too sparse to tell, or without a caption
_TWINS = {"kind": "duplicates", "hashes": "hash.dhash"}

PRESETS: Mapping[str, Preset] = {
    "svd": Preset(
        "Stable Video Diffusion (arXiv 2311.15127), appendix: of all clips drop the quarter with the least motion, the quarter "
        "with the lowest aesthetic score, the half with the lowest CLIP score and the quarter with the most text; text over 7 % of "
        "the picture. Ours: the least motion, more than .6 of the frames repeated (12 frames a second shown as "
        "24 repeat half), near-duplicates",
        {
            "motion": {**_RANGE, "fact": "motion.mean", "at_least": STATIC, "drop_lowest": 0.25},
            "text": {**_RANGE, "fact": "text.area_max", "at_most": 0.07, "drop_highest": 0.25},
            "aesthetic": {**_RANGE, "fact": "aesthetic.score", "drop_lowest": 0.25},
            "clip": {**_RANGE, "fact": "clip.score", "drop_lowest": 0.5},
            "frozen": {**_RANGE, "fact": "frozen.share", "at_most": 0.6},
            "duplicates": _TWINS,
        },
    ),
    "open-sora-plan": Preset(
        "Open-Sora Plan, report 1.3.0: LAION aesthetic score of at least 4.75; static clips out, there by LPIPS under .001, here "
        "by our floor of motion. Its crop of subtitles and its DOVER score have no stage here; text alone drops nothing there",
        {
            "motion": {**_RANGE, "fact": "motion.mean", "at_least": STATIC},
            "aesthetic": {**_RANGE, "fact": "aesthetic.score", "at_least": 4.75},
        },
    ),
    "curator": Preset(
        "NeMo Curator: the lowest aesthetic score of the frames counts, as in its filter, whose own default of .5 drops hardly "
        "anything; at least 3.5, as the guide of Cosmos Curate has it. Static clips out, there by motion vectors of the codec, "
        "here by our floor of motion; duplicates by embeddings, our cosine",
        {
            "motion": {**_RANGE, "fact": "motion.mean", "at_least": STATIC},
            "aesthetic": {**_RANGE, "fact": "aesthetic.scores", "at_least": 3.5, "reduce": "min"},
            "duplicates": {"kind": "duplicates", "hashes": "", "embeddings": "clip.embedding"},
        },
    ),
    "off": Preset("nothing is dropped but clips with an error", {}),
}


def keeps_of(preset: str, facts_available: Collection[str]) -> dict[str, dict[str, Any]]:
    """The preset's tables whose facts are all there."""
    keeps = _find(preset).keeps
    return {name: dict(table) for name, table in keeps.items() if not _lacks(table, facts_available)}


def left_out(preset: str, facts_available: Collection[str]) -> list[str]:
    """A line for each keep of the preset whose fact no stage writes."""
    keeps = _find(preset).keeps.items()
    lacking = [(name, lacks[0]) for name, table in keeps if (lacks := _lacks(table, facts_available))]
    return [f"preset {preset!r}: {name} is left out, as no stage of the recipe writes {fact}" for name, fact in lacking]


def merged(preset: str, facts_available: Collection[str], own: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The preset's tables with the recipe's laid over them, setting by setting; one of another kind replaces the whole table.

    A keep that the recipe names is there though its fact is not, so that `decide` says so.
    """
    tables = keeps_of(preset, facts_available)
    for name, table in own.items():
        base = _find(preset).keeps.get(name, {})
        tables[name] = {**base, **table} if table.get("kind", base.get("kind")) == base.get("kind") else dict(table)
    return tables


def _find(preset: str) -> Preset:
    if preset not in PRESETS:
        raise RecipeError(f"preset: no preset {preset!r}{near(preset, PRESETS)}")
    return PRESETS[preset]


def _lacks(table: Mapping[str, Any], facts: Collection[str]) -> list[str]:
    wanted = [table[key] for key in ("fact", "hashes", "embeddings") if table.get(key)]
    return [fact for fact in wanted if fact not in facts]
