"""The example of a reader of one's own, on the real sprites: what moves, what the captions say, and that recipes find it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from relatum.core.errors import DataError
from relatum.core.registry import reader
from relatum.data.rows import ClipRef, Row
from relatum.jobs.opening import register_all
from relatum.recipe import read_recipe
from relatum.tasks.video import Video

EXAMPLES = Path(__file__).parents[2] / "examples"


def read(path: Path, **settings: Any) -> list[Row]:
    register_all()
    table = read_recipe(EXAMPLES / "train_sprite_clips.toml").data.train
    return reader.build({**table, "path": str(path), **settings}, "data.train").rows()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # render.py leaves a file to be closed by itself
def test_sprites_move_as_their_captions_say(shared_data: Path) -> None:
    """Eight pictures of a walk are eight different ones; an arm has six, so that the seventh is the first again. The gray behind
    the figure, 128 of 255, reaches the corners."""
    folder = shared_data / "lpc_sprites"
    if not (folder / "render.py").is_file():
        pytest.skip("no LPC sprites")
    rows, again = read(folder, count=30), read(folder, count=30)
    assert len({row.group for row in rows}) == 30
    assert {row.texts["target"].split()[0] for row in rows} == {"walking", "swinging", "casting"}
    for does, most in (("walk", 8), ("slash", 6)):
        place = next(i for i, row in enumerate(rows) if row.facts["action"] == does)
        clip = rows[place].clips["target"]
        assert isinstance(clip, ClipRef)
        frames, joined = clip.shot(32)
        assert frames.shape == (8, 3, 32, 32)
        assert joined.all()
        assert len({frame.numpy().tobytes() for frame in frames}) == most
        assert frames[:, :, 0, 0].mean().item() == pytest.approx(128 / 127.5 - 1, abs=1e-6)
        assert clip.digest() == again[place].clips["target"].digest()
    assert len({row.clips["target"].digest() for row in rows}) == 30


def test_a_folder_without_sprites_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no render\.py in it; give the folder of the LPC sprites"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["train_sprite_clips", "train_clips"])
def test_recipes_of_clips_are_whole(name: str) -> None:
    """Every table builds what it names; only the data is not there."""
    recipe = read_recipe(EXAMPLES / f"{name}.toml")
    register_all()
    for table in (recipe.data.train, recipe.data.test):
        if table is not None:
            assert reader.build(table, "data").frames == 8
    assert recipe.task == {"kind": "video"}
    assert Video().needs.clips == ("target",)
