"""CLIP from diffusion: what the score is, whom its gradient reaches, and that without weight it is plain fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from relatum.core.draws import Draws
from relatum.core.errors import DataError, RecipeError
from relatum.engine.distill import DistillParts, denoising_score, distill_step
from relatum.engine.match import ClipScorer
from relatum.engine.pretrain import ClipParts, clip_step
from relatum.models.families.clip import ClipSize, build_clip
from relatum.models.families.stable_diffusion import StableDiffusion
from relatum.models.families.tuned import ClipSettings, DrawingClip, OpenedClip
from relatum.models.tiny import byte_tokenizer, tiny_stable_diffusion
from relatum.models.trainable import Trainable, make_trainable
from relatum.pretrained import open_extractor
from relatum.tasks.base import Batch

CAPTIONS = ["a red circle", "a blue square", "a red circle left of a blue square"]


def tiny_clip() -> OpenedClip:
    tokenizer = byte_tokenizer()
    return OpenedClip(build_clip(ClipSize(16, 4, 16, 1, 1, 2, 8), tokenizer), tokenizer, {})


def batch() -> Batch:
    pixels = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(5)) * 2 - 1
    names = ["a", "b", "c"]
    return Batch(names, names, names, pixels={"target": pixels}, texts={"target": CAPTIONS})


def teacher(prediction_type: str = "epsilon") -> StableDiffusion:
    model = tiny_stable_diffusion(0, prediction_type=prediction_type)  # type: ignore[arg-type]
    model.unet.eval().requires_grad_(False)
    return model


def test_weight_zero_is_plain_fine_tuning() -> None:
    """The same numbers and the same gradients as `clip_step`, with or without a map."""
    opened, draws = tiny_clip(), Draws(0, [0, 1, 2])
    plain = clip_step(ClipParts(DrawingClip(opened, None), opened.tokenizer), batch(), draws)
    plain.total.mean().backward()
    gradients = {name: p.grad.clone() for name, p in opened.clip.named_parameters() if p.grad is not None}
    opened.clip.zero_grad()
    network = DrawingClip(opened, (4, 4, 4))
    mine = distill_step(DistillParts(network, opened.tokenizer), batch(), draws)
    mine.total.mean().backward()
    assert torch.equal(mine.total, plain.total)
    assert set(mine.losses) == {"info_nce"}
    assert all(torch.equal(p.grad, gradients[name]) for name, p in opened.clip.named_parameters() if name in gradients)
    assert network.map is not None
    assert network.map.weight.grad is None


def test_the_gradient_reaches_the_image_tower_and_the_map_alone() -> None:
    """Of the score: nothing of the UNet, its text encoder, or CLIP's text tower."""
    opened, model = tiny_clip(), teacher()
    network = DrawingClip(opened, model.latent_shape(16))
    parts = DistillParts(network, opened.tokenizer, model, 2.0)
    step = distill_step(parts, batch(), Draws(0, [0, 1, 2]))
    assert torch.allclose(step.total, step.losses["info_nce"] + 2 * step.losses["sds"])
    step.losses["sds"].sum().backward()
    reached = {name for name, p in network.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert {"map.weight", "map.bias", "towers.clip.visual_projection.weight"} <= reached
    assert any(".vision_model." in name for name in reached)
    assert not any(".text_model." in name or "text_projection" in name for name in reached)
    assert all(p.grad is None for part in (model.unet, model.text.encoder, model.codec.vae) for p in part.parameters())
    assert network(batch().pixels["target"], torch.zeros(3, 4, dtype=torch.long)).latents.shape == (3, 4, 4, 4)


class _Constant(nn.Module):
    """A UNet that answers the same number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, noisy: Tensor, time: Tensor, encoder_hidden_states: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (torch.full_like(noisy, self.value),)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_score_by_hand(kind: str) -> None:
    """eps is answered by 0.5: the mean of (0.5 - noise)^2, whatever the latents.

    v is answered by 0.5: eps = alpha 0.5 + sigma x_t, so (alpha 0.5 + sigma alpha z + sigma^2 noise - noise)^2 with z = 0.25.
    """
    import dataclasses

    model = dataclasses.replace(teacher(kind), unet=_Constant(0.5))
    draws, latents = Draws(3, ["a", "b"]), torch.full((2, 4, 2, 2), 0.25)
    score, level = denoising_score(model, latents, torch.zeros(2, 48, 32), draws)
    noise = draws.normal("noise", (4, 2, 2))
    alpha, sigma = level.alpha[:, None, None, None], level.sigma[:, None, None, None]
    read = torch.tensor(0.5) if kind == "epsilon" else alpha * 0.5 + sigma * (alpha * 0.25 + sigma * noise)
    assert torch.allclose(score, (read - noise).square().flatten(1).mean(1), atol=1e-6)


def test_the_caption_is_told_unless_it_is_not() -> None:
    opened, model = tiny_clip(), teacher()
    network, draws = DrawingClip(opened, model.latent_shape(16)), Draws(0, [0, 1, 2])
    own, null = (
        distill_step(DistillParts(network, opened.tokenizer, model, 1.0, caption), batch(), draws).losses["sds"]  # type: ignore[arg-type]
        for caption in ("own", "null")
    )
    assert (own - null).abs().min() > 0


def test_the_fitted_map_finds_a_line() -> None:
    """Latents that are 3 f0 - 2 f1 + 5 of the image vectors' first two numbers in every cell: so are the map's, off the ridge."""
    opened = tiny_clip()
    network, ids = DrawingClip(opened, (4, 2, 2)), torch.zeros(1, 4, dtype=torch.long)
    pixels = torch.randn(40, 3, 16, 16).clamp(-1, 1) * torch.linspace(0.1, 1, 40)[:, None, None, None]
    with torch.no_grad():
        vectors = network(pixels, ids).images
        wanted = (3 * vectors[:, 0] - 2 * vectors[:, 1] + 5)[:, None, None, None].expand(-1, 4, 2, 2)
        network.fit([(pixels[:25], wanted[:25]), (pixels[25:], wanted[25:])], ridge=0.0)
        drawn = network(pixels, ids).latents
        network.fit([(pixels, wanted)], ridge=1e6)
        flat = network(pixels, ids).latents
    assert torch.allclose(drawn, wanted, atol=2e-3)
    assert torch.allclose(flat, wanted.mean(0).expand_as(flat), atol=1e-3)


def test_layer_norms_alone() -> None:
    opened = tiny_clip()
    make_trainable(opened.clip, Trainable("partial", pattern="norm"))
    names = [name for name, p in opened.clip.named_parameters() if p.requires_grad]
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in names} == {
        "layer_norm1",
        "layer_norm2",
        "final_layer_norm",
        "pre_layrnorm",
        "post_layernorm",
    }


def test_another_clips_pixels_are_brought_to_its_mean() -> None:
    """White, 1, becomes (1 - 0.25) / 0.5 = 1.5 in the first channel; without a processor pixels stay as they are."""
    opened = tiny_clip()
    seen: list[Tensor] = []
    opened.clip.vision_model.register_forward_pre_hook(lambda m, a, k: seen.append(k["pixel_values"]), with_kwargs=True)
    white, ids = torch.ones(1, 3, 16, 16), torch.zeros(1, 4, dtype=torch.long)
    other = OpenedClip(opened.clip, opened.tokenizer, {"image_mean": [0.25, 0.5, 0.5], "image_std": [0.5, 0.5, 1.0]})
    for one in (opened, other):
        DrawingClip(one, None)(white, ids)
    assert torch.equal(seen[0], white)
    assert seen[1][0, :, 3, 7].tolist() == pytest.approx([1.5, 1.0, 0.5])


def test_a_saved_clip_opens_again_and_scores(tmp_path: Path) -> None:
    """By this family, and by the extractor that the matching control uses."""
    opened = ClipSettings().build(tmp_path)
    opened.save(tmp_path / "saved")
    again = ClipSettings("saved").build(tmp_path)
    assert again.processor == opened.processor
    assert all(torch.equal(a, b) for a, b in zip(opened.clip.parameters(), again.clip.parameters(), strict=True))
    images, pairs = batch().pixels["target"], torch.tensor([[0, 1], [2, 0]])
    scores = [ClipScorer(open_extractor(name))(images, CAPTIONS, pairs) for name in ("clip", str(tmp_path / "saved"))]
    assert torch.allclose(scores[0], scores[1], atol=1e-3)  # the bundled weights are in half precision


def test_settings_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model\.weight is -1"):
        ClipSettings(weight=-1)
    with pytest.raises(RecipeError, match="not by LoRA"):
        ClipSettings(train=Trainable("lora"))
    with pytest.raises(DataError, match="cannot be opened as a CLIP"):
        ClipSettings("nothing-here").build(tmp_path)
