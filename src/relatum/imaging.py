"""Images from bytes and back: safe decoding to pixels in [-1, 1], cropping, resizing, PNG files. Sits just above core.

A file is refused (DataError naming `where`) when it is no image, truncated, or larger than the limit; the size is read from
its header before anything is decoded. Only formats with decoders inside Pillow are opened, never one that starts a program.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from .atomic import write_bytes
from .core.errors import DataError, ShapeError

__all__ = ["GROUNDS", "MEGAPIXELS", "SUFFIXES", "decode", "decode_mask", "fit", "fit_mask", "grid", "png_bytes", "save_png"]
__all__ += ["size_of", "to_uint8"]

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".avif")  # of their files
GROUNDS = {"white": (255, 255, 255), "gray": (128, 128, 128), "black": (0, 0, 0)}
MEGAPIXELS = 50.0

T = TypeVar("T")


def decode(
    data: bytes | Path, where: str, ground: tuple[int, int, int] = (255, 255, 255), max_megapixels: float = MEGAPIXELS
) -> Float[Tensor, "3 h w"]:
    """The image as (3, h, w) float32 in [-1, 1], upright (EXIF orientation applied), transparency composited on `ground` (RGB).

    Palette, gray, 16-bit gray, CMYK and alpha images are converted; of an animation the first frame is taken.
    """
    array = _with_image(data, where, max_megapixels, lambda image: _rgb(_upright(image), ground, where))
    return torch.from_numpy(array).permute(2, 0, 1).float().div_(127.5).sub_(1)


def decode_mask(data: bytes | Path, where: str, max_megapixels: float = MEGAPIXELS) -> Float[Tensor, "1 h w"]:
    """The image's brightness as (1, h, w) float32 in [0, 1]: white is 1; what is transparent counts as black."""

    def gray(image: Any) -> np.ndarray:
        return _rgb(_upright(image), (0, 0, 0), where).astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)

    array = _with_image(data, where, max_megapixels, gray)
    return torch.from_numpy(array)[None].float().div_(255).clamp_(0, 1)


def size_of(data: bytes | Path, where: str, max_megapixels: float = MEGAPIXELS) -> tuple[int, int]:
    """(height, width) of the upright image, from its header alone."""

    def size(image: Any) -> tuple[int, int]:
        width, height = image.size
        return (width, height) if image.getexif().get(0x0112, 1) in (5, 6, 7, 8) else (height, width)

    return _with_image(data, where, max_megapixels, size)


def fit(pixels: Float[Tensor, "c h w"], size: int) -> Float[Tensor, "c size size"]:
    """Center-cropped to a square, then resized to `size` by an antialiased bicubic, clamped to [-1, 1]. ShapeError for 0."""
    _check_size(pixels, size)
    square = _square(pixels)
    if square.shape[-1] == size:
        return square.contiguous()
    return interpolate(square[None], (size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)


def fit_mask(mask: Float[Tensor, "1 h w"], size: int) -> Float[Tensor, "1 size size"]:
    """Cropped as `fit` does, then resized by area: each value is the marked share of its cell (nearest when enlarging)."""
    _check_size(mask, size)
    return interpolate(_square(mask)[None], (size, size), mode="area")[0].clamp(0, 1)


def to_uint8(pixels: Float[Tensor, "*b 3 h w"]) -> UInt8[np.ndarray, "*b h w 3"]:
    """Bytes for pixels in [-1, 1], channels last: round(127.5 * (p + 1)), clamped. DataError if a value is not finite."""
    if not bool(torch.isfinite(pixels).all()):
        raise DataError(f"an image of shape {tuple(pixels.shape)} has values that are not finite; it cannot be written")
    scaled = pixels.detach().float().cpu().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)
    return scaled.movedim(-3, -1).contiguous().numpy()


def grid(pixels: Float[Tensor, "b 3 h w"], columns: int, gap: int = 2) -> Float[Tensor, "3 H W"]:
    """One picture of all images, row by row, `gap` white pixels apart and around. Places left over are white."""
    b, _, h, w = pixels.shape
    if b == 0 or columns < 1:
        raise ShapeError(f"a grid needs at least one image and one column; found {b} images, {columns} columns")
    rows = math.ceil(b / columns)
    sheet = torch.ones(3, rows * (h + gap) + gap, columns * (w + gap) + gap)
    for i, image in enumerate(pixels.detach().float().cpu()):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        sheet[:, top : top + h, left : left + w] = image
    return sheet


def png_bytes(pixels: Float[Tensor, "3 h w"]) -> bytes:
    """The image as an 8-bit RGB PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(to_uint8(pixels)).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: str | Path, pixels: Float[Tensor, "3 h w"]) -> None:
    """Write a PNG so that a reader sees the old file or the whole new one."""
    write_bytes(Path(path), png_bytes(pixels))


def _check_size(image: Tensor, size: int) -> None:
    if size <= 0 or 0 in image.shape[-2:]:
        raise ShapeError(f"an image of shape {tuple(image.shape)} cannot be resized to {size} pixels; give an edge of 1 or more")


def _square(image: Float[Tensor, "c h w"]) -> Tensor:
    h, w = image.shape[-2:]
    side = min(h, w)
    top, left = (h - side) // 2, (w - side) // 2
    return image[:, top : top + side, left : left + side]


def _with_image(data: bytes | Path, where: str, max_megapixels: float, use: Callable[[Any], T]) -> T:
    """use(opened image), with everything that a bad file can cause turned into a DataError."""
    from PIL import Image, UnidentifiedImageError

    Image.init()
    source = io.BytesIO(data) if isinstance(data, bytes) else data
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # odd metadata that Pillow can live with
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(source, formats=[name for name in FORMATS if name in Image.OPEN]) as image:
                _refuse_bomb(image.size, where, max_megapixels)
                return use(image)
    except (DataError, MemoryError):
        raise
    except UnidentifiedImageError:
        what = "is empty" if data == b"" else "is not an image, or not one of " + ", ".join(FORMATS)
        raise DataError(f"{where}: {what}; replace the file or leave the row out") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: {error}; shrink the image or leave the row out") from None
    except FileNotFoundError:
        raise DataError(f"{where}: no such file") from None
    except Exception as error:  # a decoder that meets a broken file may raise anything
        raise DataError(f"{where}: cannot be decoded, it may be truncated ({type(error).__name__}: {error})") from error


def _refuse_bomb(size: tuple[int, int], where: str, max_megapixels: float) -> None:
    width, height = size
    if width * height > max_megapixels * 1e6:
        found = f"{width} x {height} = {width * height / 1e6:.1f} megapixels"
        raise DataError(f"{where}: {found}, the limit is {max_megapixels:g}; shrink the image, or raise max_megapixels")


def _upright(image: Any) -> Any:
    from PIL import ImageOps

    image.load()
    return ImageOps.exif_transpose(image)


def _rgb(image: Any, ground: tuple[int, int, int], where: str) -> UInt8[np.ndarray, "h w 3"]:
    from PIL import Image

    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in (None, "PNG", "PPM")):
        wide = np.asarray(image).astype(np.float64)  # 16-bit gray: Pillow's own conversion would clip it
        gray = np.clip(np.rint(wide / 257), 0, 255).astype(np.uint8)
        return np.repeat(gray[..., None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise DataError(f"{where}: 32-bit samples (mode {image.mode}) have no stated range; save the image with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (*ground, 255)), rgba)
    return np.array(image.convert("RGB"))
