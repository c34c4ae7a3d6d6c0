"""What is known of a video file before it is watched: its timeline and a row of facts, or in a word why it is refused."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

from ..core.errors import DataError
from ..video.opening import Limits as Bounds
from ..video.opening import VideoError, open_video, shown
from ..video.timeline import Timeline, timeline_of
from .settings import Limits

__all__ = ["classify", "probe"]

ERRORS = ("open_failed", "read_failed", "no_decoder")  # it could not be looked at; with any other reason it was, and was refused
FEW = 3  # frames: fewer are no video
SPACES = {
    0: "rgb",
    1: "bt709",
    4: "fcc",
    5: "bt470bg",
    6: "smpte170m",
    7: "smpte240m",
    9: "bt2020nc",
    10: "bt2020c",
}  # AVColorSpace
RANGES = {1: "limited", 2: "full"}  # AVColorRange
SILENCE = 1.0  # seconds without a frame that are noted, if they are also ten times the usual


def probe(path: Path, limits: Limits) -> tuple[Timeline, dict[str, Any]]:
    """The timeline, and the video's columns as plain values; reads all packets, decodes one frame.

    width, height as shown; rate in frames a second on average; time_base: "1/12800"; sar: of one pixel as it is stored, "4:3";
    color_space: "bt709", ...; color_range: "limited", "full"; each "" where the file does not say; start_pts: of the first frame;
    frames_declared: by the header, 0 where it does not say; frames: with a time; keyframes: how many; max_gop_s: seconds at most
    from where decoding may start to the next such place, or to the end.
    VideoError (see `classify`) for one that cannot be opened or lies outside of `limits`.
    """
    bounds = Bounds(limits.max_bytes or 2**63, limits.max_megapixels or 1e6, limits.max_seconds or None)
    with open_video(path, bounds) as (container, stream):
        timeline = timeline_of(path, container, stream, bounds)
        context = stream.codec_context
        facts: dict[str, Any] = {
            "size_bytes": path.stat().st_size,
            "container": container.format.name.split(",")[0],
            "codec": context.name,
            "pix_fmt": context.pix_fmt or "",
            "width": timeline.width,
            "height": timeline.height,
            "rotation": timeline.rotation,
            "sar": f"{aspect.numerator}:{aspect.denominator}" if (aspect := stream.sample_aspect_ratio) else "",
            "color_space": SPACES.get(int(context.colorspace), ""),
            "color_range": RANGES.get(int(context.color_range), ""),
            "rate": timeline.rate,
            "time_base": str(stream.time_base),
            "start_pts": timeline.stamps[0] if timeline.stamps else None,
            "duration_s": timeline.duration,
            "frames_declared": stream.frames,
            "frames": len(timeline.times),
            "is_vfr": timeline.variable,
            "keyframes": len(timeline.keyframes),
            "max_gop_s": _longest(timeline),
            "has_audio": any(other.type == "audio" for other in container.streams),
            "notes": [*timeline.notes, *_silences(timeline)],
        }
    _refuse(timeline, limits)
    return timeline, facts


def classify(error: DataError) -> tuple[str, str]:
    """(status, reason) of a video that raised it: "error" if it could not be looked at, "reject" if it was and is not wanted."""
    reason = getattr(error, "reason", "open_failed")
    return "error" if reason in ERRORS else "reject", reason


def _refuse(timeline: Timeline, limits: Limits) -> None:
    where, frames, short = shown(timeline.path), len(timeline.times), min(timeline.width, timeline.height)
    if frames < FEW:
        notes = f" ({'; '.join(timeline.notes)})" if timeline.notes else ""
        raise VideoError(f"{where}: has {frames} frame{'s' if frames > 1 else ''}, a video {FEW} or more{notes}", "too_short")
    if timeline.duration < limits.min_seconds - 1e-6:
        words = f"lasts {timeline.duration:.3g} s, less than min_seconds = {limits.min_seconds:g}"
        raise VideoError(f"{where}: {words}", "too_short")
    if short < limits.min_short_side:
        words = f"is {timeline.width} x {timeline.height}, its shorter side under min_short_side = {limits.min_short_side}"
        raise VideoError(f"{where}: {words}", "too_small")


def _longest(timeline: Timeline) -> float:
    starts = [*(timeline.times[at] for at in timeline.keyframes), timeline.duration]
    return round(max((b - a for a, b in pairwise(starts)), default=timeline.duration), 6)


def _silences(timeline: Timeline) -> Iterator[str]:
    times = timeline.times
    gaps = [b - a for a, b in pairwise(times)]
    most = max(gaps, default=0.0)
    if gaps and most > max(SILENCE, 10 * median(gaps)):
        long = sum(gap > max(SILENCE, 10 * median(gaps)) for gap in gaps)
        more = f" (and {long - 1} more such gap{'s' if long > 2 else ''})" if long > 1 else ""
        yield f"no frame for {most:.1f} s after {times[gaps.index(most)]:.2f} s{more}"
