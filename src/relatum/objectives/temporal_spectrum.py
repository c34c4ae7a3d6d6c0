"""How much moves at which speed: the spectrum over frames, position by position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..core.errors import RecipeError, ShapeError
from ..core.outcome import MATCHED, Outcome
from ..core.path import NoiseLevel
from ..core.prediction import Parametrization
from ..core.registry import objective
from ..core.shapes import Joined, PerSample, VideoLatents
from .residuals import bound, shot_ends

__all__ = ["TemporalSpectrum"]

LEAST = 1e-6  # of a squared amplitude, where its root would have no gradient


@objective("temporal_spectrum")
@dataclass(frozen=True)
class TemporalSpectrum:
    """Squared gap between the amplitude spectra over frames of predicted and true x0, from bin `above` up.

    Orthonormal discrete Fourier transform at each position of each channel; bin k has k periods a clip, bin 0 the mean. It does not
    see phases (when something moves), so it goes beside `denoise`: its advice is a gradient of at most a tenth of that term's.
    A sample is weighted so that the gap never counts more than the error of the raw output it comes from: min(SNR, 1) for eps; of
    noise levels a frame, the least weight. Each shot's own mean is replaced by the clip's, so that a cut is no motion.
    """

    above: int = 1
    asks = (MATCHED,)
    needs_clips = True

    def __post_init__(self) -> None:
        if self.above < 0:
            raise RecipeError(f"temporal_spectrum: above is {self.above}, expected 0 or more")

    @property
    def advice(self) -> Mapping[str, Any]:
        """What the blend does with this term where the recipe says nothing."""
        return {"cap": 0.1}

    def __call__(self, outcome: Outcome) -> PerSample:
        neighbors, bins = outcome.neighbors, outcome.clean.shape[2] // 2 + 1
        if self.above >= bins:
            frames = outcome.clean.shape[2]
            raise ShapeError(
                f"temporal_spectrum: above is {self.above}, but {frames} frames have the bins 0 to {bins - 1}; lower it"
            )
        clean, predicted = (_amplitudes(_level(x.float(), neighbors)) for x in (outcome.clean, outcome.matched.x0))
        gap = (predicted - clean)[:, :, self.above :].square().flatten(1).mean(1)
        return gap * _least_bound(outcome.matched.kind, outcome.level)


def _least_bound(kind: Parametrization, level: NoiseLevel) -> PerSample:
    held = bound(kind, "x0", level)
    return held if held.ndim == 1 else held.amin(1)


def _level(clips: VideoLatents, neighbors: Joined) -> VideoLatents:
    """Every shot moved to the clip's mean, position by position; a clip of one shot is left as it is."""
    first, _ = shot_ends(neighbors)
    same = (first[:, :, None] == first[:, None]).to(clips)
    shot = same / same.sum(2, keepdim=True)
    return clips + torch.einsum("bst,bcthw->bcshw", 1 / clips.shape[2] - shot, clips)


def _amplitudes(clips: VideoLatents) -> Tensor:
    """(b c bins h w)"""
    spectrum = torch.fft.rfft(clips, dim=2, norm="ortho")
    return (spectrum.real.square() + spectrum.imag.square() + LEAST).sqrt()
