"""Undoing the known bias of a network that was trained away from other samples' targets (`objectives.delta_fm`)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ..core.errors import DataError, ShapeError
from ..core.path import DiscretePath, expand
from ..core.prediction import Parametrization
from ..core.shapes import Latents
from .framewise import TIMES

__all__ = ["CORRECTION_FILE", "Correction", "read_correction"]

CORRECTION_FILE = "correction.safetensors"


@dataclass(frozen=True)
class Correction:
    """A network that outputs (y - strength * m) / (1 - strength) gives y again as (1 - strength) * output + strength * m.

    m = a * mean where the network's target is a * x0 + b * eps; mean: of the training latents, (1 c h w), or (1 c t h w) of clips.
    """

    strength: float
    mean: Latents

    def __post_init__(self) -> None:
        if (
            not 0 <= self.strength < 1
            or self.mean.ndim not in (4, 5)
            or len(self.mean) != 1
            or not bool(self.mean.isfinite().all())
        ):
            expected = "[0, 1) and (1, c, h, w) or (1, c, t, h, w)"
            raise ValueError(f"strength {self.strength} and a mean of shape {tuple(self.mean.shape)}, expected {expected}")

    @property
    def words(self) -> list[float]:
        """What it is, for hashes."""
        return [self.strength, *self.mean.double().flatten().tolist()]

    def correct(self, raw: Latents, time: Tensor, kind: Parametrization, path: DiscretePath) -> Latents:
        """Corrected outputs at these times: (b,), (b, t) or one for all. A picture's mean holds for every frame of a clip.

        ShapeError for latents of another size than in training.
        """
        mean = self.mean.to(raw)
        if raw.ndim == 5 and mean.ndim == 4:
            mean = mean[:, :, None].expand(-1, -1, raw.shape[2], -1, -1)
        if raw.shape[1:] != mean.shape[1:]:
            found, known = tuple(raw.shape[2:]), tuple(self.mean.shape[2:])
            raise ShapeError(f"a model trained with delta_fm is corrected at its own size: latents of {known}, found {found}")
        index = time.detach().round().long().cpu()
        a, _ = kind.mix(path.at(index if index.ndim == 2 else index.reshape(-1).expand(len(raw))))
        return (1 - self.strength) * raw + self.strength * expand(a, raw).to(raw) * mean

    def attach(self, network: nn.Module, kind: Parametrization, path: DiscretePath) -> RemovableHandle:
        """From now on the network gives corrected outputs, whoever asks it, until the handle is removed. No weight changes."""

        def hook(_: nn.Module, args: tuple[Any, ...], told: dict[str, Any], output: Any) -> Any:
            time = torch.as_tensor((told.get("added_cond_kwargs") or {}).get(TIMES, args[1]), device=args[0].device)
            if isinstance(output, tuple):
                return (self.correct(output[0], time, kind, path), *output[1:])
            output.sample = self.correct(output.sample, time, kind, path)
            return output

        return network.register_forward_hook(hook, with_kwargs=True)

    def save(self, folder: Path) -> None:
        from safetensors.torch import save_file

        save_file(
            {"strength": torch.tensor(self.strength), "mean": self.mean.detach().cpu().contiguous()}, folder / CORRECTION_FILE
        )


def read_correction(folder: Path) -> Correction | None:
    """What lies beside a pipeline; None where it needs none. DataError for a file that holds something else."""
    path = folder / CORRECTION_FILE
    if not path.exists():
        return None
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        found = load_file(path)
        return Correction(float(found["strength"]), found["mean"])
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a correction ({error}); train the model again") from error
