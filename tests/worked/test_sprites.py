"""docs/studies/sprites.py on the real layers: the groups are what they claim to be, and training never shows what is held out."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from relatum.data.benchmarks.winoground import Winoground
from relatum.data.folder import Folder

PROGRAM = Path(__file__).parents[2] / "docs" / "studies" / "sprites.py"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    if not (shared_data / "lpc_sprites" / "render.py").is_file():
        pytest.skip("no LPC sprites")
    out = tmp_path_factory.mktemp("sprites")
    command = [sys.executable, str(PROGRAM), str(shared_data / "lpc_sprites"), str(out), "--train", "60", "--groups", "24"]
    subprocess.run(command, check=True, timeout=60)
    return out


def said(caption: str) -> dict[str, str]:
    """Color by place: "teal pants, black hair" -> {"pants": "teal", "hair": "black"}."""
    return {place: color for color, place in (part.rsplit(" ", 1) for part in caption.split(", "))}


def test_the_two_of_a_group_have_two_colors_exchanged(made: Path) -> None:
    items = Winoground(made / "groups").items()
    assert len(items) == 24
    for item in items:
        one, other = map(said, item.texts)
        differ = [place for place in one if one[place] != other[place]]
        assert differ == [place for place in one if place in item.tag.split("/")]
        assert [one[place] for place in differ] == [other[place] for place in reversed(differ)]
        first, second = (image.pixels(32) for image in item.images)
        share = (first != second).any(0).float().mean()
        assert 0.02 < share < 0.4, item.id  # the rest of the character is the same
    assert {item.tag for item in Winoground(made / "groups", tag="colors").items()} == {"new", "seen"}


def test_training_shows_no_held_out_colors(made: Path) -> None:
    held_out = runpy.run_path(str(PROGRAM))["held_out"]
    lines = [json.loads(line) for line in (made / "groups" / "metadata.jsonl").read_text().splitlines()]
    assert all(held_out(said(line[f"caption_{i}"])) == (line["colors"] == "new") for line in lines for i in range(2))
    rows = Folder(made / "train").rows()
    assert len(rows) == 60
    swaps = 0
    for row in rows:
        right, wrong = said(row.texts["target"]), said(row.texts["negative.1"])
        assert not held_out(right)
        assert not held_out(wrong)
        differ = [place for place in right if right[place] != wrong[place]]
        exchanged = len(differ) == 2 and [right[one] for one in differ] == [wrong[one] for one in reversed(differ)]
        assert exchanged or len(differ) == 1
        swaps += exchanged
    assert 10 < swaps < 50
