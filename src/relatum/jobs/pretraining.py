"""`relatum train` for the encoders of a base: autoencoder, CLIP or feature extractor, in a run folder like any other."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from ..core.registry import family
from ..data.rows import Row
from ..engine.encoded import RawRows
from ..engine.pretrain import AttributeParts, AutoencoderParts, ClipParts
from ..engine.train import Job
from ..models.families.autoencoder import Reconstruction, measure_scaling
from ..models.families.clip import TwoTowers, save_clip
from ..models.families.fresh import NewAutoencoder, NewClip, NewTinyConv
from ..pretrained.tinyconv import save_tinyconv
from ..recipe import Recipe
from ..tasks.base import Needs, Task
from .tuning import TUNED, tuned_job

__all__ = ["ENCODERS", "encoder_job"]

ENCODERS = ("new_autoencoder", "new_clip", "new_tinyconv", *TUNED)  # kinds of [model] that this file and tuning.py train
_WORDS = 20_000  # rows whose texts the tokenizer learns from


@dataclass(frozen=True)
class _Encoder:
    """parts: what the step function gets. save: writes the network to a folder."""

    parts: Any
    save: Callable[[Path], None]


def encoder_job(
    recipe: Recipe, task: Task, train: Sequence[Row], test: Sequence[Row], step: Any, folder: Path, signature: str
) -> Job:
    """The job of a recipe whose [model] kind is one of ENCODERS; `task` says which image and text column are read."""
    settings: Any = family.build(recipe.model, "model")
    if recipe.model["kind"] in TUNED:
        return tuned_job(recipe, settings, task, train, test, step, folder, signature)
    needs = Needs(settings.columns, (*settings.columns, *settings.spoken)) if isinstance(settings, NewClip) else task.needs
    rows, held_out = (RawRows(side, needs, recipe.data.resolution, on_bad_row=recipe.data.on_bad_row) for side in (train, test))
    if isinstance(settings, NewAutoencoder):
        encoder = _autoencoder(settings, rows, task)
    elif isinstance(settings, NewClip):
        encoder = _clip(settings, train)
    else:
        encoder = _tinyconv(settings, task)
    return Job(
        parts=encoder.parts,
        step=step,
        rows=rows,
        held_out=held_out,
        settings=recipe.train,
        seed=recipe.seed,
        folder=folder,
        save=encoder.save,
        signature=signature,
    )


def _autoencoder(settings: NewAutoencoder, rows: RawRows, task: Task) -> _Encoder:
    vae, image = settings.build(), task.needs.images[0]
    parts = AutoencoderParts(
        Reconstruction(vae),
        latent_channels=settings.size.latent_channels,
        factor=2 ** (len(settings.size.block_out_channels) - 1),
        mse=settings.mse,
        l1=settings.l1,
        edge=settings.edge,
        kl=settings.kl,
        variety=settings.variety,
        image=image,
    )

    def save(folder: Path) -> None:
        measure_scaling(vae, rows.batch(list(range(min(1024, len(rows))))).pixels[image].to(next(vae.parameters()).device))
        vae.save_pretrained(folder, safe_serialization=True)

    return _Encoder(parts, save)


def _clip(settings: NewClip, train: Sequence[Row]) -> _Encoder:
    texts = [text for row in islice(train, _WORDS) for _, text in sorted(row.texts.items())]
    clip, tokenizer = settings.build(texts)
    parts = ClipParts(TwoTowers(clip), tokenizer, settings.columns, settings.words, settings.spoken)
    return _Encoder(parts, lambda folder: save_clip(clip, tokenizer, folder, torch.float32))


def _tinyconv(settings: NewTinyConv, task: Task) -> _Encoder:
    network, phrases = settings.build()
    parts = AttributeParts(network, phrases, task.needs.images[0], task.needs.texts[0])
    return _Encoder(parts, lambda folder: save_tinyconv(network, folder / "tinyconv.safetensors"))
