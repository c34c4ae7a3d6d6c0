"""What a curation's inputs list: what is usable, with which words, and what is not, with which reason; contents and paths."""

from __future__ import annotations

import hashlib
import io
import json
import os
import socket
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from relatum.atomic import write_text
from relatum.core.errors import DataError, RecipeError
from relatum.core.load import load
from relatum.data.sources import Hashes, Inputs, Source, content_of, opened
from relatum.video.opening import VideoError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links and pipes as Unix has them")


def fill(root: Path, *names: str) -> None:
    """Files whose bytes are their names."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(os.fsencode(name))


def shard(path: Path, members: Mapping[str, bytes | dict[str, Any]]) -> Path:
    """A tar of the members; a dictionary sets fields of the header."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            content = b"" if isinstance(data, dict) else data
            info.size = len(content)
            for field, value in data.items() if isinstance(data, dict) else ():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(content))
    return path


def listed(root: Path, path: str | list[str], **settings: Any) -> dict[str, Source]:
    """By uri; the same in a second listing."""
    found = list(Inputs(path, **settings).sources(root))
    assert found == list(Inputs(path, **settings).sources(root))
    assert len({source.uri for source in found}) == len(found)
    return {source.uri: source for source in found}


def faults(found: Mapping[str, Source]) -> dict[str, str]:
    return {uri: source.reason for uri, source in found.items() if source.fault}


def test_a_folder_in_the_natural_order_of_its_names(tmp_path: Path) -> None:
    fill(
        tmp_path, "v/b/1.mkv", "v/a10.mp4", "v/a2.MP4", "v/a02.webm", "v/x.jpg", "v/b/y.JPG", "v/.hidden", "v/notes.txt", "v/a2.txt"
    )
    assert {uri: source.reason for uri, source in listed(tmp_path, "v").items()} == {
        "v/a02.webm": "",
        "v/a2.MP4": "",
        "v/a10.mp4": "",
        "v/b/1.mkv": "",
        "v/**/* without a suffix": "not_video",
        "v/**/*.jpg": "not_video",
        "v/**/*.txt": "not_video",
    }
    found = listed(tmp_path, "v")
    assert found["v/**/*.jpg"].fault == "2 files are no videos (by the suffix): x.jpg, b/y.JPG"
    assert found["v/**/*.txt"].fault == "is no video (captions of no video, or other text): notes.txt"
    assert (found["v/**/*.jpg"].status, found["v/a2.MP4"].status) == ("reject", "")
    assert found["v/b/1.mkv"].path == tmp_path / "v" / "b" / "1.mkv"
    assert list(listed(tmp_path, "v", suffixes=(".jpg",)))[:2] == ["v/x.jpg", "v/b/y.JPG"]


def test_words_beside_a_video(tmp_path: Path) -> None:
    fill(tmp_path, "v/a.mp4", "v/b.mp4", "v/c.mp4", "v/d.mp4", "v/e.mp4", "v/sub/f.mp4")
    (tmp_path / "v/a.txt").write_text("\ufeffa dog\n\n  a cat \na dog\n", encoding="utf-8")
    about = {"caption": ["one", "two"], "text": "three", "title": "T", "license": "CC0", "tag": 7, "video": "tape", "other": {}}
    (tmp_path / "v/b.json").write_text(json.dumps(about), encoding="utf-8")
    (tmp_path / "v/b.txt").write_text("two\nzero", encoding="utf-8")
    (tmp_path / "v/c.txt").write_bytes(b"\xff")
    (tmp_path / "v/d.json").write_text("[1]", encoding="utf-8")
    (tmp_path / "v/e.json").write_text('{"title": ["T"], "text": "\\ud800", "group": true}', encoding="utf-8")
    (tmp_path / "v/sub/metadata.jsonl").write_text(
        '{"file_name": "f.mp4", "text": "m1", "video": "R"}\n{"file_name": "f.mp4", "text": ["m2"]}\n', encoding="utf-8"
    )
    (tmp_path / "v/sub/f.txt").write_text("s", encoding="utf-8")
    found = listed(tmp_path, "v")
    assert list(found) == [f"v/{name}.mp4" for name in "abcde"] + ["v/sub/f.mp4"]
    assert not faults(found)
    assert found["v/a.mp4"].captions == ("a dog", "a cat")
    b = found["v/b.mp4"]
    assert (b.captions, b.title, b.license, b.tag, b.group) == (("two", "zero", "one", "three"), "T", "CC0", "7", "tape")
    assert found["v/c.mp4"].note == "c.txt: is not UTF-8 (invalid start byte at byte 0)"
    assert found["v/d.mp4"].note == "d.json: expected a JSON object, found list"
    assert found["v/e.mp4"].note == (
        "title is list ['T'], expected text; left out; group is bool True, expected text; left out; "
        "text: '\\ud800' is not valid Unicode (a lone surrogate); left out"
    )
    assert (found["v/sub/f.mp4"].captions, found["v/sub/f.mp4"].group) == (("m1", "m2", "s"), "R")


