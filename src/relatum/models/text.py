"""The text encoder: CLIP's text model with its tokenizer, from words to the states that cross-attention reads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from ..core.fingerprint import fingerprint_of
from ..core.shapes import NullTokens, Tokens

__all__ = ["TextEncoder"]


_BOOKKEEPING = ("_name_or_path", "architectures", "dtype", "transformers_version")  # written by saving, without effect


class TextEncoder:
    """A frozen CLIPTextModel. Texts are padded and cut to the tokenizer's `model_max_length`, as diffusers' pipelines do.

    Never gives a gradient; returns float32 whatever its own precision. batch: texts that go through the network at once.
    """

    def __init__(self, tokenizer: Any, encoder: nn.Module, batch: int = 64) -> None:
        self.tokenizer = tokenizer
        self.encoder = encoder.eval().requires_grad_(False)
        self.batch = batch
        self.length = int(tokenizer.model_max_length)
        self._fingerprint: str | None = None
        self._null: NullTokens | None = None

    @property
    def fingerprint(self) -> str:
        """Identifies configuration, weights and tokenizer: the key of everything that is cached from this encoder."""
        if self._fingerprint is None:
            config: Any = self.encoder.config
            about = {key: value for key, value in config.to_dict().items() if key not in _BOOKKEEPING}
            rules = json.loads(self.tokenizer.backend_tokenizer.to_str())
            rules = {
                key: value for key, value in rules.items() if key not in ("padding", "truncation")
            }  # the last call's, not its own
            words = [self.length, self.tokenizer.pad_token_id, rules]
            self._fingerprint = fingerprint_of({"encoder": about, "tokenizer": words}, self.encoder)
        return self._fingerprint

    @property
    def null(self) -> NullTokens:
        """States of the empty prompt, (1 n d)."""
        if self._null is None:
            self._null = self.encode([""])
        return self._null

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> Tokens:
        """States (b n d) after the last layer and its norm: the `prompt_embeds` of diffusers' pipelines."""
        first = next(self.encoder.parameters())
        masked = getattr(self.encoder.config, "use_attention_mask", False)
        parts = []
        for start in range(0, len(texts), self.batch):
            words = self._tokenize(texts[start : start + self.batch], padding="max_length", truncation=True, max_length=self.length)
            mask = words.attention_mask.to(first.device) if masked else None
            parts.append(self.encoder(words.input_ids.to(first.device), attention_mask=mask)[0].float())
        if not parts:
            raise ValueError("no text to encode")
        return torch.cat(parts)

    def cut(self, texts: Sequence[str]) -> list[int]:
        """Indices of the texts that are too long, whose ends the encoder will not see."""
        lengths = [len(self.tokenizer(text).input_ids) for text in texts]
        return [i for i, length in enumerate(lengths) if length > self.length]

    def to(self, device: torch.device | str) -> TextEncoder:
        """Moves the network; returns itself."""
        self.encoder.to(device)
        self._null = None
        return self

    def _tokenize(self, texts: Sequence[str], **settings: Any) -> Any:
        return self.tokenizer(list(texts), return_tensors="pt", **settings)
