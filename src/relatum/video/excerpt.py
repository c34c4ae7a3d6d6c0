"""A range of a video's frames as an MP4 of its own: every frame of it and no other, each under its own time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import needs_disk
from ..core.errors import DataError, MissingExtra
from .opening import shown
from .reader import Reader
from .timeline import Timeline
from .write import ENCODERS

__all__ = ["excerpt"]

CLOCK = Fraction(1, 90000)  # of what is written
GOP = 30  # frames from one keyframe to the next at most: clips are read by seeking


def excerpt(timeline: Timeline, indices: Sequence[int], size: int = 0, crf: int = 18) -> bytes:
    """An MP4 (H.264, yuv420p, BT.709, index in front) of the frames at ascending `indices`, the first at time 0.

    size: the shorter edge in pixels, by area averaging; 0, or more than there is: as it is. Of odd edges the last row or column is
    doubled. crf: x264's, lower is better. Frames are encoded anew, so that the range is exact wherever the file's keyframes lie.
    DataError if one of the frames does not decode, or the encoder refuses.
    """
    with Reader(timeline) as reader:
        try:
            return _encoded(timeline, indices, _pictures(reader, indices, size or None), crf)
        except DataError:
            if not reader.sought:
                raise
    with Reader(
        timeline, seeks=False
    ) as reader:  # a decoder may need more than the keyframe; from the beginning it has all there is
        return _encoded(timeline, indices, _pictures(reader, indices, size or None), crf)


def _pictures(reader: Reader, indices: Sequence[int], size: int | None) -> Iterator[np.ndarray]:
    for index in indices:
        frame = reader.at(index)
        if frame is None:
            timeline = reader.timeline
            raise DataError(f"{shown(timeline.path)} at {timeline.times[index]:.2f} s: the frame cannot be decoded")
        yield reader.rgb(frame, size)


def _encoded(timeline: Timeline, indices: Sequence[int], pictures: Iterator[np.ndarray], crf: int) -> bytes:
    try:
        with tempfile.TemporaryDirectory(prefix="relatum-clip-") as folder, needs_disk(Path(folder)):
            path = Path(folder) / "clip.mp4"  # the index moves to the front in a second pass over a real file
            _encode(path, [timeline.times[index] for index in indices], pictures, crf)
            return path.read_bytes()
    except (DataError, MissingExtra):
        raise
    except Exception as error:  # an encoder that refuses a size or a rate may raise anything
        raise DataError(f"{shown(timeline.path)}: the encoder refuses it ({type(error).__name__}: {error})") from error


def _encode(path: Path, times: Sequence[float], pictures: Iterator[np.ndarray], crf: int) -> None:
    import av
    from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc, Interpolation, VideoReformatter

    encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise DataError(f"this PyAV has none of the encoders {', '.join(ENCODERS)}; install PyAV's own wheel")
    rate = Fraction((len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 25).limit_denominator(1000)
    options = {"crf": str(crf), "preset": "fast"} if encoder == "libx264" else {}
    shaper, shape = VideoReformatter(), {"threads": 1, "interpolation": Interpolation.BILINEAR | Interpolation.ACCURATE_RND}
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream: Any = file.add_stream(encoder, rate=rate, options=options)
        context = stream.codec_context
        stream.pix_fmt, context.time_base = "yuv420p", CLOCK
        context.gop_size, context.thread_count = GOP, 1  # one thread: the same bytes on every machine
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for number, (time, pixels) in enumerate(zip(times, pictures, strict=True)):
            even = np.pad(pixels, [(0, pixels.shape[0] % 2), (0, pixels.shape[1] % 2), (0, 0)], mode="edge")
            if number == 0:
                stream.height, stream.width = even.shape[:2]
                if encoder != "libx264":
                    stream.bit_rate = max(1_000_000, int(0.4 * even.shape[0] * even.shape[1] * rate))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")
            frame = shaper.reformat(
                frame, format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG, **shape
            )
            frame.pts, frame.time_base = round((time - times[0]) / CLOCK), CLOCK
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
