"""What a rollout loses by step: statistics of frames, slopes and losses, by hand."""

from __future__ import annotations

import importlib.util
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from relatum.core.errors import DataError, ShapeError
from relatum.imaging import save_png
from relatum.metrics import Evaluator, Samples
from relatum.metrics.drift import Drift, correlation, drift_series, loss, noise, rate, sharpness, trend, wear
from relatum.metrics.evaluate import build_metrics

NAN = math.nan


def picture(seed: int, size: int = 32) -> Tensor:
    return torch.rand(3, size, size, generator=torch.Generator().manual_seed(seed)) * 1.6 - 0.8


def still(frames: int, seed: int = 0, size: int = 32) -> Tensor:
    return picture(seed, size).expand(frames, 3, size, size).contiguous()


def blurred(frame: Tensor) -> Tensor:
    return avg_pool2d(pad(frame[None], (1, 1, 1, 1), mode="circular"), 3, 1)[0]


def wearing(frames: int, step: Any, seed: int = 0, first: Tensor | None = None) -> Tensor:
    """Each frame made from the last by `step`, as a rollout does."""
    made = [picture(seed) if first is None else first]
    for _ in range(frames - 1):
        made.append(step(made[-1]))
    return torch.stack(made)


def videos(*of: Tensor, target: Tensor | None = None) -> Samples:
    given = {"generated": torch.stack(of).movedim(1, 2)}
    if target is not None:
        given["target"] = target.movedim(1, 2)
    return Samples([f"v{i}" for i in range(len(of))], videos=given)


def read(*of: Tensor, target: Tensor | None = None) -> Drift:
    made = Drift()
    made.update(videos(*of, target=target))
    return made


def test_sharpness_is_the_share_of_energy_above_a_quarter_of_the_sampling_rate() -> None:
    """2 cos(2π y/8) + cos(2π 3y/8): 1/8 lies below .25 cycles a pixel, 3/8 above; energies 4 and 1, share 1/5."""
    y = torch.arange(32.0)[None, None, :, None].expand(1, 3, 32, 24)
    waves = (2 * torch.cos(2 * math.pi * y / 8) + torch.cos(2 * math.pi * 3 * y / 8)) / 4
    assert sharpness(waves).item() == pytest.approx(0.2, abs=1e-6)
    assert sharpness(waves * 0.1 + 0.6).item() == pytest.approx(0.2, abs=1e-5)
    assert math.isnan(sharpness(torch.full((1, 3, 16, 16), 0.3)).item())


