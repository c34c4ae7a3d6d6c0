"""Films: files that play, and reports with curves and animations."""

import base64
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from relatum.compare import charts
from relatum.compare.animations import film_of, play, png_size, rules, still, stills, turn
from relatum.compare.report import html_of, markdown_of
from relatum.compare.schema import (
    Arm,
    Chart,
    Cost,
    Curve,
    Difference,
    Estimate,
    Measure,
    Point,
    Reel,
    Reels,
    Report,
    from_json,
    picture,
    to_json,
)
from relatum.core.errors import DataError, ShapeError
from relatum.imaging import to_uint8
from relatum.video.write import strip, write_film, write_gif, write_mp4

EVIL = """</style><script>alert("x")</script> 'q' & "d" } * { background: url(http://evil.test/x.png) } | `c`"""
ARMS = ("mse", "contrast", "contrast k=3", "contrast k=3 noise", "forcing", "rollout", "refine", "everything")
CONTROLS = ("copy the first frame", "autoencoder, k times", "real video")


def ball(frames: int = 17, height: int = 64, width: int = 64, speed: float = 2.0, drift: float = 0.0) -> torch.Tensor:
    """A red disk that moves right over a blue ground; `drift` fades the ground to gray, step by step."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    video = torch.empty(frames, 3, height, width)
    for i in range(frames):
        share = min(1.0, drift * i)
        ground = torch.tensor([-0.4, -0.2, 0.5]) * (1 - share) + share * 0.1
        disk = ((x - 0.19 * width - speed * i) ** 2 + (y - height / 2) ** 2) < (height / 7) ** 2
        video[i] = torch.where(disk, torch.tensor([0.9, -0.7, -0.5])[:, None, None], ground[:, None, None])
    return video


def noise(frames: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(frames, 3, height, width, generator=torch.Generator().manual_seed(3)) * 2 - 1


def enlarged(video: torch.Tensor, scale: int) -> np.ndarray:
    return np.repeat(np.repeat(to_uint8(video), scale, 1), scale, 2).astype(float)


def curve(arm: str, start: float, slope: float, control: bool = False, steps: int = 17) -> Curve:
    points = [(k, start + slope * k, abs(slope) * (0.3 + 0.06 * k)) for k in range(steps)]
    return Curve(arm, tuple(Point(float(k), value, value - half, value + half) for k, value, half in points), control)


def film_report(name: str = "toy videos", rename: dict[str, str] | None = None, size: int = 64, rows: int = 4) -> Report:
    """Eight arms, two charts with three controls, reels of 4 rows by 10 columns by 17 frames."""
    arms = [(rename or {}).get(arm, arm) for arm in ARMS]
    measures = (
        Measure("drift.half", "half-life of similarity to the first frame", "higher", "steps", 1, 0.5, True),
        Measure("frame_error", "frame error at step 8", "lower", digits=4, source_table=True),
        Measure("flicker", "flicker F", "lower", digits=3),
        Measure("drift.slope", "drift slope (Theil\N{EN DASH}Sen)", "lower", digits=4),
    )
    figures = {"drift.half": (4.1, 0.6), "frame_error": (0.081, -0.006), "flicker": (0.31, -0.02), "drift.slope": (0.021, -0.002)}
    estimates = [
        Estimate(arm, metric, at + gain * i, at + gain * i - abs(gain), at + gain * i + abs(gain), None, 256, 6)
        for i, arm in enumerate(arms)
        for metric, (at, gain) in figures.items()
    ]
    controls = [Estimate(c, m, at, None, None) for c in CONTROLS for m, (at, _) in figures.items()]
    differences = [
        Difference(
            arm, arms[0], metric, gain * i, gain * i - 1.5 * abs(gain), gain * i + 1.5 * abs(gain), 6, 256,
            tuple(gain * i * f for f in (0.8, 0.9, 1.0, 1.1, 1.2, 1.0)), 0.031, 0.125, 0.01, None, 0.6 + 0.03 * i, 0,
            "better" if i > 1 else "no evidence", f"{arm} holds the scene {gain * i:.1f} longer than {arms[0]}.",
        )
        for i, arm in enumerate(arms[1:], 1)
        for metric, (_, gain) in figures.items()
    ]  # fmt: skip
    similar = [curve(arm, 1.0, -0.05 + 0.005 * i) for i, arm in enumerate(arms)]
    errors = [curve(arm, 0.02, 0.011 - 0.001 * i) for i, arm in enumerate(arms)]
    flat = [
        curve(c, level, slope, True) for c, level, slope in zip(CONTROLS, (1.0, 0.97, 0.95), (0.0, -0.012, -0.004), strict=True)
    ]
    low = [curve(c, level, slope, True) for c, level, slope in zip(CONTROLS, (0.0, 0.03, 0.0), (0.012, 0.003, 0.0), strict=True)]
    columns = ("source", "target", *arms)
    reels = [
        Reel(
            f"toy-{r:03d}", f"the red disk moves right, {r + 1} pixels a frame", {name: f"caption {r} {name}"},
            {c: film_of(ball(1 if not i else 17, size, size, r + 1.0, 0.02 * (9 - i)), 4.0) for i, c in enumerate(columns)},
        )
        for r in range(rows)
    ]  # fmt: skip
    return Report(
        name, "2026-01-01T00:00:00Z", "drift.half", tuple(Arm(arm, "", {"task.past": "3"}) for arm in arms), (0, 1, 2, 3, 4, 5),
        measures, tuple(estimates), tuple(differences), tuple(controls), cost={arm: Cost(11.0, 160.0) for arm in arms},
        charts=(
            Chart("Similarity to the first frame", "drift.first", better="higher", curves=(*similar, *flat), note=name),
            Chart("Frame error", "frame_error", "rollout step", "rms", "lower", (*errors, *low)),
        ),
        reels=(Reels("Rollouts", columns, tuple(reels), "Seed 0; 16 steps of 0.25 s. The first rows, not chosen."),),
        source_title="The source's video table",
        description="32 held-out clips, 8 arms, 6 seeds.",
    )  # fmt: skip


def decoded(path: Path) -> tuple[list[float], np.ndarray, str, int, int]:
    """Times, frames, codec, width and height of a video file, by PyAV."""
    import av

    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = [(frame.time, frame.to_ndarray(format="rgb24")) for frame in file.decode(video=0)]
        return (
            [t or 0.0 for t, _ in frames],
            np.stack([f for _, f in frames]),
            stream.codec_context.name,
            stream.width,
            stream.height,
        )


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return 10 * math.log10(255**2 / float(((a.astype(float) - b) ** 2).mean()))


def test_mp4_comes_back(tmp_path: Path):
    """64 x 48 pixels become 6 times as large (6 * 48 = 288 >= 256); 5 frames at 12.5/s stand at 0, .08, .16, .24, .32 s."""
    pytest.importorskip("av")
    video = ball(5, 48, 64)
    write_mp4(tmp_path / "a.mp4", video, 12.5)
    times, frames, codec, width, height = decoded(tmp_path / "a.mp4")
    assert (codec, width, height) == ("h264", 384, 288)
    assert times == pytest.approx([0, 0.08, 0.16, 0.24, 0.32])
    assert psnr(frames, enlarged(video, 6)) > 40
    data = (tmp_path / "a.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_mp4_keeps_hard_edges_of_color(tmp_path: Path):
    """Red (191 0 0) over blue (0 0 255), each pixel twice enlarged, so that every place of the color planes holds one pixel.
    Y = .2126 * 191 = 40.6 and .0722 * 255 = 18.4; (R - Y) / 1.5748 * 224 / 255 + 128 = 212 over 118, (B - Y) / 1.8556 * 224 /
    255 + 128 = 109 over 240. FFmpeg's own conversion blurs the border to 200 over 129 and 125 over 224."""
    av = pytest.importorskip("av")
    video = torch.full((2, 3, 16, 16), -1.0)
    video[:, 0, :8] = 0.5
    video[:, 2, 8:] = 1.0
    write_mp4(tmp_path / "a.mp4", video, 4, scale=2)
    with av.open(str(tmp_path / "a.mp4")) as file:
        planes = next(file.decode(video=0)).to_ndarray()  # (48, 32): brightness (32, 32), then both colors (16, 16)
    blue, red = planes[32:40].reshape(16, 16).astype(int), planes[40:].reshape(16, 16).astype(int)
    assert np.abs(red - np.repeat([212, 118], 8)[:, None]).max() <= 3
    assert np.abs(blue - np.repeat([109, 240], 8)[:, None]).max() <= 3


