"""Generated frames as files that people can open: MP4 and GIF that play, strips of frames as PNG. Files are whole or absent."""

from __future__ import annotations

import io
import math
import tempfile
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ..atomic import needs_disk, write_bytes
from ..core.errors import DataError, MissingExtra, ShapeError
from ..imaging import grid, save_png, to_uint8

__all__ = ["FILMS", "few_colors", "paletted", "strip", "write_film", "write_gif", "write_mp4"]

FILMS = (".mp4", ".gif", ".png")
ENCODERS = ("libx264", "libopenh264")  # browsers play H.264 in an MP4; the first that this PyAV has is taken
SHORT_SIDE = 256  # small videos are enlarged until their short side has this many pixels
GIF_RATE = 50.0  # browsers slow a GIF down to 10 frames a second when a frame lasts under 2 hundredths
PALETTE_FRAMES = 24  # frames from which a GIF's palette is made where its colors are too many to keep


def write_film(path: str | Path, video: Tensor, fps: float, scale: int | None = None) -> None:
    """One video (t 3 h w), pixels in [-1, 1], as the suffix says: .mp4, .gif (both play), or .png (its frames in a row).

    scale: each pixel becomes a square of that edge. Default: films until the short side has 256 pixels, a strip as it is.
    DataError for another suffix, for values that are not finite, and where the file cannot be written; ShapeError for no video.
    """
    kind = Path(path).suffix.lower()
    if kind == ".mp4":
        write_mp4(path, video, fps, scale)
    elif kind == ".gif":
        write_gif(path, video, fps, scale)
    elif kind == ".png":
        _check(video, fps)
        save_png(Path(path), strip([_enlarged(video, _factor(video, 1 if scale is None else scale))]))
    else:
        raise DataError(f"{path}: a film is written as {', '.join(FILMS)}; found {kind or 'no suffix'!r}; name the file so")


def write_mp4(path: str | Path, video: Tensor, fps: float, scale: int | None = None) -> None:
    """H.264 in yuv420p with its index in front, so that browsers play it while it loads; BT.709, tagged as such.

    Enlarged by a whole factor without smoothing (`write_film`); where a side is still odd, its last row or column is doubled,
    because the format stores color for squares of two by two. Rates are kept to one in a million.
    """
    _check(video, fps)
    frames = to_uint8(_enlarged(video, _factor(video, scale)))
    odd = [(0, 0), (0, frames.shape[1] % 2), (0, frames.shape[2] % 2), (0, 0)]
    try:
        with tempfile.TemporaryDirectory(prefix="relatum-film-") as folder, needs_disk(Path(folder)):
            # the index moves to the front in a second pass over a real file; what is finished is written atomically
            beside = Path(folder) / "film.mp4"
            _encode(beside, np.pad(frames, odd, mode="edge"), Fraction(fps).limit_denominator(10**6))
            data = beside.read_bytes()
    except (DataError, MissingExtra):
        raise
    except Exception as error:  # an encoder that refuses a size or a rate may raise anything
        size = f"{frames.shape[2]} x {frames.shape[1]} pixels at {fps:g} frames/s"
        raise DataError(f"{path}: the encoder refuses {size} ({type(error).__name__}: {error}); write smaller frames") from error
    write_bytes(Path(path), data)


def write_gif(path: str | Path, video: Tensor, fps: float, scale: int | None = None) -> None:
    """A GIF that loops, enlarged as `write_film` says. One palette for all frames and no dithering, so that nothing flickers
    that does not in the video: up to 256 colors are kept exactly, more are reduced by median cut and k-means.

    Times are whole hundredths of a second whose sum stays right; frames equal to the one before only make it last longer.
    DataError above 50 frames/s, which browsers would slow down to 10.
    """
    _check(video, fps)
    if fps > GIF_RATE:
        raise DataError(f"{path}: a GIF shows at most {GIF_RATE:g} frames/s, asked were {fps:g}; write .mp4 or lower the rate")
    factor = _factor(video, scale)
    indices, palette = _palette(to_uint8(video))
    large = np.repeat(np.repeat(indices, factor, axis=1), factor, axis=2)
    images = [paletted(frame, palette) for frame in large]
    ends = [round(100 * (i + 1) / fps) for i in range(len(images))]
    lasts = [10 * (end - start) for start, end in zip([0, *ends], ends, strict=False)]
    stream = io.BytesIO()
    images[0].save(stream, "GIF", save_all=True, append_images=images[1:], duration=lasts, loop=0, optimize=False, disposal=1)
    write_bytes(Path(path), stream.getvalue())


def strip(videos: Tensor | Sequence[Tensor], every: int = 1) -> Float[Tensor, "3 H W"]:
    """Frames 0, every, 2 every, ... side by side, two white pixels apart; a row a video, (n 3 t h w) or a list of (t 3 h w).

    Shorter videos leave white places. ShapeError where there is no video, or their frames differ in size.
    """
    rows = list(videos.movedim(2, 1)) if isinstance(videos, Tensor) and videos.ndim == 5 else list(videos)
    if not rows or every < 1:
        raise ShapeError(f"a strip needs at least one video and every >= 1; found {len(rows)} videos, every = {every}")
    for video in rows:
        _check(video, 1.0)
    if len({tuple(video.shape[1:]) for video in rows}) > 1:
        raise ShapeError(f"the videos of one strip need frames of one size; found {[tuple(video.shape) for video in rows]}")
    taken = [video[::every].detach().float().cpu() for video in rows]
    columns = max(len(video) for video in taken)
    white = torch.ones(1, *taken[0].shape[1:])
    cells = [torch.cat([video, white.expand(columns - len(video), -1, -1, -1)]) for video in taken]
    return grid(torch.cat(cells), columns)


