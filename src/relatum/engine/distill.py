"""CLIP from diffusion (SDS-CLIP, Basu et al. 2023, arXiv 2307.09233): a frozen diffusion model judges what CLIP keeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, nn

from ..core.draws import Draws
from ..core.path import NoiseLevel
from ..core.prediction import Prediction
from ..core.ranks import ONE, Ranks
from ..core.shapes import Latents, PerSample, Tokens
from ..models.families.stable_diffusion import StableDiffusion
from ..models.families.tuned import Drawing
from ..tasks.base import Batch
from .pretrain import ClipParts, clip_step
from .step import Moment, Step

__all__ = ["DistillParts", "denoising_score", "distill_step"]


@dataclass
class DistillParts:
    """network: pixels, input_ids -> `models.families.tuned.Drawing`. teacher: frozen; None where `weight` is 0.

    weight: lambda of the denoising score. caption: what the teacher is told, the picture's own caption or none (a control).
    """

    network: nn.Module
    tokenizer: Any
    teacher: StableDiffusion | None = None
    weight: float = 0.0
    caption: Literal["own", "null"] = "own"
    column: str = "target"


class _Kept(nn.Module):
    """The network, which also remembers the last `Drawing` that it gave."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.last: Drawing | None = None

    def forward(self, pixels: Tensor, input_ids: Tensor) -> Drawing:
        drawing: Drawing = self.network(pixels, input_ids)
        self.last = drawing
        return drawing


def distill_step(parts: DistillParts, batch: Batch, draws: Draws, ranks: Ranks = ONE, moment: Moment = Moment()) -> Step:  # noqa: B008
    """`clip_step` plus `weight` times the denoising score of the latents that a linear map makes of CLIP's image vectors.

    With weight 0 it is `clip_step`. Watches "drawn_rms": of those latents, which are about 1 in the teacher's data, and
    "drawn_spread": their deviation over the batch, 0 where every picture is drawn alike.
    """
    network = _Kept(parts.network)
    step = clip_step(ClipParts(network, parts.tokenizer, (parts.column,)), batch, draws, ranks, moment)
    if not parts.weight:
        return step
    drawn = None if network.last is None else network.last.latents
    assert parts.teacher is not None
    assert drawn is not None
    text = parts.teacher.text
    tokens = text.encode(list(batch.texts[parts.column])) if parts.caption == "own" else text.null.expand(len(batch), -1, -1)
    score, level = denoising_score(parts.teacher, drawn, tokens, draws)
    kept = drawn.detach()
    spread = (kept - kept.mean(0)).square().flatten(1).mean(1).sqrt()
    watched = {"drawn_rms": kept.square().flatten(1).mean(1).sqrt(), "drawn_spread": spread}
    return Step({**step.losses, "sds": score}, step.total + parts.weight * score.to(step.total), {**step.watched, **watched}, level)


def denoising_score(teacher: StableDiffusion, latents: Latents, tokens: Tokens, draws: Draws) -> tuple[PerSample, NoiseLevel]:
    """(mean squared error of the noise that the teacher reads in noised `latents`, noise levels): equation 6 of Basu et al.

    The gradient goes through the UNet to the latents, and by way of the noised input only: unlike score distillation of Poole et
    al. 2022 nothing of the Jacobian is left out. A teacher of another parametrization is read in eps. Draws "level" and "noise".
    """
    level = teacher.path.draw(draws).to(latents.device)
    noise = draws.normal("noise", latents.shape[1:]).to(latents.device)
    noisy = level.blend(latents, noise)
    raw = teacher.unet(noisy, level.time, encoder_hidden_states=tokens, return_dict=False)[0]
    return (Prediction(raw, noisy, level, teacher.kind).eps - noise).square().flatten(1).mean(1), level
