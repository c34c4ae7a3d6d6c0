"""A language model that rewrites captions: any causal model of transformers, by path or hub id, with prompts as templates."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch

from ..core.draws import key_of
from ..core.errors import DataError, RecipeError
from ..core.fingerprint import fingerprint_of
from ..core.load import near
from .loading import check_words, load_pretrained

__all__ = ["TEMPLATES", "Decoding", "Rewriter", "Template", "Writer", "find_template", "open_rewriter"]


@dataclass(frozen=True)
class Template:
    """prompt: what the model reads, with {caption} where the caption goes. A chat model gets it as one message of the user."""

    name: str
    prompt: str

    def __post_init__(self) -> None:
        if "{caption}" not in self.prompt:
            raise RecipeError(f"template {self.name!r}: the prompt has no {{caption}}, so the model would not see the caption")

    def fill(self, caption: str) -> str:
        return self.prompt.replace("{caption}", caption)


_FRAME = """\
You are given a caption of a picture. Write one wrong caption for the same picture: {change} Keep all other words, the length and
the style. It must be fluent English and false of the picture. Answer with the wrong caption alone, on one line.

Caption: {example}
Wrong caption: {wrong}

Caption: {caption}
Wrong caption:"""


def _shipped(name: str, change: str, example: str, wrong: str) -> Template:
    prompt = _FRAME.replace("{change}", change).replace("{example}", example).replace("{wrong}", wrong)
    return Template(name, prompt)


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        _shipped(
            "attribute",
            "change which thing has which attribute (color, size, material, state), or change one attribute.",
            "A black dog sleeps beside a white chair.",
            "A white dog sleeps beside a black chair.",
        ),
        _shipped(
            "relation",
            "change how the things stand to each other, or who does what to whom.",
            "A cup stands on a closed book.",
            "A closed book stands on a cup.",
        ),
        _shipped(
            "object",
            "replace one thing by another that could well be in its place.",
            "A man rides a horse along the beach.",
            "A man rides a camel along the beach.",
        ),
        _shipped(
            "confusing",
            "make it as easy to confuse with the true caption as you can.",
            "Two girls in red coats feed a goat.",
            "Two girls feed a goat in a red coat.",
        ),
    )
}


def find_template(name: str) -> Template:
    """A shipped template, or one in a text file with {caption} in it. RecipeError where there is neither, or no UTF-8."""
    if name in TEMPLATES:
        return TEMPLATES[name]
    path = Path(name)
    if path.is_file():
        try:
            return Template(path.stem, path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError as error:
            raise RecipeError(f"template {name}: is not UTF-8 ({error.reason} at byte {error.start})") from error
    raise RecipeError(f"template: no {name!r}, and no such file{near(name, TEMPLATES)}")


@dataclass(frozen=True)
class Decoding:
    """tokens: at most so many new ones. temperature: 0 takes the most probable token; above, draws keyed by seed and caption, one
    caption at a time, so that a caption's rewrite depends on no other. batch_size: captions at once, where nothing is drawn."""

    tokens: int = 64
    temperature: float = 0.0
    seed: int = 0
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.tokens < 1 or self.batch_size < 1 or not 0 <= self.temperature < math.inf:
            raise RecipeError(f"rewriting: {self}: expected tokens and batch_size of 1 or more, and a finite temperature from 0 on")

    @property
    def words(self) -> str:
        """What identifies the rewrite of a caption, for caches."""
        drawn = f" temperature {self.temperature:g} seed {self.seed}" if self.temperature else ""
        return f"tokens {self.tokens}{drawn}"


