"""A folder of bad files: each is listed with its reason, by the inputs or by the probe, and none is fatal."""

from __future__ import annotations

import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from relatum.core.errors import DataError
from relatum.curation.probe import classify, probe
from relatum.curation.settings import Limits
from relatum.data.sources import Inputs, Source
from relatum.video.opening import VideoError, packets_of
from relatum.video.reader import Reader
from relatum.video.source import content_of
from support.bad_films import Expected, bad_films
from support.films import bars, film

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="file names and special files as Linux has them")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Expected]]]:
    root = tmp_path_factory.mktemp("corpus")
    yield root, bad_films(root / "bad")
    shutil.rmtree(root)


def ends(source: Source) -> tuple[str, str, str]:
    """(status, reason, words) by listing and probe."""
    if source.fault:
        return source.status, source.reason, source.fault
    try:
        _, facts = probe(source.path, Limits())
    except DataError as error:
        return *classify(error), str(error)
    return "ok", "", "; ".join(facts["notes"])


def test_every_file_is_listed_once_with_its_reason(corpus: tuple[Path, dict[str, Expected]]) -> None:
    root, expected = corpus
    found = {source.uri: source for source in Inputs("bad").sources(root)}
    assert list(found) == [source.uri for source in Inputs("bad").sources(root)]
    assert sorted(found) == sorted(expected)
    for uri, source in found.items():
        want, (status, reason, words) = expected[uri], ends(source)
        later = want.decoded or want.status == "duplicate"  # the probe does not tell
        assert (status, reason) == (("ok", "") if later else (want.status, want.reason)), (uri, words)
        assert re.search(want.words, words), (uri, words)
        assert bool(source.fault) == want.listed, uri
        assert uri.isprintable(), uri
        assert words.isprintable(), uri


def test_what_only_decoding_tells(corpus: tuple[Path, dict[str, Expected]]) -> None:
    """2 % of the frames may be lost: of 220 frames 1 to 3 are, 110 and those up to the next keyframe; of 60 12 or more."""
    root, expected = corpus
    for name, least, most in (("scratched.mp4", 1, 3), ("torn.mp4", 12, 24), ("cut-index-first.mp4", 1, 1)):
        assert expected[f"bad/{name}"].decoded
        timeline, _ = probe(root / "bad" / name, Limits())
        with Reader(timeline, seeks=False) as reader:
            lost = len(timeline.times) - sum(1 for _ in reader.frames())
        assert least <= lost <= most, name
        assert (lost <= 0.02 * len(timeline.times)) == (expected[f"bad/{name}"].status == "partial")


def test_contents_differ_but_for_the_copy(corpus: tuple[Path, dict[str, Expected]]) -> None:
    root, _ = corpus
    usable = [source for source in Inputs("bad").sources(root) if ends(source)[0] == "ok"]
    contents: dict[str, str] = {}
    same = [(contents.setdefault(content_of(source), source.uri), source.uri) for source in usable]
    assert [pair for pair in same if pair[0] != pair[1]] == [("bad/whole.mp4", "bad/whole.same.mp4")]


def test_facts_of_a_video_by_hand(tmp_path: Path) -> None:
    """30 frames 40 ms apart, gop 12: keyframes 0, 12, 24; the last frame lasts as the others: 30 * .04 = 1.2 s. Turned: 72 x 96."""
    path = film(tmp_path / "a.mp4", [bars(i, 72, 96) for i in range(30)], turn=90)
    timeline, facts = probe(path, Limits())
    assert facts == {
        "size_bytes": path.stat().st_size,
        "container": "mov",
        "codec": "h264",
        "pix_fmt": "yuv420p",
        "width": 72,
        "height": 96,
        "rotation": 90,
        "sar": "",
        "color_space": "",
        "color_range": "",
        "rate": pytest.approx(25),
        "time_base": facts["time_base"],
        "duration_s": pytest.approx(1.2),
        "frames_declared": 30,
        "frames": 30,
        "is_vfr": False,
        "keyframes": 3,
        "start_pts": 0,
        "max_gop_s": pytest.approx(0.48),
        "has_audio": False,
        "notes": [],
    }
    assert re.fullmatch(r"1/\d+", facts["time_base"])
    assert timeline.keyframes == (0, 12, 24)
    full = film(tmp_path / "b.mkv", [bars(i, 72, 96) for i in range(30)], codec="mjpeg", pix_fmt="yuvj420p")
    assert (probe(full, Limits())[1]["color_range"], probe(full, Limits())[1]["codec"]) == ("full", "mjpeg")


