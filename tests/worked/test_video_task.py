"""Clips through path, cache, task and step: levels a frame, joined frames, what stands beside the noisy ones."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from relatum.core.draws import Draws
from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.core.outcome import Outcome
from relatum.core.path import DiscretePath, EDMPath, NoiseLevel, expand, over_frames
from relatum.core.prediction import Parametrization, Prediction
from relatum.data.rows import Row, Shot
from relatum.data.toy.clips import ToyClips
from relatum.data.toy.motion import MovingScene, unturned
from relatum.data.toy.scene import Ground, Object, Scene
from relatum.engine.cache import encode_rows
from relatum.engine.encoded import EncodedRows
from relatum.engine.step import DiffusionParts, diffusion_step
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.tiny import tiny_animatediff
from relatum.objectives.blend import read_blend
from relatum.tasks.video import Video


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return tiny_animatediff(fresh=False, prediction_type="v_prediction")


@pytest.fixture(scope="module")
def rows(model: StableDiffusion, tmp_path_factory: pytest.TempPathFactory) -> EncodedRows:
    clips = ToyClips(count=3, frames=4).rows()
    return encode_rows(clips, Video().needs, 16, model.codec, model.text, tmp_path_factory.mktemp("cache"))


def test_a_level_a_frame_is_spread_over_the_frame_alone() -> None:
    """alpha = [1, .5] and sigma = [0, .25] on x0 = 4: frame 0 is 4, frame 1 is .5 * 4 + .25 * 8 = 4 with eps = 8, and 2 with 0."""
    level = NoiseLevel(torch.tensor([[0.0, 500.0]]), torch.tensor([[1.0, 0.5]]), torch.tensor([[0.0, 0.25]]))
    x0 = torch.full((1, 3, 2, 2, 2), 4.0)
    assert torch.equal(level.blend(x0, torch.full_like(x0, 8.0)), torch.full_like(x0, 4.0))
    noisy = level.blend(x0, torch.zeros_like(x0))
    assert float(noisy[0, 0, 0, 0, 0]) == 4
    assert float(noisy[0, 2, 1, 1, 1]) == 2
    assert expand(level.alpha, x0).shape == (1, 1, 2, 1, 1)
    assert over_frames(level.time).tolist() == [250.0]


def test_levels_a_frame_are_drawn_apart_and_read_back() -> None:
    """Every frame has an address of its own; x0 and eps come back from v at each frame's own level."""
    path = DiscretePath(torch.linspace(0.99, 0.01, 100))
    level = path.draw(Draws(0, range(5)), 3)
    assert level.time.shape == (5, 3)
    assert len({*level.time.flatten().tolist()}) > 10
    assert torch.equal(path.draw(Draws(0, [4]), 3).time[0], level.time[4])
    x0, eps = torch.randn(2, 5, 4, 3, 2, 2, generator=torch.Generator().manual_seed(0)).unbind(0)
    raw = Parametrization.V.target(x0, eps, level)
    prediction = Prediction(raw, level.blend(x0, eps), level, Parametrization.V)
    torch.testing.assert_close(prediction.x0, x0, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(prediction.eps, eps, atol=1e-5, rtol=1e-4)


def test_edm_levels_by_hand() -> None:
    """s = 3: alpha = 1 / sqrt(10) = .3162, sigma = .9487, SNR = 1/9, told ln(3) / 4 = .2747."""
    level = EDMPath().at(torch.tensor([3.0]))
    assert float(level.alpha) == pytest.approx(1 / math.sqrt(10))
    assert float(level.sigma) == pytest.approx(3 / math.sqrt(10))
    assert float(level.snr) == pytest.approx(1 / 9)
    assert float(level.time) == pytest.approx(math.log(3) / 4)
    logs = 4 * EDMPath(0.7, 1.6).draw(Draws(1, range(4000))).time
    assert float(logs.mean()) == pytest.approx(0.7, abs=0.08)
    assert float(logs.std()) == pytest.approx(1.6, abs=0.06)
    with pytest.raises(RecipeError, match="one above 0"):
        EDMPath(0.0, 0.0)


def outcome(clean: torch.Tensor, joined: torch.Tensor | None = None) -> Outcome:
    level = NoiseLevel(torch.zeros(len(clean)), torch.ones(len(clean)), torch.zeros(len(clean)))
    draws = Draws(0, range(len(clean)))
    return Outcome(clean, clean, level, {}, {}, ["a"] * len(clean), draws, joined=joined)


def test_neighbors_of_an_outcome() -> None:
    """All frames belong together unless something says otherwise; pictures have none."""
    assert outcome(torch.zeros(2, 1, 4, 1, 1)).neighbors.tolist() == [[True] * 3] * 2
    cut = torch.tensor([[True, False, True]])
    assert torch.equal(outcome(torch.zeros(1, 1, 4, 1, 1), cut).neighbors, cut)
    with pytest.raises(ShapeError, match="no frames"):
        _ = outcome(torch.zeros(2, 1, 4, 4)).neighbors


def test_the_cache_keeps_clips_with_their_times_and_joints(model: StableDiffusion, rows: EncodedRows) -> None:
    """(b c t h w) equals every frame encoded alone; frames of another rate are another entry."""
    batch = rows.batch([2, 0])
    assert batch.moments["target"].mean.shape == (2, 4, 4, 4, 4)
    frames = ToyClips(count=3, frames=4).rows()[2].clips["target"].shot(16).frames
    for t in range(4):
        alone = model.codec.encode(frames[t][None])
        torch.testing.assert_close(batch.moments["target"].mean[0, :, t], alone.mean[0], atol=1e-5, rtol=1e-4)
    assert batch.joined["target"].dtype == torch.bool
    assert batch.joined["target"].all()
    slow, fast = (ToyClips(count=3, frames=4, step=step).rows()[0].clips["target"].digest() for step in (0.1, 0.2))
    assert slow != fast


class Cut:
    """A clip of two shots, or of other lengths."""

    def __init__(self, frames: int) -> None:
        self.frames, self.where = frames, f"clip of {frames}"

    def digest(self) -> str:
        return f"cut{self.frames}"

    def shot(self, size: int) -> Shot:
        joined = torch.ones(self.frames - 1, dtype=torch.bool)
        joined[0] = False
        return Shot(torch.zeros(self.frames, 3, size, size), joined)


def test_joints_reach_the_outcome(model: StableDiffusion, tmp_path: Path) -> None:
    row = Row("a", "a", {}, {"target": "a cut"}, clips={"target": Cut(4)})
    encoded = encode_rows([row], Video().needs, 16, model.codec, model.text, tmp_path)
    episode = Video().episode(encoded.batch([0]), model.codec, (), Draws(0, [0]))
    assert episode.joined is not None
    assert episode.joined.tolist() == [[False, True, True]]


def test_a_row_without_a_clip_is_refused(model: StableDiffusion, tmp_path: Path) -> None:
    row = Row("a", "a", {}, {"target": "no clip"}, where="list:1")
    with pytest.raises(DataError, match=r"list:1: no clip 'target'"):
        encode_rows([row], Video().needs, 16, model.codec, model.text, tmp_path)


@pytest.mark.parametrize("levels", ["shared", "per_frame"])
def test_a_step_trains_every_motion_module(model: StableDiffusion, rows: EncodedRows, levels: str) -> None:
    job = Video(levels=levels)  # type: ignore[arg-type]
    blend = read_blend({"denoise": {"kind": "denoise", "snr_gamma": 5.0}})
    parts = DiffusionParts(model.denoiser(), model.kind, model.path, job, blend, model.codec)
    model.unet.zero_grad()
    step = diffusion_step(parts, rows.batch([0, 1, 2]), Draws(0, range(3)))
    step.total.mean().backward()
    assert step.level is not None
    assert step.level.time.shape == ((3,) if levels == "shared" else (3, 4))
    idle = [n for n, p in model.unet.named_parameters() if "motion_modules" in n and (p.grad is None or not p.grad.any())]
    assert idle == []


def test_the_first_frame_stands_beside_all(model: StableDiffusion, rows: EncodedRows) -> None:
    """2c channels; dropped with the text or alone, in a third of the draws each at c = 1/3."""
    job, batch = Video(1 / 3, given="first"), rows.batch([0] * 300)
    view = job.episode(batch, model.codec, (), Draws(0, range(300))).conditionings["matched"]
    assert view.image is not None
    assert view.image.shape == (300, 4, 4, 4, 4)
    kept = view.image.flatten(1).any(1)
    assert 60 < int(kept.sum()) < 140
    first = batch.moments["target"].mean[kept][:, :, 0]
    for t in range(4):
        assert torch.equal(view.image[kept][:, :, t], first)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"0 to 0\.333"):
        Video(0.5, given="first")
    assert Video(0.5).images == 0
    for wrong, said in (
        ({"frames": 1}, "frames"),
        ({"step": 0.0}, "step"),
        ({"directions": 5}, "directions"),
        ({"speeds": ("quick",)}, "speeds"),
        ({"speeds": ("fast",), "frames": 16}, "whole"),
    ):
        with pytest.raises(ValueError, match=said):
            ToyClips(**wrong)  # type: ignore[arg-type]
    assert ToyClips(speeds=("fast",), frames=16, whole=False).rows()[0].clips["target"].frames == 16


