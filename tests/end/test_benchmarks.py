"""The side-by-side programs run and print what they promise; how fast things are is not tested here."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).parents[2]


def load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", ROOT / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_edit_step_prints_speeds_and_ratios() -> None:
    words = "benchmarks/edit_step.py --size tiny --batch 2 --steps 2 --turns 2 --threads 1"
    environment = {**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words.split()], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("stock", "bare", "ours", "contrast"):
        assert re.search(rf"^{name} +[\d.]+ \([\d.]+-[\d.]+\) +[\d.]+ \(.*\) +\d+$", done.stdout, re.MULTILINE), done.stdout
    for ratio in ("ours / stock", "ours / bare", "contrast / ours"):
        assert re.search(rf"^{ratio} +[\d.]+ \([\d.]+-[\d.]+\) .* >= [\d.]+$", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow
def test_video_step_prints_times_and_ratios() -> None:
    only = "again", "uncached", "monitored", "guarded", "frame_difference", "entropy_floor"
    words = f"benchmarks/video_step.py --size tiny --steps 1 --turns 2 --threads 1 --only {' '.join(only)}"
    environment = {**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words.split()], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("mse", *only):
        assert re.search(rf"^{name} +([\d.]+ \([\d.]+-[\d.]+\) *){{4}}(<= 1\.03)?$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^monitors, 1 in 20 +[\d.]+ \([\d.]+-[\d.]+\) .* <= 1.02$", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^a cached step is [\d.]+ \([\d.]+-[\d.]+\) times as fast", done.stdout, re.MULTILINE), done.stdout


def test_decode_prints_speeds_and_ratios() -> None:
    words = "benchmarks/decode.py --turns 1 --frames 40 --width 96 --height 64"
    environment = {**os.environ, "PYTHONPATH": "src", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words.split()], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for film, keyframes in (("gop30", 2), ("gop250", 1)):
        assert f"{film}.mp4: 96 x 64, 40 frames, {keyframes} keyframes" in done.stdout
    counted = re.findall(r"same pixels as (pyav|opencv): (\d+) of (\d+) frames; it counts 40", done.stdout)
    assert [equal == of for _, equal, of in counted] == [True] * 4, done.stdout
    for kind in ("index", "frames", "8 pairs", "32 pairs"):
        assert len(re.findall(rf"^{kind} .*CPU-s +ours [\d.,]+ \(.*\)  pyav .*  opencv .*$", done.stdout, re.MULTILINE)) == 2, (
            done.stdout
        )
    assert len(re.findall(r"^ +ours / pyav [\d.,]+ \(.*\)  ours / opencv [\d.,]+ \(.*\)$", done.stdout, re.MULTILINE)) == 8, (
        done.stdout
    )


def test_sd15_is_stable_diffusion_15() -> None:
    """The published numbers of weights; the UNet's first layer has 4 more input channels of 320 x 3 x 3."""
    program = load("edit_step")
    with torch.device("meta"):
        counts = [sum(p.numel() for p in network.parameters()) for network in program.networks(program.SIZES["sd15"])]
    assert counts == [859_520_964 + 4 * 320 * 9, 83_653_863, 123_060_480]


@pytest.mark.slow
def test_flicker_prints_a_table_and_draws_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = load("flicker")
    program.main(["--textures", "1", "--size", "40", "--frames", "4", "--figure", str(tmp_path / "flicker.svg")])
    said = capsys.readouterr().out
    assert "13 videos without flicker, 13 with each; 40 px, 4 frames" in said
    for row in ("all", "brightness 0.5", "noise 2", "color 1", "block 1", "alternation 0.25"):
        assert re.search(rf"^{row} +([01]\.\d{{3}} \([\d.]+-[\d.]+\) *){{6}}$", said, re.MULTILINE), said
    assert "per-pixel FFT" in (tmp_path / "flicker.svg").read_text()


def test_flicker_scores_are_shares_of_pairs() -> None:
    """Two cases, scores 1 and 3 without and 2 and 5 with flicker. Pairs of different cases: 2 > 3 no, 5 > 1 yes: 1/2."""
    program = load("flicker")
    assert program.interval(np.array([[2.0, 5.0]]), np.array([1.0, 3.0]), draws=50)[0] == 0.5


