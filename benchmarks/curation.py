"""Measuring videos for curation: ours in one pass, beside what peers do, in one run, by CPU time.

python benchmarks/curation.py [--video clip.mp4 ...] [--turns 3]

Without --video it draws a film of its own (640 x 360, 60 s, a cut every 5 s). Contenders, each a process with one thread:
  ours        one pass that leaves cuts, motion, text area, exposure, sharpness, bars, frozen frames, hashes and stills
  cuts only   PySceneDetect's command line (detect-adaptive, every frame), which finds cuts and nothing else
  one each    our own measures one by one, each decoding again: what one tool a measure costs at its best
  scripts     one script a measure as they are commonly written: PySceneDetect's command line for cuts, then OpenCV loops for
              Farneback flow at 2 frames/s, gradients for text at 1/s, Laplacian and exposure at 1/s, repeated frames, dHash, stills
Turns alternate; ratios are taken turn by turn. CPU seconds of the process and its children, start-up included, and without it (a
turn on nothing is subtracted). At the end: peak memory of all that we do with a film, stills included, for 1 and 10 minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np

MEASURES = ("cuts", "motion", "text", "picture", "frozen", "hash")
NAMES = ("ours", "cuts only", "one each", "scripts")


def film(path: Path, seconds: int, width: int = 640, height: int = 360, rate: int = 25) -> Path:
    """A camera that drifts over a picture of clouds, before which a box moves, with noise; another picture every 5 s. H.264, a
    keyframe every 250 frames."""
    import cv2

    random = np.random.default_rng(0)
    noise = random.normal(0, 4, (4, height, width, 3)).astype(np.float32)
    margin = 5 * rate * 3
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=rate, options={"preset": "veryfast", "bf": "3", "g": "250"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        ground = np.zeros(0)
        for i in range(seconds * rate):
            shot, at = divmod(i, 5 * rate)
            if not at:
                grains = [random.normal(0, 1, (height // cell + 2, (width + margin) // cell + 2, 3)) for cell in (64, 24, 8)]
                sized = [cv2.resize(grain, (width + margin, height), interpolation=cv2.INTER_CUBIC) for grain in grains]
                ground = (random.uniform(70, 170, 3) + sum(sized) * random.uniform(10, 30)).astype(np.float32)
            pixels = ground[:, at * (1 + shot % 3) : at * (1 + shot % 3) + width] + noise[i % 4]
            left = abs(4 * i % (2 * (width - width // 7)) - (width - width // 7))  # to and fro
            pixels[height // 3 : height // 2, left : left + width // 7] = (250, 220 - 20 * (shot % 9), 30)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.clip(0, 255).astype(np.uint8), format="rgb24")))
        output.mux(stream.encode(None))
    return path


def measured(videos: Sequence[str], measures: Sequence[str], stills: bool = True) -> None:
    """Our pass with some of the measures over each video, as a worker does it."""
    import cv2

    from relatum.curation import stages  # noqa: F401 - registers them
    from relatum.curation.base import Measure, Video
    from relatum.curation.passing import watch
    from relatum.curation.plan import build_all
    from relatum.curation.settings import Stills
    from relatum.curation.stills import Spool
    from relatum.video.timeline import read_timeline

    cv2.setNumThreads(1)
    built = build_all("measure", {name: {} for name in measures}, Measure)
    for path in videos:
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(Stills(), Path(folder)) if stills else None
            watch(Video(hashlib.sha256(path.encode()).hexdigest(), read_timeline(Path(path))), built, spool)
            if spool is not None:
                spool.close()


def scripted(videos: Sequence[str]) -> None:
    """One OpenCV loop a measure, each opening and decoding the file again."""
    import cv2

    cv2.setNumThreads(1)
    kernel = np.ones((11, 41), np.float32) / (11 * 41)

    def frames(path: str, rate: float) -> Any:
        capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
        step = max(round(capture.get(cv2.CAP_PROP_FPS) / rate), 1) if rate else 1
        for i in iter(int, 1):
            if not capture.grab():
                break
            if i % step == 0:
                yield capture.retrieve()[1]
        capture.release()

    for path in videos:
        last: Any = None
        for frame in frames(path, 2):  # motion
            gray = cv2.cvtColor(cv2.resize(frame, (228, 128)), cv2.COLOR_BGR2GRAY)
            if last is not None:
                flow = cv2.calcOpticalFlowFarneback(last, gray, None, 0.5, 3, 15, 3, 5, 1.2, 0)  # type: ignore[call-overload]
                np.linalg.norm(flow, axis=-1).mean()
            last = gray
        for frame in frames(path, 1):  # text
            gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            cv2.filter2D(np.abs(cv2.Sobel(gray, cv2.CV_32F, 1, 0)), -1, kernel)
        for frame in frames(path, 1):  # exposure, sharpness, bars
            gray = cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY)
            cv2.Laplacian(gray, cv2.CV_64F).var(), gray.mean(), (gray.max(0) < 16).sum(), (gray.max(1) < 16).sum()
        last = None
        for frame in frames(path, 0):  # repeated frames
            gray = cv2.cvtColor(cv2.resize(frame, (256, 144)), cv2.COLOR_BGR2GRAY)
            if last is not None:
                cv2.absdiff(gray, last).mean()
            last = gray
        for frame in frames(path, 2):  # dHash
            small = cv2.resize(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
            np.packbits(small[:, 1:] > small[:, :-1])
        for frame in frames(path, 1):  # stills
            cv2.imencode(".jpg", cv2.resize(frame, (456, 256), interpolation=cv2.INTER_AREA))


def spent(name: str, videos: Sequence[str]) -> float:
    """CPU seconds of a contender's processes."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    if name in ("cuts only", "scripts"):
        for path in videos:
            tool = [sys.executable, "-m", "scenedetect", "--quiet", "--input", path, "--backend", "pyav", "--frame-skip", "0"]
            _run([*tool, "detect-adaptive"])
    if name == "scripts":
        _run([sys.executable, __file__, "--part", json.dumps(["scripts", list(videos)])])
    parts = {"ours": [list(MEASURES)], "one each": [[measure] for measure in MEASURES] + [[]]}.get(name, [])
    for measures in parts:
        _run([sys.executable, __file__, "--part", json.dumps([measures, list(videos)])])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _run(command: Sequence[str]) -> str:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} ...\n{done.stderr}")
    return done.stdout


