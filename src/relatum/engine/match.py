"""A diffusion model as a matcher of images and texts: the text under which an image's noise is predicted best fits it best.

DiffusionITM (Krojer et al. 2023) and the Diffusion Classifier (Li et al. 2023): score(x, w) = -mean_k d_k(x, w), with d_k the error
of the raw output against its target at noise level k; to rank images, minus the empty caption's score (`Scorer.null`).
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..core.draws import Draws, key_of
from ..core.errors import RecipeError, ShapeError
from ..core.fingerprint import fingerprint_of
from ..core.path import DiscretePath, NoiseLevel
from ..core.shapes import Latents, Pixels, Stacked, Tokens
from ..models.families.stable_diffusion import StableDiffusion
from ..pretrained import Extractor

__all__ = ["ClipScorer", "DiffusionScorer", "Matching", "Pairs", "Scorer", "distinct", "every_pair", "match_errors", "match_levels"]

BITS = 24  # digits of a level's place on the schedule
MOST_LEVELS = 2**16
MOST_TEXTS = 2048  # texts whose states are kept

Pairs = Int[Tensor, "p 2"]


@dataclass(frozen=True)
class Matching:
    """Settings of a score. levels: K, noise levels a pair. low, high: the share of the schedule that they are drawn from, 1 noise.

    error: "squared", the mean square over a latent's values, or "norm", its root. batch_size: UNet evaluations that go through at
    once. seed: of levels and noise, which all pairs share.
    """

    levels: int = 16
    low: float = 0.0
    high: float = 1.0
    batch_size: int = 64
    seed: int = 0
    error: Literal["squared", "norm"] = "squared"

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= MOST_LEVELS:
            raise RecipeError(f"match: levels is {self.levels}, expected 1 to {MOST_LEVELS}")
        if not 0 <= self.low < self.high <= 1:
            raise RecipeError(f"match: levels from {self.low} to {self.high} of the schedule; expected 0 <= low < high <= 1")
        if self.batch_size < 1:
            raise RecipeError(f"match: batch_size is {self.batch_size}, expected 1 or more")
        if self.error not in ("squared", "norm"):
            raise RecipeError(f"match: error is {self.error!r}, expected 'squared' or 'norm'")


@runtime_checkable
class Scorer(Protocol):
    """Anything that says how well images and texts fit; higher is better.

    To have its results stored it also has `fingerprint`, which names weights and settings; `evaluations`, where it has it, counts
    network passes so far.
    """

    def __call__(self, images: Pixels, texts: Sequence[str], pairs: Pairs) -> Float[Tensor, "p"]:
        """Scores of (image, text) pairs, given by their indices."""
        ...

    def null(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n"] | None:
        """Scores of the empty text, subtracted where images are ranked; None where nothing is to be subtracted."""
        ...


def match_levels(settings: Matching, path: DiscretePath, levels: Sequence[int]) -> NoiseLevel:
    """The noise levels of those places in the nested order.

    Place k lies at the k-th point of van der Corput's sequence with nested uniform scrambling (Owen 1995): each is uniform on the
    range, and of the first 2^j there is one in each 2^-j of it, for every j. A longer request begins with the shorter one's levels.
    """
    count = len(path.abar)
    places = [settings.low + (settings.high - settings.low) * _scrambled(settings.seed, k) for k in levels]
    return path.at(torch.tensor([min(int(place * count), count - 1) for place in places], dtype=torch.long))


def _scrambled(seed: int, index: int) -> float:
    """Digit b of the point is bit b of the index, flipped by a coin that belongs to the digits before it."""
    point = 0
    for b in range(BITS):
        flip = key_of(seed, "match level", b, index & ((1 << b) - 1)) & 1
        point = 2 * point + ((index >> b & 1) ^ flip)
    return (point + 0.5) / 2**BITS


@torch.no_grad()
def match_errors(
    model: StableDiffusion,
    latents: Latents,
    tokens: Float[Tensor, "m l d"],
    pairs: Pairs,
    settings: Matching,
    levels: Sequence[int] | None = None,
    image: Stacked | None = None,
) -> Float[Tensor, "p k"]:
    """Errors d_k of (image, text) pairs, float32 on the CPU.

    latents: posterior means, scaled. levels: places in the nested order, the first `settings.levels` by default; every one is
    computed. Noise is addressed by (seed, place), whatever the pair. image: for edit models, the source's latents of each image.
    Equal images, texts and pairs are computed once and get the same numbers. RecipeError for a model that needs what is not given.
    """
    _check(model, latents, tokens, pairs, image)
    places = list(range(settings.levels) if levels is None else levels)
    which = distinct(latents if image is None else torch.cat([latents, image.to(latents)], 1)), distinct(tokens)
    unique, inverse = torch.unique(torch.stack([which[i][pairs[:, i]] for i in (0, 1)], 1), dim=0, return_inverse=True)
    network, shape = _float32(model.unet), latents.shape[1:]
    level = match_levels(settings, model.path, places)
    noise = Draws(settings.seed, places).normal("match", shape) if places else latents.new_zeros(0, *shape)
    device, total = next(network.parameters()).device, len(unique) * len(places)
    errors = torch.empty(total)
    with _exact(network):
        for start in range(0, total, settings.batch_size):
            at = torch.arange(start, min(start + settings.batch_size, total))
            (x, w), k = unique[at // len(places)].T, at % len(places)
            clean, eps, here = latents.cpu()[x].to(device).float(), noise[k].to(device), level[k].to(device)
            inputs = here.blend(clean, eps)
            inputs = inputs if image is None else torch.cat([inputs, image.cpu()[x].to(inputs)], 1)
            states = tokens[w.to(tokens.device)].to(device).float()
            raw: Tensor = network(inputs, here.time, encoder_hidden_states=states, return_dict=False)[0]
            d = (raw.float() - model.kind.target(clean, eps, here)).square().flatten(1).mean(1)
            errors[at] = (d if settings.error == "squared" else d.sqrt()).cpu()
    return errors.reshape(len(unique), len(places))[inverse]


def distinct(values: Float[Tensor, "b *_"]) -> Int[Tensor, "b"]:
    """For each row the index of the first row of the same bytes."""
    firsts: dict[bytes, int] = {}
    flat = values.detach().float().cpu().contiguous().flatten(1)
    rows = (hashlib.blake2b(row.numpy().tobytes(), digest_size=16).digest() for row in flat)
    return torch.tensor([firsts.setdefault(row, i) for i, row in enumerate(rows)], dtype=torch.long)


def every_pair(images: int, texts: int) -> Int[Tensor, "p 2"]:
    """All (image, text) indices, image by image."""
    return torch.cartesian_prod(torch.arange(images), torch.arange(texts)).reshape(-1, 2)


class DiffusionScorer:
    """Scores by a text-to-image diffusion model. evaluations: UNet evaluations so far."""

    def __init__(self, model: StableDiffusion, settings: Matching | None = None) -> None:
        self.model = replace(model, unet=_float32(model.unet))
        self.settings = settings or Matching()
        self.evaluations = 0
        self._states: dict[tuple[int, ...], Float[Tensor, "l d"]] = {}
        self._latents: dict[bytes, Float[Tensor, "c h w"]] = {}
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        """Names the weights and every setting that changes a score."""
        if self._fingerprint is None:
            self._fingerprint = fingerprint_of(dict(self.model.unet.config), self.model.unet)  # type: ignore[arg-type]
        said = {key: value for key, value in asdict(self.settings).items() if key != "batch_size"}
        path = hashlib.sha256(self.model.path.abar.numpy().tobytes()).hexdigest()[:16]
        words = (self._fingerprint, self.model.codec.fingerprint, self.model.text.fingerprint, self.model.kind.value, path)
        words += () if self.model.correction is None else tuple(map(str, self.model.correction.words))
        return f"{key_of('diffusion', *words, *said.items()):016x}"

    def __call__(self, images: Pixels, texts: Sequence[str], pairs: Pairs) -> Float[Tensor, "p"]:
        errors = self.errors(images, texts, pairs)
        return -errors.double().mean(1).float()

    def null(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n"]:
        return self(images, [""], every_pair(len(images), 1))

    def errors(
        self, images: Pixels, texts: Sequence[str], pairs: Pairs, levels: Sequence[int] | None = None
    ) -> Float[Tensor, "p k"]:
        """`match_errors` of pixels and words."""
        latents, (tokens, row) = self.latents(images), self.tokens(texts)
        pairs = torch.stack([pairs[:, 0], row[pairs[:, 1]]], 1)
        errors = match_errors(self.model, latents, tokens, pairs, self.settings, levels)
        self.evaluations += (
            len({*map(tuple, torch.stack([distinct(latents)[pairs[:, 0]], pairs[:, 1]], 1).tolist())}) * errors.shape[1]
        )
        return errors

    def latents(self, images: Pixels) -> Latents:
        """Posterior means, scaled; of equal images the same numbers. Those of the last call are kept."""
        keys = [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in images.float().cpu().contiguous()]
        new = {key: i for i, key in enumerate(keys) if key not in self._latents}
        if new:
            with _exact(self.model.codec.vae):
                made = self.model.codec.latents(self.model.codec.encode(images[list(new.values())]), None)
            self._latents = {key: latent for key, latent in self._latents.items() if key in keys} | dict(
                zip(new, made.cpu(), strict=True)
            )
        return torch.stack([self._latents[key] for key in keys])

    def tokens(self, texts: Sequence[str]) -> tuple[Tokens, Int[Tensor, "m"]]:
        """States of the texts that the encoder can tell apart, and for each text the row of its state."""
        text = self.model.text
        ids = text.tokenizer(list(texts), padding="max_length", truncation=True, max_length=text.length).input_ids
        keys = [tuple(words) for words in ids]
        rows = {key: i for i, key in enumerate(dict.fromkeys(keys))}
        new = {key: i for i, key in enumerate(keys) if key not in self._states}
        if new:
            with _exact(text.encoder):
                made = text.encode([texts[i] for i in new.values()])
            self._states.update(zip(new, made.cpu(), strict=True))
        states = torch.stack([self._states[key] for key in rows])
        for key in list(self._states)[: max(len(self._states) - MOST_TEXTS, 0)]:
            del self._states[key]
        return states, torch.tensor([rows[key] for key in keys], dtype=torch.long)


class ClipScorer:
    """The control: the cosine of image and text in the joint space of a CLIP. Nothing is subtracted where images are ranked."""

    def __init__(self, extractor: Extractor) -> None:
        if extractor.embed_texts is None:
            raise RecipeError(f"match: extractor {extractor.name} has no text tower; name a CLIP model")
        self.extractor = extractor
        self.evaluations = 0

    @property
    def fingerprint(self) -> str:
        return f"{key_of('clip', self.extractor.weights, self.extractor.preprocessing):016x}"

    def __call__(self, images: Pixels, texts: Sequence[str], pairs: Pairs) -> Float[Tensor, "p"]:
        words = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        states = nn.functional.normalize(self.extractor.texts(list(words)), dim=1)
        pictures = nn.functional.normalize(self.extractor.images(images), dim=1)[distinct(images)]
        rows = torch.tensor([words[text] for text in texts], dtype=torch.long)
        self.evaluations += len(images) + len(words)
        return (pictures[pairs[:, 0]] * states[rows[pairs[:, 1]]]).sum(1).cpu()

    def null(self, images: Float[Tensor, "n 3 h w"]) -> None:
        return None


def _check(model: StableDiffusion, latents: Tensor, tokens: Tensor, pairs: Tensor, image: Tensor | None) -> None:
    given = 0 if image is None else image.shape[1] // latents.shape[1]
    if given != model.images or model.features:
        needs = f"{model.images} pictures" + (f" and {model.features} numbers" if model.features else "")
        raise RecipeError(
            f"match: the model is given {needs} beside the noisy one, and {given} pictures are at hand; "
            "match with a text-to-image model, or hand in `image`, the latents of each image's source"
        )
    if image is not None and len(image) != len(latents):
        raise ShapeError(f"match: {len(image)} sources for {len(latents)} images")
    if len(pairs) and (pairs.min() < 0 or bool((pairs.max(0).values >= torch.tensor([len(latents), len(tokens)])).any())):
        raise ShapeError(
            f"match: pairs name images up to {pairs[:, 0].max()} and texts up to {pairs[:, 1].max()} "
            f"of {len(latents)} images and {len(tokens)} texts"
        )


def _float32(network: nn.Module) -> nn.Module:
    """The network, or a copy of it in float32."""
    half = any(parameter.dtype != torch.float32 for parameter in network.parameters())
    return copy.deepcopy(network).float() if half else network


@contextmanager
def _exact(network: nn.Module) -> Iterator[None]:
    """Evaluation mode and full float32: no autocast, no TF32."""
    training, precision = network.training, torch.get_float32_matmul_precision()
    device = next(network.parameters()).device
    network.eval()
    torch.set_float32_matmul_precision("highest")
    cudnn: Any = torch.backends.cudnn
    try:
        with torch.autocast(device.type, enabled=False), cudnn.flags(enabled=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(precision)
        network.train(training)