def test_lines_of_metadata_that_name_nothing(tmp_path: Path) -> None:
    """A file that metadata.jsonl names is taken for a video whatever its suffix."""
    fill(tmp_path, "v/a.mp4", "v/b.bin", "v/sub/c.mp4")
    lines = ['{"file_name": "b.bin", "text": "B"}', "{", '{"file_name": "gone.mp4"}', '{"file_name": "../x.mp4"}', "{}"]
    lines += ['{"file_name": "sub"}', '{"file_name": "sub/c.mp4", "group": "x"}', '{"file_name": "sub/c.mp4", "group": "y"}']
    (tmp_path / "v/metadata.jsonl").write_text("\n".join(lines), encoding="utf-8")
    found = listed(tmp_path, "v")
    assert faults(found) == {
        "v/metadata.jsonl:2": "bad_row",
        "v/metadata.jsonl:4": "unsafe",
        "v/metadata.jsonl:5": "bad_row",
        "v/metadata.jsonl:8": "bad_row",
        "v/gone.mp4": "open_failed",
        "v/sub": "open_failed",
    }
    assert found["v/b.bin"].captions == ("B",)
    assert found["v/sub/c.mp4"].group == "x"
    assert found["v/gone.mp4"].fault == "no such file; metadata.jsonl names it"
    assert found["v/metadata.jsonl:8"].fault == "two rows are of different groups, x and y"


def test_links(tmp_path: Path) -> None:
    fill(tmp_path, "v/a.mp4", "elsewhere/b.mp4", "elsewhere/b.txt", "v/c.mp4")
    for name, to in {"l.mp4": "../elsewhere/b.mp4", "loop.mp4": "loop.mp4", "gone.mp4": "nowhere", "c.txt": "a.mp4"}.items():
        (tmp_path / "v" / name).symlink_to(to)
    (tmp_path / "v/out").symlink_to("../elsewhere")
    (tmp_path / "v/up").symlink_to("..")
    found = listed(tmp_path, "v")
    broken = {"v/gone.mp4": "open_failed", "v/loop.mp4": "open_failed"}
    assert faults(found) == {**broken, "v/l.mp4": "link", "v/out": "link", "v/up": "link"}
    assert found["v/c.mp4"].note == "c.txt: is a symbolic link, and follow_symlinks is false"
    assert found["v/loop.mp4"].fault == "is in a loop of links"
    found = listed(tmp_path, "v", follow_symlinks=True)
    assert faults(found) == {**broken, "v/up/elsewhere": "repeated", "v/up/v": "repeated"}
    assert found["v/out/b.mp4"].captions == ("elsewhere/b.txt",)
    assert found["v/c.mp4"].captions == ("v/a.mp4",)
    assert listed(tmp_path, "v/out")["v/out/b.mp4"].status == ""  # what the recipe names is followed
    assert listed(tmp_path, "v/l.mp4")["v/l.mp4"].status == ""


