"""How much of a clip's stills is text, by the detector of an OCR library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ...core.errors import DataError, MissingExtra, RecipeError
from ...core.registry import stage
from ..base import Facts, Shown

__all__ = ["Ocr"]

LIKELY = 0.6  # least mean probability of a box
GROWN = 0.9  # by how much what the network marks, the core of a line, grows to its box: drawn captions read 1.04 of their area
TALLEST = 0.25  # of the shorter edge: a higher box is no line but a thing, often the whole picture where it shows no text
LEAST = 16  # pixels of the shorter edge: a smaller picture has no text


@stage("ocr")
@dataclass
class Ocr:
    """rapidocr's text detector, on `stills` of the clip: facts as those of "text", which is 30 times as fast and less sure.

    area_max, area_mean: over the stills, share of the area that boxes of lines cover together. method: "rapidocr", or "heuristic"
    where the clip was not looked at. band: two areas; only clips whose `measure`.area_max lies from the first to the second are
    looked at, the others keep what the measure says. Without it all are. short: pixels that the shorter edge of a still is
    enlarged to. model: path of another detector in ONNX; by default the one inside rapidocr's wheel. Nothing is downloaded.
    """

    version: ClassVar[int] = 1
    writes: ClassVar[tuple[str, ...]] = ("area_max", "area_mean", "method")
    cheap: ClassVar[tuple[str, ...]] = ("batch_size",)

    stills: int = 3
    band: tuple[float, ...] = ()
    measure: str = "text"
    short: int = 384
    model: str = ""
    batch_size: int = 16

    def __post_init__(self) -> None:
        if self.stills < 1 or self.batch_size < 1 or not 64 <= self.short <= 2000:
            raise RecipeError(f"{self}: expected stills and batch_size of 1 or more, and short from 64 to 2000")
        if self.band and (len(self.band) != 2 or not self.band[0] <= self.band[1]):
            raise RecipeError(f"ocr: band is {self.band}, expected two areas, the lower one first, such as [0.02, 0.15]")

    @property
    def reads(self) -> tuple[str, ...] | None:
        return None if self.band else ()

    def open(self, device: str) -> None:
        try:
            import onnxruntime  # noqa: F401
            import rapidocr
        except ImportError:
            raise MissingExtra("rapidocr with onnxruntime", "ocr", "finding text with rapidocr") from None
        self._model = Path(self.model) if self.model else _inside(Path(rapidocr.__file__).parent / "models")
        if not self._model.is_file():
            raise DataError(f"ocr: no file {self._model}; expected a text detector in ONNX")
        self._detector = _detector(self._model, self.short)

    def identity(self) -> str:
        versions = [f"{name} {version(name)}" for name in ("rapidocr", "onnxruntime")]
        return f"{', '.join(versions)}, {hashlib.sha256(self._model.read_bytes()).hexdigest()}"

    def __call__(self, clips: Sequence[Shown]) -> list[Facts]:
        return [self._facts(clip) for clip in clips]

    def _facts(self, clip: Shown) -> Facts:
        if self.band:
            names = {name: f"{self.measure}.{name}" for name in self.writes}
            if names["area_max"] not in clip.facts:
                raise DataError(f"ocr: band needs the fact {names['area_max']!r}; name the measure that gives it: measure = ...")
            area: Any = clip.facts[names["area_max"]]
            if area is not None and not self.band[0] <= area <= self.band[1]:
                return {name: clip.facts.get(full) for name, full in names.items()}
        areas = [float(self.covered(still).mean()) for still in clip.stills]
        if not areas:
            return {"area_max": None, "area_mean": None, "method": "rapidocr"}
        return {"area_max": max(areas), "area_mean": float(np.mean(areas)), "method": "rapidocr"}

    def covered(self, still: np.ndarray) -> np.ndarray:
        """(h w) uint8, 1 where lines of text are, of an (h w 3) RGB picture."""
        import cv2

        covered = np.zeros(still.shape[:2], np.uint8)
        if min(still.shape[:2]) < LEAST:
            return covered
        found = self._detector(np.ascontiguousarray(still[..., ::-1]), use_det=True, use_cls=False, use_rec=False).boxes
        for box in () if found is None else np.asarray(found, np.float32):
            if min(cv2.minAreaRect(box)[1]) <= TALLEST * min(still.shape[:2]):
                cv2.fillPoly(covered, [np.round(box).astype(np.int32)], 1)
        return covered


def _inside(folder: Path) -> Path:
    found = sorted(folder.glob("*det*.onnx"))
    if not found:
        raise DataError(f"ocr: {folder} holds no detector (*det*.onnx); give one with model = PATH; none is downloaded")
    return found[-1]


def _detector(model: Path, short: int) -> Any:
    """Silent, on all cores, from a file that is there: rapidocr would otherwise fetch what it lacks."""
    import cv2
    from rapidocr import RapidOCR

    cv2.setNumThreads(1)
    return RapidOCR(
        params={
            "Global.log_level": "critical",
            "Det.model_path": str(model),
            "Det.limit_type": "min",
            "Det.limit_side_len": short,
            "Det.box_thresh": LIKELY,
            "Det.unclip_ratio": GROWN,
        }
    )
