"""Tiny random models of each kind that looks open, saved as folders: what they say is nonsense, but depends on what they see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

__all__ = ["save_all", "save_blip", "save_clip", "save_gpt", "save_head", "save_llava", "save_video_git"]

WORDS = """
a red ball rolls to the left of an old tree this video shows two dogs that run over wet grass at night . blue birds one small boat
behind green house : , white cat jumps high and fast under dark sky while people walk ##s ##ing ##ed Image Video Caption says
"""
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]"]
TOWER = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
SEEN = {**TOWER, "image_size": 16, "patch_size": 8}
IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
CHAT = (
    "{% for message in messages %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>{% else %}"
    "{{ part['text'] }}{% endif %}{% endfor %}{% endfor %} Caption:"
)


def _tokenizer(special: tuple[str, ...] = ()) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = dict.fromkeys([*SPECIAL, *special, *WORDS.split()])
    raw = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()  # type: ignore[assignment]
    raw.decoder = decoders.WordPiece()  # type: ignore[assignment]
    raw.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]", "eos_token": "[SEP]"}
    extra = {"extra_special_tokens": {"image_token": special[0]}} if special else {}
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="[DEC]", **names, **extra)


def _pictures() -> Any:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    return CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})


def _save(folder: Path, model: Any, processor: Any, seed: int) -> Path:
    """With weights so large that the answer depends on the pictures."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1 or len(weight.unique()) > 1:  # not what a layer's norm begins with
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.4)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_video_git(folder: Path, frames: int | None = 6, seed: int = 0) -> Path:
    """GIT of 6 frames, or with None of one picture."""
    from transformers import GitConfig, GitForCausalLM, GitProcessor

    tokenizer = _tokenizer()
    config = GitConfig(
        vision_config=SEEN, vocab_size=len(tokenizer), max_position_embeddings=64, num_image_with_embedding=frames, **TOWER, **IDS
    )  # type: ignore[call-arg]
    return _save(folder, GitForCausalLM(config), GitProcessor(_pictures(), tokenizer), seed)


def save_blip(folder: Path, seed: int = 0) -> Path:
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipProcessor
    from transformers.models.blip.image_processing_pil_blip import BlipImageProcessorPil

    tokenizer = _tokenizer()
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 64, "encoder_hidden_size": 16, "sep_token_id": 3}
    config = BlipConfig(text_config={**TOWER, **words, **IDS, "bos_token_id": 4}, vision_config=SEEN, projection_dim=8)
    processor = BlipProcessor(BlipImageProcessorPil(size={"height": 16, "width": 16}), tokenizer)
    return _save(folder, BlipForConditionalGeneration(config), processor, seed)


def save_llava(folder: Path, seed: int = 0) -> Path:
    """A model to chat with, that takes any number of pictures."""
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor

    tokenizer = _tokenizer(("<image>",))
    image = tokenizer.convert_tokens_to_ids("<image>")
    text = {**TOWER, "model_type": "llama", "vocab_size": len(tokenizer), "num_key_value_heads": 2, "max_position_embeddings": 128}
    vision = {**SEEN, "model_type": "clip_vision_model"}
    config = LlavaConfig(vision_config=vision, text_config={**text, **IDS}, image_token_index=image, image_seq_length=4)  # type: ignore[arg-type]
    settings = {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = LlavaProcessor(_pictures(), tokenizer, chat_template=CHAT, image_token="<image>", **settings)
    return _save(folder, LlavaForConditionalGeneration(config), processor, seed)


def save_gpt(folder: Path, positions: int = 160, seed: int = 0) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = _tokenizer()
    config = GPT2Config(vocab_size=len(tokenizer), n_positions=positions, n_embd=16, n_layer=1, n_head=2, **IDS)
    return _save(folder, GPT2LMHeadModel(config), tokenizer, seed)


def save_clip(folder: Path, seed: int = 0) -> Path:
    """CLIP of 8 numbers a picture."""
    from transformers import CLIPConfig, CLIPModel, CLIPProcessor

    tokenizer = _tokenizer()
    text = {**TOWER, "vocab_size": len(tokenizer), "max_position_embeddings": 32, **IDS}
    config = CLIPConfig(text_config=text, vision_config=SEEN, projection_dim=8)  # type: ignore[call-arg]
    return _save(folder, CLIPModel(config), CLIPProcessor(_pictures(), tokenizer), seed)


def save_head(path: Path, tensors: dict[str, Any]) -> Path:
    from safetensors.torch import save_file

    save_file({name: torch.tensor(values, dtype=torch.float32) for name, values in tensors.items()}, path)
    return path


def save_all(folder: Path) -> Path:
    """One of each below the folder: blip, clip, gpt, llava, video_git."""
    for save in (save_blip, save_clip, save_gpt, save_llava, save_video_git):
        save(folder / save.__name__.removeprefix("save_"))
    return folder
