"""`relatum generate`: captions and seeds in, pictures or films out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from ..atomic import make_folder, write_text
from ..core.errors import DataError, RecipeError
from ..core.fingerprint import fingerprint_of
from ..core.toml import digest
from ..data.negatives.captions import read_captions
from ..engine.sample import Sampling, generate, generate_clips
from ..imaging import decode, fit, save_png
from ..models.calls import check_frames
from ..models.families.opening import open_pipeline
from ..models.families.stable_diffusion import StableDiffusion
from ..models.folder import find_pipeline
from ..video.write import GIF_RATE, write_film
from .opening import device
from .single import check_text, check_tries, model_path

__all__ = ["Order", "captions_of", "generate_all"]

SETTINGS, INDEX = "generate.json", "index.jsonl"
LONGEST = 1024  # frames
FORMATS = ("mp4", "gif", "png")


@dataclass(frozen=True)
class Order:
    """What is made: every caption with every seed. The noise of a sample depends on its seed alone, so captions compare.

    frames: of a film; 0 makes pictures. fps: as it plays. form: of films, "png" is a strip of frames. image: the first frame, for
    models that continue one. batch: samples at once, which changes nothing else.
    """

    captions: tuple[str, ...]
    seeds: tuple[int, ...] = (0,)
    frames: int = 0
    fps: float = 8.0
    form: Literal["mp4", "gif", "png"] = "mp4"
    resolution: int | None = None
    image: Path | None = None
    batch: int = 4

    def __post_init__(self) -> None:
        check_tries("generate", len(self.seeds), self.resolution)
        if not self.captions:
            raise RecipeError("generate: no caption; give --caption or --captions")
        for caption in self.captions:
            check_text("generate", caption)
        if len({*self.seeds}) < len(self.seeds):
            raise RecipeError(f"generate: a seed is given twice in {' '.join(map(str, self.seeds))}; give each once")
        if not (self.frames == 0 or 2 <= self.frames <= LONGEST):
            raise RecipeError(f"generate: frames is {self.frames}, expected 2 to {LONGEST}")
        if not 0 < self.fps <= 120:
            raise RecipeError(f"generate: fps is {self.fps}, expected above 0, at most 120")
        if self.frames and self.form == "gif" and self.fps > GIF_RATE:
            raise RecipeError(f"generate: a GIF shows at most {GIF_RATE:g} frames a second, asked were {self.fps:g}; take mp4")
        if self.batch < 1:
            raise RecipeError(f"generate: batch_size is {self.batch}, expected 1 or more")


def captions_of(given: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """Captions from the command line, then those of a file (.txt, .jsonl, .csv, .parquet). DataError for a line without one."""
    read = [] if file is None else read_captions(file)
    for one in read:
        if one.fault:
            raise DataError(f"{one.where}: {one.fault}")
    return (*given, *(one.caption for one in read))


def generate_all(model: str, order: Order, sampling: Sampling, folder: Path, say: Callable[[Path], None]) -> int:
    """Writes one file a caption and seed to `folder` and an index.jsonl; gives their number. `say` hears of each.

    Interrupted, the same command goes on with what is missing. RecipeError where the model does not make what is asked for, or the
    folder holds what another command made; DataError for files.
    """
    opened = _open(model, order)
    size = order.resolution or int(opened.unet.config.sample_size) * opened.codec.factor  # type: ignore[union-attr, arg-type]
    if size % opened.codec.factor:
        raise RecipeError(f"generate: resolution is {size}, expected a multiple of the autoencoder's {opened.codec.factor}")
    if order.frames:
        check_frames(opened.unet, order.frames)
    picture = None if order.image is None else fit(decode(order.image, str(order.image)), size)[None]
    first = None if picture is None else opened.codec.encode(picture).mean
    _begin(folder, opened, order, sampling, size, picture)
    names = _names(order)
    missing = [item for item in names if not (folder / names[item]).exists()]
    for part in (missing[i : i + order.batch] for i in range(0, len(missing), order.batch)):
        for item, made in zip(part, _made(opened, order, sampling, size, part, first), strict=True):
            path = folder / names[item]
            write_film(path, made.transpose(0, 1), order.fps) if order.frames else save_png(path, made)
            say(path)
    lines = [json.dumps({"file_name": name, "text": order.captions[i], "seed": seed}) for (i, seed), name in names.items()]
    write_text(folder / INDEX, "\n".join(lines) + "\n")
    return len(names)


def _open(model: str, order: Order) -> StableDiffusion:
    """The model; RecipeError where it makes films and pictures are asked for, or the other way round."""
    place = model_path(model)
    unet = find_pipeline(place).config("unet")
    opened = open_pipeline(place, int(unet.get("in_channels", 4)) // int(unet.get("out_channels", 4)) - 1)
    if not isinstance(opened, StableDiffusion):
        raise RecipeError(f"{model} continues a picture and reads no caption; use: relatum animate")
    if opened.makes_clips and not order.frames:
        raise RecipeError(f"{model} makes films; say --video")
    if not opened.makes_clips and order.frames:
        raise RecipeError(f"{model} makes pictures, it has no motion modules; leave --video out, or train them (relatum train)")
    if opened.images and not order.frames:
        raise RecipeError(f"{model} changes or continues given pictures; use: relatum edit, or relatum animate")
    if bool(opened.images) != (order.image is not None):
        need = "continues a picture; give --image" if opened.images else "is given no picture; leave --image out"
        raise RecipeError(f"{model} {need}")
    return opened.to(device())


def _begin(folder: Path, model: StableDiffusion, order: Order, sampling: Sampling, size: int, picture: Tensor | None) -> None:
    """RecipeError where the folder holds something else than an unfinished or finished run of this very command."""
    seen = "" if picture is None else hashlib.sha256(picture.numpy().tobytes()).hexdigest()
    said = {**dataclasses.asdict(order), "batch": None, "image": seen, "size": size}
    weights: list[Any] = [fingerprint_of({}, model.unet), model.codec.fingerprint, model.text.fingerprint]
    weights += [{key: str(value) for key, value in model.scheduler.config.items()}]
    weights += [] if model.correction is None else [model.correction.words]
    table = {"order": said, "sampling": dataclasses.asdict(sampling), "weights": weights}
    mine = {"digest": digest(table), **table}
    path = folder / SETTINGS
    if path.is_file():
        try:
            theirs = json.loads(path.read_text(encoding="utf-8"))["digest"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read ({error}); give another folder") from error
        if theirs != mine["digest"]:
            raise RecipeError(f"{folder} holds what another command made; give another --output")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError(f"{folder} is not empty; give another --output")
    make_folder(folder)
    write_text(path, json.dumps(mine, indent=2) + "\n")


def _names(order: Order) -> dict[tuple[int, int], str]:
    """The file of each caption, by its place, and seed."""
    suffix = order.form if order.frames else "png"
    pairs = product(range(len(order.captions)), order.seeds)
    return {(i, seed): f"{i:05d}-seed{seed}.{suffix}" for i, seed in pairs}


def _made(
    model: StableDiffusion, order: Order, sampling: Sampling, size: int, part: Sequence[tuple[int, int]], first: Tensor | None
) -> Iterator[Tensor]:
    """(3 h w), or (3 t h w), a sample."""
    tokens = model.text.encode([order.captions[i] for i, _ in part])
    ids = [seed for _, seed in part]
    if not order.frames:
        yield from generate(model, sampling, seed=0, ids=ids, tokens=tokens, size=size)
        return
    image = None if first is None else first[:, :, None].expand(len(part), -1, order.frames, -1, -1)
    frames = order.frames
    yield from generate_clips(model, sampling, seed=0, ids=ids, tokens=tokens, frames=frames, size=size, image=image)
