"""Evaluation of folders of videos from any model: pairing, lengths, rates, bad files; and extractors of clips by path."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from relatum.cli import main
from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.imaging import save_png
from relatum.metrics import evaluate, evaluate_videos, open_extractor
from relatum.metrics.evaluate import build_metrics, extractors_of
from relatum.video.write import write_gif, write_mp4

SIZE = 32


def film(seed: int, frames: int = 12, size: int = SIZE) -> Tensor:
    """A smooth picture that moves right by a pixel a frame."""
    g = torch.Generator().manual_seed(seed)
    wide = nn.functional.interpolate(torch.rand(1, 3, 12, 12, generator=g) * 1.6 - 0.8, (2 * size, 2 * size), mode="bilinear")[0]
    return torch.stack([wide[:, :size, 12 - k : 12 - k + size] if k < 12 else wide[:, :size, :size] for k in range(frames)])


def folder(path: Path, films: dict[str, Tensor], rate: float = 8, suffix: str = ".mp4") -> Path:
    path.mkdir()
    for stem, video in films.items():
        (write_gif if suffix == ".gif" else write_mp4)(path / f"{stem}{suffix}", video, rate, 1)
    return path


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(generated, target): four films, the generated ones fading step by step."""
    base = tmp_path_factory.mktemp("films")
    true = {f"f{i}": film(i) for i in range(4)}
    fade = torch.linspace(1, 0.5, 12)[:, None, None, None]
    return folder(base / "g", {stem: video * fade for stem, video in true.items()}), folder(base / "t", true)


def test_without_truth_what_needs_none(films: tuple[Path, Path]) -> None:
    result = evaluate_videos(films[0])
    assert {"drift", "flicker"} <= set(result.estimates)
    assert not {"fvd", "kd_drift", "frame_error", "drift.error_slope"} & set(result.estimates)
    assert result["drift"].n == 4
    assert result["drift.contrast_slope"].value == pytest.approx(math.log(0.5) / 11, rel=0.15)  # 1 to .5 over 11 steps
    assert result.notes == []
    assert [len(values) for values in result.series["drift.std"].values()] == [12] * 4


def test_with_truth_all(films: tuple[Path, Path]) -> None:
    result = evaluate_videos(*films, size=16)
    assert {"drift.error_slope", "drift.real", "fvd", "kvd", "kd_drift"} <= set(result.estimates)
    assert result.labels["fvd"].startswith("fd_clip[randconv framestats ")
    assert len(result.curves["kd_drift"]) == 12
    assert abs(result.curves["kd_drift"][0].value) < 1e-2 < abs(result["kd_drift"].value)
    assert result.series["drift.error"]["f0"][11] > 10 * result.series["drift.error"]["f0"][1]
    assert result["drift"].value > 1.2 * result["drift.real"].value
    assert result["drift.against_truth"].value > 3


def test_a_copy_of_the_truth_has_no_error(films: tuple[Path, Path]) -> None:
    result = evaluate_videos(films[1], films[1], metrics=["drift", "kd_drift"])
    assert result["drift.error_slope"].value == 0
    assert result["drift.truth_censored"].value == 1
    assert result["kd_drift"].value == pytest.approx(0, abs=1e-6)


def test_the_prompt(films: tuple[Path, Path]) -> None:
    told = {f"f{i}": "a red circle" for i in range(4)}
    result = evaluate_videos(films[0], captions=told, clip="clip", metrics=["drift"], frames=3)
    assert result.labels["drift.prompt"].startswith("drift.prompt[clip-tiny ")
    assert result.labels["drift"] == "drift"
    assert -100 <= result["drift.prompt"].value <= 100
    with pytest.raises(DataError, match="target captions: nothing for 'f1'"):
        evaluate_videos(films[0], captions={"f0": "one"}, clip="clip")


def test_the_shorter_counts_and_it_is_said(films: tuple[Path, Path], tmp_path: Path) -> None:
    short = folder(tmp_path / "s", {f"f{i}": film(i, 7 if i == 2 else 12) for i in range(4)})
    result = evaluate_videos(films[0], short, metrics=["drift", "kd_drift"])
    assert {stem: len(values) for stem, values in result.series["drift.std"].items()} == {"f0": 12, "f1": 12, "f2": 7, "f3": 12}
    assert result.notes == ["cut to its first frames: f2.mp4 (7 of 12)"]
    assert "rollouts of 7 to 12 frames: step 6" in result["kd_drift"].note
    all_of_them = evaluate_videos(films[0], short)
    assert "fvd" not in all_of_them.estimates
    assert "not measured, it needs 10 frames and the shortest video has 7: fvd; kvd" in all_of_them.notes


