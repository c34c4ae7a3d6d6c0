"""`relatum negatives`: wrong captions of a file of captions, by rules and by a language model; wrong pictures by features."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..atomic import make_folder, needs_disk, write_text
from ..core.errors import DataError, MissingExtra
from ..core.load import near
from ..data.columns import ALONE, STOCK
from ..data.negatives.nearest import nearest_images
from ..data.negatives.rewrites import plain_rewrite, refusal
from ..data.negatives.rows import NegativeSettings, hardest, with_negative_images
from ..data.negatives.rules import Negative, Perturbed, Refused, perturb
from ..data.negatives.sentence import normal
from ..data.negatives.shortcuts import Shortcut, shortcuts
from ..data.negatives.tagging import open_tagger
from ..data.rows import Row
from ..data.tables import read_csv, read_jsonl
from ..metrics.extractors import open_extractor
from ..metrics.safety import wilson
from ..models.rewriter import Template, Writer

__all__ = ["Captioned", "Made", "RewriteCache", "lines_of", "make_negatives", "read_captions", "rewrites", "with_alike_images"]

COLUMNS = (*ALONE["target_caption"], *STOCK["target_caption"])
NONE = 10**9


@dataclass(frozen=True)
class Captioned:
    """One caption. where: file and line. values: the line's other columns. fault: why there is none, empty where there is one."""

    where: str
    caption: str
    values: dict[str, Any] = field(default_factory=dict)
    fault: str = ""


@dataclass(frozen=True)
class Made:
    """What was made of a file of captions. made: captions by rule; refused: by rule and reason; faults: lines without a caption."""

    captions: int
    without: int
    made: Counter[str]
    refused: Counter[tuple[str, str]]
    faults: list[str]
    tagger: str
    report: list[Shortcut]


def read_captions(path: Path, column: str = "") -> list[Captioned]:
    """Lines of .txt (each a caption), .jsonl, .csv or .parquet (column, or the one called text, caption or edited_prompt).

    DataError for a file that cannot be read, of another kind, or without such a column; a line without a text has a fault.
    """
    kind = path.suffix.lower()
    if not path.is_file():
        raise DataError(f"{path}: no such file; give .txt, .jsonl, .csv or .parquet with a column of captions")
    if kind == ".txt":
        return list(_text_lines(path))
    if kind == ".parquet":
        rows = [(f"{path.name}:{i}", values, "") for i, values in enumerate(_parquet(path))]
    elif kind in (".jsonl", ".csv"):
        rows = [(line.where, dict(line.values), line.fault) for line in (read_jsonl if kind == ".jsonl" else read_csv)(path)]
    else:
        raise DataError(
            f"{path}: captions are read from .txt, .jsonl, .csv or .parquet, not from {kind or 'a file without ending'}"
        )
    names = list(dict.fromkeys(name for _, values, _ in rows for name in values))
    found = column or next((name for name in COLUMNS if name in names), "")
    if rows and found not in names and not all(fault for *_, fault in rows):
        wanted = repr(column) if column else "called " + ", ".join(COLUMNS)
        raise DataError(f"{path}: no column {wanted}{near(column, names)}; say which: --column NAME")
    return [_captioned(where, values, fault, found) for where, values, fault in rows]


def _text_lines(path: Path) -> Iterator[Captioned]:
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    for number, line in enumerate(lines, 1):
        yield Captioned(f"{path.name}:{number}", line.strip())


def _parquet(path: Path) -> list[dict[str, Any]]:
    """Its columns of plain values; pictures and the like stay where they are."""
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError:
        raise MissingExtra("pyarrow", "data", "reading parquet") from None
    plain = (pyarrow.types.is_string, pyarrow.types.is_large_string, pyarrow.types.is_integer, pyarrow.types.is_boolean)
    try:
        schema = parquet.read_schema(path)
        names = [column.name for column in schema if any(check(column.type) for check in plain)]
        return parquet.read_table(path, columns=names).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path}: is no parquet file that can be read ({str(error).splitlines()[0]})") from error


