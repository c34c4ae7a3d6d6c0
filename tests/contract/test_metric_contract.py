"""Every metric, also one added tomorrow, keeps this contract. Metrics are found by their registration."""

from __future__ import annotations

import copy
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

import relatum.metrics  # noqa: F401  registers them
from relatum.core.errors import RecipeError
from relatum.core.registry import metric
from relatum.metrics import Estimate, Metric, Samples
from support.settings import alternatives

NAMES = sorted(metric.classes)
COUNT = 24
FRAMES = 10
CHANGES_NOTHING_HERE = {
    ("safety_rate", "checker_path"): "a checker is set, so no path is opened",
    ("fd_null", "permutations"): 'only by = "permutation"', ("fd_null", "seed"): 'only by = "permutation"',
}  # fmt: skip
TOGETHER: list[tuple[str, dict[str, Any], str, Any]] = [
    ("fd_null", {"by": "permutation"}, "permutations", 7),
    ("fd_null", {"by": "permutation"}, "seed", 1),
]


@dataclass(frozen=True)
class Thing:
    shape: str
    color: str
    x: float
    y: float


def make_samples(count: int = COUNT) -> Samples:
    g = torch.Generator().manual_seed(0)
    source = torch.rand(count, 3, 32, 32, generator=g) * 1.6 - 0.8
    mask = torch.zeros(count, 1, 32, 32)
    mask[..., 18:28, 2:12] = 1
    # Asked for strong and weak changes beside and inside the given region, so that thresholds matter where no mask is given.
    target = (source + mask * torch.linspace(-0.5, 0.9, count)[:, None, None, None]).clamp(-1, 1)
    amount = torch.rand(count, 1, 1, 1, generator=g) * 1.2
    noise = torch.randn(source.shape, generator=g) * torch.linspace(0.01, 0.2, count)[:, None, None, None]
    generated = (source + amount * (target - source) + noise).clamp(-1, 1)
    sides = ("generated", "target", "source", "text:target", "text:source", "text:instruction")
    features = {
        f"{name}:{side}": torch.randn(count, 5, generator=g) + 0.1 * i + 0.3 * j
        for i, name in enumerate(("tinyconv", "clip", "other"))
        for j, side in enumerate(sides)
    }
    for name in ("tinyconv", "clip", "other"):
        for side in ("generated", "target"):
            features[f"{name}:frames:{side}"] = features[f"{name}:{side}"][:, None] + torch.randn(count, FRAMES, 5, generator=g)
            features[f"{name}:clips:{side}"] = features[f"{name}:frames:{side}"].mean(1)
    facts = [{f"scene_{side}": {"objects": scene(i, side)} for side in ("source", "target")} for i in range(count)]
    for i, told in enumerate(facts):
        told["scenes"] = [{"objects": moved(i, k)} for k in range(FRAMES)]
        told["motion"] = {"velocities": [[0.1, 0.0], [0.0, 0.0]]}
    texts = {side: [f"{side} {i}" for i in range(count)] for side in ("instruction", "source", "target")}
    pixels = {"generated": generated, "source": source, "target": target}
    ids = [f"s{i:02}" for i in range(count)]
    return Samples(ids, pixels, {"changed": mask}, texts, features, facts, *make_videos(count, g))