def test_what_is_no_file_is_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Opening one of these pipes would wait for ever."""
    fill(tmp_path, "v/a.mp4", "v/folder.mp4/b.mp4")
    for name in ("v/p.mp4", "v/a.txt", "v/a.json", "v/metadata.jsonl", "v/s.tar", "v/bare", "t.csv", "t.parquet", "t.tar", "t.txt"):
        os.mkfifo(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("v/s.mp4")
    found = listed(tmp_path, "v")
    assert faults(found) == dict.fromkeys(["v/metadata.jsonl", "v/bare", "v/p.mp4", "v/s.mp4", "v/s.tar"], "open_failed")
    assert found["v/p.mp4"].fault == "is a pipe, not a regular file"
    assert found["v/s.mp4"].fault == "is a socket, not a regular file"
    assert found["v/a.mp4"].note == "a.txt: is not a regular file; a.json: is not a regular file"
    assert found["v/folder.mp4/b.mp4"].status == ""
    for name in ("t.csv", "t.parquet", "t.tar", "t.txt"):
        with pytest.raises(DataError, match=rf"input\.path: {name}: is a pipe"):
            listed(tmp_path, name)
        with pytest.raises(VideoError, match="is not a regular file"):
            content_of(Source(name, tmp_path / name))


def test_a_folder_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path, "v/a.mp4", "v/shut/b.mp4", "v/z/c.mp4")
    scan = os.scandir

    def refuse(path: Any) -> Any:
        if str(path).endswith("shut"):
            raise PermissionError(13, "Permission denied")
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    found = listed(tmp_path, "v")
    assert list(found) == ["v/a.mp4", "v/shut", "v/z/c.mp4"]
    assert (found["v/shut"].reason, found["v/shut"].fault) == ("open_failed", "the folder cannot be read (Permission denied)")


def test_names_of_all_kinds(tmp_path: Path) -> None:
    """One printable line each; a name that looks like another's escape gets a number."""
    names = ["-i.mp4", "http:a.mp4", "a'\"<b>&.mp4", "two\nlines.mp4", r"two\nlines.mp4", "\u202egpj.mp4", "n" * 251 + ".mp4"]
    fill(tmp_path, *(f"v/{name}" for name in [*names, os.fsdecode(b"\xff.mp4")]))
    found = listed(tmp_path, "v")
    assert not faults(found)
    shown = [
        "-i.mp4",
        "http:a.mp4",
        "a'\"<b>&.mp4",
        r"two\nlines.mp4",
        r"two\nlines.mp4 (2)",
        r"\u202egpj.mp4",
        names[-1],
        r"\udcff.mp4",
    ]
    assert sorted(found) == sorted(f"v/{name}" for name in shown)
    assert {content_of(source) for source in found.values()} == {
        hashlib.sha256(os.fsencode(f"v/{name}")).hexdigest() for name in [*names, os.fsdecode(b"\xff.mp4")]
    }


def test_patterns(tmp_path: Path) -> None:
    fill(tmp_path, "v/a.mp4", "v/b.bin", "v/c/d.mp4", "v/c/e/f.mp4", "v/.h.mp4", "v/2024-01/g.mp4", "v/2024-02/h.mp4", "v/[1].mp4")
    (tmp_path / "v/d.mp4").symlink_to("a.mp4")
    assert list(listed(tmp_path, "v/*.mp4")) == ["v/[1].mp4", "v/a.mp4", "v/d.mp4"]
    assert faults(listed(tmp_path, "v/*.mp4")) == {"v/d.mp4": "link"}
    assert list(listed(tmp_path, "v/*.bin")) == ["v/b.bin"]
    assert list(listed(tmp_path, "v/c/**/*.mp4")) == ["v/c/d.mp4", "v/c/e/f.mp4"]
    assert list(listed(tmp_path, "v/2024-*")) == ["v/2024-01/g.mp4", "v/2024-02/h.mp4"]
    assert list(listed(tmp_path, "v/[1].mp4")) == ["v/[1].mp4"]  # a file of that name goes before the pattern
    assert list(listed(tmp_path, "*/c/d.mp?")) == ["v/c/d.mp4"]
    assert list(listed(tmp_path, str(tmp_path / "v/c/*/*"))) == [str(tmp_path / "v/c/e/f.mp4")]


def test_lists_of_paths(tmp_path: Path) -> None:
    fill(tmp_path, "l/a.mp4", "l/odd.name", "b.mp4")
    (tmp_path / "l/a.txt").write_text("beside", encoding="utf-8")
    (tmp_path / os.fsdecode(b"l/\xff.mp4")).write_bytes(b"q")
    shard(tmp_path / "l/s.tar", {"k.mp4": b"1"})
    lines = [b"\xef\xbb\xbfa.mp4", b"", b"../b.mp4\r", b"odd.name", b"\xff.mp4", b"s.tar", b"gone.mp4", b"http://x.y/z.mp4", b"."]
    lines += [os.fsencode(tmp_path / "b.mp4"), b"a.mp4", b"a\0b.mp4", b"n" * 300]
    (tmp_path / "l/all.txt").write_bytes(b"\n".join(lines))
    found = listed(tmp_path, "l/all.txt")
    assert faults(found) == {
        "l/gone.mp4": "open_failed",
        "http://x.y/z.mp4": "open_failed",
        "l": "open_failed",
        "l/a.mp4 (2)": "repeated",
        r"l/a\x00b.mp4": "open_failed",
        f"l/{'n' * 300}": "open_failed",
    }
    assert [uri for uri, source in found.items() if not source.fault] == [
        "l/a.mp4",
        "l/../b.mp4",
        "l/odd.name",
        r"l/\udcff.mp4",
        "l/s.tar:k.mp4",
        str(tmp_path / "b.mp4"),
    ]
    assert found["l/a.mp4"].captions == ("beside",)
    assert found["l/a.mp4 (2)"].status == "duplicate"
    assert "download it first" in found["http://x.y/z.mp4"].fault
    assert found["l"].fault == "is a folder, expected a file"


