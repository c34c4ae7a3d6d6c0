"""Rows that carry wrong captions, hardest first, and a picture that the caption is wrong about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Literal

from ...core.errors import RecipeError
from ..rows import Row
from .nearest import nearest_captions
from .registry import find_rule
from .rules import RULES, Negative, Perturbed, Refused, perturb
from .sentence import normal
from .tagging import Tagger, open_tagger

__all__ = ["Negated", "NegativeSettings", "given_ones", "hardest", "with_negative_images", "with_negatives"]


@dataclass(frozen=True)
class NegativeSettings:
    """What rows are given. rules: hardest first. count: wrong captions a row, fewer where the rules give fewer. key: the draw.

    images: "caption" gives each row the image of the row with the most alike, but different, caption, of another group.
    """

    rules: tuple[str, ...] = RULES
    count: int = 1
    key: int = 0
    images: Literal["none", "caption"] = "none"
    tagger: Literal["auto", "textblob", "rules"] = "auto"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise RecipeError(f"negatives: count is {self.count}, expected 1 or more")
        if not self.rules:
            raise RecipeError("negatives: rules is empty; name one, or leave it out for all")
        for rule in self.rules:
            find_rule(rule)


@dataclass(frozen=True)
class Negated:
    """rows: those with at least one wrong caption. skipped: the others, each with its reason. made: captions by rule.

    refused: by rule and reason. tagger: where tags came from.
    """

    rows: list[Row]
    skipped: list[str]
    made: Counter[str] = field(default_factory=Counter)
    refused: Counter[tuple[str, str]] = field(default_factory=Counter)
    tagger: str = ""


def with_negatives(rows: Sequence[Row], settings: NegativeSettings | None = None, tagger: Tagger | None = None) -> Negated:
    """Rows with texts "negative.1" to "negative.<count>" beside "target", and facts["negative_rules"], their rules in that order.

    Wrong captions that a row brings come first, with the rule "given"; one that equals its caption or another is dropped and
    counted.
    """
    settings = settings or NegativeSettings()
    tagger = tagger or open_tagger(settings.tagger)
    out = Negated([], [], tagger=tagger.name)
    for row in rows:
        caption = row.texts.get("target")
        if caption is None:
            out.skipped.append(f"{row.where or row.id}: no target caption")
            continue
        chosen = _chosen(row, caption, settings, tagger, out)
        if not chosen:
            out.skipped.append(f"{row.where or row.id}: no rule gives a wrong caption of {caption!r:.80}")
            continue
        out.made.update(negative.rule for negative in chosen)
        texts = {name: text for name, text in row.texts.items() if not name.startswith("negative.")}
        texts |= {f"negative.{i}": negative.text for i, negative in enumerate(chosen, 1)}
        facts = {**row.facts, "negative_rules": [negative.rule for negative in chosen]}
        out.rows.append(replace(row, texts=texts, facts=facts))
    if settings.images == "caption":
        given, lacking = with_negative_images(out.rows)
        return replace(out, rows=given, skipped=[*out.skipped, *lacking])
    return out


def _chosen(row: Row, caption: str, settings: NegativeSettings, tagger: Tagger, out: Negated) -> list[Negative]:
    names = [name for name in row.texts if name.startswith("negative.") and name[9:].isdigit()]
    given = given_ones(caption, [row.texts[name] for name in sorted(names, key=lambda name: int(name[9:]))])
    brought = given.negatives
    out.refused.update((refusal.rule, refusal.reason) for refusal in given.refused)
    if len(brought) >= settings.count:
        return list(brought[: settings.count])
    made = perturb(caption, settings.rules, settings.key, tagger)
    out.refused.update((refusal.rule, refusal.reason) for refusal in made.refused)
    known = {normal(negative.text) for negative in brought}
    fresh = [negative for negative in hardest(made) if normal(negative.text) not in known]
    return [*brought, *fresh][: settings.count]


def given_ones(caption: str, texts: Sequence[str]) -> Perturbed:
    """Wrong captions that were there already, by rule "given", without those that equal the caption or one before."""
    own, kept, refused = normal(caption), dict[tuple[str, ...], Negative](), list[Refused]()
    for text in texts:
        plain = normal(text)
        if plain == own or plain in kept:
            refused.append(Refused("given", "equals the caption" if plain == own else "equals another negative"))
        else:
            kept[plain] = Negative(text, "given")
    return Perturbed(tuple(kept.values()), tuple(refused))


def hardest(made: Perturbed) -> list[Negative]:
    """The best of each rule in the order of the rules, then the second of each, and so on: few are of many kinds."""
    by_rule: dict[str, list[Negative]] = {}
    for negative in made.negatives:
        by_rule.setdefault(negative.rule, []).append(negative)
    return [negative for turn in zip_longest(*by_rule.values()) for negative in turn if negative is not None]


def with_negative_images(rows: Sequence[Row], nearest: Sequence[int | None] | None = None) -> tuple[list[Row], list[str]]:
    """Rows with images["negative"], another row's target, and facts["negative_row"], its id; and what was left out, with reasons.

    nearest: whose image each row gets; default by caption.
    """
    if nearest is None:
        nearest = nearest_captions([row.texts.get("target", "") for row in rows], [row.group for row in rows])
    out, lacking = [], []
    for row, index in zip(rows, nearest, strict=True):
        other = None if index is None else rows[index]
        if other is None or "target" not in other.images:
            reason = "no other row is alike and different" if other is None else f"{other.id} has no target image"
            lacking.append(f"{row.where or row.id}: no negative image: {reason}")
            continue
        images = {**row.images, "negative": other.images["target"]}
        out.append(replace(row, images=images, facts={**row.facts, "negative_row": other.id}))
    return out, lacking