def test_frames_limits_the_length(films: tuple[Path, Path]) -> None:
    result = evaluate_videos(films[0], metrics=["drift"], frames=5)
    assert {len(values) for values in result.series["drift.std"].values()} == {5}
    assert result.notes == ["cut to its first frames: f0.mp4 (5 of 12); f1.mp4 (5 of 12); f2.mp4 (5 of 12); f3.mp4 (5 of 12)"]
    with pytest.raises(RecipeError, match="frames: found 2"):
        evaluate_videos(films[0], frames=2)


def test_other_rates_pair_by_time(films: tuple[Path, Path], tmp_path: Path) -> None:
    """Generated at 8 frames a second, the truth at 16: frame k stands beside frame 2k."""
    twice = {f"f{i}": film(i, 12).repeat_interleave(2, dim=0) for i in range(4)}
    for video in twice.values():
        video[1::2] = 0.9  # the frames between: none of them may be taken
    truth = folder(tmp_path / "t", twice, 16)
    result = evaluate_videos(films[1], truth, metrics=["drift"])
    assert max(result.series["drift.error"]["f0"]) < 0.02
    assert "f0.mp4 (8 frames a second, its target 16)" in result.notes[0]
    with pytest.raises(DataError, match="true frames would repeat"):
        evaluate_videos(truth, films[1], metrics=["drift"])


def test_metrics_are_told_the_frames_a_second(tmp_path: Path) -> None:
    """VBench's threshold grows with the time between frames, from 8 a second down: at 5 it is 8/5 of that at 10."""
    reach = [
        evaluate_videos(folder(tmp_path / f"at{rate}", {"a": film(0)}, rate, ".gif"), metrics=["vb_dynamic"])["vb_dynamic.reach"]
        for rate in (10, 5)
    ]
    assert reach[1].value == pytest.approx(reach[0].value / 1.6, rel=1e-5)


def test_unpaired_sets(films: tuple[Path, Path], tmp_path: Path) -> None:
    other = folder(tmp_path / "o", {f"x{i}": film(10 + i) for i in range(3)}, suffix=".gif")
    result = evaluate_videos(films[0], other, paired=False)
    assert {"fvd", "kd_drift", "drift"} <= set(result.estimates)
    assert not {"drift.error_slope", "frame_error"} & set(result.estimates)
    assert result["kvd"].n == 3
    assert len(result.sets["kd_drift"][0]) == 4
    with pytest.raises(DataError, match="target: nothing for 'f0'"):
        evaluate_videos(films[0], other)


def test_odd_sizes_are_cropped(tmp_path: Path) -> None:
    made = folder(tmp_path / "g", {"a": film(0, 5, 40)[:, :, :34, :], "b": film(1, 5, 48)})
    result = evaluate_videos(made, metrics=["drift"])  # to the first one's 34 pixels
    assert result["drift"].n == 2
    with pytest.raises(ShapeError, match="drift of 'a'"):
        evaluate_videos(made, metrics=["drift"], size=4)
    with pytest.raises(ShapeError, match="edge of 1 or more"):
        evaluate_videos(made, metrics=["drift"], size=0)


def test_bad_files_stop_or_are_named(films: tuple[Path, Path], tmp_path: Path) -> None:
    made = folder(tmp_path / "g", {"a": film(0, 5), "c": film(2, 2)})
    (made / "b.mp4").write_bytes((films[0] / "f0.mp4").read_bytes()[:300])
    (made / "d.webm").write_bytes(b"")
    with pytest.raises(DataError, match=r"b\.mp4"):
        evaluate_videos(made, metrics=["drift"])
    result = evaluate_videos(made, metrics=["drift"], on_bad_file="skip")
    assert result["drift"].n == 1
    left = next(note for note in result.notes if note.startswith("left out: "))
    assert all(part in left for part in ("b (", "c (", "d (", "2 frames; metrics of videos need 3"))
    (made / "a.mp4").unlink()
    with pytest.raises(DataError, match="none of 3 files is a usable video"):
        evaluate_videos(made, metrics=["drift"], on_bad_file="skip")