def stored(videos: Sequence[str]) -> None:
    """All that a worker does with each video, with record and stills of its clips written."""
    import cv2

    from relatum.curation.item import Item, Job, measure
    from relatum.curation.plan import plan_of
    from relatum.curation.recipe import curation_of

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        table = {"name": "memory", "input": {"path": "."}, "output_dir": folder}
        recipe = curation_of(table, Path(folder))
        job = Job(recipe, plan_of(recipe), 9)  # as many stills as with models
        for path in videos:
            measure(Item(hashlib.sha256(path.encode()).hexdigest(), path), job, lambda stage, frame: None)


def part(text: str) -> None:
    measures, videos = json.loads(text)
    if measures == "scripts":
        scripted(videos)
    elif measures == "stored":
        stored(videos)
    else:
        measured(videos, measures, stills=not measures or len(measures) > 1)
    # ru_maxrss would be at least that of the process that started this one
    peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    print(int(peak.split()[1]) // 1024)


def memory(folder: Path) -> None:
    """Peak memory of ours, with the stills of all clips, over the same film, once and ten times as long."""
    short = film(folder / "short.mp4", 60, 320, 180)
    long = folder / "long.mp4"
    with av.open(str(long), "w") as output:
        source = av.open(str(short))
        stream = output.add_stream_from_template(source.streams.video[0])
        source.close()
        shift = 0
        for _ in range(10):
            with av.open(str(short)) as again:
                last = 0
                for packet in again.demux(again.streams.video[0]):
                    if packet.dts is not None:
                        last = max(last, packet.pts + packet.duration)
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        output.mux(packet)
                shift += last
    peaks = [int(_run([sys.executable, __file__, "--part", json.dumps(["stored", [str(path)]])])) for path in (short, long)]
    print(f"\npeak memory of ours: {peaks[0]} MiB over 1 minute, {peaks[1]} MiB over 10 minutes")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", action="append", default=[])
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        part(args.part)
        return
    with tempfile.TemporaryDirectory() as folder:
        videos = args.video or [str(film(Path(folder) / "film.mp4", 60))]
        clips: dict[str, list[float]] = {name: [] for name in NAMES}
        for _ in range(args.turns):
            for name in NAMES:
                clips[name].append(spent(name, videos))
        seconds = sum(float(av.open(path).duration or 0) / 1e6 for path in videos)
        print(f"{len(videos)} videos, {seconds:.0f} s of footage, {args.turns} turns; CPU seconds, median (least to most)")
        for name in NAMES:
            ratios = [a / b for a, b in zip(clips[name], clips["ours"], strict=True)]
            middle = statistics.median(clips[name])
            times = f"{middle:7.2f} ({min(clips[name]):.2f} to {max(clips[name]):.2f})"
            over = f"{statistics.median(ratios):5.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
            print(f"  {name:<10} {times}   times ours {over}   clips of 10 s a CPU second {seconds / 10 / middle:.2f}")
        memory(Path(folder))


if __name__ == "__main__":
    main()
