"""The cache: what is encoded again and what is not, what bad input and a full disk do, and that batches hold the right rows."""

import errno
from pathlib import Path

import pytest
import torch

from relatum import atomic
from relatum.core.errors import DataError
from relatum.data.rows import Row
from relatum.engine.cache import EncodedRows, RawRows, encode_rows, gc, used_by, verify
from relatum.models.codec import Moments
from relatum.tasks.base import Needs

NEEDS = Needs(images=("source", "target"), texts=("instruction",), optional_masks=("changed",))


class Picture:
    """A flat image of one gray value; "broken" cannot be read."""

    def __init__(self, value: float, broken: bool = False) -> None:
        self.value, self.broken, self.where = value, broken, f"rows.jsonl:7 ({value})"

    def digest(self) -> str:
        return f"gray{self.value}"

    def pixels(self, size: int) -> torch.Tensor:
        if self.broken:
            raise DataError(f"{self.where}: truncated")
        return torch.full((3, size, size), self.value)

    def mask(self, size: int) -> torch.Tensor:
        mask = torch.zeros(1, size, size)
        mask[:, 0, : int(self.value)] = 1
        return mask


class Codec:
    """Mean is the first pixel of each 4 x 4 cell, logvar its double; counts the images that it was given."""

    factor = 4

    def __init__(self, fingerprint: str = "codec1") -> None:
        self.fingerprint, self.seen = fingerprint, 0

    def encode(self, pixels: torch.Tensor) -> Moments:
        self.seen += len(pixels)
        return Moments(pixels[:, :2, ::4, ::4], 2 * pixels[:, :2, ::4, ::4])


class Words:
    """States are the text's length."""

    def __init__(self) -> None:
        self.fingerprint, self.seen, self.null = "words1", 0, torch.zeros(1, 3, 5)

    def encode(self, texts: list[str]) -> torch.Tensor:
        self.seen += len(texts)
        return torch.tensor([float(len(text)) for text in texts]).reshape(-1, 1, 1).expand(-1, 3, 5)


def rows(count: int = 6, **replaced: Picture) -> list[Row]:
    """Row i turns gray i/10 into gray 0.9; "s2" replaces the source of row 2. All share the target, two texts are in use."""
    return [
        Row(
            id=f"r{i}",
            group=f"g{i}",
            images={"source": replaced.get(f"s{i}", Picture(i / 10)), "target": Picture(0.9)},
            texts={"instruction": "ab" if i % 2 else "abcd"},
            masks={"changed": Picture(float(i))},
            where=f"rows.jsonl:{i + 1}",
        )
        for i in range(count)
    ]


def encode(folder: Path, data: list[Row], codec: Codec | None = None, words: Words | None = None, **settings) -> EncodedRows:
    return encode_rows(data, NEEDS, 8, codec or Codec(), words or Words(), folder, **settings)


@pytest.mark.parametrize("ram_bytes", [512 << 20, 0])
def test_batches_hold_the_rows_that_were_asked_for(tmp_path: Path, ram_bytes: int) -> None:
    """Row 3 has gray 0.3 and logvar 0.6; its mask marks 3 of the 16 pixels of the first cell: 3/16."""
    encoded = encode(tmp_path, rows(), ram_bytes=ram_bytes)
    batch = encoded.batch([3, 1, 3])
    assert batch.ids == ["r3", "r1", "r3"]
    assert batch.where == ["rows.jsonl:4", "rows.jsonl:2", "rows.jsonl:4"]
    assert batch.moments["source"].mean.shape == (3, 2, 2, 2)
    torch.testing.assert_close(batch.moments["source"].mean[:, 0, 0, 0], torch.tensor([0.3, 0.1, 0.3]))
    torch.testing.assert_close(batch.moments["source"].logvar[:, 0, 0, 0], torch.tensor([0.6, 0.2, 0.6]))
    torch.testing.assert_close(batch.moments["target"].mean[:, 1, 1, 1], torch.full((3,), 0.9))
    torch.testing.assert_close(batch.masks["changed"][0, 0], torch.tensor([[3 / 16, 0.0], [0.0, 0.0]]))
    assert batch.tokens["instruction"][:, 0, 0].tolist() == [2, 2, 2]
    assert encoded.batch([0]).tokens["instruction"][0, 0, 0] == 4
    assert batch.null is not None
    assert batch.null.shape == (1, 3, 5)


