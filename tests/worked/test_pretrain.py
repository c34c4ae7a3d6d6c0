"""Steps that train the encoders: InfoNCE, edges and varied pictures by hand; a small vocabulary letter by letter."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from relatum.core.draws import Draws
from relatum.core.ranks import Ranks
from relatum.engine.pretrain import AutoencoderParts, ClipParts, autoencoder_step, clip_step, edges, info_nce, spoken_words, varied
from relatum.engine.step import Moment
from relatum.models.families.autoencoder import AutoencoderSize, Reconstruction, build_autoencoder, measure_scaling
from relatum.models.families.clip import ClipSize, TwoTowers, build_clip, image_features
from relatum.models.families.tokenizer import build_tokenizer, load_tokenizer, save_tokenizer
from relatum.tasks.base import Batch


def test_info_nce_by_hand() -> None:
    """Queries (1,0), (0,1); others (1,0), (.6,.8); scale 2.

    Logits of the first: 2, 1.2 -> log(1 + e^-.8) = .37110. Of the second: 0, 1.6 -> log(1 + e^-1.6) = .18410.
    """
    queries = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    others = torch.tensor([[1.0, 0.0], [0.6, 0.8]])
    loss, hit = info_nce(queries, others, torch.tensor(2.0), torch.tensor([1, 2]))
    assert loss.tolist() == pytest.approx([math.log1p(math.exp(-0.8)), math.log1p(math.exp(-1.6))])
    assert hit.tolist() == [1.0, 1.0]


def test_equal_texts_are_no_negatives() -> None:
    """Three queries, the first two of one key: the first sees its own logit 1 and the third's 0 -> log(1 + e^-1)."""
    others = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss, _ = info_nce(others, others, torch.tensor(1.0), torch.tensor([5, 5, 6]))
    assert loss[0].item() == pytest.approx(math.log1p(math.exp(-1)))
    assert loss[2].item() == pytest.approx(math.log(math.e + 2) - 1)


def test_two_ranks_see_the_whole_batch() -> None:
    """What rank 1 computes with gathered vectors is the second half of what one process computes; its own keep their gradient."""
    torch.manual_seed(1)
    queries, others = (nn.functional.normalize(torch.randn(6, 4), dim=1) for _ in range(2))
    keys, scale = torch.arange(6), torch.tensor(3.0)
    whole, _ = info_nce(queries, others, scale, keys)
    second = others[3:].clone().requires_grad_()

    def gather(part: Tensor) -> Tensor:
        return keys if part.dtype == torch.long else torch.cat([others[:3], part])

    half, _ = info_nce(queries[3:], second, scale, keys[3:], Ranks(1, 2, gather))
    assert torch.allclose(half, whole[3:], atol=1e-6)
    half.sum().backward()
    assert second.grad is not None
    assert second.grad.abs().sum() > 0


def test_spoken_words_by_hand() -> None:
    """Two tokens 0, 1 with embeddings (1,0), (0,1); states (2,0), (0,1); no padding, then a padded third token.

    Own: log(1 + e^-2) and log(1 + e^-1), mean (.12693 + .31326) / 2 = .22009. The last state names 0 with log(1 + e) and 1 with
    log(1 + e^-1), mean (1.31326 + .31326) / 2 = .81326. Together 1.03335.
    """
    states = torch.tensor([[[2.0, 0.0], [0.0, 1.0], [9.0, 9.0]]])
    ids, mask = torch.tensor([[0, 1, 1]]), torch.tensor([[1, 1, 0]])
    assert spoken_words(states, ids, mask, torch.eye(2)).item() == pytest.approx(1.03335, abs=1e-4)


def test_edges_by_hand() -> None:
    """One row 0, 1, 3 twice in each channel: differences across 1 and 2 (mean 1.5), down 0 -> 0.75. A constant has none."""
    error = torch.tensor([[0.0, 1.0, 3.0], [0.0, 1.0, 3.0]]).expand(1, 3, 2, 3)
    assert edges(error).item() == pytest.approx(0.75)
    assert edges(torch.full((1, 3, 2, 3), 0.4)).item() == 0


def test_varied_changes_the_share_and_stays_in_range() -> None:
    pixels = torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    draws = Draws(3, list(range(200)))
    changed = (varied(pixels, draws, 0.25) != pixels).flatten(1).any(1)
    assert 30 <= int(changed.sum()) <= 70
    assert varied(pixels, draws, 1.0).abs().max() <= 1
    assert torch.equal(varied(pixels, draws, 0.0), pixels)
    other = varied(pixels[5:9], Draws(3, [5, 6, 7, 8]), 1.0)
    assert torch.equal(other, varied(pixels, draws, 1.0)[5:9])


