"""Where a video changes, measured at several rates in the one pass: what the split "shots" decides from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ...core.errors import RecipeError
from ...core.registry import stage
from ...video.cuts import Rules, watched
from ...video.finder import CutFinder
from ..base import Clip, Facts, Track, Video, inside

__all__ = ["Cuts"]


@stage("cuts")
@dataclass
class Cuts:
    """Changes from every frame to the next, mixtures of pictures 8 times a second, histograms at each of `rates`.

    detectors: what the split may use. "adaptive", "content", "dissolve" and "fade" are always there; "hash", "histogram" (every
    frame) and "threshold" (PySceneDetect's detectors of these names) cost more to record. Thresholds are the split's, so that
    changing one does not decode anew.
    failed: frames of the clip that did not decode.
    """

    detectors: tuple[str, ...] = ("adaptive", "dissolve", "fade")
    rates: tuple[float, ...] = (1.0,)
    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("failed",)
    cheap: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        Rules(detectors=self.detectors)
        if not all(0 < rate < float("inf") for rate in self.rates) or len(set(self.rates)) < len(self.rates):
            raise RecipeError(f"cuts.rates: expected different samples a second, each above 0, found {list(self.rates)}")

    @property
    def rate(self) -> float:
        return 0.0

    def watch(self, video: Video) -> CutFinder:
        return CutFinder(**watched(Rules(detectors=self.detectors), self.rates))

    def facts(self, track: Track, clip: Clip) -> Facts:
        return {"failed": clip.stop - clip.first - int(inside(track, clip).sum())}
