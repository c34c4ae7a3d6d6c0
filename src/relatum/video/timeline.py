"""What a video file holds: when each frame is shown, where a decoder may start, how large and how turned the frames are."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

from .damage import LONGEST_RUN
from .opening import Limits, VideoError, check_size, open_video, other_name, packets_of, shown
from .turn import turn_of

__all__ = ["Timeline", "read_timeline", "timeline_of"]

HDR = {16: "PQ (SMPTE 2084)", 18: "HLG (ARIB STD-B67)"}  # AVColorTransferCharacteristic


@dataclass(frozen=True)
class Timeline:
    """A video file's frames by the time they are shown, from its packets and its first frame.

    times: seconds from the first frame, ascending, no duplicates. keyframes: indices into times where decoding may start.
    width, height: as shown, the turn applied. rotation: degrees counterclockwise from the stored to the shown frame.
    rate: frames a second on average. duration: the last time plus the median gap. variable: gaps differ by more than the
    rounding of the file's clock. notes: what was odd or left out, one line each. stamps: the times as the file counts them,
    in units of its clock. seekable: False where stamps jump back, so that a seek could land in the wrong part. by_order: the
    file says only when packets are decoded (AVI); frames take those times in the order in which they come out.
    """

    path: Path
    times: tuple[float, ...]
    keyframes: tuple[int, ...]
    width: int
    height: int
    rotation: int
    rate: float
    duration: float
    variable: bool
    notes: tuple[str, ...]
    stamps: tuple[int, ...] = ()
    seekable: bool = True
    by_order: bool = False

    def keyframe_before(self, index: int) -> int | None:
        """The last frame at or before `index` where decoding may start; None where only the beginning is left."""
        at = bisect_right(self.keyframes, index)
        return self.keyframes[at - 1] if at else None


def read_timeline(path: Path, limits: Limits = Limits()) -> Timeline:  # noqa: B008 - a frozen value
    """Lists a video's frames from its packets, in presentation order; only the first frame is decoded.

    VideoError naming the file where it is no usable video: absent, no regular file, empty, none of the containers that are
    read, without a video stream, over a limit, HDR, or when nothing decodes. Of a damaged or cut file it lists what is there;
    lengths that a header states are not used. Time stamps that are missing, repeat or jump back are left out and noted.

    Example: timeline = read_timeline(Path("clip.mp4")); timeline.times[:3]  # (0.0, 0.04, 0.08)
    """
    with open_video(path, limits) as (container, stream):
        return timeline_of(path, container, stream, limits)


def timeline_of(path: Path, container: Any, stream: Any, limits: Limits) -> Timeline:
    """`read_timeline` for a video that is open already, of which nothing was read; afterwards all of it was."""
    where = shown(path)
    notes = [note for note in (other_name(path, container), _others(container, stream), _shape(stream)) if note]
    _refuse_hdr(stream.color_trc, where)
    clock = Fraction(stream.time_base)
    reorders = bool(stream.codec_context.has_b_frames)
    stamps = _Stamps(reorders, by_order=container.format.name == "avi")
    first, end = _read(container, stream, stamps, None if limits.max_seconds is None else limits.max_seconds / clock)
    stated = float(1 / stream.average_rate) if stream.average_rate else 0.0
    _refuse_empty(where, first, end, stamps)
    times = tuple(float((stamp - stamps.kept[0]) * clock) for stamp in stamps.kept)
    if limits.max_seconds is not None and times[-1] > limits.max_seconds:
        words = f"lasts {times[-1]:g} s or longer, the limit is {limits.max_seconds:g}; cut it, or raise max_seconds"
        raise VideoError(f"{where}: {words}", "too_long")
    _refuse_hdr(first.color_trc, where)
    check_size(first.width, first.height, where, limits)
    turn = turn_of(first)
    if turn.odd:
        notes.append(f"a turn of {turn.odd} degrees is not applied")
    width, height = (first.height, first.width) if turn.transpose else (first.width, first.height)
    gaps = [b - a for a, b in zip(stamps.kept, stamps.kept[1:], strict=False)]
    usual = median(gaps) if gaps else stamps.length or 0
    gap = float(usual * clock) or stated
    return Timeline(
        path=path,
        times=times,
        keyframes=tuple(bisect_left(stamps.kept, stamp) for stamp in sorted(stamps.keys)),
        width=width,
        height=height,
        rotation=turn.degrees,
        rate=len(gaps) / times[-1] if gaps else 1 / gap if gap else 0.0,
        duration=times[-1] + gap,
        variable=any(abs(other - usual) > 1 for other in gaps),
        notes=(*notes, *stamps.notes(clock), *filter(None, [end])),
        stamps=tuple(stamps.kept),
        seekable=not stamps.jumps and not (stamps.by_order and stamps.reorders),
        by_order=stamps.by_order,
    )


@dataclass
class _Stamps:
    """Presentation stamps sorted as they come in decoding order, with what had to be left out."""

    reorders: bool
    by_order: bool = False
    kept: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    length: int | None = None
    ceiling: int | None = None  # the latest stamp before the last keyframe: nothing after that keyframe may lie below it
    jumps: list[int] = field(default_factory=list)  # the latest stamp at each jump back
    behind: int = 0
    fallen: bool = False  # the last packet lay behind a jump
    repeated: int = 0
    missing: int = 0
    damaged: int = 0

    def add(self, packet: Any) -> None:
        self.damaged += packet.is_corrupt
        stamp, key = packet.dts if self.by_order else packet.pts, packet.is_keyframe
        if stamp is None:
            self.missing += 1
            return
        at = bisect_left(self.kept, stamp)
        later = len(self.kept) - at
        below = self.ceiling is not None and stamp <= self.ceiling
        if later and (key or below or not self.reorders or later > LONGEST_RUN):
            if self.kept[at] == stamp and later == 1 and not self.fallen:
                self.repeated += 1  # the latest frame once more: no jump
            else:
                self.behind, self.fallen = self.behind + 1, True
                if not self.jumps or self.jumps[-1] != self.kept[-1]:
                    self.jumps.append(self.kept[-1])
            self.ceiling = self.kept[-1]
        elif later and self.kept[at] == stamp:
            self.repeated += 1
        else:
            if key:
                self.ceiling = self.kept[-1] if self.kept else None
                self.keys.append(stamp)
            self.fallen = False
            self.kept.insert(at, stamp)
            self.length = packet.duration

    def notes(self, clock: Fraction) -> list[str]:
        found = []
        if self.by_order and self.reorders:
            found.append("no presentation times (AVI); frames take the times of decoding in order")
        if self.missing:
            found.append(f"{_count(self.missing, 'packet')} without a time stamp, left out")
        if self.repeated:
            found.append(f"{_count(self.repeated, 'packet')} with the time stamp of another, left out")
        if self.jumps:
            places = ", ".join(f"{float((stamp - self.kept[0]) * clock):.2f} s" for stamp in self.jumps[:5])
            more = f" and {len(self.jumps) - 5} more" if len(self.jumps) > 5 else ""
            found.append(f"time stamps jump back at {places}{more}; {_count(self.behind, 'packet')} behind the jump left out")
        if self.damaged:
            found.append(f"{_count(self.damaged, 'damaged packet')}")
        return found


def _read(container: Any, stream: Any, stamps: _Stamps, longest: Fraction | float | None) -> tuple[Any, str | None]:
    """All packets into `stamps`; the first frame that decodes (None if none does), and why reading ended early or what failed."""
    import av.error

    first, fault, context = None, None, stream.codec_context
    hidden = (lambda packet: not memoryview(packet)[0] & 16) if context.name in ("vp8", "libvpx") else None
    packets = packets_of(container, stream)
    while True:
        try:
            packet = next(packets, None)
        except av.error.FFmpegError as error:
            return first, f"reading ends early ({error.strerror})"
        if packet is None:
            return first, None if first is not None else fault
        if packet.size == 0 or packet.is_discard or (hidden is not None and hidden(packet)):  # hidden: VP8's alternate references
            continue
        stamps.add(packet)
        if first is None:
            try:
                first = next(iter(context.decode(packet) + context.decode(None)), None)
            except av.error.FFmpegError as error:
                fault = error.strerror
            context.flush_buffers()
        if longest is not None and len(stamps.kept) > 1 and stamps.kept[-1] - stamps.kept[0] > longest:
            return first, None


def _others(container: Any, stream: Any) -> str | None:
    count = len(container.streams.video)
    return f"{count} video streams; stream {stream.index}, {stream.width} x {stream.height}, is read" if count > 1 else None


def _shape(stream: Any) -> str | None:
    ratio = stream.sample_aspect_ratio
    return (
        f"pixels are not square ({ratio.numerator}:{ratio.denominator}); frames are given as stored"
        if ratio and ratio != 1
        else None
    )


def _refuse_hdr(transfer: int, where: str) -> None:
    if transfer in HDR:
        words = f"is HDR with the transfer {HDR[transfer]}, which needs tone mapping; convert it to SDR first"
        raise VideoError(f"{where}: {words}", "hdr")


def _refuse_empty(where: str, first: Any, end: str | None, stamps: _Stamps) -> None:
    if first is None:
        reason = "corrupt" if stamps.kept or stamps.missing else "read_failed" if end else "no_frames"
        words = f"no frame can be decoded ({end or 'no error is reported'}); replace the file or leave it out"
        raise VideoError(f"{where}: {words}", reason)
    if not stamps.kept:
        raise VideoError(f"{where}: no frame has a time stamp; write the file again, for instance with ffmpeg -c copy", "no_times")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