def test_unturned_starts_by_hand() -> None:
    """A small star (edge .18) that goes right by .3: centers .18 to .52 instead of .18 to .82, so .5 (half way) becomes .35.

    A way of .7 has no room: .18 + .7 > .82.
    """
    scene = Scene((Object("star", "red", "small", 0.5, 0.3),), Ground("white"))
    moved = unturned(MovingScene(scene, ((0.3, 0.0),)), 1.0)
    assert moved is not None
    assert (moved.start.objects[0].x, moved.start.objects[0].y) == (pytest.approx(0.35), pytest.approx(0.3))
    assert moved.at(1.0).objects[0].x == pytest.approx(0.65)
    assert unturned(MovingScene(scene, ((0.7, 0.0),)), 1.0) is None


def test_whole_clips_never_turn() -> None:
    """The way from frame to frame of 40 clips is constant; of clips that may turn it is not."""

    def turns(whole: bool) -> int:
        found = 0
        for row in ToyClips(count=40, frames=8, max_objects=2, whole=whole).rows():
            scenes = [scene["objects"] for scene in row.facts["scenes"]]
            for i in range(len(scenes[0])):
                ways = [(b[i]["x"] - a[i]["x"], b[i]["y"] - a[i]["y"]) for a, b in pairwise(scenes)]
                found += any(math.dist(way, ways[0]) > 1e-6 for way in ways)
        return found

    assert turns(True) == 0
    assert turns(False) > 5
