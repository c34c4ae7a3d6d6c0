"""imaging: what decoding gives for each kind of file, worked by hand, and that pictures survive the way out and back."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relatum.core.errors import DataError, ShapeError
from relatum.imaging import decode, decode_mask, fit, fit_mask, grid, png_bytes, save_png, size_of, to_uint8
from support.pictures import noise, png


def as_bytes(image: Image.Image, kind: str = "PNG", **settings: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **settings)
    return buffer.getvalue()


def test_rgb_values_and_order() -> None:
    """Bytes 0, 51, 255 become -1, 51 / 127.5 - 1 = -0.6, 1; channels first, rows before columns."""
    array = np.zeros((2, 3, 3), np.uint8)
    array[0, 2] = (255, 51, 0)
    pixels = decode(png(array), "x")
    assert pixels.shape == (3, 2, 3)
    assert pixels.dtype == torch.float32
    torch.testing.assert_close(pixels[:, 0, 2], torch.tensor([1.0, -0.6, -1.0]))
    assert (pixels[:, 1] == -1).all()


def test_alpha_lies_on_the_stated_ground() -> None:
    """Red with alpha 51 (a fifth) on white: (255, 204, 204); on black: (51, 0, 0)."""
    data = as_bytes(Image.new("RGBA", (1, 1), (255, 0, 0, 51)))
    assert to_uint8(decode(data, "x"))[0, 0].tolist() == [255, 204, 204]
    assert to_uint8(decode(data, "x", (0, 0, 0)))[0, 0].tolist() == [51, 0, 0]


def test_palette_with_a_transparent_color() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.putdata([0, 1])
    found = to_uint8(decode(as_bytes(image, transparency=0), "x"))
    assert found[0].tolist() == [[255, 255, 255], [200, 100, 50]]


@pytest.mark.parametrize(("mode", "value"), [("L", 60), ("1", 255), ("LA", (60, 255))])
def test_gray_is_repeated(mode: str, value: object) -> None:
    level = value[0] if isinstance(value, tuple) else value
    assert to_uint8(decode(as_bytes(Image.new(mode, (1, 1), value)), "x"))[0, 0].tolist() == [level] * 3


def test_sixteen_bit_gray_keeps_its_range() -> None:
    """0, 25700 = 100 * 257 and 65535 become 0, 100, 255: Pillow's own conversion gives 255 for all above 255."""
    data = as_bytes(Image.fromarray(np.array([[0, 25700, 65535]], np.uint16)))
    assert to_uint8(decode(data, "x"))[0, :, 0].tolist() == [0, 100, 255]


def test_float_samples_are_refused() -> None:
    with pytest.raises(DataError, match=r"a\.tif.*no stated range"):
        decode(as_bytes(Image.new("F", (2, 2), 0.5), "TIFF"), "a.tif")


def test_exif_orientation_is_applied() -> None:
    """Orientation 6: shown rotated by 90 degrees clockwise, so the left column, read from below, becomes the top row."""
    array = np.zeros((2, 3, 3), np.uint8)
    array[1, 0] = 255
    image = Image.fromarray(array)
    exif = image.getexif()
    exif[0x0112] = 6
    data = as_bytes(image, exif=exif)
    assert size_of(data, "x") == (3, 2)
    pixels = decode(data, "x")
    assert pixels.shape == (3, 3, 2)
    assert pixels[0, 0].tolist() == [1.0, -1.0]
    assert (pixels[:, 1:] == -1).all()


def test_crop_is_central_and_resize_keeps_a_plane() -> None:
    """Of 4 x 8 the columns 2..5 stay. A plane keeps its values at cell centers under any antialiased resize (inner cells)."""
    ramp = torch.arange(8.0).expand(3, 4, 8) / 8
    assert fit(ramp, 4)[0, 0].tolist() == [2 / 8, 3 / 8, 4 / 8, 5 / 8]
    tall = torch.arange(64.0).reshape(1, 64, 1).expand(3, 64, 64) / 64
    small = fit(tall, 16)
    torch.testing.assert_close(small[0, 4:12, 7], (torch.arange(4, 12) * 4 + 1.5) / 64)
    assert fit(torch.sign(torch.randn(3, 9, 9)), 32).abs().max() <= 1
    stripes = torch.tensor([1.0, -1.0, -1.0, 1.0]).repeat(16).expand(3, 64, 64)  # four columns a cell: antialiased, they vanish
    assert fit(stripes, 16)[..., 3:-3].abs().max() < 0.05


