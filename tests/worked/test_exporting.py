"""Training sets of what was kept: what each kind holds, that its reader gives it back, what is dropped, and going on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from relatum.core.errors import DataError, RecipeError
from relatum.core.load import load
from relatum.core.registry import reader
from relatum.data.curated import Curated
from relatum.data.rows import Row
from relatum.imaging import decode
from relatum.jobs import sampling
from relatum.jobs.exporting import Exported, Output, export
from relatum.video.timeline import read_timeline
from support.films import film
from support.manifests import clip_of, kept


def moving(count: int, step: int = 3, jolt: int = -1, seed: int = 0) -> list[np.ndarray]:
    """(64 80 3) frames of smooth gray clouds that go right by `step` pixels a frame, and 16 more from frame `jolt` on."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 24), dtype=np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((600, 64), Image.Resampling.BICUBIC))[..., None].repeat(3, 2)
    at = [i * step + (16 if 0 <= jolt <= i else 0) for i in range(count)]
    return [wide[:, 400 - x : 480 - x] for x in at]


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        "moving": film(folder / "moving.mp4", moving(90)),
        "other": film(folder / "other.mkv", moving(60, 2, seed=1), times=[40 * i + i % 2 for i in range(60)]),
        "still": film(folder / "still.mp4", [moving(1, seed=2)[0]] * 50),
    }


@pytest.fixture
def run(tmp_path: Path, videos: dict[str, Path]) -> Path:
    ranges = [(videos["moving"], [(3, 45), (50, 88)]), (videos["other"], [(0, 60)]), (videos["still"], [(0, 50)])]
    return kept(tmp_path / "run", ranges, groups={videos["other"]: "tape 7"})


LAW = {"law": "uniform", "horizon": 0.6, "per_video": 4}


def rows_of(found: Exported) -> list[Row]:
    rows = reader.build(found.reader, "data").rows()
    assert len(rows) == found.samples
    return rows


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("format", ["webdataset", "parquet", "folder"])
def test_pairs_come_back_as_rows_of_the_task_frames(run: Path, format: str) -> None:
    """Four pairs of each video but the still one, of which all 16 that are looked at fall out. A row is that of the reader of the
    originals: facts, caption, group, and both images within JPEG."""
    found = export(run, "pairs", load(Output, {**LAW, "format": format}, ""))
    assert (found.samples, found.dropped) == (8, {"too little motion": 16})

    def address(row: Row) -> tuple[Any, ...]:
        return tuple(row.facts[name] for name in ("video", "source_time", "offset", "spacing"))

    live = {address(row): row for row in Curated(run, **LAW).rows()}
    rows = rows_of(found)
    assert [row.group for row in rows].count("tape 7") == 4
    for row in rows:
        same = live[address(row)]
        assert (row.group, row.texts["instruction"]) == (same.group, same.texts["instruction"])
        for name in ("source", "target"):
            assert (row.images[name].pixels(64) - same.images[name].pixels(64)).abs().mean() < 0.03


def test_pairs_say_where_in_which_clip_they_lie(run: Path, videos: dict[str, Path]) -> None:
    """Frames by their stamps: of the file with uneven times, in milliseconds, 40 i + i % 2."""
    found = export(run, "table", Output(**LAW))
    paths = {timeline: read_timeline(videos[timeline]) for timeline in ("moving", "other")}
    clips = {
        clip_of(videos[name], *ends): (name, ends) for name, ends in (("moving", (3, 45)), ("moving", (50, 88)), ("other", (0, 60)))
    }
    for row in rows_of(found):
        name, (first, stop) = clips[row.facts["clip_id"]]
        frames = [paths[name].stamps.index(row.facts[end]) for end in ("src_pts", "tgt_pts")]
        assert first <= frames[0] < frames[1] < stop
        assert row.facts["source_time"] == pytest.approx(paths[name].times[frames[0]], abs=1e-6)
        assert row.facts["pair_id"].endswith("-{:07}-{:07}".format(*frames))
        assert row.id.endswith(row.facts["pair_id"])
        assert row.facts["caption_kind"] == {"a square": "image", "it moves": "video"}[row.texts["instruction"]]
        assert row.facts["dt_s"] == row.facts["offset"]
        if name == "other":
            assert row.facts["src_pts"] == 40 * frames[0] + frames[0] % 2


