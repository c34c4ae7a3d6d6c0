"""A folder of files as they come from the world: cut short, empty, misnamed, damaged, turned, with gaps, oddly named."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np

from .films import bars, cut_short, film, sound
from .pictures import noise, png

__all__ = ["Expected", "bad_films"]

SIZE = (72, 96)  # height, width


@dataclass(frozen=True)
class Expected:
    """How the video must end. words: a pattern in its fault, or in its notes where it can be used.

    listed: the listing tells already, without opening it. decoded: only decoding all of it tells; a probe finds it "ok".
    """

    status: str = "ok"
    reason: str = ""
    words: str = ""
    listed: bool = False
    decoded: bool = False


Add = Callable[..., None]
OK = Expected()
OPEN = "open_failed"


def bad_films(folder: Path) -> dict[str, Expected]:
    """Writes the files and says by uri (the folder's name first) how each must end.

    The limits are those by default: a second or longer, 64 pixels or more, 2 % of the frames lost.
    """
    folder.mkdir()
    found: dict[str, Expected] = {}

    def add(name: str, make: Callable[[Path], object], expected: Expected = OK) -> None:
        make(folder / name)
        shown = name if name.isprintable() else name.encode("unicode_escape").decode()
        found[f"{folder.name}/{shown}"] = expected

    for part in (_cut, _no_film, _misnamed, _odd, _timed, _damaged, _links, _named):
        part(folder, add)
    return found


def _film(count: int = 30, start: int = 0, **settings: object) -> Callable[[Path], Path]:
    """The writer of a film; of each start another one, so that no two have one content."""
    fast = {} if "codec" in settings else {"options": {"preset": "ultrafast"}}
    return lambda path: film(path, [bars(start + i, *SIZE) for i in range(count)], **fast, **settings)  # type: ignore[arg-type]


def _cut(folder: Path, add: Add) -> None:
    few = Expected("partial", "frames_lost", decoded=True)  # the last of some 60
    add("cut.mp4", lambda path: cut_short(_film()(path), 0.6), Expected("error", OPEN, "moov.*cut short"))
    add("cut-index-first.mp4", lambda path: cut_short(_film(90, 1, container_options={"movflags": "faststart"})(path), 0.7), few)
    add("cut.mkv", lambda path: cut_short(_film(90, 2)(path), 0.7), OK)
    add("empty.mp4", Path.touch, Expected("error", OPEN, r"is empty \(0 bytes\)"))
    add("head-alone.mp4", lambda path: path.write_bytes(_film()(path).read_bytes()[:28]), Expected("error", OPEN, "moov"))


def _no_film(folder: Path, add: Add) -> None:
    add("sound.mp4", sound, Expected("reject", "no_video_stream", "holds audio"))
    add("cover.mp4", lambda path: sound(path, picture=True), Expected("reject", "no_video_stream", "only an attached picture"))
    unknown = Expected("error", "no_decoder", "convert it")
    add("unknown-codec.mp4", lambda path: _patch(_film()(path), rb"(?s)(stsd.{12})avc1", rb"\1zzzz"), unknown)
    add(
        "nothing-decodes.mp4",
        lambda path: _emptied(_film(start=3)(path), (0, 1)),
        Expected("reject", "corrupt", "no frame can"),
    )


def _misnamed(folder: Path, add: Add) -> None:
    add("mp4.avi", _renamed(_film(start=4)), Expected(words="named .avi, but holds mov"))
    add("text.mp4", lambda path: path.write_text("this is no video\n" * 50), Expected("error", OPEN, "is not a video"))
    add("picture.mp4", lambda path: path.write_bytes(png(noise(0))), Expected("error", OPEN, "is not a video"))
    playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:2.4,\nwhole.mp4\n#EXT-X-ENDLIST\n"
    add("playlist.mp4", lambda path: path.write_text(playlist), Expected("error", OPEN, "is not a video"))
    add(
        "concat.mp4",
        lambda path: path.write_text("ffconcat version 1.0\nfile whole.mp4\n"),
        Expected("error", OPEN, "is not a video"),
    )
    (folder / "beside.jpg").write_bytes(png(noise(1)))
    (folder / "other.JPG").write_bytes(png(noise(2)))
    add("**/*.jpg", lambda path: None, Expected("reject", "not_video", r"2 files .*: beside\.jpg, other\.JPG", listed=True))


def _odd(folder: Path, add: Add) -> None:
    add("turned-90.mp4", _film(start=5, turn=90))
    add("turned-180.mp4", _film(start=6, turn=180))
    add("ten-bit.mp4", _film(start=7, pix_fmt="yuv420p10le"))
    odd = [bars(i, 73, 99) for i in range(30)]
    add("odd-size.mkv", lambda path: film(path, odd, codec="ffv1", pix_fmt="yuv444p"))
    dot = [np.full((1, 1, 3), 8 * i, np.uint8) for i in range(30)]
    add("one-pixel.mkv", lambda path: film(path, dot, codec="ffv1", pix_fmt="bgr0"), Expected("reject", "too_small", "1 x 1"))
    add("animated.gif", _film(start=8, codec="gif", pix_fmt="rgb8"))
    large, none = Expected("reject", "too_large", "12000 x 12000"), Expected("reject", "corrupt", "states no frame size")
    add("large.gif", lambda path: _resized(_film(start=9, codec="gif", pix_fmt="rgb8")(path), 12000), large)
    add("larger.gif", lambda path: _resized(_film(start=19, codec="gif", pix_fmt="rgb8")(path), 60000), none)
    add("hdr.mkv", _film(start=10, transfer=16), Expected("reject", "hdr", "PQ"))


def _timed(folder: Path, add: Add) -> None:
    steps = [40 * i + 13 * (i % 3) for i in range(30)]
    add("variable-rate.mkv", _film(start=11, times=steps))
    add("gaps.mkv", _film(start=12, times=[40 * i + 400 * (i // 10) for i in range(30)]))
    silence = Expected(words=r"no frame for 3600\.0 s after 0\.56 s")
    add("silence.mkv", _film(start=13, times=[40 * i + (3_599_960 if i > 14 else 0) for i in range(30)]), silence)
    again = Expected(words="time stamps jump back at 1.16 s; 30 packets")
    add("jumps-back.ts", lambda path: path.write_bytes(_film(start=14)(path).read_bytes() * 2), again)
    add("late-start.mkv", _film(start=15, times=[5000 + 40 * i for i in range(30)]))
    add("one-frame.mp4", _film(1, 16), Expected("reject", "too_short", "has 1 frame,"))
    add("two-frames.mp4", _film(2, 17), Expected("reject", "too_short", "has 2 frames"))
    add("short.mp4", _film(20, 18), Expected("reject", "too_short", r"lasts 0\.8 s"))
    still = Expected("reject", "too_short", "has 1 frame,.*29 packets with the time stamp of another")
    add("no-duration.mkv", _film(start=22, times=[0] * 30, codec="ffv1", pix_fmt="bgr0"), still)


def _damaged(folder: Path, add: Add) -> None:
    few, many = Expected("partial", "frames_lost", decoded=True), Expected("reject", "corrupt", decoded=True)
    add("scratched.mp4", lambda path: _emptied(_film(220, 20, gop=4)(path), (0.5, 0.505)), few)  # 110, and what leans on it
    add("torn.mp4", lambda path: _emptied(_film(60, 21)(path), (0.4, 0.6), invert=True), many)


def _links(folder: Path, add: Add) -> None:
    refused = {"listed": True}
    add("loop.mp4", lambda path: path.symlink_to("loop.mp4"), Expected("error", OPEN, "loop of links", **refused))
    add("dangling.mp4", lambda path: path.symlink_to("nowhere.mp4"), Expected("error", OPEN, "link to nothing", **refused))
    add("link.mp4", lambda path: path.symlink_to("whole.mp4"), Expected("reject", "link", "follow_symlinks is false", **refused))
    add("up", lambda path: path.symlink_to(".."), Expected("reject", "link", "follow_symlinks is false", **refused))
    add("pipe.mp4", os.mkfifo, Expected("error", OPEN, "is a pipe", **refused))
    add("socket.mp4", _socket, Expected("error", OPEN, "is a socket", **refused))


def _named(folder: Path, add: Add) -> None:
    add("whole.mp4", _film(start=30))
    add("whole.same.mp4", lambda path: path.write_bytes((folder / "whole.mp4").read_bytes()), Expected("duplicate", "same_content"))
    names = ["-i.mp4", "concat:a.mp4|b.mp4", "http:a.mp4", "%03d.mp4", "a \"quoted\" <b>'name'&amp;.mp4", "two\nlines.mp4"]
    for i, name in enumerate([*names, "\U0001f600 é.mp4", "n" * 251 + ".mp4", os.fsdecode(b"\xff.mp4")]):
        add(name, _renamed(_film(start=31 + i)))


def _renamed(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    """Made under a plain name, for the writer takes no others."""
    return lambda path: make(path.with_name("plain.mp4")).rename(path)


def _socket(path: Path) -> None:
    """Bound by a short name: the system takes no long ones."""
    with socket.socket(socket.AF_UNIX) as made:
        here = os.open(path.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{here}/{path.name}")
        os.close(here)


def _patch(path: Path, pattern: bytes, by: bytes) -> Path:
    data, count = re.subn(pattern, by, path.read_bytes(), count=1)
    assert count == 1, pattern
    path.write_bytes(data)
    return path


def _resized(path: Path, edge: int) -> Path:
    """A GIF that states another size."""
    return _patch(path, rb"(?s)^(GIF89a).{4}", rb"\g<1>" + edge.to_bytes(2, "little").replace(b"\\", rb"\\") * 2)


def _emptied(path: Path, share: tuple[float, float], invert: bool = False) -> Path:
    """Makes the packets in a share of a film, from and to, zero; or inverts their bytes."""
    with av.open(str(path)) as container:
        packets = [(packet.pos or 0, packet.size) for packet in container.demux(video=0) if packet.size]
    data = bytearray(path.read_bytes())
    for begin, size in packets[int(share[0] * len(packets)) : int(share[1] * len(packets))]:
        data[begin : begin + size] = bytes(255 - value for value in data[begin : begin + size]) if invert else bytes(size)
    path.write_bytes(data)
    return path
