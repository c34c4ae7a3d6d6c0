"""Stabilizers by hand: reparametrized layers, bounded logits, scaled skips, and what becomes of them when a model is saved."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from relatum.core.errors import DataError, RecipeError
from relatum.core.registry import family
from relatum.engine.ema import EMA
from relatum.engine.weights import load_module, save_module
from relatum.models.families.opening import open_pipeline
from relatum.models.stabilisers import (
    STABILIZERS_FILE,
    SkipScaling,
    Stabilize,
    attach_stabilizers,
    plain_state,
    save_stabilizers,
    stabilize,
)
from relatum.models.stabilisers.attention import SoftCap, bound_logits
from relatum.models.stabilisers.skips import SkipScale
from relatum.models.stabilisers.spectral import SpectralLinear
from relatum.models.tiny import tiny_animatediff, tiny_stable_diffusion
from relatum.models.trainable import Trainable, make_trainable
from relatum.probes.entropy import entropies_of, looks_of

EVERYTHING = Stabilize(True, True, 4, SkipScaling(0.5, 4), 3.0)


def _network(*settings: Stabilize) -> nn.Module:
    network = tiny_animatediff(fresh=False).unet.eval().requires_grad_(False)
    for one in settings:
        stabilize(network, one)
    make_trainable(network, Trainable("partial", pattern="motion_modules"))
    return network


def _ask(network: nn.Module, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    sample, tokens = torch.randn(2, 4, 3, 8, 8, generator=draw), torch.randn(6, 5, 32, generator=draw)
    return network(sample, torch.tensor([7, 600]), encoder_hidden_states=tokens, return_dict=False)[0]


def _train(network: nn.Module, updates: int, start: int = 0) -> None:
    optimizer = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.05)
    network.train()
    for i in range(start, start + updates):
        optimizer.zero_grad()
        (_ask(network, i) - 0.3).square().mean().backward()
        optimizer.step()
    network.eval()


def test_a_reparametrized_layer_by_hand() -> None:
    """W = diag(3, 1), gamma 3 -> 6: W_hat = 6 / 3 * W = diag(6, 2). Tripling W changes nothing: sigma is 9 then."""
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[3.0, 0.0], [0.0, 1.0]])
    layer = SpectralLinear(linear)
    x = torch.tensor([[1.0, 10.0]])
    assert layer.gamma.item() == pytest.approx(3.0, rel=1e-6)
    torch.testing.assert_close(layer(x), torch.tensor([[3.0, 10.0]]))
    layer.gamma.data.fill_(6.0)
    torch.testing.assert_close(layer(x), torch.tensor([[6.0, 20.0]]))
    layer.weight.data *= 3
    torch.testing.assert_close(layer(x), torch.tensor([[6.0, 20.0]]))


def test_a_power_iteration_by_hand() -> None:
    """W = [[0, 2], [1, 0]], v = (1, 0): u = W v = (0, 1), v = W' u = (1, 0): it stays at the smaller singular value, 1.

    From v = (.6, .8): u = (1.6, .6) / 1.709, v = W' u ~ (.6, 3.2) normed: sigma = u' W v = (1.6 * 6.4 + .6 * .6) / (1.709 * 3.256).
    """
    linear = nn.Linear(2, 2, bias=False)
    linear.weight.data = torch.tensor([[0.0, 2.0], [1.0, 0.0]])
    layer = SpectralLinear(linear)
    assert layer.sigma().item() == pytest.approx(2.0)
    layer.v.copy_(torch.tensor([1.0, 0.0]))
    layer.advance()
    assert layer.u.tolist() == [0.0, 1.0]
    assert layer.sigma().item() == 1.0
    layer.v.copy_(torch.tensor([0.6, 0.8]))
    layer.advance()
    assert layer.sigma().item() == pytest.approx(10.6 / (math.hypot(1.6, 0.6) * math.hypot(0.6, 3.2)), rel=1e-6)


def test_the_gradient_goes_through_sigma() -> None:
    """W_hat does not depend on the length of W, so its gradient is orthogonal to W; a constant sigma would give one along it."""
    layer = SpectralLinear(nn.Linear(5, 3))
    layer(torch.randn(4, 5, generator=torch.Generator().manual_seed(0))).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.gamma.grad is not None
    along = (layer.weight * layer.weight.grad).sum() / (layer.weight.norm() * layer.weight.grad.norm())
    assert abs(along.item()) < 1e-5
    assert layer.gamma.grad.abs().item() > 0.1


def test_reparametrizing_changes_nothing_at_first() -> None:
    plain, ours = _network(), _network(Stabilize(sigma_reparam=True))
    assert sum(isinstance(module, SpectralLinear) for module in ours.modules()) == 84
    before = _ask(plain)
    assert torch.equal(_ask(ours), before)
    gap = _ask(ours.train()) - before  # nor does the first power iteration, but for rounding
    assert gap.square().mean().sqrt().item() < 1e-6


def test_zero_layers_are_left_alone() -> None:
    network = tiny_animatediff(fresh=True).unet
    stabilize(network, Stabilize(sigma_reparam=True))
    left = [name for name, module in network.named_modules() if "motion_modules" in name and isinstance(module, nn.Linear)]
    assert left
    assert all(name.endswith("proj_out") for name in left)


def test_names_of_weights_stay() -> None:
    plain, ours = _network(), _network(Stabilize(sigma_reparam=True))
    assert set(plain.state_dict()) < set(ours.state_dict())
    chosen = make_trainable(ours, Trainable("partial", pattern=r"motion_modules.*to_q")).parameters
    assert {name.rpartition(".")[2] for name in chosen} == {"weight", "gamma"}


def test_vectors_move_in_training_forwards_with_gradient_only() -> None:
    network = _network(Stabilize(sigma_reparam=True, skip_scale=SkipScaling(0.5, 4)))
    layer = next(module for module in network.modules() if isinstance(module, SpectralLinear))
    skip = next(module for module in network.modules() if isinstance(module, SkipScale))
    layer.weight.data += 0.1 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1))
    start = layer.u.clone()
    _ask(network)
    with torch.no_grad():
        _ask(network.train())
    assert torch.equal(layer.u, start)
    assert skip.forwards == 0
    _ask(network)
    assert not torch.equal(layer.u, start)
    assert skip.forwards == 1


def test_checkpointed_layers_move_once() -> None:
    """Blocks that the backward pass runs again see the vectors of the forward pass, so gradients are the same too."""
    got = []
    for checkpointing in (False, True):
        network = tiny_stable_diffusion(0).unet
        stabilize(network, Stabilize(sigma_reparam=True, pattern="transformer_blocks"))
        if checkpointing:
            network.enable_gradient_checkpointing()
        network.train().requires_grad_(True)
        layer = next(module for module in network.modules() if isinstance(module, SpectralLinear))
        layer.weight.data += 0.1 * torch.randn(layer.weight.shape, generator=torch.Generator().manual_seed(1))
        ran: list[int] = []
        layer.register_forward_hook(lambda *_, ran=ran: ran.append(1))
        draw = torch.Generator().manual_seed(0)
        sample, tokens = torch.randn(2, 4, 8, 8, generator=draw), torch.randn(2, 5, 32, generator=draw)
        network(sample, torch.tensor([7, 600]), encoder_hidden_states=tokens, return_dict=False)[0].square().mean().backward()
        assert len(ran) == 1 + checkpointing
        assert layer.weight.grad is not None
        got.append((layer.u.clone(), layer.v.clone(), layer.weight.grad))
    for plain, again in zip(*got, strict=True):
        assert torch.equal(plain, again)


def test_two_forwards_before_a_backward() -> None:
    network = _network(Stabilize(sigma_reparam=True)).train()
    (_ask(network, 0).mean() + _ask(network, 1).mean()).backward()


@pytest.mark.parametrize("settings", [EVERYTHING, Stabilize(sigma_reparam=True)])
def test_a_run_that_is_resumed_is_the_same(settings: Stabilize, tmp_path: Path) -> None:
    whole, first, second = _network(settings), _network(settings), _network(settings)
    _train(whole, 2)
    _train(first, 1)
    save_module(first, tmp_path / "weights.safetensors")
    load_module(second, tmp_path / "weights.safetensors")
    _train(second, 1, start=1)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, second.state_dict()[name]), name


def test_copies_are_apart() -> None:
    network = _network(EVERYTHING)
    twin, before = copy.deepcopy(network), _ask(network)
    assert torch.equal(_ask(twin), before)
    _train(network, 2)
    assert torch.equal(_ask(twin), before)
    assert not torch.equal(_ask(network), before)
    skips = [next(m for m in one.modules() if isinstance(m, SkipScale)) for one in (network, twin)]
    assert [int(skip.forwards) for skip in skips] == [2, 0]


def test_averaged_weights_can_be_folded() -> None:
    network = _network(Stabilize(sigma_reparam=True))
    ema = EMA(network, 0.5)
    for i in range(3):
        _train(network, 1, start=i)
        ema.update(network)
    own = _ask(network)
    plain = _network()
    with ema.applied(network):
        averaged = _ask(network)
        plain.load_state_dict(plain_state(network, network.state_dict()))
    assert torch.equal(_ask(plain), averaged)
    assert torch.equal(_ask(network), own)
    assert not torch.equal(own, averaged)


def test_trained_weights_fold_back_exactly(tmp_path: Path) -> None:
    """The plain network gives the same bits, and there is nothing that it could not hold."""
    network, plain = _network(Stabilize(sigma_reparam=True)), _network()
    _train(network, 2)
    plain.load_state_dict(plain_state(network, network.state_dict()))
    assert torch.equal(_ask(plain), _ask(network))
    assert not save_stabilizers(network, tmp_path)
    assert not [*tmp_path.iterdir()]


def test_cosine_logits_by_hand() -> None:
    """One head of width 2, T = 3: g = log2(9 - 3) = 2.585. q = (3, 4), k = (1, 0), (0, 5): cosines .6, .8, logits 1.551, 2.068.

    Their softmax is .3735, .6265, whatever the lengths of q and k are.
    """
    from diffusers.models.attention_processor import Attention

    layer = Attention(2, heads=1, dim_head=2, bias=False, out_bias=False)
    for linear in (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0]):  # type: ignore[index]
        linear.weight.data = torch.eye(2)  # type: ignore[union-attr]
    bound_logits(layer, "layer", math.log2(6), None)
    context = torch.tensor([[[1.0, 0.0], [0.0, 5.0]]])
    for length in (1.0, 100.0):
        out = layer(length * torch.tensor([[[3.0, 4.0]]]), encoder_hidden_states=context)
        torch.testing.assert_close(out[0, 0], torch.tensor([0.3735, 5 * 0.6265]), rtol=0, atol=3e-4)


def test_capped_logits_by_hand() -> None:
    """Logits 12 / sqrt(1) and 0 under c = 4: 4 tanh(3) = 3.980 and 0: softmax .9817, .0183. Without the cap it is 1 to 6e-6."""
    from diffusers.models.attention_processor import Attention

    layer = Attention(1, heads=1, dim_head=1, bias=False, out_bias=False)
    for linear in (layer.to_q, layer.to_k, layer.to_v, layer.to_out[0]):  # type: ignore[index]
        linear.weight.data = torch.ones(1, 1)  # type: ignore[union-attr]
    asked, context = torch.tensor([[[12.0]]]), torch.tensor([[[1.0], [0.0]]])
    assert layer(asked, encoder_hidden_states=context).item() == pytest.approx(1.0, abs=1e-5)
    bound_logits(layer, "layer", None, 4.0)
    assert layer(asked, encoder_hidden_states=context).item() == pytest.approx(0.98166, abs=1e-4)


def test_entropy_knows_bounded_logits() -> None:
    """A cap of .01 makes attention uniform, so the entropy of three frames is ln 3; so does a gain of 0."""
    for settings in (Stabilize(soft_cap=0.01), Stabilize(qk_norm=True)):
        network = _network(settings)
        for name, p in network.named_parameters():
            p.data.mul_(0.0 if name.endswith("gain") else 1.0)
        with looks_of(network) as looks:
            _ask(network)
        entropies = entropies_of({name: look for name, look in looks.items() if "attn1" in name}, 2)
        assert len(entropies) == 7
        for entropy in entropies.values():
            torch.testing.assert_close(entropy, torch.full_like(entropy, math.log(3)), rtol=0, atol=1e-4)


def test_a_high_cap_is_no_cap() -> None:
    plain, capped = _network(), _network(Stabilize(soft_cap=1e4))
    torch.testing.assert_close(_ask(capped), _ask(plain), rtol=0, atol=2e-6)
    assert not torch.allclose(_ask(_network(Stabilize(soft_cap=0.05))), _ask(plain), rtol=0, atol=1e-4)


def test_a_capped_layer_takes_masks_as_diffusers_does() -> None:
    from diffusers.models.attention_processor import Attention

    torch.manual_seed(0)
    layer = Attention(6, cross_attention_dim=4, heads=2, dim_head=3, residual_connection=True, rescale_output_factor=2.0)
    x, context, mask = torch.randn(2, 5, 6), torch.randn(2, 3, 4), torch.tensor([[[0.0, 0.0, -1e4]], [[0.0, -1e4, 0.0]]])
    plain = layer(x, encoder_hidden_states=context, attention_mask=mask)
    bound_logits(layer, "layer", None, 1e5)
    torch.testing.assert_close(layer(x, encoder_hidden_states=context, attention_mask=mask), plain, rtol=0, atol=1e-6)


def test_nothing_on_changes_no_bit() -> None:
    plain, ours = _network(), _network(Stabilize())
    assert torch.equal(_ask(plain), _ask(ours))
    assert plain.state_dict().keys() == ours.state_dict().keys()
    assert type(ours) is type(plain)
    assert not ours._forward_pre_hooks
    assert torch.equal(_ask(_network(Stabilize(skip_scale=SkipScaling(0.5, 4)))), _ask(plain))  # kappa is 1 as yet


def test_kappa_by_hand() -> None:
    """kappa = .6 over 4 forwards: 1, .9, .8, .7, .6, .6. At .8, skips 3 and 4 are scaled by .512 and .4096; the first ever by 1."""
    scale = SkipScale(3, 0.6, 4)
    kappas = []
    for _ in range(6):
        scale.advance()
        kappas.append(float(scale.now()))
    assert kappas == pytest.approx([1.0, 0.9, 0.8, 0.7, 0.6, 0.6])
    scale.forwards.fill_(3)
    assert [float(skip) for skip in scale((torch.tensor(1.0), torch.tensor(2.0)))] == pytest.approx([0.512, 2 * 0.4096])
    assert float(SkipScale(0, 0.5, 0)((torch.tensor(7.0),))[0]) == 7.0


def test_every_skip_has_its_place() -> None:
    """The tiny network's skips as they leave: conv_in, resnet, downsampler, resnet. Up blocks take 3, 2 and 1, 0."""
    network = _network(Stabilize(skip_scale=SkipScaling(0.5, 0)))
    seen: dict[int, torch.Tensor] = {}
    for module in network.modules():
        if isinstance(module, SkipScale):
            module.register_forward_hook(
                lambda skip, args, out: seen.update(
                    {skip.first + i: (o / a).detach() for i, (a, o) in enumerate(zip(args[0], out, strict=True))}
                )
            )
    _ask(network)
    assert [float(seen[i].nanmean()) for i in range(4)] == pytest.approx([1.0, 0.5, 0.25, 0.125])