def test_silences_are_noted(tmp_path: Path) -> None:
    """Gaps of 40 ms but two of 2.04 s: after 9 * .04 = .36 s and after 19 * .04 + 2 = 2.76 s. .94 s are no silence."""
    frames = [bars(i, 72, 96) for i in range(30)]
    path = film(tmp_path / "a.mkv", frames, [40 * i + 2000 * (i // 10) for i in range(30)])
    assert probe(path, Limits())[1]["notes"] == ["no frame for 2.0 s after 0.36 s (and 1 more such gap)"]
    path = film(tmp_path / "b.mkv", frames, [40 * i + 900 * (i // 10) for i in range(30)])
    assert probe(path, Limits())[1]["notes"] == []


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"max_bytes": 1000}, "too_large"),
        ({"max_megapixels": 0.006}, "too_large"),
        ({"max_seconds": 1.1}, "too_long"),
        ({"min_seconds": 1.21}, "too_short"),
        ({"min_short_side": 73}, "too_small"),
        ({"max_bytes": 0, "max_megapixels": 0, "max_seconds": 1.16, "min_seconds": 1.2, "min_short_side": 72}, ""),
    ],
)
def test_limits_on_either_side(tmp_path: Path, limits: dict[str, Any], reason: str) -> None:
    """72 x 96 = .0069 megapixels, 1.2 s of which the last frame begins at 1.16 s; 0 is no limit."""
    path = film(tmp_path / "a.mp4", [bars(i, 72, 96) for i in range(30)])
    if not reason:
        assert len(probe(path, Limits(**limits))[0].times) == 30
        return
    with pytest.raises(VideoError) as caught:
        probe(path, Limits(**limits))
    assert classify(caught.value) == ("reject", reason)


def test_streams_that_begin_within_the_file_are_passed_over() -> None:
    """PyAV raises where a packet of one comes up, and reads on when it is asked again; other errors end the reading."""
    left: list[Any] = ["a", IndexError("list index out of range"), "b", IndexError(), IndexError(), "c", OSError("torn"), "d"]

    def demux(stream: Any) -> Iterator[Any]:
        assert stream == "video"
        while left:
            if isinstance(found := left.pop(0), Exception):
                raise found
            yield found

    packets = packets_of(SimpleNamespace(demux=demux), "video")
    assert [next(packets) for _ in range(3)] == ["a", "b", "c"]
    with pytest.raises(OSError, match="torn"):
        next(packets)
    assert list(packets) == []


def test_a_reason_outlives_the_process() -> None:
    error = pickle.loads(pickle.dumps(VideoError("a.mp4: no frame can be decoded", "corrupt")))
    assert (str(error), classify(error)) == ("a.mp4: no frame can be decoded", ("reject", "corrupt"))
    assert classify(VideoError("gone")) == ("error", "open_failed")
    assert classify(VideoError("no", "no_decoder"))[0] == "error"
    assert classify(VideoError("no", "read_failed"))[0] == "error"
    assert classify(DataError("of another kind")) == ("error", "open_failed")


def test_real_clips(shared_data: Path) -> None:
    """All can be used as far as a probe tells, the torn one too; what is said of sound is what the file holds."""
    import av

    paths = sorted((shared_data / "videos" / "dev").iterdir())
    assert len(paths) >= 20
    for path in paths:
        timeline, facts = probe(path, Limits(min_seconds=0.5))
        with av.open(str(path)) as container:
            assert facts["has_audio"] == bool(container.streams.audio)
        assert facts["frames"] == len(timeline.times) > 10
        json.dumps(facts)


def test_workers_need_no_torch() -> None:
    code = "import sys, relatum.curation.probe, relatum.video.source; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
