"""What models write about clips, made into captions: their turns of phrase cut off; what is no caption is refused with a reason."""

from __future__ import annotations

import re
import unicodedata

from .base import Facts

__all__ = ["caption_facts", "clean", "fault_of", "loops", "merge"]

_THING = (
    r"(?:(?:short |brief |first |whole |given )*(?:video|image|picture|photo|photograph|clip|footage|frame|still|screenshot)s?"
    r"(?: (?:clip|frame|sequence))?)"
)
_SHOWS = r"(?:(?:show|depict|feature|capture|display|present|portray|contain|describe)(?:s|ing)?|is showing|(?:is )?(?:of|about))"
_ANSWER = (
    r"(?:sure|certainly|of course|okay|ok)\b[,.!:]*|here(?:'s| is| are)\b[^:.\n]{0,60}:"
    r"|(?:short )?(?:caption|description|summary|answer|sentence|assistant)\s*:"
)
_PREFIX = re.compile(
    rf"(?:{_ANSWER}|(?:(?:the|this|these|a|an) )?{_THING} {_SHOWS}(?: us)?(?: that)?(?=\W)|in (?:the|this|these) {_THING}\s*,?"
    rf"(?: (?:we|you|one) (?:can )?sees?\b| there (?:is|are)\b)?|(?:we|you) (?:can )?see\b)\s*",
    re.IGNORECASE,
)
_ARAF = re.compile(r"\b(?:(an?) )?araf+(?:e|y)?(?:d|s|ed|ied)?\b\s*(\w?)", re.IGNORECASE)  # BLIP has it from nowhere: "arafed dog"
_MARKS = re.compile(r"<\|?/?[a-zA-Z_0-9 ]{1,30}\|?>|\[(?:UNK|PAD|CLS|SEP|MASK|DEC|ENC|INST|/INST)\]")
_WORDS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+(?:['’]\w+)?")


def clean(text: str) -> str:
    """The caption in what a model wrote: one line, without control and special tokens, quotes around it, and "this video shows".

    >>> clean("Sure! Here is a caption: \\"This video shows an arafed dog.\\"")
    'a dog.'
    """
    text = "".join(" " if unicodedata.category(letter).startswith("C") else letter for letter in unicodedata.normalize("NFC", text))
    text = _ARAF.sub(_without, _MARKS.sub(" ", text))
    while True:
        before, text = text, _unquoted(" ".join(text.split()))
        if match := _PREFIX.match(text):
            text = text[match.end() :].lstrip(" ,:-")
        if text == before:
            return text


def _without(found: re.Match[str]) -> str:
    article, letter = found.groups()
    return letter if not article else f"{article[0]}{'n' if letter.lower() in 'aeiou' else ''} {letter}"


def _unquoted(text: str) -> str:
    pairs = (('"', '"'), ("'", "'"), ("“", "”"), ("*", "*"), ("`", "`"))
    for first, last in pairs:
        if len(text) > 1 and text[0] == first and text[-1] == last and first not in text[1:-1]:
            return text[1:-1].strip()
    return text


def loops(text: str) -> str:
    """The words that a model could not leave, empty if there are none: one word four times in a row, up to twelve words three
    times in a row, or, of eight runs of four words and more, fewer than half different.

    >>> loops("a cat and a dog and a dog and a dog and")
    'and a dog'
    >>> loops("a very very very small dog")
    ''
    """
    words = [word.casefold() for word in _WORDS.findall(text)]
    for size in range(1, 13):
        again = 3 if size == 1 else 2
        run = 0
        for i in range(size, len(words)):
            run = run + 1 if words[i] == words[i - size] else 0
            if run >= again * size:
                return " ".join(words[i - run + 1 - size : i - run + 1])
    fours = [tuple(words[i : i + 4]) for i in range(len(words) - 3)]
    return " ".join(max(fours, key=fours.count)) if len(fours) >= 8 and 2 * len(set(fours)) < len(fours) else ""


def fault_of(text: str, most: int) -> str:
    """Why a cleaned text is no caption, or "". most: words."""
    words = _WORDS.findall(text)
    if not words:
        return "empty"
    if len(words) > most:
        return f"long: {len(words)} words, at most {most} are taken"
    if again := loops(text):
        return f"loop: {again!r} over and over"
    return ""


def caption_facts(text: str | None, most: int, fault: str = "") -> Facts:
    """ "text" of a caption look, and "text_fault" where there is none."""
    cleaned = clean(text or "")
    fault = fault or fault_of(cleaned, most)
    return {"text": None if fault else cleaned, "text_fault": fault or None}


def merge(image: str, video: str) -> str:
    """Both as sentences one after the other; one alone that has all the words of the other.

    >>> merge("a dog on the grass", "a dog runs to the left.")
    'A dog on the grass. A dog runs to the left.'
    >>> merge("a dog", "a brown dog runs")
    'A brown dog runs.'
    """
    image, video = (text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", "。")) else ".") for text in (image, video))
    words, more = ({word.casefold() for word in _WORDS.findall(text)} for text in (image, video))
    return video if words <= more else image if more < words else f"{image} {video}"
