"""The suite of clips that are made whole: what is made, kept, measured and set beside it, on a tiny model and toy clips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from relatum.core.errors import DataError, RecipeError
from relatum.data.rows import Row
from relatum.data.toy.clips import ToyClips
from relatum.engine.cache import encode_rows
from relatum.engine.encoded import EncodedRows
from relatum.jobs.clips import Clips
from relatum.jobs.suite import content_of, evaluate_made, not_measurable
from relatum.jobs.suites import open_suite
from relatum.models.codec import Codec
from relatum.models.families.animatediff import MotionSize, fresh_motion, with_motion
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.tiny import tiny_stable_diffusion
from relatum.recipe import Recipe, recipe_from
from relatum.tasks.video import Video

FRAMES, COUNT = 4, 5
ROWS = ToyClips(count=COUNT, split="test", frames=FRAMES).rows()


def recipe(task: Mapping[str, Any] | None = None, **evaluate: Any) -> Recipe:
    table: dict[str, Any] = {
        "name": "clips",
        "data": {"train": {"kind": "toy_clips"}, "resolution": 32},
        "model": {"kind": "animatediff"},
        "task": {"kind": "video", **(task or {})},
        "sample": {"num_inference_steps": 2, "guidance_scale": 2.0},
        "evaluate": {"rows": COUNT, "batch_size": 2 * FRAMES, "metrics": ["motion_caption"], **evaluate},
    }
    return recipe_from(table, Path("."))


def moving(images: int) -> StableDiffusion:
    """A tiny model whose motion modules do something."""
    base = tiny_stable_diffusion(images)
    model = with_motion(base, fresh_motion(base.unet, MotionSize(heads=2), 0))
    with torch.no_grad():
        for name, weight in model.unet.named_parameters():
            if "motion_modules" in name and "proj_out" in name:
                weight.normal_(0, 0.1, generator=torch.Generator().manual_seed(0))
    return model


@pytest.fixture(scope="module")
def model() -> StableDiffusion:
    return moving(0)


def suite_of(model: StableDiffusion, task: Any, folder: Path, given: Recipe) -> Clips:
    encoded = encode_rows(ROWS, task.needs, 32, model.codec, model.text, folder / "cache")
    suite = open_suite(given, task, ROWS, encoded)
    assert isinstance(suite, Clips)
    return suite


def plain(rows: Any = ROWS, **more: Any) -> Clips:
    """A suite without a model."""
    return Clips(rows, Mock(spec=EncodedRows), 32, "", **{"frames": FRAMES, "step": 1, **more})


def test_made_once_for_every_arm_from_the_same_noise(model: StableDiffusion, tmp_path: Path) -> None:
    """Five clips of four frames at 32 px, PNG strips of 4 x 32 pixels; read back they are the same. Batches do not matter; another
    row's caption does."""
    given: Recipe = recipe()
    task: Any = Video()
    suite = suite_of(model, task, tmp_path, given)
    made = suite.made(model, task, given, tmp_path / "made")
    assert made.shape == (COUNT, 3, FRAMES, 32, 32)
    (folder,) = (tmp_path / "made").iterdir()
    assert sorted(path.name for path in folder.glob("*.png")) == [f"{i:06d}.png" for i in range(COUNT)]
    exact = torch.stack(list(suite.make(model, task, recipe(batch_size=FRAMES), False)))  # one clip at a time
    assert (made - exact).abs().max() < 1.01 / 127.5
    times = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert torch.equal(suite.made(model, task, given, tmp_path / "made"), made)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == times
    other = suite.made(model, task, given, tmp_path / "made", shuffled=True)
    assert len(list((tmp_path / "made").iterdir())) == 2
    assert not torch.equal(other, made)


def test_the_first_frame_is_given_where_the_task_gives_it(tmp_path: Path) -> None:
    """Image to video: another first frame, with the same caption and noise, makes another clip."""
    given, model = recipe({"given": "first"}), moving(1)
    task: Any = Video(given="first", conditioning_dropout_prob=0.0)
    suite = suite_of(model, task, tmp_path, given)
    assert suite.given == 1
    first = next(iter(suite.make(model, task, given, False)))
    seen: list[Tensor] = []

    def grey(mean: Tensor) -> Tensor:
        seen.append(mean)
        return torch.zeros_like(mean)

    object.__setattr__(task, "beside", grey)
    assert not torch.equal(next(iter(suite.make(model, task, given, False))), first)
    assert seen[0].shape == (2, 4, FRAMES, 8, 8)