def test_autoencoder_step_terms() -> None:
    """A network that answers 0.5 too much everywhere, with posterior N(1, 1) on 2 x 1 x 1 latents.

    mse .25, l1 .5, edge 0, kl 2 * (1 + 1 - 1 - 0) / 2 = 1; psnr 10 log10(4 / .25) = 12.04.
    """

    class Network(nn.Module):
        def forward(self, pixels: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
            assert noise is None
            ones = torch.ones(len(pixels), 2, 1, 1)
            return pixels + 0.5, ones, torch.zeros_like(ones)

    parts = AutoencoderParts(Network(), latent_channels=2, mse=2, l1=3, edge=5, kl=7)
    batch = Batch(["a"], ["a"], ["a"], pixels={"target": torch.zeros(1, 3, 4, 4)})
    step = autoencoder_step(parts, batch, Draws(0, [0]), moment=Moment(training=False))
    assert {name: value.item() for name, value in step.losses.items()} == pytest.approx(
        {"mse": 0.25, "l1": 0.5, "edge": 0, "kl": 1}
    )
    assert step.total.item() == pytest.approx(0.5 + 1.5 + 7)
    assert step.watched["psnr"].item() == pytest.approx(12.0412, abs=1e-3)


def test_autoencoder_learns_and_is_scaled() -> None:
    network = Reconstruction(build_autoencoder(AutoencoderSize(block_out_channels=(8, 8), norm_num_groups=4)))
    parts = AutoencoderParts(network, factor=2, variety=0.0)
    pixels = torch.rand(4, 3, 8, 8) * 2 - 1
    batch = Batch(["a"] * 4, ["a"] * 4, ["a"] * 4, pixels={"target": pixels})
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    first = last = 0.0
    for i in range(15):
        loss = autoencoder_step(parts, batch, Draws(0, [4 * i + k for k in range(4)])).total.mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        first, last = first or loss.item(), loss.item()
    assert last < 0.9 * first
    scaling = measure_scaling(network.vae, pixels)
    mean = network.vae.encode(pixels, return_dict=False)[0].mean
    assert float(mean.detach().std()) * scaling == pytest.approx(1, rel=1e-3)
    assert network.vae.config.scaling_factor == scaling


def test_clip_step_learns_two_pairs() -> None:
    tokenizer = build_tokenizer([["a red circle", "a blue square"]], 600, 12)
    clip = build_clip(ClipSize(16, 4, 16, 1, 1, 2, 8), tokenizer)
    parts = ClipParts(TwoTowers(clip), tokenizer)
    pixels = torch.stack([torch.ones(3, 16, 16), -torch.ones(3, 16, 16)])
    batch = Batch(
        ["a", "b"], ["a", "b"], ["a", "b"], pixels={"target": pixels}, texts={"target": ["a red circle", "a blue square"]}
    )
    optimizer = torch.optim.AdamW(parts.network.parameters(), lr=1e-2)
    for _ in range(15):
        step = clip_step(parts, batch, Draws(0, [0, 1]))
        optimizer.zero_grad()
        step.total.mean().backward()
        optimizer.step()
    assert step.total.mean().item() < 0.1
    assert step.watched["image_to_text"].tolist() == [1.0, 1.0]
    both = Batch(
        ["a"],
        ["a"],
        ["a"],
        pixels={"source": pixels[:1], "target": pixels[1:]},
        texts={"source": ["a red circle"], "target": ["a blue square"]},
    )
    paired = clip_step(ClipParts(parts.network, tokenizer, ("source", "target")), both, Draws(0, [0])).total
    spoken = clip_step(ClipParts(parts.network, tokenizer, words=0.5), batch, Draws(0, [0, 1]))
    assert torch.allclose(spoken.total, spoken.losses["info_nce"] + 0.5 * spoken.losses["words"])
    assert paired.tolist() == pytest.approx([clip_step(parts, batch, Draws(0, [0, 1])).total.mean().item()], rel=1e-4)
    assert image_features(clip, pixels.repeat(1, 1, 2, 2)).norm(dim=1).tolist() == pytest.approx([1, 1], abs=1e-5)


def test_tokenizer_knows_its_words_and_spells_the_others(tmp_path: Path) -> None:
    tokenizer = build_tokenizer([["red circle", "red ring"], ["wizard hat"]], 1000, 16)
    save_tokenizer(tokenizer, tmp_path)
    loaded = load_tokenizer(tmp_path)
    pieces = loaded.convert_ids_to_tokens(loaded("a Red ring, wizard").input_ids)
    assert pieces == ["<|startoftext|>", "a</w>", "red</w>", "ring</w>", ",</w>", "wizard</w>", "<|endoftext|>"]
    for text in ("zebra 7 quux", "naïve 日本", "tab\tand ©"):
        ids = loaded(text).input_ids
        assert loaded.decode(ids, skip_special_tokens=True).replace(" ", "") == text.lower().replace(" ", "").replace("\t", "")
    assert len(loaded("red").input_ids) == 3
    assert loaded("red", padding="max_length").input_ids[3:] == [loaded.eos_token_id] * 13


def test_a_full_vocabulary_stops_the_merges() -> None:
    """512 byte tokens, 2 marks, 3 merges."""
    tokenizer = build_tokenizer([["circle square triangle"]], 517, 16)
    assert len(tokenizer) == 517
