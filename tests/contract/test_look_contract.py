"""Every look, also one added tomorrow, keeps this contract. Looks are found by their registration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import relatum.curation.stages  # noqa: F401  registers them
from relatum.core.registry import stage
from relatum.curation.base import Clip, Look, Shown
from relatum.curation.looking import look_at
from relatum.curation.store import Store
from support.captioners import save_all, save_blip, save_clip, save_gpt, save_head, save_llava

NAMES = sorted(name for name, cls in stage.classes.items() if hasattr(cls, "identity"))
OTHERS = {"image_caption": save_blip, "video_caption": save_llava, "merged_caption": save_gpt, "clip_score": save_clip}
COUNT = 5


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_all(tmp_path_factory.mktemp("models"))
    save_head(folder / "head.safetensors", {"weight": [[1.0, 2, 3, 4, 5, 6, 7, 8]], "bias": [0.5]})
    return folder


def settings(name: str, models: Path) -> dict[str, Any]:
    """What a look needs besides its defaults; a new one with models of its own adds a line."""
    clip = str(models / "clip")
    return {
        "image_caption": {"model": str(models / "blip"), "tokens": 6},
        "video_caption": {"model": str(models / "video_git"), "tokens": 6},
        "merged_caption": {"model": str(models / "gpt"), "tokens": 6},
        "clip_score": {"model": clip},
        "ocr": {"short": 64},
        "aesthetic": {"model": clip, "head": str(models / "head.safetensors")},
    }.get(name, {})


def opened(name: str, table: Mapping[str, Any]) -> Look:
    look = stage.build({"kind": name, **table}, name)
    look.open("cpu")
    return look


def clips() -> list[Shown]:
    """Of other sizes, one of them without captions."""
    found = []
    for i in range(COUNT):
        clip = Clip(f"clip{i}", "c" * 64, 40 * i, 40 * i + 40, 2.0 * i, 2.0 * i + 2, 0, 1, "hard", "hard")
        draw = np.random.default_rng(i)
        stills = [draw.integers(0, 256, (20 + 2 * (i // 2), 32, 3), dtype=np.uint8) for _ in range(9)]
        texts = {kind: [f"{kind} of {i} dogs that run", "more"] for kind in ("image", "video", "sidecar", "title")}
        found.append(Shown(clip, stills, texts if i != 2 else {}, {"motion.mean": float(i)}))
    return found


def said(look: Look, shown: Sequence[Shown], folder: Path) -> dict[str, Any]:
    """Facts by clip; `folder` knows of nothing before."""
    assert not folder.exists()
    looked = look_at({"x": look}, shown, "stills", Store(folder))
    assert looked.errors == {}
    return looked.facts


@pytest.mark.parametrize("name", NAMES)
def test_is_a_look(name: str, models: Path) -> None:
    look = opened(name, settings(name, models))
    assert isinstance(look, Look)
    assert look.version >= 1
    assert look.stills >= 0
    assert look.batch_size >= 1
    assert look.writes
    assert ("text" in look.writes) == hasattr(look, "weight")  # a caption says how often it is drawn in training


@pytest.mark.parametrize("name", NAMES)
def test_order_and_company_do_not_matter(name: str, models: Path, tmp_path: Path) -> None:
    look = opened(name, settings(name, models))
    shown = clips()
    first = said(look, shown, tmp_path / "first")
    assert all(set(facts) == {f"x.{fact}" for fact in look.writes} for facts in first.values())
    assert any(value is not None for facts in first.values() for value in facts.values())
    assert json.loads(json.dumps(first, allow_nan=False)) == first
    for size in (1, 2, 3):
        look.batch_size = size
        assert said(look, shown[::-1], tmp_path / f"by {size}") == first
    assert said(look, [shown[3]], tmp_path / "alone")["clip3"] == first["clip3"]


@pytest.mark.parametrize("name", NAMES)
def test_two_openings_are_one_model(name: str, models: Path, tmp_path: Path) -> None:
    one, other = (opened(name, settings(name, models)) for _ in range(2))
    assert one.identity() == other.identity()
    assert said(one, clips(), tmp_path / "one") == said(other, clips(), tmp_path / "other")


@pytest.mark.parametrize("name", NAMES)
def test_depends_on_what_it_declares_alone(name: str, models: Path, tmp_path: Path) -> None:
    look = opened(name, settings(name, models))
    reads = getattr(look, "reads", None)
    if reads is None:
        pytest.skip("declares nothing, so it is asked again when anything changes")
    shown = clips()
    others = [Shown(c.clip, c.stills, {k: t for k, t in c.texts.items() if k in reads}, {"motion.mean": 9.0}) for c in shown]
    first = said(look, shown, tmp_path / "first")
    assert said(look, others, tmp_path / "others") == first
    if not look.stills:
        assert said(look, [Shown(c.clip, [], c.texts, c.facts) for c in shown], tmp_path / "blind") == first


@pytest.mark.parametrize("name", NAMES)
def test_identity_knows_the_weights(name: str, models: Path, tmp_path: Path) -> None:
    table = settings(name, models)
    changed: list[dict[str, Any]] = []
    if name in OTHERS:
        changed.append({**table, "model": str(OTHERS[name](tmp_path / "other", seed=1))})
    if "head" in table:
        head = save_head(tmp_path / "head.safetensors", {"weight": [[1.0, 2, 3, 4, 5, 6, 7, 9]], "bias": [0.5]})
        changed += [{**table, "head": str(head)}, {**table, "model": str(save_clip(tmp_path / "other", seed=1))}]
    if not changed:
        pytest.skip("has no weights that the test could change")
    for other in changed:
        assert opened(name, other).identity() != opened(name, table).identity()
