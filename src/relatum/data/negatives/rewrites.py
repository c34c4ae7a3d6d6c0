"""What a language model wrote, made plain or refused with a reason."""

from __future__ import annotations

import re
import unicodedata

from .sentence import normal
from .words import CLOSED

__all__ = ["plain_rewrite", "refusal"]

LONGEST = 30  # letters of a word
_LABEL = re.compile(r"^(?:(?:wrong|new|rewritten|changed|false)\s+)?caption\s*:\s*", re.IGNORECASE)
_TALK = re.compile(
    r"^(?:sure|certainly|of course|okay|here(?:'s| is| are)|i (?:cannot|can't|am|'m|will)|i'm|sorry|as an? (?:ai|language)|note:)",
    re.IGNORECASE,
)
_QUOTES = "\"'“”‘’`"


def plain_rewrite(text: str) -> str:
    """Without the label, quotes and white space around it."""
    text = _LABEL.sub("", text.strip())
    if len(text) > 1 and text[0] in _QUOTES and text[-1] in _QUOTES:
        text = text[1:-1].strip()
    return text


def refusal(caption: str, rewrite: str) -> str:
    """Why a plain rewrite is no wrong caption of this one; empty where it may be."""
    words, own = normal(rewrite), normal(caption)
    if not rewrite.strip():
        return "empty"
    if len(rewrite.splitlines()) > 1:
        return "several lines"
    if not words or "\ufffd" in rewrite or any(unicodedata.category(c) in ("Cc", "Cs", "Co", "Cn") for c in rewrite):
        return "nonsense: no words, or broken characters"
    if max(map(len, words)) > max(LONGEST, *map(len, own), 0) or _stutters(words):
        return "nonsense: an endless or repeated word"
    if words == own:
        return "equals the caption"
    if _TALK.match(rewrite) and not _TALK.match(caption):
        return "speaks of the task"
    if len(words) > 2 * len(own) + 4:
        return "far too long"
    if 2 * len(words) < len(own) - 1:
        return "far too short"
    if not _scripts(rewrite) <= _scripts(caption) and _scripts(caption):
        return "another script"
    if not (_content(words) & _content(own) or not _content(own)):
        return "no word of the caption"
    return ""


def _stutters(words: tuple[str, ...]) -> bool:
    """One word, or one pair of words, four times in a row."""
    return any(words[i : i + size] * 4 == words[i : i + 4 * size] for size in (1, 2) for i in range(len(words) - 4 * size + 1))


def _scripts(text: str) -> set[str]:
    """First words of the Unicode names of its letters: LATIN, CYRILLIC, CJK."""
    return {unicodedata.name(c, "?").split()[0] for c in text if c.isalpha()}


def _content(words: tuple[str, ...]) -> set[str]:
    return {word for word in words if word not in CLOSED}
