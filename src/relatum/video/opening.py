"""Opening a video file safely: a regular file, by its resolved path, in a container that leads to no other file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import DataError, MissingExtra

__all__ = ["CONTAINERS", "SUFFIXES", "Limits", "VideoError", "open_video", "packets_of", "shown"]

# libavformat's demuxers by name. None of them is a playlist: hls, dash, concat and image sequences would open further files.
CONTAINERS = ("mov", "mp4", "matroska", "webm", "avi", "mpegts", "mpeg", "flv", "ogg", "asf", "gif")
_SUFFIXES = {
    **dict.fromkeys((".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".qt"), "mov"),
    **dict.fromkeys((".mkv", ".webm"), "matroska"),
    **dict.fromkeys((".avi", ".divx"), "avi"),
    **dict.fromkeys((".ts", ".m2ts", ".mts"), "mpegts"),
    **dict.fromkeys((".mpg", ".mpeg", ".vob"), "mpeg"),
    **dict.fromkeys((".wmv", ".asf"), "asf"),
    **dict.fromkeys((".ogv", ".ogg"), "ogg"),
    **{".flv": "flv", ".gif": "gif"},
}
SUFFIXES = tuple(_SUFFIXES)  # in lower case, of files that are taken for videos


@dataclass(frozen=True)
class Limits:
    """What is refused before it costs anything. max_seconds: None is any length."""

    max_bytes: int = 8 * 2**30
    max_megapixels: float = 50.0
    max_seconds: float | None = None


class VideoError(DataError):
    """A video that cannot be used. reason: why, in one word that programs may rely on, where the message is for people.

    "open_failed": no such file, no regular one, empty, or in none of the containers; "read_failed": reading ends before a frame;
    "no_decoder"; "no_video_stream"; "no_frames"; "no_times"; "corrupt": nothing decodes; "too_large", "too_long": over a limit;
    "hdr".
    """

    def __init__(self, message: str, reason: str = "open_failed") -> None:
        super().__init__(message)
        self.reason = reason


def shown(name: str | Path) -> str:
    """A file name for a one-line message: as it is when printable, else with its escapes."""
    text = str(name)
    return text if text.isprintable() else ascii(text)


@contextmanager
def open_video(path: Path, limits: Limits) -> Iterator[tuple[Any, Any]]:
    """PyAV's container and the video stream in it, set to decode in this thread alone. VideoError for anything else."""
    av, where = _library(), shown(path)
    file = _regular(path, where, limits)
    options = {
        "format_whitelist": ",".join(CONTAINERS),
        "protocol_whitelist": "file",
        "max_pixels": str(min(max(int(limits.max_megapixels * 4e6), 10**6), 2**31 - 1)),  # of what a damaged stream may claim
    }
    try:
        container = av.open(f"file:{file}", options=options, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise VideoError(f"{where}: {_why(file, error)}; replace the file or leave it out") from None
    with container:
        yield container, _stream(container, where, limits, options["max_pixels"])


def packets_of(container: Any, stream: Any) -> Iterator[Any]:
    """The stream's packets from here on, last an empty one. Streams that begin later (in transport streams) are passed over."""
    packets = container.demux(stream)
    while True:
        try:
            yield next(packets)
        except StopIteration:
            return
        except IndexError:  # PyAV knows the streams that were there when it opened the file
            packets = container.demux(stream)


def other_name(path: Path, container: Any) -> str | None:
    """What to note of a file whose suffix promises another container than it holds; None where they agree."""
    names = container.format.name.split(",")
    promised = _SUFFIXES.get(path.suffix.lower())
    return None if promised is None or promised in names else f"named {shown(path.suffix)}, but holds {names[0]}"


def _library() -> Any:
    try:
        import av
        import av.error
    except ImportError:
        raise MissingExtra("av", "video", "reading videos") from None
    return av


def _regular(path: Path, where: str, limits: Limits) -> Path:
    try:
        file = path.resolve(strict=True)
        regular, size = file.is_file(), file.stat().st_size
    except FileNotFoundError:
        raise VideoError(f"{where}: no such file") from None
    except (OSError, RuntimeError, ValueError) as error:  # name too long, a loop of links, a null byte
        raise VideoError(f"{where}: cannot be opened ({error.strerror if isinstance(error, OSError) else error})") from None
    if not regular:
        raise VideoError(f"{where}: is not a regular file")
    if size == 0:
        raise VideoError(f"{where}: is empty (0 bytes); replace the file or leave it out")
    if size > limits.max_bytes:
        words = f"has {size:,} bytes, the limit is {limits.max_bytes:,}; cut the video, or raise max_bytes"
        raise VideoError(f"{where}: {words}", "too_large")
    return file


def _why(file: Path, error: Any) -> str:
    try:
        with file.open("rb") as data:
            head = data.read(12)
    except OSError as problem:
        return f"cannot be read ({problem.strerror})"
    if head[4:8] == b"ftyp":
        return f"cannot be opened as mp4 ({error.strerror}); its index (moov) is missing or damaged, the file may be cut short"
    return f"is not a video in one of the containers {', '.join(CONTAINERS)} ({error.strerror})"


def _stream(container: Any, where: str, limits: Limits, max_pixels: str) -> Any:
    from av.stream import Discard, Disposition

    still = Disposition.attached_pic | Disposition.timed_thumbnails
    found = [stream for stream in container.streams.video if not stream.disposition & still]
    if not found:
        attached = ", only an attached picture" if container.streams.video else ""
        others = ", ".join(sorted({stream.type for stream in container.streams if stream.type != "video"})) or "nothing else"
        raise VideoError(f"{where}: no video stream{attached} (holds {others}); leave it out", "no_video_stream")
    best = container.streams.best("video")
    stream = best if best in found else found[0]
    if stream.codec_context is None:
        raise VideoError(f"{where}: no decoder for its video stream; convert it, for instance to H.264", "no_decoder")
    check_size(stream.width, stream.height, where, limits)
    for other in container.streams:
        if other.index != stream.index:
            other.discard = Discard.all
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.options = {"max_pixels": max_pixels}
    return stream


def check_size(width: int, height: int, where: str, limits: Limits) -> None:
    if width <= 0 or height <= 0:
        words = f"its video stream states no frame size ({width} x {height}), or one that cannot be; the file may be damaged"
        raise VideoError(f"{where}: {words}", "corrupt")
    if width * height > limits.max_megapixels * 1e6:
        found = f"{width} x {height} = {width * height / 1e6:.3g} megapixels a frame"
        words = f"{found}, the limit is {limits.max_megapixels:g}; shrink the video, or raise max_megapixels"
        raise VideoError(f"{where}: {words}", "too_large")
