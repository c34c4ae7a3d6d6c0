"""How widely attention looks: numbers by hand, the same bits with and without being looked at, and a gradient for objectives."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn

from relatum.core.errors import RecipeError
from relatum.core.outcome import MATCHED, Ask
from relatum.models.denoiser import Conditioning, Denoiser, Plan
from relatum.models.tiny import tiny_stable_diffusion
from relatum.probes.entropy import HeadEntropy, KnowsLogits, Look, attention_layers, entropies_of, looks_of, row_entropy

LN3 = math.log(3)


class Layer(nn.Module):
    """What a look needs of an attention layer of two heads: logits are q . k."""

    heads, scale, norm_q, norm_k, processor = 2, 1.0, None, None, None


def look_at(*logits: list[list[float]], mask: Tensor | None = None) -> Look:
    """One row, two keys; logits by head, each a list of queries. Head h of query is [z1, z2], the keys are [1, 0] and [0, 1]."""
    query = torch.cat([torch.tensor(head) for head in logits], -1)
    key = torch.eye(2).repeat(1, 2)
    return Look(Layer(), query[None], key[None], mask)


def test_entropies_by_hand() -> None:
    """Logits [0, 0]: ln 2, share 1. [0, 1000]: 0. [0, ln 3]: p = 1/4, 3/4, so .25 ln 4 + .75 ln (4/3) = .562335, share .811278.

    Head 0 sees the first two: mean .5, share of rows below .1 is 1/2, 5th percentile 0 + .05 of the way to 1. Head 1 the other.
    """
    look = look_at([[0.0, 0.0], [0.0, 1000.0]], [[0.0, LN3], [0.0, LN3]])
    entropy, most = row_entropy(look, torch.tensor([0]))
    torch.testing.assert_close(entropy, torch.tensor([[[math.log(2), 0.0], [0.562335, 0.562335]]]))
    assert most.unique().tolist() == pytest.approx([math.log(2)])
    told = HeadEntropy.of(look)
    assert told is not None
    torch.testing.assert_close(told.mean, torch.tensor([0.5, 0.811278]))
    torch.testing.assert_close(told.p05, torch.tensor([0.05, 0.811278]))
    assert told.low.tolist() == [0.5, 0.0]
    plain = told.plain()
    assert plain["mean"] == pytest.approx((0.5 + 0.811278) / 2)
    assert plain["p05"] == pytest.approx(0.05)
    assert plain["low"] == 0.25


def test_a_key_that_is_masked_is_no_choice() -> None:
    """Three keys, the last masked: uniform over two is ln 2 of ln 2, a share of 1. Rows of a single key are left out."""
    layer = Attention(4, heads=1, dim_head=4)
    keys = torch.zeros(2, 3, 4)
    mask = torch.tensor([[[0.0, 0.0, -10000.0]], [[0.0, -10000.0, -10000.0]]])
    look = Look(layer, torch.ones(2, 1, 4), keys, mask)
    entropy, most = row_entropy(look, torch.arange(2))
    assert entropy.flatten().tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)
    assert most.flatten().tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)
    told = HeadEntropy.of(look)
    assert told is not None
    assert (told.mean.item(), told.low.item()) == (pytest.approx(1.0), 0.0)
    boolean = Look(layer, look.query, keys, mask == 0)
    torch.testing.assert_close(row_entropy(boolean, torch.arange(2))[0], entropy)
    assert HeadEntropy.of(Look(layer, look.query, keys[:, :1])) is None


class Stack(nn.Module):
    """A self-attention, another layer, and a cross-attention."""

    def __init__(self, processor: Any) -> None:
        super().__init__()
        self.motion_modules = Attention(8, heads=2, dim_head=4, processor=processor)
        self.between = nn.Linear(8, 8)
        self.cross = Attention(8, cross_attention_dim=6, heads=2, dim_head=4, processor=processor)

    def forward(self, x: Tensor, text: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.cross(self.between(self.motion_modules(x)), encoder_hidden_states=text, attention_mask=mask)


@pytest.mark.parametrize("processor", [AttnProcessor, AttnProcessor2_0])
def test_the_output_is_the_same_bits_and_nothing_stays_behind(processor: Any) -> None:
    torch.manual_seed(1)
    network = Stack(processor())
    x, text = 3 * torch.randn(6, 5, 8), torch.randn(6, 7, 6)
    mask = torch.zeros(6, 1, 7)
    mask[2:, :, 4:] = -10000.0
    plain, inner = network(x, text, mask), network.cross.processor
    with looks_of(network, ("motion", "cross$")) as looks:
        assert torch.equal(network(x, text, mask), plain)
        network(x + 1, text, mask)  # a second pass is not taken
    assert list(looks) == ["motion_modules", "cross"]
    for name, mine in {"motion_modules": None, "cross": mask}.items():
        layer = network.get_submodule(name)
        query, key = (layer.head_to_batch_dim(part) for part in (looks[name].query, looks[name].key))
        bias = None if mine is None else layer.prepare_attention_mask(mine, 7, 6)
        p = layer.get_attention_scores(query, key, bias).unflatten(0, (6, 2))
        torch.testing.assert_close(row_entropy(looks[name], torch.arange(6))[0], -torch.xlogy(p, p).sum(-1))
    with pytest.raises(ZeroDivisionError), looks_of(network, ("",)):
        raise ZeroDivisionError
    assert network.cross.processor is inner
    hooks = [m for m in network.modules() if m._forward_hooks or m._forward_pre_hooks]
    assert not hooks
    with pytest.raises(RecipeError, match="not regular expressions"):
        attention_layers(network, ("(",))


def test_a_processor_that_knows_its_logits_is_asked() -> None:
    class Doubling(AttnProcessor):
        def logits(self, attn: Any, query: Tensor, key: Tensor) -> Tensor:
            return 2 * query @ key.transpose(-1, -2)

    network = Stack(AttnProcessor())
    network.cross.set_processor(Doubling())
    assert isinstance(network.cross.processor, KnowsLogits)
    assert not isinstance(network.motion_modules.processor, KnowsLogits)
    with looks_of(network, ("cross",)) as looks:
        network(torch.randn(1, 5, 8), torch.randn(1, 7, 6))
    look = looks["cross"]
    query, key = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in (look.query, look.key))
    p = (2 * query @ key.transpose(-1, -2)).softmax(-1)
    torch.testing.assert_close(row_entropy(look, torch.tensor([0]))[0], -torch.xlogy(p, p).sum(-1))


def test_a_sample_of_rows_is_the_same_one_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 rows of 100 queries: 64 of these are looked at, in pieces. Of the two samples the first looks everywhere alike."""
    monkeypatch.setattr("relatum.probes.entropy.AT_ONCE", 5000)
    query = torch.randn(600, 100, 4, generator=torch.Generator().manual_seed(2))
    query[:300] = 0
    look = Look(Layer(), query, torch.randn(600, 3, 4, generator=torch.Generator().manual_seed(3)))
    assert row_entropy(look, torch.arange(5))[0].shape == (5, 2, 64)
    told = entropies_of({"a": look}, 2)["a"]
    assert told[0].tolist() == pytest.approx([LN3, LN3])
    assert (told[1] < 0.99 * LN3).all()
    assert torch.equal(told, entropies_of({"a": look}, 2)["a"])
    torch.testing.assert_close(entropies_of({"a": look}, 1, of=2)["a"], told[:1])


