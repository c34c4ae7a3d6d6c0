"""`relatum generate`: files a caption and seed, noise by seed alone, what is refused, and going on after an interruption."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

from relatum.core.errors import DataError, RecipeError
from relatum.engine.sample import Sampling, generate_clips
from relatum.imaging import decode
from relatum.jobs.generating import Order, captions_of, generate_all
from relatum.models.tiny import tiny_animatediff, tiny_stable_diffusion
from relatum.video.decode import read_timeline
from relatum.video.write import strip

FEW = Sampling(num_inference_steps=2, guidance_scale=2.0)
FILM = Order(("a star moves left", "a ring stands still"), (3, 1), frames=4, fps=5.0, form="png", resolution=16)


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("films") / "model"
    tiny_animatediff(fresh=False).save_pipeline(folder)
    return str(folder)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("pictures") / "model"
    tiny_stable_diffusion(0).save_pipeline(folder)
    return str(folder)


def test_a_file_a_caption_and_seed(films: str, tmp_path: Path) -> None:
    """2 captions x 2 seeds; the index says which is which, and `say` hears of each in that order."""
    said: list[Path] = []
    assert generate_all(films, FILM, FEW, tmp_path / "out", said.append) == 4
    lines = [json.loads(line) for line in (tmp_path / "out" / "index.jsonl").read_text().splitlines()]
    assert [(line["file_name"], line["text"], line["seed"]) for line in lines] == [
        ("00000-seed3.png", "a star moves left", 3),
        ("00000-seed1.png", "a star moves left", 1),
        ("00001-seed3.png", "a ring stands still", 3),
        ("00001-seed1.png", "a ring stands still", 1),
    ]
    assert [path.name for path in said] == [line["file_name"] for line in lines]


def test_the_batch_changes_nothing_and_the_noise_is_the_seeds(films: str, tmp_path: Path) -> None:
    """Batches of 1 and 3 give the same pictures; a seed's noise is the same for both captions."""
    for batch in (1, 3):
        generate_all(films, dataclasses.replace(FILM, batch=batch), FEW, tmp_path / str(batch), lambda _: None)
    for path in sorted((tmp_path / "1").glob("*.png")):
        one, three = (decode(tmp_path / name / path.name, "") for name in ("1", "3"))
        assert float((one - three).abs().max()) <= 2 / 255
    model = tiny_animatediff(fresh=False)
    tokens = model.text.encode(["a star moves left"])
    clip = generate_clips(model, FEW, seed=0, ids=[1], tokens=tokens, frames=4, size=16)[0]
    made = decode(tmp_path / "1" / "00000-seed1.png", "")
    torch.testing.assert_close(made, strip([clip.transpose(0, 1)]), atol=1e-2, rtol=0)


@pytest.mark.parametrize("form", ["mp4", "gif"])
def test_films_play_at_their_rate(films: str, tmp_path: Path, form: str) -> None:
    order = dataclasses.replace(FILM, captions=FILM.captions[:1], seeds=(0,), form=form)
    generate_all(films, order, FEW, tmp_path, lambda _: None)
    timeline = read_timeline(tmp_path / f"00000-seed0.{form}")
    assert len(timeline.times) == 4
    assert timeline.times[1] == pytest.approx(0.2, abs=0.01)


def test_pictures(pictures: str, tmp_path: Path) -> None:
    order = Order(("a star",), (0, 1), resolution=16)
    assert generate_all(pictures, order, FEW, tmp_path, lambda _: None) == 2
    first, second = (decode(tmp_path / f"00000-seed{seed}.png", "") for seed in (0, 1))
    assert first.shape == (3, 16, 16)
    assert not torch.equal(first, second)


def test_it_goes_on_with_what_is_missing(films: str, tmp_path: Path) -> None:
    """One of four files and the index are gone: it is made again, and only it; another command is refused."""
    generate_all(films, FILM, FEW, tmp_path / "out", lambda _: None)
    lost = tmp_path / "out" / "00001-seed3.png"
    before = lost.read_bytes()
    lost.unlink()
    (tmp_path / "out" / "index.jsonl").unlink()
    said: list[Path] = []
    generate_all(films, FILM, FEW, tmp_path / "out", said.append)
    assert said == [lost]
    assert lost.read_bytes() == before
    with pytest.raises(RecipeError, match="another command"):
        generate_all(films, dataclasses.replace(FILM, seeds=(7,)), FEW, tmp_path / "out", said.append)


def test_a_folder_with_other_things_is_left_alone(films: str, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RecipeError, match="not empty"):
        generate_all(films, FILM, FEW, tmp_path, lambda _: None)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_models_that_make_something_else(films: str, pictures: str, tmp_path: Path) -> None:
    still = dataclasses.replace(FILM, frames=0)
    for model, order, said in (
        (films, still, "say --video"),
        (pictures, FILM, "no motion modules"),
        (pictures, dataclasses.replace(still, image=Path("a.png")), "given no picture"),
    ):
        with pytest.raises(RecipeError, match=said):
            generate_all(model, order, FEW, tmp_path / "out", lambda _: None)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"captions": ()}, "no caption"),
        ({"captions": ("a", " ")}, "caption is empty"),
        ({"seeds": ()}, "count is 0"),
        ({"seeds": (1, 1)}, "given twice"),
        ({"frames": 1}, "frames is 1"),
        ({"fps": 0.0}, "fps is 0"),
        ({"batch": 0}, "batch_size is 0"),
        ({"resolution": 3}, "resolution is 3"),
    ],
)
def test_orders_that_cannot_be(change: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        dataclasses.replace(FILM, **change)  # type: ignore[arg-type]


def test_captions_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "c.txt").write_text("one\ntwo\n")
    assert captions_of(["zero"], tmp_path / "c.txt") == ("zero", "one", "two")
    (tmp_path / "c.jsonl").write_text('{"text": "one"}\n{"text": 3}\n')
    with pytest.raises(DataError, match="2"):
        captions_of([], tmp_path / "c.jsonl")
