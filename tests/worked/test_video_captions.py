"""MSR-VTT, WebVid and Open-Sora: their captions and clips, and errors that name line and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from relatum.core.errors import DataError
from relatum.data.video_captions import MsrVtt, OpenSora, WebVid
from support.clips import pairs, tick
from support.films import film


def msrvtt(tmp_path: Path, **changed: Any) -> MsrVtt:
    for at, name in enumerate(("video0", "video7")):
        if not (tmp_path / "clips" / f"{name}.mp4").exists():
            (tmp_path / "clips").mkdir(exist_ok=True)
            film(tmp_path / "clips" / f"{name}.mp4", [tick(i + at) for i in range(50)])
    extra = {"category": 9, "start time": 137.72, "end time": 149.44, "id": 0}
    table = {
        "info": {"year": "2016"},
        "videos": [{"video_id": "video0", "split": "train", **extra}, {"video_id": "video7", "split": "validate", **extra}],
        "sentences": [
            {"caption": "a car is shown", "video_id": "video0", "sen_id": 0},
            {"caption": "a <b>man</b>\nsings", "video_id": "video7", "sen_id": 1},
            {"caption": "in a car", "video_id": "video0", "sen_id": 2},
        ],
        **changed,
    }
    (tmp_path / "videodatainfo.json").write_text(json.dumps(table), encoding="utf-8")
    return MsrVtt(tmp_path, metadata="videodatainfo.json", folder="clips", cuts=False)


def test_msrvtt(tmp_path: Path) -> None:
    reading = msrvtt(tmp_path)
    rows = reading.rows()
    assert [row.id for row in rows] == [f"{name}:{i}" for name in ("video0", "video7") for i in range(8)]
    assert {row.texts["instruction"] for row in rows[:8]} == {"a car is shown", "in a car"}
    assert {row.texts["instruction"] for row in rows[8:]} == {"a <b>man</b>\nsings"}
    assert {row.group for row in rows} == {"video0", "video7"}
    reading.split = "validate"
    assert pairs(reading.rows()) == pairs(rows[8:])
    reading.split = "valid"
    with pytest.raises(DataError, match="did you mean 'validate'"):
        reading.rows()


def test_msrvtt_clips_of_one_url_are_one_group(tmp_path: Path) -> None:
    """Three clips, two of one YouTube video; the third says nothing of where it is from."""
    film(tmp_path / "video8.mp4", [tick(i + 7) for i in range(50)])
    (tmp_path / "clips").mkdir()
    (tmp_path / "video8.mp4").rename(tmp_path / "clips" / "video8.mp4")
    urls = {"video0": "https://example.org/v", "video7": None, "video8": "https://example.org/v"}
    videos = [{"video_id": id, "split": "train", "url": url} for id, url in urls.items()]
    sentences = [{"caption": "x", "video_id": id} for id in urls]
    rows = msrvtt(tmp_path, videos=videos, sentences=sentences).rows()
    assert [row.group for row in rows[::8]] == ["https://example.org/v", "video7", "https://example.org/v"]
    assert [row.id for row in rows[::8]] == ["video0:0", "video7:0", "video8:0"]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"videos": "none"}, "videodatainfo.json: videos: expected a list, found str"),
        ({"sentences": None}, "sentences: expected a list, found NoneType"),
        ({"videos": [{"split": "train"}], "sentences": []}, r"videos\[0\]: video_id is None"),
        ({"videos": [5], "sentences": []}, r"videos\[0\]: found int"),
        ({"sentences": [{"caption": 5, "video_id": "video0"}]}, r"sentences\[0\]: caption is int 5, expected text"),
        ({"sentences": [{"caption": "x"}]}, r"sentences\[0\]: video_id is missing"),
        ({"sentences": ["x"]}, r"sentences\[0\]: found str"),
        ({"sentences": [{"caption": "x", "video_id": "video9"}]}, "video_id 'video9' is not among the videos"),
        ({"sentences": []}, r"videos\[0\] \(clips/video0\.mp4\): no caption"),
        (
            {"videos": [{"video_id": "video8"}], "sentences": [{"caption": "x", "video_id": "video8"}]},
            r"video8\.mp4\): no such file",
        ),
        ({"videos": [{"video_id": "../x"}], "sentences": [{"caption": "x", "video_id": "../x"}]}, "no such file|leads out"),
    ],
)
def test_msrvtt_errors_name_their_place(tmp_path: Path, changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(DataError, match=reason):
        msrvtt(tmp_path, **changed).rows()


def test_msrvtt_files_that_are_not_json(tmp_path: Path) -> None:
    reading = msrvtt(tmp_path)
    for content, reason in ((b"{", "is not JSON"), (b"[]", "expected an object"), (b"\xff\xff", "is not UTF-8")):
        (tmp_path / "videodatainfo.json").write_bytes(content)
        with pytest.raises(DataError, match=reason):
            reading.rows()
    reading.metadata = "gone.json"
    with pytest.raises(DataError, match=r"gone\.json: cannot be read"):
        reading.rows()


def test_webvid(tmp_path: Path) -> None:
    """Files in their page's folder and beside the table; a missing one, a line with a field too few and one without a caption."""
    (tmp_path / "000001_000050").mkdir()
    film(tmp_path / "000001_000050" / "11.mp4", [tick(i) for i in range(50)])
    film(tmp_path / "12.mp4", [tick(i + 3) for i in range(50)])
    lines = ["videoid,contentUrl,duration,page_dir,name", '11,https://x,PT00H00M02S,000001_000050,"Aerial, of a city"']
    lines += ["12,https://x,PT00H00M02S,000001_000050,Two cats", "13,https://x,PT00H00M02S,000001_000050,Gone"]
    lines += ["14,https://x,PT00H00M02S,p", "12,https://x,PT00H00M02S,p,", "12,https://x,PT00H00M02S,p,Twice", ""]
    (tmp_path / "results.csv").write_text("\n".join(lines), encoding="utf-8")
    reading = WebVid(tmp_path, metadata="results.csv", cuts=False, on_bad_row="skip", per_video=2)
    rows = reading.rows()
    assert [(row.group, row.texts["target"]) for row in rows[::2]] == [("11", "Aerial, of a city"), ("12", "Two cats")]
    reasons = ["results.csv:4 (000001_000050/13.mp4): no such file", "results.csv:5: has 4 fields, the heading 5"]
    reasons += ["results.csv:6 (12.mp4): no caption", "results.csv:7 (12.mp4): 12 is listed by"]
    assert all(reason in line for reason, line in zip(reasons, reading.skipped, strict=True))
    (tmp_path / "results.csv").write_text("videoid,name\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.csv:1: no column 'page_dir'; found the columns videoid, name"):
        reading.rows()
    (tmp_path / "results.csv").write_text('videoid,name,page_dir\n1,"x,2\n', encoding="utf-8")
    with pytest.raises(DataError, match=r"results\.csv:\d: is not CSV"):
        reading.rows()


def test_open_sora(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for at, name in enumerate("ab"):
        film(tmp_path / "clips" / f"{name}.mp4", [tick(i + at) for i in range(50)])
    lines = ["path,text,num_frames", "clips/a.mp4,first,50", f"{tmp_path}/clips/b.mp4,second,50", "/etc/hostname,third,1", ",x,1"]
    (tmp_path / "meta.csv").write_text("\n".join(lines), encoding="utf-8")
    reading = OpenSora(tmp_path, metadata="meta.csv", cuts=False, on_bad_row="skip", per_video=2)
    assert [row.texts["target"] for row in reading.rows()] == ["first", "first", "second", "second"]
    assert ["leads out of" in line or "path is empty" in line for line in reading.skipped] == [True, True]
