"""The moving average against diffusers' EMAModel, bit for bit, and its swap into the network."""

import pytest
import torch
from torch import nn

from relatum.engine.ema import EMA


def test_the_average_is_that_of_diffusers() -> None:
    from diffusers.training_utils import EMAModel

    network = nn.Linear(4, 3)
    ours, theirs = EMA(network, 0.4), EMAModel(network.parameters(), decay=0.4, foreach=True)
    for _ in range(12):  # the cap (1 + n) / (10 + n) reaches 0.4 at n = 5
        with torch.no_grad():
            for p in network.parameters():
                p.add_(torch.randn_like(p))
        ours.update(network)
        theirs.step(network.parameters())
        assert ours.decay_at(ours.updates) == theirs.cur_decay_value
        assert all(torch.equal(a, b) for a, b in zip(ours.shadow, theirs.shadow_params, strict=True))
    assert ours.decay_at(12) == 0.4


def one(*values: float) -> nn.Module:
    return nn.ParameterDict({"p": torch.tensor(values)})


def test_a_decay_worked_by_hand() -> None:
    """The second update has n = 1: d = 2/11. From 1 to parameter 12: 1 + 9/11 * 11 = 10."""
    network = one(1.0)
    ema = EMA(network, 0.999)
    ema.update(network)
    network.p.data.fill_(12)
    ema.update(network)
    torch.testing.assert_close(ema.shadow[0], torch.tensor([10.0]))


def test_the_network_gets_its_own_weights_back_whatever_happens() -> None:
    network = one(1.0, 2.0)
    ema = EMA(network)
    network.p.data.fill_(5)
    with ema.applied(network):
        assert network.p.tolist() == [1, 2]
    assert network.p.tolist() == [5, 5]
    with pytest.raises(KeyError), ema.applied(network):
        raise KeyError
    assert network.p.tolist() == [5, 5]
    ema.take(network, 3)
    assert (ema.shadow[0].tolist(), ema.updates) == ([5, 5], 3)
    network.p.data.fill_(7)
    assert ema.shadow[0].tolist() == [5, 5]