def test_mp4_of_odd_size_doubles_its_last_row_and_column(tmp_path: Path):
    """257 x 259 needs no enlarging; 258 x 260 is the next even size, and the added row equals its neighbor up to the codec."""
    pytest.importorskip("av")
    video = ball(2, 257, 259).mean(1, keepdim=True).expand(-1, 3, -1, -1)  # gray, because color is stored for squares of two
    write_mp4(tmp_path / "odd.mp4", video, 29.97)
    times, frames, _, width, height = decoded(tmp_path / "odd.mp4")
    assert (width, height) == (260, 258)
    assert times[1] == pytest.approx(1 / 29.97)
    assert np.abs(frames[:, 257].astype(int) - frames[:, 256].astype(int)).max() <= 3
    assert psnr(frames[:, :257, :259], enlarged(video, 1)) > 40


def test_gif_is_exact_to_256_colors(tmp_path: Path):
    """3 frames at 15/s end at 6.67, 13.33, 20 hundredths, rounded 7, 13, 20: they last 70, 60, 70 ms, .2 s in all; it loops."""
    video = ball(3)
    write_gif(tmp_path / "a.gif", video, 15.0)
    with Image.open(tmp_path / "a.gif") as image:
        assert image.info["loop"] == 0
        assert getattr(image, "n_frames", 1) == 3
        lasts, frames = [], []
        for i in range(3):
            image.seek(i)
            lasts.append(image.info["duration"])
            frames.append(np.asarray(image.convert("RGB")))
    assert lasts == [70, 60, 70]
    assert np.array_equal(np.stack(frames), enlarged(video, 4))


