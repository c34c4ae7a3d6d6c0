"""Models that write a caption of one picture, or of several of one clip: any image-text-to-text model of transformers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..core.errors import DataError, RecipeError
from ..core.fingerprint import fingerprint_of
from .loading import check_words, load_pretrained

__all__ = ["CHAT_PROMPT", "Captioner", "open_captioner", "whole_sentences"]

CHAT_PROMPT = {
    False: "Describe this picture in one sentence.",
    True: "These are frames of one short video, in order. Describe in one sentence what it shows and what happens.",
}
UNSAID = ("_name_or_path", "transformers_version", "dtype")


class Captioner:
    """A frozen captioner and its processor. Greedy: the most probable word each time.

    A model with a chat template is asked with `prompt`, and is shown any number of pictures. One without continues `prompt`
    (which may be empty, and is no part of the caption) from one picture; one of the kind of GIT-video from as many frames as it was
    made for, spread over those that it is given.
    """

    def __init__(self, model: Any, processor: Any, name: str, prompt: str = "", tokens: int = 64) -> None:
        if tokens < 1:
            raise RecipeError(f"captions of {tokens} tokens, expected 1 or more")
        self.model = model.eval().requires_grad_(False)
        self.processor, self.name, self.prompt, self.tokens = processor, name, prompt, tokens
        self.chat = bool(getattr(processor, "chat_template", None))
        self.frames: int = getattr(model.config, "num_image_with_embedding", None) or 0
        self.together = model.device.type != "cpu"
        self._weights = ""
        tokenizer = processor.tokenizer
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        tokenizer.padding_side = "left"
        found = (getattr(part, "generation_config", None) for part in model.modules())
        self._decodings: list[Any] = [decoding for decoding in found if decoding is not None]  # some models' are a part's
        for decoding in self._decodings:
            decoding.max_length = None
            if decoding.pad_token_id is None:
                decoding.pad_token_id = tokenizer.pad_token_id

    @property
    def takes_several(self) -> bool:
        return self.chat or self.frames > 0

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: weights, configuration, what the processor does, prompt, decoding."""
        if not self._weights:
            self._weights = fingerprint_of(_said(self.model.config.to_dict()), self.model)
        decoding = [_said(decoding.to_dict()) for decoding in self._decodings]
        pictures = _said(self.processor.image_processor.to_dict())
        asked = [str(self.processor.chat_template), self.prompt or list(CHAT_PROMPT.values()), self.tokens]
        about = [self._weights, pictures, len(self.processor.tokenizer), asked, decoding]
        return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:16]

    @torch.no_grad()
    def __call__(self, clips: Sequence[Sequence[np.ndarray]]) -> list[str]:
        """A caption, as the model wrote it, of each clip's stills, (h w 3) uint8 RGB in order of time.

        On the CPU one clip at a time, so that rounding does not know the batch either; on a GPU `together`. An answer that was not
        finished in `tokens` ends with its last whole sentence, if it has one.
        """
        if not clips:
            return []
        if len(clips) > 1 and not self.together:
            return [self([clip])[0] for clip in clips]
        if max(len(clip) for clip in clips) > 1 and not self.takes_several:
            raise DataError(f"{self.name}: takes one picture; a caption of a clip needs a model of several frames, as GIT-video")
        inputs = self._inputs(clips).to(self.model.device, self.model.dtype)
        greedy = {"do_sample": False, "num_beams": 1, "temperature": None, "top_k": None, "top_p": None}
        out = self.model.generate(**inputs, max_new_tokens=self.tokens, **greedy)
        asked = inputs.get("input_ids", [()] * len(clips))
        return [self._text(row.tolist(), list(before)) for row, before in zip(out.cpu(), asked, strict=True)]

    def _inputs(self, clips: Sequence[Sequence[np.ndarray]]) -> Any:
        """What the model takes: "pixel_values" (b 3 h w), of GIT-video (b t 3 h w), and what its processor adds."""
        from PIL import Image

        if self.chat:
            asked = [self._asked(len(clip)) for clip in clips]
            pictures = [[Image.fromarray(still) for still in clip] for clip in clips]
            begun = asked[0].startswith(self.processor.tokenizer.bos_token or "\0")
            once = {"add_special_tokens": False} if begun else {}
            return self.processor(images=pictures, text=asked, padding=True, return_tensors="pt", **once)
        spread = [np.rint(np.linspace(0, len(clip) - 1, max(1, self.frames))).astype(int) for clip in clips]
        flat = [Image.fromarray(clip[i]) for clip, places in zip(clips, spread, strict=True) for i in places]
        begun = {"text": [self.prompt] * len(clips)} if self.prompt else {}
        inputs = self.processor(images=flat, **begun, return_tensors="pt")
        if self.prompt and self.model.config.model_type == "git":  # its tokenizer ends every text, also one to be continued
            inputs["input_ids"], inputs["attention_mask"] = inputs["input_ids"][:, :-1], inputs["attention_mask"][:, :-1]
        if self.frames:
            inputs["pixel_values"] = inputs["pixel_values"].unflatten(0, (len(clips), self.frames))
        return inputs

    def _asked(self, pictures: int) -> str:
        words = {"type": "text", "text": self.prompt or CHAT_PROMPT[pictures > 1]}
        content = [{"type": "image"}] * pictures + [words]
        try:
            return self.processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
        except Exception as error:  # whatever the model's own template does
            raise DataError(f"{self.name}: its chat template does not take pictures and a prompt ({error})") from error

    def _text(self, row: list[int], asked: list[Any]) -> str:
        """The words after the prompt, which some models give again and some do not."""
        tokenizer, before = self.processor.tokenizer, [int(token) for token in asked]
        if before and not self.model.config.is_encoder_decoder and row[: len(before)] == before:
            row = row[len(before) :]
        ends = [decoding.eos_token_id for decoding in self._decodings]
        ends = {*np.ravel(ends), tokenizer.eos_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id}
        text = tokenizer.decode(row, skip_special_tokens=True).strip()
        if self.prompt and not self.chat:
            again = tokenizer.decode(tokenizer(self.prompt)["input_ids"], skip_special_tokens=True).strip()
            text = text.removeprefix(again).strip()
        return text if not row or row[-1] in ends else whole_sentences(text)


def whole_sentences(text: str) -> str:
    """Without what was begun after the last of them; a text that has none is left.

    >>> whole_sentences("A dog runs. It is 3.5 years old! There are")
    'A dog runs. It is 3.5 years old!'
    """
    whole = re.match(r".*[.!?](?=\s)", text, re.DOTALL)
    return whole.group() if whole else text


def open_captioner(name: str, prompt: str = "", tokens: int = 64, several: bool = False, device: str = "cpu") -> Captioner:
    """The model in a folder or of a hub id ("@revision" allowed).

    several: whether it will be shown several stills of a clip. DataError where it cannot be loaded, or takes no pictures.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor, model = load_pretrained(name, "captioner", AutoProcessor, AutoModelForImageTextToText, backend="pil")
    if not all(hasattr(processor, part) for part in ("image_processor", "tokenizer")):
        raise DataError(f"{name}: no processor of pictures and words; preprocessor_config.json or processor_config.json is missing")
    check_words(name, processor.tokenizer)
    captioner = Captioner(model.to(device), processor, name, prompt, tokens)
    if several and not captioner.takes_several:
        raise DataError(
            f"{name}: a {model.config.model_type} takes one picture and has no chat template; for several stills name a model of "
            "the kind of GIT-video or one to chat with, or set stills = 1"
        )
    return captioner


def _said(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in UNSAID}
