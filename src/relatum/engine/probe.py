"""Discriminative probing and tuning (Qu et al. 2024, arXiv 2403.04321): matching pictures and texts by a UNet's features."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from ..core.draws import Draws, key_of
from ..core.errors import ShapeError
from ..core.fingerprint import fingerprint_of
from ..core.path import DiscretePath, NoiseLevel
from ..core.prediction import Parametrization
from ..core.ranks import ONE, Ranks
from ..core.shapes import Keys, Latents, NullTokens, PerSample, Pixels, Tokens
from ..models.codec import Codec
from ..models.families.stable_diffusion import StableDiffusion, open_stable_diffusion
from ..models.probe import Probe, Probed, ProbeSettings, Seen, load_probe
from ..tasks.base import Batch
from ..tasks.image import drop_text, posterior_sample
from .pretrain import info_nce
from .step import Moment, Step

__all__ = ["ProbeParts", "ProbeScorer", "open_probe", "open_probed", "probe_step", "rolled_nce"]


@dataclass
class ProbeParts:
    """network: a `Probed`, wrapped once training starts. The rest as `ProbedSettings` says; dropout: share of captions left out."""

    network: nn.Module
    settings: ProbeSettings
    kind: Parametrization
    path: DiscretePath
    codec: Codec
    matching: float = 1.0
    denoising: float = 0.0
    rolls: int = 1
    dropout: float = 0.1


def probe_step(parts: ProbeParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = Moment()) -> Step:  # noqa: B008
    """Terms "matching" (symmetric InfoNCE of the probe) and "denoising" (squared error, as `diffusion_step` with `denoise`).

    Both in one forward pass. The denoising half draws what `diffusion_step` draws, so with matching 0 it is that step. Draws of the
    probe: "probe level", "probe noise". Watches "image_to_text": 1 where the own text wins.
    """
    x0, tokens = posterior_sample(batch.moments["target"], parts.codec, draws, "target"), batch.tokens["target"]
    noise = draws.normal("noise", x0.shape[1:]).to(x0.device)
    asked: list[tuple[Latents, NoiseLevel, Tokens]] = []
    level = parts.path.draw(draws).to(x0.device)
    if parts.denoising:
        dropped = (draws.uniform("dropout") < parts.dropout).float().to(x0.device)
        asked.append((level.blend(x0, noise), level, drop_text(tokens, _null(batch), dropped)))
    if parts.matching:
        asked += _views(parts, x0, tokens, _null(batch), draws)
    noisy, told = torch.cat([one[0] for one in asked]), torch.cat([one[2] for one in asked])
    read, captions = len(x0) if parts.denoising else 0, tokens if parts.matching else None
    seen: Seen = parts.network(noisy, _joined([one[1] for one in asked]), told, read, captions)
    losses, watched = dict[str, PerSample](), dict[str, PerSample]()
    total = x0.new_zeros(len(x0))
    if parts.denoising:
        error = seen.prediction.raw[: len(x0)].float() - parts.kind.target(x0, noise, level)
        losses["denoising"] = error.square().flatten(1).mean(1)
        total = total + parts.denoising * losses["denoising"]
    if parts.matching:
        losses["matching"], watched["image_to_text"] = _matching(seen, _keys(tokens), parts, ranks)
        watched["scale"] = seen.scale.detach().expand(len(x0))
        total = total + parts.matching * losses["matching"]
    return Step(losses, total, watched, asked[0][1])


def _null(batch: Batch) -> NullTokens:
    assert batch.null is not None
    return batch.null


def _views(
    parts: ProbeParts, x0: Latents, tokens: Tokens, null: NullTokens, draws: Draws
) -> list[tuple[Latents, NoiseLevel, Tokens]]:
    """What the UNet is read at: the pictures, noised once, told nothing, or their own caption and then those of others."""
    count, (low, high) = len(parts.path.abar), parts.settings.levels
    steps = ((low + (high - low) * draws.uniform("probe level")) * count).long().clamp_max(count - 1)
    level = parts.path.at(steps).to(x0.device)
    noisy = level.blend(x0, draws.normal("probe noise", x0.shape[1:]).to(x0.device))
    if parts.settings.sees == "nothing":
        return [(noisy, level, null.expand_as(tokens))]
    return [(noisy, level, tokens.roll(-r, 0)) for r in range(parts.rolls + 1)]


def _joined(levels: Sequence[NoiseLevel]) -> NoiseLevel:
    time, alpha, sigma = (torch.cat([getattr(level, name) for level in levels]) for name in ("time", "alpha", "sigma"))
    return NoiseLevel(time, alpha, sigma)


def _keys(tokens: Tokens) -> Keys:
    """Equal for equal captions."""
    words = [key_of(hashlib.blake2b(states.cpu().numpy().tobytes(), digest_size=8).hexdigest()) for states in tokens]
    return torch.tensor(words, device=tokens.device)


def _matching(seen: Seen, keys: Keys, parts: ProbeParts, ranks: Ranks) -> tuple[PerSample, PerSample]:
    """(symmetric InfoNCE, whether the own text wins); over all ranks where the UNet is told nothing, else within this one."""
    assert seen.pictures is not None
    assert seen.texts is not None
    if parts.settings.sees == "nothing":
        forward, hit = info_nce(seen.pictures, seen.texts, seen.scale, keys, ranks)
        return (forward + info_nce(seen.texts, seen.pictures, seen.scale, keys, ranks)[0]) / 2, hit
    views = seen.pictures.unflatten(0, (-1, len(keys)))
    texts = torch.stack([seen.texts.roll(-r, 0) for r in range(len(views))])
    return rolled_nce(seen.scale * (views * texts).sum(2), keys)


def rolled_nce(scores: Float[Tensor, "r b"], keys: Keys) -> tuple[PerSample, PerSample]:
    """(symmetric InfoNCE, whether the own text wins) where scores[r, i] is that of picture i with text i + r, cyclic.

    A picture's candidates are its own text and the next ones, a text's its own picture and those before. Equal keys are no
    negatives. For two samples of scores 2, 1 (own) and 0, 0 (the other's): log(1 + e^-2), log(1 + e^-1), both ways alike.
    """
    same = torch.stack([keys == keys.roll(-r) for r in range(len(scores))])
    same[0] = False
    masked = scores.float().masked_fill(same, -math.inf)
    backward = torch.stack([row.roll(r) for r, row in enumerate(masked)])
    own = torch.zeros_like(keys)
    loss = (F.cross_entropy(masked.T, own, reduction="none") + F.cross_entropy(backward.T, own, reduction="none")) / 2
    return loss, (masked.argmax(0) == 0).float()


@dataclass(frozen=True)
class ProbeScorer:
    """How well pictures and texts go together, by a probe on the model's UNet: the mean cosine over `count` noise levels.

    The levels lie evenly in the probe's range, the noise of each is one tensor for all pictures. A `Scorer` of `engine.match`.
    """

    model: StableDiffusion
    probe: Probe
    count: int = 4
    seed: int = 0
    batch_size: int = 64

    @property
    def fingerprint(self) -> str:
        """Names the weights and the settings that change a score."""
        about = {"settings": asdict(self.probe.settings), "count": self.count, "seed": self.seed}
        weights = fingerprint_of(about, self.probe), fingerprint_of(dict(self.model.unet.config), self.model.unet)  # type: ignore[arg-type]
        return f"{key_of('probe', *weights, self.model.codec.fingerprint, self.model.text.fingerprint):016x}"

    @torch.no_grad()
    def __call__(self, images: Float[Tensor, "n 3 h w"], texts: Sequence[str], pairs: Int[Tensor, "p 2"]) -> Float[Tensor, "p"]:
        """pairs: (image, text) indices; pixels in [-1, 1]. ShapeError for an index out of range."""
        if len(pairs) and (int(pairs.min()) < 0 or int(pairs[:, 0].max()) >= len(images) or int(pairs[:, 1].max()) >= len(texts)):
            raise ShapeError(f"pairs name images or texts beyond the {len(images)} and {len(texts)} that are given")
        codec, text = self.model.codec, self.model.text
        device = next(self.probe.parameters()).device
        latents, tokens = codec.latents(codec.encode(images), None).to(device), text.encode(texts).to(device)
        words = self.probe.texts(tokens)
        if self.probe.settings.sees == "nothing":
            told = text.null.to(device).expand(len(images), -1, -1)
            pictures = self._pictures(latents, told)
            return (pictures[pairs[:, 0]] * words[pairs[:, 1]]).sum(1)
        pictures = self._pictures(latents[pairs[:, 0]], tokens[pairs[:, 1]])
        return (pictures * words[pairs[:, 1]]).sum(1)

    def null(self, images: Pixels) -> None:
        """Nothing: a cosine needs no score of the empty caption to be subtracted."""

    def _pictures(self, latents: Latents, told: Tokens) -> Float[Tensor, "b joint"]:
        """The mean over noise levels of the pictures' vectors, each told its text."""
        network = Probed(self.model.denoiser(), self.probe, tuned=False)
        total = torch.zeros(len(latents), self.probe.settings.joint, device=latents.device)
        count = len(self.model.path.abar)
        low, high = self.probe.settings.levels
        for k in range(self.count):
            step = min(int((low + (high - low) * (k + 0.5) / self.count) * count), count - 1)
            noise = Draws(self.seed, [step]).normal("probe noise", latents.shape[1:]).to(latents.device)
            for start in range(0, len(latents), self.batch_size):
                part = slice(start, start + self.batch_size)
                level = self.model.path.at(torch.full((len(latents[part]),), step)).to(latents.device)
                blended = level.blend(latents[part], noise.expand_as(latents[part]))
                seen = network(blended, level, told[part], 0, told[part])
                total[part] += seen.pictures
        return total / self.count


def open_probe(final: Path) -> tuple[Probe, str]:
    """(the probe of a finished run's `final`, the model it belongs to: a name or path, "" for the pipeline in `final` itself)."""
    probe, about = load_probe(final / "probe")
    return probe.eval().requires_grad_(False), about.get("model", "")


def open_probed(final: Path) -> ProbeScorer:
    """The scorer of a finished run's `final`: its probe and the model that the probe reads."""
    probe, name = open_probe(final)
    return ProbeScorer(open_stable_diffusion(name or str(final.resolve()), 0), probe)