def test_each_content_is_encoded_once(tmp_path: Path) -> None:
    """Six sources and one shared target are seven images; two texts."""
    codec, words = Codec(), Words()
    encode(tmp_path, rows(), codec, words, batch_size=2)
    assert (codec.seen, words.seen) == (7, 2)
    encode(tmp_path, rows(), codec, words)
    assert (codec.seen, words.seen) == (7, 2)


def test_an_edited_image_is_encoded_again_and_nothing_else(tmp_path: Path) -> None:
    codec, words = Codec(), Words()
    encode(tmp_path, rows(), codec, words)
    again = encode(tmp_path, rows(s2=Picture(-0.5)), codec, words)
    assert (codec.seen, words.seen) == (8, 2)
    assert again.batch([2]).moments["source"].mean.unique().item() == -0.5


def test_another_autoencoder_encodes_all_images_and_no_text(tmp_path: Path) -> None:
    words = Words()
    encode(tmp_path, rows(), Codec(), words)
    other = Codec("codec2")
    encode(tmp_path, rows(), other, words)
    assert (other.seen, words.seen) == (7, 2)


def test_another_size_is_another_entry(tmp_path: Path) -> None:
    codec = Codec()
    encode(tmp_path, rows(), codec)
    bigger = encode_rows(rows(), NEEDS, 12, codec, Words(), tmp_path)
    assert codec.seen == 14
    assert bigger.batch([0]).moments["source"].mean.shape == (1, 2, 3, 3)


def test_float16_stores_half_the_bytes_and_gives_float32(tmp_path: Path) -> None:
    encoded = encode(tmp_path, rows(), dtype="float16")
    mean = encoded.batch([1]).moments["source"].mean
    assert mean.dtype == torch.float32
    assert mean.unique().item() == torch.tensor(0.1).half().item()


