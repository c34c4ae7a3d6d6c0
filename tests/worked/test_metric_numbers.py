"""One number a metric, worked by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.core.registry import metric
from relatum.metrics import Samples, directional_similarity, frechet_distance, kernel_distance, psnr, ssim, wilson
from relatum.metrics.base import MeanMetric
from relatum.metrics.distance import frechet_jackknife, frechet_null_permuted, kernel_distance_subsets
from relatum.metrics.oracle import Seen
from relatum.metrics.pixels import same_images


def build(name: str, **settings: Any) -> Any:
    return metric.build({"kind": name, **settings}, f"evaluate.{name}")


def flat(*values: float, size: int = 1) -> Tensor:
    """One gray image a value."""
    return torch.tensor(values, dtype=torch.float32)[:, None, None, None].expand(-1, 3, size, size).clone()


def after(made: MeanMetric, samples: Samples) -> dict[str, float]:
    made.update(samples)
    return made.scores


def features(**sides: Sequence[Sequence[float]]) -> dict[str, Tensor]:
    return {f"clip:{side.replace('__', ':')}": torch.tensor(rows) for side, rows in sides.items()}


def test_frechet_distance_in_two_dimensions() -> None:
    """x = (0,0), (2,0), (0,4), (2,4): mean (1,2), ddof 1: diag(4/3, 16/3). y = (3,2), (9,2), (3,3), (9,3): mean (6,2.5),
    diag(12, 1/3). Both diagonal: 25 + .25 + (4/3 + 16/3 + 12 + 1/3) - 2(√16 + √(16/9)) = 25.25 + 19 - 2(4 + 4/3) = 33.58333."""
    x = np.array([[0, 0], [2, 0], [0, 4], [2, 4]])
    y = np.array([[3, 2], [9, 2], [3, 3], [9, 3]])
    assert frechet_distance(x, y) == pytest.approx(33 + 7 / 12, rel=1e-12)


def test_frechet_distance_with_fewer_samples_than_features() -> None:
    """x = ±(1,0,0), y = ±(3,4,0)/5·2: Σx = 2·e1e1ᵀ, Σy = 2·vvᵀ with v = (1.2, 1.6, 0), |v|² = 4. tr = 2 + 8; the root of the
    rank-one product: √(2·2·(e1·v)²) = 2·1.2. So 10 - 2·2.4 = 5.2."""
    assert frechet_distance([[1, 0, 0], [-1, 0, 0]], [[1.2, 1.6, 0], [-1.2, -1.6, 0]]) == pytest.approx(5.2, rel=1e-12)


def test_kernel_distance_in_two_dimensions() -> None:
    """d = 2. xx: (1,0)·(1,2) = 1: 1.5³ = 3.375. yy: (0,2)·(4,2) = 4: 3³ = 27. xy: (1,0)·(0,2) = 0: 1; (1,0)·(4,2) = 4: 27;
    (1,2)·(0,2) = 4: 27; (1,2)·(4,2) = 8: 125; mean 45. 3.375 + 27 - 90 = -59.625: negative and not clamped."""
    assert kernel_distance([[1, 0], [1, 2]], [[0, 2], [4, 2]]) == pytest.approx(-59.625, rel=1e-12)


def test_directional_similarity() -> None:
    """Unit: image (1,0) to (0,1): (-1,1); text (0,1) to (.6,.8): (.6,-.2). cos = (-.6 - .2)/(√2·√.4) = -.8/.894427 = -.894427.
    Without scaling the image (5,0) to (0,1) would give (-3 - .2)/(√26·√.4) = -.992. The second image does not change: NaN."""
    value = directional_similarity([[5.0, 0], [1, 1]], [[0.0, 1], [3, 3]], [[0.0, 2], [0, 1]], [[3.0, 4], [1, 0]])
    assert value[0].item() == pytest.approx(-0.894427, abs=1e-6)
    assert math.isnan(value[1])
    arrays = [np.array([[1.0, 2.0]]), np.array([[2.0, 1.0]])] * 2
    assert isinstance(directional_similarity(*arrays), np.ndarray)
    with pytest.raises(DataError, match="must have one shape"):
        directional_similarity(np.eye(2), np.eye(2), np.eye(2), np.eye(3))


def test_psnr() -> None:
    """Constant error .2 on a range of 2: 10 log10(4/.04) = 20 dB. Equal images: infinite; the metric counts 100."""
    assert psnr(flat(0.1, 0.3), flat(0.3, 0.3)).tolist() == pytest.approx([20.0, math.inf], rel=1e-5)
    made = build("psnr")
    assert after(made, Samples(["a", "b"], {"generated": flat(0.1, 0.3), "target": flat(0.3, 0.3)})) == pytest.approx(
        {"a": 20, "b": 100}
    )
    assert made.compute().value == pytest.approx(60)


def test_ssim_of_flat_images() -> None:
    """Without variance only the means count: (2·.5·.1 + c1)/(.25 + .01 + c1), c1 = (.01·2)² = .0004: .1004/.2604 = .385561."""
    assert ssim(flat(0.5, size=12), flat(0.1, size=12)).item() == pytest.approx(0.385561, abs=1e-5)
    with pytest.raises(ShapeError, match="larger than 5"):
        ssim(flat(0.5, size=5), flat(0.1, size=5))


def test_featdist() -> None:
    """(3,-1) and (0,3): √((9 + 16)/2) = 3.535534."""
    samples = Samples(
        ["a"], features={"tinyconv:generated": torch.tensor([[3.0, -1]]), "tinyconv:target": torch.tensor([[0.0, 3]])}
    )
    assert after(build("featdist"), samples) == pytest.approx({"a": 3.535534})


def test_clip_sim_has_three_rows() -> None:
    """Prompt (3,4)/5. generated (1,0): 60; source (0,-2): -80, not clamped; target (6,8): 100."""
    made = build("clip_sim")
    rows = features(
        generated=[[1.0, 0]], source=[[0.0, -2]], target=[[6.0, 8]], text__target=[[3.0, 4]], text__instruction=[[0.0, 1]]
    )
    assert after(made, Samples(["a"], features=rows)) == pytest.approx({"a": 60})
    assert made.also["source"] == pytest.approx({"a": -80})
    assert made.also["target"] == pytest.approx({"a": 100})
    assert after(build("clip_sim", text="instruction"), Samples(["a"], features=rows)) == pytest.approx({"a": 0})


def test_clip_dir_counts_undefined_samples() -> None:
    """First: as in test_directional_similarity. Second: the model copied; counted, not averaged. sim_image: 0 and 1."""
    made = build("clip_dir")
    rows = features(
        source=[[5.0, 0], [1, 1]], generated=[[0.0, 1], [3, 3]], text__source=[[0.0, 2]] * 2, text__target=[[3.0, 4]] * 2
    )
    made.update(Samples(["a", "b"], features=rows))
    estimate = made.compute()
    assert estimate.value == pytest.approx(-0.894427, abs=1e-6)
    assert (estimate.n, estimate.stderr, estimate.note) == (1, None, "1 of 2 undefined")
    assert made.also["sim_image"] == pytest.approx({"a": 0, "b": 1})


def region(size: int = 12) -> Tensor:
    """The right third of one image may change."""
    mask = torch.zeros(1, 1, size, size)
    mask[..., 8:] = 1
    return mask


def test_coherence_looks_outside_the_region() -> None:
    """Flat .5 against .1 where nothing may change: .385561 as for SSIM, whatever happens inside. Inside, generated is the source
    (+0) and the target asks for 1: copied. A second image keeps the outside and makes half the change, .25 of it squared: not."""
    source = flat(0.5, 0.5, size=12)
    generated, target = source.clone(), source.clone()
    generated[0, ..., :8], target[..., 8:] = 0.1, -0.5
    generated[1, ..., 8:] = 0.0
    made = build("coherence")
    masks = {"changed": region().expand(2, -1, -1, -1)}
    scores = after(made, Samples(["a", "b"], {"generated": generated, "source": source, "target": target}, masks))
    assert scores == pytest.approx({"a": 0.385561, "b": 1.0}, abs=1e-4)
    assert made.also["copied"] == {"a": 1.0, "b": 0.0}


def test_region_from_source_and_target_where_no_mask_is_given() -> None:
    """The same region, from where source and target differ by more than .1 in some channel."""
    source = flat(0.5, size=12)
    target, generated = source.clone(), source.clone()
    target[..., 8:], generated[..., :8] = -0.5, 0.1
    made = build("coherence")
    assert after(made, Samples(["a"], {"generated": generated, "source": source, "target": target})) == pytest.approx(
        {"a": 0.385561}, abs=1e-4
    )
    with pytest.raises(DataError, match='masks "changed"'):
        made.update(Samples(["a"], {"generated": generated, "source": source}))


def test_edit_accuracy_inside_the_region() -> None:
    """Inside, source 0 and target .8: copying errs .64. Generated .5: .09/.64 = .140625 < .25, right. Generated .3: .25/.64 =
    .390625, wrong. Generated -1 outside does not matter. A third sample asks for nothing: undefined."""
    source, target, generated = flat(0, 0, 0, size=12), flat(0, 0, 0, size=12), flat(-1, -1, -1, size=12)
    target[:2, ..., 8:] = 0.8
    generated[0, ..., 8:], generated[1, ..., 8:] = 0.5, 0.3
    made = build("edit_accuracy")
    masks = {"changed": region().expand(3, -1, -1, -1)}
    made.update(Samples(["a", "b", "c"], {"generated": generated, "source": source, "target": target}, masks))
    assert made.scores["a"] == 1
    assert made.scores["b"] == 0
    assert math.isnan(made.scores["c"])
    assert made.also["error"]["a"] == pytest.approx(0.140625)
    assert made.also["error"]["b"] == pytest.approx(0.390625)
    assert made.compute().value == 0.5
    assert made.compute().n == 2


def test_preservation_outside_the_region() -> None:
    """Half of the outside (4 of 8 columns) is off by .2: mse .02, 10 log10(4/.02) = 23.0103 dB."""
    source = flat(0.0, size=12)
    generated = source.clone()
    generated[..., :4], generated[..., 8:] = 0.2, 1.0
    made = build("preservation")
    assert after(made, Samples(["a"], {"generated": generated, "source": source}, {"changed": region()})) == pytest.approx(
        {"a": 23.0103}, abs=1e-3
    )
    assert made.also["mse"] == pytest.approx({"a": 0.02})


class Thing:
    def __init__(self, shape: str, color: str, x: float, y: float) -> None:
        self.shape, self.color, self.x, self.y = shape, color, x, y


def scene(*things: tuple[str, str, float, float]) -> Mapping[str, Any]:
    return {"scene_target": {"objects": [dict(zip(("shape", "color", "x", "y"), thing, strict=True)) for thing in things]}}


def with_eye(name: str, *seen: Thing) -> Any:
    def eye(pixels: Tensor) -> Sequence[Seen]:
        return seen

    made = build(name)
    made.eye = eye
    return made


THREE = scene(("circle", "red", 0.2, 0.2), ("square", "blue", 0.7, 0.25), ("star", "green", 0.25, 0.8))


def test_attribute_accuracy() -> None:
    """Of three objects the circle and the square are seen, the star in another color: 2/3, not exact. The blue square
    is seen twice: a second reading does not help."""
    seen = (
        Thing("circle", "red", 0.2, 0.2),
        Thing("square", "blue", 0.1, 0.2),
        Thing("square", "blue", 0.7, 0.2),
        Thing("star", "red", 0.2, 0.8),
    )
    made = with_eye("attribute_accuracy", *seen)
    assert after(made, Samples(["a"], {"generated": flat(0, size=32)}, facts=[THREE])) == pytest.approx({"a": 2 / 3})
    assert made.also["exact"] == {"a": 0.0}


def test_relation_accuracy() -> None:
    """Pairs at least .15 apart: circle–square in x (.5); circle–star in y (.6); square–star in x (.45) and in y (.55): 4 relations.
    Seen: circle and square swapped in x, star in place: circle–square x wrong, circle–star y right, square (.2) – star (.25) x:
    should be left to right negative, is positive: wrong; y right. 2/4."""
    seen = (Thing("circle", "red", 0.7, 0.2), Thing("square", "blue", 0.2, 0.25), Thing("star", "green", 0.25, 0.8))
    samples = Samples(["a"], {"generated": flat(0, size=32)}, facts=[THREE])
    assert after(with_eye("relation_accuracy", *seen), samples) == {"a": 0.5}
    assert after(with_eye("relation_accuracy", *seen[:1]), samples) == {"a": 0.0}
    with pytest.raises(RecipeError, match="no eye"):
        build("relation_accuracy").update(samples)


def test_wilson() -> None:
    """k = 2 of 8, z = 1.96, z² = 3.8416: center (.25 + .2401)/1.4802 = .33110, half 1.96·√(.1875/8 + 3.8416/256)/1.4802 =
    1.96·√(.0234375 + .01500625)/1.4802 = .25962."""
    assert wilson(2, 8) == pytest.approx((0.07148, 0.59072), abs=1e-4)
    assert wilson(1, 4) == pytest.approx(tuple(stats.binomtest(1, 4).proportion_ci(method="wilson")), rel=1e-6)
    assert wilson(0, 10)[0] == 0
    with pytest.raises(ValueError, match="n > 0"):
        wilson(0, 0)


def test_safety_rate_flags_and_leaves_the_pixels() -> None:
    """Two of four images are bright: .5, Wilson .1500 to .8500. The checker blackens what it gets: our pixels stay."""

    def blackens(pixels: Tensor) -> list[bool]:
        flags = (pixels.mean((1, 2, 3)) > 0).tolist()
        pixels[:] = -1
        return flags

    made, pixels = build("safety_rate"), flat(0.5, -0.5, 0.25, -0.25)
    made.checker = blackens
    made.update(Samples(["a", "b", "c", "d"], {"generated": pixels}))
    assert made.compute().value == 0.5
    assert "2 of 4 flagged, 95 % interval 0.1500 to 0.8500" in made.compute().note
    assert (made.compute().low, made.compute().high) == (pytest.approx(0.15004, abs=1e-5), pytest.approx(0.84996, abs=1e-5))
    assert torch.equal(pixels, flat(0.5, -0.5, 0.25, -0.25))


def test_safety_rate_without_a_checker_is_not_measured() -> None:
    made = build("safety_rate")
    made.update(Samples(["a"], {"generated": flat(0.5)}))
    assert math.isnan(made.compute().value)
    assert "not measured" in made.compute().note


def test_settings_that_measure_nothing_are_refused() -> None:
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)).double().numpy()
    with pytest.raises(DataError, match="values up to 1e\\+80"):
        frechet_distance(x, x * 0 + 1e80)
    with pytest.raises(DataError, match="complex"):
        frechet_distance(x, torch.zeros(4, 2, dtype=torch.complex64))
    with pytest.raises(DataError, match="complex"):
        kernel_distance(x, x + 1j)
    for subsets, size in ((1, 4), (4, 1)):
        with pytest.raises(DataError, match=f"found {subsets} subsets of {size}"):
            kernel_distance_subsets(x, x, subsets, size)
    with pytest.raises(DataError, match="permutations: found 0"):
        frechet_null_permuted(x, x, 0)
    with pytest.raises(DataError, match="groups: found 1"):
        frechet_jackknife(x, x, 1)


def test_pixel_metrics_refuse_what_is_no_batch_or_no_window() -> None:
    image = flat(0.5, size=12)
    with pytest.raises(ShapeError, match=r"found \(3, 12, 12\) and \(3, 12, 12\); one image is image\[None\]"):
        same_images(image[0], image[0])
    with pytest.raises(DataError, match="data_range: found 0"):
        psnr(image, image, 0.0)
    with pytest.raises(DataError, match="window: found -1"):
        ssim(image, image, window=-1)
    with pytest.raises(DataError, match="sigma: found 0"):
        ssim(image, image, sigma=0.0)