def test_gif_of_many_colors_has_one_palette_and_no_dither(tmp_path: Path):
    """A still picture of 4,096 colors, shown twice with one pixel changed: every other pixel keeps its color in both frames."""
    still_one = noise(1, 64, 64)
    video = torch.cat([still_one, still_one])
    video[1, :, 0, 0] = -video[1, :, 0, 0].sign()
    write_gif(tmp_path / "a.gif", video, 4, scale=1)
    with Image.open(tmp_path / "a.gif") as image:
        first = np.asarray(image.convert("RGB")).astype(int)
        image.seek(1)
        second = np.asarray(image.convert("RGB")).astype(int)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 200
    assert np.array_equal(first.reshape(-1, 3)[1:], second.reshape(-1, 3)[1:])
    assert np.abs(first - to_uint8(still_one)[0]).mean() < 12


def test_strip_places_a_row_a_video():
    """5 frames by twos are 0, 2, 4; of 2 frames one and two white places: 3 * (4 + 2) + 2 wide, 2 * (6 + 2) + 2 high."""
    long, short = torch.zeros(5, 3, 6, 4), torch.full((2, 3, 6, 4), -1.0)
    long[4] = 0.5
    sheet = strip([long, short], every=2)
    assert sheet.shape == (3, 18, 20)
    assert sheet[0, 3, [3, 9, 15]].tolist() == [0.0, 0.0, 0.5]
    assert sheet[0, 11, [3, 9, 15]].tolist() == [-1.0, 1.0, 1.0]
    batch = torch.stack([long.movedim(0, 1), long.movedim(0, 1)])
    assert torch.equal(strip(batch), strip([long, long]))


def test_film_suffix_decides(tmp_path: Path):
    """4 frames of 8 x 8 in a row, as they are: 4 * 10 + 2 by 12; enlarged twice: 4 * 18 + 2 by 20."""
    write_film(tmp_path / "a.PNG", ball(4, 8, 8), 4)
    write_film(tmp_path / "b.png", ball(4, 8, 8), 4, scale=2)
    sizes = [Image.open(io.BytesIO((tmp_path / name).read_bytes())).size for name in ("a.PNG", "b.png")]
    assert sizes == [(42, 12), (74, 20)]
    write_film(tmp_path / "a.gif", ball(2, 8, 8), 4)
    assert (tmp_path / "a.gif").read_bytes()[:6] == b"GIF89a"


