"""Features of whole clips: from the frames of an image extractor, or from a video network by path."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from ..core.errors import DataError, ShapeError
from ..core.fingerprint import fingerprint_of
from ..core.shapes import Features, Videos
from .extractor import Extractor, preprocess

__all__ = ["VIDEO_MODELS", "framestats", "torchscript_clips", "video_model"]

VIDEO_MODELS = ("videomae", "vivit", "timesformer")


def framestats(frames: Float[Tensor, "b t d"]) -> Float[Tensor, "b 4*d"]:
    """(b, 4d) of features by frame: mean over time, deviation over time, mean |f(t+1) - f(t)|, mean |f(t+1) - 2 f(t) + f(t-1)|.

    Our own, so that clips can be compared offline. The first two are blind to the order of the frames, the other two see it:
    shuffled frames and flicker raise them. ShapeError below three frames.

    >>> framestats(torch.tensor([[[0.0], [1.0], [5.0]]]))  # mean 2, variance (4 + 1 + 9)/3, (1 + 4)/2, |5 - 2 + 0|
    tensor([[2.0000, 2.1602, 2.5000, 3.0000]])
    """
    if frames.shape[1] < 3:
        raise ShapeError(f"statistics over time need 3 frames or more, found features of shape {tuple(frames.shape)}")
    first = frames.diff(dim=1)
    parts = (frames.mean(1), frames.std(1, correction=0), first.abs().mean(1), first.diff(dim=1).abs().mean(1))
    return torch.cat(parts, 1)


def video_model(name: str, where: Path | str, device: str, normalization: Callable[[int], tuple[Any, Any, str]]) -> Extractor:
    """A video transformer of transformers (VideoMAE, ViViT, TimeSformer): the mean of its last tokens.

    It sees as many frames as it was made for, spread evenly over the clip from the first to the last (repeated where the clip has
    fewer). normalization: for an edge in pixels the mean and std a channel, and the whole in words.
    """
    from transformers import AutoModel

    model: Any = AutoModel.from_pretrained(where).eval().requires_grad_(False).to(device)
    size, count = model.config.image_size, model.config.num_frames
    mean, std, words = normalization(size)

    def clips(videos: Videos) -> Features:
        picked = videos[:, :, torch.linspace(0, videos.shape[2] - 1, count).round().long().to(videos.device)].movedim(1, 2)
        frames = preprocess(picked.flatten(0, 1).to(device), size, mean, std)
        return model(pixel_values=frames.unflatten(0, picked.shape[:2])).last_hidden_state.mean(1)

    return Extractor(name, fingerprint_of({}, model), f"{words}, {count} frames spread evenly, mean token", embed_clips=clips)


def torchscript_clips(path: Path, device: str) -> Extractor:
    """A torchscript file that takes clips (b 3 t h w), 0 to 255 as float, and gives (b, d); the published I3D file is one.

    Where its forward has the arguments rescale, resize and return_features, as that file has, they are set to true.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file; give the path of a torchscript network of clips")
    try:
        network: Any = torch.jit.load(str(path), map_location=device).eval()
    except RuntimeError as error:
        raise DataError(f"{path}: not a torchscript file ({str(error).splitlines()[0]})") from error
    known = {argument.name for argument in network.forward.schema.arguments}
    asked = {name: True for name in ("rescale", "resize", "return_features") if name in known}

    def clips(videos: Videos) -> Features:
        out = network(((videos + 1) * 127.5).round().clamp(0, 255).to(device), **asked)
        return (out[0] if isinstance(out, tuple | list) else out).flatten(1)

    words = "0..255 float into torchscript" + "".join(f", {name}" for name in asked)
    return Extractor(path.stem, hashlib.sha256(path.read_bytes()).hexdigest(), words, embed_clips=clips)
