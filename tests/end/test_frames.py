"""Image to video through the command line: train on frames, compare rollouts, animate a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.cli import main
from relatum.imaging import decode, save_png
from relatum.models.families.stable_diffusion import open_stable_diffusion
from relatum.models.tiny import tiny_stable_diffusion
from support.runs import finished_weights, tiny_recipe, weights

ROWS = {"kind": "toy_videos", "past": 3, "count": 12}
DATA = {"train": {**ROWS, "split": "train"}, "test": {**ROWS, "split": "test", "count": 3, "future": 3}}
FRAMES = {"kind": "frames"}
K3 = {"kind": "frames", "past": 3, "noise": "log_normal", "time_offset": True}
EVALUATE = {"rows": 3, "step": 2, "metrics": ["psnr", "frame_error", "scene_held", "drift"], "features": "randconv"}
OWN = "relatum.engine.own_frames:own_frames_step"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny edit model at 32 px, which the toy world's eye can read."""
    folder = tmp_path_factory.mktemp("base") / "tiny"
    tiny_stable_diffusion().save_pipeline(folder)
    return folder


def recipe_of(folder: Path, base: Path, cache: Path, name: str = "frames", /, **sections: Any) -> Path:
    given: dict[str, Any] = {
        "data": {**DATA, "resolution": 32},
        "task": FRAMES,
        "rollout": {"steps": 3},
        "evaluate": EVALUATE,
        "compare": {"seeds": [0, 1], "resamples": 40, "grid_rows": 2, "headline": "frame_error"},
    }
    return tiny_recipe(folder, base, cache, name, **{**given, **sections})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, base: Path) -> Path:
    """A finished run of three given frames, noise and offsets."""
    folder = tmp_path_factory.mktemp("trained")
    recipe = recipe_of(folder, base, folder / "cache", "k3", task=K3, train={"sample_rows": 2})
    assert main(["train", str(recipe)]) == 0
    return recipe.with_suffix("")


def test_a_run_shows_what_it_sees_and_makes(trained: Path) -> None:
    """sanity: two rows of three given frames, the target and its noisy form; samples: four images and three frames."""
    sanity = decode(trained / "sanity" / "step-000000.png", "sanity")
    assert sanity.shape[1:] == (2 * 34 + 2, 5 * 34 + 2)
    samples = decode(trained / "samples" / "step-000004.png", "samples")
    assert samples.shape[1:] == (2 * 34 + 2, 7 * 34 + 2)
    assert open_stable_diffusion(str(trained / "final"), 3, features=32).unet.config.in_channels == 16  # type: ignore[union-attr]


def test_own_frames_train_and_resume_to_the_same_weights(tmp_path: Path, base: Path) -> None:
    """Two steps and two more end where four steps end."""
    task, cache = {"kind": "frames", "past": 2, "own_frames": 0.5, "own_steps": 2}, tmp_path / "cache"
    whole = recipe_of(tmp_path, base, cache, "whole", task=task, train={"step": OWN})
    assert main(["train", str(whole)]) == 0
    plain = recipe_of(tmp_path, base, cache, "plain", task={"kind": "frames", "past": 2})
    assert main(["train", str(plain)]) == 0
    first, other = finished_weights(whole), finished_weights(plain)
    assert any(not torch.equal(first[name], other[name]) for name in first)
    parts = recipe_of(tmp_path, base, cache, "parts", task=task, train={"step": OWN})
    import relatum.engine.train as loop

    update, made = loop._Loop._update, []

    def stop(self: Any) -> None:
        if self.updates == 2 and not made:
            made.append(1)
            raise KeyboardInterrupt
        update(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Loop, "_update", stop)
        assert main(["train", str(parts)]) == 130
    assert main(["train", str(parts)]) == 0
    second = finished_weights(parts)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_arms_of_frames_are_compared_by_their_rollouts(tmp_path: Path, base: Path) -> None:
    """Two arms with other numbers of given frames, on the same rows, noise and first frames; reels, curves, controls."""
    arms = {"one": {}, "three": {"task": {"past": 3, "noise": "per_frame"}}}
    recipe = recipe_of(tmp_path, base, tmp_path / "cache", train={"max_train_steps": 2}, arms=arms)
    assert main(["compare", str(recipe)]) == 0
    report = json.loads((recipe.with_suffix("") / "report.json").read_text())
    assert {e["arm"] for e in report["estimates"]} == {"one", "three"}
    assert {e["arm"] for e in report["controls"]} == {
        "copy the first frame", "round trip × k", "real video", "another row's caption"
    }  # fmt: skip
    real = {e["metric"]: e["value"] for e in report["controls"] if e["arm"] == "real video"}
    assert real["frame_error"] < 1e-5  # of rounding to 8 bits
    charts = {chart["metric"]: chart for chart in report["charts"]}
    assert {"frame_error.error", "scene_held.attributes", "drift.sharpness"} <= set(charts)
    curve = next(c for c in charts["frame_error.error"]["curves"] if c["arm"] == "three")
    assert [point["step"] for point in curve["points"]] == [0, 1, 2, 3]
    assert curve["points"][0]["value"] < 1e-5
    (reels,) = report["reels"]
    assert reels["columns"] == ["real", "one", "three"]
    assert [film["frames"] for film in reels["rows"][0]["films"].values()] == [4, 4, 4]
    page = (recipe.with_suffix("") / "report.html").read_text()
    assert "Rollouts" in page
    strips = list((recipe.with_suffix("") / "arms" / "three" / "seed-1" / "made").glob("*/*.png"))
    assert len(strips) == 3
    assert decode(strips[0], "strip").shape == (3, 32, 4 * 32)