def test_mask_is_a_share() -> None:
    """A 4 x 4 mask with its first row marked: at 2 x 2 the upper cells are half marked; enlarging repeats values."""
    array = np.zeros((4, 4), np.uint8)
    array[0] = 255
    mask = decode_mask(png(array), "x")
    assert fit_mask(mask, 2)[0].tolist() == [[0.5, 0.5], [0.0, 0.0]]
    torch.testing.assert_close(fit_mask(mask, 8), mask.repeat_interleave(2, 1).repeat_interleave(2, 2))


def test_png_round_trip_is_exact(tmp_path: Path) -> None:
    array = noise(0)
    pixels = decode(png(array), "x")
    assert (to_uint8(pixels) == array).all()
    save_png(tmp_path / "a.png", pixels)
    assert torch.equal(decode(tmp_path / "a.png", "x"), pixels)
    assert decode(png_bytes(pixels), "x").equal(pixels)
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_png(tmp_path / "a.png", torch.zeros(3, 2, 2))
    before = (tmp_path / "a.png").read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(DataError, match="the disk is full"):
        save_png(tmp_path / "a.png", torch.ones(3, 2, 2))
    assert (tmp_path / "a.png").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_written_or_resized_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file" / "a.png", tmp_path):
        with pytest.raises(DataError, match=r"cannot be written \(.*\); choose another place"):
            save_png(place, torch.zeros(3, 2, 2))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    for size in (0, -3):
        with pytest.raises(ShapeError, match=f"cannot be resized to {size} pixels"):
            fit(torch.zeros(3, 4, 4), size)


def test_nan_is_not_written() -> None:
    with pytest.raises(DataError, match="not finite"):
        png_bytes(torch.full((3, 2, 2), torch.nan))


def test_grid_places() -> None:
    """Three images in two columns, gap 1: 2 x 3 images each make (2 * 3 + 1) x (2 * 4 + 1); the third lies at row 4, column 1."""
    images = torch.stack([torch.full((3, 2, 3), value) for value in (-1.0, -0.5, 0.0)])
    sheet = grid(images, 2, gap=1)
    assert sheet.shape == (3, 7, 9)
    assert sheet[0, 1, [0, 1, 3, 4, 5, 7, 8]].tolist() == [1, -1, -1, 1, -0.5, -0.5, 1]
    assert sheet[0, 4, [1, 5]].tolist() == [0.0, 1.0]
    with pytest.raises(ShapeError):
        grid(images, 0)


@pytest.mark.parametrize(
    ("kind", "settings"), [("PNG", {}), ("JPEG", {"quality": 90}), ("JPEG", {"progressive": True}), ("WEBP", {})]
)
def test_every_truncation_is_refused_or_harmless(kind: str, settings: dict[str, object]) -> None:
    """A file cut anywhere is a DataError, or (only its end mark cut) gives the very same pixels."""
    data = png(noise(3, 40, 40), kind, **settings)
    whole = decode(data, "x")
    refused = 0
    for cut in range(0, len(data), 37):
        try:
            found = decode(data[:cut], "cut.img")
        except DataError:
            refused += 1
        else:
            assert torch.equal(found, whole)
    assert refused >= len(data) // 37 - 2


def test_a_bomb_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """12 megapixels in a few kilobytes, limit 10; and where our limit is raised above Pillow's, its warning counts as an error."""
    data = as_bytes(Image.new("1", (4000, 3000)))
    assert len(data) < 10_000

    def decoding(*_: object) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decoding)
    with pytest.raises(DataError, match=r"bomb\.png: 4000 x 3000 = 12\.0 megapixels, the limit is 10"):
        decode(data, "bomb.png", max_megapixels=10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000_000)
    with pytest.raises(DataError, match=r"bomb\.png: .*decompression bomb"):
        decode(data, "bomb.png", max_megapixels=100)


@pytest.mark.parametrize(
    "data", [b"", b"<html>404</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n\x1a\n"]
)
def test_not_an_image(data: bytes) -> None:
    """An EPS file too: Pillow would start an interpreter for it."""
    with pytest.raises(DataError, match=r"a\.png: (is empty|is not an image|cannot be decoded)") as error:
        decode(data, "a.png")
    assert not data.startswith(b"%!PS") or "is not an image" in str(error.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="row 3: no such file"):
        decode(tmp_path / "none.png", "row 3")
