"""Reading videos: ours beside a plain PyAV loop and an OpenCV loop, in one run, by CPU time.

python benchmarks/decode.py [--video clip.mp4 ...] [--turns 5]

Without --video it draws two films of its own, with a keyframe every 30 and every 250 frames. Each contender has one thread.
  index   which frames there are, and when: ours lists packets; the loops decode and count
  frames  every frame as RGB, in order
  pairs   8 and 32 random pairs of frames: ours indexes the file, then makes one pass; the loops seek for each frame
Turns alternate between the contenders; ratios are taken turn by turn. Before that, the frames of all three are compared.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from relatum.video.decode import frames_at, iterate, read_timeline

NAMES = ("ours", "pyav", "opencv")


def film(path: Path, width: int, height: int, frames: int, gop: int) -> Path:
    """A drifting texture with a moving box, 30 frames a second, H.264 with three B-frames."""
    y, x = np.mgrid[:height, :width]
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream(
            "libx264", rate=30, options={"preset": "veryfast", "bf": "3", "g": str(gop), "sc_threshold": "0"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for i in range(frames):
            pixels = np.stack([128 + 50 * np.sin((x + 2 * i) / 17 + k) + 40 * np.cos((y - i) / (9 + k)) for k in range(3)], -1)
            left = 3 * i % max(width - width // 8, 1)
            pixels[height // 3 : height // 2, left : left + width // 8] = (250, 220, 30)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.astype(np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def opened(path: Path) -> Any:
    container = av.open(str(path))
    container.streams.video[0].thread_type = "NONE"
    return container


def captured(path: Path) -> cv2.VideoCapture:
    return cv2.VideoCapture(str(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])


def index_ours(path: Path) -> int:
    return len(read_timeline(path).times)


def index_pyav(path: Path) -> int:
    with opened(path) as container:
        return sum(1 for _ in container.decode(video=0))


def index_opencv(path: Path) -> int:
    capture, count = captured(path), 0
    while capture.grab():
        count += 1
    return count


def frames_ours(path: Path) -> int:
    return sum(1 for _ in iterate(read_timeline(path)))


def frames_pyav(path: Path) -> int:
    with opened(path) as container:
        return sum(1 for frame in container.decode(video=0) if frame.to_ndarray(format="rgb24") is not None)


def frames_opencv(path: Path) -> int:
    capture, count = captured(path), 0
    while True:
        there, pixels = capture.read()
        if not there:
            return count
        cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        count += 1


def pairs_ours(path: Path, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    return {index: image.permute(1, 2, 0).numpy() for index, image in frames_at(read_timeline(path), wanted).items()}


def pairs_pyav(path: Path, wanted: Sequence[int], stamps: Sequence[int]) -> dict[int, np.ndarray]:
    """The time stamps are given to it; it would have to list them as we do."""
    found = {}
    with opened(path) as container:
        stream = container.streams.video[0]
        for index in wanted:
            container.seek(stamps[index], stream=stream)
            for frame in container.decode(stream):
                if frame.pts is not None and frame.pts >= stamps[index]:
                    found[index] = frame.to_ndarray(format="rgb24")
                    break
    return found


def pairs_opencv(path: Path, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    capture, found = captured(path), {}
    for index in wanted:
        capture.set(cv2.CAP_PROP_POS_FRAMES, index)
        there, pixels = capture.read()
        if there:
            found[index] = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return found


def timed(works: Sequence[Callable[[], Any]], turns: int) -> list[list[float]]:
    """CPU seconds by contender and turn; the first turn is not counted, and the order turns round from one to the next."""
    taken: list[list[float]] = [[] for _ in works]
    for turn in range(turns + 1):
        order = range(len(works)) if turn % 2 else reversed(range(len(works)))
        for i in order:
            start = time.process_time()
            works[i]()
            taken[i].append(max(time.process_time() - start, 1e-6))
    return [one[1:] for one in taken]


def spread(values: Sequence[float]) -> str:
    def form(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    return f"{form(statistics.median(values))} ({form(min(values))}-{form(max(values))})"


def report(name: str, works: Sequence[Callable[[], Any]], amount: int, unit: str, turns: int) -> None:
    taken = timed(works, turns)
    speeds = "  ".join(f"{who} {spread([amount / seconds for seconds in one])}" for who, one in zip(NAMES, taken, strict=True))
    ratios = "  ".join(
        f"ours / {who} {spread([theirs / ours for ours, theirs in zip(taken[0], one, strict=True)])}"
        for who, one in zip(NAMES[1:], taken[1:], strict=True)
    )
    print(f"{name:<9}{unit:<14}{speeds}\n{'':<23}{ratios}")


def compare(path: Path, turns: int) -> None:
    timeline = read_timeline(path)
    frames, stamps = len(timeline.times), timeline.stamps
    print(f"\n{path.name}: {timeline.width} x {timeline.height}, {frames} frames, {len(timeline.keyframes)} keyframes")
    draw = np.random.default_rng(0)
    wanted = draw.integers(0, frames, 16).tolist()
    ours = pairs_ours(path, wanted)
    for name, theirs in (("pyav", pairs_pyav(path, wanted, stamps)), ("opencv", pairs_opencv(path, wanted))):
        equal = sum(index in ours and index in theirs and np.array_equal(ours[index], theirs[index]) for index in set(wanted))
        count = (index_pyav if name == "pyav" else index_opencv)(path)
        print(f"same pixels as {name}: {equal} of {len(set(wanted))} frames; it counts {count}")
    report("index", [lambda f=f: f(path) for f in (index_ours, index_pyav, index_opencv)], frames, "frames/CPU-s", turns)
    report("frames", [lambda f=f: f(path) for f in (frames_ours, frames_pyav, frames_opencv)], frames, "frames/CPU-s", turns)
    for pairs in (8, 32):
        wanted = draw.integers(0, frames, 2 * pairs).tolist()
        works = [
            lambda w=wanted: pairs_ours(path, w),
            lambda w=wanted: pairs_pyav(path, w, stamps),
            lambda w=wanted: pairs_opencv(path, w),
        ]
        report(f"{pairs} pairs", works, pairs, "pairs/CPU-s", turns)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--video", type=Path, nargs="+", default=[], help="files to read in place of drawn films")
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--frames", type=int, default=500, help="length of the drawn films")
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--height", type=int, default=360)
    said = parser.parse_args()
    cv2.setNumThreads(1)
    print(f"median (least-most) of {said.turns} turns")
    with tempfile.TemporaryDirectory() as folder:
        drawn = [
            film(Path(folder, f"gop{gop}.mp4"), said.width, said.height, said.frames, gop) for gop in (30, 250) if not said.video
        ]
        for path in said.video or drawn:
            compare(path, said.turns)


if __name__ == "__main__":
    main()