def test_samples_hold_clip_truth_and_flow() -> None:
    """Pixels are those of frame `step`; the target is the row's own clip in 8 bits; nothing was given; true flow between frames."""
    made = torch.linspace(-1, 1, COUNT * 3 * FRAMES * 32 * 32).reshape(COUNT, 3, FRAMES, 32, 32)
    batches = list(plain(step=2).samples(made, 3))
    assert [len(samples) for samples in batches] == [3, 2]
    one = batches[1]
    assert one.ids == [ROWS[3].id, ROWS[4].id]
    assert one.given == 0
    assert torch.equal(one.videos["generated"], made[3:])
    assert torch.equal(one.pixels["generated"], made[3:, :, 2])
    truth = ROWS[4].clips["target"].shot(32).frames.transpose(0, 1)
    assert (one.videos["target"][1] - truth).abs().max() <= 0.5 / 127.5 + 1e-6
    assert torch.equal(one.pixels["target"], one.videos["target"][:, :, 2])
    assert one.flows["target"].shape == (2, 2, FRAMES - 1, 32, 32)
    assert one.texts["target"] == [ROWS[3].texts["target"], ROWS[4].texts["target"]]
    vx, vy = ROWS[3].facts["motion"]["velocities"][0]
    step = one.flows["target"][0].flatten(2)
    fastest = step.abs().amax(2)
    assert torch.allclose(fastest, torch.tensor([abs(vx), abs(vy)])[:, None] * 0.2 * 32, atol=1e-3)


def test_controls_are_the_clip_its_round_trip_and_its_first_frame(model: StableDiffusion) -> None:
    controls = plain().controls(model.codec)
    assert set(controls) == {"still clip", "round trip of the clip", "real video"}
    real, still, trips = controls["real video"], controls["still clip"], controls["round trip of the clip"]
    assert real.shape == still.shape == trips.shape == (COUNT, 3, FRAMES, 32, 32)
    assert torch.equal(still[:, :, 3], real[:, :, 0])
    codec: Codec = model.codec
    again = codec.decode(codec.latents(codec.encode(real[2:3, :, 1]), None))
    assert torch.allclose(trips[2:3, :, 1], again, atol=1e-4)


def test_the_metrics_of_the_controls() -> None:
    """The real clips follow their captions, their first frames alone do not move, another row's clips do other things."""
    suite = plain()
    given = recipe(metrics=["motion_caption", "motion"])
    controls = {"real": suite.truth(ROWS), "still": suite.truth(ROWS)[:, :, :1].expand(-1, -1, FRAMES, -1, -1)}
    found = {name: evaluate_made(given, suite, made, {})[0] for name, made in controls.items()}
    assert found["real"]["motion_caption"].value == 1
    assert found["still"]["motion_caption"].value == 0
    assert found["still"]["motion_caption.found"].value == 1
    assert found["real"]["motion_caption"].n == COUNT


def test_the_pace_is_that_of_the_rows() -> None:
    assert plain().pace(recipe()) == pytest.approx(5)
    assert plain([Row("a", "a", {}, {})]).pace(recipe()) is None


def test_what_asks_for_a_given_frame_is_not_measured() -> None:
    """Drift, the half-life of a scene, errors against the true frame, and flow of the target say why; image to video has them."""
    names = ["drift", "scene_held", "frame_error", "motion_caption", "warp_error", "flicker", "truly"]
    given = recipe(metrics=names, settings={"truly": {"kind": "flicker", "flow": "true"}})
    lacking = not_measurable(given, plain())
    assert set(lacking) == {"drift", "scene_held", "frame_error", "truly"}
    assert lacking["drift"].startswith("drift: the rows have no given frame: clips are made whole")
    assert not not_measurable(given, plain(given=1))


def test_content_of_clips_is_hashed() -> None:
    """Another frame count is another content; rows without clips keep the hash that they had."""
    rows = [Row("a", "a", {}, {"target": "x"})]
    assert content_of(rows) == "62112bf90774a396"
    short = ToyClips(count=COUNT, split="test", frames=FRAMES - 1).rows()
    assert content_of(ROWS) != content_of(short)
    assert content_of(ROWS) == content_of([*ROWS])


def test_clips_of_other_lengths_and_steps_beyond_them_are_refused() -> None:
    task: Any = Video()
    mixed = [ROWS[0], ToyClips(count=2, split="test", frames=3).rows()[1]]
    encoded = Mock(spec=EncodedRows, ids=[row.id for row in mixed])
    with pytest.raises(DataError, match=r"clips of different lengths, 3 \('toy_clips-test-0-1'\), 4 \('toy_clips-test-0-0'\)"):
        open_suite(recipe(), task, mixed, encoded)
    with pytest.raises(RecipeError, match=r"evaluate\.step is 4, but clips have 4 frames"):
        open_suite(recipe(step=4), task, ROWS, Mock(spec=EncodedRows, ids=[row.id for row in ROWS]))


def test_a_strip_of_another_size_is_not_this_suites() -> None:
    suite = plain()
    clip = torch.rand(3, FRAMES, 32, 32)
    again = suite.restored(suite.picture(clip))
    assert again is not None
    assert torch.equal(again, clip)
    assert suite.restored(torch.zeros(3, 32, 32 * (FRAMES + 1))) is None