def test_an_interrupted_cache_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every batch of two is a shard here; the third is interrupted: the first four images are not encoded again."""
    monkeypatch.setattr("relatum.engine.cache.SHARD_BYTES", 0)

    class Interrupted(Codec):
        def encode(self, pixels: torch.Tensor) -> Moments:
            if self.seen == 4:
                raise KeyboardInterrupt
            return super().encode(pixels)

    with pytest.raises(KeyboardInterrupt):
        encode(tmp_path, rows(), Interrupted(), batch_size=2)
    codec = Codec()
    encode(tmp_path, rows(), codec, batch_size=2)
    assert codec.seen == 3


def test_a_bad_row_stops_and_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:7 \(0\.2\): truncated"):
        encode(tmp_path, rows(s2=Picture(0.2, broken=True)))


def test_a_bad_row_is_skipped_with_its_reason(tmp_path: Path) -> None:
    data = rows(s2=Picture(0.2, broken=True))
    del data[4].texts["instruction"]  # type: ignore[attr-defined]
    encoded = encode(tmp_path, data, on_bad_row="skip")
    assert encoded.ids == ["r0", "r1", "r3", "r5"]
    assert len(encoded.skipped) == 2
    assert "rows.jsonl:5: no text 'instruction'" in encoded.skipped[0]
    assert "truncated" in encoded.skipped[1]
    torch.testing.assert_close(encoded.batch([2]).moments["source"].mean.unique(), torch.tensor([0.3]))


def test_a_poisoned_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows\.jsonl:3: image 'source' is not finite"):
        encode(tmp_path, rows(s2=Picture(float("nan"))))


def test_a_missing_column_names_those_that_are_there(tmp_path: Path) -> None:
    data = rows()
    data[1].images["after"] = data[1].images.pop("target")  # type: ignore[attr-defined]
    with pytest.raises(DataError, match=r"rows\.jsonl:2: no image 'target', which the task needs; found: after, source"):
        encode(tmp_path, data)


def test_masks_are_given_only_where_every_row_has_them(tmp_path: Path) -> None:
    data = rows()
    data[5].masks.clear()  # type: ignore[attr-defined]
    assert encode(tmp_path, data).batch([0]).masks == {}


def test_a_full_disk_names_folder_and_bytes_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "fsync", full)
    with pytest.raises(DataError, match=r"the disk is full: [\d,]+ bytes are free, [\d,]+ bytes are needed"):
        encode(tmp_path, rows())
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    monkeypatch.undo()
    codec = Codec()
    encode(tmp_path, rows(), codec)
    assert codec.seen == 7


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    encode(tmp_path, rows())
    assert verify(tmp_path) == []
    shard = next(tmp_path.glob("image-*/shard-*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-10])
    (problem,) = verify(tmp_path)
    assert str(shard) in problem
    assert "truncated" in problem
    with pytest.raises(DataError, match=shard.name):
        encode(tmp_path, rows())
    shard.unlink()
    codec = Codec()
    encode(tmp_path, rows(), codec)
    assert codec.seen == 7


def test_what_a_dead_process_left_is_cleaned_up(tmp_path: Path) -> None:
    encoded = encode(tmp_path, rows())
    left = tmp_path / next(iter(encoded.used)) / ".shard-x.safetensors.tmp-999999999"
    left.write_bytes(b"half")
    encode(tmp_path, rows())
    assert not left.exists()


def test_gc_keeps_what_is_used(tmp_path: Path) -> None:
    """Rows 0 to 2 need three sources and the target of codec1; codec2's entries and three sources go."""
    encode(tmp_path, rows())
    encode(tmp_path, rows(), Codec("codec2"))
    before = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    used = used_by(rows(3), NEEDS, 8, Codec(), Words())
    assert used == encode(tmp_path, rows(3)).used
    freed = gc(tmp_path, [used])
    after = sum(path.stat().st_size for path in tmp_path.rglob("*.safetensors"))
    assert freed == before - after > 0
    assert not list(tmp_path.glob("image-codec2-*"))
    codec = Codec()
    encode(tmp_path, rows(3), codec)
    assert codec.seen == 0
    encode(tmp_path, rows(), codec)
    assert codec.seen == 3


def test_progress_counts_what_had_to_be_encoded(tmp_path: Path) -> None:
    """7 images, 6 masks, 2 texts."""
    said: list[tuple[int, int]] = []
    encode(tmp_path, rows(), progress=lambda done, total: said.append((done, total)), batch_size=4)
    assert said == [(4, 15), (7, 15), (11, 15), (13, 15), (15, 15)]


def test_raw_rows_give_eight_bit_pixels_and_texts() -> None:
    """Gray 0.3 is 165.75 of 255, held as 166: 166 / 127.5 - 1 = 0.30196."""
    raw = RawRows(rows(), NEEDS, 8)
    batch = raw.batch([3, 0])
    torch.testing.assert_close(batch.pixels["source"][:, 0, 0, 0], torch.tensor([166 / 127.5 - 1, 128 / 127.5 - 1]))
    assert batch.texts["instruction"] == ["ab", "abcd"]
    torch.testing.assert_close(raw.batch([3]).pixels["source"], batch.pixels["source"][:1], rtol=0, atol=0)


def test_raw_rows_skip_or_name_a_bad_row() -> None:
    data = rows(s2=Picture(0.2, broken=True))
    assert RawRows(data, NEEDS, 8, on_bad_row="skip").ids == ["r0", "r1", "r3", "r4", "r5"]
    with pytest.raises(DataError, match="truncated"):
        RawRows(data, NEEDS, 8).batch([2])
    with pytest.raises(DataError, match="not finite"):
        RawRows(rows(s1=Picture(float("nan"))), NEEDS, 8).batch([1])