def _check(video: Tensor, fps: float) -> None:
    if video.ndim != 4 or video.shape[1] != 3 or 0 in video.shape:
        raise ShapeError(f"a video is (t 3 h w) with at least one frame and one pixel; found shape {tuple(video.shape)}")
    if not video.is_floating_point():
        raise ShapeError(f"pixels are floating point in [-1, 1]; found {video.dtype}; for bytes take video.float() / 127.5 - 1")
    if not (math.isfinite(fps) and 1e-3 <= fps <= 1e3):
        raise DataError(f"frames per second must lie between 0.001 and 1000; found {fps!r}")


def _factor(video: Tensor, scale: int | None) -> int:
    if scale is None:
        return math.ceil(SHORT_SIDE / min(video.shape[-2:]))
    if scale < 1:
        raise DataError(f"scale is a whole number of 1 or more; found {scale!r}")
    return scale


def _enlarged(video: Tensor, factor: int) -> Tensor:
    return video.repeat_interleave(factor, -1).repeat_interleave(factor, -2)


def _encode(path: Path, frames: UInt8[np.ndarray, "t h w 3"], rate: Fraction) -> None:
    try:
        import av
        from av.video.reformatter import ColorPrimaries, ColorRange, Colorspace, ColorTrc
    except ImportError:
        raise MissingExtra("av", "video", "writing an MP4") from None
    encoder = next((name for name in ENCODERS if name in av.codecs_available), None)
    if encoder is None:
        raise DataError(f"{path.name}: this PyAV has none of {', '.join(ENCODERS)}; write .gif, or install PyAV's own wheel")
    options = {"crf": "16"} if encoder == "libx264" else {}
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as file:
        stream: Any = file.add_stream(encoder, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1  # one thread: the same bytes on every machine
        if encoder != "libx264":
            stream.bit_rate = max(1_000_000, int(0.4 * frames.shape[1] * frames.shape[2] * rate))
        context = stream.codec_context
        context.colorspace, context.color_range = Colorspace.ITU709, ColorRange.MPEG
        context.color_primaries, context.color_trc = ColorPrimaries.BT709, ColorTrc.BT709
        for pixels in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(_yuv420(pixels), format="yuv420p")))
        file.mux(stream.encode())


def _yuv420(pixels: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "hh w"]:
    """The three planes under each other, by BT.709 in video range; color is the mean of its square of two by two, so that the
    squares of an enlarged picture keep theirs (FFmpeg's own conversion blurs it into the neighbor)."""
    h, w, _ = pixels.shape
    red, green, blue = np.moveaxis(pixels.astype(np.float32), -1, 0)
    bright = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    planes = [16 + bright * (219 / 255)]
    for color, reach in ((blue, 1.8556), (red, 1.5748)):
        planes.append(128 + (color - bright).reshape(h // 2, 2, w // 2, 2).mean((1, 3)) * (224 / 255 / reach))
    return np.concatenate([plane.round().clip(0, 255).astype(np.uint8).ravel() for plane in planes]).reshape(h * 3 // 2, w)


def few_colors(frames: UInt8[np.ndarray, "*t h w 3"]) -> tuple[UInt8[np.ndarray, "*t h w"], bytes] | None:
    """Each pixel's place in a palette and the palette (r g b, r g b, ...), exactly; None where there are over 256 colors."""
    codes = frames.astype(np.uint32) @ np.array([65536, 256, 1], np.uint32)
    colors = np.unique(codes)
    if len(colors) > 256:
        return None
    rgb = np.stack([colors >> 16, colors >> 8 & 255, colors & 255], 1).astype(np.uint8)
    return np.searchsorted(colors, codes).astype(np.uint8), rgb.tobytes()


def paletted(indices: UInt8[np.ndarray, "h w"], palette: bytes) -> Any:
    """The Pillow image (mode P) of both."""
    from PIL import Image

    image = Image.fromarray(indices).copy()  # gray bytes, which become places in the palette
    image.putpalette(palette)
    return image


def _palette(frames: UInt8[np.ndarray, "t h w 3"]) -> tuple[UInt8[np.ndarray, "t h w"], bytes]:
    """Places in one palette of 256 colors for all frames."""
    from PIL import Image

    if (exact := few_colors(frames)) is not None:
        return exact
    few = frames[np.linspace(0, len(frames) - 1, min(len(frames), PALETTE_FRAMES)).round().astype(int)]
    base = Image.fromarray(few.reshape(-1, few.shape[2], 3)).quantize(256, Image.Quantize.MEDIANCUT, kmeans=2)
    mapped = [np.asarray(Image.fromarray(frame).quantize(palette=base, dither=Image.Dither.NONE)) for frame in frames]
    return np.stack(mapped), bytes(base.getpalette() or b"")