def test_refinement_is_an_arm_of_its_own(tmp_path: Path, base: Path) -> None:
    """The same training, made once, another rollout: settings of inference may differ, the number of steps may not."""
    arms: dict[str, Any] = {"plain": {}, "refined": {"rollout": {"refine": 0.5}}}
    recipe = recipe_of(tmp_path, base, tmp_path / "cache", train={"max_train_steps": 1}, arms=arms)
    assert main(["compare", str(recipe)]) == 0
    report = json.loads((recipe.with_suffix("") / "report.json").read_text())
    found = {e["arm"]: e["value"] for e in report["estimates"] if e["metric"] == "frame_error"}
    assert found["plain"] != found["refined"]
    arms_of = recipe.with_suffix("") / "arms"
    assert (arms_of / "plain" / "seed-0" / "checkpoints").is_dir()
    assert not (arms_of / "refined" / "seed-0" / "checkpoints").exists()
    one, two = (weights(arms_of / arm / "seed-0" / "final") for arm in ("plain", "refined"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    arms["longer"] = {"rollout": {"steps": 2}}
    bad = recipe_of(tmp_path, base, tmp_path / "cache", "bad", arms=arms)
    assert main(["compare", str(bad)]) == 2


def test_true_frames_at_other_times_are_no_truth(tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Rollouts of .4 s a step against true frames .2 s apart would be measured against the wrong frames."""
    sections: dict[str, Any] = {"task": {**FRAMES, "time_offset": True}, "arms": {"a": {}, "b": {"task": {"past": 2}}}}
    recipe = recipe_of(tmp_path, base, tmp_path / "cache", rollout={"steps": 3, "offset": 0.4}, **sections)
    assert main(["compare", str(recipe)]) == 2
    assert "rollout.offset is 0.4 s, but the true frames of" in capsys.readouterr().err


def test_arms_that_could_not_see_the_same_rows_are_refused(
    tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One row's third frame cannot be read: the arm that needs it would be trained without that row, the other with it."""
    from relatum.core.errors import DataError
    from relatum.data.toy.readers import SceneImage

    pixels = SceneImage.pixels

    def broken(self: SceneImage, size: int) -> torch.Tensor:
        if self.where.endswith("-5-0 (past.3)"):
            raise DataError(f"{self.where}: cannot be decoded")
        return pixels(self, size)

    monkeypatch.setattr(SceneImage, "pixels", broken)
    data = {**DATA, "resolution": 32, "on_bad_row": "skip"}
    arms = {"one": {}, "three": {"task": {"past": 3}}}
    recipe = recipe_of(tmp_path, base, tmp_path / "cache", data=data, arms=arms)
    assert main(["compare", str(recipe)]) == 3
    said = capsys.readouterr().err
    assert "arms.three: 1 rows of data.train can be read by some arms only" in said


def test_animate_writes_films_that_play(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """MP4 of .8 seconds at 15 frames each: 13, three samples side by side; GIF; strips that a seed decides."""
    import av

    save_png(tmp_path / "first.png", torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0)) * 2 - 1)
    plain = ["animate", str(trained), "--image", str(tmp_path / "first.png"), "--caption", "a red circle moves left"]
    plain += ["--steps", "4", "--num-inference-steps", "2"]
    film = tmp_path / "film.mp4"
    assert main([*plain, "--output", str(film), "--rate", "15", "--count", "3", "--caption", "it stands still"]) == 0
    assert f"{film} (13 frames)" in capsys.readouterr().out
    with av.open(str(film)) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 13
    assert frames[0].shape[1] > 2.9 * frames[0].shape[0]
    strips = []
    for name, more in (("a.png", []), ("b.png", []), ("c.png", ["--seed", "1"]), ("d.png", ["--refine", "0.5"])):
        assert main([*plain, "--output", str(tmp_path / name), *more]) == 0
        strips.append(decode(tmp_path / name, name))
    assert torch.equal(strips[0], strips[1])
    assert not torch.equal(strips[0], strips[2])
    assert not torch.equal(strips[0], strips[3])
    assert main([*plain, "--output", str(tmp_path / "film.gif"), "--given-noise", "0.2", "--offset", "0.4"]) == 0
    assert (tmp_path / "film.gif").read_bytes()[:6] == b"GIF89a"


REFUSED: dict[str, tuple[list[str], int, str]] = {
    "suffix": (["--output", "film.avi"], 2, "ends in none of .mp4, .gif, .png"),
    "steps": (["--steps", "0"], 2, "rollout.steps is 0"),
    "caption": (["--caption", "  "], 2, "the caption is empty"),
    "count": (["--count", "0"], 2, "count is 0"),
    "fps": (["--fps", "-1"], 2, "fps is -1"),
    "pictures": (["--image", "b.png", "--image", "c.png", "--image", "d.png"], 2, "4 pictures, but the model continues 3"),
    "missing": (["--output", "film.png"], 3, "no such file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_animate_refuses(case: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    more, code, words = REFUSED[case]
    start = ["animate", str(trained), "--image", str(tmp_path / "none.png"), "--caption", "a", "--output", str(tmp_path / "f.mp4")]
    assert main([*start, *more]) == code
    assert words in capsys.readouterr().err
    assert not list(tmp_path.glob("f.*"))


def test_animate_refuses_models_of_other_tasks(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An edit pipeline continues one frame, whatever it was trained for, a text-to-image one none; a told one needs its run."""
    save_png(tmp_path / "first.png", torch.zeros(3, 32, 32))
    tiny_stable_diffusion(0).save_pipeline(tmp_path / "image")
    tiny_stable_diffusion(1, features=16).save_pipeline(tmp_path / "told")
    rest = ["--image", str(tmp_path / "first.png"), "--caption", "a", "--output", str(tmp_path / "f.png")]
    assert main(["animate", str(base), *rest, "--steps", "2", "--num-inference-steps", "1"]) == 0
    assert main(["animate", str(tmp_path / "image"), *rest]) == 2
    assert "train it on frames first" in capsys.readouterr().err
    assert main(["animate", str(base), *rest, "--given-noise", "-1"]) == 2
    assert main(["animate", str(tmp_path / "told"), *rest]) == 2
    assert "give the run folder" in capsys.readouterr().err


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "own frames without their step": ({"task": {"own_frames": 0.5}}, "own_frames_step"),
    "their step without own frames": ({"train": {"step": OWN}}, "own_frames is 0.0"),
    "noise that is not told": ({"task": {"noise": "per_frame"}, "rollout": {"given_noise": 0.9}}, "given_noise is 0.9"),
    "a step beyond the rollout": ({"evaluate": {"step": 9}}, "evaluate.step is 9"),
    "an offset that nobody is told": ({"rollout": {"offset": 0.4}}, "task.time_offset"),
}


@pytest.mark.parametrize("case", BAD)
def test_settings_of_rollouts_that_do_not_go_together(
    case: str, tmp_path: Path, base: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sections, words = BAD[case]
    sections = {
        key: {**{"task": FRAMES, "rollout": {"steps": 3}, "evaluate": EVALUATE}.get(key, {}), **s} for key, s in sections.items()
    }
    recipe = recipe_of(tmp_path, base, tmp_path / "cache", **sections)
    assert main(["check", str(recipe)]) == 2
    assert words in capsys.readouterr().err
