"""Finding cuts: ours beside PySceneDetect's two detectors at their defaults, on drawn videos of many conditions.

python benchmarks/cuts.py [--videos 4] [--only NAME ...] [--labelled FOLDER] [--seed 0]

Each video has a handful of shots of drawn scenes that move, and is encoded with H.264. A hard cut is found by one within 2 frames;
a gradual change by whatever lies in it, or within half a second. What is found elsewhere is false. Per condition: precision and
recall of all changes; for ours also the share of clips (2 s and longer, default settings) that a change lies inside of, and the
share of the seconds of shots of 2 s and longer that is left in clips. --labelled: a folder with clips_dev.jsonl, whose hand-checked
cuts are compared alike.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from relatum.video.cuts import TRIM, find_cuts, shots
from relatum.video.timeline import read_timeline

NAMES = ("ours", "content", "adaptive")
NEAR = 2  # frames
SLACK = 0.5  # seconds around a gradual change
LEAST = 2.0  # seconds of a clip
CLOCK = Fraction(1, 90000)
Shot = Callable[[float], np.ndarray]


@dataclass
class Made:
    """A video to be written: frames with their times, and where it changes, in seconds."""

    frames: Iterator[tuple[float, np.ndarray]]
    hard: list[float] = field(default_factory=list)
    gradual: list[tuple[float, float]] = field(default_factory=list)
    crf: int = 23


@dataclass
class Look:
    """How scenes of a condition are drawn. Speeds and sizes in heights (a second)."""

    width: int = 320
    height: int = 180
    level: tuple[float, float] = (60, 190)
    contrast: tuple[float, float] = (25, 60)
    color: float = 40
    pan: tuple[float, float] = (0, 0.25)
    zoom: float = 0.1
    shake: float = 0.004
    objects: tuple[int, int] = (0, 4)
    speed: tuple[float, float] = (0.05, 0.5)
    large: tuple[float, float] = (0.1, 0.4)


def texture(random: np.random.Generator, look: Look, height: int, width: int) -> np.ndarray:
    """(h w 3) float32: noise of several grains and colors, half of the time with straight edges."""
    total = np.zeros((height, width, 3), np.float32)
    for grain in [random.choice([3, 6, 12]), *random.choice([24, 70], random.integers(0, 3), replace=False)]:
        small = random.normal(size=(height // grain + 2, width // grain + 2, 1)).astype(np.float32)
        small = small + look.color / 100 * random.normal(size=(*small.shape[:2], 3)).astype(np.float32)
        total += cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    total = total / max(total.std(), 1e-3) * random.uniform(*look.contrast)
    base = random.uniform(*look.level) + look.color * random.uniform(-1, 1, 3)
    made = total + base.astype(np.float32)
    for _ in range(random.integers(0, 12)):
        corner = random.integers((width, height))
        size = (random.uniform(0.05, 0.5, 2) * height).astype(int)
        shade = random.uniform(*look.level) + look.color * random.uniform(-1, 1, 3) + random.normal() * np.mean(look.contrast)
        cv2.rectangle(made, corner.tolist(), (corner + size).tolist(), shade.tolist(), -1)
    return made


def scene(random: np.random.Generator, look: Look) -> Shot:
    """A textured ground that pans, zooms and shakes, and textured things that cross it."""
    h, w = look.height, look.width
    ground = texture(random, look, 2 * h, 2 * w)
    angle, speed, zoom = random.uniform(0, 2 * np.pi), random.uniform(*look.pan) * h, random.normal() * look.zoom
    phases, rates = random.uniform(0, 6, (2, 4)), random.uniform(3, 60, (2, 4))
    things = []
    for _ in range(random.integers(look.objects[0], look.objects[1] + 1)):
        size = random.uniform(*look.large) * h * random.uniform(0.6, 1.4, 2)
        way = random.uniform(0, 2 * np.pi)
        velocity = random.uniform(*look.speed) * h * np.array([np.cos(way), np.sin(way)])
        patch = texture(random, look, int(size[1]) + 4, int(size[0]) + 4).clip(0, 255)
        things.append((patch, random.uniform(0, 1, 2) * (w, h), velocity, random.uniform(0.5, 3), random.random() < 0.5))

    def at(t: float) -> np.ndarray:
        jitter = look.shake * h * np.sin(rates * t + phases).sum(1)
        x, y = w / 2 + speed * t * np.cos(angle) + jitter[0], h / 2 + speed * t * np.sin(angle) + jitter[1]
        scale = float(np.exp(-zoom * t))
        matrix = np.array([[scale, 0, x + w / 2 * (1 - scale)], [0, scale, y + h / 2 * (1 - scale)]])
        how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        made = cv2.warpAffine(ground, matrix, (w, h), flags=how, borderMode=cv2.BORDER_REFLECT)
        for patch, start, velocity, bob, disk in things:
            place = start + velocity * t + 0.05 * h * np.sin(bob * t)
            edge = np.array([w, h])
            place = np.abs((place + edge) % (2 * edge) - edge) - np.array(patch.shape[1::-1]) / 2
            put(made, patch, place, disk)
        return made.clip(0, 255)

    return at


def put(made: np.ndarray, patch: np.ndarray, place: np.ndarray, disk: bool) -> None:
    h, w = patch.shape[:2]
    left, top = (round(float(p)) for p in place)
    a, b, c, d = max(top, 0), min(top + h, made.shape[0]), max(left, 0), min(left + w, made.shape[1])
    if a >= b or c >= d:
        return
    part = patch[a - top : b - top, c - left : d - left]
    if not disk:
        made[a:b, c:d] = part
        return
    y, x = np.mgrid[a - top : b - top, c - left : d - left]
    inside = ((x - w / 2) * 2 / w) ** 2 + ((y - h / 2) * 2 / h) ** 2 <= 1
    made[a:b, c:d][inside] = part[inside]


def lengths(random: np.random.Generator, shortest: float = 1.5, longest: float = 4.0, total: float = 14.0) -> list[float]:
    found: list[float] = []
    while sum(found) < total:
        found.append(round(float(random.uniform(shortest, longest)), 2))
    return found


def steady(fps: float) -> Callable[[float], list[float]]:
    return lambda seconds: [i / fps for i in range(round(seconds * fps))]


def edited(
    random: np.random.Generator,
    looks: Callable[[], Look] = Look,
    fps: float = 25.0,
    times: list[float] | None = None,
    spans: list[float] | None = None,
    parts: list[float] | None = None,
    through: Callable[[], float | None] = lambda: None,
    after: Callable[[np.ndarray, float], np.ndarray] = lambda pixels, t: pixels,
    crf: int = 23,
) -> Made:
    """Shots one after the other. spans: seconds of the changes between them (0: a hard cut), in turn; through: the gray level that
    such a change goes through (None: a dissolve). after: done to each frame."""
    parts = parts or lengths(random)
    spans = [(spans or [0.0])[i % len(spans or [0.0])] for i in range(len(parts) - 1)]
    grays = [through() for _ in spans]
    scenes = [scene(random, looks()) for _ in parts]
    ends = np.cumsum(parts)
    begins = ends - parts
    times = times or steady(fps)(float(ends[-1]))
    made = Made(iter(()), crf=crf)
    for end, span in zip(ends, spans, strict=False):
        first = next((t for t in times if t >= end - 1e-9), None)
        if span == 0 and first is not None:
            made.hard.append(first)
        elif span:
            made.gradual.append((end - span / 2, end + span / 2))

    def frames() -> Iterator[tuple[float, np.ndarray]]:
        for t in times:
            i = min(int(np.searchsorted(ends, t + 1e-9, "right")), len(parts) - 1)
            pixels = None
            for j in (i - 1, i):
                if 0 <= j < len(spans) and spans[j] and abs(t - ends[j]) < spans[j] / 2:
                    share = (t - ends[j]) / spans[j] + 0.5
                    one, two = scenes[j](t - begins[j]), scenes[j + 1](t - begins[j + 1])
                    gray = grays[j]
                    if gray is None:
                        pixels = (1 - share) * one + share * two
                    else:
                        shown, weight = (one, 1 - 2 * share) if share < 0.5 else (two, 2 * share - 1)
                        pixels = weight * shown + (1 - weight) * gray
            yield t, after(scenes[i](t - begins[i]) if pixels is None else pixels, t).clip(0, 255).astype(np.uint8)

    made.frames = frames()
    return made


def flashing(random: np.random.Generator) -> Callable[[np.ndarray, float], np.ndarray]:
    """One to four frames of light a second or so, up to white."""
    starts = np.cumsum(random.uniform(0.5, 2.5, 12))
    length, strength = random.uniform(0.04, 0.16, 12), random.uniform(0.4, 1.0, 12)

    def light(pixels: np.ndarray, t: float) -> np.ndarray:
        for start, lasts, strong in zip(starts, length, strength, strict=True):
            if start <= t < start + lasts:
                return pixels + strong * (255 - pixels) if strong > 0.7 else pixels * (1 + strong)
        return pixels

    return light


def strobing(random: np.random.Generator) -> Callable[[np.ndarray, float], np.ndarray]:
    rate, low = random.uniform(3, 12), random.uniform(0.2, 0.6)
    return lambda pixels, t: pixels * (low if t % 4 < 2 and (t * rate) % 1 < 0.5 else 1.0)


def lit(random: np.random.Generator) -> Callable[[np.ndarray, float], np.ndarray]:
    """Light that goes on and off, or slowly up and down."""
    if random.random() < 0.5:
        return lambda pixels, t: pixels * (0.45 if t % 3 < 1.2 else 1.0)
    rate = random.uniform(0.3, 1.0)
    return lambda pixels, t: pixels * (0.7 + 0.3 * np.sin(2 * np.pi * rate * t))


def titled(random: np.random.Generator) -> Callable[[np.ndarray, float], np.ndarray]:
    """Lines of text that come and go, some on a bar."""
    kinds = random.random(20)

    def write(pixels: np.ndarray, t: float) -> np.ndarray:
        turn = int(t / 1.3)
        if turn % 2:
            made = pixels.clip(0, 255).astype(np.uint8)
            h, w = made.shape[:2]
            if kinds[turn % 20] < 0.5:
                cv2.rectangle(made, (0, int(0.72 * h)), (w, int(0.95 * h)), (20, 20, 20), -1)
            cv2.putText(
                made, f"Line {turn} of a story", (w // 20, int(0.88 * h)), cv2.FONT_HERSHEY_SIMPLEX, h / 250, (250, 250, 250), 2
            )
            return made
        return pixels

    return write


def boxed(pixels: np.ndarray, t: float) -> np.ndarray:
    made = pixels.copy()
    made[: made.shape[0] // 7] = made[-(made.shape[0] // 7) :] = 0
    return made


def noisy(random: np.random.Generator, sd: float) -> Callable[[np.ndarray, float], np.ndarray]:
    return lambda pixels, t: pixels + random.normal(size=pixels.shape[:2]).astype(np.float32)[..., None] * sd


def gray(pixels: np.ndarray, t: float) -> np.ndarray:
    return np.repeat(pixels.mean(2, keepdims=True), 3, 2)


def gaps(random: np.random.Generator, seconds: float) -> list[float]:
    """Times of a variable rate: 30 a second of which stretches lack most frames."""
    found, t = [], 0.0
    while t < seconds:
        found.append(round(t, 5))
        t += random.choice([1, 1, 1, 2, 3, 6]) / 30 if int(t) % 2 else 1 / 30
    return found


SPANS = [0.3, 0.5, 1.0, 2.0, 3.0]
BLACK_WHITE = (0.0, 0.0, 255.0)


def whips(random: np.random.Generator) -> Look:
    return Look(pan=(1.0, 4.0), zoom=0.2)


def conditions() -> dict[str, Callable[[np.random.Generator], Made]]:
    slow = lambda r: lengths(r, 4.5, 6.0, 20.0)  # noqa: E731
    vary = lambda r, values: lambda: float(r.choice(values))  # noqa: E731
    return {
        "plain": lambda r: edited(r),
        "still": lambda r: edited(r, lambda: Look(pan=(0, 0), zoom=0, shake=0, objects=(0, 0))),
        "short shots": lambda r: edited(r, parts=lengths(r, 0.24, 1.0, 10.0)),
        "fast pans": lambda r: edited(r, lambda: whips(r)),
        "shake": lambda r: edited(r, lambda: Look(shake=float(r.uniform(0.01, 0.04)))),
        "large and fast": lambda r: edited(r, lambda: Look(objects=(2, 5), speed=(0.5, 3.0), large=(0.4, 1.2))),
        "flashes": lambda r: edited(r, after=flashing(r)),
        "strobe": lambda r: edited(r, after=strobing(r)),
        "lights": lambda r: edited(r, after=lit(r)),
        "titles": lambda r: edited(r, after=titled(r)),
        "dark": lambda r: edited(r, lambda: Look(level=(12, 30), contrast=(4, 10), color=6)),
        "alike": lambda r: edited(r, lambda: Look(level=(110, 125), contrast=(12, 18), color=5)),
        "gray": lambda r: edited(r, after=gray),
        "letterbox": lambda r: edited(r, after=boxed),
        "noise": lambda r: edited(r, after=noisy(r, float(r.uniform(8, 25)))),
        "low rate": lambda r: edited(r, lambda: Look(shake=0.01), crf=42),
        "small": lambda r: edited(r, lambda: Look(width=96, height=54)),
        "upright": lambda r: edited(r, lambda: Look(width=180, height=320)),
        "10 fps": lambda r: edited(r, lambda: Look(pan=(0, 0.8)), fps=10),
        "15 fps": lambda r: edited(r, lambda: Look(pan=(0, 0.8)), fps=15),
        "60 fps": lambda r: edited(r, fps=60),
        "variable": lambda r: edited(r, times=gaps(r, 12.0), parts=lengths(r, 1.5, 4.0, 12.0)),
        "dissolves": lambda r: edited(r, parts=slow(r), spans=SPANS),
        "dissolves, moving": lambda r: edited(r, lambda: Look(pan=(0.2, 0.6), objects=(2, 5)), parts=slow(r), spans=SPANS),
        "dissolves, alike": lambda r: edited(r, lambda: Look(level=(110, 125), contrast=(15, 25)), parts=slow(r), spans=SPANS),
        "fades": lambda r: edited(r, parts=slow(r), spans=SPANS, through=vary(r, BLACK_WHITE)),
        "fades, dark": lambda r: edited(
            r, lambda: Look(level=(12, 30), contrast=(5, 10), color=6), parts=slow(r), spans=SPANS, through=lambda: 0.0
        ),
        "mixed": lambda r: edited(r, parts=slow(r), spans=[0.0, 1.0, 0.0, 0.5], through=lambda: None if r.random() < 0.5 else 0.0),
    }


def written(path: Path, made: Made) -> Path:
    with av.open(str(path), "w") as output:
        stream: Any = None
        for t, pixels in made.frames:
            if stream is None:
                stream = output.add_stream("libx264", rate=30, options={"crf": str(made.crf), "preset": "veryfast"})
                stream.height, stream.width = pixels.shape[:2]
                stream.pix_fmt, stream.codec_context.time_base, stream.codec_context.thread_count = "yuv420p", CLOCK, 1
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="bgr24")
            frame.pts, frame.time_base = round(t / CLOCK), CLOCK
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


@dataclass
class Tally:
    right: int = 0
    false: int = 0
    found: int = 0
    missed: int = 0

    def add(self, spans: list[tuple[float, float]], made: Made, frame: float) -> None:
        """spans: what was found, a cut having no length."""
        near = NEAR * frame + 1e-6
        truths = [(t - near, t + near) for t in made.hard] + [(a - SLACK, b + SLACK) for a, b in made.gradual]
        meets = [[a <= d and c <= b for c, d in truths] for a, b in spans]
        hits = [any(row) for row in meets]
        self.right, self.false = self.right + sum(hits), self.false + len(hits) - sum(hits)
        seen = sum(any(row[k] for row in meets) for k in range(len(truths)))
        self.found, self.missed = self.found + seen, self.missed + len(truths) - seen

    def __str__(self) -> str:
        precision = self.right / max(self.right + self.false, 1) if self.right + self.false else 1.0
        recall = self.found / (self.found + self.missed) if self.found + self.missed else 1.0
        return f"{precision:5.2f} {recall:5.2f}"


@dataclass
class Clips:
    count: int = 0
    crossed: int = 0
    kept: float = 0.0
    there: float = 0.0

    def add(self, clips: list[tuple[float, float]], made: Made, end: float) -> None:
        changes = [(t, t) for t in made.hard] + made.gradual
        # a change lies inside of a clip that it overlaps by more than a quarter second (a gradual one) or than two frames
        inside = [any(a + 0.08 < t < b - 0.08 for t in made.hard) for a, b in clips]
        inside = [x or any(min(b, d) - max(a, c) > 0.25 for c, d in made.gradual) for x, (a, b) in zip(inside, clips, strict=True)]
        self.count, self.crossed = self.count + len(clips), self.crossed + sum(inside)
        bounds = sorted([(0.0, 0.0), *changes, (end, end)])
        spans = [(one[1], two[0]) for one, two in pairwise(bounds)]
        self.there += sum(b - a for a, b in spans if b - a >= LEAST)
        self.kept += sum(b - a for (a, b), bad in zip(clips, inside, strict=True) if not bad)

    def __str__(self) -> str:
        return f"{self.crossed / max(self.count, 1):5.2f} {self.kept / max(self.there, 1e-9):5.2f}"


def peers(path: Path) -> dict[str, list[float]]:
    from scenedetect import AdaptiveDetector, ContentDetector, SceneManager, open_video

    found = {}
    for name, detector in (("content", ContentDetector()), ("adaptive", AdaptiveDetector())):
        manager, video = SceneManager(), open_video(str(path), backend="pyav")
        manager.add_detector(detector)
        manager.detect_scenes(video)
        found[name] = [start.seconds for start, _ in manager.get_scene_list()[1:]]
    return found


def judged(path: Path, made: Made, tallies: dict[str, Tally], clips: Clips, frame: float | None) -> None:
    timeline = read_timeline(path)
    cuts = find_cuts(timeline)
    frame = frame or 1 / timeline.rate
    times = [*timeline.times, timeline.duration]
    spans = [(a + TRIM, b - TRIM) for a, b in cuts.gradual]  # as they were found
    tallies["ours"].add([(t, t) for t in cuts.hard] + spans, made, frame)
    for name, found in peers(path).items():
        tallies[name].add([(t, t) for t in found], made, frame)
    spans = [(times[a], times[b]) for a, b in shots(timeline, cuts)]
    clips.add([(a, b) for a, b in spans if b - a >= LEAST], made, timeline.duration)


def labelled(folder: Path) -> Iterator[tuple[str, Path, Made, float | None]]:
    """(name, path, its changes, seconds of a frame as the labels count) of each clip."""
    for line in (folder / "clips_dev.jsonl").read_text(encoding="utf-8").splitlines():
        clip = json.loads(line)
        spans = [(a / clip["fps"], b / clip["fps"]) for a, b, *_ in clip["gradual"]]
        yield Path(clip["file"]).name, folder / clip["file"], Made(iter(()), clip["hard_cut_times_s"], spans), 1 / clip["fps"]


def drawn(folder: Path, videos: int, only: list[str], seed: int) -> Iterator[tuple[str, Path, Made, float | None]]:
    """The same of `videos` that are drawn of each condition."""
    for turn, (name, make) in enumerate(conditions().items()):
        for i in range(videos if not only or name in only else 0):
            made = make(np.random.default_rng([seed, turn, i]))
            yield name, written(folder / "drawn.mp4", made), made, None


def line(label: str, tallies: dict[str, Tally], clips: Clips) -> None:
    print(f"{label[:22]:22}" + " ".join(str(tally) for tally in tallies.values()) + f"   {clips}", flush=True)


def fresh() -> tuple[dict[str, Tally], Clips]:
    return {name: Tally() for name in NAMES}, Clips()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4, help="a condition")
    parser.add_argument("--only", nargs="*", default=[], help="conditions")
    parser.add_argument("--labelled", type=Path, help="a folder with clips_dev.jsonl")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    cv2.setNumThreads(1)
    av.logging.set_level(av.logging.FATAL)
    print(f"{'':22}   ours        content     adaptive     clips of ours")
    print(f"{'':22}   P     R     P     R     P     R    crossed kept")
    whole = fresh()
    with tempfile.TemporaryDirectory() as folder:
        found = drawn(Path(folder), given.videos, given.only, given.seed)
        for label, several in groupby(found if given.labelled is None else labelled(given.labelled), key=lambda one: one[0]):
            part = fresh()
            for _, path, made, frame in several:
                judged(path, made, *part, frame)
            line(label, *part)
            for total, one in zip([*whole[0].values(), whole[1]], [*part[0].values(), part[1]], strict=True):
                for name, value in vars(one).items():
                    setattr(total, name, getattr(total, name) + value)
    line("all", *whole)


if __name__ == "__main__":
    main()