def tables(root: Path) -> dict[str, Path]:
    """The same four rows as three tables; the second row adds to the first."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    captions = [["c1", "c2"], ["c3", "c1"], None, ["d"]]
    rows = [("a.mp4", "T", "tape 1"), ("a.mp4", None, None), (None, "lost", None), ("sub/b.mp4", "U", "tape 2")]
    jsonl = [{"file": f, "title": t, "captions": c, "group": g} for (f, t, g), c in zip(rows, captions, strict=True)]
    (root / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in jsonl), encoding="utf-8")
    table = {"file": [r[0] for r in rows], "title": [r[1] for r in rows], "captions": captions, "group": [r[2] for r in rows]}
    pq.write_table(pa.table({**table, "thumbnail": [b"x"] * 4}), root / "t.parquet")
    cells = ["file,title,captions,group", 'a.mp4,T,c1,"tape 1"', "a.mp4,,c3,", ",lost,,", "sub/b.mp4,U,d,tape 2"]
    (root / "t.csv").write_text("\n".join(cells), encoding="utf-8")
    return {kind: root / f"t.{kind}" for kind in ("jsonl", "parquet", "csv")}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_tables(tmp_path: Path, kind: str) -> None:
    fill(tmp_path, "d/a.mp4", "d/sub/b.mp4")
    tables(tmp_path / "d")
    (tmp_path / "d/a.txt").write_text("not asked: the table has captions", encoding="utf-8")
    found = listed(tmp_path, f"d/t.{kind}")
    row = {"jsonl": 3, "csv": 4, "parquet": 3}[kind]
    assert list(found) == ["d/a.mp4", "d/sub/b.mp4", f"d/t.{kind}:{row}"]
    a, b, lost = found.values()
    assert (a.title, a.captions, a.group) == ("T", ("c1", "c3") if kind == "csv" else ("c1", "c2", "c3"), "tape 1")
    assert (b.path, b.title, b.captions, b.group) == (tmp_path / "d/sub/b.mp4", "U", ("d",), "tape 2")
    assert (lost.reason, lost.status) == ("bad_row", "error")
    assert lost.fault == f"file is {'' if kind == 'csv' else None!r}, expected the path of a video"
    named = listed(tmp_path, f"d/t.{kind}", columns={"caption": "title", "group": "title"})
    assert (named["d/a.mp4"].captions, named["d/a.mp4"].group) == (("T",), "T")
    with pytest.raises(DataError, match=rf"t\.{kind}: no column 'titel' for tag; did you mean 'title'\?"):
        listed(tmp_path, f"d/t.{kind}", columns={"tag": "titel"})


def test_tables_that_are_broken(tmp_path: Path) -> None:
    """What comes before the fault is listed; a table without a column of paths is the recipe's mistake."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    fill(tmp_path, "a.mp4", "b.mp4")
    (tmp_path / "t.csv").write_text('path,text\na.mp4,x\n"b.mp4,open', encoding="utf-8")
    found = listed(tmp_path, "t.csv")
    assert list(found) == ["a.mp4", "t.csv:3"]
    assert "is not CSV" in found["t.csv:3"].fault
    path = tmp_path / "t.parquet"
    pq.write_table(
        pa.table({"video": [{"path": "a.mp4", "bytes": b"x" * 99}, {"path": None, "bytes": b"y"}], "texts": [["t"], None]}), path
    )
    found = listed(tmp_path, "t.parquet")
    assert (found["a.mp4"].captions, found["t.parquet:2"].reason) == (("t",), "bad_row")
    path.write_bytes(path.read_bytes()[:-9])
    assert faults(listed(tmp_path, ["t.parquet", "b.mp4"])) == {"t.parquet:1": "bad_row"}
    pq.write_table(pa.table({"where": ["a.mp4"], "text": ["x"]}), path)
    with pytest.raises(DataError, match=r"t\.parquet: no column of paths; looked for path, file_name.*found where, text \(say it"):
        listed(tmp_path, "t.parquet")
    assert list(listed(tmp_path, "t.parquet", columns={"path": "where"})) == ["a.mp4"]
    (tmp_path / "t.jsonl").write_text(
        '{"path": "a.mp4", "group": "x"}\n{"path": "a.mp4", "group": "y"}\n{"path": 3}', encoding="utf-8"
    )
    assert faults(listed(tmp_path, "t.jsonl")) == {"t.jsonl:2": "bad_row", "t.jsonl:3": "bad_row"}


