"""The side-by-side programs run and print what they promise; how fast things are is not tested here."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

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