def test_the_gradient_of_a_sharp_row_is_finite() -> None:
    """z = [0, 40]: p = e^-40, H about 40 e^-40, and a gradient that is not NaN."""
    query = torch.tensor([[[0.0, 40.0, 0.0, LN3]]], requires_grad=True)
    (entropy,) = entropies_of({"a": Look(Layer(), query, torch.eye(2).repeat(1, 2)[None])}, 1).values()
    entropy.sum().backward()
    assert query.grad is not None
    torch.testing.assert_close(query.grad[0, 0, 3], torch.tensor(-0.75 * 0.25 * LN3))
    assert bool(query.grad.isfinite().all())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_objectives_see_entropies_with_their_gradient(checkpointing: bool) -> None:
    """Of the matched view alone, though the null view shares its pass; where blocks are recomputed, too."""
    model = tiny_stable_diffusion(0)
    denoiser: Denoiser = model.denoiser().train()
    if checkpointing:
        model.unet.enable_gradient_checkpointing()
    noisy, tokens = torch.randn(2, 4, 8, 8), torch.randn(2, 5, 32)
    level = model.path.at(torch.tensor([5, 800]))
    told = {"matched": Conditioning(tokens), "null": Conditioning(torch.zeros_like(tokens))}
    asks = (MATCHED, Ask("null"))
    plan = Plan(attention=("attn2",))
    plain = denoiser(noisy, level, told, asks)
    seen = denoiser(noisy, level, told, asks, plan)
    assert torch.equal(plain["matched"].raw, seen["matched"].raw)
    assert not plain["matched"].attention
    assert not seen["null"].attention
    entropies = seen["matched"].attention
    assert sorted(entropies) == sorted(attention_layers(model.unet, ("attn2",)))
    assert {tuple(e.shape[:1]) for e in entropies.values()} == {(2,)}
    with torch.no_grad():
        alone = denoiser(noisy, level, told, (MATCHED,), plan)["matched"].attention
    for name, entropy in entropies.items():
        torch.testing.assert_close(entropy, alone[name])
        assert bool((entropy <= math.log(5) + 1e-5).all())
    sum(e.sum() for e in entropies.values()).backward()  # type: ignore[union-attr]
    graded = {name for name, p in model.unet.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    assert "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q.weight" in graded
    assert "up_blocks.1.attentions.0.transformer_blocks.0.attn2.to_v.weight" in graded or "conv_in.weight" in graded
    assert "conv_out.weight" not in graded
    with pytest.raises(RecipeError, match=r"attends to motion_modules.*attn1"):
        denoiser(noisy, level, told, asks, Plan(attention=("motion_modules",)))
