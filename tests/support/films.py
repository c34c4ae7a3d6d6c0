"""Small videos for tests, made with PyAV: any frame times, keyframe spacing, B-frames, turns, odd sizes, and damaged files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

__all__ = ["bars", "cut_short", "film", "sound"]

CLOCK = Fraction(1, 1000)


def bars(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """(h w 3) uint8: a frame that tells its number by its gray level and a bright block that moves; red in the top left corner."""
    frame = np.full((height, width, 3), 30 + (index * 7) % 160, np.uint8)
    at = (index * 5) % max(width - 6, 1)
    frame[height // 2 :, at : at + 6] = (240, 240, 60)
    frame[: height // 4, : width // 4] = (220, 20, 20)
    return frame


def film(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[int] | None = None,
    *,
    codec: str = "libx264",
    gop: int = 12,
    b_frames: int = 0,
    pix_fmt: str = "yuv420p",
    turn: float | None = None,
    transfer: int | None = None,
    container: str | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Writes `frames` ((h w 3) uint8) shown at `times` (ms; None is 25 a second) and returns the path.

    turn: degrees counterclockwise. transfer: AVColorTransferCharacteristic.
    """
    height, width = frames[0].shape[:2]
    settings = {"crf": "12", "bf": str(b_frames), **(options or {})} if codec == "libx264" else dict(options or {})
    with av.open(str(path), "w", format=container, options=container_options or {}) as output:
        stream: Any = output.add_stream(codec, rate=25, options=settings)
        stream.width, stream.height, stream.pix_fmt = width, height, pix_fmt
        stream.codec_context.gop_size, stream.codec_context.time_base = gop, CLOCK
        stream.codec_context.thread_count = 1
        if codec == "libx264":
            stream.codec_context.options = {**settings, "g": str(gop), "sc_threshold": "0"}
        if transfer is not None:
            stream.codec_context.color_trc = transfer
        if turn is not None:
            stream.set_display_rotation(turn)
        for i, pixels in enumerate([*frames, None]):
            frame = None
            if pixels is not None:
                frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
                frame.pts, frame.time_base = (40 * i if times is None else times[i]), CLOCK
                if transfer is not None:
                    frame.color_trc = transfer
            for packet in stream.encode(frame):
                output.mux(packet)
    return path


def sound(path: Path, picture: bool = False) -> Path:
    """A file with a second of sound; with `picture` also a cover, which is no video."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("aac", rate=16000)
        stream.layout = "mono"
        cover: Any = None
        if picture:
            cover = output.add_stream("png")
            cover.width, cover.height, cover.pix_fmt = 16, 16, "rgb24"
            cover.disposition = Disposition.attached_pic
        if cover is not None:
            for packet in (*cover.encode(av.VideoFrame.from_ndarray(bars(0, 16, 16), format="rgb24")), *cover.encode(None)):
                output.mux(packet)
        tone = (np.sin(np.arange(16000) / 20)[None] * 0.2).astype(np.float32)
        for start in range(0, 16000 - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, start : start + 1024]), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            for packet in stream.encode(frame):
                output.mux(packet)
        for packet in stream.encode(None):
            output.mux(packet)
    return path


def cut_short(path: Path, share: float) -> Path:
    """Keeps the first `share` of the file's bytes."""
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path