def _captioned(where: str, values: dict[str, Any], fault: str, column: str) -> Captioned:
    value = values.pop(column, None)
    if not fault and not isinstance(value, str):
        fault = f"{column} is {'missing' if value is None else type(value).__name__}, expected text"
    caption = value if isinstance(value, str) else ""
    if not fault and any("\ud800" <= c <= "\udfff" for c in caption):
        fault = f"{column} is no valid text (half of a surrogate pair)"
    return Captioned(where, "" if fault else caption, values, fault)


def make_negatives(
    captions: Sequence[Captioned],
    output: Path,
    settings: NegativeSettings | None = None,
    writer: Writer | None = None,
    templates: Sequence[Template] = (),
    report: bool = False,
    ruled: bool = True,
) -> Made:
    """Writes one JSON object a caption: its columns, caption, negative_caption (a list, hardest first), rules, refused.

    Rewrites by `writer`, the rules "rewrite:<template>", come before those of rules; they are kept in "<output>.rewrites.jsonl",
    from which the same command goes on. ruled: whether the rules are used too. DataError where the output cannot be written.
    """
    settings = settings or NegativeSettings(count=NONE)
    tagger = open_tagger(settings.tagger) if ruled else None
    make_folder(output.parent)
    written = _written([line.caption for line in captions], output, writer, templates)
    made, refused, lines, pairs, without = Counter[str](), Counter[tuple[str, str]](), [], [], 0
    for line, first in zip(captions, written, strict=True):
        found = first
        if tagger is not None and not line.fault:
            later = perturb(line.caption, settings.rules, settings.key, tagger)
            known = {normal(negative.text) for negative in first.negatives}
            fresh = [negative for negative in hardest(later) if normal(negative.text) not in known]
            found = Perturbed((*first.negatives, *fresh), first.refused + later.refused)
        chosen = found.negatives[: settings.count]
        made.update(negative.rule for negative in chosen)
        if not line.fault:
            refused.update((refusal.rule, refusal.reason) for refusal in found.refused)
        pairs += [(line.caption, negative.text, negative.rule) for negative in chosen]
        without += not chosen
        lines.append(_line(line, chosen, [Refused("", line.fault)] if line.fault else found.refused))
    write_text(output, "".join(lines))
    faults = [f"{line.where}: {line.fault}" for line in captions if line.fault]
    name = tagger.name if tagger is not None else "none"
    return Made(len(captions), without, made, refused, faults, name, shortcuts(pairs) if report else [])


def _written(texts: Sequence[str], output: Path, writer: Writer | None, templates: Sequence[Template]) -> list[Perturbed]:
    """What the language model makes of each caption, none twice."""
    out = [Perturbed((), ()) for _ in texts]
    if writer is None:
        return out
    cache = RewriteCache(output.with_name(output.name + ".rewrites.jsonl"))
    for template in templates:
        for i, new in enumerate(rewrites(texts, writer, template, cache)):
            known = {normal(negative.text) for negative in out[i].negatives}
            twice = [negative for negative in new.negatives if normal(negative.text) in known]
            again = tuple(Refused(negative.rule, "equals another negative") for negative in twice)
            fresh = () if twice else new.negatives
            out[i] = Perturbed(out[i].negatives + fresh, out[i].refused + new.refused + again)
    return out