def make_videos(count: int, g: torch.Generator) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The target is a texture that slides by 0 to 2 px a frame; the generated one slides at another speed and flickers."""
    texture = functional.avg_pool2d(torch.randn(count, 3, 64, 64, generator=g), 5, 1, 2) * 1.5
    speeds = torch.linspace(0, 2, count)

    def slide(video: Tensor, speed: float) -> Tensor:
        starts = [round(speed * k) for k in range(FRAMES)]
        return torch.stack([video[:, :32, start : start + 32] for start in starts], 1)

    target = torch.stack([slide(t, float(s)) for t, s in zip(texture, speeds, strict=True)]).clamp(-1, 1)
    generated = torch.stack([slide(t, float(s)) for t, s in zip(texture, speeds.flip(0), strict=True)])
    flicker = torch.randn(count, 1, FRAMES, 1, 1, generator=g) * torch.linspace(0.01, 0.2, count)[:, None, None, None, None]
    flow = torch.zeros(count, 2, FRAMES - 1, 32, 32)
    flow[:, 0] = -speeds[:, None, None, None]
    return {"generated": (generated + flicker).clamp(-1, 1), "target": target}, {"target": flow}


def moved(i: int, frame: int) -> list[dict[str, Any]]:
    """Scenes in which the circle creeps and becomes something else at some frame; the star never has the color that `eye` sees."""
    first = {"shape": "circle" if frame <= 1 + i % 6 else "square", "color": "red", "x": 0.2 + 0.006 * frame, "y": 0.3}
    return [first, {"shape": "star", "color": "green", "x": 0.36, "y": 0.32}]


def scene(i: int, side: str) -> list[dict[str, Any]]:
    first = {"shape": "circle", "color": "red", "x": 0.2, "y": 0.3}
    second = {"shape": "star", "color": "blue" if side == "target" or i % 3 else "green", "x": 0.36 + 0.02 * (i % 5), "y": 0.32}
    return [first, second]


def eye(pixels: Tensor) -> Sequence[Thing]:
    """Sees both objects of the target, one in bright images; the second one misplaced in dark ones, the first a little off."""
    level = pixels.mean().item()
    far = 0.4 if level > -0.01 else 0.1
    return [Thing("circle", "red", 0.2 + 0.2 * level, 0.3 + 0.1 * level), Thing("star", "blue", far, 0.3)][
        : 2 if level < 0.05 else 1
    ]


def checker(pixels: Tensor) -> list[bool]:
    flags = (pixels.mean((1, 2, 3)) > 0).tolist()
    pixels.zero_()  # what a checker does to its own copy must not matter
    return flags


def build(name: str, settings: dict[str, Any] | None = None) -> Metric:
    made = metric.build({"kind": name, **(settings or {})}, f"evaluate.{name}")
    for part, value in (("eye", eye), ("checker", checker)):
        if hasattr(made, part):
            setattr(made, part, value)
    return made


def take(samples: Samples, index: Sequence[int]) -> Samples:
    i = list(index)

    def some(table: Any) -> dict[str, Any]:
        return {k: v[i] if isinstance(v, Tensor) else [v[j] for j in i] for k, v in table.items()}

    return Samples(
        [samples.ids[j] for j in i], some(samples.pixels), some(samples.masks), some(samples.texts), some(samples.features),
        [samples.facts[j] for j in i], some(samples.videos), some(samples.flows),
    )  # fmt: skip


def result(made: Metric, *pieces: Samples) -> tuple[Any, ...]:
    for piece in pieces:
        made.update(piece)
    also = getattr(made, "also", {})
    return made.compute(), {name: dict(sorted(scores.items())) for name, scores in also.items()}


def same(a: tuple[Any, ...], b: tuple[Any, ...]) -> bool:
    def flat(value: Any) -> list[Any]:
        if isinstance(value, Estimate):
            return [value.value, value.stderr, value.n, value.note]
        return [value]

    x, y = repr([flat(v) for v in a]), repr([flat(v) for v in b])
    return x == y


def test_those_of_the_specification_are_registered() -> None:
    assert {
        "fd", "fd_null", "fd_debiased", "kd", "psnr", "ssim", "featdist", "clip_sim", "clip_dir", "coherence", "edit_accuracy",
        "preservation", "attribute_accuracy", "relation_accuracy", "safety_rate", "flicker", "warp_error", "vb_flicker",
        "vb_smooth", "vb_dynamic", "vb_subject", "pixel_spectrum", "motion", "drift",
    } <= set(NAMES)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_gives_a_number_that_knows_its_n(name: str) -> None:
    made = build(name)
    assert isinstance(made, Metric)
    assert made.better in ("higher", "lower")
    estimate = result(made, make_samples())[0]
    assert math.isfinite(estimate.value)
    assert 0 < estimate.n <= COUNT
    assert estimate.stderr is None or estimate.stderr > 0


@pytest.mark.parametrize("name", NAMES)
def test_needs_are_names_of_samples(name: str) -> None:
    """And nothing but needs is needed: with only those it still computes."""
    made, full = build(name), make_samples()
    keep: dict[str, dict[str, Any]] = {"pixels": {}, "masks": {}, "texts": {}, "features": {}, "videos": {}, "flows": {}}
    for need in made.needs:
        kind, _, what = need.partition(":")
        if kind != "facts":
            keep[kind][what] = getattr(full, kind)[what]
    if name in ("coherence", "preservation"):  # a region is needed, in either of two forms
        keep["masks"] = dict(full.masks)
    assert math.isfinite(result(made, Samples(full.ids, **keep, facts=full.facts))[0].value)


@pytest.mark.parametrize("name", NAMES)
def test_merged_shards_are_one_pass(name: str) -> None:
    samples = make_samples()
    whole = result(build(name), samples)
    for cuts in ([range(0, 24)], [range(20, 24), range(0, 1), range(1, 20)]):
        merged = build(name)
        for cut in cuts:
            part = build(name)
            part.update(take(samples, cut))
            merged.merge(part)
        assert_near(result(merged), whole)


def assert_near(a: tuple[Any, ...], b: tuple[Any, ...]) -> None:
    assert (a[0].n, a[0].note) == (b[0].n, b[0].note)
    assert a[0].value == pytest.approx(b[0].value, rel=1e-5, abs=1e-6, nan_ok=True)
    assert (a[0].stderr is None) == (b[0].stderr is None)
    assert a[0].stderr is None or a[0].stderr == pytest.approx(b[0].stderr, rel=1e-5, abs=1e-6)
    assert a[1].keys() == b[1].keys()
    for name in a[1]:
        assert a[1][name] == pytest.approx(b[1][name], rel=1e-5, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_order_does_not_matter_and_twice_is_once(name: str) -> None:
    samples = make_samples()
    once = result(build(name), samples)
    backwards = take(samples, range(COUNT - 1, -1, -1))
    assert_near(result(build(name), backwards), once)
    made = build(name)
    assert same(result(made, samples), once)
    assert same(result(made), once)
    assert_near(result(made, backwards), once)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_untouched(name: str) -> None:
    samples = make_samples()
    before = copy.deepcopy(samples)
    result(build(name), samples)
    for part in ("pixels", "masks", "features", "videos", "flows"):
        for key, tensor in getattr(before, part).items():
            assert torch.equal(getattr(samples, part)[key], tensor), f"{part}:{key}"


@pytest.mark.parametrize("name", NAMES)
def test_samples_matter(name: str) -> None:
    samples = make_samples()
    assert not same(result(build(name), samples), result(build(name), take(samples, range(5, 17))))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_changes_something(name: str) -> None:
    cls = metric.classes[name]
    samples = make_samples()
    unmasked = dataclasses.replace(samples, masks={})
    base = [repr_of(name, {}, s) for s in (samples, unmasked)]
    for setting in dataclasses.fields(cls):
        if not setting.init or (name, setting.name) in CHANGES_NOTHING_HERE:
            continue
        values = ["other"] if setting.name in ("extractor", "clip") else alternatives(cls, setting.name, setting.default)
        values = {"window": [9]}.get(setting.name, values)  # a window is odd
        assert any(_changes(name, {setting.name: v}, (samples, unmasked), base) for v in values), f"{name}.{setting.name}"


def _changes(name: str, settings: dict[str, Any], inputs: tuple[Samples, ...], base: list[str]) -> bool:
    try:
        return [repr_of(name, settings, s) for s in inputs] != base
    except (RecipeError, ValueError):
        return False


def repr_of(name: str, settings: dict[str, Any], samples: Samples) -> str:
    made = build(name, settings)
    return repr(result(made, samples))


@pytest.mark.parametrize(("name", "settings", "changed", "value"), TOGETHER)
def test_settings_that_need_another(name: str, settings: dict[str, Any], changed: str, value: Any) -> None:
    samples = make_samples()
    assert repr_of(name, settings, samples) != repr_of(name, {**settings, changed: value}, samples)


@pytest.mark.parametrize("name", NAMES)
def test_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(RecipeError, match="no setting 'colour'"):
        metric.build({"kind": name, "colour": 1}, "evaluate.x")


@pytest.mark.parametrize("name", NAMES)
def test_nothing_seen_is_no_number(name: str) -> None:
    estimate = build(name).compute()
    assert math.isnan(estimate.value)
    assert estimate.n == 0
    assert estimate.note
