"""A small CLIP tokenizer, trained in code: byte-level pairs (Sennrich et al. 2016) in the format of transformers' CLIPTokenizer.

Every byte is a token of its own, so any text encodes; the words it was trained on become one token each while the vocabulary lasts.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

__all__ = ["build_tokenizer", "load_tokenizer", "plain_vocabulary", "save_tokenizer", "words_of"]

START, END = "<|startoftext|>", "<|endoftext|>"
_WORD_END = "</w>"
_PIECES = re.compile(r"[^\W\d_]+|\d|[^\s\w]+|_+")  # as CLIP splits: runs of letters, single digits, runs of other signs


def words_of(texts: Iterable[str]) -> Counter[str]:
    """How often each word occurs, in lower case."""
    return Counter(word for text in texts for word in _PIECES.findall(text.lower()))


def build_tokenizer(word_lists: Sequence[Iterable[str]], vocabulary: int, length: int) -> Any:
    """A CLIPTokenizer of at most `vocabulary` tokens, padding and cutting to `length`.

    word_lists: texts in order of importance. Each list is merged down to whole words before the next gets what is left.
    """
    signs = list(_byte_signs().values())
    tokens = signs + [sign + _WORD_END for sign in signs]
    merges: list[tuple[str, str]] = []
    room = vocabulary - len(tokens) - 2
    for texts in word_lists:
        merges += _train(words_of(texts), merges, room - len(merges))
    tokens += ["".join(pair) for pair in merges]
    table = {token: i for i, token in enumerate([*dict.fromkeys(tokens), START, END])}
    return _tokenizer(table, merges, length)


def save_tokenizer(tokenizer: Any, folder: Path) -> None:
    """Writes `tokenizer.json` with its settings, and the plain vocabulary."""
    tokenizer.save_pretrained(folder)
    plain_vocabulary(tokenizer, folder)


def plain_vocabulary(tokenizer: Any, folder: Path) -> None:
    """vocab.json and merges.txt beside tokenizer.json: transformers 5 writes the latter alone, transformers 4 wants the former."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False) + "\n", encoding="utf-8")
    lines = ["#version: 0.2", *(pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"])]
    (folder / "merges.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def load_tokenizer(folder: Path) -> Any:
    """The CLIPTokenizer of a folder."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(folder)


def _tokenizer(table: dict[str, int], merges: list[tuple[str, str]], length: int) -> Any:
    from transformers import CLIPTokenizer

    cls: Any = CLIPTokenizer
    return cls(vocab=table, merges=merges, bos_token=START, eos_token=END, unk_token=END, pad_token=END, model_max_length=length)


def _byte_signs() -> dict[int, str]:
    """A printable character for each of the 256 bytes (GPT-2's table, which CLIP uses)."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(hidden)}


def _train(words: Counter[str], known: list[tuple[str, str]], room: int) -> list[tuple[str, str]]:
    """The merges that join `words`, most frequent pair first, ties by spelling; at most `room` of them beside those `known`."""
    signs = _byte_signs()
    split = {word: [signs[b] for b in word.encode()] for word in words}
    for pieces in split.values():
        pieces[-1] += _WORD_END
    for pair in known:
        for word, pieces in split.items():
            split[word] = _join(pieces, pair)
    merges: list[tuple[str, str]] = []
    seen = {"".join(pair) for pair in known}
    while len(merges) < room:
        counts: Counter[tuple[str, str]] = Counter()
        for word, pieces in split.items():
            for pair in itertools.pairwise(pieces):
                counts[pair] += words[word]
        fresh = [pair for pair in counts if "".join(pair) not in seen]
        if not fresh:
            break
        best = max(fresh, key=lambda pair: (counts[pair], pair))
        merges.append(best)
        seen.add("".join(best))
        split = {word: _join(pieces, best) for word, pieces in split.items()}
    return merges


def _join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out