@pytest.mark.parametrize(
    ("name", "video", "fps", "scale", "words"),
    [
        ("a.avi", ball(2), 4, None, r"\.mp4, \.gif, \.png"),
        ("a", ball(2), 4, None, "no suffix"),
        ("a.gif", ball(2), 60, None, "50 frames/s"),
        ("a.gif", ball(2) * math.nan, 4, None, "not finite"),
        ("a.mp4", ball(2) * math.inf, 4, None, "not finite"),
        ("a.mp4", ball(2)[:0], 4, None, "at least one frame"),
        ("a.mp4", ball(2)[:, :1], 4, None, r"\(t 3 h w\)"),
        ("a.mp4", ball(2).to(torch.uint8), 4, None, "127.5"),
        ("a.mp4", ball(2), math.nan, None, "frames per second"),
        ("a.png", ball(2), 0, None, "frames per second"),
        ("a.mp4", ball(2), 4, 0, "scale"),
        ("a.mp4", ball(1, 2, 9000), 4, 2, "18000 x 4 pixels"),
        ("file/a.gif", ball(2), 4, None, "cannot be written"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, video: torch.Tensor, fps: float, scale: int | None, words: str):
    if name == "a.mp4":
        pytest.importorskip("av")
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(DataError, match=words):
        write_film(tmp_path / name, video, fps, scale)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_strip_refuses_what_is_no_set_of_videos():
    with pytest.raises(ShapeError, match="at least one video"):
        strip([])
    with pytest.raises(ShapeError, match="every = 0"):
        strip([ball(2)], every=0)
    with pytest.raises(ShapeError, match="one size"):
        strip([ball(2, 8, 8), ball(2, 8, 9)])


def test_film_holds_every_frame_exactly():
    """3 frames of 5 x 4: a sheet 15 wide and 4 high; frame 1 stands from column 5 on. Many colors and few come back the same."""
    for video in (noise(3, 40, 50), ball(3, 40, 50)):
        film = film_of(video, 4)
        assert (film.frames, film.width, film.height, png_size(film.sheet, "x")) == (3, 50, 40, (150, 40))
        image = Image.open(io.BytesIO(base64.b64decode(film.sheet)))
        assert np.array_equal(np.asarray(image.convert("RGB"))[:, 50:100], to_uint8(video[1]))
    assert image.mode == "P"


def test_film_plays_at_its_rate():
    """17 frames at 4/s take 4.25 s, which are .88 of a turn: 4.25 / .88 = 4.8295 s. Frame 4 of 17 stands at 4 / 16 = 25 %."""
    film = film_of(ball(17, 8, 16), 4.0)
    assert "animation: film 4.8295s steps(17, jump-none) infinite" in play(film)
    assert "background-size: 1700% 100%; aspect-ratio: 16 / 8" in play(film)
    assert turn(film, "elapsed").startswith("animation: elapsed 4.8295s")
    assert "background-position: 25.0000% 0" in still(film, 4)
    assert stills(film) == [0, 2, 4, 6, 8, 10, 12, 14, 16]
    one = film_of(ball(1, 8, 8), 4.0)
    assert "animation" not in play(one)
    assert stills(one) == [0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"frames": 4}, "4 frames of 8 x 8 make 32 x 8"),
        ({"frames": 0}, "1 frame or more"),
        ({"fps": 0.0}, "0.0"),
        ({"fps": math.inf}, "inf"),
        ({"height": 9}, "24 x 9"),
        ({"sheet": "\N{BULLET}"}, "not base64"),
        ({"sheet": '"); } * { color: red'}, "not base64"),
        ({"sheet": base64.b64encode(b"GIF89a").decode()}, "expected a PNG"),
        ({"sheet": base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()}, "expected a PNG"),
    ],
)
def test_film_refuses(change: dict[str, object], words: str):
    with pytest.raises(DataError, match=re.escape(words)):
        replace(film_of(ball(3, 8, 8), 4.0), **change)  # pyright: ignore[reportArgumentType]


def test_wide_sheets_and_unequal_lengths_are_refused():
    """150 frames of 128 pixels make 19,200, over 16,384. Two lengths in a row would fall out of step; a still picture may not."""
    with pytest.raises(DataError, match="16384"):
        film_of(torch.zeros(150, 3, 1, 128), 4.0)
    with pytest.raises(ShapeError, match="at least one frame"):
        film_of(torch.zeros(0, 3, 8, 8), 4.0)
    with pytest.raises(DataError, match="equal frames and rate"):
        Reel("r", films={"a": film_of(ball(3, 8, 8), 4.0), "b": film_of(ball(4, 8, 8), 4.0)})
    with pytest.raises(DataError, match="equal frames and rate"):
        Reel("r", films={"a": film_of(ball(3, 8, 8), 4.0), "b": film_of(ball(3, 8, 8), 5.0)})
    row = Reel("r", films={"a": film_of(ball(3, 8, 8), 4.0), "b": film_of(ball(1, 8, 8), 1.0)})
    with pytest.raises(DataError, match="'b' is none of the columns"):
        Reels("t", ("a",), (row,))