def test_an_export_of_one_split_holds_no_other(tmp_path: Path, videos: dict[str, Path]) -> None:
    ranges = [(videos["moving"], [(3, 45)]), (videos["other"], [(0, 60)])]
    run = kept(tmp_path / "run", ranges, splits={videos["other"]: "test"})
    for kind, format, counts in (("pairs", "parquet", (8, 4)), ("clips", "folder", (2, 1)), ("ranges", "folder", (2, 1))):
        everything, test = (
            export(
                run,
                f"{kind}{split}",
                load(Output, {"kind": kind, "format": format, "split": split, **(LAW if kind == "pairs" else {})}, ""),
            )
            for split in ("", "test")
        )
        assert (everything.samples, test.samples) == counts
    with pytest.raises(DataError, match="nothing is left to write"):
        export(run, "none", Output(split="validation", **LAW))
    lines = [json.loads(line) for line in (run / "exports" / "clips" / "metadata.jsonl").read_text().splitlines()]
    assert sorted(line["split"] for line in lines) == ["test", "train"]
    assert {row.group for row in Curated(run / "exports" / "rangestest", **LAW).rows()} == {lines_of(run, "test")}


def lines_of(run: Path, split: str) -> str:
    """The content of the video of a split, as the export of clips has it."""
    lines = [json.loads(line) for line in (run / "exports" / "clips" / "metadata.jsonl").read_text().splitlines()]
    return next(line["content"] for line in lines if line["split"] == split)


def test_flow_is_in_short_sides(run: Path) -> None:
    """At "next" with .2 s = 5 frames of 3 pixels: 15 of 64 pixels, .234; the other video, 5 frames of 2: .156. What enters at the
    border has no match, so within a tenth."""
    found = export(run, "next", Output(law="next", per_video=3))
    for row in rows_of(found):
        want = 10 / 64 if row.group == "tape 7" else 15 / 64
        assert row.facts["flow"] == pytest.approx(want, rel=0.1)


def test_a_jolt_is_found_and_steady_motion_is_not(tmp_path: Path) -> None:
    """The picture jumps by 16 of 64 pixels between frames 24 and 25, else 3 a frame. A jolt is seen from frames 24 and 25 alone,
    of which the grid (every 5 frames) has 25: of the four pairs of .2 s those from 20 and from 25 fall out."""
    path = film(tmp_path / "a.mp4", moving(41, jolt=25), options={"crf": "4"})
    run = kept(tmp_path / "run", [(path, [(10, 41)])])
    settings = {"law": "next", "per_video": 6, "distinct": False}
    found = export(run, "steady", Output(**settings))
    assert found.dropped == {"jitter": 2}
    assert sorted(row.facts["source_time"] for row in rows_of(found)) == [0.4, 0.6, 1.2, 1.4]
    assert export(run, "all", Output(most_jitter=0.0, **settings)).dropped == {}


def test_pairs_that_are_nearly_the_same_are_stored_once(tmp_path: Path) -> None:
    """A loop of ten frames, .4 s, shown five times: pairs of .2 s start at its first or its middle frame."""
    path = film(tmp_path / "a.mp4", moving(10) * 5, options={"crf": "4"})
    run = kept(tmp_path / "run", [(path, [(0, 50)])])
    found = export(run, "distinct", Output(law="next", per_video=8, most_jitter=0.0))
    assert (found.samples, found.dropped) == (2, {"nearly the same as another pair": 7})
    assert found.notes == ["a.mp4: 2 of 8 pairs"]
    assert export(run, "all", Output(law="next", per_video=8, most_jitter=0.0, distinct=False)).samples == 8


