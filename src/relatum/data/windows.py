"""The law by which clips are taken from a video: how many frames, how far apart in seconds, from where, and what about cuts.

Nothing here opens a file: a video is its time stamps and its shots. All draws are addressed by (seed, video).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, NamedTuple

import numpy as np

from ..core.draws import key_of
from ..core.errors import RecipeError
from .pairs import nearest_frames

__all__ = ["Places", "Window", "WindowLaw", "draw_windows", "find_places", "repeats"]

GOLDEN = (math.sqrt(5) - 1) / 2  # its multiples, modulo 1, fill any number of gaps evenly
SAME = 0.2  # of the changes beside it: what a change of a frame that is shown again has at most, for a codec adds noise
STILL = 1.0  # levels of 255: what it has at most in any case
NEW = 0.25  # levels of 255: the least change beside it, so that the noise of a codec is not taken for motion
EDGE = 2  # changes at an end of a clip, where one side is not seen, that are taken for repeats: three frames shown for one


class Window(NamedTuple):
    """number: in the order of drawing. frames: indices into the video's time stamps. cuts: k where k and k + 1 are of two shots."""

    number: int
    frames: tuple[int, ...]
    cuts: tuple[int, ...]

    @property
    def held(self) -> int:
        """How often it shows a frame once more."""
        return sum(a == b for a, b in zip(self.frames, self.frames[1:], strict=False))


@dataclass(frozen=True)
class WindowLaw:
    """Clips of `frames` frames, `stride` seconds apart: of each wanted time the nearest frame. The first is a frame of the video.

    per_video: clips of each video, at different starts, spread over it; asking for more changes none of them. 0: all, back to
    back. on_cut: "split", every clip lies within a shot; "mask", clips may cross cuts, and neighbors of two shots do not count as
    joined; "stop", a video with a cut is a bad row.
    on_repeat: what about a video with too few frames a second (or a gap), of which a clip would show a frame twice. "mask": it is
    shown, and those neighbors do not count as joined; "split": no clip does that; "stop": such a video is a bad row.
    """

    frames: int
    stride: float
    per_video: int = 8
    on_cut: Literal["split", "mask", "stop"] = "split"
    on_repeat: Literal["mask", "split", "stop"] = "mask"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.frames <= 1024:
            raise RecipeError(f"clips: frames is {self.frames}, expected 2 to 1024")
        if not 0 < self.stride < math.inf:
            raise RecipeError(f"clips: stride is {self.stride}, expected the seconds between two frames, above 0")
        if self.per_video < 0:
            raise RecipeError(f"clips: per_video is {self.per_video}, expected 1 or more, or 0 for all, back to back")

    @property
    def span(self) -> float:
        """Seconds from the first to the last frame."""
        return (self.frames - 1) * self.stride


class Places(NamedTuple):
    """Where clips may begin: starts (n,), and those (m,) that are none only because a frame would be shown twice."""

    starts: np.ndarray
    repeating: np.ndarray


def find_places(times: Sequence[float], shots: Sequence[tuple[int, int]], lost: Collection[int], law: WindowLaw) -> Places:
    """times: ascending seconds. shots: half-open ranges of frames. lost: frames that no clip may have (looked at where it may cross
    cuts; in no shot anyway). The last frame counts as shown for half its distance from the one before; a clip of one frame is none.
    """
    stamps, shot_of = np.asarray(times, np.float64), _numbered(len(times), shots)
    fits = stamps + law.span <= stamps[-1] + (stamps[-1] - stamps[-2] if len(stamps) > 1 else 0) / 2 + 1e-6
    usable = ~np.isin(np.arange(len(stamps)), list(lost)) if law.on_cut == "mask" else shot_of >= 0
    before, again = np.arange(len(stamps)), np.zeros(len(stamps), bool)
    fits &= usable
    for step in range(1, law.frames):
        at = nearest_frames(stamps, stamps + step * law.stride)
        fits &= usable[at] if law.on_cut == "mask" else shot_of[at] == shot_of
        again |= at == before
        before = at
    fits &= before > np.arange(len(stamps))
    if law.on_repeat == "mask":
        return Places(np.flatnonzero(fits), np.zeros(0, np.int64))
    return Places(np.flatnonzero(fits & ~again), np.flatnonzero(fits & again))


