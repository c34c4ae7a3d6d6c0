"""Discriminative probing: what is read of the UNet, how pairs are judged, what is trained, what is saved."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from relatum.core.draws import Draws
from relatum.core.errors import DataError, RecipeError, ShapeError
from relatum.engine.match import Scorer
from relatum.engine.probe import ProbeParts, ProbeScorer, open_probe, open_probed, probe_step, rolled_nce
from relatum.engine.step import DiffusionParts, diffusion_step
from relatum.models.codec import Moments
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.families.tuned import ProbedSettings
from relatum.models.probe import Probe, Probed, ProbeSettings, load_probe, new_probe, places, save_probe
from relatum.models.tiny import tiny_stable_diffusion
from relatum.models.trainable import Trainable, make_trainable
from relatum.objectives.blend import read_blend
from relatum.probes.outputs import outputs_of
from relatum.tasks.base import Batch
from relatum.tasks.image import Image

SMALL = ProbeSettings(width=8, queries=2, heads=2, joint=6)
BLIND = ProbeSettings(sees="nothing", width=8, queries=2, heads=2, joint=6)


def model_and_batch() -> tuple[StableDiffusion, Batch]:
    model = tiny_stable_diffusion(0)
    model.unet.eval()
    draws = torch.Generator().manual_seed(1)
    moments = Moments(torch.randn(3, 4, 8, 8, generator=draws), torch.randn(3, 4, 8, 8, generator=draws) - 4)
    tokens = model.text.encode(["a red circle", "a blue square", "two rings"])
    names = ["a", "b", "c"]
    return model, Batch(names, names, names, {"target": moments}, {"target": tokens}, model.text.null)


def parts_of(model: StableDiffusion, settings: ProbeSettings, tuned: bool, matching: float, denoising: float) -> ProbeParts:
    probe = new_probe(model.unet, settings, model.text.null)
    network = Probed(model.denoiser(), probe, tuned)
    return ProbeParts(network, settings, model.kind, model.path, model.codec, matching, denoising)


def test_rolled_nce_by_hand() -> None:
    """Three samples, own scores 2, 1, 0; of picture i with text i + 1: 1, 3, -1.

    Picture 0 sees 2, 1: log(1 + e^-1) = .31326; text 0 sees 2 (own) and -1 (picture 2): log(1 + e^-3) = .04859; mean .18093.
    Picture 1 sees 1, 3 and loses: log(1 + e^2) = 2.12693; text 1 sees 1 and 1 (picture 0): log 2; mean 1.41004.
    """
    scores = torch.tensor([[2.0, 1.0, 0.0], [1.0, 3.0, -1.0]])
    loss, hit = rolled_nce(scores, torch.tensor([7, 8, 9]))
    assert loss[:2].tolist() == pytest.approx([0.18093, 1.41004], abs=1e-5)
    assert hit.tolist() == [1, 0, 1]


def test_equal_captions_are_no_negatives() -> None:
    """Pictures 0 and 1 have one caption: picture 0 has no negative left and loses nothing; text 0 still sees picture 2."""
    scores = torch.tensor([[2.0, 1.0, 0.0], [5.0, 3.0, -1.0]])
    loss, _ = rolled_nce(scores, torch.tensor([7, 7, 9]))
    assert loss[0].item() == pytest.approx(math.log1p(math.exp(-3)) / 2, abs=1e-6)


def test_places_by_hand() -> None:
    """One row, two columns, four numbers: row at pi/2 (1, 0), columns at pi/4 and 3 pi/4."""
    root = math.sqrt(0.5)
    assert places(1, 2, 4)[0].tolist() == pytest.approx([1, 0, root, root], abs=1e-6)
    assert places(1, 2, 4)[1].tolist() == pytest.approx([1, 0, root, -root], abs=1e-6)
    assert places(3, 5, 8).shape == (15, 8)


def test_unit_vectors_of_any_map() -> None:
    """A probe reads maps of any size; where a feature lies matters."""
    probe = Probe(SMALL, 5, 7)
    features = torch.randn(2, 5, 3, 4)
    assert probe.pictures(features).shape == (2, 6)
    assert probe.pictures(torch.randn(1, 5, 1, 1)).norm(dim=1).item() == pytest.approx(1, abs=1e-5)
    assert (probe.pictures(features) - probe.pictures(features.flip(3))).abs().max() > 1e-3
    assert probe.texts(torch.randn(2, 9, 7)).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)
    assert probe.scale.item() == pytest.approx(1 / 0.07, rel=1e-5)


def test_features_are_the_blocks_own_and_the_hook_is_gone() -> None:
    """mid_block of a UNet whose mid block gives ones: ones are what is read, and only within the with-block."""
    model, _ = model_and_batch()
    latents, null = torch.zeros(1, 4, 8, 8), model.text.null
    with outputs_of(model.unet, ["mid_block"]) as found:
        model.unet(latents, 5, encoder_hidden_states=null)
    kept = found["mid_block"]
    model.unet(latents + 1, 5, encoder_hidden_states=null)
    assert found["mid_block"] is kept
    assert tuple(kept.shape) == (1, 32, 4, 4)
    with outputs_of(model.unet, ["down_blocks.0"]) as first:  # gives a tuple
        model.unet(latents, 5, encoder_hidden_states=null)
    assert first["down_blocks.0"].shape[1] == 16
    with pytest.raises(RecipeError, match=r"no block 'middle'.*mid_block"), outputs_of(model.unet, ["middle"]):
        pass


@pytest.mark.parametrize("settings", [SMALL, BLIND])
def test_probing_trains_the_probe_alone(settings: ProbeSettings) -> None:
    model, batch = model_and_batch()
    parts = parts_of(model, settings, False, 1.0, 0.0)
    step = probe_step(parts, batch, Draws(0, [0, 1, 2]))
    assert set(step.losses) == {"matching"}
    step.total.mean().backward()
    assert all(p.grad is None for p in model.unet.parameters())
    assert {name for name, p in parts.network.named_parameters() if p.grad is None} == set()
    assert not any(name.startswith("denoiser") for name in parts.network.state_dict())


@pytest.mark.parametrize("settings", [SMALL, BLIND])
def test_tuning_reaches_lora_and_probe(settings: ProbeSettings) -> None:
    """The matching loss alone reaches the adapters; where the UNet is told captions, those that read text too."""
    model, batch = model_and_batch()
    make_trainable(model.unet, Trainable("lora", rank=2), seed=1)
    with torch.no_grad():  # adapters begin at zero, which would hide half of the gradient
        for name, p in model.unet.named_parameters():
            if "lora_B" in name:
                p.add_(0.1)
    step = probe_step(parts_of(model, settings, True, 0.5, 2.0), batch, Draws(0, [0, 1, 2]))
    assert torch.allclose(step.total, 0.5 * step.losses["matching"] + 2 * step.losses["denoising"])
    step.losses["matching"].sum().backward()
    reached = {name for name, p in model.unet.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert any("attn2.to_k.lora_A" in name for name in reached)
    assert all(".lora_" in name for name in reached)


def test_matching_zero_is_plain_denoising() -> None:
    model, batch = model_and_batch()
    draws = Draws(4, [10, 11, 12])
    mine = probe_step(parts_of(model, SMALL, True, 0.0, 1.0), batch, draws)
    blend = read_blend({"denoise": {"kind": "denoise"}})
    task: Any = Image()
    plain = diffusion_step(DiffusionParts(model.denoiser(), model.kind, model.path, task, blend, model.codec), batch, draws)
    assert torch.allclose(mine.total, plain.total, atol=1e-6)


def test_saved_probes_open_again(tmp_path: Path) -> None:
    probe = Probe(ProbeSettings(block="up_blocks.0", sees="nothing", levels=(0.1, 0.4), width=8, joint=5), 16, 32)
    save_probe(probe, tmp_path / "probe", model="relatum:toy")
    again, about = load_probe(tmp_path / "probe")
    assert again.settings == probe.settings
    assert open_probe(tmp_path)[1] == about["model"] == "relatum:toy"
    assert all(torch.equal(a, b) for a, b in zip(probe.state_dict().values(), again.state_dict().values(), strict=True))
    (tmp_path / "probe" / "probe.json").write_text('{"settings": {"width": 9}}')
    with pytest.raises(DataError, match="no probe that can be read"):
        load_probe(tmp_path / "probe")
    with pytest.raises(DataError, match="relatum train probing"):
        open_probed(tmp_path / "nothing")


@pytest.mark.parametrize("settings", [SMALL, BLIND])
def test_a_scorer(settings: ProbeSettings) -> None:
    """Scores do not depend on the other pairs, on their order or on the batch; they are cosines; nothing is subtracted."""
    model, _ = model_and_batch()
    probe = new_probe(model.unet, settings, model.text.null).eval()
    scorer = ProbeScorer(model, probe, count=2)
    assert isinstance(scorer, Scorer)
    images = torch.rand(3, 3, 16, 16) * 2 - 1
    texts, pairs = ["a red circle", "a ring"], torch.tensor([[2, 1], [0, 0], [1, 1]])
    scores = scorer(images, texts, pairs)
    assert scores.shape == (3,)
    assert scores.abs().max() <= 1
    alone = ProbeScorer(model, probe, count=2, batch_size=1)(images[2:], ["a ring"], torch.tensor([[0, 0]]))
    assert scores[0].item() == pytest.approx(alone.item(), abs=1e-5)
    assert torch.allclose(scorer(images, texts, pairs.flip(0)), scores.flip(0), atol=1e-5)
    assert scorer.null(images) is None
    assert scorer.fingerprint != ProbeScorer(model, probe, count=3).fingerprint
    with pytest.raises(ShapeError, match="beyond the 3 and 2"):
        scorer(images, texts, torch.tensor([[3, 0]]))


def test_settings_that_do_not_fit() -> None:
    with pytest.raises(RecipeError, match="frozen"):
        ProbedSettings(denoising=1.0)
    with pytest.raises(RecipeError, match="both 0"):
        ProbedSettings(matching=0.0, train=Trainable("lora"))
    with pytest.raises(RecipeError, match="levels are"):
        ProbeSettings(levels=(0.6, 0.5))
    with pytest.raises(RecipeError, match="multiple of 4"):
        ProbeSettings(width=10, heads=2)
