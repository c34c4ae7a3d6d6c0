"""The settings that all readers of videos share: which pairs of frames, or which whole clips, are drawn from each video."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from ..core.draws import key_of
from ..core.errors import RecipeError
from .clips import Clip, Draw, Entry, list_rows
from .pair_rows import pair_rows
from .pairs import PairLaw
from .rows import Row
from .window_rows import shared_captions, window_rows
from .windows import WindowLaw

__all__ = ["ClipReader"]

OF_PAIRS = ("law", "grid", "sd", "offset", "horizon", "past", "spacing", "future")
OF_CLIPS = ("stride", "on_cut", "on_repeat")


@dataclass
class ClipReader(ABC):
    """Settings of every reader that draws pairs of frames, or whole clips, from videos, and the rows that it gives.

    path: the data set's folder. max_seconds: longer videos are left out (0: none is). seed: of all draws. on_bad_row: "stop" with a
    DataError at a video that cannot be used, or "skip". part: "train" leaves out, and "test" takes, the share `held_out` of the
    recordings, chosen by the hash of their names: two readers of one folder then give both sides, each with its own law.
    skipped: videos left out, and those that give less than was asked (damaged frames, fewer pairs), each with its reason.

    Pairs (frames = 0): law: the kind of `PairLaw`; per_video, grid, sd, offset, horizon, past, spacing and future are the law's, in
    seconds. A row has the images "source", "past.2" ... (older), "target", "future.2" ... (later); its caption, drawn from the
    video's, as the texts "instruction" and "target"; facts: offset, spacing, source_time (seconds), video (its name). Group: the
    video's recording, if any, else its name.
    Clips (frames = 2 or more): frames, stride, per_video, on_cut and on_repeat are those of `WindowLaw`; settings of pairs are then
    refused. A row has the clip "target" and its caption, the text "target"; facts as above, offset and spacing being the stride.
    """

    path: str | Path
    _: KW_ONLY
    law: Literal["half_normal", "next", "uniform"] = "half_normal"
    per_video: int = 8
    grid: float = 0.2
    sd: float = 2.0
    offset: float = 0.2
    horizon: float = 6.0
    past: int = 1
    spacing: float = 0.0
    future: int = 1
    frames: int = 0
    stride: float = 0.0
    on_cut: Literal["split", "mask", "stop"] = "split"
    on_repeat: Literal["mask", "split", "stop"] = "mask"
    max_seconds: float = 30.0
    seed: int = 0
    part: Literal["all", "train", "test"] = "all"
    held_out: float = 0.1
    split_seed: int = 0
    on_bad_row: Literal["stop", "skip"] = "stop"
    skipped: list[str] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        self._refuse_unused()
        if self.frames:
            self.window_law()
        else:
            self.pair_law()
        if self.max_seconds < 0:
            raise RecipeError(f"max_seconds is {self.max_seconds}, expected seconds, 0 or more")
        if not 0 < self.held_out < 1:
            raise RecipeError(f"held_out is {self.held_out}, expected a share of the clips, above 0 and below 1")

    def pair_law(self) -> PairLaw:
        """The settings of pairs as a law. RecipeError for those that cannot be."""
        names = ("per_video", "grid", "sd", "offset", "horizon", "past", "spacing", "future", "max_seconds", "seed")
        return PairLaw(self.law, **{name: getattr(self, name) for name in names})

    def window_law(self) -> WindowLaw:
        """The settings of clips as a law. RecipeError for those that cannot be."""
        return WindowLaw(self.frames, self.stride, self.per_video, self.on_cut, self.on_repeat, self.seed)

    @abstractmethod
    def entries(self) -> Iterable[Entry]:
        """What the data set lists, in its order."""

    @abstractmethod
    def open_clip(self, entry: Entry) -> Clip:
        """DataError for a clip that cannot be used."""

    def rows(self) -> list[Row]:
        self.skipped.clear()
        windows = bool(self.frames)
        draw: Draw = partial(window_rows, law=self.window_law()) if windows else partial(pair_rows, law=self.pair_law())
        skip = self.on_bad_row == "skip"
        rows = list_rows(self.entries(), self.open_clip, draw, self._takes, skip, self.skipped, self.max_seconds)
        self.skipped += shared_captions(rows) if windows else []
        return rows

    def _refuse_unused(self) -> None:
        """RecipeError for a setting of pairs where clips are asked for, or of clips where they are not."""
        for name in OF_PAIRS if self.frames else OF_CLIPS:
            if getattr(self, name) != self.__dataclass_fields__[name].default:
                hint = (
                    f"is a setting of pairs of frames, and frames = {self.frames} asks for clips; take one of them out"
                    if self.frames
                    else "is a setting of clips; say how many frames they have, for example frames = 16"
                )
                raise RecipeError(f"{name} = {getattr(self, name)!r} {hint}")

    def _takes(self, group: str) -> bool:
        """Whether the group is on this side, as `splits.split` decides it."""
        return self.part == "all" or (self.part == "test") == (key_of(self.split_seed, "split", group) / 2**63 < self.held_out)