@runtime_checkable
class Writer(Protocol):
    """What writes: fingerprint identifies it and how it decodes; a call gives one text a caption, as the model wrote it,
    or None where prompt and answer are longer than it reads."""

    @property
    def fingerprint(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    def __call__(self, captions: Sequence[str], template: Template) -> Sequence[str | None]: ...


class Rewriter:
    """A causal language model with its tokenizer, frozen. With a chat template it is asked in a chat, and its whole answer counts;
    without one it continues the prompt, and the first line counts."""

    def __init__(self, model: Any, tokenizer: Any, decoding: Decoding | None = None) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.decoding = decoding or Decoding()
        self.chat = bool(getattr(tokenizer, "chat_template", None))
        self._weights: str | None = None

    @property
    def batch_size(self) -> int:
        return self.decoding.batch_size

    @property
    def fingerprint(self) -> str:
        """Hash of configuration, weights, tokenizer, chat template and decoding."""
        if self._weights is None:
            config = {k: v for k, v in self.model.config.to_dict().items() if k not in ("_name_or_path", "transformers_version")}
            self._weights = fingerprint_of(config, self.model)
        chat = str(getattr(self.tokenizer, "chat_template", ""))
        about = json.dumps([self._weights, len(self.tokenizer), chat, self.decoding.words])
        return hashlib.sha256(about.encode()).hexdigest()[:16]

    def __call__(self, captions: Sequence[str], template: Template) -> list[str | None]:
        prompts = [self._prompt(caption, template) for caption in captions]
        fits = [i for i, prompt in enumerate(prompts) if self._fits(prompt)]
        size = 1 if self.decoding.temperature else self.decoding.batch_size
        texts: list[str | None] = [None] * len(prompts)
        for begin in range(0, len(fits), size):
            some = fits[begin : begin + size]
            for i, text in zip(some, self._answer([prompts[i] for i in some], captions[some[0]]), strict=True):
                texts[i] = text if self.chat else _first_line(text)
        return texts

    def _fits(self, prompt: str) -> bool:
        """Whether prompt and answer are within the model's positions. DataError for tokens that it does not know."""
        words = self.tokenizer(prompt, add_special_tokens=not self.chat)["input_ids"]
        known = self.model.get_input_embeddings().weight.shape[0]
        if not words or max(words) >= known:
            raise DataError(f"the tokenizer gives {'no tokens' if not words else max(words)}; the model knows 0 to {known - 1}")
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        return most is None or len(words) + self.decoding.tokens <= most

    def _prompt(self, caption: str, template: Template) -> str:
        for token in self.tokenizer.all_special_tokens:
            caption = caption.replace(token, " ")  # a caption cannot end its message
        prompt = template.fill(caption)
        if not self.chat:
            return prompt
        messages = [{"role": "user", "content": prompt}]
        try:
            return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        except Exception as error:  # whatever the model's own template does
            raise DataError(f"the model's chat template does not take one message of a user ({error})") from error

    @torch.no_grad()
    def _answer(self, prompts: Sequence[str], caption: str) -> list[str]:
        tokenizer, decoding = self.tokenizer, self.decoding
        tokenizer.padding_side = "left"
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        device = next(self.model.parameters()).device
        words = tokenizer(list(prompts), return_tensors="pt", padding=True, add_special_tokens=not self.chat).to(device)
        drawn = {"do_sample": True, "temperature": decoding.temperature, "top_k": 0, "top_p": 1.0} if decoding.temperature else {}
        greedy = {} if drawn else {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(key_of(decoding.seed, caption))
            try:
                out = self.model.generate(
                    input_ids=words["input_ids"],
                    attention_mask=words["attention_mask"],
                    max_new_tokens=decoding.tokens,
                    pad_token_id=tokenizer.pad_token_id,
                    **drawn,
                    **greedy,
                )
            except RuntimeError as error:
                if "probability tensor" not in str(error):
                    raise
                raise DataError(
                    f"the language model's probabilities are no numbers at temperature {decoding.temperature:g}; raise it, or use "
                    "another model"
                ) from error
        return tokenizer.batch_decode(out[:, words["input_ids"].shape[1] :], skip_special_tokens=True)


def open_rewriter(name: str, decoding: Decoding | None = None, device: torch.device | str = "cpu") -> Rewriter:
    """The model in a folder or of a hub id ("@revision" allowed). DataError where it cannot be loaded, or knows no words."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = load_pretrained(name, "causal language model", AutoTokenizer, AutoModelForCausalLM)
    check_words(name, tokenizer)
    return Rewriter(model.to(device), tokenizer, decoding)


def _first_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.strip()), "")