@pytest.mark.parametrize("kind", ["1.5 px", "rotation", "zoom", "occluder"])
def test_flicker_scenes_move_by_their_true_flow(kind: str) -> None:
    """Along the true flow clean videos stand still, up to rounding; against it they do not."""
    program = load("flicker")
    video, flow = program.scene(kind, program.texture(np.random.default_rng(0), 128), 6, 48)
    frames, truth = program.eight_bit(video), torch.from_numpy(flow).float()
    assert program.motion_flicker(frames, truth).f < 0.45
    assert program.warp_error(frames, truth) < 0.2 * program.warp_error(frames, -truth)


def test_flicker_and_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Four prompts, each with a steady and a flickering clip; people like the steady ones."""
    generator, rows = np.random.default_rng(0), []
    for name, inside in (("clips_dev", "{prompt}/{source}"), ("pairs_dev", "a{prompt}/{source}")):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as packed:
            for prompt in range(4):
                picture = generator.integers(60, 190, (4, 4, 3)).astype(np.uint8).repeat(8, 0).repeat(8, 1)
                for source in ("gt", "model"):
                    for k in range(5):
                        file, up = io.BytesIO(), (20 + prompt) * (source == "model") * (k % 2)
                        Image.fromarray(picture + np.uint8(up)).save(file, "png")
                        packed.writestr(f"{inside.format(prompt=prompt, source=source)}/{k:02}.png", file.getvalue())
                    rows.append(
                        {"prompt_id": prompt, "source": source, "temporal": [5, 4, 5] if source == "gt" else [2, 1, 1 + prompt]}
                    )
    (tmp_path / "clips_dev.jsonl").write_text("\n".join(json.dumps(row) for row in rows[:8]))
    load("flicker_people").main(["--fetv", str(tmp_path), "--pairs", str(tmp_path)])
    said = capsys.readouterr().out
    assert "8 clips of 4 prompts, 4 generated" in said
    found = re.search(r"^F +(-[\d.]+) \(", said, re.MULTILINE)
    assert found is not None
    assert float(found[1]) < -0.5
    levels = [float(line.split()[2]) for line in said.splitlines() if line.startswith("a0/")]
    assert levels[0] < 0.01
    assert levels[1] == pytest.approx(20 * (2 / 3) ** 0.5, rel=0.01)  # every frame lies 20 levels off the mean of its neighbors


def test_matching_prints_both_ways_and_the_double_loop(capsys: pytest.CaptureFixture[str]) -> None:
    """Two images, six texts, eight levels: 48 evaluations an image in full; two texts of the loop are 16."""
    load("matching").main(["--size", "tiny", "--images", "2", "--texts", "6", "--levels", "8", "--loop", "2"])
    said = capsys.readouterr().out
    assert re.search(r"^full +an image: 48 \(48-48\) UNet evaluations, [\d.]+ \([\d.]+-[\d.]+\) s$", said, re.MULTILINE), said
    found = re.search(r"^elimination +an image: [\d]+ \([\d]+-(\d+)\) UNet evaluations", said, re.MULTILINE)
    assert found is not None, said
    assert int(found[1]) <= 48
    assert re.search(r"^same winner +2 of 2, ", said, re.MULTILINE), said
    assert re.search(r"^elimination +[\d.]+ times fewer evaluations, [\d.]+ times fewer seconds$", said, re.MULTILINE), said
    assert re.search(r"^double loop +16 UNet evaluations, ", said, re.MULTILINE), said
    least = re.search(r"^ours +16 UNet evaluations, .* greatest difference ([\d.e+-]+) ", said, re.MULTILINE)
    assert least is not None, said
    assert float(least[1]) < 1e-5


def test_matching_has_the_networks_of_stable_diffusion_15() -> None:
    program = load("matching")
    with torch.device("meta"):
        assert [sum(p.numel() for p in network.parameters()) for network in program.networks()] == [
            859_520_964,
            83_653_863,
            123_060_480,
        ]
