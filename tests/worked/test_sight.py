"""What is seen inside a network while it trains, and that seeing changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from relatum.core.draws import Draws
from relatum.core.ranks import Ranks
from relatum.engine.job import Job
from relatum.engine.journal import read_journal
from relatum.engine.settings import TrainSettings
from relatum.engine.sight import Sight
from relatum.engine.snapshot import save_weights
from relatum.engine.step import DiffusionParts, Moment, Step, diffusion_step
from relatum.engine.train import train
from relatum.engine.validate import held_out_loss
from relatum.models.codec import Moments
from relatum.models.tiny import tiny_animatediff
from relatum.objectives.blend import read_blend
from relatum.tasks.base import Batch
from relatum.tasks.video import Video


@dataclass(frozen=True)
class Clips:
    """Encoded clips of three frames, drawn by their number."""

    count: int = 6

    def __len__(self) -> int:
        return self.count

    def batch(self, indices: Any) -> Batch:
        names = [f"clips:{i}" for i in indices]
        draws = Draws(5, names)
        moments = {"target": Moments(draws.normal("mean", (4, 3, 8, 8)), torch.full((len(names), 4, 3, 8, 8), -20.0))}
        joined = {"target": torch.ones(len(names), 2, dtype=torch.bool)}
        tokens = {"target": draws.normal("text", (5, 32))}
        return Batch(names, names, names, moments, tokens, torch.zeros(1, 5, 32), joined=joined)


def trained(folder: Path, **settings: Any) -> dict[str, torch.Tensor]:
    """The weights after two updates of the whole network, dropout in its attention, blocks recomputed."""
    model = tiny_animatediff(fresh=False)
    model.unet.enable_gradient_checkpointing()
    for module in model.unet.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.1
    task, blend = Video(), read_blend({"denoise": {"kind": "denoise"}})
    parts = DiffusionParts(model.denoiser(), model.kind, model.path, task, blend, model.codec)
    common = {"max_train_steps": 2, "train_batch_size": 2, "gradient_accumulation_steps": 2, "learning_rate": 1e-2}
    common |= {"logging_steps": 1, "validation_steps": 2, "max_grad_norm": 0.1, "report_to": "none"}
    save = lambda place: save_weights(parts.network, place)  # noqa: E731
    train(Job(parts, diffusion_step, Clips(), Clips(3), TrainSettings(**common | settings), 0, folder, save, "", quiet=True))
    return load_file(folder / "final" / "diffusion_pytorch_model.safetensors")


def told(folder: Path, event: str) -> list[dict[str, Any]]:
    return [record for record in read_journal(folder) if record.get("event") == event]


def test_the_weights_are_the_same_bits_with_and_without_monitors(tmp_path: Path) -> None:
    seen, blind = trained(tmp_path / "seen", monitor_steps=2), trained(tmp_path / "blind", monitor_steps=0)
    assert all(torch.equal(seen[name], blind[name]) for name in blind)
    assert not told(tmp_path / "blind", "monitor")
    looks = told(tmp_path / "seen", "monitor")
    assert [look["step"] for look in looks] == [1, 2]
    rest = [[r for r in read_journal(tmp_path / name) if "total" in r] for name in ("seen", "blind")]
    assert rest[0] == rest[1]
    attention, gradient = looks[0]["attention"], looks[0]["gradient"]
    names = [name for name, module in tiny_animatediff().unet.named_modules() if hasattr(module, "to_q")]
    assert attention.keys() == {name for name in names if "motion_modules" in name}
    for layer in attention.values():
        assert len(layer["heads"]["mean"]) == 2
        assert 0 < layer["p05"] <= layer["mean"] <= 1 + 1e-6
        assert layer["low"] == 0
    assert {"down_blocks.0", "down_blocks.0/motion", "mid_block/motion", "up_blocks.1", "rest"} <= gradient.keys()
    norm = next(record["grad_norm"] for record in read_journal(tmp_path / "seen") if "grad_norm" in record)
    assert norm > 0.1  # it was clipped, which is undone
    assert sum(value**2 for value in gradient.values()) == pytest.approx(norm**2, rel=1e-4)
    frames = told(tmp_path / "seen", "validation")[-1]
    assert frames["by_frame"]["n"] == 3
    assert sum(frames["by_frame"]["mean"]) / 3 == pytest.approx(frames["held_out"]["matched_error"]["mean"], rel=1e-5)


def test_errors_by_frame_by_hand() -> None:
    """Two clips of two frames: errors 1, 3 and 2, 7 have the means 1.5, 5 and standard errors .5, 2."""

    def step(parts: Any, batch: Batch, draws: Draws, ranks: Ranks, moment: Moment) -> Step:
        return Step({"a": torch.ones(2)}, torch.ones(2), {}, None, torch.tensor([[1.0, 3.0], [2.0, 7.0]]))

    @dataclass
    class Parts:
        network: nn.Module

    found = held_out_loss(Parts(nn.Linear(1, 1)), step, Clips(2), 2, None)["by_frame"]
    assert found == {"mean": [1.5, 5.0], "stderr": [0.5, 2.0], "n": 2}


def test_gradients_by_block_by_hand() -> None:
    """Gradients 3 and 4 in one block: 5. The whole was 13 before it was clipped to 6.5: everything is doubled."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down_blocks = nn.ModuleList([nn.Linear(1, 1), nn.ModuleDict({"motion_modules": nn.Linear(1, 1)})])
            self.conv_in = nn.Linear(1, 1, bias=False)
            self.frozen = nn.Linear(1, 1).requires_grad_(False)

    network = Net()
    grads = [3.0, 4.0, 0.0, 12.0, 5.0]
    for parameter, value in zip((p for p in network.parameters() if p.requires_grad), grads, strict=True):
        parameter.grad = torch.full_like(parameter, value)
    sight = Sight(network, TrainSettings(max_grad_norm=6.5), main=True)
    assert sight.gradient(13.0) == pytest.approx({"down_blocks.0": 10.0, "down_blocks.1/motion": 24.0, "rest": 10.0}, rel=1e-5)
    assert sight.gradient(torch.tensor(1.0))["down_blocks.0"] == pytest.approx(5.0)
    assert str(sight.gradient(float("inf"))["rest"]) == "nan"
    with sight.watching(5):
        pass
    assert sight.report(13.0) is None
    with sight.watching(19):
        pass
    assert sight.report(13.0) == {"gradient": sight.gradient(13.0)}
    for silent in (Sight(nn.Linear(1, 1), TrainSettings(), main=True), Sight(network, TrainSettings(), main=False)):
        with silent.watching(0):
            pass
        assert silent.report(1.0) is None