def test_what_plain_weights_cannot_hold_is_saved_beside(tmp_path: Path) -> None:
    network, plain = _network(EVERYTHING), _network()
    _train(network, 2)
    plain.load_state_dict(plain_state(network, network.state_dict()))
    assert save_stabilizers(network, tmp_path)
    assert "stock diffusers" in json.loads((tmp_path / STABILIZERS_FILE).read_text())["note"]
    assert not torch.allclose(_ask(plain), _ask(network), atol=1e-3)
    assert attach_stabilizers(plain, tmp_path)
    assert torch.equal(_ask(plain), _ask(network))
    with pytest.raises(RecipeError, match="has stabilizers already"):
        stabilize(plain, Stabilize(sigma_reparam=True))
    with pytest.raises(DataError, match="does not fit"):
        attach_stabilizers(tiny_stable_diffusion(0).unet, tmp_path)
    assert not attach_stabilizers(_network(), tmp_path / "elsewhere")


@pytest.mark.parametrize("settings", [Stabilize(sigma_reparam=True), EVERYTHING], ids=["folded", "beside"])
def test_a_saved_pipeline(settings: Stabilize, tmp_path: Path) -> None:
    """Stock diffusers computes the same bits where everything folds; our opening does in any case."""
    from diffusers import UNetMotionModel

    model = tiny_animatediff(fresh=False)
    stabilize(model.unet, settings)
    make_trainable(model.unet, Trainable("partial", pattern="motion_modules"))
    _train(model.unet, 1)
    model.save_pipeline(tmp_path / "saved")
    ours = _ask(model.unet)
    assert torch.equal(_ask(open_pipeline(str(tmp_path / "saved"), 0).unet.eval()), ours)
    stock = UNetMotionModel.from_pretrained(tmp_path / "saved" / "unet", use_safetensors=True).eval()
    beside = (tmp_path / "saved" / STABILIZERS_FILE).exists()
    assert beside == (settings is EVERYTHING)
    assert torch.equal(_ask(stock), ours) is not beside