def test_curves_and_charts_refuse():
    with pytest.raises(DataError, match="ascend"):
        Curve("a", (Point(1, 0.0), Point(1, 0.0)))
    with pytest.raises(DataError, match="finite step"):
        Point(math.nan, 1.0)
    with pytest.raises(DataError, match="one curve a name"):
        Chart("t", "m", curves=(Curve("a", ()), Curve("a", (), True)))
    whole = film_report(rows=1, size=8)
    with pytest.raises(DataError, match="'ghost' is not one of its arms"):
        replace(whole, charts=(Chart("t", "m", curves=(Curve("ghost", ()),)),))
    replace(whole, charts=(Chart("t", "m", curves=(Curve("ghost", (), control=True),)),))


def test_report_with_films_comes_back_from_json():
    """Undefined values are null; a report without the new fields still loads, a sheet that is too short does not."""
    whole = film_report(rows=2, size=8)
    undefined = Chart("t", "m", curves=(Curve("mse", (Point(0, math.nan, -math.inf, 1.0), Point(1, 2.0))),))
    whole = replace(whole, charts=(*whole.charts, undefined))
    text = to_json(whole)
    assert from_json(text) == whole
    assert whole.charts[2].curves[0].points[0] == Point(0, None, None, 1.0)
    old = {key: value for key, value in json.loads(text).items() if key not in ("charts", "reels", "source_title")}
    assert from_json(json.dumps(old)).reels == ()
    with pytest.raises(DataError, match="17 frames of 8 x 8 make 136 x 8"):
        from_json(text.replace('"frames": 1,', '"frames": 17,', 1))


def test_page_with_films_is_safe_and_self_contained():
    """Names, ids and captions that are attacks open no tag, leave no attribute and no style rule; each sheet is there once."""
    evil = film_report(EVIL, {"contrast": EVIL, "everything": "</td>" + EVIL}, size=8, rows=2)
    row = replace(evil.reels[0].rows[0], id=EVIL, instruction=EVIL, captions={EVIL: EVIL})
    reels = replace(evil.reels[0], title=EVIL, note=EVIL, rows=(row, evil.reels[0].rows[1]))
    evil = replace(evil, reels=(reels,), source_title=EVIL)
    evil = replace(evil, charts=(replace(evil.charts[0], title=EVIL, x_label=EVIL, unit=EVIL), *evil.charts[1:]))
    page = html_of(evil)
    assert "<script" not in page
    assert page.count("</style>") == 1
    assert '"d"' not in page
    style = page[page.index("<style>") : page.index("</style>")]
    assert "evil" not in style
    assert {address[:22] for address in re.findall(r"url\(\"?([^)]*)", style)} == {"data:image/png;base64,"}
    assert not re.findall(r'style="[^"]*(?:url|evil)', page)
    assert page.count(row.films["mse"].sheet) == 1
    text = markdown_of(evil)
    assert "<script" not in text
    assert "\\|" in text


def test_page_plays_in_step_and_shows_stills_where_nothing_moves():
    page = html_of(film_report(rows=2, size=8))
    turns = set(re.findall(r"animation: (?:film|elapsed) ([^;]*);", page))
    assert turns == {"4.8295s steps(17, jump-none) infinite"}
    assert page.count('class="film f-') == 2 * 10
    assert page.count('class="still f-') == 2 * (9 * 9 + 1)
    assert "(prefers-reduced-motion: reduce)" in page
    assert "steps(1," not in page
    assert rules(()) == ""


def test_charts_tell_eight_arms_and_three_controls_apart():
    """Six colors, then the same dashed: the seventh arm is c0 s1. Controls are gray in dashes of their own and have no dots."""
    svg = charts.chart(film_report(rows=0).charts[0])
    lines = re.findall(r'<polyline class="curve ([^"]*)"', svg)
    assert lines == ["control k0", "control k1", "control k2", *(f"c{i} s0" for i in range(6)), "c0 s1", "c1 s1"]
    assert len(re.findall(r'<polygon class="band ', svg)) == 11
    assert svg.count("<li>") == 11


