"""Winoworld: each caption is true of its own scene and false of the other, and nothing else differs."""

import re
from collections import Counter

import pytest
import torch

from relatum.core.errors import RecipeError
from relatum.core.registry import benchmark
from relatum.data.benchmarks.winoworld import Winoworld
from relatum.data.toy import (
    HELD_OUT,
    SPLITS,
    Ground,
    Object,
    Scene,
    ToyScenes,
    caption,
    claim_of,
    is_true,
    negatives,
    read_scene,
    render,
    scene_of_row,
)
from relatum.data.toy.grammar import FALSE_KINDS, false_scenes, holds
from relatum.data.toy.scene import lies_free
from relatum.models.bundled import resolve

RING, STAR = Object("ring", "red", "large", 0.3, 0.4), Object("star", "blue", "small", 0.75, 0.6)
SCENE = Scene((RING, STAR), Ground("beige", "dots"))


def scenes_of(item) -> list[Scene]:
    return [Scene.of(facts) for facts in item.facts["scenes"]]


def bag(text: str) -> Counter:
    return Counter(text.split())


@pytest.mark.parametrize("split", SPLITS)
def test_each_caption_is_true_of_its_own_scene_alone(split: str) -> None:
    for item in Winoworld(count=150, split=split).items():  # type: ignore[arg-type]
        scenes = scenes_of(item)
        assert [[is_true(text, scene) for text in item.texts] for scene in scenes] == [[True, False], [False, True]]
        told = [claim_of(text) for text in item.texts]
        assert told[0] is not None
        assert told[1] is not None
        assert told[0].relations[0][1:] == told[1].relations[0][1:] or item.tag == "relation"
        shown = {thing.pair for scene in scenes for thing in scene.objects}
        assert bool(HELD_OUT & shown) == (split == "held_out_attributes")


def test_only_what_is_asked_differs() -> None:
    """binding: places, sizes, shapes stay; relation and order: the objects stay, their places are exchanged."""
    for item in Winoworld(count=150).items():
        first, second = scenes_of(item)
        (a, b), changed = first.objects, second.objects[:: -1 if item.tag == "order" else 1]
        assert first.ground == second.ground
        assert lies_free(first.objects)
        assert lies_free(second.objects)
        assert (bag(item.texts[0]) == bag(item.texts[1])) == (item.tag != "relation")
        if item.tag == "binding":
            assert [(o.shape, o.size, o.x, o.y) for o in first.objects] == [(o.shape, o.size, o.x, o.y) for o in changed]
            assert [o.color for o in changed] == [b.color, a.color] != [a.color, b.color]
        else:
            assert [(o.shape, o.color, o.size) for o in first.objects] == [(o.shape, o.color, o.size) for o in changed]
            assert [(o.x, o.y) for o in changed] == [(b.x, b.y), (a.x, a.y)]
            word = re.compile(r"left of|right of|above|below")
            assert (word.findall(item.texts[0]) == word.findall(item.texts[1])) == (item.tag == "order")
            assert (word.sub("", item.texts[0]) == word.sub("", item.texts[1])) == (item.tag == "relation")


def test_the_pixels_say_the_same() -> None:
    """Read back from 64 px: what is seen of image i has the objects and the relation of scene i."""
    for item in Winoworld(count=24, grounds="plain").items():
        for image, scene in zip(item.images, scenes_of(item), strict=True):
            seen = {o.pair: Object(*o.pair, o.size, o.x, o.y) for o in read_scene(image.pixels(64))}
            assert set(seen) == {o.pair for o in scene.objects}
            a, b = scene.objects
            for word in ("left of", "above"):
                if holds(a, word, b):
                    assert holds(seen[a.pair], word, seen[b.pair])


def test_items_are_stable_and_of_their_own_stream() -> None:
    items = Winoworld(count=18).items()
    assert items[17] == Winoworld(count=40).items()[17]
    assert items[17].id == items[17].group == "winoworld-test-0-17"
    assert [item.tag for item in items[:4]] == ["binding", "relation", "order", "binding"]
    assert items[17].texts == GOLDEN
    others = [Winoworld(count=18, seed=1), Winoworld(count=18, split="train")]
    assert all(item.facts != mine.facts for other in others for item, mine in zip(other.items(), items, strict=True))
    assert {item.tag for item in Winoworld(count=5, kinds=("order",)).items()} == {"order"}


GOLDEN = (
    "a small cyan circle left of a small blue ring on a slate dotted ground",
    "a small blue ring left of a small cyan circle on a slate dotted ground",
)


