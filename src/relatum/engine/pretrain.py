"""Training steps of a base model's other parts: the autoencoder and the CLIP. Same signature as `diffusion_step`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..core.draws import Draws, key_of
from ..core.path import expand
from ..core.ranks import ONE, Ranks
from ..core.shapes import Features, Keys, PerSample, Pixels, Tokens
from ..tasks.base import Batch
from .step import Moment, Step

__all__ = [
    "AttributeParts",
    "AutoencoderParts",
    "ClipParts",
    "attributes_step",
    "autoencoder_step",
    "clip_step",
    "edges",
    "info_nce",
    "spoken_words",
    "varied",
]


@dataclass
class AutoencoderParts:
    """network: pixels, noise -> reconstruction, mean, logvar; latents are (latent_channels, h / factor, w / factor).

    mse, l1, edge, kl: weights of the terms of the loss. variety: share of the training pictures that are changed (see `varied`),
    so that pictures of another world than the training set's are not lost. guide_steps: while a term "guide" pulls the first three
    latent channels to the colors of each cell, ever less; it saves the first thousand updates of finding colors.
    """

    network: nn.Module
    latent_channels: int = 4
    factor: int = 4
    mse: float = 1.0
    l1: float = 0.5
    edge: float = 0.5
    kl: float = 2e-6
    variety: float = 0.25
    guide_steps: int = 400
    image: str = "target"


@dataclass
class AttributeParts:
    """network: pixels -> logits by head, (b, phrases of that head). phrases: by head; true of a picture if in its text."""

    network: nn.Module
    phrases: Mapping[str, Sequence[str]]
    image: str = "target"
    text: str = "target"


@dataclass
class ClipParts:
    """network: pixels, input_ids -> `models.families.clip.Reading`. tokenizer: transformers' CLIPTokenizer.

    columns: image columns and the texts of the same name. With "source" and "target" of an edit each picture has a hard negative
    that differs from it in the edit alone, such as one shape. words: weight of the term "words" (see `spoken_words`), which also
    reads the texts of `spoken`.
    """

    network: nn.Module
    tokenizer: Any
    columns: tuple[str, ...] = ("target",)
    words: float = 0.0
    spoken: tuple[str, ...] = ()


def autoencoder_step(parts: AutoencoderParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = Moment()) -> Step:  # noqa: B008
    """Terms "mse", "l1", "edge" (L1 between the differences of neighboring pixels) and "kl" (to N(0, 1), summed over a latent).

    Training decodes a sample of the posterior (draws "posterior"), evaluation the mode. Watches "psnr" in dB for pixels in [-1, 1].
    """
    pixels = batch.pixels[parts.image]
    if moment.training:
        pixels = varied(pixels, draws, parts.variety)
    grid = [edge // parts.factor for edge in pixels.shape[-2:]]
    noise = draws.normal("posterior", (parts.latent_channels, *grid)).to(pixels.device) if moment.training else None
    made, mean, logvar = parts.network(pixels, noise)
    error = made.float() - pixels
    mse = error.square().flatten(1).mean(1)
    kl = 0.5 * (mean.float().square() + logvar.float().exp() - 1 - logvar.float()).flatten(1).sum(1)
    losses = {
        "mse": mse,
        "l1": error.abs().flatten(1).mean(1),
        "edge": edges(error),
        "kl": kl,
    }
    total = parts.mse * mse + parts.l1 * losses["l1"] + parts.edge * losses["edge"] + parts.kl * kl
    guide = max(0.0, 1 - moment.updates / parts.guide_steps) if moment.training and parts.guide_steps else 0.0
    if guide:
        cells = 2 * F.avg_pool2d(pixels, parts.factor)
        losses["guide"] = (mean[:, :3].float() - cells).square().flatten(1).mean(1)
        total = total + guide * losses["guide"]
    psnr = 10 * torch.log10(4 / ((made.detach().float().clamp(-1, 1) - pixels).square().flatten(1).mean(1) + 1e-12))
    return Step(losses, total, {"psnr": psnr})


def varied(pixels: Pixels, draws: Draws, share: float) -> Pixels:
    """`share` of the pictures changed: half of those get other colors (channels exchanged, then scaled and shifted within [-1, 1]),

    half are a quarter of their area, at a random place, enlarged. Draws "variety" and "variety order", "... colors", "... place".
    """
    u = draws.uniform("variety").to(pixels.device)
    order = draws.normal("variety order", (3,)).argsort(1).to(pixels.device)
    gain, shift = draws.normal("variety colors", (2, 3)).tanh().to(pixels.device)[..., None, None].unbind(1)
    exchanged = pixels.gather(1, order[:, :, None, None].expand_as(pixels))
    out = torch.where(expand(u, pixels) < share / 2, gain * exchanged + (1 - gain.abs()) * shift, pixels)
    height, width = pixels.shape[-2:]
    places = draws.uniform("variety place").tolist()
    for i in ((u >= share / 2) & (u < share)).nonzero().flatten().tolist():
        cell = int(places[i] * (height // 2 + 1) * (width // 2 + 1))
        top, left = divmod(cell, width // 2 + 1)
        part = pixels[i : i + 1, :, top : top + height // 2, left : left + width // 2]
        out[i] = F.interpolate(part, size=(height, width), mode="bilinear", align_corners=False)[0]
    return out


def edges(error: Pixels) -> PerSample:
    """Mean absolute difference of an error image between neighbors, across and down: 0 for a constant shift of all pixels."""
    across, down = error.diff(dim=-1).abs().flatten(1).mean(1), error.diff(dim=-2).abs().flatten(1).mean(1)
    return (across + down) / 2


def attributes_step(parts: AttributeParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = Moment()) -> Step:  # noqa: B008
    """One term a head: mean binary cross-entropy of which phrases a picture's text holds. Watches "HEAD/right": all right."""
    logits = parts.network(batch.pixels[parts.image])
    losses, watched = {}, {}
    for head, phrases in parts.phrases.items():
        truth = torch.tensor([[float(phrase in text) for phrase in phrases] for text in batch.texts[parts.text]])
        truth = truth.to(logits[head].device)
        losses[head] = F.binary_cross_entropy_with_logits(logits[head].float(), truth, reduction="none").mean(1)
        watched[f"{head}/right"] = ((logits[head] > 0) == (truth > 0)).all(1).float()
    return Step(losses, torch.stack([*losses.values()]).sum(0), watched)