@pytest.mark.filterwarnings("ignore")
def test_triplets_come_back_as_edits_and_as_images_for_datasets(run: Path, tmp_path: Path) -> None:
    found = export(run, "edits", Output(kind="triplets", format="parquet", size=32, **LAW))
    for row in rows_of(found):
        assert set(row.images) == {"source", "target"}
        assert row.texts["instruction"] == row.texts["source"] == row.texts["target"]
        assert row.texts["instruction"] in ("a square", "it moves")
    from datasets import load_dataset

    table = load_dataset(str(found.folder), split="train", cache_dir=str(tmp_path / "cache"))
    assert {"original_image", "edited_image", "edit_prompt", "original_prompt", "edited_prompt"} <= set(table.column_names)
    assert table[0]["edited_image"].size == (40, 32)
    folder = export(run, "folder", Output(kind="triplets", format="folder", quality=0, **LAW))
    assert [row.texts for row in rows_of(folder)] == [row.texts for row in rows_of(found)]


def test_stills_are_the_middle_frames_of_clips(run: Path, videos: dict[str, Path]) -> None:
    """Clips 3-44 and 50-87: frames 24 and 69, of which the texture has moved 72 and 207 pixels."""
    found = export(run, "stills", Output(kind="stills", format="folder", quality=0))
    rows = {row.id: row for row in rows_of(found)}
    assert found.samples == 4
    lines = [json.loads(line) for line in (found.folder / "metadata.jsonl").read_text().splitlines()]
    for first, stop, middle in ((3, 45, 24), (50, 88, 69)):
        line = next(line for line in lines if line["file_name"].endswith(f"{clip_of(videos['moving'], first, stop)}.png"))
        assert line["time"] == middle / 25
        pixels = decode(found.folder / line["file_name"], "still")
        truth = moving(90)[middle].transpose(2, 0, 1) / 127.5 - 1
        assert np.abs(pixels.numpy() - truth).mean() < 0.1
    assert all(row.texts["target"] in ("a square", "it moves") for row in rows.values())
    assert export(run, "few", Output(kind="stills", per_video=1)).samples == 3


def test_clips_hold_the_exact_frames_of_their_ranges(run: Path, videos: dict[str, Path]) -> None:
    """Frames 3-44, 50-87, 0-59 with uneven times, and 0-49, under the times of the original, whatever its keyframes (every 12)."""
    found = export(run, "clips", Output(kind="clips", format="folder"))
    lines = [json.loads(line) for line in (found.folder / "metadata.jsonl").read_text().splitlines()]
    assert sorted(read_timeline(found.folder / line["file_name"]).times[-1] for line in lines) == pytest.approx(
        sorted([41 / 25, 37 / 25, 59 / 25 + 0.001, 49 / 25]), abs=1e-4
    )
    name = clip_of(videos["moving"], 50, 88)
    line = next(line for line in lines if name in line["file_name"])
    clip = read_timeline(found.folder / line["file_name"])
    assert len(clip.times) == 38
    from relatum.video.decode import frames_at

    shown = frames_at(clip, [0, 37])
    for index, frame in ((0, 50), (37, 87)):
        gaps = [np.abs(shown[index].numpy().transpose(1, 2, 0).astype(int) - truth).mean() for truth in moving(90)]
        assert np.argmin(gaps) == frame
        assert min(gaps) < 8
    assert line["captions"] == ["a square", "it moves"]
    assert (line["weights"], line["start_s"], line["end_s"]) == ([0.5, 0.25], 2.0, 3.52)
    rows = reader.build({**found.reader, "per_video": 2, "law": "next"}, "data").rows()
    assert len(rows) == 8
    assert len({row.group for row in rows}) == 3


def test_clips_as_shards_and_as_folders_of_frames(run: Path) -> None:
    """10 frames a second of 1.68 s is 17 images, of 1.52 s 16, of 2.401 s 25, of 2 s 20."""
    shards = export(run, "shards", Output(kind="clips", size=32))
    import tarfile

    with tarfile.open(shards.folder / "shard-00000.tar") as tar:
        endings = [name.partition(".")[2] for name in tar.getnames()]
    assert endings == ["mp4", "txt", "json"] * 4
    folders = export(run, "frames", Output(kind="clips", format="folder", frames=True, rate=10.0, size=32))
    counts = [len(list(path.iterdir())) for path in sorted((folders.folder / "00000").iterdir())]
    assert sorted(counts) == [16, 17, 20, 25]
    assert folders.reader["kind"] == "frame_folders"
    rows = reader.build({**folders.reader, "per_video": 1, "law": "next"}, "data").rows()
    assert len(rows) == 4
    assert {row.facts["offset"] for row in rows} == {0.2}


