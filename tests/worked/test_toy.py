"""The toy world: determinism, targets decided by instructions, exact masks, splits, true and false captions."""

import hashlib
import re
from collections.abc import Iterator

import pytest
import torch

from relatum.core.errors import RecipeError
from relatum.core.registry import reader
from relatum.data.rows import Row
from relatum.data.toy import (
    COLORS,
    GROUND_COLORS,
    HELD_OUT,
    KINDS,
    PLACES,
    SHAPES,
    Edit,
    Ground,
    Object,
    Scene,
    Stream,
    ToyEdits,
    ToyScenes,
    caption,
    changed,
    draw_edit,
    draw_scene,
    negatives,
    render,
    scene_of_row,
)
from relatum.data.toy.grammar import AT, holds
from relatum.data.toy.scene import fits, grounds_of, pairs_of

RED_RING = Object("ring", "red", "large", 0.3, 0.4)
BLUE_STAR = Object("star", "blue", "small", 0.75, 0.6)
SCENE = Scene((RED_RING, BLUE_STAR), Ground("beige", "dots"))


def drawn_edits(count: int, kind: str, seed: int = 0) -> Iterator[Edit]:
    rows = ToyEdits(count=count, seed=seed, kinds=(kind,)).rows()
    for row in rows:
        yield Edit(kind, row.texts["instruction"], scene_of_row(row, "source"), scene_of_row(row), *objects_of(row))


def objects_of(row: Row) -> list[tuple[Object, ...]]:
    return [tuple(Object(**o) for o in row.facts[side]) for side in ("before", "after")]


def test_rendering_golden() -> None:
    """The bits of one scene with a texture, at 32 px: when they change on purpose, raise RENDERER so that caches notice."""
    eight_bit = ((render(SCENE, 32) + 1) * 127.5).round().to(torch.uint8)
    assert hashlib.sha256(eight_bit.numpy().tobytes()).hexdigest()[:16] == "b69ac9cb62a28964"
    assert SCENE.digest() == "b8011b304f6003c447302343d98cd66d"


def test_row_golden_and_independent_of_the_others() -> None:
    row = ToyEdits(split="test", count=18).rows()[17]
    again = ToyEdits(split="test", count=3_000_000).rows()[17]
    assert row == again
    assert row.id == "toy-test-0-17"
    assert row.texts == {
        "instruction": "shift the triangle to the left",
        "source": "a large red triangle on the right and a small yellow cross at the bottom on a light gray ground",
        "target": "a large red triangle on the left and a small yellow cross at the bottom on a light gray ground",
    }
    assert ToyEdits(split="test", seed=1, count=18).rows()[17].facts != row.facts
    assert ToyEdits(split="train", count=18).rows()[17].facts != row.facts


def test_rows_are_a_lazy_sequence() -> None:
    rows = ToyEdits(count=10**9).rows()
    assert len(rows) == 10**9
    assert rows[-1].id == "toy-train-0-999999999"
    assert [r.id for r in rows[2:4]] == ["toy-train-0-2", "toy-train-0-3"]
    with pytest.raises(IndexError):
        rows[10**9]


def test_coverage_by_hand() -> None:
    """A large square's half side is 0.88 * 0.2 = 0.176: at 50 px, centered at 0.5, it covers pixels 16.2 to 33.8.

    Of pixel 16's points (16.125, 16.375, 16.625, 16.875) 3 of 4 are inside along a side, 9 of 16 at a corner. Red's first channel
    is 222, black's 16: 16 + 206 * 3/4 = 170.5.
    """
    pixels = (render(Scene((Object("square", "red", "large", 0.5, 0.5),), Ground("black")), 50) + 1) * 127.5
    assert pixels[0, 25, 25] == pytest.approx(222, abs=1e-3)
    assert pixels[0, 25, 15] == pytest.approx(16, abs=1e-3)
    assert pixels[0, 25, 16] == pytest.approx(170.5, abs=1e-3)
    assert pixels[0, 16, 16] == pytest.approx(16 + 206 * 9 / 16, abs=1e-3)


def test_sizes_agree() -> None:
    """The 64 px rendering, averaged over 2 x 2, is the 32 px one up to the finer grid's counting."""
    for row in ToyScenes(count=20, seed=3).rows():
        image = row.images["target"]
        halved = torch.nn.functional.avg_pool2d(image.pixels(64)[None], 2)[0]
        assert (halved - image.pixels(32)).abs().mean() < 0.01