def clip_step(parts: ClipParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = Moment()) -> Step:  # noqa: B008
    """Symmetric InfoNCE over the batch of all ranks (Radford et al. 2021, figure 3) with the learned temperature.

    Unlike there, samples with the same text are not each other's negatives. Watches "image_to_text": 1 where the own text wins.
    """
    pixels = torch.cat([batch.pixels[name] for name in parts.columns])
    texts = [text for name in (*parts.columns, *parts.spoken) for text in batch.texts[name]]
    words = parts.tokenizer(
        texts, return_tensors="pt", padding=True, truncation=True, max_length=parts.tokenizer.model_max_length
    ).to(pixels.device)
    out = parts.network(pixels, words.input_ids)
    captions = out.texts[: len(pixels)]
    keys = torch.tensor([key_of(text) for text in texts[: len(pixels)]], device=pixels.device)
    forward, hit = info_nce(out.images, captions, out.scale, keys, ranks)
    backward, _ = info_nce(captions, out.images, out.scale, keys, ranks)
    losses = {"info_nce": _per_row((forward + backward) / 2, len(batch))}
    total = losses["info_nce"]
    if parts.words:
        losses["words"] = _per_row(spoken_words(out.states, words.input_ids, words.attention_mask, out.embeddings), len(batch))
        total = total + parts.words * losses["words"]
    watched = {"image_to_text": _per_row(hit, len(batch)), "scale": out.scale.detach().expand(len(batch))}
    return Step(losses, total, watched)


def _per_row(values: Float[Tensor, "columns_b"], rows: int) -> PerSample:
    """The mean over the columns of each row; columns come one after the other."""
    return values.reshape(-1, rows).mean(0)


def spoken_words(states: Tokens, ids: Int[Tensor, "b n"], mask: Int[Tensor, "b n"], embeddings: Float[Tensor, "v d"]) -> PerSample:
    """How badly a text can be read back from its states, nats: each state must name its own token, the last one every token.

    Names are read by products with the tokens' embeddings. mask: 1 where a token is, 0 where padding. Without this term states of
    words that captions seldom need apart are nearly equal, and a UNet that reads them cannot tell a circle from a square.
    """
    there = mask.float()
    named = F.log_softmax(states.float() @ embeddings.float().T, -1)
    own = -(named.gather(2, ids[:, :, None]).squeeze(2) * there).sum(1) / there.sum(1)
    last = there.sum(1).long() - 1
    end = named[torch.arange(len(ids), device=ids.device), last]
    every = -(end.gather(1, ids) * there).sum(1) / there.sum(1)
    return own + every


def info_nce(queries: Features, others: Features, scale: Tensor, keys: Keys, ranks: Ranks = ONE) -> tuple[PerSample, PerSample]:
    """(loss, hit) a query: cross-entropy of its own other one among those of all ranks. Equal keys are masked out.

    For two orthogonal pairs and scale s it is log(1 + exp(-s)).
    """
    own = torch.arange(len(queries), device=queries.device) + ranks.offset(len(queries))
    everyone, all_keys = ranks.gather(others), ranks.gather(keys)
    everyone = torch.cat([everyone[: own[0]], others, everyone[own[-1] + 1 :]])  # with the gradient of this rank's own
    logits = scale * queries.float() @ everyone.float().T
    same = keys[:, None] == all_keys[None, :]
    same[torch.arange(len(own)), own] = False
    logits = logits.masked_fill(same, -math.inf)
    return F.cross_entropy(logits, own, reduction="none"), (logits.argmax(1) == own).float()
