"""From a name, path or hub id to an extractor."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..core.errors import DataError
from ..core.fingerprint import fingerprint_of
from ..core.shapes import Features, Pixels
from .clips import VIDEO_MODELS, torchscript_clips, video_model
from .extractor import Extractor, preprocess
from .tinyconv import RandConv, load_tinyconv

__all__ = ["BASE", "open_extractor", "vae_mean"]

BASE = Path(__file__).parents[1] / "base"  # the bundled weights: tinyconv.safetensors, clip/
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def open_extractor(name: str, device: str = "cpu") -> Extractor:
    """The extractor of that name.

    "tinyconv": trained on toy attributes, bundled. "randconv": fixed random weights, a control. "clip": the bundled small CLIP.
    A torchscript file (.pt, .pth), no state dict: called with uint8 pixels (b 3 h w), gives (b, d). "clips:" before such a file:
    called with whole clips (b 3 t h w), as the published I3D is. Anything else: folder or hub id, in transformers' format, of a
    CLIP or DINOv2 model, or for clips of a VideoMAE, ViViT or TimeSformer. Raises DataError where it is not there or of a kind
    that is not known.
    """
    if name == "tinyconv":
        tiny = load_tinyconv(BASE / "tinyconv.safetensors").to(device)
        return Extractor(
            name, fingerprint_of({}, tiny), "32 px bicubic, [-1, 1]", lambda p: tiny.features(preprocess(p.to(device), 32))
        )
    if name == "randconv":
        rand = RandConv().eval().requires_grad_(False).to(device)
        return Extractor(name, fingerprint_of({}, rand), "32 px bicubic, [-1, 1]", lambda p: rand(preprocess(p.to(device), 32)))
    if name == "vae-mean":
        raise DataError('extractor "vae-mean" needs the run\'s autoencoder; build it with vae_mean(encode, weights)')
    if name == "clip":
        return _transformers("clip-tiny", BASE / "clip", device)
    if name.startswith("clips:"):
        return torchscript_clips(Path(name.removeprefix("clips:")), device)
    if name.endswith((".pt", ".pth")):
        return _torchscript(Path(name), device)
    path = Path(name)
    return _transformers(path.name, path if path.exists() else name, device)


def vae_mean(encode: Callable[[Pixels], Tensor], weights: str) -> Extractor:
    """The autoencoder's latent means as features; `in_loss`, because a latent contrast trains on them.

    encode: pixels -> latent means (b c h w). weights: the autoencoder's hash.
    """
    return Extractor("vae-mean", weights, "latent means, flat", lambda p: encode(p).flatten(1), in_loss=True)


def _torchscript(path: Path, device: str) -> Extractor:
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a torchscript extractor")
    try:
        network: Any = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise DataError(
            f"{path}: not a torchscript file ({str(error).splitlines()[0]}). A state dict (such as torch-fidelity's .pth) is "
            "weights without their network and cannot be opened; export the network with torch.jit.script(network).save(path)"
        ) from error

    def embed(pixels: Pixels) -> Features:
        out = network(((pixels + 1) * 127.5).round().clamp(0, 255).to(device, torch.uint8))
        return (out[0] if isinstance(out, tuple | list) else out).flatten(1)

    return Extractor(path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), "uint8 into torchscript", embed)


def _transformers(name: str, where: Path | str, device: str) -> Extractor:
    from transformers import AutoConfig

    if isinstance(where, Path) and not (where / "config.json").is_file():
        raise DataError(
            f"{where}: no config.json; an extractor's folder holds a CLIP, DINOv2 or video model in transformers' format"
        )
    try:
        kind = AutoConfig.from_pretrained(where).model_type
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"extractor {str(where)!r}: neither a name, a folder nor a reachable hub id ({reason})") from error
    if kind == "clip":
        return _clip(name, where, device)
    if kind.startswith("dinov2"):
        return _dino(name, where, device)
    if kind in VIDEO_MODELS:
        return video_model(name, where, device, lambda size: _normalization(where, *IMAGENET, size))
    raise DataError(f"{where}: a model of type {kind!r}; expected clip, dinov2 or {', '.join(VIDEO_MODELS)}")


def _clip(name: str, where: Path | str, device: str) -> Extractor:
    """CLIP's two towers with their projections. Long texts are cut to the model's length and keep their end token."""
    from transformers import AutoTokenizer, CLIPModel

    model: Any = CLIPModel.from_pretrained(where)
    model = model.eval().requires_grad_(False).to(device)
    tokenizer = AutoTokenizer.from_pretrained(where)
    size, length = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    mean, std, words = _normalization(where, (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711), size)

    def images(pixels: Pixels) -> Features:
        pooled = model.vision_model(pixel_values=preprocess(pixels.to(device), size, mean, std)).pooler_output
        return model.visual_projection(pooled)

    def texts(batch: Sequence[str]) -> Features:
        tokens = tokenizer(list(batch), padding="max_length", truncation=True, max_length=length, return_tensors="pt").to(device)
        pooled = model.text_model(input_ids=tokens["input_ids"], attention_mask=tokens["attention_mask"]).pooler_output
        return model.text_projection(pooled)

    return Extractor(name, fingerprint_of({}, model), words, images, texts)


def _dino(name: str, where: Path | str, device: str) -> Extractor:
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(where).eval().requires_grad_(False).to(device)
    patch = model.config.patch_size
    size = min(224, model.config.image_size) // patch * patch
    mean, std, words = _normalization(where, *IMAGENET, size)

    def images(pixels: Pixels) -> Features:
        return model(pixel_values=preprocess(pixels.to(device), size, mean, std)).last_hidden_state[:, 0]

    return Extractor(name, fingerprint_of({}, model), words, images)


def _normalization(
    where: Path | str, mean: Sequence[float], std: Sequence[float], size: int
) -> tuple[Sequence[float], Sequence[float], str]:
    """The model's own mean and std where its preprocessor_config.json says them, else the family's; and the whole in words."""
    import json

    file = Path(where) / "preprocessor_config.json"
    if file.is_file():
        table = json.loads(file.read_text())
        mean, std = table.get("image_mean", mean), table.get("image_std", std)
    words = ",".join(f"{v:.4g}" for v in (*mean, *std))
    return mean, std, f"{size} px bicubic, center crop, {words}"