def test_captions_fit_into_the_text_encoder() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(f"{resolve('relatum:toy')}/tokenizer")
    captions = [caption for item in Winoworld(count=200).items() for caption in item.texts]
    rows = ToyScenes(count=60, min_objects=2, related=True, negatives=3).rows()
    captions += [row.texts[name] for row in rows for name in row.texts]
    lengths = [len(ids) for ids in tokenizer(captions).input_ids]
    assert max(lengths) <= tokenizer.model_max_length == 32


def test_bad_settings() -> None:
    with pytest.raises(ValueError, match=r"count: found 0"):
        Winoworld(count=0)
    with pytest.raises(ValueError, match=r"kinds: found none, expected some of binding, relation, order"):
        Winoworld(kinds=())
    with pytest.raises(RecipeError, match="did you mean 'winoworld'"):
        benchmark.build({"kind": "winoword"}, "benchmark")


def test_claims_by_hand() -> None:
    """The ring (0.3, 0.4) is left of the star (0.75, 0.6) by 0.45 and above it by 0.2; the star is nearest to the right."""
    ground = "on a beige dotted ground"
    for text, truth in {
        f"a red ring left of a blue star {ground}": True,
        f"there is a large red ring above a small blue star {ground}": True,
        f"a blue star and a red ring {ground}": True,
        f"a red ring {ground}": True,
        f"a blue star on the right, a red ring {ground}": True,
        f"a blue star in the top left {ground}": False,
        f"a small red ring left of a blue star {ground}": False,
        f"a blue star left of a red ring {ground}": False,
        f"a blue ring left of a red star {ground}": False,
        f"a red ring and a red ring {ground}": False,
        "a red ring on a beige ground": False,
        f"a ring red left of a blue star {ground}": None,
        f"a red ring of left a blue star {ground}": None,
        f"a red ring left of a blue star {ground} and more": None,
        "a red ring": None,
        "": None,
    }.items():
        assert is_true(text, SCENE) is truth, text


def test_all_captions_are_understood() -> None:
    for i, row in enumerate(ToyScenes(count=120, seed=4).rows()):
        scene = scene_of_row(row)
        assert is_true(row.texts["target"], scene), row.texts["target"]
        false = false_scenes(scene, i)
        assert {kind: is_true(text, scene) for kind, text in negatives(scene, i).items()} == dict.fromkeys(false, False)
        assert all(caption(other, i, related=True) == negatives(scene, i)[kind] for kind, other in false.items())


def test_false_scenes_by_hand() -> None:
    false = false_scenes(SCENE, 3)
    assert [o.color for o in false["attributes"].objects] == ["blue", "red"]
    assert [(o.x, o.y) for o in false["relation"].objects] == [(0.75, 0.6), (0.3, 0.4)]


@pytest.mark.parametrize("split", ["train", "held_out_attributes"])
def test_rows_with_negatives(split: str) -> None:
    """Every row has as many as asked; each kind comes first in about a third of 150 rows: 50 +- 2.6 sd of 5.8."""
    rows = ToyScenes(split=split, count=150, min_objects=2, related=True, negatives=2).rows()[:]  # type: ignore[arg-type]
    first = Counter(row.facts["negatives"][0] for row in rows)
    assert set(first) == set(FALSE_KINDS)
    assert all(abs(n - 50) <= 15 for n in first.values())
    for row in rows[:40]:
        scene, false = scene_of_row(row), scene_of_row(row, "negative")
        assert sorted(row.texts) == ["negative.1", "negative.2", "target"]
        assert len(set(row.texts.values())) == 3
        assert [is_true(row.texts[name], scene) for name in sorted(row.texts)] == [False, False, True]
        assert is_true(row.texts["negative.1"], false)
        assert not is_true(row.texts["target"], false)
        assert lies_free(false.objects)
        assert len(false.objects) == len(scene.objects) >= 2
        assert torch.equal(row.images["negative"].pixels(32), render(false, 32))
        if split == "train":
            assert not HELD_OUT & {o.pair for o in false.objects}


def test_rows_stay_what_they_were() -> None:
    row = ToyScenes(count=8).rows()[7]
    assert set(row.texts) == set(row.images) == {"target"}
    assert set(row.facts) == {"scene_target"}
    assert row.texts["target"] == OLD
    told = ToyScenes(count=8, min_objects=2, related=True).rows()
    assert all(claim.relations for r in told if (claim := claim_of(r.texts["target"])))


OLD = "a picture of a pink ring and a blue square on a beige shaded ground"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_objects": 4}, "min_objects: found 4, expected 1 to max_objects, 3"),
        ({"related": True}, "needs two objects, found min_objects 1; set it to 2"),
        ({"negatives": 1}, "set related = true"),
        ({"negatives": 4, "related": True, "min_objects": 2}, "negatives: found 4, expected 0 to 3"),
    ],
)
def test_bad_settings_of_the_reader(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ToyScenes(**settings)