@pytest.mark.parametrize("kind", KINDS)
def test_edits(kind: str) -> None:
    """Masks are exact, objects are told apart and lie free, the target differs, and facts survive JSON's types."""
    for edit in drawn_edits(60, kind):
        assert edit.source != edit.target
        before, after, mask = render(edit.source, 32), render(edit.target, 32), changed(edit.source, edit.target, 32)
        differs = (before != after).any(0, keepdim=True)
        assert set(mask.unique().tolist()) <= {0.0, 1.0}
        assert differs.any()
        assert not (differs & (mask == 0)).any()
        for scene in (edit.source, edit.target):
            pairs = [o.pair for o in scene.objects]
            assert len(set(pairs)) == len(pairs) <= 3
            assert not HELD_OUT.intersection(pairs)
            assert all(fits(o, [p for p in scene.objects if p != o]) for o in scene.objects)
        kept = [o for o in edit.source.objects if o not in edit.before]
        assert [o for o in edit.target.objects if o not in edit.after] == kept
        assert (edit.source.ground != edit.target.ground) == (kind == "ground")


def test_mask_leaves_out_what_stays() -> None:
    """Recoloring marks that object's pixels and no others; a new ground marks all but the whole pixels of the objects."""
    ring, star = (render(Scene((o,), Ground("white")), 48) != render(Scene((), Ground("white")), 48) for o in SCENE.objects)
    other = Scene((Object("ring", "pink", "large", 0.3, 0.4), BLUE_STAR), SCENE.ground)
    assert torch.equal(changed(SCENE, other, 48)[0] > 0, ring.any(0))
    mask = changed(SCENE, Scene(SCENE.objects, Ground("slate")), 48)[0]
    assert mask[~(ring.any(0) | star.any(0))].all()
    assert mask[round(0.6 * 48), round(0.75 * 48)] == 0


def test_instruction_decides_target() -> None:
    """All edits that can be drawn of a source: one instruction never leads to two targets."""
    pairs, grounds = pairs_of(held_out=True), grounds_of("both")
    seen = 0
    for seed in range(12):
        source = draw_scene(Stream(seed), 1 + seed % 3, grounds, pairs)
        targets: dict[str, Scene] = {}
        stream = Stream(1000 + seed)
        for _ in range(600):
            kind = stream.choice([k for k in KINDS if len(source.objects) > 1 or k not in ("swap", "remove")])
            edit = draw_edit(stream, source, kind, grounds, pairs)
            if edit is not None:
                seen += edit.instruction in targets
                assert set(targets.setdefault(edit.instruction, edit.target).objects) == set(edit.target.objects), edit.instruction
                assert targets[edit.instruction].ground == edit.target.ground
    assert seen > 500  # many instructions came up again


def test_references_name_one_object() -> None:
    for kind in ("recolor", "reshape", "move", "remove"):
        for edit in drawn_edits(60, kind, seed=1):
            color, shape = re.search(rf"the (?:({'|'.join(COLORS)}) )?({'|'.join(SHAPES)})", edit.instruction).groups()
            meant = [o for o in edit.source.objects if o.shape == shape and color in (None, o.color)]
            assert meant == list(edit.before), edit.instruction


def test_splits() -> None:
    train, test, held_out = (ToyEdits(split=s, count=150).rows() for s in ("train", "test", "held_out_attributes"))
    digests = [{row.images["source"].digest() for row in rows} for rows in (train, test, held_out)]
    assert len(set.union(*digests)) == 450
    for row in test:
        assert not any(o.pair in HELD_OUT for role in ("source", "target") for o in scene_of_row(row, role).objects)
    for row in held_out:
        edited = [o for side in objects_of(row) for o in side] or scene_of_row(row).objects
        assert any(o.pair in HELD_OUT for o in edited)
    for row in ToyScenes(split="held_out_attributes", count=100).rows():
        assert any(o.pair in HELD_OUT for o in scene_of_row(row).objects)


GROUNDS = {"": "plain", " striped": "stripes", " checkered": "checks", " dotted": "dots", " shaded": "gradient"}
THING = rf"(?:(small|large) )?({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"