def draw_windows(
    times: Sequence[float], shots: Sequence[tuple[int, int]], starts: np.ndarray, law: WindowLaw, video: str
) -> list[Window]:
    """The clips of a video that begin at some of `starts`, ascending; fewer than `law.per_video` only where there are fewer."""
    stamps, shot_of = np.asarray(times, np.float64), _numbered(len(times), shots)
    picked = (
        _spread(starts, law, video) if law.per_video else dict(zip(_in_turn(stamps, starts, law), range(len(starts)), strict=False))
    )
    found = []
    for start, number in sorted(picked.items()):
        frames = nearest_frames(stamps, stamps[start] + np.arange(law.frames) * law.stride)
        shot = shot_of[frames]
        cuts = np.flatnonzero((shot[1:] != shot[:-1]) | (shot[1:] < 0))
        found.append(Window(number, tuple(frames.tolist()), tuple(cuts.tolist())))
    return found


def _numbered(count: int, shots: Sequence[tuple[int, int]]) -> np.ndarray:
    """(count,): each frame's shot, -1 for none."""
    shot_of = np.full(count, -1)
    for number, (start, stop) in enumerate(shots):
        shot_of[start:stop] = number
    return shot_of


def _spread(starts: np.ndarray, law: WindowLaw, video: str) -> dict[int, int]:
    """Numbers by start: one is drawn, the others follow it by the golden ratio."""
    taken: dict[int, int] = {}
    first, step = key_of(law.seed, "windows", video) / 2**63, 0
    while len(taken) < min(law.per_video, len(starts)):
        place = int((first + step * GOLDEN) % 1.0 * len(starts))
        taken.setdefault(int(starts[place]), len(taken))
        step += 1
    return taken


def _in_turn(stamps: np.ndarray, starts: np.ndarray, law: WindowLaw) -> Iterable[int]:
    """Starts of clips that share no frame, each as soon as the one before it is over."""
    last = nearest_frames(stamps, stamps[starts] + law.span)
    after = nearest_frames(stamps, stamps[starts] + law.frames * law.stride)
    free = 0
    for place, start in enumerate(starts.tolist()):
        if start >= free:
            free = max(int(after[place]), int(last[place]) + 1)
            yield start


def repeats(changes: Sequence[float]) -> list[bool]:
    """Which neighboring frames are one frame shown again, from the changes between them: mean |difference| in levels of 255.

    Those of a run of changes that are all at most a fifth of the change before the run and of the one after it, and at most 1.
    These two must be full steps: .25 or more, and half of the median of all changes that are that large. At an end, where one of
    the two is not seen, it may be one or two changes. So frames that hardly change are repeats only where the picture jumps from
    them to the next, as in 12 pictures a second shown as 24, or where a decoder got stuck. What never moves is still, as is what
    comes to rest and begins to move slowly: it repeats nothing.
    """
    moved = [change for change in changes if change >= NEW]
    found, n, least = [False] * len(changes), len(changes), max(NEW, median(moved) / 2) if moved else math.inf
    for before in range(-1, n):
        left, top = changes[before] if before >= 0 else math.inf, 0.0
        for after in range(before + 2, n + 1 if left >= least else 0):
            top = max(top, changes[after - 1])
            right = changes[after] if after < n else math.inf
            seen = before >= 0 and after < n
            if top > min(SAME * left, STILL) or (before < 0 and after > EDGE):
                break
            if least <= min(left, right) < math.inf and top <= SAME * right and (seen or after - before - 1 <= EDGE):
                found[before + 1 : after] = [True] * (after - before - 1)
    return found
