"""`relatum negatives`: wrong captions of a file of captions, by rules and by a language model; wrong pictures by features."""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ..atomic import make_folder, needs_disk, write_text
from ..core.errors import DataError, RecipeError
from ..data.negatives.captions import GIVEN, Captioned, given_of, json_line
from ..data.negatives.nearest import nearest_images
from ..data.negatives.rewrites import plain_rewrite, refusal
from ..data.negatives.rows import NegativeSettings, hardest, with_negative_images
from ..data.negatives.rules import Negative, Perturbed, Refused, perturb
from ..data.negatives.sentence import normal
from ..data.negatives.shortcuts import Shortcut, shortcuts
from ..data.negatives.tagging import open_tagger
from ..data.rows import Row
from ..metrics.safety import wilson
from ..pretrained import open_extractor
from ..pretrained.rewriter import Template, Writer

__all__ = ["Made", "RewriteCache", "check_output", "lines_of", "make_negatives", "rewrites", "with_alike_images"]

NONE = 10**9


@dataclass(frozen=True)
class Made:
    """What was made of a file of captions. made: captions by rule; refused: by rule and reason; faults: lines without a caption;
    lost: columns that JSON cannot hold; cut: kept rewrites that a kill had cut."""

    captions: int
    without: int
    made: Counter[str]
    refused: Counter[tuple[str, str]]
    faults: list[str]
    tagger: str
    report: list[Shortcut]
    lost: list[str] = field(default_factory=list)
    cut: int = 0


def check_output(captions: Path, output: Path) -> None:
    """RecipeError unless the output is a .jsonl, and neither it nor its kept rewrites are the file of captions, even by a link."""
    if output.suffix.lower() != ".jsonl":
        raise RecipeError(f"{output}: wrong captions are written as lines of JSON; give an output that ends with .jsonl")
    for path in (output, _kept(output)):
        if path.exists() and captions.exists() and path.samefile(captions):
            raise RecipeError(f"{path} is the file of captions itself, which would be lost; choose another output")