def _line(line: Captioned, chosen: Sequence[Negative], refusals: Sequence[Refused]) -> str:
    values = {
        **line.values,
        "caption": line.caption,
        "negative_caption": [negative.text for negative in chosen],
        "rules": [negative.rule for negative in chosen],
        "refused": [{"rule": refusal.rule, "reason": refusal.reason} for refusal in refusals],
    }
    text = json.dumps(values, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # another column holds half of a surrogate pair
        text = json.dumps(values)
    return text + "\n"


class RewriteCache:
    """What a language model wrote, one JSON object a line, appended a batch at a time: a kill loses that batch at most."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, str] = {}
        self._torn = False
        if path.is_file():
            self._read(path.read_bytes())

    def _read(self, data: bytes) -> None:
        self._torn = bool(data) and not data.endswith(b"\n")
        for line in data.splitlines():
            try:
                values = json.loads(line)
                self.texts[values["key"]] = values["text"]
            except (ValueError, KeyError, TypeError):
                continue  # the line that a kill cut

    def add(self, texts: dict[str, str]) -> None:
        """Appends and syncs. DataError where the disk is full."""
        lines = "".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in texts.items())
        with needs_disk(self.path.parent, len(lines)), self.path.open("ab") as file:
            file.write((b"\n" if self._torn else b"") + lines.encode())
            file.flush()
            os.fsync(file.fileno())
        self._torn = False
        self.texts |= texts


def rewrites(captions: Sequence[str], writer: Writer, template: Template, cache: RewriteCache) -> list[Perturbed]:
    """One rewrite or one refusal with its reason a caption, by rule "rewrite:<template>". Empty captions are not asked about.

    Cached by (writer, prompt, caption); captions that are the same are asked once. DataError where the writer gives another number
    of texts than captions.
    """

    def key(caption: str) -> str:
        return hashlib.sha256(json.dumps([writer.fingerprint, template.prompt, caption]).encode()).hexdigest()[:24]

    asked = list(dict.fromkeys(caption for caption in captions if normal(caption) and key(caption) not in cache.texts))
    for i in range(0, len(asked), writer.batch_size):
        batch = asked[i : i + writer.batch_size]
        texts = writer(batch, template)
        if len(texts) != len(batch):
            raise DataError(f"the language model gave {len(texts)} texts for {len(batch)} captions; nothing of this batch is kept")
        cache.add({key(caption): text for caption, text in zip(batch, texts, strict=True)})
    return [_judged(caption, cache.texts.get(key(caption), ""), f"rewrite:{template.name}") for caption in captions]


def _judged(caption: str, text: str, rule: str) -> Perturbed:
    plain = plain_rewrite(text)
    reason = refusal(caption, plain) if normal(caption) else "the caption has no words"
    return Perturbed((), (Refused(rule, reason),)) if reason else Perturbed((Negative(plain, rule),), ())


def with_alike_images(
    rows: Sequence[Row], extractor: str = "clip", size: int = 64, batch_size: int = 64, device: str = "cpu"
) -> tuple[list[Row], list[str]]:
    """Rows with images["negative"]: the most alike target by the extractor's features, of another row, group and caption; and what
    was left out, with reasons. size: edge in pixels at which images are read."""
    opened = open_extractor(extractor, device)
    parts = []
    for i in range(0, len(rows), batch_size):
        batch = rows[i : i + batch_size]
        lacking = next((row for row in batch if "target" not in row.images), None)
        if lacking is not None:
            raise DataError(f"{lacking.where or lacking.id}: no target image, among which the most alike is looked for")
        parts.append(opened.images(torch.stack([row.images["target"].pixels(size) for row in batch])).cpu())
    if not parts:
        return [], []
    captions = [row.texts.get("target", row.id) for row in rows]
    return with_negative_images(rows, nearest_images(torch.cat(parts).numpy(), captions, [row.group for row in rows]))


def lines_of(made: Made) -> list[str]:
    """What the command says: counts, refusals, tagger, and what gives the negatives away."""
    total = sum(made.made.values())
    out = [f"{total} wrong captions of {made.captions} captions; {made.without} captions have none; tags: {made.tagger}"]
    out += [f"  {rule}: {count}" for rule, count in made.made.items()]
    out += [f"  refused, {rule}: {reason}: {count}" for (rule, reason), count in made.refused.most_common()]
    out += [f"  no caption: {fault}" for fault in made.faults[:20]]
    if len(made.faults) > 20:
        out.append(f"  no caption: {len(made.faults) - 20} more lines")
    if made.report:
        out.append("shortcuts: how often text alone picks the caption (0.50 is chance; the closer, the less is given away)")
    return out + [_told(one) for one in made.report]


def _told(one: Shortcut) -> str:
    low, high = wilson(one.bigram * one.captions, one.captions)
    return (
        f"  {one.rule}: {one.pairs} pairs of {one.captions} captions, more probable bigrams {one.bigram:.3f} "
        f"[{low:.3f}, {high:.3f}], unigrams {one.unigram:.3f}, shorter {one.shorter:.3f} ({one.words:+.2f} words), "
        f"broken articles {one.articles:.3f} (captions {one.captions_articles:.3f})"
    )