def test_chart_places_values_and_breaks_where_undefined():
    """Width 600: steps 0 to 4 go from 58 to 582, step 1 to 58 + 524 / 4 = 189. Values 0 and 10 with a pad of .6: the axis is
    -.6 to 10.6 over 12 to 296, so 10 stands at 296 - 10.6 / 11.2 * 284 = 27.2. The undefined step 2 splits the line in two."""
    points = (Point(0, 0.0), Point(1, 10.0), Point(2, None), Point(3, 5.0), Point(4, 5.0))
    svg = charts.chart(Chart("t", "m", curves=(Curve("a", points),)))
    assert re.findall(r"<polyline [^>]*points=\"([^\"]*)\"", svg) == ["58.0,280.8 189.0,27.2", "451.0,154.0 582.0,154.0"]
    assert "No values" in charts.chart(Chart("t", "m", curves=(Curve("a", (Point(0, None),)),)))
    assert "<circle" in charts.chart(Chart("t", "m", curves=(Curve("a", (Point(3, 1.0),)),)))


def test_tables_of_curves_take_powers_of_two():
    """Steps 0 to 16: 1, 2, 4, 8, 16. Of 15 times .3 s apart eight, evenly. Axes count to 16 by 2, to 15 by 3, to 7 by 1."""
    found = film_report(rows=0).charts[0]
    assert charts.marked(found) == [1, 2, 4, 8, 16]
    seconds = Chart("t", "m", curves=(Curve("a", tuple(Point(0.3 * i, 1.0) for i in range(15))),))
    assert charts.marked(seconds) == pytest.approx([0, 0.6, 1.2, 1.8, 2.4, 3.0, 3.6, 4.2])
    text = markdown_of(film_report(rows=1, size=8))
    assert "| rollout step | 1 | 2 | 4 | 8 | 16 |" in text
    assert "| mse | 0.95 (0.93 to 0.97) | 0.90 (0.88 to 0.92) |" in text
    assert "1 row of animations: see report.html" in text
    labels = [re.findall(r'y="314.0" text-anchor="middle">([^<]*)<', charts.chart(_straight(n))) for n in (16, 15, 7)]
    assert [int(row[1]) for row in labels] == [2, 3, 1]
    assert [int(row[-1]) for row in labels] == [16, 15, 7]


def _straight(end: int) -> Chart:
    return Chart("t", "m", curves=(Curve("a", tuple(Point(k, 0.1 * k) for k in range(end + 1))),))


def test_picture_is_the_inverse_of_base64():
    assert base64.b64decode(picture(b"abc")) == b"abc"


def test_missing_encoder_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("av")
    monkeypatch.setattr("relatum.video.write.ENCODERS", ("libnothing",))
    with pytest.raises(DataError, match="none of libnothing; write"):
        write_mp4(tmp_path / "a.mp4", ball(2), 4)
    assert list(tmp_path.iterdir()) == []


def test_films_are_enlarged_by_whole_factors():
    """5 columns leave 960 / 5 = 192 pixels, 6 leave 160, of which 128 are a multiple of 64; 20 columns keep 128 and scroll."""
    assert [Reels("t", tuple("abcdefghijklmnopqrst"[:n]), ()).edge for n in (1, 4, 5, 20)] == [192, 192, 128, 128]


def test_a_logarithmic_axis_of_a_narrow_range_still_has_values():
    """.090 to .097 holds none of .1, .2, .5: even steps instead. .02 to 30 has 1, 2 and 5 of no decade, but the powers of ten."""
    narrow = Chart("t", "m", curves=(Curve("a", (Point(0, 0.09), Point(1, 0.097))),), log=True)
    assert re.findall(r'text-anchor="end">([^<]*)<', charts.chart(narrow)) == ["0.09", "0.092", "0.094", "0.096"]
    wide = Chart("t", "m", curves=(Curve("a", (Point(0, 0.02), Point(1, 30.0))),), log=True)
    assert re.findall(r'text-anchor="end">([^<]*)<', charts.chart(wide)) == ["0.1", "1", "10"]