def _kept(output: Path) -> Path:
    return output.with_name(output.name + ".rewrites.jsonl")


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

    First those that the line brings ("given"), then rewrites by `writer` ("rewrite:<template>"), then those of rules; `count` is of
    all. Rewrites are kept in "<output>.rewrites.jsonl", from which the same command goes on. The line's own columns of these names
    are called input_caption and so on. ruled: whether the rules are used too. DataError where the output cannot be written.
    """
    settings = settings or NegativeSettings(count=NONE)
    tagger = open_tagger(settings.tagger) if ruled else None
    make_folder(output.parent)
    cache = RewriteCache(_kept(output)) if writer is not None else None
    texts = [line.caption for line in captions]
    written = [rewrites(texts, writer, template, cache) for template in templates] if writer and cache else []
    made, refused, lines, pairs, without = Counter[str](), Counter[tuple[str, str]](), [], [], 0
    for i, line in enumerate(captions):
        found = Perturbed((), (Refused("", line.fault),))
        if not line.fault:
            parts = [given_of(line), *(one[i] for one in written)]
            if tagger is not None:
                later = perturb(line.caption, settings.rules, settings.key, tagger)
                parts.append(Perturbed(tuple(hardest(later)), later.refused))
            found = _joined(parts)
            refused.update((refusal.rule, refusal.reason) for refusal in found.refused)
        chosen = found.negatives[: settings.count]
        made.update(negative.rule for negative in chosen)
        pairs += [(line.caption, negative.text, negative.rule) for negative in chosen]
        without += not chosen
        lines.append(_line(line, chosen, found.refused))
    write_text(output, "".join(lines))
    faults = [f"{line.where}: {line.fault}" for line in captions if line.fault]
    lost = list(dict.fromkeys(name for line in captions for name in line.lost))
    name = tagger.name if tagger is not None else "none"
    told = shortcuts(pairs) if report else []
    return Made(len(captions), without, made, refused, faults, name, told, lost, cache.cut if cache else 0)


def _joined(parts: Sequence[Perturbed]) -> Perturbed:
    """All of them in turn, none twice."""
    kept, refused = dict[tuple[str, ...], Negative](), list[Refused]()
    for part in parts:
        for negative in part.negatives:
            if kept.setdefault(normal(negative.text), negative) is not negative:
                refused.append(Refused(negative.rule, "equals another negative"))
        refused += part.refused
    return Perturbed(tuple(kept.values()), tuple(refused))


def _line(line: Captioned, chosen: Sequence[Negative], refusals: Sequence[Refused]) -> str:
    own = {
        "caption": line.caption,
        "negative_caption": [negative.text for negative in chosen],
        "rules": [negative.rule for negative in chosen],
        "refused": [{"rule": refusal.rule, "reason": refusal.reason} for refusal in refusals],
    }
    values = {}
    for name, value in line.values.items():
        new = name
        while new in own or (new != name and new in line.values):
            new = f"input_{new}"
        if name not in GIVEN:  # they are among the chosen and the refused
            values[new] = value
    return json_line({**values, **own})


class RewriteCache:
    """What a language model wrote, one JSON object a line, appended a batch at a time: a kill loses that batch at most."""

    def __init__(self, path: Path) -> None:
        """DataError, with its place, for a line that is none of these; the last may be cut, which `cut` counts, and is dropped."""
        self.path = path
        self.texts: dict[str, str] = {}
        self.cut = 0
        self._whole = 0  # bytes of whole lines
        if path.is_file():
            self._read(path.read_bytes())

    def _read(self, data: bytes) -> None:
        *lines, last = data.split(b"\n")
        for number, line in enumerate(lines, 1):
            key, text = _entry(line, f"{self.path}:{number}")
            self.texts[key] = text
        if not (last.startswith(_BEGINS) or _BEGINS.startswith(last)):
            _entry(last, f"{self.path}:{len(lines) + 1}")
        self.cut, self._whole = int(bool(last)), len(data) - len(last)

    def add(self, texts: dict[str, str]) -> None:
        """Appends and syncs. DataError where the disk is full."""
        lines = "".join(json.dumps({"key": key, "text": text}) + "\n" for key, text in texts.items()).encode()
        with needs_disk(self.path.parent, len(lines)), self.path.open("ab") as file:
            file.truncate(self._whole)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
        self._whole += len(lines)
        self.texts |= texts


_BEGINS = b'{"key": "'


def _entry(line: bytes, where: str) -> tuple[str, str]:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        values = None
    key, text = (values.get("key"), values.get("text")) if isinstance(values, dict) else (None, None)
    if not isinstance(key, str) or not isinstance(text, str):
        raise DataError(f"{where}: is no kept rewrite, expected key and text; correct or delete the line, or choose another output")
    return key, text


def rewrites(captions: Sequence[str], writer: Writer, template: Template, cache: RewriteCache) -> list[Perturbed]:
    """One rewrite or one refusal with its reason a caption, by rule "rewrite:<template>". Empty captions are not asked about.

    Cached by (writer, prompt, caption); captions that are the same are asked once. DataError where the writer gives another number
    of texts than captions.
    """

    def key(caption: str) -> str:
        return hashlib.sha256(json.dumps([writer.fingerprint, template.prompt, caption]).encode()).hexdigest()[:24]

    asked = list(dict.fromkeys(caption for caption in captions if normal(caption) and key(caption) not in cache.texts))
    unread = set[str]()
    for i in range(0, len(asked), writer.batch_size):
        batch = asked[i : i + writer.batch_size]
        texts = writer(batch, template)
        if len(texts) != len(batch):
            raise DataError(f"the language model gave {len(texts)} texts for {len(batch)} captions; nothing of this batch is kept")
        unread |= {caption for caption, text in zip(batch, texts, strict=True) if text is None}
        cache.add({key(caption): text for caption, text in zip(batch, texts, strict=True) if text is not None})
    rule = f"rewrite:{template.name}"
    long = Perturbed((), (Refused(rule, "longer than the model reads"),))
    return [long if caption in unread else _judged(caption, cache.texts.get(key(caption), ""), rule) for caption in captions]


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
    out += [f"  not kept: {name}: JSON holds no bytes" for name in made.lost]
    if made.cut:
        out.append(f"  kept rewrites: {made.cut} was cut and is made again")
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
