"""The model card: README.md of a run folder, as model hubs read it. Every word of the user's is escaped."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..atomic import write_text

__all__ = ["Card", "CardMetric", "model_card", "write_card"]


@dataclass(frozen=True)
class CardMetric:
    """A line of the card's table. low, high: the 95 % interval where there is one. n: samples."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Card:
    """What the card says. base_model: hub id, path or "relatum:..." name. objectives: settings by term. settings: of [train]."""

    name: str
    task: str
    base_model: str
    data: str
    objectives: Mapping[str, Mapping[str, Any]]
    settings: Mapping[str, Any] = field(default_factory=dict)
    metrics: Sequence[CardMetric] = ()
    warnings: Sequence[str] = ()
    samples_seen: int | None = None
    license: str | None = None


PIPELINE_TAGS = {"edit": "image-to-image", "image": "text-to-image"}


def write_card(folder: Path, card: Card) -> Path:
    """Writes `folder/README.md`; gives its path."""
    write_text(folder / "README.md", model_card(card))
    return folder / "README.md"


def model_card(card: Card) -> str:
    """The card as Markdown with YAML front matter."""
    lines = [*_front_matter(card), "", f"# {_escape(card.name)}", ""]
    lines += [f"Task: {_escape(card.task)}. Base model: {_escape(_shown(card.base_model))}. Data: {_escape(card.data)}."]
    if card.samples_seen is not None:
        lines += ["", f"Trained on {card.samples_seen:,} samples (rows seen, with repetition)."]
    if card.metrics:
        lines += ["", "## Results", "", "| metric | value | 95 % interval | n |", "|---|---|---|---|"]
        lines += [_metric(metric) for metric in card.metrics]
    else:
        lines += ["", "## Results", "", "Not evaluated."]
    if card.warnings:
        lines += ["", "## Warnings", "", *(f"* {_escape(warning)}" for warning in card.warnings)]
    lines += ["", "## Objectives", "", "| term | settings |", "|---|---|"]
    lines += [f"| {_escape(name)} | {_escape(_words(table))} |" for name, table in card.objectives.items()]
    if card.settings:
        lines += ["", "## Settings", "", "| setting | value |", "|---|---|"]
        lines += [f"| {_escape(name)} | {_escape(_value(value))} |" for name, value in card.settings.items()]
    return "\n".join(lines) + "\n"


def _front_matter(card: Card) -> list[str]:
    """YAML between its lines; JSON strings are YAML strings whatever they hold."""
    about: dict[str, Any] = {"library_name": "diffusers", "tags": ["relatum", card.task]}
    if card.task in PIPELINE_TAGS:
        about["pipeline_tag"] = PIPELINE_TAGS[card.task]
    if card.license:
        about["license"] = card.license
    if re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", card.base_model):  # a hub id; hubs refuse anything else here
        about["base_model"] = card.base_model
    return ["---", *(f"{key}: {json.dumps(value)}" for key, value in about.items()), "---"]


def _metric(metric: CardMetric) -> str:
    interval = "" if metric.low is None or metric.high is None else f"{metric.low:.4g} to {metric.high:.4g}"
    return f"| {_escape(metric.name)} | {metric.value:.4g} | {interval} | {'' if metric.n is None else metric.n} |"


def _shown(model: str) -> str:
    """A path's last part: folders of the machine do not belong on a card."""
    return Path(model).name if Path(model).is_absolute() or model.startswith((".", "~")) else model


def _words(table: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {_value(value)}" for key, value in table.items())


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _shown(value)
    return json.dumps(value, default=str)


def _escape(text: str) -> str:
    """Text that Markdown and HTML show as it is, on one line, also in a table's cell."""
    one_line = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]()#+!|~$])", r"\\\1", one_line)