def test_shards(tmp_path: Path) -> None:
    members = {
        "k1.mp4": b"first",
        "k1.txt": b"a dog\na cat",
        "sub/k2.json": b'{"text": "j", "title": "T", "license": "cc"}',
        "sub/k2.MKV": b"second!",
        "k3.mp4": b"third",
        "k3.json": b"[]",
        "k4.jpg": b"",
        "k5.txt": b"no video",
    }
    path = shard(tmp_path / "s.tar", members)
    found = listed(tmp_path, "s.tar")
    assert faults(found) == {"s.tar:*.jpg": "not_video", "s.tar:*.txt": "not_video"}
    one, two, three = (found[f"s.tar:{name}"] for name in ("k1.mp4", "sub/k2.MKV", "k3.mp4"))
    assert (one.captions, two.captions, two.title, two.license) == (("a dog", "a cat"), ("j",), "T", "cc")
    assert three.note == "k3.json: expected a JSON object, found list"
    assert (one.member, one.size, two.size) == ((512, 5), 5, 7)
    assert content_of(two) == hashlib.sha256(b"second!").hexdigest()
    with opened(two, tmp_path / "scratch") as copy:
        assert (copy.read_bytes(), copy.suffix, copy.parent) == (b"second!", ".mkv", tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []
    with pytest.raises(ZeroDivisionError), opened(two, tmp_path / "scratch"):
        _ = 1 / 0
    assert list((tmp_path / "scratch").iterdir()) == []
    path.write_bytes(path.read_bytes()[: two.member[0] + 3 if two.member else 0])
    with pytest.raises(VideoError, match=r"s\.tar:sub/k2\.MKV: s\.tar has become shorter"):
        content_of(two)
    with pytest.raises(VideoError, match="has become shorter"), opened(two, tmp_path / "scratch"):
        pass


def test_members_that_are_refused_cost_no_others(tmp_path: Path) -> None:
    path = tmp_path / "v" / "s.tar"
    path.parent.mkdir()
    shard(
        path,
        {
            "a.mp4": b"1",
            "../b.mp4": b"2",
            "/c.mp4": b"3",
            "d.mp4": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
            "e.mp4": {"type": tarfile.CHRTYPE},
            "folder": {"type": tarfile.DIRTYPE},
            "f\n.mp4": b"4",
        },
    )
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("a.mp4")
        info.size = 1
        tar.addfile(info, io.BytesIO(b"5"))
    found = listed(tmp_path, "v")
    assert faults(found) == {f"v/s.tar:{name}": "unsafe" for name in ("../b.mp4", "/c.mp4", "d.mp4", "e.mp4")} | {
        "v/s.tar:a.mp4 (2)": "repeated"
    }
    assert [uri for uri, source in found.items() if not source.fault] == ["v/s.tar:a.mp4", r"v/s.tar:f\n.mp4"]
    whole = path.read_bytes()
    path.write_bytes(whole[: 512 * 11 + 100])  # within the header of the last member
    assert faults(listed(tmp_path, "v"))["v/s.tar"] == "open_failed"
    assert "v/s.tar:a.mp4" in listed(tmp_path, "v")
    path.write_bytes(b"no tar" * 200)
    assert faults(listed(tmp_path, ["v"])) == {"v/s.tar": "open_failed"}


def test_a_list_of_inputs_keeps_its_order(tmp_path: Path) -> None:
    fill(tmp_path, "b/1.mp4", "a/2.mp4", "c.mp4")
    found = listed(tmp_path, ["b", "c.mp4", "a/*.mp4", "b/1.mp4"])
    assert list(found) == ["b/1.mp4", "c.mp4", "a/2.mp4", "b/1.mp4 (2)"]
    assert found["b/1.mp4 (2)"].fault == "is listed already, as b/1.mp4"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gone", r"input\.path: gone: no such file \(looked in"),
        ("http://x/y.mp4", "is an address, or no such file"),
        ("empty", r"input\.path: empty: lists no videos"),
        ("empty/*.mp4", "lists no videos"),
        ("empty.txt", "lists no videos"),
        (["a.mp4", "gone"], "gone: no such file"),
    ],
)
def test_a_recipe_that_names_nothing(tmp_path: Path, path: Any, message: str) -> None:
    fill(tmp_path, "a.mp4")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty.txt").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=message):
        listed(tmp_path, path)