@pytest.mark.parametrize("format", ["parquet", "folder"])
def test_ranges_are_read_like_the_run_itself(run: Path, format: str) -> None:
    found = export(run, "ranges", load(Output, {"kind": "ranges", "format": format}, ""))
    assert found.samples == 4
    taken = [Curated(path, **LAW).rows() for path in (run, found.folder)]
    assert [(row.id, row.group, row.texts, row.facts) for row in taken[0]] == [(r.id, r.group, r.texts, r.facts) for r in taken[1]]


def test_the_same_command_goes_on_and_finishes_once(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at the third video, nothing is there by the export's name; then only that video is looked at; then nothing is."""
    whole = export(run, "whole", Output(shard_rows=4, **LAW))
    real, looked = sampling.sift, list[str]()

    def sift(timeline: Any, *rest: Any) -> Any:
        looked.append(timeline.path.name)
        if len(looked) == 3:
            raise KeyboardInterrupt
        return real(timeline, *rest)

    monkeypatch.setattr(sampling, "sift", sift)
    with pytest.raises(KeyboardInterrupt):
        export(run, "pairs", Output(shard_rows=4, **LAW))
    assert not (run / "exports" / "pairs").exists()
    first = looked[:2]
    found = export(run, "pairs", Output(shard_rows=4, **LAW))
    assert first[0] not in looked[3:] or "still.mp4" in first
    assert found.dropped == whole.dropped
    for name in ("index.parquet", *whole.files):
        assert (found.folder / name).read_bytes() == (whole.folder / name).read_bytes()
    looked.clear()
    assert export(run, "pairs", Output(shard_rows=4, **LAW)) == found
    assert looked == []
    assert not list((run / "exports").glob(".*"))
    assert not [path.name for path in found.folder.iterdir() if path.name.startswith(".")]


def test_other_settings_replace_an_export_once_they_are_whole(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = export(run, "pairs", Output(**LAW))
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "sift", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            export(run, "pairs", Output(size=16, **LAW))
    assert export(run, "pairs", Output(**LAW)) == first
    assert export(run, "pairs", Output(size=16, **LAW)).key != first.key
    (run / "exports" / "mine").mkdir()
    with pytest.raises(DataError, match="is there, but is no whole export"):
        export(run, "mine", Output())


def test_bad_videos_are_counted_and_named(run: Path, videos: dict[str, Path], tmp_path: Path) -> None:
    here = Path(shutil.copy(videos["moving"], tmp_path / "here.mp4"))
    run = kept(tmp_path / "second", [(here, [(3, 45)]), (videos["other"], [(0, 60)])])
    here.write_bytes(videos["still"].read_bytes())
    found = export(run, "pairs", Output(**LAW))
    assert (found.samples, found.dropped) == (4, {"the video cannot be used": 1})
    assert "here.mp4: was changed after it was curated" in found.notes[0]
    with pytest.raises(DataError, match=r"here\.mp4: was changed"):
        export(run, "strict", Output(on_bad_row="stop", **LAW))
    with pytest.raises(DataError, match=r"exports/none: nothing is left to write \(the video cannot be used: 1; the first: .*here"):
        export(kept(tmp_path / "third", [(tmp_path / "here.mp4", [(0, 5)])]) and gone(tmp_path / "third", here), "none", Output())


def gone(run: Path, path: Path) -> Path:
    path.unlink()
    return run


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "clips", "format": "parquet"}, "clips are not written as 'parquet'"),
        ({"kind": "ranges", "format": "webdataset"}, "ranges are not written as 'webdataset'"),
        ({"kind": "clips", "format": "folder", "frames": True}, "rate: folders of images have no times"),
        ({"frames": True, "rate": 5.0}, "folders of images are written of kind"),
        ({"quality": 101}, "quality is 101"),
        ({"size": 4}, "size of 8 pixels or more"),
        ({"least_flow": -0.1}, "least_flow is -0.1"),
        ({"law": "next", "offset": 0.3}, "no whole multiple"),
        ({"kind": "pair"}, "did you mean 'pairs'"),
    ],
)
def test_settings_that_cannot_be_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load(Output, table, "output.mine")