def test_sharpness_counts_diagonals_by_their_true_frequency() -> None:
    """cos(2π (x + y) 13/64): 13/64 = .203 along each axis, √2 · 13/64 = .287 along the diagonal: above a quarter."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
    diagonal, straight = (torch.cos(2 * math.pi * phase * 13 / 64) for phase in (x + y, x))
    assert sharpness(diagonal.expand(1, 3, 64, 64)).item() == pytest.approx(1)
    assert sharpness(straight.expand(1, 3, 64, 64)).item() == pytest.approx(0, abs=1e-9)


def test_noise_is_the_deviation_of_white_noise_and_blind_to_ramps_and_edges() -> None:
    y, x = torch.meshgrid(torch.linspace(-0.4, 0.4, 96), torch.linspace(-0.3, 0.3, 96), indexing="ij")
    scene = (y + x + (x > 0.1) * 0.3).expand(1, 3, 96, 96)
    grain = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(0)) * 0.02
    assert noise(scene).item() == pytest.approx(0, abs=1e-6)
    assert noise(scene + grain).item() == pytest.approx(0.02, rel=0.05)
    assert noise((scene + grain[:, :1]).contiguous()).item() == pytest.approx(0.02, rel=0.05)  # gray grain counts the same


def test_correlation_by_hand() -> None:
    """Rows of (0, 1, 2) against (0, 3, 0), each three channels: deviations (-1, 0, 1) and (-1, 2, -1): sum 0."""
    a, b = (torch.tensor(row).expand(1, 3, 2, 3) for row in ([0.0, 1.0, 2.0], [0.0, 3.0, 0.0]))
    assert correlation(a, b).item() == pytest.approx(0)
    assert correlation(a, a * -0.2 + 5).item() == pytest.approx(-1)
    assert math.isnan(correlation(a, torch.ones(1, 3, 2, 3)).item())


def test_a_flat_frame_has_nothing_of_the_reference_and_an_unknown_reference_says_nothing() -> None:
    p, flat, unknown = picture(0)[None], torch.full((1, 3, 32, 32), 0.4), torch.full((1, 3, 32, 32), NAN)
    found = [correlation(*pair).item() for pair in ((p, p), (flat, p), (flat, flat), (p, flat), (p, unknown), (flat, unknown))]
    assert found == pytest.approx([1, 0, NAN, NAN, NAN, NAN], nan_ok=True)


def test_a_frame_that_went_white_is_not_held() -> None:
    """From step 2 on the correlation is 0: with 1 at step 1 one half is passed at 1.5; white from step 1: at .5."""
    late, soon = still(9), still(9)
    late[2:], soon[1:] = 1.0, 1.0
    made = read(late, soon, target=still(18).reshape(2, 9, 3, 32, 32))
    for which in ("first", "truth"):
        assert made.also[f"{which}_half_life"] == pytest.approx({"v0": 1.5, "v1": 0.5})
        assert made.also[f"{which}_censored"] == {"v0": 0, "v1": 0}


def test_series_of_a_video_by_hand() -> None:
    """Frame 0 is p, frame 1 is p/2 + .1: level m/2 + .1, contrast half, squared difference mean((p/2 - .1)²); the truth: 3p/4."""
    p = picture(3, 16)
    series = drift_series(torch.stack([p, p / 2 + 0.1]), torch.stack([p, 0.75 * p]))
    assert series["mean"].tolist() == pytest.approx([p.mean().item(), p.mean().item() / 2 + 0.1], abs=1e-6)
    assert series["std"][1].item() == pytest.approx(series["std"][0].item() / 2)
    assert series["to_first"].tolist() == pytest.approx([0, (p / 2 - 0.1).square().mean().item()], rel=1e-5)
    assert series["error"].tolist() == pytest.approx([0, (0.1 - p / 4).square().mean().item()], rel=1e-5)
    assert series["like_first"].tolist() == pytest.approx([1, 1])
    assert series["sharpness"][1].item() == pytest.approx(series["sharpness"][0].item(), rel=1e-4)


def test_the_trend_of_a_tint_by_hand() -> None:
    """Red rises by .02 a frame: its slope is .02 over the given contrast s, the others stand still.

    Color: √((.02/s)²/3); the headline √(color²/4) in units of .03.
    """
    tint = torch.tensor([0.02, 0.0, 0.0])[:, None, None]
    video = wearing(6, lambda frame: frame + tint)
    red = 0.02 / video[0].std((1, 2), correction=0).mean().item()
    assert trend(drift_series(video)).tolist() == pytest.approx([0, 0, 0, red, 0, 0], abs=1e-5)
    made = read(video)
    assert made.also["color_slope"]["v0"] == pytest.approx(red / 3**0.5, rel=1e-3)
    assert made.scores["v0"] == pytest.approx(red / 3**0.5 / 2 / 0.03, rel=1e-3)
    assert made.also["jump"]["v0"] == pytest.approx(made.scores["v0"], rel=1e-3)


def test_a_dark_first_frame_does_not_blow_up_the_units() -> None:
    """From black, std 0, blue rises by .03 a frame: in units of .1 by .3."""
    rise = torch.tensor([0.0, 0.0, 0.03])[:, None, None]
    video = wearing(5, lambda frame: frame + rise, first=torch.full((3, 16, 16), -0.9))
    assert trend(drift_series(video)).tolist() == pytest.approx([0, 0, 0, 0, 0, 0.3], abs=1e-5)


def test_the_rate_by_hand() -> None:
    """.1/.05, .014/.007, -.005/.0025 and √(.03² · 3/3)/.03: 2, 2, 2, 1: √((4 + 4 + 4 + 1)/4)."""
    assert rate(torch.tensor([0.1, 0.014, -0.005, 0.03, -0.03, 0.03])).item() == pytest.approx((13 / 4) ** 0.5)


def test_a_still_video_does_not_drift() -> None:
    made = read(still(6))
    assert made.scores["v0"] == 0
    assert {what: made.also[what]["v0"] for what in ("sharpness_slope", "noise_slope", "jump", "first_half_life")} == {
        "sharpness_slope": 0, "noise_slope": 0, "jump": 0, "first_half_life": 5,
    }  # fmt: skip
    assert made.also["first_censored"]["v0"] == 1


def test_blur_noise_fading_and_contrast_are_told_apart() -> None:
    grain = torch.Generator().manual_seed(1)
    ramp = torch.linspace(-0.8, 0.8, 32).expand(3, 32, 32)
    cases = {
        "blur": wearing(6, blurred),
        "noise": wearing(6, lambda f: f + 0.05 * torch.randn(f.shape, generator=grain), first=ramp),
        "fading": wearing(6, lambda f: f * 0.8),
        "contrast": wearing(6, lambda f: f * 1.05),
    }
    also = {name: read(video).also for name, video in cases.items()}
    assert also["blur"]["sharpness_slope"]["v0"] < -0.5
    assert also["noise"]["noise_slope"]["v0"] > 0.02
    assert also["fading"]["contrast_slope"]["v0"] == pytest.approx(math.log(0.8), rel=0.05)
    assert also["contrast"]["contrast_slope"]["v0"] == pytest.approx(math.log(1.05), rel=0.05)
    assert abs(also["fading"]["sharpness_slope"]["v0"]) < 1e-3
    assert all(read(video).scores["v0"] > 0.02 for video in cases.values())


def test_more_wear_a_step_is_more_drift() -> None:
    mild = wearing(8, lambda f: 0.95 * f + 0.05 * blurred(f))
    strong = wearing(8, lambda f: 0.8 * f + 0.2 * blurred(f))
    made = read(mild, strong)
    assert 0 < made.scores["v0"] < made.scores["v1"]


def test_one_odd_frame_is_no_drift_and_the_first_step_counts_as_one_of_them() -> None:
    """What the first of 8 steps loses and the others keep is an eighth of that `jump` a step, and no slope."""
    odd = still(9)
    odd[4] = blurred(blurred(odd[4]))
    assert read(odd).scores["v0"] == pytest.approx(0, abs=1e-9)
    lossy = still(9)
    lossy[1:] = blurred(lossy[0])
    made = read(lossy)
    assert made.also["trend"]["v0"] == pytest.approx(0, abs=1e-9)
    assert made.also["jump"]["v0"] > 0.5
    assert made.scores["v0"] == pytest.approx(made.also["jump"]["v0"] / 8)


def fading(frames: int, last: int) -> Tensor:
    """Flat gray from frame `last` on."""
    return still(frames) * (1 - torch.arange(frames) / last).clamp_min(0)[:, None, None, None]


def test_wear_that_is_over_after_two_steps_by_hand() -> None:
    """White from step 2 of 8: no slope among frames 1 to 8, but contrast falls from σ to 0 in 8 steps, ln(.004/(σ + .004))/8 each;
    red rises from its mean to 1."""
    video = still(9)
    video[2:] = 1.0
    series = drift_series(video)
    given = {name: values[0].item() for name, values in series.items()}
    assert trend(series).tolist() == [0] * 6
    expected = [
        math.log(1e-4 / (given["sharpness"] + 1e-4)), math.log(0.004 / (given["std"] + 0.004)), -given["noise"] / given["std"],
        *((1 - given[channel]) / given["std"] for channel in ("red", "green", "blue")),
    ]  # fmt: skip
    assert loss(series).tolist() == pytest.approx([whole / 8 for whole in expected])
    assert wear(series).tolist() == pytest.approx([abs(whole) / 8 for whole in expected])
    made = read(video)
    assert made.scores["v0"] == pytest.approx(rate(torch.tensor(expected) / 8).item())
    assert made.also["trend"]["v0"] == made.also["jump"]["v0"] == 0


def test_the_last_quarter_counts_and_not_the_last_frame() -> None:
    """Red of 12 steps: its last three values .3, .9, .2 over a given 0.1; median .3: (.3 - .1)/12 in units of s = .5."""
    red = torch.tensor([0.1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0.3, 0.9, 0.2])
    level = torch.full((13,), 0.5)
    found = loss({"sharpness": level, "std": level, "noise": level, "red": red, "green": level, "blue": level})
    assert found.tolist() == pytest.approx([0, 0, 0, 0.2 / 12 / 0.5, 0, 0])


def test_scores_of_collapse_motion_and_stillness_lie_in_this_order() -> None:
    """White loses sharpness, contrast and the level; gray within 3 steps keeps the level; gray at the last step keeps its share of
    high frequencies for long; a texture that slides past the frame only changes what is seen of it; a still one changes nothing."""
    noise = torch.randn(3, 40, 80, generator=torch.Generator().manual_seed(0))
    texture = torch.nn.functional.avg_pool2d(noise, 5, 1, 2)
    sliding = torch.stack([texture[:, :32, 2 * k : 2 * k + 32] for k in range(17)]).clamp(-1, 1)
    white = still(17)
    white[2:] = 1.0
    made = read(white, fading(17, 3), fading(17, 16), sliding, still(17))
    scores = [made.scores[f"v{i}"] for i in range(5)]
    assert scores == sorted(scores, reverse=True)
    assert scores[2] > 5 * scores[3] > 0
    assert scores[4] == 0


def test_a_collapse_differs_from_a_truth_that_holds() -> None:
    made = read(fading(9, 3), target=still(9)[None])
    assert made.also["real"]["v0"] == 0
    assert made.also["against_truth"]["v0"] == pytest.approx(made.scores["v0"])
    assert made.scores["v0"] > 5


def test_a_collapse_to_a_flat_frame_is_the_worst() -> None:
    flat = still(6)
    flat[3:] = 0.2
    made = read(flat, wearing(6, blurred))
    assert made.scores["v0"] > made.scores["v1"] > 0.1


def test_truth_gives_error_and_half_life() -> None:
    """The truth stays p; the output is p mixed with an unrelated picture q by shares 0, .2, .4, .6, .8: of equal contrast the
    correlation falls below one half between .4 and .6 (at .5 it is 1/√2, at .6 .4/√.52 = .555, at .8 .2/√.68 = .243)."""
    p, q = picture(0), picture(1)
    mixed = torch.stack([p * (1 - s) + q * s for s in (0.0, 0.2, 0.4, 0.6, 0.8)])
    made = read(mixed, target=still(5)[None])
    quality = made.series["like_truth"]["v0"]
    assert quality[3] == pytest.approx(0.555, abs=0.05)
    assert quality[4] == pytest.approx(0.243, abs=0.05)
    assert made.also["truth_half_life"]["v0"] == pytest.approx(3 + (quality[3] - 0.5) / (quality[3] - quality[4]))
    assert made.also["error_slope"]["v0"] > 0
    assert made.also["real"]["v0"] == 0
    assert made.also["against_truth"]["v0"] == pytest.approx(made.scores["v0"])


def test_the_slope_of_the_error_by_hand() -> None:
    """The output is the fading truth, too bright by .1 k at step k: errors .01, .04, .09, .16 with slopes .03, .05, .07, .04,
    .06, .05."""
    truth = wearing(5, lambda f: f * 0.9)
    offset = 0.1 * torch.arange(5.0)[:, None, None, None]
    made = read(truth + offset, target=truth[None])
    assert made.series["error"]["v0"] == pytest.approx([0, 0.01, 0.04, 0.09, 0.16], abs=1e-6)
    assert made.also["error_slope"]["v0"] == pytest.approx(0.05, abs=1e-6)


def test_real_video_has_a_drift_of_its_own() -> None:
    """A fading truth that the output follows: its trend is that of the truth, and nothing is left against it."""
    fading = wearing(6, lambda f: f * 0.9)
    made = read(fading, target=fading[None])
    assert made.also["real"]["v0"] == made.scores["v0"] > 0.05
    assert made.also["against_truth"]["v0"] == 0
    assert read(still(6), target=fading[None]).also["against_truth"]["v0"] == pytest.approx(made.also["real"]["v0"])


def test_missing_truth_is_nan_and_left_out() -> None:
    truth = still(6)
    truth[4:] = NAN
    made = read(wearing(6, blurred), target=truth[None])
    known = [not math.isnan(value) for value in made.series["error"]["v0"]]
    assert known == [True] * 4 + [False] * 2
    assert math.isfinite(made.also["error_slope"]["v0"])
    assert made.also["real"]["v0"] == 0
    short = drift_series(still(4), still(2))
    assert short["error"].isnan().tolist() == [False, False, True, True]


def test_bad_frames_are_named() -> None:
    with pytest.raises(ShapeError, match=r"drift of 'v0': .* 8 pixels an edge"):
        read(torch.zeros(4, 3, 7, 20))
    broken = still(4)
    broken[2, 1, 3, 3] = NAN
    with pytest.raises(DataError, match="drift of 'v0': frame 2 of 4 holds NaN"):
        read(broken)
    with pytest.raises(ShapeError, match="target: expected frames of shape"):
        drift_series(still(4), still(4, size=16))


def test_odd_sizes_and_a_single_frame() -> None:
    odd = torch.rand(5, 3, 33, 47, generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert math.isfinite(read(odd).scores["v0"])
    for frames in (1, 2):  # none or one generated frame: nothing to fit
        made = read(still(frames))
        assert math.isnan(made.scores["v0"])
        assert made.compute().note == "1 of 1 undefined"


def test_the_benchmark_prints_what_drift_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for clip in range(3):
        (tmp_path / f"{clip}").mkdir()
        for k, frame in enumerate(still(4, clip, 16)):
            save_png(tmp_path / f"{clip}" / f"{k:02}.png", frame)
    spec = importlib.util.spec_from_file_location("benchmark_drift", Path(__file__).parents[2] / "benchmarks" / "drift.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main([f"{tmp_path}/*", "--size", "16", "--frames", "4"])
    shown = capsys.readouterr().out
    assert shown.startswith("3 clips; upper quartiles of the slopes: 0.0000, 0.0000, 0.0000, 0.0000\n")  # stills have none
    assert re.search(r"^drift +blur +0\.1 +AUC 1\.00  above its original 1\.00$", shown, re.MULTILINE)
    assert re.search(r"^plain length +mean AUC [\d.]+ \([\d.]+ to [\d.]+\)$", shown, re.MULTILINE)


def test_series_reach_the_evaluation_and_merge() -> None:
    parts = [Evaluator(build_metrics({"drift": {}})) for _ in range(2)]
    both = videos(still(4, 0), wearing(4, blurred, 1))
    for i, part in enumerate(parts):
        part.update(Samples([both.ids[i]], videos={"generated": both.videos["generated"][i : i + 1]}))
    parts[0].merge(parts[1])
    result = parts[0].compute()
    assert set(result.series["drift.sharpness"]) == {"v0", "v1"}
    assert len(result.series["drift.sharpness"]["v1"]) == 4
    assert result.series["drift.to_first"]["v0"] == [0, 0, 0, 0]
    assert result.directions["drift"] == "lower"
    assert "drift.sharpness_slope" not in result.directions
    assert result.plain()["drift"]["series"]["noise"].keys() == {"v0", "v1"}


def test_similarity_to_the_prompt_by_hand() -> None:
    """Frames (1, 0), (3, 4), (0, 2) against the prompt (1, 0): cosines 1, .6, 0; over the generated frames 100 · .3, slope -60."""
    frames = torch.tensor([[[1.0, 0.0], [3.0, 4.0], [0.0, 2.0]]])
    made = Drift(clip="c")
    told = {"c:frames:generated": frames, "c:text:target": torch.tensor([[1.0, 0.0]])}
    made.update(Samples(["v0"], videos={"generated": still(3)[None].movedim(1, 2)}, features=told))
    assert made.series["prompt"]["v0"] == pytest.approx([100, 60, 0])
    assert made.also["prompt"]["v0"] == pytest.approx(30)
    assert made.also["prompt_slope"]["v0"] == pytest.approx(-60)
    assert made.series["first_cosine"]["v0"] == pytest.approx([1, 0.6, 0])
    assert made.also["cosine_slope"]["v0"] == pytest.approx(-0.6)
