"""The settings of one training set that is written of what a curation kept: an [output.NAME] table of its recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..core.errors import RecipeError
from ..data.pairs import PairLaw
from .sifting import Sieve

__all__ = ["Output"]

FORMATS = {
    "pairs": ("webdataset", "parquet", "folder"),
    "triplets": ("webdataset", "parquet", "folder"),
    "stills": ("webdataset", "parquet", "folder"),
    "clips": ("webdataset", "folder"),
    "ranges": ("parquet", "folder"),
}


@dataclass(frozen=True)
class Output:
    """One [output.NAME] of a curation.

    kind: "pairs" of frames (task frames), "triplets" (the same pairs as edits: original_image, edited_image, edit_prompt, the
    instruction being the clip's caption), "stills" (the middle frame of each clip with a caption), "clips" (videos with a caption),
    "ranges" (a table of where clips lie in the original videos, which the reader curated takes). format: the first that the kind
    has, where it is empty: "webdataset", "parquet", or a "folder" with metadata.jsonl.
    size: the shorter edge in pixels, aspect kept, never enlarged; 0 is as it is. quality: of JPEG; 0 writes PNG. crf: of the clips'
    H.264. rate: frames a second of clips; 0 keeps every frame at its own time. frames: clips as folders of images at `rate`.
    split: "train", "validation" or "test" alone (of a hundred groups of videos 98, 1 and 1, by their hash); all where it is empty,
    each sample saying which it is of. per_video: pairs of each video, 8 if 0; of other kinds clips of each video, drawn by the
    seed, all if 0. law, grid, sd, offset, horizon, seed: of PairLaw. least_flow, most_jitter, distinct: of Sieve.
    shard_mib, shard_rows: what a shard holds at most. on_bad_row: "skip" counts videos that are gone or were changed, "stop" ends.
    """

    kind: Literal["pairs", "triplets", "stills", "clips", "ranges"] = "pairs"
    format: Literal["", "webdataset", "parquet", "folder"] = ""
    split: Literal["", "train", "validation", "test"] = ""
    size: int = 0
    quality: int = 95
    crf: int = 18
    rate: float = 0.0
    frames: bool = False
    per_video: int = 0
    law: Literal["half_normal", "next", "uniform"] = "half_normal"
    grid: float = 0.2
    sd: float = 2.0
    offset: float = 0.2
    horizon: float = 6.0
    seed: int = 0
    least_flow: float = 0.01
    most_jitter: float = 0.02
    distinct: bool = True
    shard_mib: float = 256.0
    shard_rows: int = 2000
    on_bad_row: Literal["skip", "stop"] = "skip"

    def __post_init__(self) -> None:
        if self.form not in FORMATS[self.kind]:
            raise RecipeError(f"{self.kind} are not written as {self.format!r}; choose {' or '.join(FORMATS[self.kind])}")
        if self.frames and (self.kind, self.form) != ("clips", "folder"):
            raise RecipeError('frames: folders of images are written of kind = "clips" with format = "folder"')
        if self.frames and self.rate <= 0:
            raise RecipeError("rate: folders of images have no times; say how many frames a second they are to have")
        if not 0 <= self.quality <= 100 or not 0 <= self.crf <= 51:
            raise RecipeError(f"quality is {self.quality} and crf {self.crf}, expected 0 to 100 and 0 to 51")
        for name in ("size", "rate", "per_video", "least_flow", "most_jitter"):
            if getattr(self, name) < 0:
                raise RecipeError(f"{name} is {getattr(self, name)}, expected 0 or more")
        if 0 < self.size < 8 or self.shard_mib <= 0 or self.shard_rows < 1:
            raise RecipeError("expected a size of 8 pixels or more (0: as it is), shard_mib above 0, shard_rows of 1 or more")
        self.pair_law()

    @property
    def form(self) -> str:
        return self.format or FORMATS[self.kind][0]

    def pair_law(self) -> PairLaw:
        names = ("grid", "sd", "offset", "horizon", "seed")
        settings = {name: getattr(self, name) for name in names}
        return PairLaw(self.law, per_video=self.per_video or 8, max_seconds=0.0, **settings)

    def sieve(self) -> Sieve:
        return Sieve(self.least_flow, self.most_jitter, self.distinct)