def test_mixed_and_wrong_folders(films: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="it holds videos"):
        evaluate(films[0], films[1])
    made = folder(tmp_path / "g", {"a": film(0, 3)})
    save_png(made / "thumb.png", film(0, 1)[0])
    for call in (evaluate, evaluate_videos):
        with pytest.raises(DataError, match=r"holds images \(thumb\.png, 1 in all\) and videos \(a\.mp4, 1 in all\)"):
            call(made)
    (made / "a.mp4").unlink()
    with pytest.raises(DataError, match="it holds images"):
        evaluate_videos(made)


def test_on_the_command_line(films: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    words = ["evaluate", "--generated", str(films[0]), "--target", str(films[1]), "--extractor", "randconv", "--frames", "10"]
    assert main([*words, "--size", "16", "--output", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "fvd fd_clip[randconv framestats " in shown
    assert "note: cut to its first frames: f0.mp4 (10 of 12)" in shown
    table = json.loads(out.read_text())
    assert len(table["drift"]["series"]["sharpness"]["f3"]) == 10
    assert len(table["kd_drift"]["curve"]) == 10
    assert main([*words, "--source", str(films[1])]) == 2
    assert "take no --source" in capsys.readouterr().err
    images = tmp_path / "images"
    images.mkdir()
    save_png(images / "a.png", film(0, 1)[0])
    assert main(["evaluate", "--generated", str(images), "--target", str(images), "--frames", "4"]) == 2
    assert "--frames is for videos" in capsys.readouterr().err


# --- networks of clips by path


def test_a_video_transformer_by_path(tmp_path: Path) -> None:
    """Of 12 frames it sees 4, spread evenly: 0, 4, 7 and 11; any other may change without a trace."""
    from transformers import VideoMAEConfig, VideoMAEModel

    torch.manual_seed(0)
    config = VideoMAEConfig(
        image_size=16, patch_size=8, num_frames=4, tubelet_size=2, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=32,
    )  # fmt: skip
    VideoMAEModel(config).save_pretrained(tmp_path / "mae")
    network = open_extractor(str(tmp_path / "mae"))
    video = film(0)[None].movedim(1, 2)
    features = network.clips(video)
    assert features.shape == (1, 16)
    unseen, seen, backwards = video.clone(), video.clone(), video.flip(2)
    unseen[:, :, [1, 2, 3, 5, 6, 8, 9, 10]] = 0.1
    seen[:, :, 7] = 0.1
    assert torch.equal(network.clips(unseen), features)
    assert not torch.allclose(network.clips(seen), features, atol=1e-4)
    assert not torch.allclose(network.clips(backwards), features, atol=1e-4)
    assert network.preprocessing.startswith("16 px bicubic, center crop, 0.485")
    assert network.label("fd_clip").startswith("fd_clip[mae ")
    with pytest.raises(DataError, match="network of clips and takes no images"):
        network.frames(video)
    built = build_metrics({"fvd": {"extractor": str(tmp_path / "mae")}})
    assert list(extractors_of(built)) == [str(tmp_path / "mae")]


class Clips(nn.Module):
    """As the published I3D file is called: 0 to 255, with three switches."""

    def forward(self, x: Tensor, rescale: bool = False, resize: bool = False, return_features: bool = False) -> Tensor:
        assert rescale
        assert resize
        assert return_features
        return x.mean(dim=[3, 4]).flatten(1)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch announces the end of torch.jit; people's files are of it
def test_a_torchscript_network_of_clips(tmp_path: Path) -> None:
    """A level of .2 is 255 · 1.2/2 = 153."""
    path = tmp_path / "i3d.pt"
    torch.jit.script(Clips()).save(str(path))
    network = open_extractor(f"clips:{path}")
    assert network.clips(torch.full((2, 3, 10, 8, 8), 0.2))[1].tolist() == [153.0] * 30
    assert network.preprocessing == "0..255 float into torchscript, rescale, resize, return_features"
    with pytest.raises(DataError, match="no such file"):
        open_extractor("clips:none.pt")
    (tmp_path / "weights.pt").write_bytes(b"none")
    with pytest.raises(DataError, match="not a torchscript file"):
        open_extractor(f"clips:{tmp_path / 'weights.pt'}")
