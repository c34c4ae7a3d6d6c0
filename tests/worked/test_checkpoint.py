"""Checkpoints are whole or absent; modules and optimizers come back bit for bit or say what does not fit."""

import errno
from pathlib import Path

import pytest
import torch
from torch import nn

from relatum.core.errors import DataError
from relatum.core.toml import digest
from relatum.engine.checkpoint import (
    TrainerState,
    latest,
    pointed,
    read_state,
    write_checkpoint,
    write_state,
)
from relatum.engine.weights import load_module, load_optimizer, save_module, save_optimizer


def fill(folder: Path) -> None:
    (folder / "unet").mkdir()
    (folder / "unet" / "weights.safetensors").write_bytes(b"12345678")


def names(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "checkpoints").iterdir())


def test_a_checkpoint_is_pointed_to_and_old_ones_go(tmp_path: Path) -> None:
    assert latest(tmp_path) is None
    for step in (2, 4, 10):
        write_checkpoint(tmp_path, step, fill, limit=2)
    assert names(tmp_path) == ["checkpoint-10", "checkpoint-4", "last-good", "latest"]
    found = latest(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-10"
    assert (found / "unet" / "weights.safetensors").read_bytes() == b"12345678"


def test_what_a_pointer_names_is_kept(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, fill, limit=1, best=True)
    write_checkpoint(tmp_path, 2, fill, limit=1)
    for step in (3, 4, 5):
        write_checkpoint(tmp_path, step, fill, limit=1, good=2)
    assert [name for name in names(tmp_path) if name.startswith("checkpoint")] == ["checkpoint-1", "checkpoint-2", "checkpoint-5"]
    assert [pointed(tmp_path, p).name for p in ("best", "last-good", "latest")] == ["checkpoint-1", "checkpoint-2", "checkpoint-5"]  # type: ignore[union-attr]


def test_a_write_that_dies_leaves_what_was_there(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, fill, limit=1)

    def die(folder: Path) -> None:
        fill(folder)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_checkpoint(tmp_path, 2, die, limit=1)
    assert names(tmp_path) == ["checkpoint-1", "last-good", "latest"]


def test_what_a_kill_left_does_not_count_and_is_cleaned(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".checkpoint-9.tmp-99999999"  # no process has this number
    left.mkdir(parents=True)
    fill(left)
    assert latest(tmp_path) is None
    write_checkpoint(tmp_path, 1, fill, limit=None)
    assert not left.exists()


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match="the disk is full"):
        write_checkpoint(tmp_path, 2, full, limit=1)
    assert names(tmp_path) == []


def test_a_broken_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, fill, limit=None)
    broken = write_checkpoint(tmp_path, 2, fill, limit=None)
    (broken / "unet" / "weights.safetensors").write_bytes(b"1234")
    with pytest.warns(UserWarning, match=r"weights.safetensors has 4 bytes, 8 were written\); checkpoint-1 is used instead"):
        found = latest(tmp_path)
    assert found is not None
    assert found.name == "checkpoint-1"
    (found / "complete.json").unlink()
    with pytest.raises(DataError, match="checkpoint-2, which is not whole"):
        latest(tmp_path)


def test_the_same_step_again_replaces(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 1, fill, limit=None)
    again = write_checkpoint(tmp_path, 1, lambda folder: (folder / "new").write_text("x") and None, limit=None)
    assert sorted(path.name for path in again.iterdir()) == ["complete.json", "new"]


def test_the_state_comes_back(tmp_path: Path) -> None:
    state = TrainerState(3, 24, 7, "ab12", {"torch": "2"}, {"best": 0.1})
    write_state(tmp_path, state)
    assert read_state(tmp_path) == state
    (tmp_path / "trainer_state.json").write_text('{"step": 3')
    with pytest.raises(DataError, match="not a trainer state"):
        read_state(tmp_path)


def test_a_recipes_digest_knows_values_and_not_order() -> None:
    assert digest({"a": 1, "b": {"c": 2.0, "d": [1]}}) == digest({"b": {"d": [1], "c": 2.0}, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


OPTIMIZERS = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.8, 0.97)),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=torch.tensor(0.01), amsgrad=True, foreach=False, capturable=False),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "adafactor": lambda p: torch.optim.Adafactor(p, lr=0.1),
}


def steps(module: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    for seed in seeds:
        module(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_goes_on_bit_for_bit(tmp_path: Path, name: str) -> None:
    """Six steps, and three, saved, loaded into fresh objects and three more, end in the same bits."""
    whole = nn.Linear(3, 2)
    first = nn.Linear(3, 2)
    first.load_state_dict(whole.state_dict())
    make = OPTIMIZERS[name]
    steps(whole, make(whole.parameters()), range(6))
    optimizer = make(first.parameters())
    steps(first, optimizer, range(3))
    save_module(first, tmp_path / "m.safetensors")
    save_optimizer(optimizer, tmp_path / "o.safetensors")
    second = nn.Linear(3, 2)
    fresh = make(second.parameters())
    load_module(second, tmp_path / "m.safetensors")
    load_optimizer(fresh, tmp_path / "o.safetensors")
    steps(second, fresh, range(3, 6))
    assert torch.equal(second.weight, whole.weight)
    assert torch.equal(second.bias, whole.bias)


def test_tied_weights_are_saved(tmp_path: Path) -> None:
    tied = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    tied[1].weight = tied[0].weight
    save_module(tied, tmp_path / "m.safetensors")
    other = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    load_module(other, tmp_path / "m.safetensors")
    assert torch.equal(other[1].weight, tied[0].weight)


def test_another_architecture_is_named(tmp_path: Path) -> None:
    save_module(nn.Linear(3, 2, bias=False), tmp_path / "m.safetensors")
    other = nn.Linear(4, 2)
    before = other.weight.clone()
    with pytest.raises(
        DataError, match=r"weight: the file has \(2, 3\), the model \(2, 4\); bias: the file has none, the model \(2,\)"
    ):
        load_module(other, tmp_path / "m.safetensors")
    assert torch.equal(other.weight, before)


def test_another_optimizer_or_other_parameters_are_named(tmp_path: Path) -> None:
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters())
    steps(module, optimizer, range(1))
    save_optimizer(optimizer, tmp_path / "o.safetensors")
    with pytest.raises(DataError, match="holds the state of AdamW, the recipe asks for SGD"):
        load_optimizer(torch.optim.SGD(module.parameters()), tmp_path / "o.safetensors")
    with pytest.raises(DataError, match=r"exp_avg of parameter 0: the file has \(2, 3\), the model \(2, 4\)"):
        load_optimizer(torch.optim.AdamW(nn.Linear(4, 2).parameters()), tmp_path / "o.safetensors")
    with pytest.raises(DataError, match=r"parameter group 0: the file has \(2,\), the model \(1,\)"):
        load_optimizer(torch.optim.AdamW(nn.Linear(3, 2, bias=False).parameters()), tmp_path / "o.safetensors")
    (tmp_path / "o.safetensors").write_bytes(b"x")
    with pytest.raises(DataError, match="not a whole safetensors file"):
        load_optimizer(optimizer, tmp_path / "o.safetensors")