def test_a_recipe_asks_for_stabilizers() -> None:
    table = {"kind": "animatediff", "stabilize": {"sigma_reparam": True, "soft_cap": 50, "skip_scale": {"kappa": 0.9}}}
    settings = family.build(table, "model")
    assert settings.stabilize == Stabilize(True, soft_cap=50.0, skip_scale=SkipScaling(0.9))
    with pytest.raises(RecipeError, match="which LoRA would not train"):
        family.build({**table, "train": {"kind": "lora"}}, "model")
    with pytest.raises(RecipeError, match=r"model\.stabilize: soft_cap is -1"):
        family.build({**table, "stabilize": {"soft_cap": -1.0}}, "model")
    _, trained = family.build({**table, "motion": {"heads": 2, "most_frames": 8}}, "model").open(0, 0, 0)
    assert any(name.endswith("to_q.gamma") for name in trained.parameters)


def test_every_gain_is_trained() -> None:
    network = _network(EVERYTHING)
    _ask(network.train()).square().mean().backward()
    gains = {name: p.grad for name, p in network.named_parameters() if name.endswith("gain")}
    assert len(gains) == 14
    assert all(grad is not None and grad != 0 for grad in gains.values())
    assert [p.item() for name, p in network.named_parameters() if name.endswith("gain")] == pytest.approx([math.log2(12)] * 14)


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match=r"kappa 0\.4"):
        SkipScaling(0.4)
    with pytest.raises(ValueError, match="qk_frames is 1"):
        Stabilize(qk_frames=1)
    with pytest.raises(ValueError, match="soft_cap is 0"):
        Stabilize(soft_cap=0.0)
    with pytest.raises(RecipeError, match="matches none of the network's"):
        stabilize(_network(), Stabilize(qk_norm=True, pattern="motoin"))
    with pytest.raises(RecipeError, match="not a regular expression"):
        stabilize(_network(), Stabilize(sigma_reparam=True, pattern="("))
    with pytest.raises(RecipeError, match="no up_blocks"):
        stabilize(nn.Sequential(nn.Linear(2, 2)), Stabilize(skip_scale=SkipScaling()))
    with pytest.warns(UserWarning, match="changes what trained motion modules compute"):
        stabilize(_network(), Stabilize(qk_norm=True), pretrained=True)


def test_a_layer_that_is_no_plain_attention_is_refused() -> None:
    from diffusers.models.attention_processor import Attention

    with pytest.raises(RecipeError, match="has group_norm"):
        bound_logits(Attention(4, heads=1, dim_head=4, norm_num_groups=2), "vae", None, 5.0)
    normed = Attention(4, heads=1, dim_head=4, qk_norm="rms_norm")
    with pytest.raises(RecipeError, match="normalizes its queries already"):
        bound_logits(normed, "layer", 3.0, None)
    bound_logits(normed, "layer", None, 3.0)
    assert isinstance(normed.processor, SoftCap)


def test_half_precision_keeps_its_words() -> None:
    """Under autocast sigma is still computed in float32."""
    layer = SpectralLinear(nn.Linear(64, 64))
    exact = layer.sigma().item()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.sigma().item() == exact
        assert layer(torch.ones(1, 64)).dtype == torch.bfloat16
    assert exact == pytest.approx(torch.linalg.matrix_norm(layer.weight, 2).item(), rel=1e-5)
    assert torch.equal(layer(torch.ones(1, 64)), F.linear(torch.ones(1, 64), layer.effective(), layer.bias))