def test_settings_that_cannot_be() -> None:
    for table, message in {
        '{"path": ""}': "found an empty one",
        '{"path": []}': "found an empty one",
        '{"path": ["a", ""]}': "found an empty one",
        '{"path": "a", "columns": {"caption": "x", "titel": "y"}}': r"no role 'titel'; did you mean 'title'\?",
        '{"path": "a", "suffixes": ["mp4"]}': "expected a suffix in lower case with its dot",
        '{"path": "a", "folow_symlinks": true}': "did you mean 'follow_symlinks'",
        '{"path": 3}': r"input\.path",
    }.items():
        with pytest.raises(RecipeError, match=message):
            load(Inputs, json.loads(table), "input")
    assert load(Inputs, {"path": ["a"], "suffixes": [".mp4"]}, "input") == Inputs(["a"], suffixes=(".mp4",))


def age(*paths: Path) -> None:
    """As if they had last been changed long ago, as far as a program can."""
    for path in paths:
        os.utime(path, (1_000_000_000, 1_000_000_000))


def test_contents_are_remembered_until_a_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relatum.video.source.FRESH", -1)  # the times of change of these files are now
    fill(tmp_path, "a.mp4", "b.mp4")
    shard(tmp_path / "s.tar", {"k.mp4": b"1", "l.mp4": b"22"})
    sources = list(Inputs(["a.mp4", "b.mp4", "s.tar"]).sources(tmp_path))
    with Hashes(tmp_path / "run" / "hashes.json") as hashes:
        assert [hashes.known(source) for source in sources] == [None] * 4
        first = [hashes.of(source) for source in sources]
    assert first == [hashlib.sha256(data).hexdigest() for data in (b"a.mp4", b"b.mp4", b"1", b"22")]
    again = Hashes(tmp_path / "run" / "hashes.json")
    assert [again.known(source) for source in sources] == first
    (tmp_path / "a.mp4").write_bytes(b"A.mp4")
    age(tmp_path / "a.mp4", tmp_path / "b.mp4")  # the same size, an old time: only the time of the change itself tells
    shard(tmp_path / "s.tar", {"k.mp4": b"9", "l.mp4": b"22"})
    assert [again.known(source) for source in sources] == [None] * 4
    assert again.of(sources[0]) == hashlib.sha256(b"A.mp4").hexdigest()
    (tmp_path / "b.mp4").unlink()
    with pytest.raises(VideoError, match=r"b\.mp4: cannot be read \(No such file"):
        again.known(sources[1])
    for text in ("{", "[]", '{"x": 1}', "\x80"):
        write_text(tmp_path / "broken.json", text)
        assert Hashes(tmp_path / "broken.json").known(sources[0]) is None


def test_a_file_that_was_just_written_is_not_trusted(tmp_path: Path) -> None:
    """It may be written again within one tick of the file system's clock."""
    fill(tmp_path, "a.mp4")
    source = Source("a.mp4", tmp_path / "a.mp4")
    with Hashes(tmp_path / "hashes.json") as hashes:
        hashes.of(source)
        assert hashes.known(source) is None
    assert not (tmp_path / "hashes.json").exists()


def test_a_path_of_a_plain_file_is_its_own(tmp_path: Path) -> None:
    fill(tmp_path, "a.mp4")
    with opened(Source("a.mp4", tmp_path / "a.mp4"), tmp_path / "scratch") as path:
        assert path == tmp_path / "a.mp4"
    assert not (tmp_path / "scratch").exists()
    with pytest.raises(VideoError, match=r"gone: cannot be read \(No such file"):
        content_of(Source("gone", tmp_path / "gone"))