def is_true(text: str, scene: Scene) -> bool:
    """An independent reading of captions: every thing named is there, none is missing, place, relation and ground hold."""
    head, color, adjective = re.fullmatch(rf"(.*) on an? ({'|'.join(GROUND_COLORS)})({'|'.join(GROUNDS)}) ground", text).groups()
    found = re.findall(rf"{THING}(?: ({'|'.join(sorted(AT.values(), key=len, reverse=True))}))?", head)
    named = [scene_object(scene, *words[:3]) for words in found]
    if None in named or set(named) != set(scene.objects) or Ground(color, GROUNDS[adjective]) != scene.ground:
        return False
    for word in ("left of", "right of", "above", "below"):
        if word in head and not holds(named[0], word, named[1]):
            return False
    for thing, words in zip(named, found, strict=True):
        if words[3]:
            x, y = next(PLACES[place] for place in PLACES if AT[place] == words[3])
            if max(abs(thing.x - x), abs(thing.y - y)) > 0.131:
                return False
    return True


def scene_object(scene: Scene, size: str, color: str, shape: str) -> Object | None:
    return next((o for o in scene.objects if o.pair == (shape, color) and size in ("", o.size)), None)


def test_captions_are_true_and_negatives_false() -> None:
    kinds: set[str] = set()
    for i, row in enumerate(ToyScenes(count=300, seed=2).rows()):
        scene = scene_of_row(row)
        assert is_true(row.texts["target"], scene), row.texts["target"]
        assert is_true(caption(scene, i, related=True), scene)
        for wrong, text in negatives(scene, i).items():
            kinds.add(wrong)
            assert not is_true(text, scene), (wrong, text)
            assert text != caption(scene, i, related=True)
    assert kinds == {"color", "attributes", "relation"}


def test_negatives_by_hand() -> None:
    """The ring is left of the star: 0.3 < 0.75. The false captions change the color, exchange the colors, exchange the places."""
    key = next(k for k in range(100) if caption(SCENE, k, related=True).startswith("a red ring left of a blue star on"))
    false = negatives(SCENE, key)
    assert false["attributes"] == "a blue ring left of a red star on a beige dotted ground"
    assert false["relation"] == "a red ring right of a blue star on a beige dotted ground"


def test_source_and_target_captions_share_their_wording() -> None:
    """Of a recoloring they differ by one word, and perhaps by its article."""
    for row in ToyEdits(count=40, kinds=("recolor",)).rows():
        old, new = (re.sub(r"\ban\b", "a", row.texts[role]).split() for role in ("source", "target"))
        (before,), (after,) = objects_of(row)
        differing = [(was, now) for was, now in zip(old, new, strict=True) if was != now]
        assert differing == [(before.color, after.color)]


@pytest.mark.parametrize("kind", KINDS)
def test_captions_of_an_edit_differ(kind: str) -> None:
    """Also where an object moves and nothing else changes: the text's direction is never zero."""
    for row in ToyEdits(count=60, seed=4, kinds=(kind,)).rows():
        assert row.texts["source"] != row.texts["target"]
        assert is_true(row.texts["source"], scene_of_row(row, "source"))
        assert is_true(row.texts["target"], scene_of_row(row))


def test_grounds_setting() -> None:
    for which, plain in (("plain", {True}), ("textured", {False}), ("both", {True, False})):
        rows = ToyEdits(count=40, grounds=which).rows()
        assert {scene_of_row(r, "source").ground.texture == "plain" for r in rows} == plain


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split": "dev"}, "data.split: found 'dev', expected one of"),
        ({"kinds": ["recolour"]}, "did you mean 'recolor'"),
        ({"kinds": []}, "kinds: found none"),
        ({"count": 0}, "count: found 0"),
        ({"max_objects": 4}, "max_objects: found 4"),
        ({"max_objects": 1}, "needs 2"),
        ({"colour": "red"}, "no setting 'colour'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(message)):
        reader.build({"kind": "toy", **settings}, "data")


def test_one_object_scenes_can_be_edited() -> None:
    built = reader.build({"kind": "toy", "max_objects": 1, "kinds": ["recolor", "reshape", "move", "ground"], "count": 20}, "data")
    assert all(len(scene_of_row(row, role).objects) == 1 for row in built.rows() for role in ("source", "target"))
    assert built.skipped == []
